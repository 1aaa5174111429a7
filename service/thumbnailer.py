"""One image, from its source to its thumbnails: what all three doors share.

Reads once, decodes once, writes once for each size.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime
from functools import partial

import structlog

from service.errors import (
    EmptyObject,
    ImageRejected,
    ObjectNotFound,
    PictureTooLarge,
    SourceGone,
    SourceTooLarge,
    StorageUnavailable,
)
from service.events import ObjectFinalized
from service.images.formats import HEAD_BYTES, looks_like_image
from service.images.pool import DecoderPool
from service.lookup import Output, find_existing
from service.memory import Budget
from service.naming import Hour
from service.outcome import Outcome, Result
from service.selection import Selection
from service.settings import Settings
from service.storage.addresses import ObjectLocation
from service.storage.base import ObjectStore, StoredObject
from service.telemetry.metrics import Metrics, Stage, Timer
from service.writer import ThumbnailWriter

_MEBIBYTE = 1024 * 1024
SMALL_BYTES = _MEBIBYTE
"""A source of this size at most is decoded in milliseconds, as a rule, and so waits for few others."""
_ATTEMPTS = 4
"""Reads of one image, which fail if it is replaced between being described and being read."""

log = structlog.get_logger()


class Thumbnailer:
    """Makes the thumbnails of one image at a time; threads may share it."""

    def __init__(
        self,
        store: ObjectStore,
        selection: Selection,
        outputs: Sequence[Output],
        settings: Settings,
        metrics: Metrics,
        decoders: DecoderPool,
    ) -> None:
        """Assemble; ask nothing of the store. The metrics are told all but the outcomes, which callers count."""
        self.outputs = tuple(outputs)
        self._store = store
        self._selection = selection
        self._settings = settings
        self._metrics = metrics
        self._decoders = decoders
        self._writer = ThumbnailWriter(store, settings.cache_control, metrics)
        # Two budgets: an image that waits to be decoded while its source is held never keeps a decoder waiting.
        self._sources = Budget(settings.memory_budget // 2)
        self._decoding = Budget(settings.memory_budget)
        self._processors = Budget(decoders.workers, "processors")

    def process_event(self, event: ObjectFinalized) -> Outcome:
        """Thumbnail the object of an event into the hour in which it was created.

        Raises:
            RetryLater: it may work when the event is delivered again.
        """
        source = event.location
        if reason := self._selection.name_exclusion_reason(source) or self._selection.filter_reason(source):
            return Outcome.ignored(source, reason)
        try:
            stored = event.resource
            if stored is None or (self._selection.storage_classes and stored.storage_class is None):
                stored = self._store.stat(source, event.generation)
            if reason := self._selection.reason_to_ignore(stored) or self._selection.class_reason(stored):
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
        for _ in range(_ATTEMPTS):
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
                if reason := self._selection.reason_to_ignore(source) or self._selection.class_reason(source):
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
        is_small = source.size <= SMALL_BYTES
        try:
            with self._metrics.in_flight() as timer:
                with ExitStack() as held:
                    held.enter_context(self._sources.reserve(self._bytes_held(source), is_small=is_small))
                    timer.enter(Stage.READ)
                    data = self._store.read(source, self._settings.max_source_bytes)
                    bytes_read = len(data)
                    self._metrics.read(bytes_read)
                    timer.enter(Stage.WAIT)
                    held.enter_context(self._processors.reserve(1, is_small=is_small))
                    timer.enter(Stage.MAKE)
                    pictures = self._decoders.make_thumbnails(
                        data,
                        [output.spec for output in self.outputs],
                        max_pixels=self._settings.max_image_pixels,
                        reserve=partial(self._reserve, timer),
                    )
                    del data
                timer.enter(Stage.WRITE)
                placed = [
                    self._writer.place(source, hour, output.folder, picture, overwrite=overwrite)
                    for output, picture in zip(self.outputs, pictures, strict=True)
                ]
        except ImageRejected as error:
            return self._rejected(source.location, error, source.generation, source.size, bytes_read)
        if any(picture.is_damaged for picture in pictures):
            log.warning("damaged image shown", source=str(source.location), reason="its file ends too early")
        bytes_written = sum(each.bytes_written for each in placed)
        return Outcome(
            Result.CREATED if bytes_written else Result.SKIPPED,
            source.location,
            source.generation,
            source.size,
            tuple(each.thumbnail for each in placed),
            bytes_read=bytes_read,
            bytes_written=bytes_written,
        )

    def _bytes_held(self, source: StoredObject) -> int:
        """Return what a source takes in memory: it is here and in what a worker reads, and a gzip may grow."""
        return 2 * (self._settings.max_source_bytes if source.content_encoding == "gzip" else source.size)

    @contextmanager
    def _reserve(self, timer: Timer, wanted: int) -> Iterator[None]:
        if wanted > self._decoding.total:
            raise PictureTooLarge(
                f"decoding it takes {wanted / _MEBIBYTE:,.0f} MiB of memory and MEMORY_BUDGET is "
                f"{self._decoding.total / _MEBIBYTE:,.0f} MiB; give the service more memory"
            )
        timer.enter(Stage.WAIT)
        with self._decoding.reserve(wanted):
            timer.enter(Stage.MAKE)
            yield

    def _rejected(
        self, source: ObjectLocation, error: ImageRejected, generation: int, source_bytes: int = 0, bytes_read: int = 0
    ) -> Outcome:
        code, reason = error.code, str(error)
        log.error("image rejected", source=str(source), outcome=Result.REJECTED, code=code, reason=reason)
        return Outcome(
            Result.REJECTED, source, generation, source_bytes, code=code, reason=reason, bytes_read=bytes_read
        )
