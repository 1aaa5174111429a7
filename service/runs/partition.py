"""The part of a listing that each task of a run has, by position and by name. Arithmetic alone, no listing."""

import zlib
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Self

from service.errors import InvalidValue
from service.settings import MAX_TASKS
from service.storage.addresses import NameRange

_MOST_BYTES = 16 * 1024 * 1024
"""Of memory for names, compressed. If that is not enough for all of them, every second is kept, every fourth, …"""
_BYTES_BESIDE = 150
"""Memory that Python takes for the names of a page, beside the names themselves."""
_SEPARATOR = "\n"
"""No name has it (cloud.google.com/storage/docs/objects#naming)."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """Task `index` (from 0) of `count`, as Cloud Run Jobs number them."""

    index: int = 0
    count: int = 1

    def __post_init__(self) -> None:
        if self.count < 1:
            raise InvalidValue("task_count", self.count, "is less than 1")
        if self.count > MAX_TASKS:
            raise InvalidValue(
                "task_count", self.count, f"is more than {MAX_TASKS:,}, which is what Cloud Run Jobs allow"
            )
        if not 0 <= self.index < self.count:
            raise InvalidValue(
                "task_index", self.index, f"is outside 0 … {self.count - 1} (task_count is {self.count})"
            )

    @property
    def stem(self) -> str:
        """The beginning of the names of the task's objects in the folder of its run."""
        return f"task-{self.index:05}-of-{self.count:05}"

    def of(self, total: int) -> range:
        """The positions, out of `total`, that are this task's.

        The chunks of all tasks are contiguous, cover every position exactly once, and differ in size by at most one.
        """
        return range(self.index * total // self.count, (self.index + 1) * total // self.count)


@dataclass(frozen=True, slots=True)
class Boundary:
    """A position in a listing, told by a name before it: `skip` images after `name`, and before `limit`."""

    position: int
    name: str
    skip: int = 0
    limit: str | None = None


@dataclass(slots=True)
class _Kept:
    """Names that follow one another in a listing. The first is kept, and one in `every` of the others."""

    count: int
    every: int
    packed: bytes
    """Those that are kept."""

    @classmethod
    def of(cls, names: Sequence[str], count: int, every: int) -> Self:
        return cls(count, every, zlib.compress(_SEPARATOR.join(names).encode(), 1))

    @property
    def names(self) -> list[str]:
        return zlib.decompress(self.packed).decode().split(_SEPARATOR)

    @property
    def bytes(self) -> int:
        return len(self.packed) + _BYTES_BESIDE


class NameSample:
    """The names of a listing, of which it keeps as many as a fixed amount of memory holds, evenly spread.

    Ranges of the listing may be added side by side, each in its order.
    """

    def __init__(self) -> None:
        """Start with no name."""
        self.total = 0
        self._every = 1
        self._ranges = defaultdict[str, list[_Kept]](list)
        """By the start of each range."""
        self._bytes = 0

    def add(self, names: Sequence[str], range_start: str = "") -> None:
        """Take the next names of a range, which no other range has."""
        if not names:
            return
        self.total += len(names)
        range_ = self._ranges[range_start]
        if range_ and range_[-1].count + len(names) <= self._every:
            range_[-1].count += len(names)
            return
        kept = _Kept.of(names[:: self._every], len(names), self._every)
        range_.append(kept)
        self._bytes += kept.bytes
        while self._bytes > _MOST_BYTES and self._every < self.total:
            self._every *= 2
            self._ranges = defaultdict(list, {start: _thinned(kept) for start, kept in self._ranges.items()})
            self._bytes = sum(kept.bytes for range_ in self._ranges.values() for kept in range_)

    def boundaries(self, count: int) -> list[Boundary]:
        """Return the boundaries between the chunks of so many tasks.

        If the name at a position was not kept, the boundary says how to find it: skip so many images from one that was.
        """
        kept = [kept for _, range_ in sorted(self._ranges.items()) for kept in range_]
        starts = list(accumulate((each.count for each in kept), initial=0))
        boundaries: list[Boundary] = []
        place, names, first_after = -1, list[str](), list[str]()
        for position in (Chunk(index, count).of(self.total).start for index in range(1, count)):
            # Before the first image: the chunk begins with whatever name comes first, also one that is yet to come.
            if position == 0:
                boundaries.append(Boundary(0, ""))
                continue
            if (found := bisect_right(starts, position) - 1) != place:
                place, names = found, kept[found].names
                first_after = kept[found + 1].names[:1] if found + 1 < len(kept) else []
            offset = position - starts[place]
            nearest = min(offset // kept[place].every, len(names) - 1)
            skip = offset - nearest * kept[place].every
            following = [*names[nearest + 1 : nearest + 2], *first_after]
            limit = following[0] if skip and following else None
            boundaries.append(Boundary(position, names[nearest], skip, limit))
        return boundaries


def _thinned(range_: Iterable[_Kept]) -> list[_Kept]:
    """Keep every second one of the names."""
    thinned: list[_Kept] = []
    joins = False
    for kept in range_:
        names = kept.names
        joins = len(names) == 1 and bool(thinned) and not joins
        if joins:
            thinned[-1].count += kept.count
        else:
            thinned.append(_Kept.of(names[::2], kept.count, kept.every * 2))
    return thinned


def range_between(boundaries: tuple[str, ...], index: int) -> NameRange:
    """Return the names of one chunk out of `len(boundaries) + 1`; all of them together cover every possible name."""
    return NameRange(
        boundaries[index - 1] if index else "",
        boundaries[index] if index < len(boundaries) else None,
    )
