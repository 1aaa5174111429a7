"""The images that a run has in flight: a bounded number, on threads that the whole process shares."""

import math
import time
from collections.abc import Callable
from concurrent.futures import Executor, Future
from contextvars import copy_context
from threading import Condition

from service.errors import ShuttingDown
from service.storage.base import StoredObject
from service.thumbnailer import Outcome

GRACE_SECONDS = 5
"""What images in flight get once a run is to stop; Cloud Run gives the process ten seconds."""

_POLL_SECONDS = 0.2

Landed = Callable[[StoredObject, Outcome | BaseException], None]
"""Is told what became of an image; by one thread at a time."""


class Flight:
    """Takes images and tells what became of each, exactly once."""

    def __init__(
        self, executor: Executor, window: int, make: Callable[[StoredObject], Outcome], landed: Landed
    ) -> None:
        """Assemble.

        Args:
            executor: runs images side by side.
            window: how many may be in flight at once.
            make: does one image.
            landed: told the outcome, the exception that `make` raised, or ShuttingDown where the image was left.
        """
        self._executor = executor
        self._window = window
        self._make = make
        self._landed = landed
        self._in_flight: dict[int, StoredObject] = {}
        self._taken = 0
        self._changed = Condition()

    def take(self, found: StoredObject, should_stop: Callable[[], bool]) -> bool:
        """Wait for a place in flight and hand the image over; False if it is to stop."""
        with self._changed:
            while len(self._in_flight) >= self._window and not should_stop():
                self._changed.wait(_POLL_SECONDS)
            if should_stop():
                return False
            self._taken += 1
            number = self._taken
            self._in_flight[number] = found
        try:
            # The lines of the log that an image causes say whose they are.
            future = self._executor.submit(copy_context().run, self._make, found)
        except RuntimeError:  # The executor was shut down: the process is about to end.
            with self._changed:
                del self._in_flight[number]
            return False
        context = copy_context()
        future.add_done_callback(lambda done: context.run(self._done, number, done))
        return True

    def drain(self, should_stop: Callable[[], bool]) -> None:
        """Wait for what is in flight; once it is to stop, only so long."""
        deadline = math.inf
        with self._changed:
            while self._in_flight and time.monotonic() < deadline:
                self._changed.wait(_POLL_SECONDS)
                if should_stop():
                    deadline = min(deadline, time.monotonic() + GRACE_SECONDS)
            left = list(self._in_flight.values())
            self._in_flight.clear()
            for found in left:
                self._landed(found, ShuttingDown(f"it was not done {GRACE_SECONDS} s after the run was stopped"))

    def _done(self, number: int, future: Future[Outcome]) -> None:
        """The outermost edge of a worker thread."""
        with self._changed:
            if (found := self._in_flight.pop(number, None)) is None:
                return  # It was given up, and that was told.
            if future.cancelled():
                self._landed(found, ShuttingDown("the process ended before this image's turn"))
            else:
                self._landed(found, future.exception() or future.result())
            self._changed.notify_all()
