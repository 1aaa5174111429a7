"""A run in threads of its own, so that neither the event loop nor the end of the process waits for storage."""

import asyncio
import math
from asyncio import Future
from collections.abc import AsyncGenerator, Callable
from functools import partial
from typing import Any, TypeVar

from anyio import CapacityLimiter, to_thread
from structlog.contextvars import bound_contextvars

from service.bootstrap import Service
from service.errors import ShuttingDown
from service.process import POLL_SECONDS, Stop
from service.runs.report import Report, RunReport
from service.runs.request import RunParameters
from service.runs.runner import Start, log_summary, preflight, run_task

_Result = TypeVar("_Result")


async def settled(future: "Future[Any]", service: Service, patience: float = math.inf) -> bool:
    """Wait until a future is done; return False once patience, in seconds, or the time to shut down is over."""
    deadline = asyncio.get_running_loop().time() + patience
    while not future.done():
        left = deadline - asyncio.get_running_loop().time()
        if left <= 0 or service.stop.is_set_for(service.shutdown.run):
            return False
        await asyncio.wait({future}, timeout=min(left, POLL_SECONDS))
    return True


async def begin(params: RunParameters, service: Service, report: Report) -> Start | None:
    """Call `preflight` in a thread.

    Raises:
        ShuttingDown: the process ends before storage answered.
        BucketNotFound, InvalidValue: see `preflight`.
    """
    opening = _in_own_thread(params, partial(preflight, params, service, report))
    if not await settled(opening, service):
        raise ShuttingDown("the process ends before the folder's listing came")
    return await opening


async def supervise(
    params: RunParameters, service: Service, start: Start | None, report: Report, interval: float
) -> AsyncGenerator[RunReport]:
    """Call `run_task` in a thread; yield the report as of now after each interval, in seconds, until the run ends.

    Closing the generator stops the run, and so does the end of the process. A run that hangs in a call to storage is
    abandoned; images that have ended meanwhile may be missing in its report.

    Raises:
        InvalidValue: see `run_task`; the report says so, too.
    """
    if start is None:
        log_summary(report)
        return
    stop = Stop(service.stop)
    work = _in_own_thread(params, partial(run_task, params, service, start, report, stop))
    try:
        while not await settled(work, service, interval):
            if service.stop.is_set_for(service.shutdown.run):
                report.end_early(ShuttingDown("the process had to end while storage did not answer"))
                log_summary(report)
                return
            yield report.snapshot()
        await work
    finally:
        stop.set()


def _in_own_thread(params: RunParameters, call: Callable[[], _Result]) -> "Future[_Result]":
    """Call in a thread that is not one of the few that all requests share: a run may take hours, or hang in storage.

    Every line of the log that the run causes names it, also the lines of its worker threads.
    """
    with bound_contextvars(run_id=params.run_id, task_index=params.chunk.index):
        return asyncio.ensure_future(to_thread.run_sync(call, abandon_on_cancel=True, limiter=CapacityLimiter(1)))
