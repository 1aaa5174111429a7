import asyncio
import json
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest

from service import job
from service.errors import ObjectNotFound, PermissionMissing, ServiceError, StorageRefused, StorageUnavailable
from service.outcome import Outcome, Result
from service.process import DONE, TRY_AGAIN, Stop
from service.runs.report import LIST_LIMIT, Counts, RunReport, State
from service.runs.reporter import SUMMARY_KEY, Reporter, seconds_between_reports
from service.runs.request import RunRequest
from service.runs.run_list import list_runs
from service.runs.status import RunStatus, run_status
from service.runs.task_report import Attempt, Summary, TaskReport
from service.storage.addresses import FolderLocation, ObjectLocation
from tests.support.assembly import Task, finished, make_task
from tests.support.memory_store import MemoryStore, create_only
from tests.support.pictures import jpeg
from tests.support.waiting import until

SMALL = jpeg(16, 12)


@pytest.fixture
def store() -> MemoryStore:
    store = MemoryStore("photos")
    for number in range(10):
        store.put(f"gs://photos/in/{number}.jpg", SMALL)
    return store


@pytest.fixture
def frequent_reports(monkeypatch: pytest.MonkeyPatch) -> None:
    """A task reports at once and a hundred times a second, and no task goes quiet."""
    monkeypatch.setattr("service.runs.reporter.FIRST_SECONDS", 0.01)
    monkeypatch.setattr("service.runs.reporter.SPACING_SECONDS", 0.0)
    monkeypatch.setattr("service.runs.reporter._SHORTEST_SECONDS", 0.01)
    monkeypatch.setattr("service.runs.reporter._STALE_AFTER", 10_000)


def request(index: int = 0, tasks: int = 1, **fields: object) -> RunRequest:
    return RunRequest.model_validate({"run_id": "mine", "task_index": index, "task_count": tasks} | fields)


def stored(store: MemoryStore, index: int = 0, tasks: int = 1) -> TaskReport:
    held = store.held(f"gs://photos/thumbnail-runs/mine/task-{index:05}-of-{tasks:05}.json")
    return TaskReport.model_validate_json(held.data)


def status(store: MemoryStore) -> RunStatus:
    return run_status(store, "photos", "mine")


def test_a_task_leaves_its_report_beside_the_plan(store: MemoryStore, executor: ThreadPoolExecutor) -> None:
    store.put("gs://photos/in/bad.jpg", b"no image")
    answered = finished(make_task(store, executor, request(1, 3)))
    report = stored(store, 1, 3)
    assert report.state is State.WHOLE
    told = {*answered.model_fields_set} - {"elapsed_seconds", "cost"}
    assert report.model_dump(include=told) == answered.model_dump(include=told)
    # The report does not know of itself.
    assert report.cost.class_a_requests == answered.cost.class_a_requests - 1
    summary = Summary.model_validate_json(
        store.held("gs://photos/thumbnail-runs/mine/task-00001-of-00003.json").described.metadata[SUMMARY_KEY]
    )
    assert (summary.created, summary.rejected) == (report.created, report.rejected)


@pytest.mark.usefixtures("frequent_reports")
def test_a_report_comes_early_and_as_it_goes_and_at_the_end(store: MemoryStore, executor: ThreadPoolExecutor) -> None:
    seen: list[State] = []
    go_on = threading.Event()

    def hold(kind: str, _: object) -> None:
        if kind == "read":
            go_on.wait(20)

    store.fault = hold
    made = make_task(store, executor, request())
    made.open()
    with ThreadPoolExecutor(1) as worker:
        working = worker.submit(made.work, lambda: False)
        until(lambda: store.calls["bookkeeping write"] >= 4)
        seen.append(stored(store).state)
        assert status(store).tasks.running == 1
        assert status(store).state == "running"
        go_on.set()
        working.result(20)
    assert seen == [State.WORKING]
    assert stored(store).state is State.WHOLE


def test_two_writes_of_one_report_are_a_second_apart(
    store: MemoryStore, executor: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.runs.reporter.FIRST_SECONDS", 0.0)
    times: list[float] = []
    written = threading.Event()

    def note(kind: str, where: object) -> None:
        if kind == "bookkeeping write" and "mine/task-" in str(where):
            times.append(time.monotonic())
            written.set()
        elif kind == "read":
            written.wait(20)

    store.fault = note
    finished(make_task(store, executor, request()))
    assert len(times) == 2
    assert times[1] - times[0] >= 1


class TestAlmostDone:
    """A report that the last one would have to wait for is put off by as long as that wait."""

    @pytest.fixture
    def task(self, store: MemoryStore, executor: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch) -> Task:
        monkeypatch.setattr("service.runs.reporter.FIRST_SECONDS", 0.0)
        task = make_task(store, executor, request())
        for number in range(10):
            task.counts.discover()
            if number:
                task.counts.add(Outcome(Result.SKIPPED, ObjectLocation("photos", f"in/{number}.jpg")))
        task.counts.listed_all = True
        return task

    def reporter(self, task: Task) -> Reporter:
        return Reporter(task.counts, Attempt.after(None, task.params), task.service.store, Stop())

    def test_a_task_that_ends_meanwhile_has_its_last_report_at_once_and_no_other(
        self, store: MemoryStore, task: Task, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("service.runs.reporter.SPACING_SECONDS", 600.0)
        looked, snapshot = threading.Event(), task.counts.snapshot

        def noted() -> RunReport:
            looked.set()
            return snapshot()

        monkeypatch.setattr(task.counts, "snapshot", noted)
        with self.reporter(task):
            assert looked.wait(30)
            assert store.calls["bookkeeping write"] == 0
        assert store.calls["bookkeeping write"] == 1

    def test_a_task_that_does_not_end_reports_all_the_same(
        self, store: MemoryStore, task: Task, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("service.runs.reporter.SPACING_SECONDS", 0.1)
        with self.reporter(task):
            until(lambda: store.calls["bookkeeping write"] == 1)

    def test_a_task_that_has_nothing_done_yet_reports_without_delay(
        self, store: MemoryStore, executor: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("service.runs.reporter.FIRST_SECONDS", 0.0)
        monkeypatch.setattr("service.runs.reporter.SPACING_SECONDS", 600.0)
        task = make_task(store, executor, request())
        task.counts.discover()
        task.counts.listed_all = True
        with self.reporter(task):
            until(lambda: store.calls["bookkeeping write"] == 1)
            monkeypatch.setattr("service.runs.reporter.SPACING_SECONDS", 0.0)


def test_what_cannot_be_replaced_is_written_under_new_names(
    store: MemoryStore, executor: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.runs.reporter.FIRST_SECONDS", 0.0)
    monkeypatch.setattr("service.runs.reporter.SPACING_SECONDS", 0.0)

    for attempt in (1, 2):

        def hold(kind: str, where: ObjectLocation | FolderLocation, count: int = attempt) -> ServiceError | None:
            if kind == "read":
                until(lambda: len(store.names("photos", "thumbnail-runs/mine/task-")) >= count)
            return create_only(store)(kind, where)

        store.fault = hold
        assert finished(make_task(store, executor, request())).whole
        now = status(store)
        assert (now.state, now.done, now.failed) == ("whole", 10, 0)
    names = store.names("photos", "thumbnail-runs/mine/task-")
    assert len(names) >= 2
    assert all(name.startswith("thumbnail-runs/mine/task-00000-of-00001.") for name in names)


def refuse_reports(
    error: ServiceError, count: int = 1000
) -> Callable[[str, ObjectLocation | FolderLocation], ServiceError | None]:
    """Refuse so many writes of reports."""
    refusals = iter([error] * count)
    return lambda kind, where: (
        next(refusals, None) if kind == "bookkeeping write" and "mine/task-" in str(where) else None
    )


@pytest.fixture
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.runs.reporter.SPACING_SECONDS", 0)
    monkeypatch.setattr("service.runs.reporter._LAST_PAUSES", (0, 0, 0))


@pytest.mark.usefixtures("no_pauses")
def test_a_report_that_storage_does_not_take_as_the_run_goes_fails_nothing(
    store: MemoryStore,
    executor: ThreadPoolExecutor,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("service.runs.reporter.FIRST_SECONDS", 0)
    refused = threading.Event()

    def refuse_early(kind: str, where: ObjectLocation | FolderLocation) -> ServiceError | None:
        if kind == "read":
            assert refused.wait(20)
        if kind == "bookkeeping write" and "mine/task-" in str(where) and not refused.is_set():
            refused.set()
            return StorageUnavailable("down")
        return None

    store.fault = refuse_early
    report = finished(make_task(store, executor, request()))
    assert (report.created, report.whole) == (10, True)
    assert "report not written" in capsys.readouterr().out
    assert stored(store).state is State.WHOLE


@pytest.mark.usefixtures("no_pauses")
@pytest.mark.parametrize("error", [StorageUnavailable, PermissionMissing, StorageRefused])
def test_the_last_report_is_tried_again(
    store: MemoryStore, executor: ThreadPoolExecutor, error: type[ServiceError]
) -> None:
    store.fault = refuse_reports(error("not now"), 2)
    assert finished(make_task(store, executor, request())).whole
    (name,) = store.names("photos", "thumbnail-runs/mine/task-")
    assert TaskReport.model_validate_json(store.held(f"gs://photos/{name}").data).state is State.WHOLE
    assert status(store).state == "whole"


@pytest.mark.usefixtures("no_pauses")
@pytest.mark.parametrize(
    ("error", "code"),
    [
        (StorageUnavailable, "storage_unavailable"),
        (PermissionMissing, "permission_missing"),
        (StorageRefused, "storage_unavailable"),
    ],
)
def test_a_task_whose_last_report_is_lost_is_not_whole_and_says_so(
    store: MemoryStore, executor: ThreadPoolExecutor, error: type[ServiceError], code: str
) -> None:
    store.fault = refuse_reports(error("never"))
    task = make_task(store, executor, request())
    report = finished(task)
    assert (report.created, report.failed, report.whole, task.counts.state) == (10, 0, False, State.UNFINISHED)
    assert report.error
    assert report.error.code == code
    assert report.error.reason == "the task's last report could not be written: never"
    assert status(store).state != "whole"
    store.fault = lambda *_: None
    assert finished(make_task(store, executor, request())).whole
    assert status(store).state == "whole"


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_task_whose_last_report_is_lost_by_a_defect_is_not_whole(
    store: MemoryStore, executor: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.runs.reporter.TaskReport.model_dump_json", None)
    error = finished(make_task(store, executor, request())).error
    assert error
    assert error.code == "internal_error"


@pytest.mark.usefixtures("no_pauses")
def test_the_job_exits_as_its_last_report_says(store: MemoryStore, executor: ThreadPoolExecutor) -> None:
    def exit_status() -> int:
        task = make_task(store, executor, request())
        return asyncio.run(job.run(task.params, task.service))

    store.fault = refuse_reports(StorageUnavailable("never"))
    assert exit_status() == TRY_AGAIN
    store.fault = lambda *_: None
    assert exit_status() == DONE


@pytest.mark.usefixtures("no_pauses")
def test_what_ended_a_run_is_said_before_its_report_that_is_lost(
    store: MemoryStore, executor: ThreadPoolExecutor
) -> None:
    task = make_task(store, executor, request())
    task.open()
    lost = refuse_reports(StorageUnavailable("never"))
    store.fault = lambda kind, where: StorageUnavailable("no listing") if kind == "list" else lost(kind, where)
    task.work()
    error = task.report().error
    assert error
    assert error.reason == "no listing"


def test_the_last_report_is_not_waited_for_once_the_process_is_to_end(
    store: MemoryStore, executor: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.runs.reporter._LAST_PAUSES", (0, 60, 60))
    store.fault = refuse_reports(StorageUnavailable("never"))
    task = make_task(store, executor, request())
    task.open()
    task.work(lambda: True)
    assert task.report().error
    assert store.calls["bookkeeping write"] == 1 + 3


def test_a_retry_goes_on_with_the_report(store: MemoryStore, executor: ThreadPoolExecutor) -> None:
    store.put("gs://photos/in/bad.jpg", b"no image")
    store.fault = lambda kind, where: StorageUnavailable("down") if kind == "read" and "3.jpg" in str(where) else None
    assert finished(make_task(store, executor, request())).failed == 1
    store.fault = lambda *_: None
    store.calls.clear()
    again = finished(make_task(store, executor, request()))
    assert (again.created, again.skipped, again.rejected, again.failed) == (1, 9, 1, 0)
    # The one that failed, and the one that is no image.
    assert store.calls["read"] == 2
    report = stored(store)
    assert report.attempt == 1
    assert (report.made_before.created, report.made_before.bytes_read) == (9, 9 * len(SMALL) + len(b"no image"))


def test_a_run_shows_what_all_of_its_attempts_have_made(store: MemoryStore, executor: ThreadPoolExecutor) -> None:
    store.put("gs://photos/20251203T15Z/other.jpg", b"")
    store.fault = lambda kind, where: StorageUnavailable("down") if kind == "read" and "3.jpg" in str(where) else None
    finished(make_task(store, executor, request()))
    first = status(store)
    assert (first.state, first.created, first.skipped, first.failed, first.done) == ("unfinished", 9, 0, 1, 9)
    store.fault = lambda *_: None
    finished(make_task(store, executor, request()))
    now = status(store)
    assert (now.state, now.created, now.skipped, now.failed, now.done, now.total) == ("whole", 10, 0, 0, 10, 10)
    assert (now.bytes_read, now.bytes_written) == (10 * len(SMALL), now.bytes_written)
    assert now.bytes_written > first.bytes_written
    finished(make_task(store, executor, request()))
    assert (status(store).created, status(store).skipped, status(store).attempts) == (10, 0, 3)


def test_an_attempt_that_has_just_begun_does_not_hide_what_was_made_before(
    store: MemoryStore, executor: ThreadPoolExecutor
) -> None:
    finished(make_task(store, executor, request()))
    report = stored(store)
    begun = report.model_copy(
        update={
            "state": State.WORKING,
            "created": 0,
            "assigned": 0,
            "made_before": Counts(created=10),
            "done_before": 10,
            "quiet_after": report.updated + timedelta(hours=1),
        }
    )
    store.put(
        "gs://photos/thumbnail-runs/mine/task-00000-of-00001.json",
        begun.model_dump_json().encode(),
        metadata={SUMMARY_KEY: begun.model_dump_json(include={*Summary.model_fields})},
    )
    now = status(store)
    assert (now.state, now.created, now.done) == ("running", 10, 10)


def test_making_again_is_gone_on_with_and_begun_anew_once_it_was_whole(
    store: MemoryStore, executor: ThreadPoolExecutor
) -> None:
    finished(make_task(store, executor, request()))
    store.fault = lambda kind, where: StorageUnavailable("down") if kind == "read" and "3.jpg" in str(where) else None
    first = finished(make_task(store, executor, request(overwrite=True)))
    assert (first.created, first.failed) == (9, 1)
    store.fault = lambda *_: None
    retried = finished(make_task(store, executor, request(overwrite=True)))
    assert (retried.created, retried.skipped) == (1, 9)
    assert finished(make_task(store, executor, request(overwrite=True))).created == 10


def status_before_the_first_image(store: MemoryStore, executor: ThreadPoolExecutor, asked: RunRequest) -> RunStatus:
    """Run a task that was tried before to its end; return the status that it had before its first image was read."""
    go_on = threading.Event()

    def hold(kind: str, _: object) -> None:
        if kind == "read":
            assert go_on.wait(20)

    def has_listed() -> bool:
        report = stored(store, made.params.chunk.index, made.params.chunk.count)
        return report.state is State.WORKING and report.listed_all

    store.fault = hold
    made = make_task(store, executor, asked)
    made.open()
    with ThreadPoolExecutor(1) as worker:
        working = worker.submit(made.work)
        try:
            until(has_listed)
            return status(store)
        finally:
            go_on.set()
            working.result(20)
            store.fault = lambda *_: None


def fail_to_read(store: MemoryStore, *numbers: int) -> None:
    names = {f"in/{number}.jpg" for number in numbers}
    store.fault = lambda kind, where: (
        StorageUnavailable("down")
        if kind == "read" and isinstance(where, ObjectLocation) and where.name in names
        else None
    )


@pytest.mark.usefixtures("frequent_reports")
@pytest.mark.parametrize("tasks", [1, 2])
def test_making_again_shows_as_done_what_was_made_again(
    store: MemoryStore, executor: ThreadPoolExecutor, tasks: int
) -> None:
    again = request(0, tasks, overwrite=True)
    for index in range(tasks):
        finished(make_task(store, executor, request(index, tasks)))
    others = 10 - 10 // tasks
    begun_anew = status_before_the_first_image(store, executor, again)
    assert (begun_anew.state, begun_anew.done, begun_anew.total) == ("running", others, 10)
    fail_to_read(store, 0, 1)
    finished(make_task(store, executor, again))
    assert status(store).done == 8
    gone_on_with = status_before_the_first_image(store, executor, again)
    assert (gone_on_with.state, gone_on_with.done, gone_on_with.total) == ("running", 8, 10)
    assert status(store).done == 10


@pytest.mark.usefixtures("frequent_reports")
@pytest.mark.parametrize("tasks", [1, 2])
def test_no_more_images_are_done_than_there_are_although_some_were_deleted(
    store: MemoryStore, executor: ThreadPoolExecutor, tasks: int
) -> None:
    for index in range(tasks):
        finished(make_task(store, executor, request(index, tasks)))
    for number in (1, 2, 3):
        store.delete(f"gs://photos/in/{number}.jpg")
    store.put("gs://photos/in/0.jpg", SMALL)
    now = status_before_the_first_image(store, executor, request(0, tasks))
    assert (now.state, now.done, now.total) == ("running", 7, 7)


def test_an_attempt_that_ends_early_does_not_hide_what_was_done_before(
    store: MemoryStore, executor: ThreadPoolExecutor
) -> None:
    store.put("gs://photos/in/bad.jpg", b"no image")
    fail_to_read(store, 3)
    finished(make_task(store, executor, request()))
    assert status(store).done == 10
    store.fault = lambda kind, where: (
        StorageUnavailable("down") if kind == "list" and where == FolderLocation("photos", "20251203T15Z/") else None
    )
    for _ in range(2):
        finished(make_task(store, executor, request()))
        now = status(store)
        assert (now.state, now.done, now.failures[0].code) == ("unfinished", 10, "storage_unavailable")


def test_a_report_that_cannot_be_read_is_begun_anew(store: MemoryStore, executor: ThreadPoolExecutor) -> None:
    finished(make_task(store, executor, request()))
    store.put("gs://photos/thumbnail-runs/mine/task-00000-of-00001.json", b"{", "application/json")
    assert finished(make_task(store, executor, request())).skipped == 10
    assert stored(store).attempt == 0


def test_the_status_of_a_run_is_the_sum_of_its_tasks(store: MemoryStore, executor: ThreadPoolExecutor) -> None:
    store.put("gs://photos/in/bad.jpg", b"no image")
    store.put("gs://photos/in/notes.txt", b"text", "text/plain")
    store.fault = lambda kind, where: StorageUnavailable("down") if kind == "read" and "9.jpg" in str(where) else None
    for index in (0, 3):
        finished(make_task(store, executor, request(index, 4)))
    now = status(store)
    assert (now.total, now.task_count, now.timestamp) == (11, 4, "20251203T15Z")
    assert now.done == now.created + now.skipped + now.rejected == 4
    assert now.failed == 1
    assert now.failures[0].source == "gs://photos/in/9.jpg"
    assert (now.tasks.whole, now.tasks.unfinished, now.tasks.not_started) == (1, 1, 2)
    assert (now.not_started, now.unfinished) == ([1, 2], [3])
    assert now.state == "unfinished"
    store.fault = lambda *_: None
    for index in (1, 2, 3):
        finished(make_task(store, executor, request(index, 4)))
    now = status(store)
    assert (now.state, now.done, now.rejected, now.failed) == ("whole", 11, 1, 0)
    assert now.attempts == 5
    assert now.rejections[0].code == "unsupported_format"
    assert now.passed_over == 1
    assert (now.images_per_second, now.seconds_left) == (0, None)


def test_images_that_were_added_after_the_plan_count_in_the_total(
    store: MemoryStore, executor: ThreadPoolExecutor
) -> None:
    finished(make_task(store, executor, request(0, 2)))
    store.put("gs://photos/in/8a.jpg", SMALL)
    assert finished(make_task(store, executor, request(1, 2))).discovered == 11
    now = status(store)
    assert (now.state, now.total, now.done) == ("whole", 11, 11)


def test_a_task_that_has_gone_quiet_is_named(store: MemoryStore, executor: ThreadPoolExecutor) -> None:
    finished(make_task(store, executor, request(0, 2)))
    report = stored(store, 0, 2)
    late = report.model_copy(update={"state": State.WORKING, "quiet_after": report.updated})
    store.put(
        "gs://photos/thumbnail-runs/mine/task-00000-of-00002.json",
        late.model_dump_json().encode(),
        "application/json",
        metadata={SUMMARY_KEY: late.model_dump_json(include={*Summary.model_fields})},
    )
    now = status(store)
    assert (now.tasks.quiet, now.quiet[0].task_index, now.state) == (1, 0, "unfinished")


def test_a_run_at_work_tells_its_rate_and_the_time_left(store: MemoryStore, executor: ThreadPoolExecutor) -> None:
    finished(make_task(store, executor, request(0, 2)))
    report = stored(store, 0, 2)
    busy = report.model_copy(
        update={
            "state": State.WORKING,
            "quiet_after": report.updated + timedelta(hours=1),
            "images_per_second": 2.5,
        }
    )
    store.put(
        "gs://photos/thumbnail-runs/mine/task-00000-of-00002.json",
        busy.model_dump_json().encode(),
        metadata={SUMMARY_KEY: busy.model_dump_json(include={*Summary.model_fields})},
    )
    now = status(store)
    assert (now.state, now.images_per_second, now.seconds_left) == ("running", 2.5, 2.0)


def test_a_run_that_is_being_planned_says_so(store: MemoryStore) -> None:
    store.put("gs://photos/thumbnail-runs/mine/planning-00000.json", b"{}", "application/json")
    assert status(store).state == "planning"


def test_a_run_whose_planning_has_failed_says_so(store: MemoryStore, executor: ThreadPoolExecutor) -> None:
    made = make_task(store, executor, request(0, 2))
    made.open()
    store.fault = lambda kind, where: (
        StorageUnavailable("down") if kind == "bookkeeping write" and "plan.json" in str(where) else None
    )
    made.work(lambda: False)
    assert (status(store).state, status(store).tasks.unfinished) == ("unfinished", 1)


def test_a_defect_ends_the_report_too(
    store: MemoryStore, executor: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise MemoryError

    made = make_task(store, executor, request())
    made.open()
    monkeypatch.setattr("service.runs.runner.obtain_plan", broken)
    with pytest.raises(MemoryError):
        made.work(lambda: False)
    report = stored(store)
    assert report.state is State.UNFINISHED
    assert report.error
    assert report.error.code == "internal_error"


def test_a_run_that_is_not_there_is_not_found(store: MemoryStore) -> None:
    with pytest.raises(ObjectNotFound, match="mine"):
        status(store)


def test_foreign_objects_in_the_bookkeeping_folder_do_no_harm(store: MemoryStore, executor: ThreadPoolExecutor) -> None:
    finished(make_task(store, executor, request()))
    for name in (
        "task-x-of-00001.json",
        "task-00000-of-00001.bak",
        "notes.txt",
        "deep/task-00000-of-00001.json",
        "manifest/task-00000-of-00001.json",
    ):
        store.put(f"gs://photos/thumbnail-runs/mine/{name}", b"?", metadata={SUMMARY_KEY: "?"})
    assert status(store).state == "whole"


def test_long_lists_of_a_run_are_cut(store: MemoryStore, executor: ThreadPoolExecutor) -> None:
    for number in range(LIST_LIMIT + 20):
        store.put(f"gs://photos/in/bad-{number:03}.jpg", b"no image")
    for index in range(2):
        finished(make_task(store, executor, request(index, 2)))
    now = status(store)
    assert (now.rejected, len(now.rejections)) == (LIST_LIMIT + 20, LIST_LIMIT)


def test_runs_are_listed_newest_first(store: MemoryStore, executor: ThreadPoolExecutor) -> None:
    assert list_runs(store, "photos").runs == []
    for run_id in ("b", "a", "c"):
        finished(make_task(store, executor, RunRequest(run_id=run_id)))
    listed = list_runs(store, "photos")
    assert [each.run_id for each in listed.runs] == ["c", "a", "b"]
    assert (listed.count, listed.runs[0].total, listed.runs[0].task_count) == (3, 10, 1)


@pytest.mark.usefixtures("frequent_reports")
def test_the_total_in_the_list_is_that_of_the_newest_report_where_none_is_replaced(
    store: MemoryStore, executor: ThreadPoolExecutor
) -> None:
    store.fault = create_only(store)
    finished(make_task(store, executor, request()))
    assert list_runs(store, "photos").runs[0].total == 10
    store.put("gs://photos/in/new.jpg", SMALL)
    finished(make_task(store, executor, request()))
    assert len(store.names("photos", "thumbnail-runs/mine/task-")) > 1
    assert list_runs(store, "photos").runs[0].total == status(store).total == 11


@pytest.mark.parametrize(("tasks", "seconds"), [(1, 10), (1000, 10), (3000, 30), (10_000, 60)])
def test_many_tasks_report_less_often(tasks: int, seconds: float) -> None:
    assert seconds_between_reports(tasks) == seconds


def test_a_dry_run_leaves_nothing(store: MemoryStore, executor: ThreadPoolExecutor) -> None:
    before = store.names("photos")
    for index in range(3):
        finished(make_task(store, executor, request(index, 3, dry_run=True)))
    assert store.names("photos") == before


def test_json_of_a_report_is_readable(store: MemoryStore, executor: ThreadPoolExecutor) -> None:
    finished(make_task(store, executor, request()))
    written: dict[str, Any] = json.loads(store.held("gs://photos/thumbnail-runs/mine/task-00000-of-00001.json").data)
    assert written["assigned"] == written["created"] + written["skipped"] + written["rejected"] + written["failed"]
    assert {"state", "started", "updated", "images_per_second", "attempt"} <= set(written)
