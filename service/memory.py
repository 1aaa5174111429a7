"""How much memory there is, and who may use it: sources that are held, and pictures that are decoded.

Whoever needs memory says how much, and waits, first come first served, while it is taken.
"""

import ctypes
import os
import sys
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from threading import Condition

from service.errors import Overloaded

_MEBIBYTE = 1024 * 1024
_PROCESS_BYTES = 104 * _MEBIBYTE
"""What the process takes without any picture, measured, with some room."""

_SMALLEST_BUDGET = 64 * _MEBIBYTE
PATIENCE_SECONDS = 120
"""How long an image waits for memory: longer than storage may hang, and less than Pub/Sub waits for an answer."""

_MALLOC_PARAMETERS = {-1: 128 * 1024, -3: 4 * 1024 * 1024, -8: 2}
"""For mallopt(3): M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX."""

_CGROUPS = Path("/sys/fs/cgroup")
_OWN_CGROUPS = Path("/proc/self/cgroup")


def memory_limit(mount: Path = _CGROUPS, own: Path = _OWN_CGROUPS) -> int:
    """Return the bytes that this process may use: the least of its control groups' limits and the machine's memory.

    Args:
        mount: where Linux shows control groups. In a container its top is usually the container's own group.
        own: the file that says which groups this process is in. A group's limit holds for those inside of it, too.
    """
    limits = [*_machine_memory(), *_group_limits(mount, own)]
    return min(limits, default=sys.maxsize)


def _machine_memory() -> Iterator[int]:
    try:
        pages, page_bytes = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return  # Not every system says.
    if pages > 0 and page_bytes > 0:
        yield pages * page_bytes


def _group_limits(mount: Path, own: Path) -> Iterator[int]:
    """The limits of this process's groups and of all around them, in version 2 and version 1 of control groups."""
    for files, name in (((mount, mount / "unified"), "memory.max"), ((mount / "memory",), "memory.limit_in_bytes")):
        version_2 = name == "memory.max"
        path = _own_group(own, version_2=version_2)
        for top in files:
            for group in (path, *path.parents):
                try:
                    # A version 1 without a limit says so with nearly 2 to the 63rd, which is more than any machine has.
                    limit = int((top / group.relative_to("/") / name).read_text())
                except (OSError, ValueError):
                    continue  # There is no such file, or it says "max".
                if limit > 0:
                    yield limit


def _own_group(own: Path, *, version_2: bool) -> PurePosixPath:
    """The path, from the mount's top, of the group whose memory counts; the top where it is not said."""
    try:
        lines = own.read_text().splitlines()
    except OSError:
        lines = []
    for line in lines:
        # number:controllers:path; 0 and no controllers are version 2's
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if (number == "0" and not controllers) if version_2 else ("memory" in controllers.split(",")):
            group = PurePosixPath(path)
            if group.is_absolute() and ".." not in group.parts:
                return group
    return PurePosixPath("/")


def decoding_budget(limit: int) -> int:
    """Return what of a limit decoding may use at once; sources that are held may use half as much again."""
    return max(_SMALLEST_BUDGET, (limit - limit // 10 - _PROCESS_BYTES) * 2 // 3)


def tune_malloc() -> None:
    """Have the C library return freed memory to the system at once, where it is one that can be told (glibc).

    By itself it raises its thresholds to what was freed last, up to 32 MiB, and keeps far more than that: fifty
    pictures of 40 megapixels at once took a service beyond 512 MiB, and with this they peak at 280. What is smaller
    than the threshold for mapping is used again; mapping all from 128 KiB on cost a phone photo a tenth more.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for parameter, value in _MALLOC_PARAMETERS.items():
            mallopt(parameter, value)


class Budget:
    """An amount of memory that threads share, first come first served."""

    def __init__(self, total: int) -> None:
        """Start with all of it, so many bytes, free."""
        self.total = total
        self._free = total
        self._changed = Condition()
        self._queue: deque[object] = deque()

    @contextmanager
    def reserve(self, wanted: int) -> Iterator[None]:
        """Wait for so many bytes and hold them; what is more than all there is waits until nobody else holds any.

        Who waits keeps those behind waiting, even for less: otherwise many small ones would keep a large one out.

        Raises:
            Overloaded: it was not free for `PATIENCE_SECONDS`.
        """
        share = min(wanted, self.total)
        ticket = object()
        holds = False
        try:
            with self._changed:
                self._queue.append(ticket)
                try:
                    if not self._changed.wait_for(
                        lambda: self._queue[0] is ticket and self._free >= share, PATIENCE_SECONDS
                    ):
                        raise Overloaded(f"{share:,} bytes of memory were not free for {PATIENCE_SECONDS} s")
                    self._free -= share
                    holds = True
                finally:
                    # Also when an exception, such as Ctrl-C, ends the wait: the next one is first now.
                    self._queue.remove(ticket)
                    self._changed.notify_all()
            yield
        finally:
            if holds:
                with self._changed:
                    self._free += share
                    self._changed.notify_all()
