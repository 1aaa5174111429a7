"""Large folders, seen from one process: what is taken for each object that needs no work, and for each that does."""

from collections.abc import Mapping
from dataclasses import dataclass

from tests.benchmarks.corpora import corpus
from tests.benchmarks.processes import BenchmarkFailed, Requests, Server, StandIn, server, stand_in
from tests.benchmarks.sections import NEAR, Effort, Say, Section
from tests.benchmarks.tables import MEGABYTE, figure, table

_FOLDERS = {
    Effort.SMOKE: (2_000,),
    Effort.QUICK: (10_000, 100_000),
    Effort.FULL: (10_000, 100_000, 1_000_000),
}
_TINY = {Effort.SMOKE: 40, Effort.QUICK: 2_000, Effort.FULL: 10_000}

_DRY = "dry run"
_EMPTY = "run, all empty: rejected unread"
_MADE = "run, tiny images"
_AGAIN = "the same again: all there"


@dataclass(frozen=True, slots=True)
class Run:
    """One run over one folder."""

    count: int
    seconds: float
    cpu_seconds: float
    peak_bytes: int
    requests: Requests


def _run(service: Server, storage: StandIn, count: int, settled_as: str, body: Mapping[str, object]) -> Run:
    asked, before = storage.requests(), service.used()
    report = service.run(body)
    after, asked_then = service.used(), storage.requests()
    if not report[settled_as] == report["assigned"] == count:
        raise BenchmarkFailed(f"of {count} objects {report[settled_as]} are {settled_as}: {report}")
    new = Requests(asked_then.by_kind - asked.by_kind)
    return Run(count, report["elapsed_seconds"], after.cpu_seconds - before.cpu_seconds, after.peak_bytes, new)


def section(effort: Effort, say: Say) -> Section:
    """Run each folder in a process of its own."""
    runs: list[tuple[str, Run]] = []

    def note(what: str, run: Run) -> None:
        say(f"{what}, {run.count:,}: {run.seconds:.1f} s, {run.cpu_seconds:.1f} CPU s, {dict(run.requests.by_kind)}")
        runs.append((what, run))

    # A line for each image that is rejected would be most of what is measured.
    quiet = {"LOG_LEVEL": "CRITICAL"}
    for what, images, settled_as in ((_DRY, "tiny", "created"), (_EMPTY, "empty", "rejected")):
        with stand_in(corpus(images)) as storage:
            for count in _FOLDERS[effort]:
                storage.reset(delay=NEAR, count=count)
                with server(storage, **quiet) as service:
                    note(what, _run(service, storage, count, settled_as, {"dry_run": what == _DRY}))
    with stand_in(corpus("tiny")) as storage, server(storage, **quiet) as service:
        count = _TINY[effort]
        storage.reset(delay=NEAR, count=count)
        for what, settled_as in ((_MADE, "created"), (_AGAIN, "skipped")):
            note(what, _run(service, storage, count, settled_as, {"run_id": "tiny"}))
    rows = [
        (
            what,
            f"{run.count:,}",
            figure(run.seconds),
            figure(run.cpu_seconds * 1e6 / run.count),
            figure(run.peak_bytes / MEGABYTE),
            *(figure(asked * 1000 / run.count) for asked in _asked(run.requests)),
        )
        for what, run in runs
    ]
    titles = (
        "one process", "objects", "seconds", "CPU ms for 1,000", "peak MB",
        "listings for 1,000", "other requests for 1,000", "bookkeeping for 1,000",
    )  # fmt: skip
    return Section(f"{table(titles, rows)}\nStorage answers after 40 ms.\n")


def _asked(requests: Requests) -> tuple[int, int, int]:
    listings = requests.by_kind["list"]
    return listings, requests.total - requests.bookkeeping - listings, requests.bookkeeping
