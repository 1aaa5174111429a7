"""The main table: all contenders over all corpora, interleaved, at two distances from storage."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

from tests.benchmarks.contenders import CONTENDERS, JOB, LIMIT, Measured, Median, Task
from tests.benchmarks.corpora import corpus
from tests.benchmarks.processes import Bystanders, StandIn, stand_in
from tests.benchmarks.sections import NEAR, Say
from tests.benchmarks.standin import KINDS
from tests.benchmarks.tables import MEGABYTE, figure, table

CORPORA = ("web", "phone", "mixed")
DELAYS = (NEAR, 0.0)
"""Seconds before storage answers: as from the same region, and not at all."""

COUNTS = {"web": 1500, "phone": 240, "mixed": 600}
QUICK_COUNTS = {"web": 300, "phone": 60, "mixed": 120}
_SHOWN = (*KINDS, "bookkeeping")

Results = Mapping[tuple[str, float, str], Median]
"""By corpus, delay and contender."""


def measure(
    corpora: Sequence[str],
    delays: Sequence[float],
    counts: Mapping[str, int],
    rounds: int,
    say: Say,
) -> Results:
    """Measure all contenders in turn, so many times, and return the medians."""
    found: defaultdict[tuple[str, float, str], list[Measured]] = defaultdict(list)
    for name in corpora:
        images = corpus(name)
        with stand_in(images) as storage:
            for number in range(rounds):
                for delay in delays:
                    for contender in _rotated(tuple(CONTENDERS), number):
                        task = Task(images, counts[name], delay)
                        others = Bystanders(storage.pid)
                        measured = CONTENDERS[contender](task, storage)
                        found[name, delay, contender].append(measured)
                        say(
                            f"{name}, {delay * 1000:.0f} ms, round {number + 1}, {contender}: "
                            f"{figure(measured.rate)} images/s, {figure(measured.cpu_milliseconds)} CPU ms; "
                            f"others took {others.share():.0%} of the machine"
                        )
            say(_cost_of(storage))
    return {key: Median.of(several) for key, several in found.items()}


def _rotated(contenders: Sequence[str], number: int) -> Sequence[str]:
    """Begin each round with another one, since a machine may slow down while it is at work."""
    start = number % len(contenders)
    return [*contenders[start:], *contenders[:start]]


def _cost_of(storage: StandIn) -> str:
    storage.reset(delay=0, count=0)
    return f"the stand-in used {storage.requests().cpu_seconds:.1f} CPU seconds in all"


def tables(results: Results) -> str:
    """A table for each corpus and delay."""
    parts = []
    for name, delay in dict.fromkeys((name, delay) for name, delay, _ in results):
        rows = [
            (contender, median)
            for (row_name, row_delay, contender), median in results.items()
            if (row_name, row_delay) == (name, delay)
        ]
        rows.sort(key=lambda row: list(CONTENDERS).index(row[0]))
        best = dict(rows).get(LIMIT)
        parts.append(f"### {name}, storage answers after {delay * 1000:.0f} ms\n\n{_table(rows, best)}")
    return "\n".join(parts)


def _table(rows: Sequence[tuple[str, Median]], best: Median | None) -> str:
    titles = (
        "contender", "images/s", "of limit", "CPU ms an image", "÷ limit", "peak MB",
        "requests an image", " · ".join(_SHOWN),
    )  # fmt: skip
    lines = []
    for contender, median in rows:
        lines.append(
            (
                contender,
                figure(median.rate),
                f"{median.rate / best.rate:.2f}" if best else "",
                figure(median.cpu_milliseconds),
                f"{median.cpu_milliseconds / best.cpu_milliseconds:.2f}" if best else "",
                figure(median.peak_bytes / MEGABYTE),
                *_requests(median),
            )
        )
        if contender == JOB:
            share = f"{median.whole_rate / best.rate:.2f}" if best and median.whole_rate else ""
            lines.append(("service, job, with its start", figure(median.whole_rate), share, "", "", "", "", ""))
    return table(titles, lines)


def _requests(median: Median) -> tuple[str, str]:
    if not median.requests:
        return "", ""
    return f"{median.requests:.3f}", " · ".join(f"{median.requests_by_kind[kind]:.3g}" for kind in _SHOWN)
