"""Runs the benchmarks and prints their tables in Markdown; what is going on goes to stderr."""

import argparse
import os
import platform
import signal
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial

import PIL

from tests.benchmarks import (
    in_flight,
    memory,
    million,
    one_event,
    planning,
    processors,
    progressive,
    scale,
    short_runs,
    startup,
    tasks,
    throughput,
    world,
)
from tests.benchmarks.figures import goals_table, of_throughput
from tests.benchmarks.processes import Bystanders
from tests.benchmarks.sections import Effort, Say, Section

_QUIET = 0.03
"""Share of the machine that others may take before the times are worthless."""

_SMOKE_COUNTS = {"tiny": 40}

SECTIONS: dict[str, tuple[str, Callable[[Effort, Say], Section]]] = {
    "startup": ("Start", startup.section),
    "event": ("One event", one_event.section),
    "short": ("Short runs", short_runs.section),
    "flight": ("Events in flight", in_flight.section),
    "memory": ("Memory of a run", memory.section),
    "scale": ("Large folders", scale.section),
    "planning": ("What planning takes", planning.section),
    "tasks": ("Many tasks", tasks.section),
    "million": ("A million phone photos", million.section),
    "progressive": ("Progressive JPEG", progressive.section),
    "processors": ("More processors", processors.section),
    "world": ("Beside other programs", world.section),
}
"""By name: title, and what measures it. `throughput`, which has options of its own, comes before these."""


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def _throughput(effort: Effort, say: Say, *, options: argparse.Namespace) -> Section:
    if effort is Effort.SMOKE:
        return Section(throughput.tables(throughput.measure(["tiny"], [0.0], _SMOKE_COUNTS, 1, say)))
    results = throughput.measure(
        options.only or throughput.CORPORA,
        [delay / 1000 for delay in options.delay] if options.delay else throughput.DELAYS,
        throughput.QUICK_COUNTS if effort is Effort.QUICK else throughput.COUNTS,
        options.rounds or (1 if effort is Effort.QUICK else 3),
        say,
    )
    return Section(throughput.tables(results), of_throughput(results))


def _about() -> str:
    return (
        f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} processors, Python {platform.python_version()}, "
        f"Pillow {PIL.__version__}. Only figures of one table can be compared.\n"
    )


def _run(options: argparse.Namespace) -> None:
    effort = Effort.SMOKE if options.smoke else Effort.QUICK if options.quick else Effort.FULL
    sections = {"throughput": ("Images a second", partial(_throughput, options=options))} | SECTIONS
    figures: dict[str, float] = {}
    sys.stdout.write(_about())
    for name in options.section or sections:
        title, measure = sections[name]
        others, began = Bystanders(), time.monotonic()
        section = measure(effort, _say)
        figures |= section.figures
        _say(f"{name} took {time.monotonic() - began:.0f} s")
        sys.stdout.write(f"\n## {title}\n\n{section.text}")
        if (taken := others.share()) > _QUIET:
            sys.stdout.write(f"\nOther processes took {taken:.0%} of the machine meanwhile: the times tell little.\n")
        sys.stdout.flush()
    sys.stdout.write(f"\n## Figures to reach\n\n{goals_table(figures)}")


def main() -> int:
    """Measure what was asked for; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few images, one round: shows that it works")
    parser.add_argument("--smoke", action="store_true", help="a handful of images, in 20 seconds")
    parser.add_argument(
        "--section", action="append", choices=["throughput", *SECTIONS], help="this one alone; may be repeated"
    )
    alone = parser.add_argument_group("of the section throughput")
    alone.add_argument("--rounds", type=int, help="rounds, of which the median is taken; 3 unless told otherwise")
    alone.add_argument("--only", action="append", choices=throughput.CORPORA, help="this corpus; may be repeated")
    alone.add_argument("--delay", action="append", type=float, help="milliseconds; 40 and 0 unless told otherwise")
    # What ends this process has to end what it has started. A shell's job in the background ignores SIGINT otherwise.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    try:
        _run(parser.parse_args())
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
