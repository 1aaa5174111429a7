"""A repair with `created` and nothing to do: its requests and its memory, for 100,000 images in few hours and many."""

import multiprocessing
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta

import pytest

from service.naming import BOOKKEEPING_FOLDER, GENERATION_KEY, SIZE_KEY, SOURCE_KEY, SPEC_KEY, Hour, is_output
from service.prices import Prices
from service.runs.request import RunRequest
from service.storage.addresses import ALL_NAMES, FolderLocation, NameRange, ObjectLocation
from service.storage.base import StoredObject
from tests.support.assembly import Task, finished, make_service
from tests.support.memory_store import EPOCH, MemoryStore
from tests.support.memory_use import MEBIBYTE, peak_memory

PAGE = 1000
IMAGES = 100_000


class Made(MemoryStore):
    """Images that all have their thumbnails, made up as they are asked for; counts requests by class."""

    def __init__(self, total: int, hours: int, *, scattered: bool) -> None:
        super().__init__("photos")
        self.total = total
        self.requests = Counter[str]()
        self._hours = hours
        self._scattered = scattered

    def _source(self, number: int) -> StoredObject:
        hour = number % self._hours if self._scattered else number * self._hours // self.total
        created = EPOCH + timedelta(hours=hour)
        return StoredObject(ObjectLocation("photos", f"in/{number:07}.jpg"), 7, 100_000, created, "image/jpeg")

    def _thumbnail(self, number: int) -> StoredObject:
        source = self._source(number)
        metadata = {
            SOURCE_KEY: str(source.location), GENERATION_KEY: "7", SPEC_KEY: "100x100 original q80", SIZE_KEY: "1x1",
        }  # fmt: skip
        location = ObjectLocation("photos", f"{Hour.of(source.created)}/{number:07}.jpg")
        return StoredObject(location, 8, 1, EPOCH, "image/jpeg", metadata=metadata)

    def list_objects(
        self, folder: FolderLocation, names: NameRange = ALL_NAMES, *, glob: str | None = None
    ) -> Iterator[StoredObject]:
        if folder.prefix == "in/":
            listed: Iterator[StoredObject] = map(self._source, range(self.total))
        elif is_output(folder.prefix) and not folder.prefix.startswith(BOOKKEEPING_FOLDER):
            numbers = self._numbers_of(folder.prefix.rstrip("/"), names)
            listed = (stored for stored in map(self._thumbnail, numbers) if stored.location.name in names)
        else:
            yield from super().list_objects(folder, names, glob=glob)
            return
        self.requests["A"] += 1
        for count, stored in enumerate(listed, 1):
            yield stored
            self.requests["A"] += count % PAGE == 0

    def _numbers_of(self, hour: str, names: NameRange) -> range:
        """Return the numbers of the images that were created in an hour, from the start of the range on."""
        moment = datetime.strptime(hour, "%Y%m%dT%H%z")
        nth = (moment - EPOCH) // timedelta(hours=1)
        digits = names.start.rpartition("/")[2][:7]
        first = int(digits) if digits.isdecimal() else 0
        if self._scattered:
            return range(first + (nth - first) % self._hours, self.total, self._hours)
        begin, end = (-(-hour_number * self.total // self._hours) for hour_number in (nth, nth + 1))
        return range(max(first, begin), end)

    def stat(self, location: ObjectLocation, generation: int | None = None) -> StoredObject:
        if not is_output(location.name) or location.name.startswith(BOOKKEEPING_FOLDER):
            return super().stat(location, generation)
        with self._lock:
            self.requests["B"] += 1
        thumbnail = self._thumbnail(int(location.name.rpartition("/")[2].partition(".")[0]))
        assert thumbnail.location == location, "the first name that is looked under is the right one"
        return thumbnail


@dataclass(frozen=True)
class Repaired:
    """The requests and the memory of a repair, in a process of its own."""

    class_a: int
    class_b: int
    grown: int
    """Bytes by which the process grew at the most."""


def repair(total: int, hours: int, scattered: bool) -> Repaired:  # noqa: FBT001 - sent to a process
    with ThreadPoolExecutor(16) as executor:
        run(Made(2 * PAGE, 2, scattered=True), executor)  # What is imported and kept anyway is not counted.
        store = Made(total, hours, scattered=scattered)
        before = peak_memory()
        run(store, executor)
    grown = peak_memory() - before
    return Repaired(store.requests["A"], store.requests["B"], grown)


def run(store: Made, executor: ThreadPoolExecutor) -> None:
    report = finished(Task(make_service(store, executor, concurrency=16), RunRequest(timestamp="created")))
    assert (report.created, report.skipped) == (0, store.total)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("scattered", [False, True])
@pytest.mark.parametrize("hours", [1, 100, 1_000, 20_000])
def test_a_repair_with_nothing_to_do_costs_a_metadata_get_an_image_at_most(
    hours: int, capsys: pytest.CaptureFixture[str], *, scattered: bool
) -> None:
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as process:
        got = process.apply(repair, (IMAGES, hours, scattered))
        few = process.apply(repair, (IMAGES // 10, min(hours, 2_000), scattered))
    prices = Prices()
    dollars = got.class_a / 10_000 * prices.class_a_per_10000 + got.class_b / 10_000 * prices.class_b_per_10000
    with capsys.disabled():
        sys.stdout.write(
            f"\n{IMAGES:,} images in {hours:,} hours, {'scattered' if scattered else 'in order'}: "
            f"class A {got.class_a:,}, class B {got.class_b:,}, ${dollars:.4f}, {got.grown / MEBIBYTE:.1f} MiB more "
            f"(a tenth of the images: {few.grown / MEBIBYTE:.1f})\n"
        )
    assert got.class_b <= IMAGES
    dense = IMAGES // hours > PAGE // 10 if not scattered else hours == 1
    if dense:
        assert got.class_a + got.class_b <= IMAGES / 100
    assert got.grown <= few.grown + 4 * MEBIBYTE
