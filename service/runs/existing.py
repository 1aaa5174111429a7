"""Find sources whose thumbnails are up to date: one listing of the hour folder for 1,000 sources.

Storage is asked each time, whoever made a thumbnail or took it away. No memory grows with the folder.
"""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice

from service.errors import NoFreeName
from service.naming import GENERATION_KEY, SOURCE_KEY, SPEC_KEY, Hour
from service.process import Stop
from service.runs.report import Report
from service.storage.addresses import FolderLocation, NameRange, ObjectLocation
from service.storage.base import ObjectStore, StoredObject
from service.thumbnailer import Outcome, Output, Result

BATCH = 1000
"""Sources to look up at once: as many as a page of a listing has."""

_MOST_REQUESTS = 50
"""For one batch and size. If very many folders hold the same file names, their thumbnails may lie so far apart that
asking costs more than it saves. A source that was not asked for is made, and its write finds the thumbnail there."""
_AFTER_EXTENSIONS = "/"
"""The character after the full stop in the order of bytes: it comes after a name with any extension added."""


@dataclass(frozen=True, slots=True)
class ExistingThumbnails:
    """The thumbnails in one hour folder."""

    store: ObjectStore
    outputs: Sequence[Output]
    """The thumbnails that each source should have."""
    hour: Hour
    stop: Stop
    made_since: datetime | None = None
    """Count older thumbnails as missing."""

    def is_empty(self) -> bool:
        """Return True if nothing is in the hour folder."""
        return next(self.store.list_objects(self._folder), None) is None

    def up_to_date(self, sources: Sequence[StoredObject]) -> set[ObjectLocation]:
        """Return the sources that have all their thumbnails, of this generation and these settings.

        Raises:
            ShuttingDown: the run is to stop.
        """
        remaining = {str(source.location): source for source in sources}
        for output in self.outputs:
            made = {
                address
                for thumbnail in self._list_near(output, list(remaining.values()))
                if (address := thumbnail.metadata.get(SOURCE_KEY, "")) in remaining
                and self._is_up_to_date(thumbnail, remaining[address], output)
            }
            remaining = {address: source for address, source in remaining.items() if address in made}
        return {source.location for source in remaining.values()}

    @property
    def _folder(self) -> FolderLocation:
        return FolderLocation(self.outputs[0].folder.bucket, f"{self.hour}/")

    def _is_up_to_date(self, thumbnail: StoredObject, source: StoredObject, output: Output) -> bool:
        return (
            thumbnail.metadata.get(GENERATION_KEY) == str(source.generation)
            and thumbnail.metadata.get(SPEC_KEY) == str(output.spec)
            and (self.made_since is None or thumbnail.created >= self.made_since)
            and thumbnail.location.name.startswith(output.folder.folder_for(source.location, self.hour))
        )

    def _list_near(self, output: Output, sources: Sequence[StoredObject]) -> Iterator[StoredObject]:
        """List the hour folder around the names that the sources' thumbnails may have."""
        starts = sorted({name for source in sources for name in self._possible_names(output, source)})
        position = 0
        for _ in range(_MOST_REQUESTS):
            if position == len(starts):
                return
            self.stop.raise_if_set("the run was stopped while it looked up existing thumbnails")
            end = starts[-1] + _AFTER_EXTENSIONS
            page = list(islice(self.store.list_objects(self._folder, NameRange(starts[position], end)), BATCH))
            yield from page
            if len(page) < BATCH:
                return
            last = page[-1].location.name
            position = bisect_right(starts, last)
            if last < starts[position - 1] + _AFTER_EXTENSIONS:
                # The same name with another extension may follow.
                position -= 1
                starts[position] = last + "\0"

    def _possible_names(self, output: Output, source: StoredObject) -> Iterator[str]:
        """Yield the names of a source's thumbnail, before the extension that another format would add."""
        for added, distinct in (("", False), ("", True), (".", True)):
            try:
                name = output.folder.thumbnail(source.location, self.hour, added, distinct=distinct).name
            except NoFreeName:
                continue
            yield name.removesuffix(added)


def missing(
    images: Iterable[StoredObject], existing: ExistingThumbnails | None, report: Report
) -> Iterator[StoredObject]:
    """Yield the images whose thumbnails are not up to date; count the others as skipped.

    Nothing is looked up if there are no existing thumbnails. Images are listed a batch ahead, so that the total of a
    small folder is known before its first image is made.

    Raises:
        RetryLater: storage did not say, or the run is to stop.
    """
    remaining = iter(images)
    while batch := list(islice(remaining, BATCH)):
        up_to_date = existing.up_to_date(batch) if existing else ()
        for image in batch:
            if image.location in up_to_date:
                report.add(Outcome(Result.SKIPPED, image.location))
            else:
                yield image
