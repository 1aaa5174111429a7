"""Cloud Run Job: one task of a run. Settings in, exit status out."""

import asyncio
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import FrameType
from typing import Protocol

import structlog
from structlog.contextvars import bind_contextvars

from service.bootstrap import Service, build
from service.errors import ServiceError
from service.process import DONE, POLL_SECONDS, TRY_AGAIN, begin, exit_status_of, leave
from service.runs import supervisor
from service.runs.report import Report, RunReport
from service.runs.request import RunParameters, RunRequest
from service.telemetry.metrics import Door

_COLUMNS, _ROWS = 100, 24
"""Of a terminal that does not say."""

log = structlog.get_logger()


def main() -> int:
    """Run this task's chunk and return the exit status.

    Returns:
        0 if every assigned image was created, skipped or rejected; 1 if something failed and a retry may help; 2 if
        the settings are wrong.
    """
    try:
        service = build(begin())
    except ServiceError as error:
        sys.stderr.write(f"{error}\n")
        return exit_status_of(error)

    def stop(_: int, __: FrameType | None) -> None:
        service.stop.set()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    try:
        return asyncio.run(run(RunRequest(), service))
    except ServiceError as error:
        log.error("run ended", code=error.code, reason=str(error))
        return exit_status_of(error)
    finally:
        service.close()


async def run(request: RunRequest, service: Service) -> int:
    """Run one task and return the exit status.

    Raises:
        ServiceError: the run could not begin.
    """
    params = RunParameters.of(request, service.settings, door=Door.JOB)
    bind_contextvars(run_id=params.run_id, task_index=params.chunk.index)
    report = Report(params, service)
    with progress_bar() as show:
        start = await supervisor.begin(params, service, report)
        async for snapshot in supervisor.supervise(params, service, start, report, POLL_SECONDS):
            show(snapshot, report.task_total)
        show(report.snapshot(), report.task_total)
    return DONE if report.snapshot().whole else TRY_AGAIN


class Show(Protocol):
    """Shows how far a run is."""

    def __call__(self, report: RunReport, total: int | None) -> None:
        """Show a report; `total` is the images of the task, None if that is not known."""


@contextmanager
def progress_bar() -> Iterator[Show]:
    """Show a bar on stderr until the block ends, if that is a terminal; lines of the log go above it."""
    if not sys.stderr.isatty():
        yield lambda *_, **__: None
        return
    from tqdm import tqdm  # noqa: PLC0415 - needed by nobody but a terminal
    from tqdm.contrib.logging import logging_redirect_tqdm  # noqa: PLC0415

    class Bar(tqdm):  # type: ignore[type-arg]  # not generic when the program runs
        monitor_interval = 0
        """No thread of its own."""

    # A terminal without a size, as some containers have it, would show a bar of no width.
    sized = os.get_terminal_size(sys.stderr.fileno()).columns > 0
    size = {"dynamic_ncols": True} if sized else {"ncols": _COLUMNS, "nrows": _ROWS}
    with ExitStack() as stack:
        bar = stack.enter_context(Bar(unit=" images", file=sys.stderr, desc="listing", **size))
        if sys.stdout.isatty():
            stack.enter_context(logging_redirect_tqdm(tqdm_class=Bar))

        def show(report: RunReport, total: int | None) -> None:
            bar.total = None if total is None else max(total, report.assigned)
            bar.set_description_str("thumbnails" if total or report.assigned else "listing", refresh=False)
            bar.set_postfix(rejected=report.rejected, failed=report.failed, refresh=False)
            bar.update(report.assigned - bar.n)
            bar.refresh()

        yield show


if __name__ == "__main__":
    leave(main())
