"""A bounded number of calls at once, on an executor that the whole process shares."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from contextvars import copy_context
from threading import Event
from typing import Any, Generic, TypeVar

from service.errors import ShuttingDown
from service.process import POLL_SECONDS, Stop

_Item = TypeVar("_Item")
_Made = TypeVar("_Made")

_SHARE = 8
"""The part of the calls that may have ended before others are submitted in their place."""


def map_bounded(
    executor: Executor,
    call: Callable[[_Item], _Made],
    items: Iterable[_Item],
    *,
    limit: int,
    stop: Stop,
    grace_seconds: float,
) -> Iterator[tuple[_Item, "Future[_Made]"]]:
    """Call with each item on the executor, `limit` submitted at most; yield each item with its future.

    Once it is to stop, or the executor is shut down, the next item fails with ShuttingDown, and so do calls that have
    not begun. Items in flight that have not ended `grace_seconds` later fail, too. If the iterator of
    items raises, the items in flight are yielded before the exception is raised.
    """
    calls = _Calls[_Item, _Made](max(1, limit // _SHARE))
    failure: Exception | None = None
    try:
        for item in items:
            try:
                calls.begin(item, submit(executor, call, item, stop))
            except ShuttingDown as error:
                yield item, _failed(error)
                break
            yield from calls.ended()
            while calls.count >= limit:
                yield from calls.await_some(stop, grace_seconds)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is raised below, after the items in flight
        failure = error
    while calls.count:
        yield from calls.await_some(stop, grace_seconds)
    if failure:
        raise failure


class _Calls(Generic[_Item, _Made]):
    """Calls in flight, whose ends are told several at a time: each time costs two switches of threads."""

    def __init__(self, batch: int) -> None:
        self._batch = batch
        self._in_flight: dict[Future[_Made], _Item] = {}
        self._ended = deque[Future[_Made]]()
        self._several_ended = Event()

    @property
    def count(self) -> int:
        return len(self._in_flight)

    def begin(self, item: _Item, future: "Future[_Made]") -> None:
        self._in_flight[future] = item
        future.add_done_callback(self._end)

    def ended(self) -> Iterator[tuple[_Item, "Future[_Made]"]]:
        """Yield the calls that have ended."""
        while self._ended:
            future = self._ended.popleft()
            if future in self._in_flight:  # Else it was given up, and that was told.
                yield self._in_flight.pop(future), _not_begun() if future.cancelled() else future

    def await_some(self, stop: Stop, grace_seconds: float) -> Iterator[tuple[_Item, "Future[_Made]"]]:
        """Yield the calls that have ended, once there are several or after a moment.

        Yield all others, failed, if they had their time.
        """
        self._several_ended.clear()
        if not self._are_several():
            self._several_ended.wait(POLL_SECONDS)
        yield from self.ended()
        if stop.is_set():
            for future in [future for future in self._in_flight if future.cancel()]:
                yield self._in_flight.pop(future), _not_begun()
        if stop.is_set_for(grace_seconds):
            error = ShuttingDown(f"it was not done {grace_seconds:g} s after the run was stopped")
            while self._in_flight:
                yield self._in_flight.popitem()[1], _failed(error)

    def _end(self, future: "Future[_Made]") -> None:
        self._ended.append(future)
        if self._are_several():
            self._several_ended.set()

    def _are_several(self) -> bool:
        return len(self._ended) >= min(self._batch, len(self._in_flight))


def submit(executor: Executor, call: Callable[[_Item], _Made], item: _Item, stop: Stop) -> "Future[_Made]":
    """Call with one item on the executor.

    Raises:
        ShuttingDown: it is to stop, or the executor is shut down.
    """
    stop.raise_if_set("the run was stopped before this image and those after it")
    try:
        # The lines of the log that an item causes say whose they are.
        return executor.submit(copy_context().run, call, item)
    except RuntimeError:  # The executor was shut down.
        raise ShuttingDown("the process ended before this image and those after it") from None


def _not_begun() -> "Future[Any]":
    return _failed(ShuttingDown("the run was stopped before this image's turn"))


def _failed(error: Exception) -> "Future[_Made]":
    future: Future[_Made] = Future()
    future.set_exception(error)
    return future
