"""One image, from its source to its thumbnails: what all three doors share.

Reads once, decodes once, writes once for each size. Never looks first: asks what is at a thumbnail's name only when a
write finds the name taken.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from enum import Enum, StrEnum, auto
from functools import partial
from threading import BoundedSemaphore
from typing import Self

import structlog

from service.errors import (
    EmptyObject,
    ImageRejected,
    NameTaken,
    NoFreeName,
    ObjectNotFound,
    PermissionMissing,
    PictureTooLarge,
    ServiceError,
    SourceGone,
    SourceTooLarge,
    StorageUnavailable,
)
from service.events import ObjectFinalized
from service.images.decode import HEAD_BYTES, looks_like_image
from service.images.spec import ThumbnailSpec
from service.images.thumbnail import Thumbnail, make_thumbnails
from service.memory import Budget
from service.naming import GENERATION_KEY, SOURCE_KEY, SPEC_KEY, Hour, OutputFolder, is_output
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


class Result(StrEnum):
    """How one image ended."""

    CREATED = "created"
    SKIPPED = "skipped"
    IGNORED = "ignored"
    REJECTED = "rejected"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one image ended, and the addresses of its thumbnails."""

    result: Result
    source: ObjectLocation
    thumbnails: tuple[ObjectLocation, ...] = ()
    code: str = ""
    reason: str = ""
    renamed: bool = False
    """A thumbnail has a suffix because another source holds its plain name."""
    bytes_read: int = 0
    bytes_written: int = 0

    @classmethod
    def ignored(cls, source: ObjectLocation, reason: str) -> Self:
        """The outcome of an object that is not ours to do."""
        return cls(Result.IGNORED, source, reason=reason)

    @classmethod
    def failed(cls, source: ObjectLocation, error: ServiceError) -> Self:
        """The outcome of an image that may work later."""
        return cls(Result.FAILED, source, code=error.code, reason=str(error))


@dataclass(frozen=True, slots=True)
class Output:
    """One thumbnail to be made of each source: its look and its folder."""

    spec: ThumbnailSpec
    folder: OutputFolder


class _Write(Enum):
    """What became of one thumbnail at one name."""

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
        if reason := self._selection.name_exclusion_reason(source):
            return Outcome.ignored(source, reason)
        try:
            stored = event.resource or self._store.stat(source, event.generation)
            if reason := self._selection.exclusion_reason(stored) or self._selection.non_image_reason(stored):
                return Outcome.ignored(source, reason)
            return self._process_once(stored, Hour.of(stored.created))
        except ObjectNotFound:
            return Outcome.ignored(
                source, "the object is gone, or a newer generation of it is there, which has an event of its own"
            )
        except ImageRejected as error:
            return self._rejected(source, error)

    def process(self, source: StoredObject, hour: Hour, *, overwrite: bool = False) -> Outcome:
        """Thumbnail an object that was listed; if it was replaced since then, the object that replaced it.

        Raises:
            RetryLater: it may work later.
        """
        for _ in range(_ATTEMPTS_AT_A_SOURCE):
            try:
                return self._process_once(source, hour, overwrite=overwrite)
            except ObjectNotFound:
                try:
                    source = self._store.stat(source.location)
                except ObjectNotFound:
                    return self._rejected(source.location, SourceGone("it was deleted after it was listed"))
                except ImageRejected as error:
                    return self._rejected(source.location, error)
                if reason := self._selection.exclusion_reason(source) or self._selection.non_image_reason(source):
                    return Outcome.ignored(source.location, reason)
        raise StorageUnavailable(f"cannot read {source.location}: it is replaced each time before it is read")

    def decide_unread(self, source: StoredObject, hour: Hour) -> Outcome | None:
        """Reject or ignore an object without reading all of it; return None if it has to be read."""
        try:
            if source.size == 0:
                raise EmptyObject("it has no bytes")
            if source.size > self._settings.max_source_bytes:
                raise SourceTooLarge(
                    f"it has {source.size:,} bytes and MAX_SOURCE_BYTES is {self._settings.max_source_bytes:,}"
                )
            for output in self.outputs:
                output.folder.thumbnail(source.location, hour, "", distinct=False)
            if self._selection.needs_sniffing(source) and not looks_like_image(
                self._store.read_head(source, HEAD_BYTES)
            ):
                return Outcome.ignored(source.location, "not an image by its first bytes")
        except ImageRejected as error:
            return self._rejected(source.location, error)
        return None

    def _process_once(self, source: StoredObject, hour: Hour, *, overwrite: bool = False) -> Outcome:
        if outcome := self.decide_unread(source, hour):
            return outcome
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
            return self._rejected(source.location, error, bytes_read)
        written = [picture for picture, (_, write, _) in zip(pictures, placed, strict=True) if write is _Write.WRITTEN]
        return Outcome(
            Result.CREATED if written else Result.SKIPPED,
            source.location,
            tuple(target for target, _, _ in placed),
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

    def _rejected(self, source: ObjectLocation, error: ImageRejected, bytes_read: int = 0) -> Outcome:
        log.error("image rejected", source=str(source), outcome=Result.REJECTED, code=error.code, reason=str(error))
        return Outcome(Result.REJECTED, source, code=error.code, reason=str(error), bytes_read=bytes_read)

    def _place(
        self, source: StoredObject, hour: Hour, folder: OutputFolder, picture: Thumbnail, *, overwrite: bool
    ) -> tuple[ObjectLocation, _Write, bool]:
        """Write under the plain name, or under the source's own variant of it if another source holds that.

        Return the name, what became of the write, and if the name is the variant.
        """
        for distinct in (False, True):
            target = folder.thumbnail(source.location, hour, picture.new_extension, distinct=distinct)
            write = self._write(source, target, picture, overwrite=overwrite)
            if write is not _Write.NAME_TAKEN:
                return target, write, distinct
        raise NoFreeName(f"{target} and the plain name are both held by objects of other sources; move them away")

    def _write(self, source: StoredObject, target: ObjectLocation, picture: Thumbnail, *, overwrite: bool) -> _Write:
        """Write a thumbnail, unless the name holds one as good or newer, or another source's."""
        if_generation = 0
        for _ in range(_ATTEMPTS_AT_A_NAME):
            try:
                self._store.write(
                    target,
                    picture.data,
                    content_type=picture.content_type,
                    cache_control=self._settings.cache_control,
                    metadata={
                        SOURCE_KEY: str(source.location),
                        GENERATION_KEY: str(source.generation),
                        SPEC_KEY: str(picture.spec),
                    },
                    if_generation=if_generation,
                )
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
                if holder.metadata.get(SOURCE_KEY) != str(source.location):
                    return _Write.NAME_TAKEN
                made_from = _source_generation(holder)
                if made_from > source.generation:
                    return _Write.UP_TO_DATE
                same = made_from == source.generation and holder.metadata.get(SPEC_KEY) == str(picture.spec)
                # What replaced the first holder, be it a lost answer of our own, was made just now.
                if same and (not overwrite or if_generation):
                    return _Write.UP_TO_DATE
                if_generation = holder.generation
            else:
                self._count_write(source, target, picture, Write.REPLACED if if_generation else Write.CREATED)
                return _Write.WRITTEN
        raise StorageUnavailable(f"cannot write {target}: others keep replacing it")

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


def _source_generation(thumbnail: StoredObject) -> int:
    """Return the source generation that a thumbnail was made from; 0, older than any, if it does not say."""
    text = thumbnail.metadata.get(GENERATION_KEY, "")
    return int(text) if text.isascii() and text.isdigit() else 0
