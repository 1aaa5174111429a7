from collections import Counter

import pytest
from pydantic import ValidationError

from service.prices import Prices
from service.runs.costs import ClassCost, Cost, cost_of
from service.settings import load_settings
from service.storage.classes import StorageClass
from service.storage.metering import Operation, Usage

GIBIBYTE = 1024**3
STANDARD, NEARLINE, COLDLINE, ARCHIVE = StorageClass


def test_operations_cost_what_their_kind_and_their_class_do() -> None:
    usage = Usage(
        Counter(
            {
                (Operation.LIST, STANDARD): 4,
                (Operation.WRITE, STANDARD): 6,
                (Operation.READ, ARCHIVE): 2,
                (Operation.DESCRIBE, COLDLINE): 1,
            }
        ),
        Counter({ARCHIVE: GIBIBYTE // 2}),
    )
    cost = cost_of(usage, 100, Prices())
    assert cost.by_class == {
        STANDARD: ClassCost(class_a_requests=10, dollars=0.00005),
        COLDLINE: ClassCost(class_b_requests=1, dollars=0.00001),
        ARCHIVE: ClassCost(class_b_requests=2, bytes_read=GIBIBYTE // 2, dollars=0.0251),
    }
    assert (cost.class_a_requests, cost.class_b_requests) == (10, 3)
    assert cost.dollars == pytest.approx(0.02516 + 100 * 0.000019)


def test_costs_add_up_by_class() -> None:
    one = Cost(class_a_requests=1, dollars=0.1, by_class={STANDARD: ClassCost(class_a_requests=1, dollars=0.1)})
    other = Cost(
        class_b_requests=5,
        dollars=0.2,
        by_class={
            STANDARD: ClassCost(class_b_requests=2, bytes_read=7, dollars=0.1),
            ARCHIVE: ClassCost(class_b_requests=3, dollars=0.1),
        },
    )
    both = one + other
    assert (both.class_a_requests, both.class_b_requests, both.dollars) == (1, 5, 0.3)
    assert both.by_class[STANDARD] == ClassCost(class_a_requests=1, class_b_requests=2, bytes_read=7, dollars=0.2)
    assert both.by_class[ARCHIVE] == ClassCost(class_b_requests=3, dollars=0.1)
    assert Cost() + Cost() == Cost()


def test_the_setting_names_the_prices_that_are_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INPUT_FOLDER", "gs://photos")
    monkeypatch.setenv("PRICES", '{"class_a_per_10000": 0.1, "archive_retrieval_gib": 0.03}')
    assert load_settings().prices == Prices(class_a_per_10000=0.1, archive_retrieval_gib=0.03)


def test_a_price_that_is_unknown_negative_or_no_number_is_refused() -> None:
    with pytest.raises(ValidationError):
        Prices.model_validate({"class_c": 1})
    for wrong in (-1, float("nan"), float("inf")):
        with pytest.raises(ValidationError):
            Prices(archive_class_a_per_10000=wrong)
