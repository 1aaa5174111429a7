from typing import Any

import pytest

from service.prices import Prices
from service.runs.estimate import (
    _SECONDS_PER_REPORT,
    SECONDS_PER_MIB,
    Estimate,
    Images,
    estimate,
    image_dollars,
    pages,
    planning,
)
from service.runs.reporter import FIRST_SECONDS, seconds_between_reports
from service.settings import Settings
from service.storage.addresses import ObjectLocation
from service.storage.base import StoredObject
from service.storage.classes import StorageClass
from service.storage.metering import Operation, Usage, listings
from tests.support.memory_store import EPOCH

MEBIBYTE = 1024 * 1024
GIBIBYTE = 1024 * MEBIBYTE
STANDARD, NEARLINE, COLDLINE, ARCHIVE = StorageClass


def settings(**values: Any) -> Settings:  # noqa: ANN401 - whatever a setting is
    return Settings.model_validate({"input_folder": "gs://photos"} | values)


def of(count: int, size: int, content_type: str = "image/jpeg", storage_class: StorageClass = STANDARD) -> Images:
    return Images({(content_type, storage_class): (count, size)})


def photos(storage_class: StorageClass) -> Estimate:
    """A million phone photos of 4 MiB."""
    images = of(1_000_000, 4_000_000 * MEBIBYTE, storage_class=storage_class)
    return estimate(images, planning(1_000_000, 100, 1), settings(), tasks=100, shared=True)


def test_a_million_phone_photos_cost_what_the_price_pages_say() -> None:
    got = photos(STANDARD)
    assert (got.media_reads, got.writes, got.bytes_to_read) == (1_000_000, 1_000_000, 4_000_000 * MEBIBYTE)
    # Writes, listings to plan and to work, and looks into the hour folder. The rest is what each task writes of itself.
    assert got.class_a_requests == pytest.approx(1_003_000, rel=0.01)
    assert got.class_b_requests == pytest.approx(1_000_000, abs=200)
    requests = got.class_a_requests * 0.05 / 10_000 + got.class_b_requests * 0.004 / 10_000
    computing = got.seconds * (0.000018 + 0.5 * 0.000002)
    assert got.dollars == pytest.approx(requests + computing, rel=0.001)
    assert got.dollars == pytest.approx(6.2, abs=0.1)
    assert got.seconds >= got.vcpu_seconds > 4_000_000 * SECONDS_PER_MIB["image/jpeg"]
    assert got.if_autoclass is None


@pytest.mark.parametrize(
    ("storage_class", "reads", "retrieval"), [(NEARLINE, 1, 39.06), (COLDLINE, 10, 78.13), (ARCHIVE, 50, 195.31)]
)
def test_the_same_photos_in_a_colder_class_cost_their_retrieval_and_dearer_reads(
    storage_class: StorageClass, reads: float, retrieval: float
) -> None:
    standard, cold = photos(STANDARD), photos(storage_class)
    assert cold.by_class[storage_class].dollars == pytest.approx(reads + retrieval, abs=0.01)
    assert cold.by_class[storage_class].images == cold.by_class[storage_class].class_b_requests == 1_000_000
    assert cold.dollars - standard.dollars == pytest.approx(reads + retrieval - 0.4, abs=0.01)
    # Thumbnails, reports and listings are of Standard storage.
    assert cold.by_class[STANDARD].class_a_requests == standard.class_a_requests
    assert cold.by_class[storage_class].class_a_requests == 0


def test_with_autoclass_there_is_no_retrieval_fee_but_a_move_for_each_image_of_the_two_coldest_classes() -> None:
    standard = photos(STANDARD)
    for storage_class, moves in ((NEARLINE, 0), (COLDLINE, 5), (ARCHIVE, 5)):
        got = photos(storage_class).if_autoclass
        assert got
        assert (got.images, got.bytes) == (1_000_000, 4_000_000 * MEBIBYTE)
        assert got.dollars == pytest.approx(standard.dollars + moves, abs=0.001)


def test_every_size_is_one_more_write_and_no_further_read() -> None:
    photos = of(10, 10, "image/png")
    one, three = (
        estimate(photos, Usage(), settings(thumbnail_sizes=sizes)) for sizes in ("100x100", "10x10,20x20,30x30")
    )
    assert (three.media_reads, three.writes) == (one.media_reads, 3 * one.writes)


def test_several_tasks_list_once_more_to_plan() -> None:
    assert planning(2001, 1, 1).count(Operation.LIST) == 3 + 2 * 3 + 1
    assert planning(2001, 50, 1).count(Operation.LIST) == 3 + 50 * (1 + 1 + 1)
    assert [pages(listed) for listed in (0, 1, 1000, 1001)] == [1, 1, 1, 2]
    alone, shared = (estimate(of(1, 10), listings(3), settings(), shared=shared) for shared in (False, True))
    assert shared.class_a_requests == alone.class_a_requests + 1
    assert shared.class_b_requests == alone.class_b_requests + 2


def test_bookkeeping_is_a_plan_and_of_each_task_a_manifest_and_its_reports() -> None:
    # How long it takes is how many pictures there are, since listings take no part.
    for images, reports in ((1, 1), (500, 2), (2500, 3), (5000, 4)):
        assert estimate(of(images, 0), Usage(), settings()).class_a_requests == images + 2 + reports
    four = estimate(of(20_000, 0), Usage(), settings(), tasks=4, shared=True)
    assert four.class_a_requests == 20_000 + 1 + 4 * (1 + 1 + 4)
    assert (seconds_between_reports(1), 1) == (_SECONDS_PER_REPORT, FIRST_SECONDS)


def test_what_is_written_has_the_price_of_its_class() -> None:
    got = estimate(of(1000, 0), listings(2), settings(output_storage_class="nearline"), renamed=3)
    assert got.by_class[NEARLINE].class_a_requests == got.class_a_requests - 2
    assert got.by_class[STANDARD].class_a_requests == 2
    assert got.by_class[NEARLINE].class_b_requests == 3
    assert got.by_class[STANDARD].class_b_requests == 1000


def test_a_renamed_image_takes_a_look_at_what_holds_its_name() -> None:
    plain, renamed = (estimate(of(10, 0), Usage(), settings(), renamed=renamed) for renamed in (0, 4))
    assert renamed.class_a_requests == plain.class_a_requests
    assert renamed.class_b_requests == plain.class_b_requests + 4


def test_prices_are_what_the_setting_says() -> None:
    free = '{"class_a_per_10000": 0, "class_b_per_10000": 1, "vcpu_second": 0, "gib_second": 0}'
    assert estimate(of(10_000, 0), Usage(), settings(prices=free)).dollars == pytest.approx(1, rel=0.001)


def test_the_price_of_one_image_is_its_part_of_the_estimate() -> None:
    source = StoredObject(ObjectLocation("photos", "x"), 1, GIBIBYTE, EPOCH, "image/jpeg", storage_class=ARCHIVE)
    free_time = settings(prices='{"vcpu_second": 0, "gib_second": 0}')
    assert image_dollars(source, free_time) == pytest.approx(0.05 + 0.00005 + 0.000005)
    timed = image_dollars(source, settings())
    assert timed == pytest.approx(0.050055 + (0.004 + 1024 * SECONDS_PER_MIB["image/jpeg"]) * 0.000019)


def test_the_prices_are_those_of_the_page() -> None:
    prices = Prices()
    assert [prices.class_a(each) * 1000 for each in StorageClass] == pytest.approx([0.005, 0.01, 0.02, 0.05])
    assert [prices.class_b(each) * 1000 for each in StorageClass] == pytest.approx([0.0004, 0.001, 0.01, 0.05])
    assert [prices.retrieval_gib(each) for each in StorageClass] == [0, 0.01, 0.02, 0.05]
