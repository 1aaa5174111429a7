"""Large folders, split over many tasks: what it takes to plan a run, measured in a process that does nothing else."""

import json
import resource
import sys
import time

from service.bootstrap import build
from service.naming import Hour
from service.process import Stop
from service.runs.plan import split
from service.runs.request import RunParameters, RunRequest
from service.settings import load_settings
from tests.benchmarks.corpora import corpus
from tests.benchmarks.processes import BenchmarkFailed, StandIn, last_json_with, run_to_end, stand_in
from tests.benchmarks.sections import NEAR, Effort, Say, Section
from tests.benchmarks.tables import figure, table

_PAGE = 1000
_MILLION = 1_000_000
_FOLDERS = {
    Effort.SMOKE: ((2_000, 10),),
    Effort.QUICK: ((100_000, 50),),
    Effort.FULL: ((100_000, 50), (_MILLION, 50), (10 * _MILLION, 50), (10 * _MILLION, 10_000)),
}
"""Names, and tasks that share them."""


def section(effort: Effort, say: Say) -> Section:
    """Plan each folder in a process of its own."""
    rows, figures = [], dict[str, float]()
    with stand_in(corpus("tiny")) as storage:
        for names, tasks in _FOLDERS[effort]:
            found = _plan(storage, names, tasks)
            say(f"{names:,} names, {tasks:,} tasks: {found}")
            rows.append(
                (
                    f"{names:,}",
                    f"{tasks:,}",
                    figure(found["seconds"]),
                    figure(found["cpu_seconds"] * _MILLION / names),
                    f"{found['listings']:,.0f}",
                    f"{found['listings'] * _PAGE / names - 1:+.1%}",
                    f"{found['smallest']:,.0f} to {found['largest']:,.0f}",
                    figure(found["grown_bytes"] / 2**20),
                )
            )
            if (names, tasks) == (10 * _MILLION, 50):
                figures["plan"] = found["seconds"]
    titles = (
        "names", "tasks", "seconds", "CPU s for a million", "listings", "more than pages", "chunks", "more memory, MiB",
    )  # fmt: skip
    return Section(f"{table(titles, rows)}\nStorage answers after 40 ms.\n", figures)


def _plan(storage: StandIn, names: int, tasks: int) -> dict[str, float]:
    storage.reset(delay=NEAR, count=names)
    command = (sys.executable, "-m", "tests.benchmarks.planning", str(tasks))
    ended = run_to_end(command, storage.environment(LOG_LEVEL="CRITICAL"))
    found: dict[str, float] = last_json_with("seconds", ended.output)
    if not found or found["total"] != names:
        raise BenchmarkFailed(f"of {names} names a plan has {found}")
    return found | {"listings": storage.requests().by_kind["list"]}


def main() -> None:
    """Plan a run of so many tasks over the folder of the environment; print what it took as JSON."""
    service = build(load_settings())
    asked = RunRequest(task_index=0, task_count=int(sys.argv[1]), dry_run=True)
    params = RunParameters.of(asked, service.settings, Hour("20251203T15Z"))
    began, peak = time.monotonic(), _peak_bytes()
    cpu_began = time.process_time()
    plan = split(params, service, None, None, Stop())
    found = {
        "seconds": time.monotonic() - began,
        "cpu_seconds": time.process_time() - cpu_began,
        "grown_bytes": _peak_bytes() - peak,
        "total": plan.total,
        "smallest": min(plan.sizes),
        "largest": max(plan.sizes),
    }
    sys.stdout.write(f"{json.dumps(found)}\n")
    service.close()


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    main()
