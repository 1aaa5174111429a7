"""Which thumbnails are there already: asked of the hour folder once for a thousand sources, and never remembered.

What is there is the truth, whoever made it or took it away. No memory grows with the folder.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from itertools import islice

from service.errors import NoFreeName, ShuttingDown
from service.naming import GENERATION_KEY, SOURCE_KEY, SPEC_KEY, Hour
from service.storage.addresses import FolderLocation, NameRange, ObjectLocation
from service.storage.base import ObjectStore, StoredObject
from service.thumbnailer import Output

BATCH = 1000
"""Sources to look up at once: as many as a page of a listing has."""

_MOST_REQUESTS = 50
"""For one batch and size. Where very many folders hold the same file names, their thumbnails may lie so far apart that
asking costs more than it saves: what was not asked for is made, and finds its thumbnail there when it is written."""
_AFTER_EXTENSIONS = "/"
"""What comes next in the order of bytes after a full stop, so after a name with any extension added."""


class Standing:
    """The thumbnails in one hour folder."""

    def __init__(
        self,
        store: ObjectStore,
        outputs: Sequence[Output],
        hour: Hour,
        *,
        made_since: datetime | None,
        should_stop: Callable[[], bool],
    ) -> None:
        """Assemble; nothing is asked of the store.

        Args:
            store: where thumbnails are.
            outputs: those that each source should have.
            hour: the folder.
            made_since: take older ones for missing.
            should_stop: asked before each request.
        """
        self._store = store
        self._outputs = outputs
        self._hour = hour
        self._made_since = made_since
        self._should_stop = should_stop

    def up_to_date(self, sources: Sequence[StoredObject]) -> set[ObjectLocation]:
        """Return those of the sources that have all their thumbnails, of this generation and these settings.

        Raises:
            ShuttingDown: it is to stop.
        """
        waiting = {str(found.location): found for found in sources}
        for output in self._outputs:
            made = {
                source
                for thumbnail in self._near(output, list(waiting.values()))
                if (source := thumbnail.metadata.get(SOURCE_KEY, "")) in waiting
                and thumbnail.metadata.get(GENERATION_KEY) == str(waiting[source].generation)
                and thumbnail.metadata.get(SPEC_KEY) == str(output.spec)
                and (self._made_since is None or thumbnail.created >= self._made_since)
                and thumbnail.location.name.startswith(output.folder.folder_for(waiting[source].location, self._hour))
            }
            waiting = {source: found for source, found in waiting.items() if source in made}
        return {found.location for found in waiting.values()}

    def _near(self, output: Output, sources: Sequence[StoredObject]) -> Iterator[StoredObject]:
        """List the hour folder around the names that the sources' thumbnails may have."""
        starts = sorted({name for found in sources for name in self._possible_names(output, found)})
        folder = FolderLocation(output.folder.bucket, f"{self._hour}/")
        position = 0
        for _ in range(_MOST_REQUESTS):
            if position == len(starts):
                return
            if self._should_stop():
                raise ShuttingDown("the run was stopped while it looked up what is there")
            end = starts[-1] + _AFTER_EXTENSIONS
            page = list(islice(self._store.list_objects(folder, NameRange(starts[position], end)), BATCH))
            yield from page
            if len(page) < BATCH:
                return
            last = page[-1].location.name
            position = bisect_right(starts, last)
            if last < starts[position - 1] + _AFTER_EXTENSIONS:
                # The same name with another extension may follow.
                position -= 1
                starts[position] = last + "\0"

    def _possible_names(self, output: Output, found: StoredObject) -> Iterator[str]:
        """What a source's thumbnail is called, before the extension that another format would add."""
        for added, distinct in (("", False), ("", True), (".", True)):
            try:
                name = output.folder.thumbnail(found.location, self._hour, added, distinct=distinct).name
            except NoFreeName:
                continue
            yield name.removesuffix(added)
