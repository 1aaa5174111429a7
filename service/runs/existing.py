"""Find sources whose thumbnails are up to date: one listing of an hour folder for up to 1,000 sources.

Storage is asked each time, whoever made a thumbnail or took it away. No memory grows with the folder.
"""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice

from service.errors import NoFreeName
from service.lookup import Output, is_up_to_date
from service.naming import SOURCE_KEY, Hour
from service.outcome import Outcome
from service.process import Stop
from service.storage.addresses import FolderLocation, NameRange, ObjectLocation
from service.storage.base import ObjectStore, StoredObject

BATCH = 1000
"""Sources to look up at once: as many as a page of a listing has."""

_MOST_REQUESTS = 50
"""For one batch and size. If very many folders hold the same file names, their thumbnails may lie so far apart that
asking costs more than it saves. A source that was not asked for is made, and its write finds the thumbnail there."""
FEW = 12
"""Sources of one hour for which metadata gets (class B), which their threads make, cost no more than a listing."""
_AFTER_EXTENSIONS = "/"
"""The character after the full stop in the order of bytes: it comes after a name with any extension added."""


@dataclass(frozen=True, slots=True)
class Work:
    """An image to thumbnail."""

    source: StoredObject
    looks_first: bool = False
    """Its thumbnails were not looked up yet."""


@dataclass(frozen=True, slots=True)
class ExistingThumbnails:
    """The thumbnails in the hour folder of a run, or in the hours in which its images were created."""

    store: ObjectStore
    outputs: Sequence[Output]
    """The thumbnails that each source should have."""
    hour: Hour | None
    """None: of each image the hour in which it was created."""
    stop: Stop
    made_since: datetime | None = None
    """Count older thumbnails as missing."""

    def is_empty(self) -> bool:
        """Return True if nothing is in the one hour folder."""
        return self.hour is not None and next(self.store.list_objects(self._folder(self.hour)), None) is None

    def up_to_date(self, sources: Sequence[StoredObject], hour: Hour) -> dict[ObjectLocation, list[StoredObject]]:
        """Return the sources that have all their thumbnails in an hour, of this generation and these settings.

        Raises:
            ShuttingDown: the run is to stop.
        """
        remaining = {str(source.location): source for source in sources}
        thumbnails: dict[str, list[StoredObject]] = {address: [] for address in remaining}
        for output in self.outputs:
            found: dict[str, StoredObject] = {}
            for thumbnail in self._list_near(output, list(remaining.values()), hour):
                address = thumbnail.metadata.get(SOURCE_KEY, "")
                source = remaining.get(address)
                if source and is_up_to_date(thumbnail, source, output, hour, self.made_since):
                    # A copy of a thumbnail has its metadata, too.
                    found.setdefault(address, thumbnail)
            for address, thumbnail in found.items():
                thumbnails[address].append(thumbnail)
            remaining = {address: remaining[address] for address in found}
        return {source.location: thumbnails[address] for address, source in remaining.items()}

    def _folder(self, hour: Hour) -> FolderLocation:
        return FolderLocation(self.outputs[0].folder.bucket, f"{hour}/")

    def _list_near(self, output: Output, sources: Sequence[StoredObject], hour: Hour) -> Iterator[StoredObject]:
        """List the hour folder around the names that the sources' thumbnails may have."""
        starts = sorted({name for source in sources for name in self._possible_names(output, source, hour)})
        position = 0
        for _ in range(_MOST_REQUESTS):
            if position == len(starts):
                return
            self.stop.raise_if_set("the run was stopped while it looked up existing thumbnails")
            end = starts[-1] + _AFTER_EXTENSIONS
            page = list(islice(self.store.list_objects(self._folder(hour), NameRange(starts[position], end)), BATCH))
            yield from page
            if len(page) < BATCH:
                return
            last = page[-1].location.name
            position = bisect_right(starts, last)
            if last < starts[position - 1] + _AFTER_EXTENSIONS:
                # The same name with another extension may follow.
                position -= 1
                starts[position] = last + "\0"

    def _possible_names(self, output: Output, source: StoredObject, hour: Hour) -> Iterator[str]:
        """Yield the names of a source's thumbnail, before the extension that another format would add."""
        for added, distinct in (("", False), ("", True), (".", True)):
            try:
                name = output.folder.thumbnail(source.location, hour, added, distinct=distinct).name
            except NoFreeName:
                continue
            yield name.removesuffix(added)


def missing(
    images: Iterable[StoredObject], existing: ExistingThumbnails | None, settle: Callable[[Outcome], None]
) -> Iterator[Work]:
    """Yield the images whose thumbnails are not known to be up to date; settle the others as skipped.

    Nothing is looked up if there are no existing thumbnails. Images are listed a batch ahead, so that the total of a
    small folder is known before its first image is made. If an hour has few images of a batch, each looks for itself.

    Raises:
        RetryLater: storage did not say, or the run is to stop.
    """
    remaining = iter(images)
    while batch := list(islice(remaining, BATCH)):
        up_to_date: dict[ObjectLocation, list[StoredObject]] = {}
        looked_up: set[Hour] = set()
        if existing:
            by_hour = defaultdict[Hour, list[StoredObject]](list)
            for image in batch:
                by_hour[existing.hour or Hour.of(image.created)].append(image)
            for hour, sources in by_hour.items():
                if existing.hour or len(sources) > FEW:
                    up_to_date |= existing.up_to_date(sources, hour)
                    looked_up.add(hour)
        for image in batch:
            if thumbnails := up_to_date.get(image.location):
                settle(Outcome.skipped(image, thumbnails))
            else:
                looks_first = existing is not None and (existing.hour or Hour.of(image.created)) not in looked_up
                yield Work(image, looks_first)
