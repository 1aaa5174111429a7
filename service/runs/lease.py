"""The right to make a run's plan: an object that one task creates and renews, while the others wait.

Storage only: knows no plan.
"""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import PurePosixPath

from service.errors import NameTaken, ObjectNotFound, PermissionMissing
from service.naming import number_in
from service.storage.addresses import FolderLocation, NameRange, ObjectLocation
from service.storage.base import ObjectStore, StoredObject, refused

LEASE_SECONDS = 30.0
"""Seconds that a lease holds. It is renewed several times within them."""

HOLDER_KEY = "holder"
_PREFIX = "planning-"
_PAUSES = (0, 0.5, 1, 2)
"""Seconds before each try to create an object."""


def tries(wait: Callable[[float], object] = time.sleep) -> Iterator[None]:
    """Yield for each try to create an object whose name storage says is taken, although it may hold nothing."""
    for pause in _PAUSES:
        if pause:
            wait(pause)
        yield


def create(store: ObjectStore, location: ObjectLocation, content: object, metadata: Mapping[str, str]) -> None:
    """Write a JSON object under a name that holds none.

    Raises:
        NameTaken: see `ObjectStore.write`.
    """
    try:
        store.write(
            location,
            json.dumps(content, indent=1).encode(),
            content_type="application/json",
            cache_control=None,
            metadata=metadata,
            if_generation=0,
        )
    except PermissionMissing as error:
        # Without the right to replace, storage may say "forbidden" of a name that is taken.
        try:
            store.stat(location)
        except ObjectNotFound:
            raise error from None
        raise NameTaken(f"{location} is there already") from error


class Lease:
    """One task's view of a lease: held by this task, or by another one until it lapses.

    The lease is the newest of the run's numbered `planning-` objects. Its holder renews it with the next number, and so
    does another task that takes it over once it has lapsed. Nothing is replaced.
    """

    def __init__(self, store: ObjectStore, folder: FolderLocation, task_index: int) -> None:
        """Assemble; ask nothing of the store.

        An attempt at the same task goes on with the lease of the attempt before.
        """
        self._store = store
        self._folder = folder
        self._task_index = task_index
        self._holder = f"task {task_index}"
        self._look_at = 0.0
        """On this process's clock: when the other's lease lapses, or when ours is to be renewed; 0 if unknown."""
        self._waited_for: int | None = None
        """The generation of the other's lease."""

    def acquire(self) -> bool:
        """Take the lease, or renew it; return False if another task holds it.

        Raises:
            StorageUnavailable: storage says again and again that the next name is taken, and it holds nothing.
        """
        for _ in tries():
            newest = self._newest()
            if newest and newest.metadata.get(HOLDER_KEY) != self._holder and self._has_to_wait_for(newest):
                return False
            number = _number_of(newest) + 1 if newest else 0
            location = self._folder / f"{_PREFIX}{number:05}.json"
            try:
                create(self._store, location, {"task_index": self._task_index}, {HOLDER_KEY: self._holder})
            except NameTaken as error:
                refusal = error  # Another task was first, or a policy forbids the write: the next look tells.
            else:
                self._look_at = time.monotonic() + LEASE_SECONDS / 4
                return True
        raise refused(refusal) from refusal

    @property
    def seconds_left(self) -> float:
        """Seconds until the lease has to be looked at again; 0 if it has lapsed."""
        return max(0.0, self._look_at - time.monotonic())

    def renew(self) -> None:
        """Go on holding the lease, once a quarter of its time has passed."""
        if self._look_at and not self.seconds_left:
            self.acquire()

    def _has_to_wait_for(self, other: StoredObject) -> bool:
        """Return True if another's lease has not lapsed; `seconds_left` says how long it holds."""
        # Clocks of two machines may differ: from the first look on, this one's alone counts.
        if other.generation != self._waited_for:
            self._waited_for = other.generation
            left = (other.created - datetime.now(UTC)).total_seconds() + LEASE_SECONDS
            self._look_at = time.monotonic() + min(left, LEASE_SECONDS)
        return self.seconds_left > 0

    def _newest(self) -> StoredObject | None:
        start = f"{self._folder.prefix}{_PREFIX}"
        leases = self._store.list_objects(self._folder, NameRange(start, f"{start}:"))
        return max(leases, key=_number_of, default=None)


def _number_of(lease: StoredObject) -> int:
    return number_in(PurePosixPath(lease.location.name).stem.removeprefix(_PREFIX)) or 0
