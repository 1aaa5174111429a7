"""Worker processes that decode, so that a picture that ends its decoder ends nothing else.

What a library does with a source's bytes happens there. A worker that crashes or hangs is replaced. What it answers is
checked, since a picture may have taken it over.
"""

import os
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from signal import SIGKILL, Signals
from tempfile import TemporaryFile
from threading import Thread
from typing import Annotated, Any

import structlog
from pydantic import BaseModel, ConfigDict, Field, ValidationError

import service
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
from service.images.frames import LENGTHS, pack, spec_to_json
from service.images.spec import Thumbnail, ThumbnailSpec
from service.memory import Reserve

START_SECONDS = 60.0
"""Longest start of a worker, on a machine that is busy with others."""
_KEPT_SOURCE_BYTES = 8 * 1024 * 1024
"""Most memory that stays with an idle worker for the next file: that of a phone's photo."""
_MOST_FIELDS_BYTES = 1024 * 1024
_MOST_PAYLOAD_BYTES = 64 * 1024 * 1024
_LONGEST_REASON = 1000
_MOST_RESERVATIONS = 2
"""For one image: for its preview, and for itself if that is damaged."""
_INHERITED = ("PYTHONPATH", "LD_LIBRARY_PATH")
"""Environment that an interpreter may need to find its modules. A worker gets no other."""
_REJECTIONS: dict[str, type[ImageRejected]] = {
    kind.code: kind for kind in (PictureTooLarge, UnsupportedFormat, CorruptImage)
}

log = structlog.get_logger()


class _Made(BaseModel):
    """What a worker says of a thumbnail."""

    model_config = ConfigDict(strict=True, extra="forbid")

    format: str
    is_converted: bool
    width: int = Field(gt=0)
    height: int = Field(gt=0)
    is_whole: bool
    from_preview: bool
    is_damaged: bool
    bytes: int = Field(gt=0)


class _Answer(BaseModel):
    """What a worker says."""

    model_config = ConfigDict(strict=True, extra="forbid")

    readable: list[str] | None = None
    unfiltered: str = ""
    reserve: Annotated[int, Field(ge=0)] | None = None
    thumbnails: list[_Made] | None = None
    code: str | None = None
    reason: str = ""
    defect: str | None = None


class _Ended(Exception):
    """A worker has ended, or answers nonsense."""

    def __init__(self, problem: str, *, was_killed: bool = False) -> None:
        super().__init__(problem)
        self.was_killed = was_killed


class _Worker:
    """One worker process, as the service sees it."""

    def __init__(self, memory_budget: int) -> None:
        """Start it.

        Raises:
            OSError: it cannot be started.
        """
        environment = {name: value for name in _INHERITED if (value := os.environ.get(name))}
        root = str(Path(service.__file__).parents[1])
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, (root, environment.get("PYTHONPATH"))))
        self._source = _shared_memory()
        self._is_gone = False
        self._process = subprocess.Popen(  # noqa: S603 - the project's own program
            [sys.executable, "-P", "-m", "service.images.worker", str(self._source), str(memory_budget)],
            pass_fds=[self._source],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            bufsize=0,
            # A terminal's Ctrl-C is for the service, which ends its workers.
            process_group=0,
        )
        if self._process.stdin is None or self._process.stdout is None:
            raise AssertionError("both were asked for")
        self._requests, self._answers = self._process.stdin.fileno(), self._process.stdout.fileno()
        self._readable = select.poll()
        self._readable.register(self._answers, select.POLLIN)
        self._source_bytes = 0
        self.is_idle = False
        """True if it waits for a request."""

    @property
    def has_ended(self) -> bool:
        return self._process.poll() is not None

    def send_file(self, request: dict[str, Any], data: bytes) -> None:
        """Ask for the thumbnails of a file. Raise _Ended."""
        written = 0
        while written < len(data):
            written += os.pwrite(self._source, memoryview(data)[written:], written)
        self._source_bytes = max(self._source_bytes, len(data))
        self.send({**request, "bytes": len(data)})

    def send(self, fields: dict[str, Any]) -> None:
        """Send a frame, which the pipe holds whole. Raise _Ended."""
        self.is_idle = False
        try:
            os.write(self._requests, pack(fields))
        except BrokenPipeError:
            raise self._ended() from None

    def rest(self) -> None:
        """Be idle from now on, and keep the memory of no large file."""
        if self._source_bytes > _KEPT_SOURCE_BYTES:
            os.ftruncate(self._source, 0)
            self._source_bytes = 0
        self.is_idle = True

    def receive(self, until: float) -> tuple[_Answer, bytes]:
        """Return the next frame. Raise TimeoutError, _Ended."""
        fields_bytes, payload_bytes = LENGTHS.unpack(self._read(LENGTHS.size, until))
        if fields_bytes > _MOST_FIELDS_BYTES or payload_bytes > _MOST_PAYLOAD_BYTES:
            raise _Ended("announced an answer that is too long")
        try:
            answer = _Answer.model_validate_json(self._read(fields_bytes, until))
        except ValidationError as error:
            raise _Ended("gave an answer that makes no sense") from error
        return answer, self._read(payload_bytes, until)

    def kill(self) -> None:
        if self._is_gone:
            return
        self._is_gone = True
        self._process.kill()
        # In the middle of a system call it may take its time.
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(1)
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe:
                pipe.close()
        os.close(self._source)

    def _read(self, size: int, until: float) -> bytes:
        parts: list[bytes] = []
        while size:
            if not self._readable.poll(max(0.0, until - time.monotonic()) * 1000):
                raise TimeoutError
            try:
                part = os.read(self._answers, size)
            except OSError as error:  # The pool was closed meanwhile.
                raise _Ended("was ended") from error
            if not part:
                raise self._ended()
            parts.append(part)
            size -= len(part)
        return b"".join(parts)

    def _ended(self) -> _Ended:
        try:
            status = self._process.wait(1)
        except subprocess.TimeoutExpired:
            return _Ended("closed its pipe")
        if status >= 0:
            return _Ended(f"ended with exit status {status}")
        return _Ended(f"ended with {Signals(-status).name}", was_killed=-status == SIGKILL)


class DecoderPool:
    """Makes thumbnails in worker processes; threads may share it.

    A thread borrows a worker for one image. Another thread, of the pool's own, starts the workers and replaces those
    that have ended.
    """

    def __init__(self, workers: int, memory_budget: int, max_seconds: float) -> None:
        """Begin to start so many workers; wait for none of them.

        Args:
            workers: number of processes.
            memory_budget: most bytes that one may ever use for decoding.
            max_seconds: longest time for one image, without waits for memory.
        """
        self.unfiltered: str = ""
        """Why workers may make system calls that they need not; empty if they may not, or none has started."""
        self.workers = workers
        self._memory_budget = memory_budget
        self._max_seconds = max_seconds
        self._idle = SimpleQueue[_Worker | DecoderUnavailable]()
        self._wanted = SimpleQueue[Callable[[], None] | None]()
        self._running: set[_Worker] = set()
        self._is_closed = False
        for _ in range(workers):
            self._wanted.put(self._start)
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
        try:
            return self._try(request, data, specs, reserve)
        except _Ended:
            pass
        try:
            return self._try(request, data, specs, reserve)
        except _Ended as error:
            if error.was_killed:
                raise PictureTooLarge(f"its decoder {error}, as happens when there is no memory left") from error
            raise DecoderCrashed(f"its decoder {error}, twice") from error

    def close(self) -> None:
        """End all workers."""
        self._is_closed = True
        self._wanted.put(None)
        for worker in tuple(self._running):
            worker.kill()
        for _ in range(self.workers):
            self._idle.put(DecoderUnavailable("the process is about to end"))

    def _try(
        self, request: dict[str, Any], data: bytes, specs: Sequence[ThumbnailSpec], reserve: Reserve
    ) -> list[Thumbnail]:
        with self._borrowed() as worker, ExitStack() as held:
            try:
                worker.send_file(request, data)
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
            if answer.thumbnails is not None:
                thumbnails = _thumbnails(answer.thumbnails, payload, specs)
                worker.rest()
                return thumbnails
            worker.rest()
            if answer.code in _REJECTIONS:
                raise _REJECTIONS[answer.code](answer.reason[:_LONGEST_REASON])
            if answer.defect is not None:
                raise RuntimeError(f"a worker failed by a defect: {answer.defect}")
            worker.is_idle = False
            raise _Ended("gave an answer that makes no sense")

    def _deadline(self) -> float:
        return time.monotonic() + self._max_seconds

    @contextmanager
    def _borrowed(self) -> Iterator[_Worker]:
        worker = self._take()
        try:
            yield worker
        finally:
            if worker.is_idle:
                self._idle.put(worker)
            else:
                self._replace(worker)

    def _take(self) -> _Worker:
        while True:
            try:
                worker = self._idle.get(timeout=START_SECONDS)
            except Empty:
                raise DecoderUnavailable(f"no process that decodes became free within {START_SECONDS:g} s") from None
            if isinstance(worker, DecoderUnavailable):
                self._wanted.put(self._start)
                raise worker
            if not worker.has_ended:
                return worker
            self._replace(worker)

    def _replace(self, worker: _Worker) -> None:
        self._running.discard(worker)
        worker.kill()
        self._wanted.put(self._start)

    def _start_workers(self) -> None:
        while start := self._wanted.get():
            try:
                start()
            except _Ended as error:
                if self._is_closed:
                    return
                unavailable = DecoderUnavailable(f"no process that decodes could be started: it {error}")
                log.error("no decoder", code=unavailable.code, reason=str(unavailable))
                self._idle.put(unavailable)

    def _start(self) -> None:
        try:
            worker = _Worker(self._memory_budget)
        except OSError as error:
            raise _Ended(f"could not be created: {error}") from error
        self._running.add(worker)
        try:
            answer, _ = worker.receive(time.monotonic() + START_SECONDS)
        except (TimeoutError, _Ended) as error:
            self._running.discard(worker)
            worker.kill()
            raise _Ended(str(error) or f"was not ready within {START_SECONDS:g} s") from error
        if answer.unfiltered and not self.unfiltered:
            self.unfiltered = answer.unfiltered
            log.warning("decoders are not confined", reason=answer.unfiltered)
        if self._is_closed:
            worker.kill()
        worker.rest()
        self._idle.put(worker)


def _shared_memory() -> int:
    """Return a file descriptor of memory that a worker may read; of a file without a name if the system has no such."""
    if sys.platform == "linux":
        return os.memfd_create("source")
    with TemporaryFile() as file:
        return os.dup(file.fileno())


def _thumbnails(made: Sequence[_Made], payload: bytes, specs: Sequence[ThumbnailSpec]) -> list[Thumbnail]:
    """Return a worker's thumbnails. Raise _Ended if they are not what was asked for."""
    if len(made) != len(specs) or sum(each.bytes for each in made) != len(payload):
        raise _Ended("answered with other thumbnails than were asked for")
    thumbnails: list[Thumbnail] = []
    start = 0
    for each, spec in zip(made, specs, strict=True):
        row = FORMATS.get(each.format)
        is_too_large = each.width > spec.box.width or each.height > spec.box.height
        if not row or not row.output_extension or is_too_large or (each.is_damaged and not spec.shows_damaged):
            raise _Ended("answered with other thumbnails than were asked for")
        data = payload[start : start + each.bytes]
        size = each.width, each.height
        thumbnails.append(
            Thumbnail(
                spec, data, row, each.is_converted, *size, each.is_whole, each.from_preview, is_damaged=each.is_damaged
            )
        )
        start += each.bytes
    return thumbnails
