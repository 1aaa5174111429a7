"""Dollars for requests and processor time, by storage class.

List prices in US dollars are in `Prices`; what is billed is on cloud.google.com/storage/pricing.
"""

from collections import Counter
from collections.abc import Mapping

from pydantic import BaseModel, Field

from service.prices import Prices
from service.runs.record import Count
from service.storage.classes import StorageClass
from service.storage.metering import Usage

_GIBIBYTE = 1024 * 1024 * 1024
_DIGITS = 9
"""Of dollars after the point. A read of Standard storage costs 0.0000004."""


class ClassCost(BaseModel):
    """The requests to objects of one storage class."""

    class_a_requests: Count = Field(0, description="Writes and listings.")
    class_b_requests: Count = Field(0, description="Reads.")
    bytes_read: Count = Field(0, description="The retrieval fee is for these; STANDARD has none.")
    dollars: float = Field(0.0, ge=0, allow_inf_nan=False, description="Requests and retrieval.")

    def __add__(self, other: "ClassCost") -> "ClassCost":
        return ClassCost.model_construct(
            class_a_requests=self.class_a_requests + other.class_a_requests,
            class_b_requests=self.class_b_requests + other.class_b_requests,
            bytes_read=self.bytes_read + other.bytes_read,
            dollars=rounded(self.dollars + other.dollars),
        )


class ClassEstimate(ClassCost):
    """The requests to objects of one storage class that a run will make."""

    images: Count = Field(0, description="To be made.")


class Cost(BaseModel):
    """Requests that storage served, and what they and the processor time cost."""

    class_a_requests: Count = Field(0, description="Writes, listings, reports.")
    class_b_requests: Count = Field(0, description="Reads.")
    dollars: float = Field(
        0.0,
        ge=0,
        allow_inf_nan=False,
        description="Requests, retrieval and processor time; neither the network nor what is stored.",
    )
    by_class: Mapping[StorageClass, ClassCost] = Field({}, description="The requests, by storage class.")

    def __add__(self, other: "Cost") -> "Cost":
        classes = [each for each in StorageClass if each in self.by_class or each in other.by_class]
        nothing = ClassCost()
        return Cost.model_construct(
            class_a_requests=self.class_a_requests + other.class_a_requests,
            class_b_requests=self.class_b_requests + other.class_b_requests,
            dollars=rounded(self.dollars + other.dollars),
            by_class={each: self.by_class.get(each, nothing) + other.by_class.get(each, nothing) for each in classes},
        )


class PlannedCost(Cost):
    """The cost of a run that is yet to be made."""

    by_class: Mapping[StorageClass, ClassEstimate] = Field({}, description="Images and requests, by storage class.")


def cost_of(usage: Usage, seconds: float, prices: Prices) -> Cost:
    """Return the cost of operations, and of one task for so many seconds."""
    by_class = cost_by_class(usage, prices)
    return Cost(
        class_a_requests=sum(each.class_a_requests for each in by_class.values()),
        class_b_requests=sum(each.class_b_requests for each in by_class.values()),
        dollars=rounded(sum(each.dollars for each in by_class.values()) + seconds * prices.task_second),
        by_class=by_class,
    )


def cost_by_class(usage: Usage, prices: Prices) -> dict[StorageClass, ClassCost]:
    """Return the cost of operations, of each class that has any."""
    class_a, class_b = Counter[StorageClass](), Counter[StorageClass]()
    for (operation, storage_class), number in usage.operations.items():
        (class_a if operation.is_class_a else class_b)[storage_class] += number
    return {
        each: ClassCost(
            class_a_requests=class_a[each],
            class_b_requests=class_b[each],
            bytes_read=usage.bytes_read[each],
            dollars=rounded(
                class_a[each] * prices.class_a(each)
                + class_b[each] * prices.class_b(each)
                + usage.bytes_read[each] / _GIBIBYTE * prices.retrieval_gib(each)
            ),
        )
        for each in StorageClass
        if class_a[each] or class_b[each]
    }


def rounded(dollars: float) -> float:
    """Return dollars without the digits that only arithmetic adds."""
    return round(dollars, _DIGITS)
