"""Calls before their results are needed, on the executor that the whole process shares."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError, Executor, Future, wait
from contextvars import copy_context
from functools import partial
from itertools import islice
from typing import TypeVar

from service.errors import ShuttingDown
from service.process import POLL_SECONDS, Stop
from service.runs.bounded import submit

_Item = TypeVar("_Item")
_Made = TypeVar("_Made")


def begin(executor: Executor, call: Callable[[], _Made]) -> Callable[[], _Made]:
    """Begin a call in another thread; return a function that waits for its result, or raises its exception.

    The caller's thread makes the call itself if no other thread has come to it by then: images never delay it.
    """
    try:
        # The lines of the log that a call causes say whose they are.
        future = executor.submit(copy_context().run, call)
    except RuntimeError:  # The executor was shut down.
        return call
    return lambda: call() if future.cancel() else future.result()


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
        return item, result_of(future, partial(call, item), stop)

    iterator = iter(items)
    while failure is None:
        try:
            item = next(iterator)
            waiting.append((item, submit(executor, call, item, stop)))
        except StopIteration:
            break
        except Exception as error:  # noqa: BLE001 - whatever it is, it is raised below, after the items before it
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

    def read(_: None = None) -> list[_Item]:
        return list(islice(items, 1))

    following = submit(executor, read, None, stop)
    while item := result_of(following, read, stop):
        following = submit(executor, read, None, stop)
        yield item[0]


def result_of(future: "Future[_Made]", call: Callable[[], _Made], stop: Stop) -> _Made:
    """Wait for the result of a call on an executor; raise its exception if it has one.

    This thread makes the call itself if no other comes to it soon: images never delay a run.

    Raises:
        ShuttingDown: it is to stop, or the executor is shut down.
    """
    wait([future], POLL_SECONDS)
    if not future.cancelled() and future.cancel():
        return call()
    # Not `wait` alone, which does not see a call that was cancelled before it began.
    while not future.done():
        stop.raise_if_set("the run was stopped before its last image")
        wait([future], POLL_SECONDS)
    try:
        return future.result()
    except CancelledError:
        raise ShuttingDown("the process ended before its last image") from None
