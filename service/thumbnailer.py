"""One image, from its source to its thumbnails: what all three doors share.

Reads once, decodes once, writes once for each size. Never looks first: what is at the thumbnail's name is asked only
when a write finds the name taken.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from enum import StrEnum
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
from service.images.decode import HEAD_BYTES, looks_like_image, readers
from service.images.spec import ThumbnailSpec
from service.images.thumbnail import Thumbnail, make_thumbnails
from service.memory import Budget
from service.naming import GENERATION_KEY, SOURCE_KEY, SPEC_KEY, Hour, OutputFolder, is_output
from service.selection import Selection
from service.storage.addresses import ObjectLocation
from service.storage.base import ObjectStore, StoredObject
from service.telemetry.metrics import OFF, Metrics, Origin, Stage, Timer, Write

_MEBIBYTE = 1024 * 1024
_ATTEMPTS_AT_A_NAME = 4
"""How often the holder of a taken name is looked at again because it changed meanwhile."""
_ATTEMPTS_AT_A_SOURCE = 4
"""How often an image is tried that is replaced between being described and being read."""

log = structlog.get_logger()


class Result(StrEnum):
    """How one image ended. A failure is no result but an exception, `RetryLater`."""

    CREATED = "created"
    SKIPPED = "skipped"
    IGNORED = "ignored"
    REJECTED = "rejected"


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one image ended, and where its thumbnails are."""

    result: Result
    source: ObjectLocation
    thumbnails: tuple[ObjectLocation, ...] = ()
    code: str = ""
    reason: str = ""
    renamed: bool = False
    """Whether a thumbnail has a suffix because another source holds its plain name."""
    bytes_read: int = 0
    bytes_written: int = 0


@dataclass(frozen=True, slots=True)
class Output:
    """One thumbnail to be made of each source: how, and into which folder."""

    spec: ThumbnailSpec
    folder: OutputFolder


@dataclass(frozen=True, slots=True)
class Limits:
    """What is refused before it costs anything, and what may be used at once."""

    max_source_bytes: int
    max_pixels: int
    memory_budget: int
    """Bytes that decoding may use at once; sources that are held may use half as much again."""

    def __str__(self) -> str:
        return f"{self.max_source_bytes} bytes, {self.max_pixels} pixels, {self.memory_budget} bytes to decode"


@dataclass(frozen=True, slots=True)
class _Placed:
    location: ObjectLocation
    written: bool
    renamed: bool


class Thumbnailer:
    """Makes the thumbnails of one image at a time; threads may share it."""

    def __init__(
        self,
        store: ObjectStore,
        selection: Selection,
        outputs: Sequence[Output],
        limits: Limits,
        *,
        cache_control: str | None = None,
        metrics: Metrics = OFF,
    ) -> None:
        """Assemble; nothing is asked of the store.

        Args:
            store: where sources are and thumbnails go.
            selection: which objects are sources.
            outputs: the thumbnails to make of each.
            limits: what is refused, and what may be used at once.
            cache_control: the `Cache-Control` of each thumbnail.
            metrics: is told what each image takes, and what is written. Not how images end, which callers know.
        """
        self.store = store
        self.metrics = metrics
        self.selection = selection
        self.outputs = tuple(outputs)
        self.limits = limits
        self._cache_control = cache_control
        # Two budgets: who holds a source while waiting to decode it never keeps a decoder waiting.
        self._sources = Budget(limits.memory_budget // 2)
        self._decoding = Budget(limits.memory_budget)
        # One picture for each processor: more at once would take memory and win no time.
        self._decoders = BoundedSemaphore(os.cpu_count() or 1)

    def handle(self, event: ObjectFinalized) -> Outcome:
        """Thumbnail the object that an event is about, into the hour in which it was created.

        Raises:
            RetryLater: it may work when the event is delivered again.
        """
        source = event.location
        if reason := self.selection.name_exclusion_reason(source):
            return Outcome(Result.IGNORED, source, reason=reason)
        try:
            found = event.resource or self.store.stat(source, event.generation)
            if reason := self.selection.exclusion_reason(found) or self.selection.non_image_reason(found):
                return Outcome(Result.IGNORED, source, reason=reason)
            return self._make(found, Hour.of(found.created))
        except ObjectNotFound:
            return Outcome(
                Result.IGNORED,
                source,
                reason="the object is gone, or a newer generation of it is there, which has an event of its own",
            )
        except ImageRejected as error:
            return self._rejected(source, error)

    def make(self, found: StoredObject, hour: Hour, *, overwrite: bool = False) -> Outcome:
        """Thumbnail an object that was listed; if it was replaced since then, what replaced it.

        Raises:
            RetryLater: it may work later.
        """
        for _ in range(_ATTEMPTS_AT_A_SOURCE):
            try:
                return self._make(found, hour, overwrite=overwrite)
            except ObjectNotFound:
                try:
                    found = self.store.stat(found.location)
                except ObjectNotFound:
                    return self._rejected(found.location, SourceGone("it was deleted after it was listed"))
                except ImageRejected as error:
                    return self._rejected(found.location, error)
                if reason := self.selection.exclusion_reason(found) or self.selection.non_image_reason(found):
                    return Outcome(Result.IGNORED, found.location, reason=reason)
        raise StorageUnavailable(f"cannot read {found.location}: it is replaced each time before it is read")

    def outcome_unread(self, found: StoredObject, hour: Hour) -> Outcome | None:
        """Reject or ignore what can be without reading it whole; None for anything else."""
        try:
            if found.size == 0:
                raise EmptyObject("it has no bytes")
            if found.size > self.limits.max_source_bytes:
                raise SourceTooLarge(
                    f"it has {found.size:,} bytes and MAX_SOURCE_BYTES is {self.limits.max_source_bytes:,}"
                )
            for output in self.outputs:
                output.folder.thumbnail(found.location, hour, "", distinct=False)
            if self.selection.needs_sniffing(found) and not looks_like_image(self.store.read_head(found, HEAD_BYTES)):
                return Outcome(Result.IGNORED, found.location, reason="not an image by its first bytes")
        except ImageRejected as error:
            return self._rejected(found.location, error)
        return None

    def _make(self, found: StoredObject, hour: Hour, *, overwrite: bool = False) -> Outcome:
        if outcome := self.outcome_unread(found, hour):
            return outcome
        with self.metrics.in_flight() as timer:
            return self._made(found, hour, timer, overwrite=overwrite)

    def _made(self, found: StoredObject, hour: Hour, timer: Timer, *, overwrite: bool) -> Outcome:
        bytes_read = 0
        try:
            with ExitStack() as held:
                with timer.stage(Stage.WAIT):
                    held.enter_context(self._sources.reserve(self._bytes_held(found)))
                with timer.stage(Stage.READ):
                    data = self.store.read(found, self.limits.max_source_bytes)
                bytes_read = len(data)
                self.metrics.read(bytes_read)
                with timer.stage(Stage.WAIT):
                    held.enter_context(self._decoders)
                with timer.stage(Stage.MAKE):
                    pictures = make_thumbnails(
                        data,
                        [output.spec for output in self.outputs],
                        max_pixels=self.limits.max_pixels,
                        reserve=partial(self._reserve, timer),
                    )
                del data
            with timer.stage(Stage.WRITE):
                placed = [
                    self._place(found, hour, output.folder, picture, overwrite=overwrite)
                    for output, picture in zip(self.outputs, pictures, strict=True)
                ]
        except ImageRejected as error:
            return self._rejected(found.location, error, bytes_read)
        return Outcome(
            Result.CREATED if any(place.written for place in placed) else Result.SKIPPED,
            found.location,
            tuple(place.location for place in placed),
            renamed=any(place.renamed for place in placed),
            bytes_read=bytes_read,
            bytes_written=sum(
                len(picture.data) for picture, place in zip(pictures, placed, strict=True) if place.written
            ),
        )

    def _bytes_held(self, found: StoredObject) -> int:
        """What a source takes in memory: a download is held twice for a moment, and one that unpacks may grow."""
        return found.size + (self.limits.max_source_bytes if found.content_encoding == "gzip" else found.size)

    @property
    def judgement(self) -> str:
        """What a rejection depends on beside the image, as text."""
        return f"{self.limits}; {readers()}"

    @property
    def shape(self) -> str:
        """The settings that shape the output, as text: a run with others is another run."""
        selection = "by content" if self.selection.by_content else "by metadata"
        folder = self.outputs[0].folder
        specs = ", ".join(str(output.spec) for output in self.outputs)
        return f"images of {self.selection.fence} {selection} to gs://{folder.bucket} {folder.layout}: {specs}"

    @contextmanager
    def _reserve(self, timer: Timer, weight: int) -> Iterator[None]:
        if weight > self._decoding.total:
            raise PictureTooLarge(
                f"decoding it takes {weight / _MEBIBYTE:,.0f} MiB of memory and MEMORY_BUDGET is "
                f"{self._decoding.total / _MEBIBYTE:,.0f} MiB; give the service more memory"
            )
        with ExitStack() as held:
            with timer.stage(Stage.WAIT):
                held.enter_context(self._decoding.reserve(weight))
            yield

    def _rejected(self, source: ObjectLocation, error: ImageRejected, bytes_read: int = 0) -> Outcome:
        log.error("image rejected", source=str(source), outcome=Result.REJECTED, code=error.code, reason=str(error))
        return Outcome(Result.REJECTED, source, code=error.code, reason=str(error), bytes_read=bytes_read)

    def _place(
        self, found: StoredObject, hour: Hour, folder: OutputFolder, picture: Thumbnail, *, overwrite: bool
    ) -> _Placed:
        """Write under the plain name, or under the source's own variant of it where another source holds that."""
        for distinct in (False, True):
            target = folder.thumbnail(found.location, hour, picture.new_extension, distinct=distinct)
            written = self._write_unless_held(found, target, picture, overwrite=overwrite)
            if written is not None:
                return _Placed(target, written, renamed=distinct)
        raise NoFreeName(f"{target} and the plain name are both held by objects of other sources; move them away")

    def _write_unless_held(
        self, found: StoredObject, target: ObjectLocation, picture: Thumbnail, *, overwrite: bool
    ) -> bool | None:
        """Write, unless what is there is as good or newer; None where it belongs to another source."""
        if_generation = 0
        for _ in range(_ATTEMPTS_AT_A_NAME):
            try:
                self.store.write(
                    target,
                    picture.data,
                    content_type=picture.content_type,
                    cache_control=self._cache_control,
                    metadata={
                        SOURCE_KEY: str(found.location),
                        GENERATION_KEY: str(found.generation),
                        SPEC_KEY: str(picture.spec),
                    },
                    if_generation=if_generation,
                )
            except (NameTaken, PermissionMissing) as error:
                # Without the right to replace, storage may say "forbidden" of a name that is taken.
                if if_generation and isinstance(error, PermissionMissing):
                    raise
                try:
                    holder = self.store.stat(target)
                except ObjectNotFound:
                    if isinstance(error, PermissionMissing):
                        raise error from None
                    if_generation = 0
                    continue
                if holder.metadata.get(SOURCE_KEY) != str(found.location):
                    return None
                made_from = _generation(holder)
                if made_from > found.generation:
                    return False
                same = made_from == found.generation and holder.metadata.get(SPEC_KEY) == str(picture.spec)
                # What replaced the first holder, be it a lost answer of our own, was made just now.
                if same and (not overwrite or if_generation):
                    return False
                if_generation = holder.generation
            else:
                self._measure_write(found, target, picture, Write.REPLACED if if_generation else Write.CREATED)
                return True
        raise StorageUnavailable(f"cannot write {target}: others keep replacing it")

    def _measure_write(self, found: StoredObject, target: ObjectLocation, picture: Thumbnail, write: Write) -> None:
        """Count a write, and look whether it is what a loop would write; all that should prevent one came before."""
        origin = Origin.SMALL if picture.is_whole else Origin.PICTURE
        location = found.location
        if SOURCE_KEY in found.metadata or (location.bucket == target.bucket and is_output(location.name)):
            origin = Origin.OWN
            log.critical(
                "a thumbnail was made of the service's own output", source=str(location), thumbnail=str(target)
            )
        self.metrics.wrote(len(picture.data), write, origin)


def _generation(thumbnail: StoredObject) -> int:
    """The source generation that a thumbnail was made from; 0, older than any, where it does not say."""
    text = thumbnail.metadata.get(GENERATION_KEY, "")
    return int(text) if text.isascii() and text.isdigit() else 0
