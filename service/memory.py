"""The memory limit of the container, settings of malloc, and budgets of memory that threads share.

A thread that needs memory reserves it before it uses it, and waits, first come first served, until it is free.
"""

import ctypes
import os
import re
import sys
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from mmap import PAGESIZE
from pathlib import Path, PurePosixPath
from threading import Condition

from service.errors import Overloaded

_MEBIBYTE = 1024 * 1024
_PROCESS_BYTES = 104 * _MEBIBYTE
"""Memory of the process without any picture: as measured, plus a margin."""
_SMALLEST_BUDGET = 64 * _MEBIBYTE
PATIENCE_SECONDS = 120
"""Longest wait of an image for memory: more than storage may hang, less than Pub/Sub waits for an answer."""

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8
"""Parameters of mallopt(3)."""

_CGROUPS = Path("/sys/fs/cgroup")
"""Mount point of cgroups on Linux. In a container the root is usually the container's own cgroup."""
_OWN_CGROUPS = Path("/proc/self/cgroup")
"""Names the cgroups of this process."""
_MEMBERSHIP = re.compile(r"^\d+:(.*?):(/.*)$", re.MULTILINE)
"""Controllers and path of a cgroup."""


def memory_limit(mount: Path = _CGROUPS, own: Path = _OWN_CGROUPS) -> int:
    """Return the bytes that this process may use: the smallest of its cgroups' limits and the machine's memory."""
    limits = list(_cgroup_limits(mount, own))
    with suppress(AttributeError, OSError, ValueError):  # Not every system tells.
        limits.append(os.sysconf("SC_PHYS_PAGES") * PAGESIZE)
    return min((limit for limit in limits if limit > 0), default=sys.maxsize)


def _cgroup_limits(mount: Path, own: Path) -> Iterator[int]:
    """Yield the limits of this process's cgroups and their parents, of versions 2 and 1. See cgroups(7)."""
    memberships: list[tuple[str, str]] = []
    with suppress(OSError):
        memberships = _MEMBERSHIP.findall(own.read_text())
    # Version 2 names no controller. A path with `..` leads out of what the container sees.
    own_paths = {
        controller: PurePosixPath(path)
        for controllers, path in memberships
        for controller in controllers.split(",")
        if ".." not in path.split("/")
    }
    for root, file, controller in (
        (mount, "memory.max", ""),
        (mount / "unified", "memory.max", ""),
        (mount / "memory", "memory.limit_in_bytes", "memory"),
    ):
        path = own_paths.get(controller, PurePosixPath("/"))
        for cgroup in (path, *path.parents):
            # No such file, or it says "max". Version 1 says nearly 2**63 if there is no limit.
            with suppress(OSError, ValueError):
                yield int((root / cgroup.relative_to("/") / file).read_text())


def decoding_budget(limit: int) -> int:
    """Return the share of a memory limit for decoding. Half as much again is for the sources held in memory."""
    return max(_SMALLEST_BUDGET, (limit - limit // 10 - _PROCESS_BYTES) * 2 // 3)


def tune_malloc(kept: int = 128 * 1024) -> None:
    """Make glibc return freed memory to the system, all but so many bytes; do nothing with another C library.

    By default glibc raises its thresholds, up to 32 MiB, to the size of what was freed last, and keeps much more:
    fifty pictures of 40 megapixels at once took a service beyond 512 MiB. With these settings they peak at 280 MiB.
    A smaller M_MMAP_THRESHOLD of 128 KiB made a phone photo take a tenth longer.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_TRIM_THRESHOLD, kept)
        mallopt(_MMAP_THRESHOLD, 4 * _MEBIBYTE)
        mallopt(_ARENA_MAX, 2)


class Budget:
    """A resource that threads share, first come first served."""

    def __init__(self, total: int, unit: str = "bytes of memory") -> None:
        """Start with the total free."""
        self.total = total
        self._unit = unit
        self._free = total
        self._changed = Condition()
        self._queue: deque[object] = deque()

    @contextmanager
    def reserve(self, wanted: int) -> Iterator[None]:
        """Wait until so much is free, and hold it. More than the total waits until all of it is free.

        Threads are served in order, even if a later one wants less: otherwise many small ones would keep a large one
        waiting for ever. Raise Overloaded after `PATIENCE_SECONDS`.
        """
        share = min(wanted, self.total)
        ticket = object()
        with self._changed:
            self._queue.append(ticket)
            try:
                if not self._changed.wait_for(
                    lambda: self._queue[0] is ticket and self._free >= share, PATIENCE_SECONDS
                ):
                    raise Overloaded(f"{share:,} {self._unit} did not become free within {PATIENCE_SECONDS} s")
                self._free -= share
            finally:
                # Also after an exception, such as Ctrl-C: the next thread is first now.
                self._queue.remove(ticket)
                self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self._free += share
                self._changed.notify_all()
