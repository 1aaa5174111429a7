"""Plans of folders that are listed in ranges side by side."""

import random
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import BucketNotFound, PermissionMissing, ServiceError, ShuttingDown, StorageUnavailable
from service.process import Stop
from service.runs.partition import Chunk, NameSample
from service.runs.plan import Plan, split
from service.runs.request import RunParameters, RunRequest
from service.storage.addresses import FolderLocation
from tests.support.assembly import HOUR, StopWhen, make_service
from tests.support.memory_store import MemoryStore

FENCE = FolderLocation("photos", "in/")
PAGE = 10


@pytest.fixture(scope="module")
def executor() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(16) as pool:
        yield pool


def folder(names: list[str]) -> MemoryStore:
    store = MemoryStore("photos")
    store.page_size = PAGE
    for name in names:
        store.put(f"gs://photos/in/{name}", b"")
    return store


def planned(
    store: MemoryStore, executor: ThreadPoolExecutor, tasks: int = 7, stop: Stop | None = None, *, begun: bool = True
) -> Plan:
    service = make_service(store, executor, concurrency=16)
    params = RunParameters.of(
        RunRequest.model_validate({"task_index": 0, "task_count": tasks, "dry_run": True}), service.settings, HOUR
    )
    return split(params, service, store.list_page(FENCE) if begun else None, None, stop or Stop())


def exact(names: list[str], tasks: int) -> tuple[str, ...]:
    """The boundaries of chunks that differ by one image at most."""
    starts = [Chunk(index, tasks).of(len(names)).start for index in range(1, tasks)]
    return tuple(names[start] if start else "" for start in starts)


KINDS: dict[str, Callable[[int, random.Random], str]] = {
    "numbers": lambda number, _: f"{number}.jpg",
    "numbers with zeros before": lambda number, _: f"{number:06}.jpg",
    "random": lambda _, chance: f"{chance.getrandbits(64):x}.jpg",
    "folders": lambda number, _: f"{number // 130:03}/IMG_{number % 130:04}.jpg",
    "most in one folder": lambda number, chance: f"{chance.choice('zzzzzzzza')}/only/{number:06}.jpg",
    "not all ASCII": lambda number, chance: f"{chance.choice('aé猫🙂')}{chance.randrange(100)}/{number}.jpg",
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("begun", [True, False])
def test_chunks_are_those_of_one_listing_after_another(kind: str, executor: ThreadPoolExecutor, *, begun: bool) -> None:
    chance = random.Random(kind)  # noqa: S311 - no secret
    others = [f"{KINDS[kind](number, chance).removesuffix('.jpg')}.txt" for number in range(300)]
    images = sorted({KINDS[kind](number, chance) for number in range(1500)})
    store = folder(images)
    for name in others:
        store.put(f"gs://photos/in/{name}", b"", "text/plain")
    for tasks in (7, 200):
        store.calls.clear()
        plan = planned(store, executor, tasks, begun=begun)
        assert plan.total == len(images)
        assert plan.boundaries == exact([f"in/{name}" for name in images], tasks)
        assert max(plan.sizes) - min(plan.sizes) <= 1
        alone = -(-len(store.names("photos", "in/")) // PAGE)
        assert alone <= store.calls["list"] <= alone * 1.05 + 20


CHARACTERS = st.characters(codec="utf-8", exclude_characters="\r\n/")


@given(
    names=st.sets(st.text(CHARACTERS, min_size=1, max_size=3), max_size=150),
    tasks=st.integers(2, 9),
    limit=st.sampled_from([200, 2_000, 1_000_000]),
)
def test_chunks_are_exact_whatever_the_names_and_however_few_are_kept(
    executor: ThreadPoolExecutor, names: set[str], tasks: int, limit: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("service.runs.partition._MOST_BYTES", limit)
        plan = planned(folder([f"{name}.jpg" for name in names]), executor, tasks)
    assert plan.boundaries == exact(sorted(f"in/{name}.jpg" for name in names), tasks)


@pytest.mark.parametrize(
    "error", [StorageUnavailable("HTTP 503"), PermissionMissing("HTTP 403"), BucketNotFound("404")]
)
def test_an_error_in_one_range_is_that_of_the_plan(executor: ThreadPoolExecutor, error: ServiceError) -> None:
    store = folder([f"{number:05}.jpg" for number in range(1000)])
    store.fault = lambda *_: error if store.calls["list"] == 60 else None
    with pytest.raises(type(error)) as caught:
        planned(store, executor)
    assert caught.value is error


def test_a_stop_ends_the_plan_although_every_listing_hangs(executor: ThreadPoolExecutor) -> None:
    store = folder([f"{number:05}.jpg" for number in range(1000)])
    hangs, ended = threading.Event(), threading.Event()

    def hang(*_: object) -> None:
        if store.calls["list"] >= 40:
            hangs.set()
            ended.wait(30)

    store.fault = hang
    try:
        with pytest.raises(ShuttingDown, match="while it was planned"):
            planned(store, executor, stop=StopWhen(hangs.is_set))
    finally:
        ended.set()


def test_after_the_process_was_told_to_end_nothing_is_planned() -> None:
    store = folder([f"{number:05}.jpg" for number in range(100)])
    pool = ThreadPoolExecutor(1)
    pool.shutdown()
    with pytest.raises(ShuttingDown):
        planned(store, pool)


def test_a_process_that_ends_meanwhile_ends_the_plan() -> None:
    store = folder([f"{number:05}.jpg" for number in range(1000)])
    pool, ended = ThreadPoolExecutor(1), threading.Event()

    def end(*_: object) -> None:
        if store.calls["list"] == 40:
            pool.shutdown(wait=False, cancel_futures=True)
            ended.wait(0.1)  # Long enough for the next range to find the executor shut down.

    store.fault = end
    with pytest.raises(ShuttingDown):
        planned(store, pool)


def test_what_comes_and_goes_meanwhile_leaves_every_name_in_one_chunk(executor: ThreadPoolExecutor) -> None:
    store = folder([f"{number:05}.jpg" for number in range(2000)])
    chance, lock = random.Random(7), threading.Lock()  # noqa: S311 - no secret

    def change(*_: object) -> None:
        with lock:
            for number in chance.sample(range(2000), 5):
                if f"in/{number:05}.jpg" in store.names("photos", f"in/{number:05}.jpg"):
                    store.delete(f"gs://photos/in/{number:05}.jpg")
                store.put(f"gs://photos/in/{number:05}-new.jpg", b"")

    store.fault = change
    plan = planned(store, executor, 13)
    assert sum(plan.sizes) == plan.total
    assert all(before <= after for before, after in pairwise(plan.boundaries))
    store.fault = lambda *_: None
    chunks = [plan.names(Chunk(index, 13)) for index in range(13)]
    for name in store.names("photos", "in/"):
        assert sum(name in chunk for chunk in chunks) == 1


def test_names_are_kept_in_the_same_memory_however_many_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.runs.partition._MOST_BYTES", 20_000)
    sample, names = NameSample(), [f"{number:09}.jpg" for number in range(200_000)]
    for start in range(0, len(names), 10):
        sample.add(names[start : start + 10], f"{start // 50_000}")
        assert sample._bytes <= 20_000
    for boundary in sample.boundaries(77):
        assert names[boundary.position - boundary.skip] == boundary.name
        if boundary.limit is not None:
            assert names[boundary.position] < boundary.limit
