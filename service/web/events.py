"""`POST /events`. Translates only: the envelope is read in `events`, and the image is made by `thumbnailer`."""

import asyncio
from asyncio import wrap_future
from contextvars import copy_context

import structlog
from fastapi import FastAPI, Request
from fastapi.responses import Response
from pydantic import BaseModel, Field
from structlog.contextvars import bind_contextvars

from service.bootstrap import Service
from service.errors import Overloaded, RetryLater, ShuttingDown, UnusableEvent
from service.events import IgnoredEvent, ObjectFinalized, decode
from service.outcome import Outcome, Result
from service.runs.supervisor import settled
from service.telemetry.metrics import Door
from service.web.answers import ErrorAnswer, answer_error

_PLACE_WAIT_SECONDS = 60
"""How long an event waits for its turn. Pub/Sub takes a push back after 10 to 600 s."""

log = structlog.get_logger()


class EventAnswer(BaseModel):
    """The answer to an event."""

    outcome: str = Field(description="created, skipped, ignored or rejected")
    source: str | None = None
    thumbnail: str | None = Field(None, description="Of several sizes, the first.")
    thumbnails: list[str] | None = Field(None, description="Of several sizes, all.")
    code: str | None = None
    reason: str | None = None


def add_event_route(app: FastAPI, service: Service) -> None:
    """Serve `POST /events`."""

    @app.post(
        "/events",
        response_model=EventAnswer,
        response_model_exclude_none=True,
        responses={
            400: {"model": ErrorAnswer, "description": "No event at all."},
            503: {"model": ErrorAnswer, "description": "It may work later: deliver it again."},
        },
        openapi_extra={"requestBody": {"content": {"application/json": {"schema": {"type": "object"}}}}},
    )
    async def events(request: Request) -> EventAnswer | Response:
        """Thumbnail the one object that an event of Eventarc or Pub/Sub push is about."""
        answer = await _answer_event(service, request)
        if isinstance(answer, EventAnswer):
            log.debug("event", **answer.model_dump(exclude_none=True))
        return answer


async def _answer_event(service: Service, request: Request) -> EventAnswer | Response:
    metrics = service.metrics
    try:
        event = decode(request.headers, await request.body())
    except UnusableEvent as error:
        # Any answer but 2xx would have it delivered again for a day, and change nothing.
        log.error("event rejected", outcome=Result.REJECTED, code=error.code, reason=str(error))
        metrics.image(Door.EVENTS, Result.REJECTED)
        return EventAnswer(outcome=Result.REJECTED, code=error.code, reason=str(error))
    if isinstance(event, IgnoredEvent):
        metrics.image(Door.EVENTS, Result.IGNORED)
        return EventAnswer(outcome=Result.IGNORED, reason=event.reason)
    # Also for the line that the server writes about a defect.
    bind_contextvars(source=str(event.location))
    ended = Result.FAILED
    try:
        outcome = await submit_event(service, event)
        ended = outcome.result
    except RetryLater as error:
        return await answer_error(request, error, message="image failed", outcome=Result.FAILED)
    finally:
        metrics.image(Door.EVENTS, ended)
    thumbnails = [str(thumbnail) for thumbnail in outcome.thumbnails]
    return EventAnswer(
        outcome=outcome.result,
        source=str(outcome.source),
        thumbnail=thumbnails[0] if thumbnails else None,
        thumbnails=thumbnails if len(thumbnails) > 1 else None,
        code=outcome.code or None,
        reason=outcome.reason or None,
    )


async def submit_event(service: Service, event: ObjectFinalized) -> Outcome:
    """Thumbnail the object of an event on the executor of all images.

    Raises:
        Overloaded: no place was free for too long.
        ShuttingDown: the process is about to end.
        RetryLater: see `Thumbnailer.process_event`.
    """
    ending = ShuttingDown("this instance is shutting down; another one takes the event when it is delivered again")
    if service.stop.is_set():
        raise ending
    future = service.executor.submit(copy_context().run, service.thumbnailer.process_event, event)
    task = asyncio.ensure_future(wrap_future(future))
    if not await settled(task, service, _PLACE_WAIT_SECONDS):
        if service.stop.is_set():
            future.cancel()
            raise ending
        if future.cancel():
            concurrency = service.settings.concurrency
            raise Overloaded(f"no place among {concurrency} images in flight for {_PLACE_WAIT_SECONDS} s")
        if not await settled(task, service):
            raise ending
    return await task
