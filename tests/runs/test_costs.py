import pytest
from pydantic import ValidationError

from service.runs.costs import SECONDS_PER_MIB, OfType, estimate
from service.settings import Prices, load_settings

MEBIBYTE = 1024 * 1024


def test_a_million_phone_photos_cost_what_the_price_pages_say() -> None:
    photos = {"image/jpeg": OfType(images=1_000_000, bytes=4_000_000 * MEBIBYTE)}
    got = estimate(photos, listed=1_000_000, outputs=1, prices=Prices(), tasks=100)
    assert (got.media_reads, got.writes, got.bytes_to_read) == (1_000_000, 1_000_000, 4_000_000 * MEBIBYTE)
    # Writes and two listings of a thousand pages; and reads. The rest is bookkeeping.
    assert got.class_a_requests == pytest.approx(1_002_000, abs=10)
    assert got.class_b_requests == pytest.approx(1_000_000, abs=10)
    requests = 1_002_000 * 0.05 / 10_000 + 1_000_000 * 0.004 / 10_000
    computing = got.seconds * (0.000018 + 0.5 * 0.000002)
    assert got.dollars == pytest.approx(requests + computing, rel=0.001)
    assert got.seconds >= got.vcpu_seconds > 4_000_000 * SECONDS_PER_MIB["image/jpeg"]


def test_every_size_is_one_more_write_and_no_further_read() -> None:
    photos = {"image/png": OfType(images=10, bytes=10)}
    one, three = (estimate(photos, listed=10, outputs=outputs, prices=Prices()) for outputs in (1, 3))
    assert (three.media_reads, three.writes) == (one.media_reads, 3 * one.writes)


def test_several_tasks_list_once_more_to_plan() -> None:
    photos = {"image/jpeg": OfType(images=1, bytes=10)}
    one, two, many = (estimate(photos, listed=2001, outputs=1, prices=Prices(), tasks=tasks) for tasks in (1, 2, 50))
    assert two.class_a_requests == many.class_a_requests == one.class_a_requests + 3
    assert two.seconds > one.seconds


def test_prices_are_what_the_setting_says() -> None:
    photos = {"image/png": OfType(images=10_000, bytes=0)}
    free = Prices(class_a_per_10000=0, class_b_per_10000=1, vcpu_second=0, gib_second=0)
    assert estimate(photos, listed=0, outputs=1, prices=free).dollars == pytest.approx(1, rel=0.001)


def test_the_setting_names_the_prices_that_are_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INPUT_FOLDER", "gs://photos")
    monkeypatch.setenv("PRICES", '{"class_a_per_10000": 0.1}')
    assert load_settings().prices == Prices(class_a_per_10000=0.1)


def test_a_price_that_is_unknown_or_negative_is_refused() -> None:
    with pytest.raises(ValidationError):
        Prices.model_validate({"class_c": 1})
    with pytest.raises(ValidationError):
        Prices(class_a_per_10000=-1)
