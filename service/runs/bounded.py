"""A bounded number of calls at once, on an executor that the whole process shares."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError, Executor, Future, wait
from contextvars import copy_context
from itertools import islice
from queue import Empty, SimpleQueue
from typing import TypeVar

from service.errors import ShuttingDown
from service.process import POLL_SECONDS, Stop

_Item = TypeVar("_Item")
_Made = TypeVar("_Made")


def map_bounded(
    executor: Executor,
    call: Callable[[_Item], _Made],
    items: Iterable[_Item],
    *,
    limit: int,
    stop: Stop,
    grace_seconds: float,
) -> Iterator[tuple[_Item, "Future[_Made]"]]:
    """Call with each item on the executor, at most `limit` at once; yield each item with its future, as it ends.

    Once it is to stop, or the executor is shut down, the next item fails with ShuttingDown, and so do the items in
    flight that have not ended `grace_seconds` later. If the iterator of items raises, the items in flight are yielded
    before the exception is raised.
    """
    in_flight: dict[Future[_Made], _Item] = {}
    ended = SimpleQueue[Future[_Made]]()
    failure: Exception | None = None
    try:
        for item in items:
            try:
                future = submit(executor, call, item, stop)
            except ShuttingDown as error:
                yield item, _failed(error)
                break
            in_flight[future] = item
            future.add_done_callback(ended.put)
            while len(in_flight) >= limit or not ended.empty():
                yield from _next_ended(ended, in_flight, stop, grace_seconds)
    except Exception as error:  # noqa: BLE001 - raised again once all items in flight have ended
        failure = error
    while in_flight:
        yield from _next_ended(ended, in_flight, stop, grace_seconds)
    if failure:
        raise failure


def map_ahead(
    executor: Executor, call: Callable[[_Item], _Made], items: Iterable[_Item], *, ahead: int, stop: Stop
) -> Iterator[tuple[_Item, _Made]]:
    """Call with each item on the executor, at most `ahead` before their turn; yield items with results, in their order.

    An exception of a call, or of the iterator of items, is raised when its turn comes.

    Raises:
        ShuttingDown: it is to stop, or the executor is shut down.
    """
    waiting = deque[tuple[_Item, Future[_Made]]]()
    failure: Exception | None = None

    def take() -> tuple[_Item, _Made]:
        item, future = waiting.popleft()
        return item, result_of(future, stop)

    iterator = iter(items)
    while failure is None:
        try:
            item = next(iterator)
            waiting.append((item, submit(executor, call, item, stop)))
        except StopIteration:
            break
        except Exception as error:  # noqa: BLE001 - raised again once all items before it had their turn
            failure = error
        while waiting and (len(waiting) > ahead or waiting[0][1].done()):
            yield take()
    while waiting:
        yield take()
    if failure:
        raise failure


def read_ahead(executor: Executor, items: Iterator[_Item], stop: Stop) -> Iterator[_Item]:
    """Yield the items, each of which is read on the executor while the one before is worked on.

    Raises:
        ShuttingDown: it is to stop, or the executor is shut down.
    """

    def read(_: None) -> list[_Item]:
        return list(islice(items, 1))

    following = submit(executor, read, None, stop)
    while item := result_of(following, stop):
        following = submit(executor, read, None, stop)
        yield item[0]


def result_of(future: "Future[_Made]", stop: Stop) -> _Made:
    """Wait for the result of a call on an executor; raise its exception if it has one.

    Raises:
        ShuttingDown: it is to stop, or the executor is shut down.
    """
    # Not `wait` alone, which does not see a call that was cancelled before it began.
    while not future.done():
        stop.raise_if_set("the run was stopped before its last image")
        wait([future], POLL_SECONDS)
    try:
        return future.result()
    except CancelledError:
        raise ShuttingDown("the process ended before its last image") from None


def _next_ended(
    ended: "SimpleQueue[Future[_Made]]", in_flight: "dict[Future[_Made], _Item]", stop: Stop, grace_seconds: float
) -> Iterator[tuple[_Item, "Future[_Made]"]]:
    """Yield the next item that ends, if one does soon; all of them, failed, if they had their time."""
    try:
        future = ended.get(timeout=POLL_SECONDS)
    except Empty:
        if stop.is_set_for(grace_seconds):
            error = ShuttingDown(f"it was not done {grace_seconds:g} s after the run was stopped")
            while in_flight:
                yield in_flight.popitem()[1], _failed(error)
    else:
        if future in in_flight:  # Else it was given up, and that was told.
            yield in_flight.pop(future), future


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


def _failed(error: Exception) -> "Future[_Made]":
    future: Future[_Made] = Future()
    future.set_exception(error)
    return future
