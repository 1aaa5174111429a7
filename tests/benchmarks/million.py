"""What a million phone photos cost, computed from measurements of tasks that have one processor each.

The prices are those of `service/costs.py`. What is not in here: the network (within a region it costs nothing), what is
stored, and what is free of charge every month.
"""

import os
import statistics
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from service.prices import Prices
from service.runs.estimate import Images, estimate, pages
from service.runs.reporter import seconds_between_reports
from service.settings import Settings
from service.storage.classes import StorageClass
from service.storage.metering import listings
from tests.benchmarks.corpora import corpus
from tests.benchmarks.processes import StandIn, server, stand_in
from tests.benchmarks.sections import NEAR, Effort, Say, Section
from tests.benchmarks.standin import BOOKKEEPING
from tests.benchmarks.tables import figure, table
from tests.benchmarks.tasks import Shared, share

_IMAGES = 1_000_000
_TASKS = (1, 10, 100)
_PRICES = Prices()
_PRICES_AS_OF = "November 2026"
_LEAST_BILLED_SECONDS = 60
"""Of each task (cloud.google.com/run/pricing)."""
_HOUR = 3600

_COUNTS = {Effort.SMOKE: 16, Effort.QUICK: 60, Effort.FULL: 240}
_ROUNDS = {Effort.SMOKE: 1, Effort.QUICK: 1, Effort.FULL: 3}
_FURTHER = 3
"""Tasks, beside one, by which it is measured what each of them asks."""
_LISTED = {Effort.SMOKE: 5_000, Effort.QUICK: 50_000, Effort.FULL: 50_000}

_CLASS_A, _CLASS_B = ("list", "write"), ("read", "stat")
"""Kinds of requests by what they cost (cloud.google.com/storage/pricing)."""


@dataclass(frozen=True, slots=True)
class Basis:
    """What was measured."""

    start: float
    """Seconds that a task takes which finds nothing to do."""
    listing: float
    """Seconds for an object while a run is planned."""
    seconds: float
    """An image, of a task with one processor."""
    cpu_seconds: float
    """An image."""
    class_a: float
    """Requests an image, without listings and bookkeeping."""
    class_b: float
    further_a: float
    """Requests of a further task."""
    further_b: float
    bytes_an_image: float


@dataclass(frozen=True, slots=True)
class Cost:
    """What so many tasks take for all of the images."""

    tasks: int
    seconds: float
    billed_seconds: float
    """Of all tasks."""
    class_a: float
    class_b: float

    @classmethod
    def of(cls, basis: Basis, tasks: int) -> "Cost":
        """Compute it. All tasks wait while one of them makes the plan, and are billed for that."""
        seconds = basis.start + _IMAGES * basis.listing + _IMAGES / tasks * basis.seconds
        # The folder is listed once to plan and once to work; and tasks report while they work.
        listings = 2 * _IMAGES / 1000
        reports = tasks * seconds / seconds_between_reports(tasks)
        return cls(
            tasks,
            seconds,
            tasks * max(seconds, _LEAST_BILLED_SECONDS),
            _IMAGES * basis.class_a + listings + reports + tasks * basis.further_a,
            _IMAGES * basis.class_b + tasks * basis.further_b,
        )

    @property
    def dollars_of_requests(self) -> float:
        """Storage's part."""
        return (self.class_a * _PRICES.class_a_per_10000 + self.class_b * _PRICES.class_b_per_10000) / 10_000

    @property
    def dollars_of_tasks(self) -> float:
        """Cloud Run's part."""
        return self.billed_seconds * (
            _PRICES.vcpu_per_task * _PRICES.vcpu_second + _PRICES.gib_per_task * _PRICES.gib_second
        )


@contextmanager
def _one_processor() -> Iterator[None]:
    """Let this process, and what it starts meanwhile, have one processor."""
    all_of_them = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(all_of_them)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, all_of_them)


def _task(storage: StandIn, images: int, tasks: int = 1) -> Shared:
    # What a container with one processor would have by default.
    return share(storage, images, tasks, CONCURRENCY="16")


def _listing(storage: StandIn, objects: int) -> float:
    """Seconds for an object while a run is planned, which is not done for a dry run of one task."""
    storage.reset(delay=NEAR, count=objects)
    with server(storage, CONCURRENCY="16") as service:
        service.run({"dry_run": True})
        alone, half = (
            service.run({"dry_run": True, "task_index": 0, "task_count": tasks})["elapsed_seconds"] for tasks in (1, 2)
        )
    return float(half - alone / 2) / objects


def measure(effort: Effort, say: Say) -> Basis:
    """Run the job on one processor."""
    images = corpus("tiny" if effort is Effort.SMOKE else "phone")
    count = _COUNTS[effort]
    with stand_in(images) as storage, _one_processor():
        idle = [_task(storage, 0) for _ in range(_ROUNDS[effort])]
        runs = [_task(storage, count) for _ in range(_ROUNDS[effort])]
        listing = _listing(storage, _LISTED[effort])
        shared = _task(storage, count, _FURTHER + 1)
    idle_cpu = statistics.median(found.cpu_seconds for found in idle)
    basis = Basis(
        start=statistics.median(found.seconds for found in idle),
        listing=listing,
        seconds=statistics.median(found.reports[0]["elapsed_seconds"] for found in runs) / count,
        cpu_seconds=statistics.median(found.cpu_seconds - idle_cpu for found in runs) / count,
        class_a=runs[0].requests.by_kind["write"] / count,
        class_b=(runs[0].requests.by_kind["read"] + runs[0].requests.by_kind["stat"]) / count,
        further_a=(_asked(shared, _CLASS_A) - _asked(runs[0], _CLASS_A)) / _FURTHER,
        further_b=(_asked(shared, _CLASS_B) - _asked(runs[0], _CLASS_B)) / _FURTHER,
        bytes_an_image=images.mean_bytes,
    )
    say(f"{basis}")
    return basis


def _asked(shared: Shared, kinds: tuple[str, ...]) -> int:
    requests = shared.requests
    return sum(requests.by_kind[kind] + requests.by_kind[BOOKKEEPING + kind] for kind in kinds)


def section(effort: Effort, say: Say) -> Section:
    """Measure one task, and reckon."""
    basis = measure(effort, say)
    rows = [
        (
            str(cost.tasks),
            figure(cost.seconds / _HOUR),
            figure(cost.billed_seconds / _HOUR),
            f"{cost.class_a:,.0f}",
            f"{cost.class_b:,.0f}",
            *(f"{dollars:.2f}" for dollars in (
                cost.dollars_of_requests, cost.dollars_of_tasks, cost.dollars_of_requests + cost.dollars_of_tasks
            )),
        )
        for cost in (Cost.of(basis, tasks) for tasks in _TASKS)
    ]  # fmt: skip
    titles = (
        "tasks", "hours", "hours of all tasks", "class A requests", "class B requests", "$ of requests", "$ of tasks",
        "$ in all",
    )  # fmt: skip
    promised = estimate(
        Images({("image/jpeg", StorageClass.STANDARD): (_IMAGES, round(_IMAGES * basis.bytes_an_image))}),
        listings(pages(_IMAGES)),
        Settings.model_validate({"input_folder": "gs://photos", "prices": _PRICES.model_dump_json()}),
    )  # fmt: skip
    text = (
        f"{table(titles, rows)}\n"
        f"Measured of one task with one processor, storage answering after 40 ms: {figure(1 / basis.seconds)} "
        f"images/s, {figure(basis.cpu_seconds * 1000)} CPU ms an image of {figure(basis.bytes_an_image / 1e6)} MB, "
        f"{figure(basis.start)} s for its start and end, {figure(basis.listing * 1e6)} s to list a million objects; a "
        f"further task asks {figure(basis.further_a)} requests of class A and {figure(basis.further_b)} of class B. "
        f"List prices of {_PRICES_AS_OF}: $ {_PRICES.class_a_per_10000} and {_PRICES.class_b_per_10000} for 10,000 "
        f"requests of class A and B, {_PRICES.vcpu_second} for a vCPU second, {_PRICES.gib_second} for a GiB second; "
        f"tasks of {_PRICES.vcpu_per_task:g} vCPU and {_PRICES.gib_per_task:g} GiB, billed for a minute at the least. "
        f"`dry_run` would have said: {promised.seconds / _HOUR:.1f} hours in one task, $ {promised.dollars:.2f}.\n"
    )
    return Section(text)
