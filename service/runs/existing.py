"""Find sources whose thumbnails are up to date: one listing of an hour folder for up to 1,000 sources.

Storage is asked each time, whoever made a thumbnail or took it away. No memory grows with the folder.
"""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from datetime import datetime
from itertools import islice

from service.errors import NoFreeName
from service.lookup import Output, is_up_to_date
from service.naming import SOURCE_KEY, Hour
from service.outcome import Outcome
from service.process import Stop
from service.runs.ahead import map_ahead
from service.storage.addresses import FolderLocation, NameRange, ObjectLocation
from service.storage.base import ObjectStore, StoredObject

BATCH = 1000
"""Sources to look up at once: as many as a page of a listing has."""

_MOST_REQUESTS = 50
"""For one batch and size. If very many folders hold the same file names, their thumbnails may lie so far apart that
asking costs more than it saves. A source that was not asked for is made, and its write finds the thumbnail there."""
FEW = 12
"""Sources of one hour for which metadata gets (class B), which their threads make, cost no more than a listing."""
BATCHES_AHEAD = 4
"""Batches that are looked up before their turn: so many that processors and not storage set the pace."""
_AFTER_EXTENSIONS = "/"
"""The character after the full stop in the order of bytes: it comes after a name with any extension added."""


@dataclass(frozen=True, slots=True)
class Work:
    """An image to thumbnail."""

    source: StoredObject
    looks_first: bool = False
    """Its thumbnails were not looked up yet."""


def hour_is_empty(store: ObjectStore, bucket: str, hour: Hour | None) -> bool:
    """Return True if there is one hour, and nothing in its folder."""
    return hour is not None and next(store.list_objects(_folder(bucket, hour)), None) is None


def _folder(bucket: str, hour: Hour) -> FolderLocation:
    return FolderLocation(bucket, f"{hour}/")


@dataclass(frozen=True, slots=True)
class _Found:
    """What is there for the images of a batch."""

    up_to_date: Mapping[ObjectLocation, list[StoredObject]]
    hours: Collection[Hour]
    """Those that were looked up. An image of another hour looks for itself, since so few of the batch are of it."""


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

    def hour_of(self, image: StoredObject) -> Hour:
        """Return the hour whose folder has the thumbnails of an image."""
        return self.hour or Hour.of(image.created)

    def look_up(self, batch: Sequence[StoredObject]) -> _Found:
        """Look up the images of a batch, of each hour that has more than a few of them.

        Raises:
            ShuttingDown: the run is to stop.
        """
        by_hour = defaultdict[Hour, list[StoredObject]](list)
        for image in batch:
            by_hour[self.hour_of(image)].append(image)
        hours = {hour for hour, images in by_hour.items() if self.hour or len(images) > FEW}
        up_to_date: dict[ObjectLocation, list[StoredObject]] = {}
        for hour in hours:
            up_to_date |= self.up_to_date(by_hour[hour], hour)
        return _Found(up_to_date, hours)

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

    def _list_near(self, output: Output, sources: Sequence[StoredObject], hour: Hour) -> Iterator[StoredObject]:
        """List the hour folder around the names that the sources' thumbnails may have."""
        folder = _folder(output.folder.bucket, hour)
        starts = sorted({name for source in sources for name in self._possible_names(output, source, hour)})
        position = 0
        for _ in range(_MOST_REQUESTS):
            if position == len(starts):
                return
            self.stop.raise_if_set("the run was stopped while it looked up existing thumbnails")
            end = starts[-1] + _AFTER_EXTENSIONS
            page = list(islice(self.store.list_objects(folder, NameRange(starts[position], end)), BATCH))
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


def in_batches(images: Iterable[StoredObject]) -> Iterator[list[StoredObject]]:
    """Yield as many images at a time as are looked up at once."""
    remaining = iter(images)
    return iter(lambda: list(islice(remaining, BATCH)), [])


def missing(
    batches: Iterable[Sequence[StoredObject]],
    existing: ExistingThumbnails | None,
    settle: Callable[[Outcome], None],
    executor: Executor,
    *,
    ahead: int = BATCHES_AHEAD,
) -> Iterator[Work]:
    """Yield the images whose thumbnails are not known to be up to date; settle the others as skipped.

    Nothing is looked up if there are no existing thumbnails. Images are listed a batch ahead, so that the total of a
    small folder is known before its first image is made. Batches are looked up, so many of them, `ahead` of their turn.

    Raises:
        RetryLater: storage did not say, or the run is to stop.
    """
    if existing is None:
        yield from (Work(image) for batch in batches for image in batch)
        return
    for batch, found in map_ahead(executor, existing.look_up, batches, ahead=ahead, stop=existing.stop):
        for image in batch:
            if thumbnails := found.up_to_date.get(image.location):
                settle(Outcome.skipped(image, thumbnails))
            else:
                yield Work(image, looks_first=existing.hour_of(image) not in found.hours)
