"""The most that a run may cost, and what keeps it to that.

A run of many tasks is priced when it is planned, and refused as a whole. A run of one task plans nothing: it stops
before the image that would pass the limit.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from threading import Condition

from service.bootstrap import Service
from service.errors import InvalidValue, TooExpensive
from service.process import POLL_SECONDS, Stop
from service.runs.costs import PlannedCost, rounded
from service.runs.estimate import Images, estimate, image_dollars
from service.runs.existing import BATCH, FEW, Work
from service.runs.plan import Plan
from service.runs.report import Report
from service.runs.request import Limit, RunParameters
from service.storage.base import StoredObject
from service.storage.classes import StorageClass
from service.storage.metering import listings

_OPENING_WRITES = 1
"""The plan."""
_CLOSING_WRITES = 2
"""The manifest and the last report."""


def check_price(plan: Plan, params: RunParameters) -> None:
    """Compare the price of a run of many tasks with its limit, if it has one.

    Raises:
        TooExpensive: it is higher.
        InvalidValue: the plan has no price, since an older version made it.
    """
    if not params.limit or params.chunk.count == 1:
        return
    if plan.cost is None:
        raise InvalidValue(
            "run_id", params.run_id, "was planned by an older version, which did not price it; give another run_id"
        )
    cost = plan.cost
    if cost.dollars > params.limit.dollars:
        problem = (
            f"is less than what the run would cost, {_text(cost.dollars)} dollars; no image was read. Give a higher "
            "limit, a folder with fewer images, or STORAGE_CLASSES that cost less to read"
        )
        raise _too_expensive(params.limit, problem, cost)


def say_what_is_left(error: TooExpensive, report: Report) -> TooExpensive:
    """Return the error of a run that was stopped, once no image is in flight any more, with what is left."""
    snapshot = report.snapshot()
    left = f"{snapshot.discovered - snapshot.assigned:,} images that were listed are left"
    if not report.listed_all:
        left += ", and those that come after them"
    advice = f"call again with a higher limit and the run_id {snapshot.run_id!r} to go on"
    return TooExpensive(error.field, error.value, f"{error.problem}. {left}; {advice}")


class Allowance:
    """The dollars that a run of one task may spend. Worker threads share it.

    An image takes its price when it is admitted, and gives it back when it has ended: what it has really cost was
    counted by then. The requests that end the run are kept for them all along.
    """

    def __init__(self, limit: Limit, service: Service, report: Report, spent_before: float, stop: Stop) -> None:
        """Assemble. Earlier attempts, which this one goes on with, have spent `spent_before` dollars."""
        self._limit = limit
        self._service = service
        self._settings = service.settings
        self._report = report
        self._spent_before = spent_before
        self._stop = stop
        self._ended = Condition()
        self._reserved = 0.0
        self._in_flight = 0
        prices, output_class = self._settings.prices, self._settings.output_storage_class
        self._write = prices.class_a(output_class)
        self._listing = prices.class_a(StorageClass.STANDARD)
        self._rename = prices.class_b(output_class) * len(self._settings.specs)
        hours = 1 if report.params.hour else BATCH // FEW
        self._listings_per_batch = 1 + hours * len(self._settings.specs)

    @classmethod
    def of(cls, service: Service, report: Report, spent_before: float, stop: Stop) -> "Allowance | None":
        """Return the allowance of a run; None if it has no limit, or is priced when it is planned."""
        limit = report.params.limit if report.params.chunk.count == 1 else None
        return cls(limit, service, report, spent_before, stop) if limit else None

    def check_start(self, objects: Iterable[StoredObject]) -> None:
        """See that the run can be begun and ended. Takes a page of objects only if it cannot.

        Raises:
            TooExpensive: it cannot.
        """
        needed = self._needed(_OPENING_WRITES * self._write + self._listing)
        if needed <= self._limit.dollars:
            return
        images = Images()
        for stored in islice(objects, BATCH):
            if self._service.selection.is_source(stored, self._report.params.since):
                images.add(stored)
        cost = estimate(images, self._report.meter.usage + listings(1), self._settings).planned
        before = f", {_text(self._spent_before)} of them spent by earlier attempts" if self._spent_before else ""
        problem = (
            f"does not pay for the listing, the plan and the report of the run, {_text(needed)} dollars{before}; no "
            f"image was read. With the images of a page of the listing it would cost {_text(cost.dollars)} dollars"
        )
        raise _too_expensive(self._limit, problem, cost)

    def listed(self, objects: Iterable[StoredObject]) -> Iterator[StoredObject]:
        """Yield objects of a listing as long as there are dollars for its next page, and for a look at what is there.

        Raises:
            TooExpensive: there are none.
        """
        for number, stored in enumerate(objects, 1):
            yield stored
            if number % BATCH == 0:
                self._make_room(self._listings_per_batch * self._listing, "the next page of the listing")

    def admit(self, work_items: Iterable[Work]) -> Iterator[Work]:
        """Yield images as long as there are dollars for the next.

        Raises:
            TooExpensive: there are none.
        """
        for work in work_items:
            price = image_dollars(work.source, self._settings)
            with self._ended:
                self._make_room(price, str(work.source.location))
                self._reserved += price + self._rename
                self._in_flight += 1
            yield work

    @contextmanager
    def processing(self, work: Work) -> Iterator[None]:
        """Give back the price of an image that was admitted, once the block ends."""
        try:
            yield
        finally:
            with self._ended:
                self._reserved -= image_dollars(work.source, self._settings) + self._rename
                self._in_flight -= 1
                self._ended.notify_all()

    def _make_room(self, price: float, what: str) -> None:
        """Wait for images in flight, which may turn out to cost less, if the price would pass the limit."""
        with self._ended:
            while (needed := self._needed(price)) > self._limit.dollars:
                if not self._in_flight:
                    problem = (
                        f"would be passed by {what}, at {_text(needed)} dollars with what ends the run; "
                        f"{_text(self._spent)} were spent"
                    )
                    raise _too_expensive(self._limit, problem)
                self._ended.wait(POLL_SECONDS)
                self._stop.raise_if_set("the run was stopped before its last image")

    def _needed(self, price: float) -> float:
        reserved = self._reserved if self._in_flight else 0.0
        return rounded(self._spent + reserved + _CLOSING_WRITES * self._write + price)

    @property
    def _spent(self) -> float:
        return self._spent_before + self._report.cost.dollars


def _too_expensive(limit: Limit, problem: str, cost: PlannedCost | None = None) -> TooExpensive:
    return TooExpensive(limit.field, limit.dollars, problem, cost.model_dump(mode="json") if cost else None)


def _text(dollars: float) -> str:
    """Format dollars with two digits after the point, and with up to six if they are less than one."""
    return f"{dollars:,.2f}" if dollars >= 1 else f"{dollars:.6f}".rstrip("0").ljust(4, "0")
