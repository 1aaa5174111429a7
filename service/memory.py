"""How much memory there is, and who may use it: sources that are held, and pictures that are decoded.

Whoever needs memory says how much, and waits, first come first served, while it is taken.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Condition

_MEBIBYTE = 1024 * 1024
_PROCESS_BYTES = 160 * _MEBIBYTE
"""What the process takes without any picture, measured, with some room."""

_SMALLEST_BUDGET = 64 * _MEBIBYTE
_LIMIT_FILES = ("memory.max", "memory/memory.limit_in_bytes")
"""Of the container, in version 2 and version 1 of Linux control groups, below `/sys/fs/cgroup`."""


def memory_limit(cgroups: Path = Path("/sys/fs/cgroup")) -> int:
    """Return the bytes that this process may use: the container's limit, or the machine's memory if that is less."""
    limits = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    for name in _LIMIT_FILES:
        try:
            limits.append(int((cgroups / name).read_text()))
        except (OSError, ValueError):
            continue  # There is no such file, or it says "max".
    return min(limits)


def decoding_budget(limit: int) -> int:
    """Return what of a limit decoding may use at once; sources that are held may use half as much again."""
    return max(_SMALLEST_BUDGET, (limit - _PROCESS_BYTES) * 2 // 3)


class Budget:
    """An amount of memory that threads share, first come first served."""

    def __init__(self, total: int, users: int = sys.maxsize) -> None:
        """Start with all of it free.

        Args:
            total: bytes.
            users: how many may hold some of it at once.
        """
        self.total = total
        self._free = total
        self._places = users
        self._changed = Condition()
        self._queue: list[object] = []

    @contextmanager
    def reserve(self, wanted: int) -> Iterator[None]:
        """Wait for so many bytes and hold them; what is more than all there is waits until nobody else holds any."""
        share = min(wanted, self.total)
        ticket = object()
        with self._changed:
            self._queue.append(ticket)
            try:
                self._changed.wait_for(lambda: self._queue[0] is ticket and self._places > 0 and self._free >= share)
                self._free -= share
                self._places -= 1
            finally:
                self._queue.remove(ticket)
                self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self._free += share
                self._places += 1
                self._changed.notify_all()
