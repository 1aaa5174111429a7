"""Which part of a listing one task of many has: arithmetic alone, no listing."""

from dataclasses import dataclass

from service.errors import InvalidValue


@dataclass(frozen=True, slots=True)
class Chunk:
    """Task `index` (from 0) of `count`, as Cloud Run Jobs number them."""

    index: int = 0
    count: int = 1

    def __post_init__(self) -> None:
        if self.count < 1:
            raise InvalidValue("task_count", self.count, "is less than 1")
        if not 0 <= self.index < self.count:
            raise InvalidValue(
                "task_index", self.index, f"is outside 0 … {self.count - 1} (task_count is {self.count})"
            )

    def of(self, total: int) -> range:
        """The positions, out of `total`, that are this task's.

        The chunks of all tasks are contiguous, cover every position exactly once, and differ in size by at most one.
        """
        return range(self.index * total // self.count, (self.index + 1) * total // self.count)
