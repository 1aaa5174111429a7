"""One process on one processor and on two, and on how many it would stop to become faster.

What decodes are processes of their own. In the service's process the interpreter's lock lets one thread at a time run
Python. System calls do without the lock, so the time with it is the process's own at most, without the kernel's.
"""

import os
import statistics
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks.contenders import check
from tests.benchmarks.corpora import corpus
from tests.benchmarks.processes import StandIn, server, stand_in
from tests.benchmarks.sections import NEAR, Effort, Say, Section
from tests.benchmarks.tables import figure, table

_COUNTS = {
    Effort.SMOKE: {"tiny": 40},
    Effort.QUICK: {"web": 150, "phone": 30, "mixed": 80},
    Effort.FULL: {"web": 600, "phone": 100, "mixed": 300},
}
_ROUNDS = {Effort.SMOKE: 1, Effort.QUICK: 1, Effort.FULL: 5}
_PROCESSORS = (1, 2)
_WARM = 20
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Used:
    """What one run took for an image."""

    rate: float
    """Images a second."""
    cpu_milliseconds: float
    """CPU milliseconds of the service and its workers."""
    user_milliseconds: float
    """CPU milliseconds of the service's process, without the kernel's."""
    kernel_milliseconds: float


@contextmanager
def _pinned(processors: set[int]) -> Iterator[None]:
    """Let this thread, and what it starts, run on these processors."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, processors)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _own_seconds(pid: int) -> tuple[float, float]:
    """What a process alone has used: its own CPU seconds and the kernel's, fields 14 and 15 of proc(5)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) / _TICKS, int(fields[12]) / _TICKS


def _run(storage: StandIn, count: int, processors: set[int]) -> Used:
    with _pinned(processors), server(storage) as service:
        # What is imported and begun with the first images is left out.
        storage.reset(delay=0, count=_WARM)
        service.run()
        before, before_own = service.used(), _own_seconds(service.pid)
        storage.reset(delay=NEAR, count=count)
        report = service.run()
        after, after_own = service.used(), _own_seconds(service.pid)
    check(storage.requests(), report["created"], count)
    own = [(now - then) * 1000 / count for now, then in zip(after_own, before_own, strict=True)]
    cpu = (after.cpu_seconds - before.cpu_seconds) * 1000 / count
    return Used(count / report["elapsed_seconds"], cpu, *own)


def _row(name: str, found: dict[int, list[Used]]) -> tuple[str, ...]:
    rates = [statistics.median(used.rate for used in several) for several in found.values()]
    # Of the widest: there, threads wait for the lock as they do on more.
    widest = found[max(found)]
    cpu, user, kernel = (
        statistics.median(values)
        for values in zip(
            *((each.cpu_milliseconds, each.user_milliseconds, each.kernel_milliseconds) for each in widest), strict=True
        )
    )
    return (
        name,
        *map(figure, rates),
        f"{rates[-1] / rates[0]:.2f}",
        figure(cpu),
        f"{figure(user)} + {figure(kernel)}",
        figure(user / cpu),
        figure(1000 / user) if user else "",
        figure(cpu / user, 2) if user else "",
    )


def section(effort: Effort, say: Say) -> Section:
    """Run folders on one processor and on two, in turn; the stand-in has the last processor."""
    there = sorted(os.sched_getaffinity(0))
    widths = [width for width in _PROCESSORS if width <= len(there)]
    rows = []
    for name, count in _COUNTS[effort].items():
        found: defaultdict[int, list[Used]] = defaultdict(list)
        with stand_in(corpus(name)) as storage:
            os.sched_setaffinity(storage.pid, {there[-1]})
            for _ in range(_ROUNDS[effort]):
                for width in widths:
                    used = _run(storage, count, set(there[:width]))
                    found[width].append(used)
                    say(f"{name}, {width} processors: {figure(used.rate)} images/s, {used}")
        rows.append(_row(name, found))
    titles = (
        "one process, images/s on", *(f"{width}" for width in widths), "÷", "CPU ms an image",
        "of the service's process: its own + the kernel's", "share with the lock, at most",
        "images/s that the lock allows, at least", "processors that one process can use",
    )  # fmt: skip
    about = (
        f"Storage answers after 40 ms and has the last of the {len(there)} processors, which on "
        f"{len(there)} it shares with the service. Medians of {_ROUNDS[effort]} rounds.\n"
    )
    return Section(f"{table(titles, rows)}\n{about}")
