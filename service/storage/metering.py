"""Counts the operations that storage serves, for whoever asked for them: by kind and storage class, as they are billed.

What storage refuses (HTTP 4xx and 5xx) is not billed and not counted (cloud.google.com/storage/pricing).
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from enum import Enum, auto
from threading import Lock

from service.storage.classes import StorageClass


class Operation(Enum):
    """A kind of operation. Listings and writes are of class A, the others of class B."""

    LIST = auto()
    WRITE = auto()
    DESCRIBE = auto()
    READ = auto()

    @property
    def is_class_a(self) -> bool:
        """True if it is billed as class A."""
        return self in {Operation.LIST, Operation.WRITE}


@dataclass(frozen=True, slots=True)
class Usage:
    """Operations, and bytes that were read."""

    operations: Counter[tuple[Operation, StorageClass]] = field(default_factory=Counter)
    bytes_read: Counter[StorageClass] = field(default_factory=Counter)

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(self.operations + other.operations, self.bytes_read + other.bytes_read)

    def __sub__(self, other: "Usage") -> "Usage":
        return Usage(self.operations - other.operations, self.bytes_read - other.bytes_read)

    def count(self, operation: Operation) -> int:
        """Return the number of operations of a kind."""
        return sum(number for (kind, _), number in self.operations.items() if kind is operation)


def listings(number: int) -> Usage:
    """Return the usage of so many listings.

    They have the price of the default class of the bucket. The service may not look it up, and takes it for Standard.
    """
    return Usage(Counter({(Operation.LIST, StorageClass.STANDARD): number}))


class Meter:
    """Counts operations, from any thread."""

    def __init__(self) -> None:
        """Start at nothing."""
        self._lock = Lock()
        self._usage = Usage()

    def add(self, operation: Operation, storage_class: StorageClass, size: int = 0) -> None:
        """Count an operation, and the bytes that it has read."""
        with self._lock:
            self._usage.operations[operation, storage_class] += 1
            self._usage.bytes_read[storage_class] += size

    def include(self, usage: Usage) -> None:
        """Count operations that were counted elsewhere."""
        with self._lock:
            self._usage += usage

    @property
    def usage(self) -> Usage:
        """A copy of the counts as of now."""
        with self._lock:
            return Usage(self._usage.operations.copy(), self._usage.bytes_read.copy())


_meter: ContextVar[Meter | None] = ContextVar("meter", default=None)


@contextmanager
def metered(meter: Meter) -> Iterator[None]:
    """Count with a meter until the block ends: here, and in threads that get a copy of this context.

    A meter that counted before includes what was counted then.
    """
    outer = _meter.get()
    before = _meter.set(meter)
    try:
        yield
    finally:
        _meter.reset(before)
        if outer:
            outer.include(meter.usage)


def count(operation: Operation, storage_class: StorageClass | None = None, size: int = 0) -> None:
    """Count an operation for the caller, if its operations are counted."""
    if meter := _meter.get():
        meter.add(operation, storage_class or StorageClass.STANDARD, size)
