import itertools
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Event, Lock, Thread, Timer

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from service.errors import (
    BucketNotFound,
    InvalidValue,
    PermissionMissing,
    RetryLater,
    ShuttingDown,
    StorageUnavailable,
)
from service.naming import SOURCE_KEY
from service.process import Stop
from service.runs.bounded import map_bounded
from service.runs.existing import BATCH
from service.runs.report import LIST_LIMIT
from service.runs.request import RunRequest
from service.runs.status import run_status
from service.storage.addresses import ALL_NAMES, FolderLocation, NameRange
from service.storage.base import StoredObject
from tests.support.assembly import finished, make_task
from tests.support.memory_store import MemoryStore
from tests.support.pictures import jpeg
from tests.support.waiting import until

FENCE = FolderLocation("photos", "in/")
SMALL = jpeg(16, 12)


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore("photos", "thumbs")


def test_a_folder_is_thumbnailed_once(store: MemoryStore, executor: ThreadPoolExecutor) -> None:
    for index in range(10):
        store.put(f"gs://photos/in/{index}.jpg", SMALL)
    store.put("gs://photos/in/notes.txt", b"text", "text/plain")
    store.put("gs://photos/in/sub/", b"", "")
    store.put("gs://photos/in/bad.jpg", b"no image")
    store.put("gs://photos/other/x.jpg", SMALL)

    report = finished(make_task(store, executor))
    assert (report.discovered, report.created, report.rejected) == (11, 10, 1)
    assert report.rejections[0].source == "gs://photos/in/bad.jpg"
    assert (report.passed_over, report.not_images[0].source) == (1, "gs://photos/in/notes.txt")
    assert report.rejections[0].code == "unsupported_format"
    assert report.whole
    assert report.bytes_read == 10 * len(SMALL) + len(b"no image")
    assert report.output_folder == "gs://photos/20251203T15Z/"
    assert store.calls == {
        "list": 2,
        "read": 11,
        "write": 10,
        "bookkeeping stat": 1,
        "bookkeeping write": 3,
    }

    store.calls.clear()
    again = finished(make_task(store, executor))
    assert (again.created, again.skipped, again.rejected) == (0, 10, 1)
    # The one that was rejected is looked at again: another version of the decoder may read it.
    assert set(store.calls) == {"list", "read"} | {f"bookkeeping {kind}" for kind in ("stat", "list", "read", "write")}
    assert (store.calls["list"], store.calls["read"]) == (2, 1)

    third = finished(make_task(store, executor, RunRequest(overwrite=True)))
    assert (third.created, third.skipped) == (10, 0)


def test_a_run_of_one_task_reads_its_first_image_after_the_first_page(executor: ThreadPoolExecutor) -> None:
    listed_at_first_read: list[int] = []

    class Listing(MemoryStore):
        listed = 0

        def list_objects(
            self, folder: FolderLocation, names: NameRange = ALL_NAMES, *, glob: str | None = None
        ) -> Iterator[StoredObject]:
            for stored in super().list_objects(folder, names, glob=glob):
                self.listed += folder == FENCE
                yield stored

        def read(self, stored: StoredObject, max_bytes: int) -> bytes:
            if stored.location in FENCE:
                listed_at_first_read.append(self.listed)
            return super().read(stored, max_bytes)

    store = Listing("photos")
    for index in range(3 * BATCH):
        store.put(f"gs://photos/in/{index:05}.jpg", SMALL if index == 0 else b"no image")
    report = finished(make_task(store, executor))
    assert (report.created, report.rejected, store.listed) == (1, 3 * BATCH - 1, 3 * BATCH)
    assert listed_at_first_read[0] <= BATCH + 1


class TestMapBounded:
    """Each item once, bounded, whatever happens."""

    @pytest.mark.parametrize("limit", [1, 3, 100])
    def test_every_item_is_yielded_once_and_no_more_than_the_limit_are_under_way(self, limit: int) -> None:
        most, inside, lock = 0, 0, Lock()

        def call(item: int) -> int:
            nonlocal most, inside
            with lock:
                inside += 1
                most = max(most, inside)
            with lock:
                inside -= 1
            return -item

        with ThreadPoolExecutor(8) as executor:
            ended = mapped(executor, call, range(200), limit=limit)
        assert sorted((item, future.result()) for item, future in ended) == [(item, -item) for item in range(200)]
        assert most <= limit

    def test_an_exception_is_the_futures_and_the_others_go_on(self, executor: ThreadPoolExecutor) -> None:
        ended = mapped(executor, lambda item: 1 // item, [1, 0, 1])
        assert sorted(type(future.exception()).__name__ for _, future in ended) == [
            "NoneType", "NoneType", "ZeroDivisionError",
        ]  # fmt: skip

    def test_items_that_end_by_an_exception_of_their_iterator_leave_none_in_flight(
        self, executor: ThreadPoolExecutor
    ) -> None:
        def items() -> Iterator[int]:
            yield from range(5)
            raise StorageUnavailable("the second page did not come")

        ended = lazily_mapped(executor, abs, items())
        seen = [item for item, _ in itertools.islice(ended, 5)]
        with pytest.raises(StorageUnavailable, match="second page"):
            next(ended)
        assert sorted(seen) == list(range(5))

    def test_once_stopped_the_next_item_fails_and_no_further_one_is_taken(self, executor: ThreadPoolExecutor) -> None:
        stop, taken = Stop(), []

        def items() -> Iterator[int]:
            for item in range(100):
                taken.append(item)
                yield item

        outcomes = {}
        for item, future in lazily_mapped(executor, abs, items(), limit=2, stop=stop):
            outcomes[item] = future.exception()
            stop.set()
        assert sorted(outcomes) == taken
        assert isinstance(outcomes[taken[-1]], ShuttingDown)
        assert sum(error is not None for error in outcomes.values()) == 1

    def test_what_hangs_when_the_grace_is_over_fails_and_is_not_yielded_again(self) -> None:
        stop, go_on = Stop(), Event()
        with ThreadPoolExecutor(2) as executor:
            Timer(0.01, stop.set).start()
            ended = mapped(executor, lambda _: go_on.wait(20), range(2), limit=2, stop=stop)
            go_on.set()
        assert sorted(item for item, _ in ended) == [0, 1]
        assert all(isinstance(future.exception(), ShuttingDown) for _, future in ended)


def lazily_mapped(
    executor: ThreadPoolExecutor,
    call: Callable[[int], object],
    items: Iterable[int],
    *,
    limit: int = 4,
    stop: Stop | None = None,
) -> Iterator[tuple[int, Future[object]]]:
    return map_bounded(executor, call, items, limit=limit, stop=stop or Stop(), grace_seconds=0.1)


def mapped(
    executor: ThreadPoolExecutor,
    call: Callable[[int], object],
    items: Iterable[int],
    *,
    limit: int = 4,
    stop: Stop | None = None,
) -> list[tuple[int, Future[object]]]:
    return list(lazily_mapped(executor, call, items, limit=limit, stop=stop))


def test_a_second_run_takes_in_what_is_new_or_changed(store: MemoryStore, executor: ThreadPoolExecutor) -> None:
    store.put("gs://photos/in/a.jpg", SMALL)
    store.put("gs://photos/in/b.jpg", SMALL)
    finished(make_task(store, executor))
    store.put("gs://photos/in/b.jpg", jpeg(12, 16))
    store.put("gs://photos/in/c.jpg", SMALL)
    report = finished(make_task(store, executor))
    assert (report.created, report.skipped) == (2, 1)


def test_damaged_images_that_are_shown_are_counted_and_only_they_depend_on_the_setting(
    store: MemoryStore, executor: ThreadPoolExecutor
) -> None:
    for name in ("a", "b", "c"):
        store.put(f"gs://photos/in/{name}.jpg", SMALL)
    for name in ("cut1", "cut2"):
        store.put(f"gs://photos/in/{name}.jpg", jpeg()[:-200])

    def counts(run_id: str, damaged: str) -> tuple[int, int, int, int]:
        report = finished(make_task(store, executor, RunRequest(run_id=run_id), damaged=damaged))
        return report.created, report.skipped, report.rejected, report.damaged

    assert counts("first", "reject") == (3, 0, 2, 0)
    assert counts("second", "show") == (2, 3, 0, 2)
    assert counts("third", "show") == (0, 5, 0, 2)
    assert counts("fourth", "reject") == (0, 3, 2, 0)
    status = run_status(store, "photos", "second")
    assert (status.created, status.damaged) == (2, 2)


def test_a_run_and_one_with_another_setting_for_damaged_images_are_two(
    store: MemoryStore, executor: ThreadPoolExecutor
) -> None:
    finished(make_task(store, executor, RunRequest(run_id="mine")))
    with pytest.raises(InvalidValue, match="run_id"):
        make_task(store, executor, RunRequest(run_id="mine"), damaged="show").open()


def test_other_sizes_or_another_layout_are_made_anew(store: MemoryStore, executor: ThreadPoolExecutor) -> None:
    store.put("gs://photos/in/a/x.jpg", SMALL)
    finished(make_task(store, executor))
    assert finished(make_task(store, executor, thumbnail_sizes="100x100,10x10")).created == 1
    assert finished(make_task(store, executor, output_layout="tree")).created == 1
    assert finished(make_task(store, executor, output_layout="tree")).skipped == 1
    assert store.names("photos", "20251203T15Z/") == [
        "20251203T15Z/100x100/x.jpg",
        "20251203T15Z/10x10/x.jpg",
        "20251203T15Z/a/x.jpg",
        "20251203T15Z/x.jpg",
    ]


def test_two_sources_of_one_name_are_both_there_and_the_report_says_so(
    store: MemoryStore, executor: ThreadPoolExecutor
) -> None:
    store.put("gs://photos/in/a/x.jpg", SMALL)
    store.put("gs://photos/in/b/x.jpg", SMALL)
    report = finished(make_task(store, executor))
    assert (report.created, report.renamed) == (2, 1)
    assert report.renames[0].thumbnail.startswith("gs://photos/20251203T15Z/x~")
    assert finished(make_task(store, executor)).skipped == 2


def test_each_renamed_thumbnail_of_an_image_is_named_and_no_other(
    store: MemoryStore, executor: ThreadPoolExecutor
) -> None:
    store.put("gs://photos/20251203T15Z/10x10/x.jpg", b"somebody's")
    store.put("gs://photos/20251203T15Z/20x20/x.jpg", b"somebody's")
    store.put("gs://photos/in/x.jpg", SMALL)
    report = finished(make_task(store, executor, thumbnail_sizes="10x10,15x15,20x20"))
    assert (report.created, report.renamed) == (1, 1)
    folders = [rename.thumbnail.rpartition("/x~")[0] for rename in report.renames]
    assert folders == ["gs://photos/20251203T15Z/10x10", "gs://photos/20251203T15Z/20x20"]


@settings(max_examples=40, deadline=None)
@given(
    names=st.sets(
        st.text(st.characters(codec="utf-8", exclude_characters="\n\r/"), min_size=1, max_size=5), max_size=30
    ),
    count=st.integers(1, 7),
)
def test_chunks_are_disjoint_complete_and_of_one_size(names: set[str], count: int) -> None:
    store = MemoryStore("photos")
    for name in names:
        store.put(f"gs://photos/in/{name}", SMALL)
    with ThreadPoolExecutor(4) as executor:
        reports = [
            finished(make_task(store, executor, RunRequest(task_index=index, task_count=count)))
            for index in range(count)
        ]
    assert sum(report.created for report in reports) == len(names)
    assert {report.discovered for report in reports} == {len(names)}
    assigned = [report.assigned for report in reports]
    assert max(assigned) - min(assigned) <= 1
    made_from = {
        store.held(f"gs://photos/{name}").described.metadata["thumbnail-source"]
        for name in store.names("photos", "20251203T15Z/")
    }
    assert made_from == {f"gs://photos/in/{name}" for name in names}


def test_a_dry_run_reads_and_writes_nothing_and_counts_what_would_be(
    store: MemoryStore, executor: ThreadPoolExecutor
) -> None:
    store.put("gs://photos/in/a.jpg", SMALL)
    store.put("gs://photos/in/b.jpg", SMALL)
    store.put("gs://photos/in/empty.jpg", b"")
    finished(make_task(store, executor, RunRequest(timestamp="20251203T15Z")))
    store.put("gs://photos/in/c.jpg", SMALL)
    store.calls.clear()
    report = finished(make_task(store, executor, RunRequest(dry_run=True)))
    assert report.dry_run
    assert (report.created, report.skipped, report.rejected) == (1, 2, 1)
    assert report.estimate
    assert (report.estimate.media_reads, report.estimate.writes, report.estimate.bytes_to_read) == (1, 1, len(SMALL))
    assert set(store.calls) == {"list", "bookkeeping stat", "bookkeeping list", "bookkeeping read"}


def test_by_content_what_neither_type_nor_name_decides_costs_one_small_read(
    store: MemoryStore, executor: ThreadPoolExecutor
) -> None:
    store.put("gs://photos/in/a.jpg", SMALL)
    store.put("gs://photos/in/no-extension", SMALL, "")
    store.put("gs://photos/in/wrong.jpg", SMALL, "text/plain")
    store.put("gs://photos/in/data.bin", b"no image", "application/octet-stream")
    store.put("gs://photos/in/nothing", b"", "")
    store.put("gs://photos/in/notes.txt", b"text", "text/plain")
    report = finished(make_task(store, executor, image_detection="content"))
    assert (report.discovered, report.created, report.passed_over) == (3, 3, 3)
    assert {passed.source.rpartition("/")[2] for passed in report.not_images} == {"data.bin", "nothing", "notes.txt"}
    assert (store.calls["head"], store.calls["read"]) == (3, 3)


def test_an_image_that_fails_is_counted_and_the_others_go_on(store: MemoryStore, executor: ThreadPoolExecutor) -> None:
    for index in range(5):
        store.put(f"gs://photos/in/{index}.jpg", SMALL)
    store.fault = lambda kind, where: (
        StorageUnavailable("storage is down") if kind == "read" and "3.jpg" in str(where) else None
    )
    report = finished(make_task(store, executor))
    assert (report.created, report.failed) == (4, 1)
    assert not report.whole
    assert report.failures[0].model_dump() == {
        "source": "gs://photos/in/3.jpg",
        "code": "storage_unavailable",
        "reason": "storage is down",
    }
    store.fault = lambda *_: None
    store.calls.clear()
    again = finished(make_task(store, executor))
    assert (again.created, again.skipped) == (1, 4)
    assert store.calls["read"] == 1


def test_the_log_says_which_attempt_it_was_that_ended(store: MemoryStore, executor: ThreadPoolExecutor) -> None:
    store.put("gs://photos/in/a.jpg", SMALL)
    with capture_logs() as lines:
        for _ in range(3):
            finished(make_task(store, executor, RunRequest(run_id="mine")))
        finished(make_task(store, executor, RunRequest(run_id="mine"), cloud_run_task_attempt=7))
    assert [line["attempt"] for line in lines if line["event"] == "run ended"] == [0, 1, 2, 7]


@pytest.mark.parametrize(("tasks", "images", "listings"), [(1, 2, 3), (2, 1, 2 * 3)])
def test_an_estimate_counts_the_listing_of_all_objects_and_that_of_the_plan_of_several_tasks(
    store: MemoryStore, executor: ThreadPoolExecutor, tasks: int, images: int, listings: int
) -> None:
    for name in "az":
        store.put(f"gs://photos/in/{name}.jpg", SMALL)
    store.put("gs://photos/in/notes.txt", b"text", "text/plain")
    for number in range(1000):
        store.put(f"gs://photos/in/excluded/{number:03}.jpg", SMALL)
        store.put(f"gs://photos/in/made/{number:03}.jpg", SMALL, metadata={SOURCE_KEY: "gs://photos/in/a.jpg"})
    request = RunRequest(dry_run=True, task_index=0, task_count=tasks)
    report = finished(make_task(store, executor, request, exclude="excluded/**"))
    assert report.estimate
    # The others are a look into the hour folder, the plan, the manifest and the report; and of several tasks the lease.
    assert report.estimate.class_a_requests == images + listings + 4 + (tasks > 1)


@pytest.mark.parametrize("error", [PermissionMissing("not allowed"), StorageUnavailable("down")])
@pytest.mark.parametrize("listing", [0, 1])
def test_a_listing_that_fails_ends_the_run_with_a_report(
    store: MemoryStore, executor: ThreadPoolExecutor, error: RetryLater, listing: int
) -> None:
    store.put("gs://photos/in/a.jpg", SMALL)
    calls = itertools.count()
    store.fault = lambda kind, _: error if kind == "list" and next(calls) == listing else None
    report = finished(make_task(store, executor))
    assert report.error
    assert (report.error.code, report.error.source) == (error.code, "gs://photos/in/")
    assert not report.whole


def test_a_task_that_waits_for_the_plan_of_another_run_is_refused_and_leaves_that_run_alone(
    store: MemoryStore, executor: ThreadPoolExecutor
) -> None:
    store.put("gs://photos/in/a.jpg", SMALL)
    store.put("gs://photos/in/b.jpg", SMALL)
    first, second = (
        make_task(store, executor, RunRequest(run_id="mine", task_index=index, task_count=2, timestamp=timestamp))
        for index, timestamp in enumerate(("created", "20251203T16Z"))
    )
    first.open()
    second.open()
    first.work()
    before = store.names("photos", "thumbnail-runs/")
    with pytest.raises(InvalidValue, match="'20251203T16Z' is not what the run 'mine' was planned with") as caught:
        second.work()
    assert caught.value.field == "timestamp"
    report = second.report()
    assert report.error
    assert (report.error.code, report.error.reason) == ("invalid_value", str(caught.value))
    assert store.names("photos", "thumbnail-runs/") == before


def test_a_listing_that_fails_half_way_keeps_what_was_done(
    executor: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.runs.existing.BATCH", 1)

    class Interrupted(MemoryStore):
        def list_objects(
            self, folder: FolderLocation, names: NameRange = ALL_NAMES, *, glob: str | None = None
        ) -> Iterator[StoredObject]:
            listed = list(super().list_objects(folder, names, glob=glob))
            if folder == FENCE:
                yield from listed[:3]
                raise StorageUnavailable("the second page did not come")
            yield from listed

    store = Interrupted("photos")
    for index in range(5):
        store.put(f"gs://photos/in/{index}.jpg", SMALL)
    report = finished(make_task(store, executor))
    assert report.created == 3
    assert report.error
    assert "second page" in report.error.reason


def test_a_bucket_that_is_not_there_is_the_callers_mistake(executor: ThreadPoolExecutor) -> None:
    with pytest.raises(BucketNotFound, match="gs://photos"):
        make_task(MemoryStore("thumbs"), executor).open()


def test_a_stopped_run_takes_no_further_image_and_says_that_it_is_not_done(
    store: MemoryStore, executor: ThreadPoolExecutor
) -> None:
    for index in range(20):
        store.put(f"gs://photos/in/{index:02}.jpg", SMALL)
    stop = Event()
    made = make_task(store, executor)
    made.open()
    store.fault = lambda kind, _: stop.set() if kind == "write" else None
    made.work(stop.is_set)
    report = made.report()
    assert 1 <= report.created < 20
    assert report.failed == 1
    assert report.failures[0].code == "shutting_down"
    assert not report.whole
    store.fault = lambda *_: None
    assert finished(make_task(store, executor)).created == 20 - report.created


def test_an_executor_that_was_shut_down_leaves_its_images_for_the_next_run(store: MemoryStore) -> None:
    for index in range(5):
        store.put(f"gs://photos/in/{index}.jpg", SMALL)
    closed = ThreadPoolExecutor(1)
    closed.shutdown()
    report = finished(make_task(store, closed))
    assert (report.failed, report.failures[0].code) == (1, "shutting_down")


def test_images_whose_turn_never_comes_are_counted_as_left(store: MemoryStore) -> None:
    for index in range(4):
        store.put(f"gs://photos/in/{index}.jpg", SMALL)
    with ThreadPoolExecutor(1) as one:
        free = Event()
        holding = one.submit(free.wait, 20)
        while not holding.running():
            pass
        made = make_task(store, one)
        made.open()
        worker = Thread(target=made.work, args=(lambda: False,))
        worker.start()
        while one._work_queue.qsize() < 4:
            pass
        one.shutdown(wait=False, cancel_futures=True)
        free.set()
        worker.join(20)
    report = made.report()
    assert (report.assigned, report.failed) == (4, 4)
    assert {failure.code for failure in report.failures} == {"shutting_down"}


def test_a_run_that_is_stopped_before_its_first_image_says_so(store: MemoryStore, executor: ThreadPoolExecutor) -> None:
    for index in range(3):
        store.put(f"gs://photos/in/{index}.jpg", SMALL)
    made = make_task(store, executor, RunRequest(task_index=0, task_count=2))
    made.open()
    made.work(lambda: True)
    error = made.report().error
    assert error
    assert error.code == "shutting_down"


def test_a_defect_is_counted_as_a_failure_and_its_text_stays_in_the_log(
    store: MemoryStore, executor: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.put("gs://photos/in/a.jpg", SMALL)

    def broken(*_: object, **__: object) -> None:
        raise TypeError("secret")

    monkeypatch.setattr("service.images.pool._thumbnails", broken)
    report = finished(make_task(store, executor))
    assert (report.failed, report.failures[0].code) == (1, "internal_error")
    assert "secret" not in report.failures[0].reason


def test_long_lists_are_cut_and_their_counts_are_whole(store: MemoryStore, executor: ThreadPoolExecutor) -> None:
    for index in range(LIST_LIMIT + 5):
        store.put(f"gs://photos/in/{index}.jpg", b"no image")
    report = finished(make_task(store, executor))
    assert report.rejected == LIST_LIMIT + 5
    assert len(report.rejections) == LIST_LIMIT


def test_a_dry_run_that_is_stopped_lists_no_further(store: MemoryStore, executor: ThreadPoolExecutor) -> None:
    for index in range(3000):
        store.put(f"gs://photos/in/{index:04}.jpg", b"x")
    task = make_task(store, executor, RunRequest(dry_run=True))
    task.open()
    task.work(lambda: task.counts.listed >= 1200)
    report = task.report()
    assert report.error
    assert report.error.code == "shutting_down"
    assert report.assigned <= task.counts.listed < 3000


def test_a_stop_after_the_last_image_was_listed_leaves_no_whole_run(store: MemoryStore) -> None:
    for number in range(7):
        store.put(f"gs://photos/in/{number}.jpg", SMALL)
    gate = Event()

    def fault(kind: str, _: object) -> None:
        assert kind != "read" or gate.wait(20)

    store.fault = fault
    with ThreadPoolExecutor(6) as six, ThreadPoolExecutor(1) as other:
        task = make_task(store, six, RunRequest(run_id="mine"), concurrency=6)
        task.open()
        work = other.submit(task.work, lambda: store.calls["read"] >= 6)
        # The seventh is given up, since no thread was free for it.
        until(lambda: task.report().failed == 1)
        gate.set()
        work.result(20)
        report = task.report()
        assert (report.assigned, report.created, report.failed, report.whole) == (7, 6, 1, False)
        again = finished(make_task(store, six, RunRequest(run_id="mine")))
    assert (again.created, again.skipped, again.whole) == (1, 6, True)
