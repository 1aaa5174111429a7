"""Program of a worker process: makes thumbnails of one file after another, and can do nothing else.

Reads requests from file descriptor 0 and writes answers to 1, until the service closes them. The files are in memory
that it shares with the service.
"""

import faulthandler
import gc
import json
import mmap
import os
import resource
import signal
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import Any, BinaryIO

from service.errors import ImageRejected
from service.images import sandbox
from service.images.frames import LENGTHS, pack, spec_from_json
from service.images.thumbnail import make_thumbnails
from service.images.validation import FileBytes
from service.memory import tune_malloc

FREE_BYTES = 8 * 1024 * 1024
"""Memory that a worker takes without asking: photos that are decoded at a fraction of their size need no more."""
_MARGIN = 64 * 1024 * 1024
"""Address space beyond what was estimated: for the threads of libraries and for what they touch only in part."""
KEPT_BYTES = 4 * 1024 * 1024
"""Freed memory that the process keeps. With less a web image takes a tenth more time."""
_POPULATE = getattr(mmap, "MAP_POPULATE", 0)
"""Map all pages at once, mmap(2); other systems than Linux do it page by page."""
_LATE_IMPORTS = (
    "PIL.BmpImagePlugin", "PIL.GifImagePlugin", "PIL.ImageColor", "PIL.ImageFilter", "PIL.ImagePalette",
    "PIL.JpegImagePlugin", "PIL.MpoImagePlugin", "PIL.PngImagePlugin", "PIL.PpmImagePlugin", "PIL.TiffImagePlugin",
)  # fmt: skip
"""Modules that Pillow imports when it needs them, which it cannot once no file can be opened."""
_NICENESS = 10
"""Of a decoder, nice(1): the service's own process is quick, and comes first so that all decoders have work."""
_STATM = Path("/proc/self/statm")
"""The size of this process in pages, proc(5)."""


class _NotGranted(Exception):
    """The service does not grant the memory, and knows why."""


class _Worker:
    def __init__(self, requests: BinaryIO, answers: BinaryIO, source: int, memory_budget: int) -> None:
        self._requests = requests
        self._answers = answers
        self._source = source
        # No file can be opened later.
        self._statm = os.open(_STATM, os.O_RDONLY) if _STATM.exists() else None
        if self._statm is not None:
            most = self._bytes_in_use(self._statm) + memory_budget + _MARGIN
            resource.setrlimit(resource.RLIMIT_AS, (most, most))

    def serve(self) -> None:
        """Answer requests until there are no more."""
        while request := self._receive():
            self._answer(request)

    def send(self, fields: dict[str, Any], payload: bytes = b"") -> None:
        self._answers.write(pack(fields, len(payload)) + payload)
        self._answers.flush()

    def _receive(self) -> dict[str, Any] | None:
        """Return the next frame; None if the service is gone."""
        lengths = self._requests.read(LENGTHS.size)
        if len(lengths) < LENGTHS.size:
            return None
        fields: dict[str, Any] = json.loads(self._requests.read(LENGTHS.unpack(lengths)[0]))
        return fields

    def _answer(self, request: dict[str, Any]) -> None:
        specs = [spec_from_json(values) for values in request["specs"]]
        try:
            made = make_thumbnails(
                self._map(request["bytes"]), specs, max_pixels=request["max_pixels"], reserve=self._reserve
            )
        except _NotGranted:
            return
        except ImageRejected as error:
            self.send({"code": error.code, "reason": str(error)})
        except Exception:  # noqa: BLE001 - a defect is answered with its traceback, which the service logs
            self.send({"defect": traceback.format_exc()})
        else:
            thumbnails = [
                {
                    "format": each.format.name,
                    "is_converted": each.is_converted,
                    "width": each.width,
                    "height": each.height,
                    "is_whole": each.is_whole,
                    "from_preview": each.from_preview,
                    "is_damaged": each.is_damaged,
                    "bytes": len(each.data),
                }
                for each in made
            ]
            self.send({"thumbnails": thumbnails}, b"".join(each.data for each in made))

    def _map(self, size: int) -> FileBytes:
        flags = mmap.MAP_SHARED | _POPULATE
        return mmap.mmap(self._source, size, flags=flags, prot=mmap.PROT_READ) if size else b""

    @contextmanager
    def _reserve(self, wanted: int) -> Iterator[None]:
        if wanted > FREE_BYTES:
            self.send({"reserve": wanted})
            answer = self._receive()
            if answer is None or not answer["granted"]:
                raise _NotGranted
        with self._limited_to(wanted):
            yield

    @contextmanager
    def _limited_to(self, wanted: int) -> Iterator[None]:
        """Let allocations fail that take much more than was estimated."""
        if self._statm is None:
            yield
            return
        _, most = resource.getrlimit(resource.RLIMIT_AS)
        limit = min(self._bytes_in_use(self._statm) + wanted + _MARGIN, most)
        resource.setrlimit(resource.RLIMIT_AS, (limit, most))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_AS, (most, most))

    @staticmethod
    def _bytes_in_use(statm: int) -> int:
        return int(os.pread(statm, 64, 0).split()[0]) * mmap.PAGESIZE


def main() -> None:
    """Serve until the service is gone."""
    sandbox.end_with_parent()
    # The service decides when to end.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    os.nice(_NICENESS)
    tune_malloc(KEPT_BYTES)
    # What a library prints to standard output goes where its complaints go.
    answers = os.dup(1)
    os.dup2(2, 1)
    faulthandler.enable()
    for name in _LATE_IMPORTS:
        import_module(name)
    # All of it stays: no garbage collection need look through it.
    gc.freeze()
    source, memory_budget = map(int, sys.argv[1:])
    with os.fdopen(0, "rb", closefd=False) as requests, os.fdopen(answers, "wb") as replies, suppress(BrokenPipeError):
        worker = _Worker(requests, replies, source, memory_budget)
        worker.send({"unfiltered": sandbox.enter()})
        worker.serve()


if __name__ == "__main__":
    main()
