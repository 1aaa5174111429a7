"""Between the event loop and the threads that do the work: waits that end in time, whatever storage does."""

import asyncio
import json
import math
from asyncio import wrap_future
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from contextvars import copy_context
from functools import partial
from threading import Event
from typing import Any

from anyio import CapacityLimiter, to_thread

from service.bootstrap import Service
from service.errors import Overloaded, ShuttingDown
from service.runs.report import Counts, RunReport
from service.runs.runner import Run
from service.thumbnailer import Outcome

_PLACE_WAIT_SECONDS = 60
"""How long an event waits for its turn. Pub/Sub takes a push back after 10 to 600 s."""
_LAST_SECONDS = 6.5
"""What a request gets to end by itself once the process was told to end; more than `flight.GRACE_SECONDS`, and less
than the server gives it."""
_POLL_SECONDS = 0.5
_PROGRESS_SECONDS = 1.0
_PROGRESS_FIELDS = {*Counts.model_fields, "elapsed_seconds"}


async def _settled(task: asyncio.Future[Any], service: Service, patience: float = math.inf) -> bool:
    """Wait until a task is done; return False when patience, in seconds, or the process ends before that."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + patience
    while not (await asyncio.wait({task}, timeout=min(_POLL_SECONDS, max(0, deadline - loop.time()))))[0]:
        if service.stopping.is_set():
            deadline = min(deadline, loop.time() + _LAST_SECONDS)
        if loop.time() >= deadline:
            return False
    return True


async def preflight(run: Run, service: Service) -> None:
    """Open a run in a thread.

    Raises:
        ShuttingDown: the process ends before storage answered.
        BucketNotFound, InvalidValue: see `Run.open`.
    """
    opening = _in_own_thread(run.open)
    if not await _settled(opening, service):
        raise ShuttingDown("the process ends before the folder's listing came")
    await opening


def _in_own_thread(call: Callable[[], None]) -> asyncio.Future[None]:
    """Call in a thread that is not one of the few that all requests share: a run may take hours, or hang in storage."""
    return asyncio.ensure_future(to_thread.run_sync(call, abandon_on_cancel=True, limiter=CapacityLimiter(1)))


async def supervise(run: Run, service: Service) -> AsyncGenerator[tuple[bool, RunReport]]:
    """Work in a thread; yield (False, report) every second, and (True, report) at the end.

    Closing the generator stops the run, and so does the end of the process.
    """
    closed = Event()

    def should_stop() -> bool:
        return closed.is_set() or service.stopping.is_set()

    work = _in_own_thread(partial(run.work, should_stop))
    try:
        while not await _settled(work, service, _PROGRESS_SECONDS):
            if service.stopping.is_set() and not await _settled(work, service, _LAST_SECONDS):
                run.abandon()
                break
            yield False, run.report()
        else:
            await work
        yield True, run.report()
    finally:
        closed.set()


async def ndjson(run: Run, service: Service) -> AsyncIterator[str]:
    """Work, and yield a line of JSON every second, and the report at the end."""
    async with aclosing(supervise(run, service)) as reports:
        async for done, report in reports:
            if done:
                yield report.model_dump_json(exclude_none=True) + "\n"
            else:
                yield json.dumps({"progress": report.model_dump(include=_PROGRESS_FIELDS)}) + "\n"


async def submit_event(service: Service, make: Callable[[], Outcome]) -> Outcome:
    """Make one image among those in flight.

    Raises:
        Overloaded: no place was free for too long.
        ShuttingDown: the process is about to end.
    """
    ending = ShuttingDown("this instance is shutting down; another one takes the event when it is delivered again")
    if service.stopping.is_set():
        raise ending
    future = service.images.submit(copy_context().run, make)
    task = asyncio.ensure_future(wrap_future(future))
    if not await _settled(task, service, _PLACE_WAIT_SECONDS):
        if service.stopping.is_set():
            future.cancel()
            raise ending
        if future.cancel():
            raise Overloaded(f"no place among {service.concurrency} images in flight for {_PLACE_WAIT_SECONDS} s")
        if not await _settled(task, service):
            raise ending
    return await task
