"""Calls ahead of their turn; `test_bounded.py` has those in any order."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

import pytest

from service.errors import ShuttingDown, StorageUnavailable
from service.process import Stop
from service.runs.ahead import map_ahead, read_ahead
from tests.support.assembly import StopWhen
from tests.support.waiting import until


@pytest.fixture(scope="module")
def executor() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as pool:
        yield pool


def fail_from(first: int) -> Iterator[int]:
    yield from range(first)
    raise StorageUnavailable("the next page did not come")


def test_results_come_in_the_order_of_the_items_however_long_each_takes(executor: ThreadPoolExecutor) -> None:
    third = threading.Event()

    def call(item: int) -> int:
        if item == 2:
            third.set()
        elif item == 0:
            third.wait(20)
        return item * 10

    made = list(map_ahead(executor, call, range(20), ahead=4, stop=Stop()))
    assert made == [(item, item * 10) for item in range(20)]
    assert third.is_set()


def test_no_more_items_are_taken_ahead_than_may_be(executor: ThreadPoolExecutor) -> None:
    taken, hung = list[int](), threading.Event()

    def items() -> Iterator[int]:
        for item in range(100):
            taken.append(item)
            yield item

    def call(item: int) -> int:
        hung.wait(20)
        return item

    results = map_ahead(executor, call, items(), ahead=3, stop=Stop())
    with ThreadPoolExecutor(1) as other:
        first = other.submit(next, results)
        until(lambda: taken == [0, 1, 2, 3])
        hung.set()
        assert first.result(20) == (0, 0)


def test_what_comes_before_a_failure_has_its_turn(executor: ThreadPoolExecutor) -> None:
    results = map_ahead(executor, lambda item: item, fail_from(3), ahead=4, stop=Stop())
    assert [item for item, _ in islice(results, 3)] == [0, 1, 2]
    with pytest.raises(StorageUnavailable, match="next page"):
        next(results)


def test_a_call_that_fails_fails_in_its_turn(executor: ThreadPoolExecutor) -> None:
    def call(item: int) -> int:
        if item == 1:
            raise StorageUnavailable("it was not looked up")
        return item

    results = map_ahead(executor, call, range(5), ahead=4, stop=Stop())
    assert next(results) == (0, 0)
    with pytest.raises(StorageUnavailable, match="not looked up"):
        next(results)


def test_a_call_that_hangs_is_not_waited_for_once_it_is_to_stop(executor: ThreadPoolExecutor) -> None:
    hangs, ended = threading.Event(), threading.Event()

    def hang(_: int) -> None:
        hangs.set()
        ended.wait(30)

    try:
        with pytest.raises(ShuttingDown):
            list(map_ahead(executor, hang, range(9), ahead=4, stop=StopWhen(hangs.is_set)))
    finally:
        ended.set()


def test_an_executor_that_is_shut_down_meanwhile_ends_it() -> None:
    with ThreadPoolExecutor(1) as pool:
        begun, ended = threading.Event(), threading.Event()

        def call(item: int) -> int:
            begun.set()
            ended.wait(30)
            return item

        with ThreadPoolExecutor(1) as other:
            all_of_them = other.submit(list, map_ahead(pool, call, range(5), ahead=4, stop=Stop()))
            begun.wait(20)
            pool.shutdown(wait=False, cancel_futures=True)
            ended.set()
            with pytest.raises(ShuttingDown):
                all_of_them.result(20)


def test_an_item_is_read_while_the_one_before_is_worked_on(executor: ThreadPoolExecutor) -> None:
    read = [threading.Event() for _ in range(4)]

    def items() -> Iterator[int]:
        for item, event in enumerate(read):
            event.set()
            yield item

    for item in (ahead := read_ahead(executor, items(), Stop())):
        assert read[min(item + 1, 3)].wait(20)
    assert list(ahead) == []


def test_what_was_read_before_a_failure_is_yielded(executor: ThreadPoolExecutor) -> None:
    items = read_ahead(executor, fail_from(3), Stop())
    assert list(islice(items, 3)) == [0, 1, 2]
    with pytest.raises(StorageUnavailable, match="next page"):
        next(items)
