"""Ten million names and ten thousand tasks, through the planner and the chunks, with a listing that is made up as it is
read: what planning takes, and how even the chunks are."""

import multiprocessing
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise

import pytest

from service.process import Stop
from service.runs.lease import Lease
from service.runs.plan import Plan, obtain_plan
from service.runs.request import RunParameters, RunRequest
from service.storage.addresses import ALL_NAMES, FolderLocation, NameRange, ObjectLocation
from service.storage.base import Page, StoredObject
from tests.support.assembly import HOUR, make_service
from tests.support.memory_store import EPOCH, MemoryStore, resource_of
from tests.support.memory_use import MEBIBYTE, peak_memory

FENCE = FolderLocation("photos", "in/")
PAGE = 1000
DESCRIBED = resource_of(StoredObject(ObjectLocation("photos", ""), 1, 100_000, EPOCH, "image/jpeg"))


class MadeUpStore(MemoryStore):
    """A folder of so many images, none of which is held; and all else in memory."""

    def __init__(self, total: int) -> None:
        super().__init__("photos")
        self.total = total
        self.pages = 0
        self._page_lock = threading.Lock()

    @staticmethod
    def name(number: int) -> str:
        return f"in/2025/{number // 5000:04}/IMG_{number % 5000:05}.jpg"

    def position(self, name: str) -> int:
        """How many names come before this one."""
        low, high = 0, self.total
        while low < high:
            middle = (low + high) // 2
            if self.name(middle) < name:
                low = middle + 1
            else:
                high = middle
        return low

    def list_objects(
        self, folder: FolderLocation, names: NameRange = ALL_NAMES, *, glob: str | None = None
    ) -> Iterator[StoredObject]:
        if folder != FENCE:
            yield from super().list_objects(folder, names, glob=glob)
            return
        first = self.position(names.start)
        last = self.total if names.end is None else self.position(names.end)
        for number in range(first, last):
            if (number - first) % PAGE == 0:
                self._count_page()
            yield StoredObject(ObjectLocation("photos", self.name(number)), 1, 100_000, EPOCH, "image/jpeg")
        if first == last:
            self._count_page()

    def list_page(self, folder: FolderLocation, names: NameRange = ALL_NAMES, token: str = "") -> Page:
        self._count_page()
        first = int(token or self.position(names.start))
        last = self.total if names.end is None else self.position(names.end)
        end = min(last, first + PAGE)
        resources = [DESCRIBED | {"name": self.name(number)} for number in range(first, end)]
        return Page(folder, resources, str(end) if end < last else "")

    def _count_page(self) -> None:
        with self._page_lock:
            self.pages += 1


def planned(store: MadeUpStore, tasks: int) -> Plan:
    with ThreadPoolExecutor(8) as executor:
        service = make_service(store, executor)
        params = RunParameters.of(RunRequest(task_index=0, task_count=tasks), service.settings, HOUR)
        lease = Lease(store, params.run_folder, 0)
        assert lease.acquire()
        return obtain_plan(params, service, lease, store.list_page(FENCE), Stop())


def real_sizes(store: MadeUpStore, plan: Plan) -> list[int]:
    """How many images each task's names have, counted in the folder and not taken from the plan."""
    positions = [0, *map(store.position, plan.boundaries), store.total]
    return [after - before for before, after in pairwise(positions)]


@pytest.mark.parametrize(("total", "tasks"), [(100_000, 7), (99_999, 10_000), (1_000, 10_000), (0, 5), (3, 8)])
def test_the_chunks_differ_by_one_at_most(total: int, tasks: int) -> None:
    store = MadeUpStore(total)
    plan = planned(store, tasks)
    sizes = real_sizes(store, plan)
    assert (len(sizes), sum(sizes)) == (tasks, total)
    assert max(sizes) - min(sizes) <= 1
    assert plan.sizes == tuple(sizes)
    alone = max(1, -(-total // PAGE))
    assert alone <= store.pages <= (alone if alone < 6 else alone * 1.05 + 16)


@pytest.mark.parametrize("tasks", [2, pytest.param(50, marks=pytest.mark.slow), 400])
def test_boundaries_between_names_that_were_not_kept_are_looked_up(tasks: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.runs.partition._MOST_BYTES", 200_000)
    total = 250_000
    store = MadeUpStore(total)
    sizes = real_sizes(store, planned(store, tasks))
    assert (len(sizes), sum(sizes)) == (tasks, total)
    assert max(sizes) - min(sizes) <= 1
    # One listing for each boundary at most.
    assert total // PAGE < store.pages <= total // PAGE * 1.05 + 16 + tasks


@dataclass(frozen=True)
class Planned:
    """What planning took, in a process of its own."""

    sizes: list[int]
    listings: int
    seconds: float
    grown: int
    """Bytes by which the process grew at the most."""
    plan_bytes: int


def measure(total: int, tasks: int) -> Planned:
    planned(MadeUpStore(1000), 10)  # What is imported and kept anyway is not counted.
    store = MadeUpStore(total)
    before = peak_memory()
    began = time.monotonic()
    plan = planned(store, tasks)
    seconds = time.monotonic() - began
    grown = peak_memory() - before
    plan_bytes = len(store.held(f"gs://photos/thumbnail-runs/{plan.run_id}/plan.json").data)
    return Planned(real_sizes(store, plan), store.pages, seconds, grown, plan_bytes)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("tasks", [50, 10_000])
def test_ten_million_images_are_split_in_bounded_memory(tasks: int, capsys: pytest.CaptureFixture[str]) -> None:
    total = 10_000_000
    with multiprocessing.get_context("spawn").Pool(1) as process:
        got = process.apply(measure, (total, tasks))
    with capsys.disabled():
        sys.stdout.write(
            f"\n{total:,} images, {tasks:,} tasks: {got.listings:,} listings, {got.seconds:.0f} s, "
            f"{got.grown / MEBIBYTE:.0f} MiB more, a plan of {got.plan_bytes / 1024:,.0f} KiB, "
            f"chunks of {min(got.sizes):,} to {max(got.sizes):,}\n"
        )
    assert (len(got.sizes), sum(got.sizes)) == (tasks, total)
    assert max(got.sizes) - min(got.sizes) <= 1
    assert got.listings <= total // PAGE * 1.05 + tasks
    assert got.grown < 64 * MEBIBYTE
