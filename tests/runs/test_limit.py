"""Runs that may cost only so much."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from service.errors import InvalidValue, TooExpensive
from service.runs.plan import read_plan
from service.runs.report import RunReport
from service.runs.request import RunRequest
from service.storage.classes import StorageClass
from tests.support.assembly import Task, finished, make_service
from tests.support.memory_store import MemoryStore
from tests.support.pictures import jpeg

SMALL = jpeg(16, 12)
FREE_TIME = '{"vcpu_second": 0, "gib_second": 0}'
"""So that a run costs the same each time."""
WRITE, READ, LISTING = 0.000005, 0.0000004, 0.000005
BOOKKEEPING = 3 * WRITE
"""The plan, the manifest and the report."""


@pytest.fixture(autouse=True)
def one_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow machine writes no further report than the last one."""
    monkeypatch.setattr("service.runs.reporter.FIRST_SECONDS", 100.0)


@pytest.fixture(params=[1, 4], ids=["one at a time", "four at a time"])
def concurrency(request: pytest.FixtureRequest) -> int:
    found: int = request.param
    return found


def fill(
    store: MemoryStore, count: int, storage_class: StorageClass = StorageClass.STANDARD, folder: str = "in"
) -> None:
    for number in range(count):
        store.put(f"gs://photos/{folder}/{storage_class[0]}{number:04}.jpg", SMALL, storage_class=storage_class)


def task(store: MemoryStore, executor: ThreadPoolExecutor, request: dict[str, Any], **settings: Any) -> Task:  # noqa: ANN401
    service = make_service(store, executor, **{"prices": FREE_TIME} | settings)
    return Task(service, RunRequest.model_validate(request))


def run(store: MemoryStore, executor: ThreadPoolExecutor, request: dict[str, Any], **settings: Any) -> RunReport:  # noqa: ANN401
    return finished(task(store, executor, request, **settings))


class TestOneTask:
    @pytest.mark.parametrize("timestamp", ["20251203T15Z", "created"])
    def test_a_limit_that_is_exactly_the_cost_is_enough_and_a_little_less_stops_before_the_last_image(
        self, executor: ThreadPoolExecutor, timestamp: str, concurrency: int
    ) -> None:
        free, just, less = (MemoryStore("photos") for _ in range(3))
        for store in (free, just, less):
            fill(store, 20)
        request = {"timestamp": timestamp}
        cost = run(free, executor, request).cost.dollars
        # One listing is of the folder, and one of the hour: a look if it is empty, or at what is there.
        assert cost == pytest.approx(20 * (WRITE + READ) + 2 * LISTING + BOOKKEEPING, abs=1e-9)
        report = run(just, executor, request | {"max_dollars": cost}, concurrency=concurrency)
        assert (report.created, report.error) == (20, None)
        assert report.cost.dollars == cost
        report = run(less, executor, request | {"max_dollars": cost - 0.000001}, concurrency=concurrency)
        assert report.created == 19
        assert report.error
        assert report.error.code == "too_expensive"
        assert report.is_too_expensive
        assert report.cost.dollars <= cost - 0.000001
        assert less.calls["read"] == 19

    def test_it_says_what_is_left_and_goes_on_with_a_higher_limit(
        self, store: MemoryStore, executor: ThreadPoolExecutor, concurrency: int
    ) -> None:
        fill(store, 10)
        fill(store, 5, StorageClass.ARCHIVE, "in/z")
        request = {"run_id": "mine", "timestamp": "20251203T15Z"}
        report = run(store, executor, request | {"max_dollars": 0.0001}, concurrency=concurrency)
        assert report.created == 10
        assert report.error
        assert report.error.reason == (
            "max_dollars: 0.0001 would be passed by gs://photos/in/z/A0000.jpg, at 0.000134 dollars with what ends the "
            "run; 0.000069 were spent. 5 images that were listed are left; call again with a higher limit and the "
            "run_id 'mine' to go on"
        )
        # The same again costs no image; what was spent counts.
        with pytest.raises(TooExpensive) as caught:
            run(store, executor, request | {"max_dollars": 0.00007})
        assert "spent by earlier attempts" in str(caught.value)
        assert store.calls["read"] == 10
        report = run(store, executor, request | {"max_dollars": 1})
        assert (report.created, report.skipped, report.error) == (5, 10, None)
        assert store.calls["read"] == 15

    @pytest.mark.parametrize("limit", [0, 0.00001])
    def test_a_limit_that_does_not_pay_for_the_plan_is_refused_with_an_estimate_before_anything_is_written(
        self, store: MemoryStore, executor: ThreadPoolExecutor, limit: float
    ) -> None:
        fill(store, 3, StorageClass.ARCHIVE)
        there = store.names("photos")
        refused = task(store, executor, {"max_dollars": limit})
        with pytest.raises(TooExpensive, match=r"^max_dollars: [\d.e-]+ does not pay for the listing") as caught:
            finished(refused)
        assert caught.value.field == "max_dollars"
        assert caught.value.estimate
        assert caught.value.estimate["by_class"]["ARCHIVE"]["images"] == 3  # type: ignore[index]
        assert store.names("photos") == there
        assert store.calls["read"] == 0
        assert refused.report().is_too_expensive

    def test_a_run_that_was_whole_may_spend_as_much_when_it_is_called_again(
        self, store: MemoryStore, executor: ThreadPoolExecutor
    ) -> None:
        fill(store, 3)
        request = {"run_id": "mine", "timestamp": "20251203T15Z", "max_dollars": 0.00006}
        for number in range(4):
            assert run(store, executor, request).error is None
            store.put(f"gs://photos/in/new-{number}.jpg", SMALL)

    def test_listing_what_is_there_already_counts_too(self, store: MemoryStore, executor: ThreadPoolExecutor) -> None:
        fill(store, 3000)
        store.fault = lambda kind, _: pytest.fail("nothing is to be read") if kind == "read" else None
        report = run(
            store, executor, {"max_dollars": BOOKKEEPING + 3 * LISTING}, exclude="**/*", timestamp="20251203T15Z"
        )
        assert report.error
        assert "the next page of the listing" in report.error.reason
        assert "and those that come after them" in report.error.reason
        assert report.left_out == 1000
        assert report.cost.dollars <= BOOKKEEPING + 3 * LISTING

    def test_the_time_of_the_task_counts(self, store: MemoryStore, executor: ThreadPoolExecutor) -> None:
        fill(store, 3)
        dear = '{"vcpu_second": 1000}'
        with pytest.raises(TooExpensive):
            run(store, executor, {"max_dollars": 0.000001}, prices=dear)
        report = run(store, executor, {}, prices=dear)
        assert report.cost.dollars > 1

    def test_the_environment_has_a_limit_and_the_request_beats_it(
        self, store: MemoryStore, executor: ThreadPoolExecutor
    ) -> None:
        fill(store, 3)
        with pytest.raises(TooExpensive, match=r"^MAX_RUN_DOLLARS: 0\.0 does not pay"):
            run(store, executor, {}, max_run_dollars=0)
        assert run(store, executor, {"dry_run": True}, max_run_dollars=0).created == 3
        assert run(store, executor, {"max_dollars": 1}, max_run_dollars=0).created == 3


class TestManyTasks:
    def request(self, index: int, **fields: Any) -> dict[str, Any]:  # noqa: ANN401
        return {"task_index": index, "task_count": 3, "run_id": "mine", "timestamp": "20251203T15Z"} | fields

    def test_the_run_is_priced_as_a_whole_and_refused_by_all_tasks_before_the_first_image(
        self, store: MemoryStore, executor: ThreadPoolExecutor
    ) -> None:
        fill(store, 30)
        fill(store, 30, StorageClass.ARCHIVE)
        for index in (1, 0, 2):
            with pytest.raises(
                TooExpensive, match=r"^max_dollars: 0\.001 is less than what the run would cost, 0\.00\d+ dollars"
            ) as caught:
                run(store, executor, self.request(index, max_dollars=0.001))
            assert caught.value.estimate
            assert caught.value.estimate["by_class"]["ARCHIVE"]["class_b_requests"] == 30  # type: ignore[index]
        assert store.calls["read"] == store.calls["write"] == 0
        # Two passes over the folder, and each task lists its first page again: nothing is priced twice.
        assert store.calls["list"] <= 2 + 2 + 3
        reports = [run(store, executor, self.request(index, max_dollars=0.01)) for index in range(3)]
        assert sum(report.created for report in reports) == 60

    def test_a_limit_that_is_exactly_the_price_is_enough(self, executor: ThreadPoolExecutor) -> None:
        first = MemoryStore("photos")
        fill(first, 30)
        with pytest.raises(TooExpensive) as caught:
            run(first, executor, self.request(0, max_dollars=0))
        assert caught.value.estimate
        price = caught.value.estimate["dollars"]
        second = MemoryStore("photos")
        fill(second, 30)
        with pytest.raises(TooExpensive):
            run(second, executor, self.request(0, max_dollars=float(str(price)) - 1e-9))
        reports = [run(second, executor, self.request(index, max_dollars=price)) for index in range(3)]
        assert sum(report.created for report in reports) == 30
        spent = sum(report.cost.dollars for report in reports)
        # The attempt that was refused has listed and planned, too.
        assert spent == pytest.approx(float(str(price)), rel=0.2)

    def test_what_is_there_already_has_no_price(self, store: MemoryStore, executor: ThreadPoolExecutor) -> None:
        fill(store, 200, StorageClass.ARCHIVE)
        reports = [run(store, executor, self.request(index)) for index in range(3)]
        assert sum(report.created for report in reports) == 200
        store.put("gs://photos/in/new.jpg", SMALL)
        store.calls.clear()
        # Reading all would cost a cent.
        again = [run(store, executor, self.request(index, run_id="again", max_dollars=0.001)) for index in range(3)]
        assert [sum(getattr(report, field) for report in again) for field in ("created", "skipped")] == [1, 200]
        assert store.calls["read"] == 1
        with pytest.raises(TooExpensive):
            run(store, executor, self.request(0, run_id="over", max_dollars=0.001, overwrite=True))

    def test_the_plan_keeps_the_price(self, store: MemoryStore, executor: ThreadPoolExecutor) -> None:
        fill(store, 10, StorageClass.COLDLINE)
        made = task(store, executor, self.request(0))
        finished(made)
        plan = read_plan(made.params, made.service)
        assert plan
        assert plan.cost
        assert plan.cost.by_class[StorageClass.COLDLINE].images == 10
        assert plan.cost.dollars > 10 * 0.00001
        # An older version's plan has no price, which a limit needs.
        name = "gs://photos/thumbnail-runs/mine/plan.json"
        store.put(name, plan.model_dump_json(exclude={"cost"}).encode(), "application/json")
        with pytest.raises(InvalidValue, match="older version"):
            run(store, executor, self.request(1, max_dollars=1))
        assert run(store, executor, self.request(1)).error is None

    def test_the_report_of_a_task_that_was_refused_says_so(
        self, store: MemoryStore, executor: ThreadPoolExecutor
    ) -> None:
        fill(store, 10)
        with pytest.raises(TooExpensive):
            run(store, executor, self.request(1, max_dollars=0.00001))
        assert b'"too_expensive"' in store.held("gs://photos/thumbnail-runs/mine/task-00001-of-00003.json").data


@pytest.mark.parametrize("wrong", [-1, -0.01, float("nan"), float("inf")])
def test_a_limit_that_is_none_is_refused(store: MemoryStore, executor: ThreadPoolExecutor, wrong: float) -> None:
    with pytest.raises(InvalidValue, match=r"^max_dollars: .* is no number of dollars such as 5 or 0\.25$"):
        run(store, executor, {"max_dollars": wrong})
