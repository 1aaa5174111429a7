"""The part of a listing that each task of a run has, by position and by name. Arithmetic alone, no listing."""

import sys
from dataclasses import dataclass

from service.errors import InvalidValue
from service.settings import MAX_TASKS
from service.storage.addresses import NameRange

_EXACT_UP_TO = 100_000
"""So many names are all kept; of more, every second, every fourth, and so on."""
_MOST_BYTES = 16 * 1024 * 1024
"""Of memory, with what Python takes for each name beside it."""
_REFERENCE_BYTES = 8
_TOLERANCE = 1000
"""One in so many images is what the chunks of a larger folder may differ by."""


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


class NameSample:
    """The names of a listing, of which it keeps as many as a fixed amount of memory holds, evenly spread."""

    def __init__(self) -> None:
        """Start with no name."""
        self.total = 0
        self._every = 1
        self._names: list[str] = []
        self._bytes = 0

    def add(self, name: str) -> None:
        """Take the next name of the listing."""
        if self.total % self._every == 0:
            self._names.append(name)
            self._bytes += sys.getsizeof(name) + _REFERENCE_BYTES
            if len(self._names) > _EXACT_UP_TO or self._bytes > _MOST_BYTES:
                del self._names[1::2]
                self._every *= 2
                self._bytes = sum(map(sys.getsizeof, self._names)) + _REFERENCE_BYTES * len(self._names)
        self.total += 1

    def boundaries(self, count: int) -> list[Boundary]:
        """Return the boundaries between the chunks of so many tasks.

        If the name at the exact position was not kept, and the next one that was is too far off, the boundary says how
        to find it: skip so many images from the one that was kept.
        """
        coarse = self._every * _TOLERANCE <= self.total // count
        starts = (Chunk(index, count).of(self.total).start for index in range(1, count))
        return [self._boundary(start, coarse=coarse) for start in starts]

    def _boundary(self, position: int, *, coarse: bool) -> Boundary:
        # Before the first image: the chunk begins with whatever name comes first, also one that is yet to come.
        if position == 0:
            return Boundary(0, "")
        kept, skip = divmod(position, self._every)
        if coarse or skip == 0:
            return Boundary(kept * self._every, self._names[kept] if kept else "")
        return Boundary(
            position, self._names[kept], skip, self._names[kept + 1] if kept + 1 < len(self._names) else None
        )


def range_between(boundaries: tuple[str, ...], index: int) -> NameRange:
    """Return the names of one chunk out of `len(boundaries) + 1`; all of them together cover every possible name."""
    return NameRange(
        boundaries[index - 1] if index else "",
        boundaries[index] if index < len(boundaries) else None,
    )
