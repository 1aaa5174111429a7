"""The right to make a run's plan: an object that one task creates and renews, while the others wait.

Storage only: knows no plan.
"""

import json
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from service.errors import NameTaken, ObjectNotFound, PermissionMissing
from service.storage.addresses import FolderLocation, ObjectLocation
from service.storage.base import ObjectStore

LEASE_SECONDS = 30.0
"""Seconds that a lease holds. It is renewed several times within them."""

HOLDER_KEY = "holder"


def create_if_absent(
    store: ObjectStore, location: ObjectLocation, content: object, metadata: Mapping[str, str]
) -> bool:
    """Write a JSON object if the name holds none; return False if it does."""
    try:
        store.write(
            location,
            json.dumps(content, indent=1).encode(),
            content_type="application/json",
            cache_control=None,
            metadata=metadata,
            if_generation=0,
        )
    except NameTaken:
        return False
    except PermissionMissing:
        # Without the right to replace, storage may say "forbidden" of a name that is taken.
        try:
            store.stat(location)
        except ObjectNotFound:
            pass
        else:
            return False
        raise
    return True


class Lease:
    """One task's view of a lease: held by this task, or by another one until it lapses."""

    def __init__(self, store: ObjectStore, folder: FolderLocation, task_index: int) -> None:
        """Assemble; ask nothing of the store.

        An attempt at the same task goes on with the lease of the attempt before.
        """
        self._store = store
        self._folder = folder
        self._task_index = task_index
        self._holder = f"task {task_index}"
        self._number = 0
        self._lapses_at = 0.0
        """On this process's clock: when the other's lease lapses, or when ours is to be renewed; 0 if unknown."""

    def acquire(self) -> bool:
        """Take the lease; return False if another task holds it."""
        location = self._folder / f"planning-{self._number:05}.json"
        if create_if_absent(self._store, location, {"task_index": self._task_index}, {HOLDER_KEY: self._holder}):
            self._lapses_at = time.monotonic() + LEASE_SECONDS / 4
            return True
        try:
            lease = self._store.stat(location)
        except ObjectNotFound:  # Somebody has removed it.
            self._lapses_at = time.monotonic()
            return False
        if lease.metadata.get(HOLDER_KEY) == self._holder:
            self._lapses_at = time.monotonic() + LEASE_SECONDS / 4
            return True
        # Clocks of two machines may differ: no lease is waited for longer than it can hold.
        left = lease.created + timedelta(seconds=LEASE_SECONDS) - datetime.now(UTC)
        self._lapses_at = time.monotonic() + min(max(0, left.total_seconds()), LEASE_SECONDS)
        return False

    @property
    def seconds_left(self) -> float:
        """Seconds until the lease has to be looked at again; 0 if it has lapsed."""
        return max(0.0, self._lapses_at - time.monotonic())

    def take_over(self) -> bool:
        """Take the lease that follows the one that has lapsed; return False if another task has it."""
        self._number += 1
        return self.acquire()

    def renew(self) -> None:
        """Go on holding the lease, once a quarter of its time has passed."""
        if self._lapses_at and not self.seconds_left:
            self.take_over()
