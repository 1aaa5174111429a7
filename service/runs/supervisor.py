"""A run in threads of its own, so that neither the event loop nor the end of the process waits for storage."""

import asyncio
import math
from asyncio import Future
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from functools import partial
from threading import BoundedSemaphore
from typing import Any, TypeVar

from anyio import CapacityLimiter, to_thread
from structlog.contextvars import bound_contextvars

from service.bootstrap import MAX_OPEN_RUNS, Service
from service.errors import Overloaded, ShuttingDown
from service.process import POLL_SECONDS, Stop
from service.runs.report import Report, RunReport
from service.runs.request import RunParameters
from service.runs.runner import log_summary, run_task
from service.runs.start import Start, preflight
from service.storage.metering import metered

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


@asynccontextmanager
async def open_run(
    params: RunParameters, service: Service, report: Report, interval: float
) -> AsyncIterator[AsyncGenerator[RunReport]]:
    """Begin a run. Yield its report as of now after each interval, in seconds, until it ends.

    Leaving stops the run, and so does the end of the process. A run that hangs in a call to storage is abandoned;
    images that have ended meanwhile may be missing in its report. Its slot is free once the call has returned.

    Raises:
        Overloaded: too many runs are open.
        ShuttingDown: the process ends before storage answered.
        BucketNotFound, InvalidValue: see `preflight` and `run_task`; of the latter the report says so, too.
    """
    slot = _Slot(service.run_slots)
    try:
        opening = slot.work(report, partial(preflight, params, service, report))
        if not await settled(opening, service):
            raise ShuttingDown("the process ends before the folder's listing came")
        async with aclosing(_supervise(params, service, await opening, report, interval, slot)) as snapshots:
            yield snapshots
    finally:
        slot.leave()


async def _supervise(
    params: RunParameters, service: Service, start: Start | None, report: Report, interval: float, slot: "_Slot"
) -> AsyncGenerator[RunReport]:
    if start is None:
        log_summary(report)
        return
    stop = Stop(service.stop)
    work = slot.work(report, partial(run_task, params, service, start, report, stop))
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


class _Slot:
    """The place of a run among those that may be open at once."""

    def __init__(self, slots: BoundedSemaphore) -> None:
        """Take a place, or raise Overloaded."""
        if not slots.acquire(blocking=False):
            raise Overloaded(f"{MAX_OPEN_RUNS} runs are open in this process, the most there may be; call again later")
        self._slots = slots
        self._work: Future[Any] | None = None

    def work(self, report: Report, call: Callable[[], _Result]) -> "Future[_Result]":
        """Call in a thread that other requests do not share: a run may take hours, or hang in storage.

        Every line of the log that the run causes names it, and its report counts every operation, also those of its
        worker threads.
        """
        params = report.params
        with bound_contextvars(run_id=params.run_id, task_index=params.chunk.index), metered(report.meter):
            call_in_thread = to_thread.run_sync(call, abandon_on_cancel=True, limiter=CapacityLimiter(1))
            self._work = work = asyncio.ensure_future(call_in_thread)
        return work

    def leave(self) -> None:
        """Make the place free, once the thread has ended."""
        if self._work is None or self._work.done():
            self._slots.release()
        else:
            self._work.add_done_callback(lambda _: self._slots.release())
