"""Calls at once: how many, what becomes of each, and what a stop does to them."""

from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from itertools import islice
from threading import Barrier, Event, Lock
from typing import Any

import pytest

from service.errors import ShuttingDown
from service.process import Stop
from service.runs.bounded import map_bounded
from tests.support.waiting import until


class Calls:
    """A call that waits for a gate, and knows how many were inside of it."""

    def __init__(self) -> None:
        self.gate = Event()
        self.begun: list[int] = []
        self.inside = Event()
        self._wanted = 0
        self._lock = Lock()

    def await_begun(self, count: int) -> None:
        self._wanted = count
        assert len(self.begun) >= count or self.inside.wait(10)

    def __call__(self, item: int) -> int:
        with self._lock:
            self.begun.append(item)
            if len(self.begun) == self._wanted:
                self.inside.set()
        assert self.gate.wait(10)
        return item * 2


class Submitted(Executor):
    """Passes calls on to an executor, and keeps their futures."""

    def __init__(self, executor: Executor) -> None:
        self.futures: list[Future[Any]] = []
        self._executor = executor

    def submit(self, fn: Callable[..., Any], /, *args: object, **kwargs: object) -> "Future[Any]":
        self.futures.append(self._executor.submit(fn, *args, **kwargs))
        return self.futures[-1]


@pytest.fixture
def executor() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as threads:
        yield threads


@pytest.mark.parametrize("limit", [1, 3, 4, 64])
@pytest.mark.parametrize("count", [0, 1, 4, 5, 100])
def test_every_item_is_yielded_once_with_what_was_made_of_it(
    executor: ThreadPoolExecutor, limit: int, count: int
) -> None:
    made = list(map_bounded(executor, str, range(count), limit=limit, stop=Stop(), grace_seconds=1))
    assert sorted((item, future.result()) for item, future in made) == [(item, str(item)) for item in range(count)]


@pytest.mark.parametrize(("limit", "ahead"), [(1, 0), (16, 1), (64, 7)])
def test_no_item_is_taken_before_there_is_room(executor: ThreadPoolExecutor, limit: int, ahead: int) -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for item in range(300):
            taken.append(item)
            yield item

    made = map_bounded(executor, str, items(), limit=limit, stop=Stop(), grace_seconds=1)
    for yielded, _ in enumerate(made):
        assert len(taken) - yielded <= limit + ahead
    assert len(taken) == 300


def test_as_many_are_at_work_as_there_are_threads(executor: ThreadPoolExecutor) -> None:
    together = Barrier(4, timeout=10)
    made = map_bounded(executor, lambda _: together.wait(), range(8), limit=4, stop=Stop(), grace_seconds=1)
    assert len([future.result() for _, future in made]) == 8


def test_what_a_call_raises_is_its_items_alone(executor: ThreadPoolExecutor) -> None:
    made = dict(map_bounded(executor, (1).__truediv__, [0, 1], limit=2, stop=Stop(), grace_seconds=1))
    assert isinstance(made[0].exception(), ZeroDivisionError)
    assert made[1].result() == 1


def test_items_in_flight_are_yielded_before_their_iterator_raises(executor: ThreadPoolExecutor) -> None:
    def items() -> Iterator[int]:
        yield from range(3)
        raise ShuttingDown("no more")

    made = map_bounded(executor, str, items(), limit=9, stop=Stop(), grace_seconds=1)
    assert sorted(item for item, _ in islice(made, 3)) == [0, 1, 2]
    with pytest.raises(ShuttingDown, match="no more"):
        next(made)


@pytest.mark.parametrize("next_one", [False, True])
def test_a_stop_fails_the_next_item_and_calls_that_have_not_begun(
    executor: ThreadPoolExecutor, *, next_one: bool
) -> None:
    calls, stop, submitted = Calls(), Stop(), Submitted(executor)

    def items() -> Iterator[int]:
        yield from range(8)
        calls.await_begun(4)
        stop.set()
        if next_one:
            yield 8
            raise AssertionError("nothing is taken after a stop")

    made = map_bounded(submitted, calls, items(), limit=16, stop=stop, grace_seconds=60)
    with ThreadPoolExecutor(1) as other:
        rest = other.submit(dict[int, Future[int]], made)
        until(lambda: sum(future.cancelled() for future in submitted.futures) == 4)
        calls.gate.set()
    failed = {item for item, future in rest.result().items() if future.exception()}
    assert failed == set(rest.result()) - set(calls.begun)
    assert len(rest.result()) == 8 + next_one
    assert {type(rest.result()[item].exception()) for item in failed} == {ShuttingDown}
    assert all(rest.result()[item].result() == item * 2 for item in calls.begun)


def test_items_that_outlast_the_grace_fail(executor: ThreadPoolExecutor) -> None:
    calls, stop = Calls(), Stop()

    def items() -> Iterator[int]:
        yield from range(2)
        calls.await_begun(2)
        stop.set()

    made = dict(map_bounded(executor, calls, items(), limit=3, stop=stop, grace_seconds=0))
    calls.gate.set()
    assert {item: type(future.exception(0)) for item, future in made.items()} == {0: ShuttingDown, 1: ShuttingDown}


def test_an_executor_that_is_shut_down_fails_the_next_item() -> None:
    executor = ThreadPoolExecutor(1)
    executor.shutdown()
    ((item, future),) = map_bounded(executor, str, range(3), limit=2, stop=Stop(), grace_seconds=1)
    assert (item, type(future.exception())) == (0, ShuttingDown)
