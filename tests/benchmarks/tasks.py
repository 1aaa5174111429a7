"""One folder, shared by ever more tasks of the job: what each further task costs."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

from tests.benchmarks.corpora import corpus
from tests.benchmarks.processes import BenchmarkFailed, Requests, StandIn, last_json_with, run_together, stand_in
from tests.benchmarks.sections import NEAR, Effort, Say, Section
from tests.benchmarks.standin import BOOKKEEPING, KINDS
from tests.benchmarks.tables import figure, table

_IMAGES = {Effort.SMOKE: 40, Effort.QUICK: 1_600, Effort.FULL: 16_000}
_TASKS = {Effort.SMOKE: (1, 2), Effort.QUICK: (1, 4, 16), Effort.FULL: (1, 4, 16, 64)}
_COMMAND = (sys.executable, "-m", "service.job")

_executions = count()


@dataclass(frozen=True, slots=True)
class Shared:
    """A folder that so many tasks have done together."""

    tasks: int
    images: int
    seconds: float
    """From the start of all of them to the end of the last one."""
    cpu_seconds: float
    reports: Sequence[dict[str, Any]]
    requests: Requests


def share(storage: StandIn, images: int, tasks: int, **settings: str) -> Shared:
    """Have so many tasks, all started at once, do a folder of so many images; storage answers after 40 ms."""
    storage.reset(delay=NEAR, count=images)
    execution = f"benchmark-{next(_executions)}"
    ended = run_together(
        _COMMAND,
        [
            storage.environment(
                CLOUD_RUN_TASK_INDEX=str(index),
                CLOUD_RUN_TASK_COUNT=str(tasks),
                CLOUD_RUN_EXECUTION=execution,
                **settings,
            )
            for index in range(tasks)
        ],
    )
    reports = [last_json_with("elapsed_seconds", task.output) for task in ended]
    requests = storage.requests()
    created = sum(report["created"] for report in reports)
    if not created == images == requests.written:
        raise BenchmarkFailed(f"of {images} images {created} were created by {tasks} tasks: {reports}")
    return Shared(
        tasks,
        images,
        max(task.seconds for task in ended),
        sum(task.used.cpu_seconds for task in ended),
        reports,
        requests,
    )


def section(effort: Effort, say: Say) -> Section:
    """Share one folder of tiny images among more and more tasks."""
    shared = []
    with stand_in(corpus("tiny")) as storage:
        idle = share(storage, 0, 1)
        for tasks in _TASKS[effort]:
            shared.append(share(storage, _IMAGES[effort], tasks))
            say(f"{tasks} tasks: {shared[-1].seconds:.1f} s, {dict(shared[-1].requests.by_kind)}")
    one = shared[0]
    rows = [
        (
            str(found.tasks),
            *(f"{found.requests.by_kind[kind]:,}" for kind in KINDS),
            " · ".join(str(found.requests.by_kind[BOOKKEEPING + kind]) for kind in ("list", "read", "stat", "write")),
            figure(found.requests.total / found.images, 4),
            *(
                (
                    figure((found.requests.total - one.requests.total) / (found.tasks - 1)),
                    figure((found.cpu_seconds - one.cpu_seconds) / (found.tasks - 1)),
                )
                if found.tasks > 1
                else ("", "")
            ),
            figure(found.seconds),
        )
        for found in shared
    ]
    titles = (
        "tasks", *KINDS, "bookkeeping: list · read · stat · write", "requests an image",
        "requests for a further task", "CPU s for a further task", "seconds, all on this machine",
    )  # fmt: skip
    text = (
        f"{table(titles, rows)}\n{_IMAGES[effort]:,} tiny images, all tasks started at once, storage answers after "
        f"40 ms. A task that finds nothing to do takes {figure(idle.seconds)} s and {figure(idle.cpu_seconds)} CPU s "
        "from its start to its end.\n"
    )
    return Section(text)
