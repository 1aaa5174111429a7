"""Each contender over one folder: how long it took, what it used, and what it asked of storage."""

import json
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tests.benchmarks.corpora import Corpus
from tests.benchmarks.processes import (
    BenchmarkFailed,
    Requests,
    StandIn,
    last_json_with,
    run_to_end,
    server,
)
from tests.benchmarks.standin import KINDS


@dataclass(frozen=True, slots=True)
class Measured:
    """One contender, once."""

    images: int
    seconds: float
    """Without the start of the process."""
    cpu_seconds: float
    """Of all its processes, without their start."""
    peak_bytes: int
    requests: Requests | None = None
    whole_seconds: float | None = None
    """From the start of the process to its end, for one that ends."""

    @property
    def rate(self) -> float:
        """Images a second."""
        return self.images / self.seconds

    @property
    def cpu_milliseconds(self) -> float:
        """CPU milliseconds an image."""
        return self.cpu_seconds * 1000 / self.images


@dataclass(frozen=True, slots=True)
class Task:
    """What a contender is to do."""

    corpus: Corpus
    count: int
    """Images in the folder."""
    delay: float
    """Seconds before storage answers."""


Contender = Callable[[Task, StandIn], Measured]


def service_run(task: Task, storage: StandIn) -> Measured:
    """`POST /run` over HTTP to a server that has just become healthy."""
    with server(storage) as service:
        before = service.used()
        storage.reset(delay=task.delay, count=task.count)
        report = service.run()
        after = service.used()
    requests = storage.requests()
    check(requests, report["created"], task.count)
    return Measured(
        task.count, report["elapsed_seconds"], after.cpu_seconds - before.cpu_seconds, after.peak_bytes, requests
    )


def service_job(task: Task, storage: StandIn) -> Measured:
    """`python -m service.job`; what it takes over an empty folder counts as its start."""
    command = [sys.executable, "-m", "service.job"]
    storage.reset(delay=task.delay, count=0)
    empty = run_to_end(command, storage.environment())
    storage.reset(delay=task.delay, count=task.count)
    ended = run_to_end(command, storage.environment())
    report = last_json_with("elapsed_seconds", ended.output)
    requests = storage.requests()
    check(requests, report["created"], task.count)
    return Measured(
        task.count,
        report["elapsed_seconds"],
        max(0, ended.used.cpu_seconds - empty.used.cpu_seconds),
        ended.used.peak_bytes,
        requests,
        ended.seconds,
    )


def naive(threads: int, share: int) -> Contender:
    """A contender that is what one writes first.

    Args:
        threads: how many images at once.
        share: of how many images it is given one, for it is slow.
    """

    def measure(task: Task, storage: StandIn) -> Measured:
        count = max(1, task.count // share)
        storage.reset(delay=task.delay, count=count)
        command = [sys.executable, "-m", "tests.benchmarks.naive", "--threads", str(threads), "--count", str(count)]
        ended = run_to_end(command, storage.environment())
        found = last_json_with("seconds", ended.output)
        requests = storage.requests()
        check(requests, count, count)
        return Measured(count, found["seconds"], found["cpu_seconds"], found["peak_bytes"], requests, ended.seconds)

    return measure


def minimal(decode: str) -> Contender:
    """A contender that is the service's storage calls and its decoder alone; they are in `workers` or in `threads`."""

    def measure(task: Task, storage: StandIn) -> Measured:
        storage.reset(delay=task.delay, count=task.count)
        command = [sys.executable, "-m", "tests.benchmarks.minimal", "--count", str(task.count), "--decode", decode]
        ended = run_to_end(command, storage.environment())
        found = last_json_with("seconds", ended.output)
        requests = storage.requests()
        check(requests, task.count, task.count)
        return Measured(
            task.count, found["seconds"], found["cpu_seconds"], ended.used.peak_bytes, requests, ended.seconds
        )

    return measure


def limit(task: Task, storage: StandIn) -> Measured:
    """Decoding and shrinking alone; storage has no part in it."""
    command = [sys.executable, "-m", "tests.benchmarks.limit", "--corpus", task.corpus.name, "--count", str(task.count)]
    ended = run_to_end(command, storage.environment())
    found = last_json_with("seconds", ended.output)
    return Measured(task.count, found["seconds"], found["cpu_seconds"], found["peak_bytes"])


RUN, JOB, MINIMAL, NAIVE, NAIVE_8, LIMIT = (
    "service, /run", "service, job", "minimal", "naive", "naive, 8 threads", "limit",
)  # fmt: skip
CONTENDERS: dict[str, Contender] = {
    RUN: service_run,
    JOB: service_job,
    MINIMAL: minimal("workers"),
    "minimal, decoding in threads": minimal("threads"),
    NAIVE: naive(1, 6),
    NAIVE_8: naive(8, 1),
    LIMIT: limit,
}


def check(requests: Requests, created: int, count: int) -> None:
    """See that the work was done.

    Raises:
        BenchmarkFailed: it was not.
    """
    if not created == count <= requests.written:
        raise BenchmarkFailed(
            f"of {count} images {created} are said to have a thumbnail, and {requests.written} have; "
            f"requests: {json.dumps(requests.by_kind)}"
        )


@dataclass(frozen=True, slots=True)
class Median:
    """The medians of several measurements of one contender."""

    rate: float
    cpu_milliseconds: float
    peak_bytes: float
    requests: float
    """An image, of all kinds."""
    requests_by_kind: dict[str, float]
    """An image, with `bookkeeping` for all that is about plans and reports."""
    whole_rate: float | None

    @classmethod
    def of(cls, rounds: Sequence[Measured]) -> "Median":
        """Take each figure's own."""
        wholes = [found.images / found.whole_seconds for found in rounds if found.whole_seconds]
        asked = [(found.requests or Requests(), found.images) for found in rounds]
        return cls(
            statistics.median(found.rate for found in rounds),
            statistics.median(found.cpu_milliseconds for found in rounds),
            statistics.median(found.peak_bytes for found in rounds),
            statistics.median(requests.total / images for requests, images in asked),
            {kind: statistics.median(requests.by_kind[kind] / images for requests, images in asked) for kind in KINDS}
            | {"bookkeeping": statistics.median(requests.bookkeeping / images for requests, images in asked)},
            statistics.median(wholes) if wholes else None,
        )
