"""Numbers, sizes and times as pages show them."""

from datetime import datetime, timedelta, timezone

import pytest

from service.naming import Hour
from service.web import rendering


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (3481, "3.4 KiB"),
        (102_400, "100.0 KiB"),
        (5 * 2**30, "5.0 GiB"),
        (1500 * 2**40, "1.5 PiB"),
    ],
)
def test_sizes_have_a_binary_unit(size: int, text: str) -> None:
    assert rendering.format_size(size) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min 0 s"),
        (125, "2 min 5 s"),
        (12_000, "3 h 20 min"),
        (4e6, "1,111 h 6 min"),
    ],
)
def test_durations_have_two_units_at_most(seconds: float, text: str) -> None:
    assert rendering._duration(seconds) == text


def test_times_are_in_utc() -> None:
    moment = datetime(2025, 12, 3, 1, 2, 3, tzinfo=timezone(timedelta(hours=5)))
    assert rendering._moment(moment) == "2025-12-02 20:02:03 UTC"
    assert rendering._long_hour(Hour("00010203T09Z")) == "3 February 0001, 09:00 UTC"
