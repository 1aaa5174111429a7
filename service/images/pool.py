"""Worker processes that decode, so that a picture that ends its decoder ends nothing else.

Libraries see a source's bytes there alone. A worker that crashes or hangs is replaced. Its answers are checked, since a
picture may have taken it over.
"""

import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any, Literal

import structlog

from service.errors import (
    CorruptImage,
    DecoderCrashed,
    DecoderTimedOut,
    DecoderUnavailable,
    ImageRejected,
    PictureTooLarge,
    RetryLater,
    UnsupportedFormat,
)
from service.images.formats import FORMATS
from service.images.frames import spec_to_json
from service.images.spec import Thumbnail, ThumbnailSpec
from service.images.worker_process import Answer, MadeThumbnail, WorkerEnded, WorkerProcess
from service.memory import Reserve

START_SECONDS = 60.0
"""Longest start of a worker, on a machine that is busy with others."""
_LONGEST_REASON = 1000
_MOST_RESERVATIONS = 2
"""For one image: for its preview, and for itself if that is damaged."""
_REJECTIONS: dict[str, type[ImageRejected]] = {
    kind.code: kind for kind in (PictureTooLarge, UnsupportedFormat, CorruptImage)
}

log = structlog.get_logger()


class DecoderPool:
    """Makes thumbnails in worker processes; threads may share it.

    A thread borrows a worker for one image. Another thread, of the pool's own, starts the workers and replaces those
    that have ended.
    """

    def __init__(self, workers: int, memory_budget: int, max_seconds: float) -> None:
        """Begin to start so many workers; wait for none of them.

        Args:
            workers: number of processes.
            memory_budget: most bytes that one may ever use: for decoding, and for the file.
            max_seconds: longest time for one image, without waits for memory.
        """
        self.unfiltered: str = ""
        """Why workers may make system calls that they need not; empty if they may not, or none has started."""
        self.workers = workers
        self._memory_budget = memory_budget
        self._max_seconds = max_seconds
        self._idle = _Idle()
        self._wanted = SimpleQueue[Literal["start", "end"]]()
        self._running: set[WorkerProcess] = set()
        self._is_closed = False
        for _ in range(workers):
            self._wanted.put("start")
        # Workers end with the thread that has started them: it lives as long as the pool.
        Thread(target=self._start_workers, name="workers", daemon=True).start()

    def make_thumbnails(
        self, data: bytes, specs: Sequence[ThumbnailSpec], *, max_pixels: int, reserve: Reserve
    ) -> list[Thumbnail]:
        """Do what `thumbnail.make_thumbnails` does, in a worker.

        An image whose worker ends is tried again in another one, since an earlier image may have damaged the first.

        Raises:
            ImageRejected: the errors of `thumbnail.make_thumbnails`, and DecoderCrashed, DecoderTimedOut.
            DecoderUnavailable: no worker could be started.
            RetryLater: what `reserve` raises.
        """
        request = {"specs": [spec_to_json(spec) for spec in specs], "max_pixels": max_pixels}
        with suppress(WorkerEnded):
            return self._try(request, data, specs, reserve)
        try:
            return self._try(request, data, specs, reserve)
        except WorkerEnded as error:
            if error.was_killed:
                raise PictureTooLarge(f"its decoder {error}, as happens when there is no memory left") from error
            raise DecoderCrashed(f"its decoder {error}, twice") from error

    def close(self) -> None:
        """End all workers."""
        self._is_closed = True
        self._wanted.put("end")
        for worker in self._running.copy():
            worker.kill()
        for _ in range(self.workers):
            self._idle.put(_closing())

    def _try(
        self, request: dict[str, Any], data: bytes, specs: Sequence[ThumbnailSpec], reserve: Reserve
    ) -> list[Thumbnail]:
        with self._ending_told(), self._asked(request, data) as worker, ExitStack() as held:
            try:
                answer, payload = worker.receive(self._deadline())
                for _ in range(_MOST_RESERVATIONS):
                    if answer.reserve is None:
                        break
                    # None is held by an image that waits for another.
                    held.close()
                    try:
                        held.enter_context(reserve(answer.reserve))
                    except (ImageRejected, RetryLater):
                        worker.send({"granted": False})
                        worker.rest()
                        raise
                    worker.send({"granted": True})
                    answer, payload = worker.receive(self._deadline())
            except TimeoutError:
                raise DecoderTimedOut(
                    f"decoding it takes longer than {self._max_seconds:g} s, which MAX_DECODE_SECONDS allows"
                ) from None
            result = _result(answer, payload, specs)
            worker.rest()
        if isinstance(result, Exception):
            raise result
        return result

    def _deadline(self) -> float:
        return time.monotonic() + self._max_seconds

    @contextmanager
    def _ending_told(self) -> Iterator[None]:
        """Turn whatever a worker that `close` has ended makes of an image into a failure: no image is to blame."""
        try:
            yield
        except (WorkerEnded, OSError) as error:
            if self._is_closed:
                raise _closing() from error
            raise

    @contextmanager
    def _asked(self, request: dict[str, Any], data: bytes) -> Iterator[WorkerProcess]:
        """Borrow a worker that has a request for the thumbnails of a file."""
        worker = self._ask(request, data)
        try:
            yield worker
        finally:
            if worker.is_idle:
                self._idle.put(worker)
            else:
                self._replace(worker)

    def _ask(self, request: dict[str, Any], data: bytes) -> WorkerProcess:
        while True:
            if self._is_closed:
                raise _closing()
            try:
                worker = self._idle.get(timeout=START_SECONDS)
            except Empty:
                raise DecoderUnavailable(f"no process that decodes became free within {START_SECONDS:g} s") from None
            if isinstance(worker, DecoderUnavailable):
                self._wanted.put("start")
                raise worker
            try:
                worker.send_file(request, data)
            except WorkerEnded:
                # It ended while it was idle, through no fault of this image.
                self._replace(worker)
            except OSError:
                self._replace(worker)
                raise
            else:
                return worker

    def _replace(self, worker: WorkerProcess) -> None:
        self._running.discard(worker)
        worker.kill()
        self._wanted.put("start")

    def _start_workers(self) -> None:
        while self._wanted.get() == "start":
            try:
                self._start()
            except WorkerEnded as error:
                if self._is_closed:
                    return
                unavailable = DecoderUnavailable(f"no process that decodes could be started: it {error}")
                log.error("no decoder", code=unavailable.code, reason=str(unavailable))
                self._idle.put(unavailable)

    def _start(self) -> None:
        try:
            worker = WorkerProcess(self._memory_budget)
        except OSError as error:
            raise WorkerEnded(f"could not be created: {error}") from error
        self._running.add(worker)
        try:
            answer, _ = worker.receive(time.monotonic() + START_SECONDS)
        except (TimeoutError, WorkerEnded) as error:
            self._running.discard(worker)
            worker.kill()
            raise WorkerEnded(str(error) or f"was not ready within {START_SECONDS:g} s") from error
        if answer.unfiltered and not self.unfiltered:
            self.unfiltered = answer.unfiltered
            log.warning("decoders are not confined", reason=answer.unfiltered)
        if self._is_closed:
            worker.kill()
        worker.rest()
        self._idle.put(worker)


class _Idle:
    """Workers that wait for an image, and failures to start one. The last in is the first out.

    A processor's cache has most of what that worker needs: an event takes 4 % less time.
    """

    def __init__(self) -> None:
        self._stack = deque[WorkerProcess | DecoderUnavailable]()
        self._ready = SimpleQueue[None]()
        """As many items as the stack. A LifoQueue would be both, and cost a run 2 % of its web images a second."""

    def put(self, item: WorkerProcess | DecoderUnavailable) -> None:
        self._stack.append(item)
        self._ready.put(None)

    def get(self, timeout: float) -> WorkerProcess | DecoderUnavailable:
        """Wait for one; raise Empty."""
        self._ready.get(timeout=timeout)
        return self._stack.pop()


def _closing() -> DecoderUnavailable:
    return DecoderUnavailable("the process is about to end")


def _result(answer: Answer, payload: bytes, specs: Sequence[ThumbnailSpec]) -> list[Thumbnail] | Exception:
    """Return a worker's thumbnails, rejection or defect. Raise WorkerEnded if the answer makes no sense."""
    if answer.thumbnails is not None:
        return _thumbnails(answer.thumbnails, payload, specs)
    if answer.code in _REJECTIONS:
        return _REJECTIONS[answer.code](answer.reason[:_LONGEST_REASON])
    if answer.defect is not None:
        return RuntimeError(f"a worker failed by a defect: {answer.defect}")
    raise WorkerEnded("gave an answer that makes no sense")


def _thumbnails(made: Sequence[MadeThumbnail], payload: bytes, specs: Sequence[ThumbnailSpec]) -> list[Thumbnail]:
    """Return a worker's thumbnails. Raise WorkerEnded if they are not what was asked for."""
    if len(made) != len(specs) or sum(each.bytes for each in made) != len(payload):
        raise WorkerEnded("answered with other thumbnails than were asked for")
    thumbnails: list[Thumbnail] = []
    start = 0
    for each, spec in zip(made, specs, strict=True):
        row = FORMATS.get(each.format)
        is_too_large = each.width > spec.box.width or each.height > spec.box.height
        if not row or not row.output_extension or is_too_large or (each.is_damaged and not spec.shows_damaged):
            raise WorkerEnded("answered with other thumbnails than were asked for")
        data = payload[start : start + each.bytes]
        size = each.width, each.height
        thumbnails.append(
            Thumbnail(
                spec, data, row, each.is_converted, *size, each.is_whole, each.from_preview, is_damaged=each.is_damaged
            )
        )
        start += each.bytes
    return thumbnails
