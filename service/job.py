"""Cloud Run Job: one task of a run. Settings in, exit status out."""

import math
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor, wait
from types import FrameType

import structlog
from structlog.contextvars import bind_contextvars

from service.boot import DONE, TRY_AGAIN, begin, exit_status_of, leave
from service.errors import ServiceError
from service.metrics import Door
from service.orders import RunRequest
from service.progress import watched
from service.runs import Run
from service.wiring import Service, build

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


if __name__ == "__main__":
    leave(main())
