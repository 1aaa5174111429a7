"""The page of a run says what it has cost so far, by storage class, and will cost."""

from typing import Any

import pytest

from service.runs.request import RunRequest
from service.runs.status import run_status
from service.storage.classes import StorageClass
from service.web.rendering import _dollars
from tests.support.assembly import Task, finished
from tests.support.browser import Html, Looked
from tests.support.memory_store import MemoryStore
from tests.support.pictures import jpeg

HOUR = "20251203T15Z"


def fill(store: MemoryStore) -> None:
    for number, storage_class in enumerate(StorageClass):
        for index in range(3):
            store.put(f"gs://photos/in/{number}{index}.jpg", jpeg(16, 12), storage_class=storage_class)


def task(looked: Looked, **fields: Any) -> Task:  # noqa: ANN401 - whatever a request has
    return Task(looked.service, RunRequest.model_validate({"timestamp": HOUR, "run_id": "mine"} | fields))


def cost_rows(page: Html) -> list[str]:
    """The text of each row of the table of classes."""
    return [" ".join(one.text.split()) for one in page.all("tr") if "tbody" in one.within]


def test_of_one_task_there_is_what_it_has_cost_by_class(looked: Looked, store: MemoryStore) -> None:
    fill(store)
    report = finished(task(looked))
    status = run_status(store, "photos", "mine")
    # Of its last report alone the task's report does not know.
    assert status.cost.class_a_requests == report.cost.class_a_requests - 1
    assert status.expected_dollars == status.cost.dollars
    assert status.estimate is None
    page = looked.page("/runs/mine").html
    rows = cost_rows(page)
    assert [row.split()[0] for row in rows] == ["STANDARD", "NEARLINE", "COLDLINE", "ARCHIVE"]
    assert rows[3].split()[1:4] == ["$0.00015", "0", "3"]
    assert f"So far{_dollars(status.cost.dollars)}\n" in page.one("div", id="costs").text
    (command,) = [one.text for one in page.all("pre")]
    assert command == (
        f"""curl -X POST {looked.url}/run -d '{{"dry_run": true, "input_folder": "gs://photos/in/", """
        f""""timestamp": "{HOUR}"}}'"""
    )


def test_of_many_tasks_there_is_what_was_planned_too(looked: Looked, store: MemoryStore) -> None:
    fill(store)
    finished(task(looked, task_index=0, task_count=2))
    status = run_status(store, "photos", "mine")
    assert status.estimate
    assert status.estimate.by_class[StorageClass.ARCHIVE].images == 3
    # So far the cheaper half was made.
    assert status.expected_dollars
    assert status.expected_dollars > 2 * status.cost.dollars
    assert status.expected_dollars == pytest.approx(status.estimate.dollars, rel=0.35)
    rows = cost_rows(looked.page("/runs/mine").html)
    # The first half of the folder has the two warmer classes.
    assert rows[3].split()[:5] == ["ARCHIVE", "3", "$0.00015", "$0", "0"]
    finished(task(looked, task_index=1, task_count=2))
    whole = run_status(store, "photos", "mine")
    assert whole.expected_dollars == whole.cost.dollars
    assert whole.cost.by_class[StorageClass.ARCHIVE].class_b_requests == 3
    assert whole.cost.dollars == pytest.approx(status.estimate.dollars, rel=0.35)


def test_all_attempts_count(looked: Looked, store: MemoryStore) -> None:
    fill(store)
    reports = [finished(task(looked, overwrite=True)) for _ in range(2)]
    status = run_status(store, "photos", "mine")
    assert status.cost.by_class[StorageClass.ARCHIVE].class_b_requests == 6
    assert status.cost.dollars == pytest.approx(sum(report.cost.dollars for report in reports), rel=0.1)


def test_before_its_first_report_a_run_has_cost_nothing_that_is_known(looked: Looked, store: MemoryStore) -> None:
    fill(store)
    task(looked, task_index=0, task_count=2).open()
    page = looked.page("/runs/mine").html
    assert not cost_rows(page)
    assert page.one("div", id="costs").text.split()[:3] == ["So", "far$0", "Expected\N{EN DASH}"]


@pytest.mark.parametrize(
    ("dollars", "text"),
    [
        (0, "$0"),
        (0.0000004, "$0.00000040"),
        (0.00015, "$0.00015"),
        (0.0213, "$0.021"),
        (0.5, "$0.50"),
        (168.4, "$168.40"),
        (1234.5, "$1,234.50"),
    ],
)
def test_dollars_have_as_many_digits_as_tell_something(dollars: float, text: str) -> None:
    assert _dollars(dollars) == text
