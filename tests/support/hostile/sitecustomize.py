"""Made decoders for PNM files: what follows a file's header says what its decoder does to its process.

Python imports this module at its start wherever this folder is in PYTHONPATH.
"""

import ctypes
import fcntl
import os
import signal
import socket
import subprocess
import sys
import termios
from collections.abc import Callable
from itertools import repeat
from pathlib import Path
from typing import Any

from PIL import Image, PpmImagePlugin


def _eat() -> None:
    hoard = [bytearray(16 * 1024 * 1024) for _ in repeat(None)]
    raise AssertionError(len(hoard))


def _fill() -> None:
    source = int(sys.argv[1])
    os.ftruncate(source, 1 << 30)
    os.pwrite(source, bytes(1 << 20), 1 << 20)


def _hang() -> None:
    while True:
        pass


def _fail() -> None:
    raise StopIteration("stop iteration here")  # Pillow raises nothing like it.


def _join_service() -> None:
    os.setpgid(0, os.getpgid(os.getppid()))
    os.kill(0, signal.SIGKILL)


def _signal_by_pipe() -> None:
    fcntl.fcntl(0, fcntl.F_SETOWN, os.getppid())


def _type() -> None:
    fcntl.ioctl(2, termios.TIOCSTI, b"x")


def _shout() -> None:
    for descriptor in (1, 2):
        os.write(descriptor, b"a library's complaint\n")


def _answer() -> None:
    for descriptor in range(3, 20):
        try:
            os.write(descriptor, b"\x10\0\0\0\0\0\0\0\0\0\0\0" + b'{"thumbnails":[]}')
        except OSError:
            continue


DEEDS: dict[str, Callable[[], object]] = {
    "crash": lambda: ctypes.string_at(0),
    "abort": os.abort,
    "hang": _hang,
    "eat": _eat,
    "fill": _fill,
    "exit": lambda: os._exit(0),
    "shout": _shout,
    "answer": _answer,
    "defect": _fail,
    "connect": lambda: socket.create_connection(("127.0.0.1", 80)),
    "kill": lambda: os.kill(os.getppid(), signal.SIGKILL),
    "kill all": lambda: os.kill(-1, signal.SIGKILL),
    "join": _join_service,
    "own": _signal_by_pipe,
    "type": _type,
    "start": lambda: subprocess.run([sys.executable, "-c", "print('started')"], check=True),
    "fork": os.fork,
    "write": lambda: Path("/tmp/hostile-was-here").write_text(""),  # noqa: S108 - is refused
    "remove": Path(__file__).unlink,
    "read": Path("/etc/passwd").read_bytes,
    "secrets": lambda: [os.environ[name] for name in ("INPUT_FOLDER",)],
}


class HostileImage(PpmImagePlugin.PpmImageFile):
    """A PNM picture that does a deed once it is decoded."""

    def load(self) -> Any:  # noqa: ANN401 - Pillow names no class
        """Do it."""
        if self.tile and self.fp:
            self.fp.seek(0)
            deed = DEEDS.get(self.fp.read().rpartition(b"\n")[2].decode(errors="replace"))
            self.fp.seek(0)
            if deed:
                deed()
        return super().load()


Image.register_open("PPM", HostileImage, PpmImagePlugin._accept)
