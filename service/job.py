"""Cloud Run Job: one task of a run. Settings in, exit status out."""

import math
import os
import signal
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from types import FrameType
from typing import Protocol

import structlog
from structlog.contextvars import bind_contextvars

from service.bootstrap import Service, build
from service.errors import ServiceError
from service.process import DONE, TRY_AGAIN, begin, exit_status_of, leave
from service.runs.report import RunReport
from service.runs.request import RunRequest
from service.runs.runner import Run
from service.telemetry.metrics import Door

_POLL_SECONDS = 0.2
_LAST_SECONDS = 6.5
"""What the run gets to end by itself once the process was told to end: more than `flight.GRACE_SECONDS`, and less than
the ten seconds that Cloud Run gives the process."""

log = structlog.get_logger()


def main() -> int:
    """Run this task's chunk and return the exit status.

    Returns:
        0 where every assigned image was created, skipped or rejected; 1 where something failed and a retry may
        help; 2 where the settings are wrong.
    """
    try:
        service = build(begin())
    except ServiceError as error:
        sys.stderr.write(f"{error}\n")
        return exit_status_of(error)

    def stop(_: int, __: FrameType | None) -> None:
        service.stopping.set()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    try:
        run = service.run(RunRequest(), door=Door.JOB)
        bind_contextvars(run_id=run.order.run_id, task_index=run.order.chunk.index)
        return _finish(run, service)
    except ServiceError as error:
        log.error("run ended", code=error.code, reason=str(error))
        return exit_status_of(error)
    finally:
        service.close()


def _finish(run: Run, service: Service) -> int:
    """Work in a thread, so that this one can end the process while storage does not answer."""

    def work() -> None:
        run.open()
        run.work(service.stopping.is_set)

    deadline = math.inf
    with watched() as show:
        worker = ThreadPoolExecutor(1).submit(work)
        while not wait([worker], timeout=_POLL_SECONDS).done:
            show(run.report(), run.total)
            if service.stopping.is_set():
                deadline = min(deadline, time.monotonic() + _LAST_SECONDS)
            if time.monotonic() >= deadline:
                run.abandon()
                return TRY_AGAIN
        show(run.report(), run.total)
    worker.result()
    return DONE if run.report().whole else TRY_AGAIN


_COLUMNS, _ROWS = 100, 24
"""Of a terminal that does not say."""


class Watched(Protocol):
    """What is told how far a run is."""

    def __call__(self, report: RunReport, total: int | None) -> None:
        """Show a report; `total` is the images of the task, None where that is not known yet."""


@contextmanager
def watched() -> Iterator[Watched]:
    """Show a bar until the block ends; lines of the log go above it."""
    if not sys.stderr.isatty():
        yield lambda *_, **__: None
        return
    from tqdm import tqdm  # noqa: PLC0415 - where nobody watches it is not needed
    from tqdm.contrib.logging import logging_redirect_tqdm  # noqa: PLC0415

    class Bar(tqdm):  # type: ignore[type-arg]  # not generic when the program runs
        monitor_interval = 0
        """No thread of its own."""

    # A terminal without a size, as some containers have it, would show a bar of no width.
    sized = os.get_terminal_size(sys.stderr.fileno()).columns > 0
    size = {"dynamic_ncols": True} if sized else {"ncols": _COLUMNS, "nrows": _ROWS}
    with ExitStack() as stack:
        bar = stack.enter_context(Bar(unit=" images", file=sys.stderr, **size))
        if sys.stdout.isatty():
            stack.enter_context(logging_redirect_tqdm(tqdm_class=Bar))

        def show(report: RunReport, total: int | None) -> None:
            bar.total = None if total is None else max(total, report.assigned)
            bar.set_description_str("listing" if total is None else "thumbnails", refresh=False)
            bar.set_postfix(rejected=report.rejected, failed=report.failed, refresh=False)
            bar.update(report.assigned - bar.n)
            bar.refresh()

        yield show


if __name__ == "__main__":
    leave(main())
