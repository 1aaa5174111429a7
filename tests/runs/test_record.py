"""What another version of the service has left of a run is read, or said to be of a newer one."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from service.errors import InvalidValue
from service.runs.plan import Plan
from service.runs.reporter import SUMMARY_KEY
from service.runs.request import RunRequest
from service.runs.run_list import list_runs
from service.runs.status import run_status
from service.runs.task_report import Summary, TaskReport
from tests.support.assembly import finished, make_task
from tests.support.browser import Looked
from tests.support.memory_store import MemoryStore
from tests.support.pictures import jpeg

RUNS = "gs://photos/thumbnail-runs"
PLAN = f"{RUNS}/mine/plan.json"
OLD = json.loads((Path(__file__).parents[1] / "data" / "runs" / "without_version.json").read_text())
"""Two runs as they were kept before plans and reports had a version: `many`, of whose two tasks one is done; `one`."""


@pytest.fixture
def store() -> MemoryStore:
    store = MemoryStore("photos")
    for number in range(4):
        store.put(f"gs://photos/in/{number}.jpg", jpeg(16, 12))
    return store


def keep(store: MemoryStore, name: str, content: object, metadata: dict[str, Any]) -> None:
    texts = {key: value if isinstance(value, str) else json.dumps(value) for key, value in metadata.items()}
    store.put(f"gs://photos/{name}", json.dumps(content).encode(), "application/json", metadata=texts)


@pytest.fixture
def old(store: MemoryStore) -> MemoryStore:
    store.put("gs://photos/in/bad.jpg", b"no image")
    for name, kept in OLD.items():
        keep(store, name, kept["content"], kept["metadata"])
    return store


def request(index: int = 0, tasks: int = 1, run_id: str = "mine") -> RunRequest:
    return RunRequest(run_id=run_id, task_index=index, task_count=tasks)


def change(store: MemoryStore, name: str, **fields: object) -> None:
    """Change fields of a plan or a report, and of the summary beside it."""
    held = store.held(f"{RUNS}/mine/{name}")
    metadata: dict[str, Any] = dict(held.described.metadata)
    if summary := held.described.metadata.get(SUMMARY_KEY):
        metadata[SUMMARY_KEY] = json.loads(summary) | fields
    keep(store, f"thumbnail-runs/mine/{name}", json.loads(held.data) | fields, metadata)


def test_runs_without_a_version_are_shown(old: MemoryStore) -> None:
    assert {run.run_id: (run.total, run.task_count) for run in list_runs(old, "photos").runs} == {
        "many": (5, 2),
        "one": (5, 1),
    }
    one = run_status(old, "photos", "one")
    assert (one.state, one.done, one.total, one.skipped, one.rejected) == ("whole", 5, 5, 4, 1)
    assert [problem.source for problem in one.rejections] == ["gs://photos/in/bad.jpg"]
    many = run_status(old, "photos", "many")
    assert (many.state, many.done, many.total, many.not_started) == ("running", 2, 5, [1])


def test_a_run_without_a_version_is_gone_on_with(old: MemoryStore, executor: ThreadPoolExecutor) -> None:
    rest = finished(make_task(old, executor, request(1, 2, "many")))
    # By the plan that is there, the first task's chunk begins before the third image.
    assert (rest.assigned, rest.created, rest.rejected) == (3, 2, 1)
    again = finished(make_task(old, executor, request(0, 1, "one")))
    assert again.assigned == 5
    assert run_status(old, "photos", "many").state == run_status(old, "photos", "one").state == "whole"
    assert run_status(old, "photos", "one").attempts == 3


def test_what_is_kept_has_a_version(store: MemoryStore, executor: ThreadPoolExecutor) -> None:
    finished(make_task(store, executor, request()))
    report = store.held(f"{RUNS}/mine/task-00000-of-00001.json")
    kept: list[str | bytes] = [store.held(PLAN).data, report.data, report.described.metadata[SUMMARY_KEY]]
    assert [json.loads(text)["version"] for text in kept] == [1, 1, 1]


def test_fields_that_a_newer_service_has_added_are_ignored(store: MemoryStore, executor: ThreadPoolExecutor) -> None:
    finished(make_task(store, executor, request()))
    before = run_status(store, "photos", "mine")
    change(store, "plan.json", a_new_field={"of": "some kind"})
    change(store, "task-00000-of-00001.json", a_new_field=["of another kind"])
    after = run_status(store, "photos", "mine")
    assert after.model_dump(exclude={"planned"}) == before.model_dump(exclude={"planned"})
    assert finished(make_task(store, executor, request())).skipped == 4


NEWER = "was written by a newer version of the service: its form has version 2, and this one reads version 1"


def test_a_plan_of_a_newer_service_is_said_to_be_so_and_hides_no_other_run(
    store: MemoryStore, executor: ThreadPoolExecutor, looked: Looked
) -> None:
    for run_id in ("mine", "other"):
        finished(make_task(store, executor, request(run_id=run_id)))
    # A newer service may have renamed whatever it likes.
    metadata = dict(store.held(PLAN).described.metadata)
    keep(store, "thumbnail-runs/mine/plan.json", {"version": 2, "identity": "mine"}, metadata)
    with pytest.raises(InvalidValue, match=NEWER) as caught:
        make_task(store, executor, request()).open()
    assert caught.value.field == "run_id"
    answer = looked.ask("/runs/mine", Accept="application/json")
    assert (answer.status, NEWER in json.loads(answer.text)["reason"]) == (422, True)
    assert looked.ask("/runs/mine").status == 422
    assert looked.ask("/runs/other", Accept="application/json").status == 200
    listed = json.loads(looked.ask("/runs", Accept="application/json").text)
    assert [run["run_id"] for run in listed["runs"]] == ["other", "mine"]


def test_a_report_of_a_newer_service_is_said_to_be_so_and_the_other_tasks_count(
    store: MemoryStore, executor: ThreadPoolExecutor, capsys: pytest.CaptureFixture[str]
) -> None:
    for index in range(2):
        finished(make_task(store, executor, request(index, 2)))
    change(store, "task-00001-of-00002.json", version=2)
    now = run_status(store, "photos", "mine")
    assert (now.state, now.done, now.tasks.whole, now.tasks.unreadable) == ("unfinished", 2, 1, 1)
    assert now.tasks.not_started == 0
    (failure,) = now.failures
    assert failure.source == f"{RUNS}/mine/task-00001-of-00002.json"
    assert NEWER in failure.reason
    assert finished(make_task(store, executor, request(1, 2))).skipped == 2
    assert NEWER in capsys.readouterr().out
    assert run_status(store, "photos", "mine").state == "whole"


def test_a_report_that_is_broken_is_named(store: MemoryStore, executor: ThreadPoolExecutor) -> None:
    store.put("gs://photos/in/bad.jpg", b"no image")
    finished(make_task(store, executor, request()))
    report = store.held(f"{RUNS}/mine/task-00000-of-00001.json")
    store.put(f"{RUNS}/mine/task-00000-of-00001.json", b"{", metadata=report.described.metadata)
    now = run_status(store, "photos", "mine")
    assert (now.state, now.rejected, now.rejections) == ("whole", 1, [])
    (failure,) = now.failures
    assert "cannot be read" in failure.reason


def plan(**fields: object) -> dict[str, object]:
    return {
        "run_id": "mine",
        "input_folder": "gs://photos/in/",
        "timestamp": "20251203T15Z",
        "task_count": 3,
        "shape": "s",
        "total": 4,
        "boundaries": ["in/1.jpg", "in/2.jpg"],
        "sizes": [1, 1, 2],
    } | fields


@pytest.mark.parametrize(
    "fields",
    [
        {"task_count": 10**9},
        {"task_count": 10_001},
        {"task_count": 0},
        {"task_count": 2},
        {"task_count": 1, "total": None},
        {"total": -1},
        {"total": 10**30, "sizes": [1, 1, 10**30 - 2]},
        {"total": 5},
        {"total": None},
        {"sizes": [1, 1]},
        {"sizes": [-1, 3, 2]},
        {"boundaries": ["in/1.jpg"]},
        {"boundaries": ["in/2.jpg", "in/1.jpg"]},
        {"timestamp": "yesterday"},
        {"timestamp": "run"},
        {"since": "2025-12-03T15:00:00"},
    ],
)
def test_a_plan_that_no_service_can_have_made_is_not_read(store: MemoryStore, fields: dict[str, object]) -> None:
    assert Plan.model_validate_json(json.dumps(plan())).total == 4
    keep(store, "thumbnail-runs/mine/plan.json", plan(**fields), {})
    with pytest.raises(InvalidValue, match=rf"a plan that cannot be read, {PLAN}"):
        run_status(store, "photos", "mine")


@pytest.mark.parametrize(
    "fields",
    [
        {"created": -1},
        {"created": 10**30},
        {"attempt": -1},
        {"images_per_second": -1.0},
        {"images_per_second": float("nan")},
        {"images_per_second": float("inf")},
        {"updated": "2025-12-03T15:00:00"},
        {"quiet_after": "2025-12-03T15:00:00"},
        {"started": "2025-12-03T15:00:00"},
        {"state": "asleep"},
        {"made_before": {"created": -1}},
    ],
)
def test_a_report_that_no_service_can_have_written_is_not_read(
    store: MemoryStore, executor: ThreadPoolExecutor, fields: dict[str, object]
) -> None:
    for run_id in ("mine", "other"):
        finished(make_task(store, executor, request(run_id=run_id)))
    change(store, "task-00000-of-00001.json", **fields)
    report = store.held(f"{RUNS}/mine/task-00000-of-00001.json")
    for model, text in ((Summary, report.described.metadata[SUMMARY_KEY]), (TaskReport, report.data)):
        with pytest.raises(ValidationError):
            model.model_validate_json(text)
    now = run_status(store, "photos", "mine")
    assert (now.state, now.tasks.unreadable) == ("unfinished", 1)
    assert [run.total for run in list_runs(store, "photos").runs] == [4, None]


def test_reports_whose_clocks_cannot_be_compared_hide_no_run(store: MemoryStore, executor: ThreadPoolExecutor) -> None:
    for run_id in ("mine", "other"):
        finished(make_task(store, executor, request(run_id=run_id)))
    report = store.held(f"{RUNS}/mine/task-00000-of-00001.json")
    summary = json.loads(report.described.metadata[SUMMARY_KEY]) | {"updated": "2025-12-03T15:00:00"}
    keep(store, "thumbnail-runs/mine/task-00000-of-00001.9.json", {}, {SUMMARY_KEY: summary})
    assert [run.total for run in list_runs(store, "photos").runs] == [4, 4]
    assert run_status(store, "photos", "mine").state == "whole"


def test_a_task_whose_number_no_run_can_have_is_no_task(store: MemoryStore, executor: ThreadPoolExecutor) -> None:
    finished(make_task(store, executor, request(0, 2)))
    report = store.held(f"{RUNS}/mine/task-00000-of-00002.json")
    store.delete(PLAN)
    name = "thumbnail-runs/mine/task-999999999999-of-00002.json"
    keep(store, name, json.loads(report.data), dict(report.described.metadata))
    now = run_status(store, "photos", "mine")
    assert (now.tasks.whole, now.tasks.not_started) == (1, 0)


def test_a_large_sum_of_what_tasks_have_counted_is_still_a_sum(
    store: MemoryStore, executor: ThreadPoolExecutor
) -> None:
    for index in range(2):
        finished(make_task(store, executor, request(index, 2)))
        change(store, f"task-{index:05}-of-00002.json", bytes_read=2**63 - 1)
    assert run_status(store, "photos", "mine").bytes_read == 2 * (2**63 - 1)


def test_a_plan_that_is_far_too_large_is_not_read(store: MemoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.runs.plan.MAX_RECORD_BYTES", 10)
    store.put(PLAN, b'{"version": 1, "more": "x"}', "application/json")
    with pytest.raises(InvalidValue, match=r"cannot be read.*27 bytes, more than 10"):
        run_status(store, "photos", "mine")
