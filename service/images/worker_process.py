"""One worker process, as the service sees it: its start, the frames to it and from it, its end."""

import os
import select
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from signal import SIGKILL, Signals
from tempfile import TemporaryFile
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

import service
from service.images.frames import LENGTHS, pack

_KEPT_SOURCE_BYTES = 8 * 1024 * 1024
"""Most memory that stays with an idle worker for the next file: that of a phone's photo."""
_MOST_FIELDS_BYTES = 1024 * 1024
_MOST_PAYLOAD_BYTES = 64 * 1024 * 1024
_PIPE_BYTES = 64 * 1024
"""Capacity of a pipe on Linux, pipe(7). Reading so many bytes at once gets most answers whole."""
_INHERITED = ("PYTHONPATH", "LD_LIBRARY_PATH")
"""Environment that an interpreter may need to find its modules. A worker gets no other of the service's."""
_HUGE_PAGES = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
"""Let large buffers be of huge pages if the system has any: a mixture of formats takes a tenth less processor time."""


class MadeThumbnail(BaseModel):
    """A thumbnail as a worker describes it."""

    model_config = ConfigDict(strict=True, extra="forbid")

    format: str
    is_converted: bool
    width: int = Field(gt=0)
    height: int = Field(gt=0)
    is_whole: bool
    from_preview: bool
    is_damaged: bool
    bytes: int = Field(gt=0)


class Answer(BaseModel):
    """The fields of a frame that a worker sends; see `frames`."""

    model_config = ConfigDict(strict=True, extra="forbid")

    unfiltered: str = ""
    reserve: Annotated[int, Field(ge=0)] | None = None
    thumbnails: list[MadeThumbnail] | None = None
    code: str | None = None
    reason: str = ""
    defect: str | None = None


class WorkerEnded(Exception):
    """A worker has ended, or answers nonsense."""

    def __init__(self, problem: str, *, was_killed: bool = False) -> None:
        super().__init__(problem)
        self.was_killed = was_killed


class WorkerProcess:
    """One worker process, as the service sees it."""

    def __init__(self, memory_budget: int) -> None:
        """Start it.

        Raises:
            OSError: it cannot be started.
        """
        environment = _HUGE_PAGES | {name: value for name in _INHERITED if (value := os.environ.get(name))}
        root = str(Path(service.__file__).parents[1])
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, (root, environment.get("PYTHONPATH"))))
        self._source = _shared_memory()
        self._is_gone = False
        try:
            self._process = subprocess.Popen(  # noqa: S603 - this interpreter, a module of this package, two integers
                [sys.executable, "-P", "-m", "service.images.worker", str(self._source), str(memory_budget)],
                pass_fds=[self._source],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=environment,
                bufsize=0,
                # A terminal's Ctrl-C is for the service, which ends its workers. Nor can they join its process group.
                start_new_session=True,
            )
        except OSError:
            os.close(self._source)
            raise
        if self._process.stdin is None or self._process.stdout is None:
            raise AssertionError("both were asked for")
        self._requests, self._answers = self._process.stdin.fileno(), self._process.stdout.fileno()
        self._readable = select.poll()
        self._readable.register(self._answers, select.POLLIN)
        self._received = bytearray()
        """Bytes of an answer that were read and not yet taken."""
        self._source_bytes = 0
        self.is_idle = False
        """True if it waits for a request."""

    def send_file(self, request: dict[str, Any], data: bytes) -> None:
        """Ask for the thumbnails of a file. Raise WorkerEnded if the process has ended before."""
        written = 0
        while written < len(data):
            written += os.pwrite(self._source, memoryview(data)[written:], written)
        self._source_bytes = max(self._source_bytes, len(data))
        self.send({**request, "bytes": len(data)})

    def send(self, fields: dict[str, Any]) -> None:
        """Send a frame, which the pipe holds whole. Raise WorkerEnded."""
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

    def receive(self, until: float) -> tuple[Answer, bytes]:
        """Return the next frame. Raise TimeoutError, WorkerEnded."""
        fields_bytes, payload_bytes = LENGTHS.unpack(self._read(LENGTHS.size, until))
        if fields_bytes > _MOST_FIELDS_BYTES or payload_bytes > _MOST_PAYLOAD_BYTES:
            most = _MOST_PAYLOAD_BYTES >> 20
            raise WorkerEnded(f"made thumbnails of more than {most} MiB (see THUMBNAIL_SIZES and ANIMATED)")
        try:
            answer = Answer.model_validate_json(self._read(fields_bytes, until))
        except ValidationError as error:
            raise WorkerEnded("gave an answer that makes no sense") from error
        return answer, self._read(payload_bytes, until)

    def kill(self) -> None:
        """End the process, and let go of its pipes and memory; do nothing the second time."""
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
        """Return so many bytes of what the worker has answered. Keep what came with them."""
        while len(self._received) < size:
            if not self._readable.poll(max(0.0, until - time.monotonic()) * 1000):
                raise TimeoutError
            try:
                part = os.read(self._answers, _PIPE_BYTES)
            except OSError as error:  # The pool was closed meanwhile.
                raise WorkerEnded("was ended") from error
            if not part:
                raise self._ended()
            self._received += part
        data = bytes(self._received[:size])
        del self._received[:size]
        return data

    def _ended(self) -> WorkerEnded:
        try:
            status = self._process.wait(1)
        except subprocess.TimeoutExpired:
            return WorkerEnded("closed its pipe")
        if status >= 0:
            return WorkerEnded(f"ended with exit status {status}")
        return WorkerEnded(f"ended with {Signals(-status).name}", was_killed=-status == SIGKILL)


def _shared_memory() -> int:
    """Return a file descriptor of memory that a worker may read; of a file without a name if the system has no such."""
    if sys.platform == "linux":
        return os.memfd_create("source")
    with TemporaryFile() as file:
        return os.dup(file.fileno())
