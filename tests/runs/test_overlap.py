"""A run begins at once: what does not need each other's answer is asked of storage at the same time."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Barrier, Event, get_ident

import pytest

from service.errors import BucketNotFound, InvalidValue, ServiceError, StorageUnavailable
from service.naming import Hour
from service.runs.ahead import begin
from service.runs.request import RunRequest
from service.storage.addresses import FolderLocation, ObjectLocation
from tests.support.assembly import HOUR, finished, make_task
from tests.support.memory_store import Fault, MemoryStore
from tests.support.pictures import jpeg

SMALL = jpeg(16, 12)
LATER = Hour("20251203T16Z")
FOLDER = "list gs://photos/in/"
HOUR_FOLDER = f"list gs://photos/{HOUR}/"
LOOK_FOR_PLAN = "bookkeeping stat gs://photos/thumbnail-runs/mine/plan.json"
WRITE_PLAN = "bookkeeping write gs://photos/thumbnail-runs/mine/plan.json"
WAIT_SECONDS = 30


@pytest.fixture
def store() -> MemoryStore:
    store = MemoryStore("photos")
    for number in range(3):
        store.put(f"gs://photos/in/{number}.jpg", SMALL)
    return store


def together(*calls: str) -> Fault:
    """Answer none of these calls before all of them have been made."""
    meet = Barrier(len(calls), timeout=WAIT_SECONDS)

    def fault(kind: str, where: ObjectLocation | FolderLocation) -> None:
        if f"{kind} {where}" in calls:
            meet.wait()

    return fault


def request(**fields: object) -> RunRequest:
    return RunRequest.model_validate({"run_id": "mine"} | fields)


@contextmanager
def no_thread_free() -> Iterator[ThreadPoolExecutor]:
    """An executor whose one thread is busy until the block ends."""
    with ThreadPoolExecutor(1) as executor:
        go_on = Event()
        executor.submit(go_on.wait, WAIT_SECONDS)
        try:
            yield executor
        finally:
            go_on.set()


@pytest.mark.parametrize("calls", [(LOOK_FOR_PLAN, FOLDER), (WRITE_PLAN, HOUR_FOLDER)])
def test_a_run_of_one_task_asks_two_things_at_once(
    store: MemoryStore, executor: ThreadPoolExecutor, calls: tuple[str, str]
) -> None:
    store.fault = together(*calls)
    assert finished(make_task(store, executor, request())).created == 3
    assert (store.calls["list"], store.calls["bookkeeping stat"], store.calls["bookkeeping write"]) == (2, 1, 3)


def test_a_run_begins_although_no_thread_is_free(store: MemoryStore) -> None:
    with no_thread_free() as executor:
        task = make_task(store, executor, request(dry_run=True))
        assert finished(task).created == 3
    assert store.calls["list"] == 2


def test_a_plan_for_something_else_is_refused_whatever_becomes_of_the_listing(
    store: MemoryStore, executor: ThreadPoolExecutor
) -> None:
    finished(make_task(store, executor, request(timestamp="created")))
    store.fault = lambda kind, _: StorageUnavailable("down") if kind == "list" else None
    with pytest.raises(InvalidValue, match="was planned with"):
        make_task(store, executor, request(timestamp=str(LATER))).open()


def test_a_bucket_that_is_not_there_is_told_before_the_answer_begins(executor: ThreadPoolExecutor) -> None:
    with pytest.raises(BucketNotFound, match="gs://photos"):
        make_task(MemoryStore("thumbs"), executor, request(), output_bucket="thumbs").open()


def test_a_run_that_another_has_planned_meanwhile_looks_at_the_hour_of_that_plan(
    store: MemoryStore, executor: ThreadPoolExecutor
) -> None:
    def meanwhile(kind: str, where: ObjectLocation | FolderLocation) -> None:
        if f"{kind} {where}" == WRITE_PLAN:
            store.fault = lambda *_: None
            assert finished(make_task(store, executor, request(timestamp=str(LATER)))).created == 3

    task = make_task(store, executor, request())
    task.open()
    store.fault = meanwhile
    task.work()
    assert (task.report().skipped, task.report().timestamp, store.calls["read"]) == (3, str(LATER), 3)


class TestBegin:
    """A call of one's own in another thread, if one is free."""

    def test_another_thread_makes_it(self, executor: ThreadPoolExecutor) -> None:
        assert settled(executor, get_ident) != get_ident()

    def test_an_exception_is_raised_where_the_result_is_asked_for(self, executor: ThreadPoolExecutor) -> None:
        def fail() -> None:
            raise StorageUnavailable("down")

        result = begin(executor, fail)
        with pytest.raises(ServiceError, match="down"):
            result()

    def test_if_no_thread_is_free_the_callers_own_makes_it_once(self) -> None:
        made: list[int] = []
        with no_thread_free() as executor:
            begin(executor, lambda: made.append(get_ident()))()
        assert made == [get_ident()]

    def test_if_the_executor_was_shut_down_the_callers_own_makes_it(self) -> None:
        executor = ThreadPoolExecutor(1)
        executor.shutdown()
        assert begin(executor, get_ident)() == get_ident()


def settled(executor: ThreadPoolExecutor, call: Callable[[], int]) -> int:
    """Begin a call, and ask for its result once it has been made."""
    made = Event()

    def noted() -> int:
        try:
            return call()
        finally:
            made.set()

    result = begin(executor, noted)
    assert made.wait(WAIT_SECONDS)
    return result()
