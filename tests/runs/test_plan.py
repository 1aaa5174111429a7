import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, tzinfo
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import InvalidValue, PermissionMissing, ServiceError, ShuttingDown
from service.process import Stop
from service.runs.lease import HOLDER_KEY, Lease
from service.runs.partition import NameSample, range_between
from service.runs.plan import Plan, obtain_plan, read_plan
from service.runs.request import RunParameters, RunRequest
from service.storage.addresses import ALL_NAMES, FolderLocation, NameRange
from service.storage.base import Page
from tests.support.assembly import HOUR, StopWhen, make_service
from tests.support.memory_store import MemoryStore, create_only
from tests.support.waiting import until as wait_until

FENCE = FolderLocation("photos", "in/")
PLAN = "gs://photos/thumbnail-runs/mine/plan.json"
LEASES = "thumbnail-runs/mine/planning-"


@pytest.fixture
def store() -> MemoryStore:
    store = MemoryStore("photos")
    for number in range(10):
        store.put(f"gs://photos/in/{number}.jpg", b"")
    return store


@pytest.fixture(scope="module")
def executor() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as pool:
        yield pool


NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\r\n"), min_size=1, max_size=4)


class Planner:
    """One task that makes or waits for a plan, step by step."""

    def __init__(self, store: MemoryStore, executor: ThreadPoolExecutor, index: int = 0, tasks: int = 4,
                 shape: str = "100x100", **fields: str) -> None:  # fmt: skip
        self.service = make_service(store, executor, thumbnail_sizes=shape)
        request = RunRequest.model_validate({"task_index": index, "task_count": tasks, "run_id": "mine"} | fields)
        self.params = RunParameters.of(request, self.service.settings, HOUR)
        self.lease = Lease(store, self.params.run_folder, index)

    def planned(self) -> Plan | None:
        return read_plan(self.params, self.service)

    def make(self, first_page: Page, should_stop: Callable[[], bool] = lambda: False) -> Plan:
        return obtain_plan(self.params, self.service, self.lease, first_page, StopWhen(should_stop))

    def wait(self, should_stop: Callable[[], bool] = lambda: False) -> Plan:
        return self.wait_with(StopWhen(should_stop))

    def wait_with(self, stop: Stop) -> Plan:
        return obtain_plan(self.params, self.service, self.lease, None, stop)


class Clock(Stop):
    """The time that a lease sees. A wait passes at once, and `after_wait` is what happens meanwhile."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__()
        self.seconds = 0.0
        self.after_wait: Callable[[], None] = lambda: None
        self._start = datetime.now(UTC)
        monkeypatch.setattr("service.runs.lease.time", SimpleNamespace(monotonic=lambda: self.seconds))
        monkeypatch.setattr("service.runs.lease.datetime", SimpleNamespace(now=self._now))

    @property
    def now(self) -> datetime:
        return self._start + timedelta(seconds=self.seconds)

    def wait(self, seconds: float) -> bool:
        assert seconds > 0
        self.seconds += seconds
        assert self.seconds < 3600, "nobody waits for so long"
        self.after_wait()
        return False

    def _now(self, _: tzinfo) -> datetime:
        return self.now


def make(planner: Planner, store: MemoryStore, should_stop: Callable[[], bool] = lambda: False) -> Plan:
    return planner.make(store.list_page(FENCE), should_stop)


def put_lease(store: MemoryStore, number: int, created: datetime, task: int = 0) -> None:
    uri = f"gs://photos/{LEASES}{number:05}.json"
    store.put(uri, b"{}", "application/json", metadata={HOLDER_KEY: f"task {task}"}, created=created)


def test_a_plan_says_where_each_chunk_begins_and_is_read_back_by_any_task(
    store: MemoryStore, executor: ThreadPoolExecutor
) -> None:
    made = make(Planner(store, executor), store)
    assert made.boundaries == ("in/2.jpg", "in/5.jpg", "in/7.jpg")
    assert (made.total, made.sizes) == (10, (2, 3, 2, 3))
    assert Planner(store, executor, 3).planned() == made
    written = json.loads(store.held(PLAN).data)
    assert written["timestamp"] == "20251203T15Z"


def test_the_first_planner_makes_the_plan_and_a_later_one_takes_it(
    store: MemoryStore, executor: ThreadPoolExecutor
) -> None:
    first = make(Planner(store, executor), store)
    store.delete("gs://photos/in/0.jpg")
    assert make(Planner(store, executor, 1), store) == first


def test_a_plan_whose_write_was_answered_with_a_failure_is_read_back(
    store: MemoryStore, executor: ThreadPoolExecutor
) -> None:
    first = make(Planner(store, executor), store)
    # Without the right to replace, storage may say "forbidden" of a name that is taken.
    store.fault = lambda kind, _: PermissionMissing("no") if kind == "bookkeeping write" else None
    assert make(Planner(store, executor), store) == first


def test_without_the_right_to_create_there_is_no_plan(store: MemoryStore, executor: ThreadPoolExecutor) -> None:
    store.fault = lambda kind, _: PermissionMissing("no") if kind == "bookkeeping write" else None
    with pytest.raises(PermissionMissing):
        make(Planner(store, executor), store)


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({"tasks": 5}, "task_count"),
        ({"input_folder": "gs://photos/in/deep"}, "input_folder"),
        ({"timestamp": "20251203T16Z"}, "timestamp"),
        ({"shape": "200x200"}, "run_id"),
    ],
)
def test_an_id_that_belongs_to_another_run_is_refused(
    store: MemoryStore, executor: ThreadPoolExecutor, asked: dict[str, Any], field: str
) -> None:
    make(Planner(store, executor), store)
    with pytest.raises(InvalidValue, match="another run_id") as caught:
        Planner(store, executor, **asked).planned()
    assert caught.value.field == field


SINCE = "2025-12-03T15:00:00Z"


@pytest.mark.parametrize("since", [{}, {"since": "36h"}, {"since": "2025-12-03T16:00:00+01:00"}])
def test_an_id_is_refused_with_other_words_for_since(
    store: MemoryStore, executor: ThreadPoolExecutor, since: dict[str, Any]
) -> None:
    make(Planner(store, executor, since=SINCE), store)
    with pytest.raises(InvalidValue, match=f"'mine' was planned with, '{SINCE}'; another run needs") as caught:
        Planner(store, executor, 1, **since).planned()
    assert caught.value.field == "since"


def test_a_task_that_comes_later_with_the_same_age_joins_the_plan_and_its_moment(
    store: MemoryStore, executor: ThreadPoolExecutor
) -> None:
    made = make(Planner(store, executor, since="36h"), store)
    assert Planner(store, executor, 1, since="36h").planned() == made


def test_a_plan_with_created_is_joined_without_a_timestamp_and_refused_to_run(
    store: MemoryStore, executor: ThreadPoolExecutor
) -> None:
    made = make(Planner(store, executor, timestamp="created"), store)
    assert Planner(store, executor, 1).planned() == made
    with pytest.raises(InvalidValue, match="'run' is not what the run 'mine' was planned with, 'created'") as caught:
        Planner(store, executor, 1, timestamp="run").planned()
    assert caught.value.field == "timestamp"


def test_a_plan_with_an_hour_is_joined_with_run(store: MemoryStore, executor: ThreadPoolExecutor) -> None:
    made = make(Planner(store, executor, timestamp="20260101T00Z"), store)
    assert Planner(store, executor, 1, timestamp="run").planned() == made


def test_a_plan_that_cannot_be_read_is_said_to_be_so(store: MemoryStore, executor: ThreadPoolExecutor) -> None:
    store.put(PLAN, b"{", "application/json")
    with pytest.raises(InvalidValue, match=PLAN):
        Planner(store, executor).planned()


def test_one_of_many_plans_and_the_others_list_nothing(store: MemoryStore, executor: ThreadPoolExecutor) -> None:
    everybody = threading.Barrier(8)

    def take_part(index: int) -> Plan:
        mine = Planner(store, executor, index, 8)
        everybody.wait(20)
        if plan := mine.planned():
            return plan
        if mine.lease.acquire():
            return make(mine, store)
        return mine.wait()

    with ThreadPoolExecutor(8) as tasks:
        plans = list(tasks.map(take_part, range(8)))
    assert len({plan.model_dump_json() for plan in plans}) == 1
    assert store.calls["list"] == 1


def test_a_planner_that_has_died_is_replaced_once_its_lease_has_run_out(
    store: MemoryStore, executor: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.runs.lease.LEASE_SECONDS", 0.2)
    assert Planner(store, executor, 0).lease.acquire()
    second, third = Planner(store, executor, 1), Planner(store, executor, 2)
    assert not second.lease.acquire()
    assert not third.lease.acquire()
    plan = second.wait()
    assert plan.total == 10
    assert third.wait() == plan


def test_a_planner_that_is_at_work_keeps_its_lease(
    store: MemoryStore, executor: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.runs.lease.LEASE_SECONDS", 1.0)
    first, second = Planner(store, executor, 0), Planner(store, executor, 1)
    assert first.lease.acquire()
    assert not second.lease.acquire()
    store.page_size = 5
    first_page = store.list_page(FENCE)

    def wait_for_renewals(kind: str, _: object) -> None:
        if kind == "list":
            wait_until(lambda: len(store.names("photos", LEASES)) >= 5)

    store.fault = wait_for_renewals
    with ThreadPoolExecutor(1) as other:
        waiting = other.submit(second.wait)
        plan = first.make(first_page)
        assert waiting.result(20) == plan
    assert len(store.names("photos", LEASES)) >= 5


def test_what_is_no_image_keeps_the_lease_too_and_can_be_stopped_at(
    store: MemoryStore, executor: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.runs.lease.LEASE_SECONDS", 0.0)
    for number in range(5):
        store.put(f"gs://photos/in/notes-{number}.txt", b"text", "text/plain")
    store.page_size = 1
    mine = Planner(store, executor)
    assert mine.lease.acquire()
    make(mine, store)
    assert len(store.names("photos", LEASES)) >= 16
    with pytest.raises(ShuttingDown):
        make(mine, store, lambda: True)


def test_a_lease_whose_answer_was_lost_is_still_ours(store: MemoryStore, executor: ThreadPoolExecutor) -> None:
    mine = Planner(store, executor)
    assert mine.lease.acquire()
    assert mine.lease.acquire()
    assert not Planner(store, executor, 1).lease.acquire()


def test_a_planner_that_is_tried_again_goes_on_at_once_and_renews_its_lease(
    store: MemoryStore, executor: ThreadPoolExecutor
) -> None:
    assert Planner(store, executor, 2).lease.acquire()
    assert Planner(store, executor, 2).lease.acquire()
    assert store.names("photos", LEASES) == [f"{LEASES}00000.json", f"{LEASES}00001.json"]


def test_a_lease_that_has_lapsed_is_taken_over_with_the_next_number_after_one_listing(
    store: MemoryStore, executor: ThreadPoolExecutor
) -> None:
    for number in range(8):
        put_lease(store, number, datetime.now(UTC) - timedelta(minutes=1))
    assert Planner(store, executor, 1).lease.acquire()
    assert store.calls == {"bookkeeping list": 1, "bookkeeping write": 1}
    assert store.names("photos", LEASES)[-1] == f"{LEASES}00008.json"


def test_a_lease_that_was_renewed_often_is_looked_at_with_one_request(
    store: MemoryStore, executor: ThreadPoolExecutor
) -> None:
    for number in range(100):
        put_lease(store, number, datetime.now(UTC) - timedelta(seconds=100 - number))
    assert not Planner(store, executor, 1).lease.acquire()
    assert store.calls == {"bookkeeping list": 1}


def test_a_lease_is_taken_over_although_another_task_is_first_with_the_next_number(
    store: MemoryStore, executor: ThreadPoolExecutor
) -> None:
    put_lease(store, 0, datetime.now(UTC) - timedelta(minutes=1))

    def be_first(kind: str, _: object) -> None:
        if kind == "bookkeeping write" and len(store.names("photos", LEASES)) == 1:
            put_lease(store, 1, datetime.now(UTC), task=2)

    store.fault = be_first
    mine = Planner(store, executor, 1).lease
    assert not mine.acquire()
    assert 29 < mine.seconds_left <= 30
    assert len(store.names("photos", LEASES)) == 2


def test_a_lease_is_not_waited_for_longer_than_it_can_hold_although_clocks_differ(
    store: MemoryStore, executor: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(monkeypatch)
    put_lease(store, 0, clock.now + timedelta(hours=1))
    mine = Planner(store, executor, 1)
    assert not mine.lease.acquire()
    assert mine.wait_with(clock).total == 10
    assert clock.seconds == pytest.approx(30)


def test_a_task_that_waits_for_ten_minutes_asks_every_five_seconds_and_for_the_lease_twice_a_minute(
    store: MemoryStore, executor: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(monkeypatch)
    planned = make(Planner(MemoryStore("photos"), executor), store)

    def hold_the_lease() -> None:
        put_lease(store, int(clock.seconds / 7.5), clock.now - timedelta(seconds=clock.seconds % 7.5))
        if clock.seconds >= 600:
            store.put(PLAN, planned.model_dump_json(by_alias=True).encode(), "application/json")

    hold_the_lease()
    mine = Planner(store, executor, 1)
    clock.after_wait = hold_the_lease
    store.calls.clear()
    assert not mine.lease.acquire()
    assert mine.wait_with(clock) == planned
    assert set(store.calls) == {"bookkeeping stat", "bookkeeping list", "bookkeeping read"}
    assert 110 <= store.calls["bookkeeping stat"] <= 160
    assert 20 <= store.calls["bookkeeping list"] <= 30
    assert store.calls["bookkeeping read"] == 1


def test_to_plan_takes_no_right_but_to_create(
    store: MemoryStore, executor: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.runs.lease.LEASE_SECONDS", 0.0)  # Each page has the lease renewed.
    store.page_size = 1
    store.fault = create_only(store)
    first, second = Planner(store, executor), Planner(store, executor, 1)
    assert first.lease.acquire()
    assert second.lease.acquire()
    assert make(first, store) == make(second, store)
    assert len(store.names("photos", LEASES)) > 10


def test_planning_ends_when_it_is_told_to(store: MemoryStore, executor: ThreadPoolExecutor) -> None:
    with pytest.raises(ShuttingDown):
        make(Planner(store, executor), store, lambda: True)
    assert store.names("photos", "thumbnail-runs/mine/plan") == []


def test_waiting_for_a_plan_ends_when_it_is_told_to(store: MemoryStore, executor: ThreadPoolExecutor) -> None:
    assert Planner(store, executor).lease.acquire()
    mine = Planner(store, executor, 1)
    assert not mine.lease.acquire()
    with pytest.raises(ShuttingDown):
        mine.wait(lambda: True)


def test_boundaries_are_looked_up_where_not_every_name_was_kept(
    store: MemoryStore, executor: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.runs.partition._MOST_BYTES", 200)
    assert make(Planner(store, executor), store).boundaries == ("in/2.jpg", "in/5.jpg", "in/7.jpg")


def test_what_is_deleted_while_boundaries_are_looked_up_leaves_them_in_order(
    store: MemoryStore, executor: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.runs.partition._MOST_BYTES", 200)

    def delete(kind: str, _: object) -> ServiceError | None:
        if kind == "list" and store.calls["list"] == 2:
            for name in store.names("photos", "in/")[1:]:
                store.delete(f"gs://photos/{name}")
        return None

    store.fault = delete
    boundaries = make(Planner(store, executor), store).boundaries
    assert len(boundaries) == 3
    assert list(boundaries) == sorted(boundaries)


@given(names=st.sets(NAMES), tasks=st.integers(1, 9), probes=st.lists(st.text(max_size=4)))
def test_every_possible_name_is_in_exactly_one_chunk(names: set[str], tasks: int, probes: list[str]) -> None:
    sample = NameSample()
    ordered = sorted(names)
    sample.add(ordered)
    boundaries = tuple(boundary.name for boundary in sample.boundaries(tasks))
    ranges = [range_between(boundaries, index) for index in range(tasks)]
    for name in {*names, *probes}:
        assert sum(name in part and not part.is_empty for part in ranges) == 1
    sizes = [sum(name in part for name in ordered) for part in ranges]
    assert max(sizes) - min(sizes) <= 1
    assert all(before.end == after.start for before, after in pairwise(ranges))
    assert (ranges[0].start, ranges[-1].end) == (ALL_NAMES.start, ALL_NAMES.end)


def test_a_range_without_names_is_empty() -> None:
    assert NameRange("b", "b").is_empty
    assert NameRange("", "").is_empty
    assert not NameRange("", None).is_empty
