"""One image, from its source to its thumbnails: what all three doors share.

Reads once, decodes once, writes once for each size. Never looks first: asks what is at a thumbnail's name only when a
write finds the name taken.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime
from enum import Enum, auto
from functools import partial
from threading import BoundedSemaphore

import structlog

from service.errors import (
    EmptyObject,
    ImageRejected,
    NameTaken,
    NoFreeName,
    ObjectNotFound,
    PermissionMissing,
    PictureTooLarge,
    SourceGone,
    SourceTooLarge,
    StorageUnavailable,
)
from service.events import ObjectFinalized
from service.images.decode import HEAD_BYTES, looks_like_image
from service.images.thumbnail import Thumbnail, make_thumbnails
from service.lookup import Output, find_existing
from service.memory import Budget
from service.naming import GENERATION_KEY, SIZE_KEY, SOURCE_KEY, SPEC_KEY, Hour, OutputFolder, is_output
from service.outcome import Outcome, Result, StoredThumbnail
from service.selection import Selection
from service.settings import Settings
from service.storage.addresses import ObjectLocation
from service.storage.base import ObjectStore, StoredObject
from service.telemetry.metrics import Metrics, Origin, Stage, Timer, Write

_MEBIBYTE = 1024 * 1024
_ATTEMPTS_AT_A_NAME = 4
"""How often the holder of a taken name is looked at again because it changed meanwhile."""
_ATTEMPTS_AT_A_SOURCE = 4
"""How often an image is tried that is replaced between being described and being read."""

log = structlog.get_logger()


class _Write(Enum):
    """The result of writing one thumbnail under one name."""

    WRITTEN = auto()
    UP_TO_DATE = auto()
    """The name holds a thumbnail of this generation of the source, or of a newer one."""
    NAME_TAKEN = auto()
    """The name holds an object of another source."""


class Thumbnailer:
    """Makes the thumbnails of one image at a time; threads may share it."""

    def __init__(
        self, store: ObjectStore, selection: Selection, outputs: Sequence[Output], settings: Settings, metrics: Metrics
    ) -> None:
        """Assemble; ask nothing of the store. The metrics are told all but the outcomes, which callers count."""
        self.outputs = tuple(outputs)
        self._store = store
        self._selection = selection
        self._settings = settings
        self._metrics = metrics
        # Two budgets: an image that waits to be decoded while its source is held never keeps a decoder waiting.
        self._sources = Budget(settings.memory_budget // 2)
        self._decoding = Budget(settings.memory_budget)
        # One picture for each processor: more at once would take memory and win no time.
        self._decoders = BoundedSemaphore(os.cpu_count() or 1)

    def process_event(self, event: ObjectFinalized) -> Outcome:
        """Thumbnail the object of an event into the hour in which it was created.

        Raises:
            RetryLater: it may work when the event is delivered again.
        """
        source = event.location
        if reason := self._selection.name_exclusion_reason(source) or self._selection.filter_reason(source):
            return Outcome.ignored(source, reason)
        try:
            stored = event.resource or self._store.stat(source, event.generation)
            if reason := self._selection.exclusion_reason(stored) or self._selection.non_image_reason(stored):
                return Outcome.ignored(source, reason)
            return self.decide(stored, None) or self._process_once(stored, None)
        except ObjectNotFound:
            return Outcome.ignored(
                source, "the object is gone, or a newer generation of it is there, which has an event of its own"
            )
        except ImageRejected as error:
            return self._rejected(source, error, event.generation or 0)

    def process(
        self,
        source: StoredObject,
        hour: Hour | None,
        *,
        looks_first: bool = False,
        overwrite: bool = False,
        made_since: datetime | None = None,
    ) -> Outcome:
        """Thumbnail an object that was listed; if it was replaced since then, the object that replaced it.

        It goes into the hour, or into the one in which it was created if that is None. If `looks_first`, it is not read
        if its thumbnails are up to date and not older than `made_since`, which a metadata get tells of each.

        Raises:
            RetryLater: it may work later.
        """
        for _ in range(_ATTEMPTS_AT_A_SOURCE):
            try:
                outcome = self.decide(source, hour, looks_first=looks_first, made_since=made_since)
                return outcome or self._process_once(source, hour, overwrite=overwrite)
            except ObjectNotFound:
                try:
                    source = self._store.stat(source.location)
                except ObjectNotFound:
                    gone = SourceGone("it was deleted after it was listed")
                    return self._rejected(source.location, gone, source.generation, source.size)
                except ImageRejected as error:
                    return self._rejected(source.location, error, source.generation, source.size)
                if reason := self._selection.exclusion_reason(source) or self._selection.non_image_reason(source):
                    return Outcome.ignored(source.location, reason)
        raise StorageUnavailable(f"cannot read {source.location}: it is replaced each time before it is read")

    def decide(
        self, source: StoredObject, hour: Hour | None, *, looks_first: bool = False, made_since: datetime | None = None
    ) -> Outcome | None:
        """Skip, reject or ignore an object without reading all of it; return None if it has to be read."""
        hour = hour or Hour.of(source.created)
        try:
            if source.size == 0:
                raise EmptyObject("it has no bytes")
            if source.size > (most := self._settings.max_source_bytes):
                raise SourceTooLarge(f"it has {source.size:,} bytes and MAX_SOURCE_BYTES is {most:,}")
            for output in self.outputs:
                output.folder.thumbnail(source.location, hour, "", distinct=False)
            if looks_first and (thumbnails := find_existing(self._store, self.outputs, source, hour, made_since)):
                return Outcome.skipped(source, thumbnails)
            if self._selection.needs_sniffing(source) and not looks_like_image(
                self._store.read_head(source, HEAD_BYTES)
            ):
                return Outcome.ignored(source.location, "not an image by its first bytes")
        except ImageRejected as error:
            return self._rejected(source.location, error, source.generation, source.size)
        return None

    def _process_once(self, source: StoredObject, hour: Hour | None, *, overwrite: bool = False) -> Outcome:
        hour = hour or Hour.of(source.created)
        bytes_read = 0
        try:
            with self._metrics.in_flight() as timer:
                with ExitStack() as held:
                    with timer.stage(Stage.WAIT):
                        held.enter_context(self._sources.reserve(self._bytes_held(source)))
                    with timer.stage(Stage.READ):
                        data = self._store.read(source, self._settings.max_source_bytes)
                    bytes_read = len(data)
                    self._metrics.read(bytes_read)
                    with timer.stage(Stage.WAIT):
                        held.enter_context(self._decoders)
                    with timer.stage(Stage.MAKE):
                        pictures = make_thumbnails(
                            data,
                            [output.spec for output in self.outputs],
                            max_pixels=self._settings.max_image_pixels,
                            reserve=partial(self._reserve, timer),
                        )
                    del data
                with timer.stage(Stage.WRITE):
                    placed = [
                        self._place(source, hour, output.folder, picture, overwrite=overwrite)
                        for output, picture in zip(self.outputs, pictures, strict=True)
                    ]
        except ImageRejected as error:
            return self._rejected(source.location, error, source.generation, source.size, bytes_read)
        written = [picture for picture, (_, write, _) in zip(pictures, placed, strict=True) if write is _Write.WRITTEN]
        return Outcome(
            Result.CREATED if written else Result.SKIPPED,
            source.location,
            source.generation,
            source.size,
            tuple(
                StoredThumbnail(target, len(picture.data), picture.width, picture.height)
                for picture, (target, _, _) in zip(pictures, placed, strict=True)
            ),
            renamed=any(renamed for _, _, renamed in placed),
            bytes_read=bytes_read,
            bytes_written=sum(len(picture.data) for picture in written),
        )

    def _bytes_held(self, source: StoredObject) -> int:
        """Return what a source takes in memory: a download is held twice for a moment, and a gzip may grow."""
        return source.size + (self._settings.max_source_bytes if source.content_encoding == "gzip" else source.size)

    @contextmanager
    def _reserve(self, timer: Timer, wanted: int) -> Iterator[None]:
        if wanted > self._decoding.total:
            raise PictureTooLarge(
                f"decoding it takes {wanted / _MEBIBYTE:,.0f} MiB of memory and MEMORY_BUDGET is "
                f"{self._decoding.total / _MEBIBYTE:,.0f} MiB; give the service more memory"
            )
        with ExitStack() as held:
            with timer.stage(Stage.WAIT):
                held.enter_context(self._decoding.reserve(wanted))
            yield

    def _rejected(
        self, source: ObjectLocation, error: ImageRejected, generation: int, source_bytes: int = 0, bytes_read: int = 0
    ) -> Outcome:
        code, reason = error.code, str(error)
        log.error("image rejected", source=str(source), outcome=Result.REJECTED, code=code, reason=reason)
        return Outcome(
            Result.REJECTED, source, generation, source_bytes, code=code, reason=reason, bytes_read=bytes_read
        )

    def _place(
        self, source: StoredObject, hour: Hour, folder: OutputFolder, picture: Thumbnail, *, overwrite: bool
    ) -> tuple[ObjectLocation, _Write, bool]:
        """Write under the plain name, or under the source's own variant of it if another source holds that.

        Return the name, what became of the write, and if the name is the variant.
        """
        for distinct in (False, True):
            target = folder.thumbnail(source.location, hour, picture.new_extension, distinct=distinct)
            # An earlier delivery may have renamed it already: a look costs a twelfth of a write.
            if distinct and not overwrite and self._is_held(source, target, picture):
                return target, _Write.UP_TO_DATE, True
            write = self._write(source, target, picture, overwrite=overwrite)
            if write is not _Write.NAME_TAKEN:
                return target, write, distinct
        raise NoFreeName(f"{target} and the plain name are both held by objects of other sources; move them away")

    def _is_held(self, source: StoredObject, target: ObjectLocation, picture: Thumbnail) -> bool:
        try:
            return _compare(self._store.stat(target), source, picture) is _Write.UP_TO_DATE
        except ObjectNotFound:
            return False

    def _write(self, source: StoredObject, target: ObjectLocation, picture: Thumbnail, *, overwrite: bool) -> _Write:
        """Write a thumbnail, unless the name holds one as good or newer, or another source's."""
        if_generation = 0
        for _ in range(_ATTEMPTS_AT_A_NAME):
            try:
                self._put(source, target, picture, if_generation)
            except (NameTaken, PermissionMissing) as error:
                # Without the right to replace, storage may say "forbidden" of a name that is taken.
                if if_generation and isinstance(error, PermissionMissing):
                    raise
                try:
                    holder = self._store.stat(target)
                except ObjectNotFound:
                    if isinstance(error, PermissionMissing):
                        raise error from None
                    if_generation = 0
                    continue
                held = _compare(holder, source, picture)
                is_newer = _source_generation(holder) > source.generation
                # What replaced the first holder, be it a lost answer of our own, was made just now.
                if held is _Write.NAME_TAKEN or (held and (is_newer or not overwrite or if_generation)):
                    return held
                if_generation = holder.generation
            else:
                self._count_write(source, target, picture, Write.REPLACED if if_generation else Write.CREATED)
                return _Write.WRITTEN
        raise StorageUnavailable(f"cannot write {target}: others keep replacing it")

    def _put(self, source: StoredObject, target: ObjectLocation, picture: Thumbnail, if_generation: int) -> None:
        self._store.write(
            target,
            picture.data,
            content_type=picture.content_type,
            cache_control=self._settings.cache_control,
            metadata={
                SOURCE_KEY: str(source.location),
                GENERATION_KEY: str(source.generation),
                SPEC_KEY: str(picture.spec),
                SIZE_KEY: f"{picture.width}x{picture.height}",
            },
            if_generation=if_generation,
        )

    def _count_write(self, source: StoredObject, target: ObjectLocation, picture: Thumbnail, write: Write) -> None:
        """Count a write, and say if it is what a loop would write; both guards against a loop came before."""
        origin = Origin.SMALL if picture.is_whole else Origin.PICTURE
        location = source.location
        if SOURCE_KEY in source.metadata or (location.bucket == target.bucket and is_output(location.name)):
            origin = Origin.OWN
            log.critical(
                "a thumbnail was made of the service's own output", source=str(location), thumbnail=str(target)
            )
        self._metrics.wrote(len(picture.data), write, origin)


def _compare(holder: StoredObject, source: StoredObject, picture: Thumbnail) -> _Write | None:
    """Return what the holder of a name means to a thumbnail; None if the thumbnail is to replace it."""
    if holder.metadata.get(SOURCE_KEY) != str(source.location):
        return _Write.NAME_TAKEN
    made_from = _source_generation(holder)
    same = made_from == source.generation and holder.metadata.get(SPEC_KEY) == str(picture.spec)
    return _Write.UP_TO_DATE if same or made_from > source.generation else None


def _source_generation(thumbnail: StoredObject) -> int:
    """Return the source generation that a thumbnail was made from; 0, older than any, if it does not say."""
    text = thumbnail.metadata.get(GENERATION_KEY, "")
    return int(text) if text.isascii() and text.isdigit() else 0
