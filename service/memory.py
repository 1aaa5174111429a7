"""The container's limits of memory and processors, settings of malloc, and memory budgets that threads share.

A thread that needs memory reserves it before it uses it, and waits, first come first served, until it is free.
"""

import ctypes
import math
import os
import re
import sys
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from mmap import PAGESIZE
from pathlib import Path, PurePosixPath
from threading import Lock

from service.errors import Overloaded

Reserve = Callable[[int], AbstractContextManager[None]]
"""Waits until this many bytes of memory are free for decoding, and holds them; raises if they never can be."""

_MEBIBYTE = 1024 * 1024
_SERVICE_BYTES = 92 * _MEBIBYTE
"""Memory of the service's own process without any picture: as measured, plus a margin."""
_WORKER_BYTES = 36 * _MEBIBYTE
"""Memory of a worker process: 14 MiB of its own, and what it may keep or take without asking."""
_SMALLEST_BUDGET = 64 * _MEBIBYTE
PATIENCE_SECONDS = 120
"""Longest wait of an image for memory: more than storage may hang, less than Pub/Sub waits for an answer."""

_MOST_PASSES = 8
"""Small ones that are served in a row while others wait."""

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
    limits = [_number(text) for text in _cgroup_files(mount, own, "memory", "memory.max", "memory.limit_in_bytes")]
    with suppress(AttributeError, OSError, ValueError):  # Not every system tells.
        limits.append(os.sysconf("SC_PHYS_PAGES") * PAGESIZE)
    return min((limit for limit in limits if limit > 0), default=sys.maxsize)


def count_processors(mount: Path = _CGROUPS, own: Path = _OWN_CGROUPS) -> int:
    """Return how many processors this process may use, at least 1: those it may run on, or its cgroups' least quota."""
    counts = [os.cpu_count() or 1]
    with suppress(AttributeError):  # Linux alone tells.
        counts.append(len(os.sched_getaffinity(0)))
    for text in _cgroup_files(mount, own, "cpu", "cpu.max", "cpu.cfs_quota_us"):
        quota, _, period = text.partition(" ")
        # Only version 2 names the period here. The default is the same in both.
        counts.append(math.ceil(_number(quota) / (_number(period) or 100_000)))
    return max(1, min(count for count in counts if count > 0))


def _number(text: str) -> int:
    """Return the number in a cgroup's file; 0 for `max` and other words."""
    try:
        return int(text)
    except ValueError:
        return 0


def _cgroup_files(mount: Path, own: Path, controller: str, file: str, file_of_version_1: str) -> Iterator[str]:
    """Yield what a file says for this process's cgroups and their parents, of versions 2 and 1. See cgroups(7)."""
    memberships: list[tuple[str, str]] = []
    with suppress(OSError):
        memberships = _MEMBERSHIP.findall(own.read_text())
    # Version 2 names no controller. A path with `..` leads out of what the container sees.
    own_paths = {
        name: PurePosixPath(path)
        for names, path in memberships
        for name in names.split(",")
        if ".." not in path.split("/")
    }
    for root, name, group in (
        (mount, file, ""),
        (mount / "unified", file, ""),
        (mount / controller, file_of_version_1, controller),
    ):
        path = own_paths.get(group, PurePosixPath("/"))
        for cgroup in (path, *path.parents):
            with suppress(OSError, ValueError):  # There is no such file, or it is no text.
                yield (root / cgroup.relative_to("/") / name).read_text().strip()


def count_workers(limit: int, processors: int) -> int:
    """Return how many processes are to decode: one for each processor, in a quarter of the memory limit at most.

    If all together take no more than a twelfth of it, there is one more. It has an image when another process waits
    for its next one: 7 % more web images a second.
    """
    most = limit // _WORKER_BYTES
    return max(1, min(processors, most // 4), min(processors + 1, most // 12))


def decoding_budget(limit: int, workers: int) -> int:
    """Return the share of a memory limit for decoding. Half as much again is for the sources held in memory."""
    processes = _SERVICE_BYTES + workers * _WORKER_BYTES
    return max(_SMALLEST_BUDGET, (limit - limit // 10 - processes) * 2 // 3)


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


class _Ticket:
    """A thread's place in a queue."""

    __slots__ = ("is_served", "share", "turn")

    def __init__(self, share: int) -> None:
        self.share = share
        self.is_served = False
        self.turn = Lock()
        """Held until it is this thread's turn."""
        self.turn.acquire()


class Budget:
    """A resource that threads share, first come first served; what is small may pass what is not, a few times."""

    def __init__(self, total: int, unit: str = "bytes of memory") -> None:
        """Start with the total free."""
        self.total = total
        self._unit = unit
        self._free = total
        self._lock = Lock()
        self._small: deque[_Ticket] = deque()
        self._others: deque[_Ticket] = deque()
        self._passes = 0
        """How many small ones were served since the first of the others waits."""

    @contextmanager
    def reserve(self, wanted: int, *, is_small: bool = False) -> Iterator[None]:
        """Wait until so much is free, and hold it. More than the total waits until all of it is free.

        Threads are served in order, even if a later one wants less: otherwise many that want little would keep one that
        wants much waiting for ever. One that `is_small` waits for the small ones before it, and for few others.
        Raise Overloaded after `PATIENCE_SECONDS`.
        """
        share = min(wanted, self.total)
        self._take(share, self._small if is_small else self._others)
        try:
            yield
        finally:
            with self._lock:
                self._free += share
                self._serve()

    @property
    def waiting(self) -> int:
        """How many threads wait."""
        return len(self._small) + len(self._others)

    def _take(self, share: int, queue: deque[_Ticket]) -> None:
        with self._lock:
            if not self.waiting and self._free >= share:
                self._free -= share
                return
            ticket = _Ticket(share)
            queue.append(ticket)
            self._serve()
        is_served = False
        try:
            is_served = ticket.turn.acquire(timeout=PATIENCE_SECONDS)
        finally:
            # Also after an exception, such as Ctrl-C: the next thread is first now.
            if not is_served:
                with self._lock:
                    if ticket.is_served:
                        self._free += share
                    else:
                        queue.remove(ticket)
                    self._serve()
        if not is_served:
            raise Overloaded(f"{share:,} {self._unit} did not become free within {PATIENCE_SECONDS} s")

    def _serve(self) -> None:
        """Give the threads that are first what they want, as long as it is free. To be called with the lock held."""
        while self.waiting:
            passes = bool(self._small and self._others)
            queue = self._small if self._small and self._passes < _MOST_PASSES else self._others or self._small
            if queue[0].share > self._free:
                return
            ticket = queue.popleft()
            self._free -= ticket.share
            self._passes = self._passes + 1 if passes and queue is self._small else 0
            ticket.is_served = True
            ticket.turn.release()
