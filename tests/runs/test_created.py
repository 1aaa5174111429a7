from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from service.errors import InvalidValue
from service.events import ObjectFinalized
from service.outcome import Result
from service.runs.request import RunRequest
from service.storage.base import StoredObject
from tests.support.assembly import HOUR, Task, finished, make_service
from tests.support.memory_store import EPOCH, MemoryStore
from tests.support.pictures import encoded, jpeg, quadrants

SMALL = jpeg(16, 12)


def put(
    store: MemoryStore, name: str, hours: int = 0, data: bytes = SMALL, content_type: str = "image/jpeg"
) -> StoredObject:
    return store.put(f"gs://photos/in/{name}", data, content_type, created=EPOCH + timedelta(hours=hours))


def created(
    store: MemoryStore,
    executor: ThreadPoolExecutor,
    settings: dict[str, Any] | None = None,
    **fields: Any,  # noqa: ANN401 - whatever a field is
) -> Task:
    request = RunRequest.model_validate({"timestamp": "created"} | fields)
    return Task(make_service(store, executor, **(settings or {})), request)


def thumbnails(store: MemoryStore) -> list[str]:
    return store.names("photos", "2025")


def test_each_image_goes_where_its_own_event_would_put_it(store: MemoryStore, executor: ThreadPoolExecutor) -> None:
    sources = [put(store, "a.jpg"), put(store, "b.jpg", 1), put(store, "c/d.jpg", 26)]
    report = finished(created(store, executor))
    assert (report.created, report.timestamp, report.output_folder) == (3, "created", "gs://photos/")
    assert thumbnails(store) == ["20251203T15Z/a.jpg", "20251203T16Z/b.jpg", "20251204T17Z/d.jpg"]
    thumbnailer = make_service(store).thumbnailer
    for source in sources:
        event = ObjectFinalized(source.location, source.generation, source)
        assert thumbnailer.process_event(event).result is Result.SKIPPED
    assert len(thumbnails(store)) == 3


@pytest.mark.parametrize("per_hour", [1, 5, 40])
def test_a_second_run_makes_nothing_and_reads_nothing(
    store: MemoryStore, executor: ThreadPoolExecutor, per_hour: int
) -> None:
    for index in range(80):
        put(store, f"{index:03}.jpg", index // per_hour)
    assert finished(created(store, executor)).created == 80
    store.calls.clear()
    again = finished(created(store, executor, run_id="again"))
    assert (again.created, again.skipped) == (0, 80)
    assert (store.calls["read"], store.calls["write"]) == (0, 0)
    # One metadata get an image if an hour holds few of them, else a listing an hour; and the folder's own.
    assert (store.calls["stat"], store.calls["list"]) == ((80, 1) if per_hour < 13 else (0, 1 + 80 // per_hour))


@pytest.mark.parametrize(
    ("name", "data", "content_type"),
    [
        ("scan.tiff", encoded(quadrants(), "TIFF"), "image/tiff"),
        ("scan", encoded(quadrants(), "TIFF"), "image/tiff"),
        ("named.jpg", encoded(quadrants(), "BMP"), "image/jpeg"),
        ("clear.tif", encoded(quadrants(mode="RGBA"), "TIFF"), ""),
        ("photo.png", SMALL, "image/png"),
        ("photo.gif", SMALL, ""),
    ],
)
def test_a_thumbnail_is_found_whatever_its_name_and_type_promise(
    store: MemoryStore, executor: ThreadPoolExecutor, name: str, data: bytes, content_type: str
) -> None:
    put(store, name, data=data, content_type=content_type)
    assert finished(created(store, executor)).created == 1
    store.calls.clear()
    assert finished(created(store, executor, run_id="again")).skipped == 1
    assert store.calls["read"] == 0


def test_other_formats_and_several_sizes_are_found(store: MemoryStore, executor: ThreadPoolExecutor) -> None:
    put(store, "a.jpg")
    put(store, "b.webp", data=encoded(quadrants(), "WEBP"), content_type="image/webp")
    settings = {"output_format": "webp", "thumbnail_sizes": "100x100,20x20"}
    assert finished(created(store, executor, settings)).created == 2
    assert finished(created(store, executor, settings, run_id="again")).skipped == 2


def test_sources_of_one_name_in_one_hour_are_found_under_their_variants(
    store: MemoryStore, executor: ThreadPoolExecutor
) -> None:
    for folder in "abc":
        put(store, f"{folder}/x.jpg")
    assert finished(created(store, executor)).renamed == 2
    store.calls.clear()
    again = finished(created(store, executor, run_id="again"))
    assert (again.skipped, store.calls["read"], store.calls["write"]) == (3, 0, 0)


def test_an_image_that_was_replaced_goes_to_its_new_hour(store: MemoryStore, executor: ThreadPoolExecutor) -> None:
    put(store, "a.jpg")
    finished(created(store, executor))
    put(store, "a.jpg", 2, jpeg(12, 16))
    assert finished(created(store, executor, run_id="again")).created == 1
    assert thumbnails(store) == ["20251203T15Z/a.jpg", "20251203T17Z/a.jpg"]


def test_an_image_that_is_replaced_while_it_is_worked_on_goes_to_its_new_hour(
    store: MemoryStore, executor: ThreadPoolExecutor
) -> None:
    put(store, "a.jpg")
    task = created(store, executor)
    task.open()
    put(store, "a.jpg", 3)
    task.work()
    assert thumbnails(store) == ["20251203T18Z/a.jpg"]


def test_overwriting_makes_everything_again_and_goes_on_where_it_was_interrupted(
    store: MemoryStore, executor: ThreadPoolExecutor
) -> None:
    for index in range(6):
        put(store, f"{index}.jpg", index)
    finished(created(store, executor))
    enough = store.calls["read"] + 3
    task = created(store, executor, run_id="again", overwrite=True)
    task.open()
    task.work(lambda: store.calls["read"] >= enough)
    first = task.report()
    assert not first.whole
    second = finished(created(store, executor, run_id="again", overwrite=True))
    assert (second.whole, first.created + second.created) == (True, 6)


def test_a_dry_run_says_what_is_missing(store: MemoryStore, executor: ThreadPoolExecutor) -> None:
    put(store, "a.jpg")
    finished(created(store, executor))
    put(store, "b.jpg", 1)
    store.calls.clear()
    report = finished(created(store, executor, dry_run=True))
    assert (report.created, report.skipped) == (1, 1)
    assert (store.calls["read"], store.calls["write"]) == (0, 0)


def test_tasks_of_a_run_share_its_images(store: MemoryStore, executor: ThreadPoolExecutor) -> None:
    for index in range(23):
        put(store, f"{index:02}.jpg", index)
    reports = [finished(created(store, executor, run_id="mine", task_index=index, task_count=4)) for index in range(4)]
    assert sum(report.created for report in reports) == 23
    hours = Counter(name.partition("/")[0] for name in thumbnails(store))
    assert set(hours.values()) == {1}


def test_runs_without_an_id_in_another_hour_or_of_another_timestamp_are_other_runs(
    store: MemoryStore, executor: ThreadPoolExecutor
) -> None:
    service = make_service(store, executor)
    ids = {
        Task(service, RunRequest(timestamp=timestamp, since=since)).params.run_id
        for timestamp in (None, "created")
        for since in (None, "7d")
    }
    assert len(ids) == 4


def test_a_run_id_with_created_is_refused_to_a_run_of_another_timestamp(
    store: MemoryStore, executor: ThreadPoolExecutor
) -> None:
    put(store, "a.jpg")
    finished(created(store, executor, run_id="mine"))
    for fields, field in (({"timestamp": str(HOUR)}, "timestamp"), ({"timestamp": "created", "since": "7d"}, "since")):
        with pytest.raises(InvalidValue) as caught:
            Task(make_service(store, executor), RunRequest.model_validate(fields | {"run_id": "mine"})).open()
        assert caught.value.field == field


def test_a_dry_run_counts_what_renamed_images_cost(store: MemoryStore, executor: ThreadPoolExecutor) -> None:
    for folder in "abc":
        put(store, f"{folder}/x.jpg")
    put(store, "d/x.jpg", 1)
    report = finished(created(store, executor, dry_run=True))
    assert (report.created, report.renamed) == (4, 2)
    assert report.renames[0].thumbnail.startswith("gs://photos/20251203T15Z/x~")
    plain = MemoryStore("photos")
    for folder in "abcd":
        put(plain, f"{folder}/{folder}.jpg")
    other = finished(created(plain, executor, dry_run=True))
    assert report.estimate
    assert other.estimate
    # A write that is refused because the name is taken costs nothing; the look at what holds the name does.
    assert report.estimate.class_a_requests == other.estimate.class_a_requests
    assert report.estimate.class_b_requests == other.estimate.class_b_requests + 2


class TestSince:
    def test_only_images_created_since_then_are_looked_at_and_the_others_are_counted(
        self, store: MemoryStore, executor: ThreadPoolExecutor
    ) -> None:
        for index in range(10):
            put(store, f"{index}.jpg", index)
        report = finished(created(store, executor, since="2025-12-03T22:00:00Z"))
        assert (report.discovered, report.created, report.left_out) == (3, 3, 7)
        assert thumbnails(store) == [f"20251203T{hour}Z/{hour - 15}.jpg" for hour in (22, 23)] + ["20251204T00Z/9.jpg"]

    def test_an_age_counts_from_now(self, store: MemoryStore, executor: ThreadPoolExecutor) -> None:
        now = datetime.now(UTC)
        for name, age in (("old", 49), ("new", 47)):
            store.put(f"gs://photos/in/{name}.jpg", SMALL, created=now - timedelta(hours=age))
        report = finished(created(store, executor, since="2d"))
        assert (report.created, report.left_out) == (1, 1)

    def test_chunks_are_of_the_images_since_then(self, store: MemoryStore, executor: ThreadPoolExecutor) -> None:
        for index in range(40):
            put(store, f"{index:02}.jpg", index)
        since = (EPOCH + timedelta(hours=20)).isoformat()
        fields: dict[str, Any] = {"run_id": "mine", "since": since, "task_count": 4}
        reports = [finished(created(store, executor, task_index=index, **fields)) for index in range(4)]
        assert [report.assigned for report in reports] == [5, 5, 5, 5]
        assert {report.discovered for report in reports} == {20}

    @pytest.mark.parametrize(
        "since", ["", "36", "h", "-3h", "3w", "1.5h", "9999999d", "yesterday", "2025-12-03", "2999-01-01T00:00:00Z"]
    )
    def test_what_is_neither_a_time_nor_an_age_is_refused(self, store: MemoryStore, since: str) -> None:
        with pytest.raises(InvalidValue) as caught:
            Task(make_service(store), RunRequest(since=since))
        assert caught.value.field == "since"


@pytest.mark.parametrize("timestamp", ["", "now", "Created", "20251203T25Z"])
def test_a_timestamp_that_is_none_is_refused(store: MemoryStore, timestamp: str) -> None:
    with pytest.raises(InvalidValue, match="'run' or 'created'") as caught:
        Task(make_service(store), RunRequest(timestamp=timestamp))
    assert caught.value.field == "timestamp"


def test_the_setting_says_what_a_request_does_not(store: MemoryStore, executor: ThreadPoolExecutor) -> None:
    put(store, "a.jpg", 5)
    assert finished(Task(make_service(store, executor, timestamp="created"))).timestamp == "created"
    assert thumbnails(store) == ["20251203T20Z/a.jpg"]
    given = Task(make_service(store, executor, timestamp="20251203T22Z"))
    assert finished(given).timestamp == "20251203T22Z"
    over = Task(make_service(store, executor, timestamp="created"), RunRequest(timestamp="run"))
    assert finished(over).timestamp == str(HOUR)
