"""Runs with INCLUDE, EXCLUDE and STORAGE_CLASSES."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from structlog.testing import capture_logs

from service.errors import InvalidValue
from service.naming import SOURCE_KEY
from service.runs.request import RunRequest
from service.storage.classes import StorageClass
from tests.support.assembly import finished, make_task
from tests.support.memory_store import EPOCH, MemoryStore
from tests.support.pictures import jpeg

SMALL = jpeg(16, 12)
NAMES = ["a/1.jpg", "a/@eaDir/1.jpg", "a/1_200x200.jpg", "b/2.png", "b c/%2F é.jpg", "c/.thumbnails/x.jpg", "notes.txt"]
EXCLUDE = "**/@eaDir/**, **/.thumbnails/**, **/*_200x200.*"


@pytest.fixture
def store() -> MemoryStore:
    store = MemoryStore("photos")
    for name in NAMES:
        store.put(f"gs://photos/in/{name}", SMALL, "text/plain" if name.endswith(".txt") else "image/jpeg")
    return store


def sources(store: MemoryStore) -> list[str]:
    """The images that have a thumbnail."""
    thumbnails = (store.held(f"gs://photos/{name}").described for name in store.names("photos", "2025"))
    return sorted(stored.metadata[SOURCE_KEY].removeprefix("gs://photos/in/") for stored in thumbnails)


def test_what_exclude_leaves_out_is_counted_and_not_read(store: MemoryStore, executor: ThreadPoolExecutor) -> None:
    report = finished(make_task(store, executor, exclude=EXCLUDE))
    assert (report.discovered, report.created, report.left_out, report.passed_over) == (3, 3, 3, 1)
    assert sources(store) == ["a/1.jpg", "b c/%2F é.jpg", "b/2.png"]
    assert store.calls["read"] == 3


def test_include_and_exclude_go_together(store: MemoryStore, executor: ThreadPoolExecutor) -> None:
    report = finished(make_task(store, executor, include="{a,b c}/**,nothing/*", exclude="**/@*/**"))
    assert (report.discovered, report.created, report.left_out) == (3, 3, 3)
    assert sources(store) == ["a/1.jpg", "a/1_200x200.jpg", "b c/%2F é.jpg"]


def test_globs_are_about_names_below_the_input_folder_of_the_settings(
    store: MemoryStore, executor: ThreadPoolExecutor
) -> None:
    deeper = RunRequest(input_folder="gs://photos/in/a")
    assert finished(make_task(store, executor, deeper, include="a/*.jpg")).created == 2
    assert finished(make_task(store, executor, deeper, include="*.jpg")).created == 0


def test_tasks_share_what_is_left(store: MemoryStore, executor: ThreadPoolExecutor) -> None:
    for index in range(40):
        store.put(f"gs://photos/in/many/{index:02}{'_200x200' * (index % 2)}.jpg", SMALL, "image/jpeg")
    reports = [
        finished(make_task(store, executor, RunRequest(task_index=index, task_count=4), exclude=EXCLUDE))
        for index in range(4)
    ]
    assert {report.discovered for report in reports} == {23}
    assert sorted(report.created for report in reports) == [5, 6, 6, 6]
    assert sum(report.left_out for report in reports) == 23


def test_since_and_exclude_leave_out_each_image_once(store: MemoryStore, executor: ThreadPoolExecutor) -> None:
    store.put("gs://photos/in/a/new.jpg", SMALL, "image/jpeg", created=EPOCH + timedelta(hours=3))
    store.put("gs://photos/in/a/@eaDir/new.jpg", SMALL, "image/jpeg", created=EPOCH + timedelta(hours=3))
    since = (EPOCH + timedelta(hours=2)).isoformat()
    report = finished(make_task(store, executor, RunRequest(since=since), exclude=EXCLUDE))
    assert (report.discovered, report.created, report.left_out) == (1, 1, 7)


def test_a_dry_run_counts_them_too(store: MemoryStore, executor: ThreadPoolExecutor) -> None:
    report = finished(make_task(store, executor, RunRequest(dry_run=True), exclude=EXCLUDE))
    assert (report.created, report.left_out, store.calls["read"]) == (3, 3, 0)


@pytest.mark.parametrize(
    ("settings", "request_fields", "warned"),
    [
        ({"include": "in/**"}, {}, True),
        ({"exclude": "**"}, {}, True),
        ({"exclude": EXCLUDE}, {}, False),
        ({}, {"since": "2026-01-01T00:00:00Z"}, False),
        ({"include": "*.jpg"}, {"input_folder": "gs://photos/in/empty"}, False),
    ],
)
def test_globs_that_leave_nothing_are_said(
    store: MemoryStore,
    executor: ThreadPoolExecutor,
    settings: dict[str, Any],
    request_fields: dict[str, str],
    *,
    warned: bool,
) -> None:
    with capture_logs() as lines:
        report = finished(make_task(store, executor, RunRequest.model_validate(request_fields), **settings))
    said = [line for line in lines if line["event"] == "INCLUDE, EXCLUDE and STORAGE_CLASSES leave out every image"]
    assert bool(said) == warned
    if warned:
        assert (said[0]["log_level"], report.discovered, report.left_out) == ("warning", 0, 6)


def test_a_run_keeps_its_globs(store: MemoryStore, executor: ThreadPoolExecutor) -> None:
    finished(make_task(store, executor, RunRequest(run_id="mine"), exclude=EXCLUDE))
    with pytest.raises(InvalidValue, match="another run needs another run_id"):
        finished(make_task(store, executor, RunRequest(run_id="mine")))
    several: list[dict[str, Any]] = [{}, {"exclude": EXCLUDE}, {"include": EXCLUDE}, {"exclude": "**/@eaDir/**"}]
    assert len({make_task(store, executor, **settings).params.run_id for settings in several}) == 4


def test_images_of_other_storage_classes_are_left_out_unread(executor: ThreadPoolExecutor) -> None:
    store = MemoryStore("photos")
    for number, storage_class in enumerate(StorageClass):
        for name in "ab":
            store.put(f"gs://photos/in/{number}{name}.jpg", SMALL, storage_class=storage_class)
    for tasks in (1, 3):
        store.calls.clear()
        reports = [
            finished(
                make_task(
                    store,
                    executor,
                    RunRequest(task_index=index, task_count=tasks, overwrite=True),
                    storage_classes="nearline,coldline",
                )
            )
            for index in range(tasks)
        ]
        assert sum(report.created for report in reports) == 4
        assert sum(report.left_out for report in reports) == 4
        assert reports[0].discovered == 4
        assert store.calls["read"] == 4
        assert {name.partition("/")[2][0] for name in store.names("photos", "20251203T15Z/")} == {"1", "2"}
