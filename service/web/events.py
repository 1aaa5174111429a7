"""`POST /events`. Translates only: the envelope is read in `events`, and the image is made by `thumbnailer`."""

import asyncio
from asyncio import Semaphore, wrap_future
from collections.abc import Mapping
from contextvars import copy_context
from http import HTTPStatus
from logging import DEBUG, WARNING

import structlog
from fastapi import FastAPI, Request
from fastapi.responses import Response
from pydantic import BaseModel, Field
from structlog.contextvars import bind_contextvars

from service.bootstrap import Service
from service.errors import Overloaded, RetryLater, ShuttingDown, UnusableEvent
from service.events import IgnoredEvent, ObjectFinalized, decode, split_batch
from service.outcome import Outcome, Result
from service.runs.supervisor import settled
from service.telemetry.metrics import Door
from service.thumbnailer import SMALL_BYTES
from service.web.answers import FOREIGN_PAGE, TOO_LARGE, ErrorAnswer, answer_error, try_again
from service.web.body import read_body

_PLACE_WAIT_SECONDS = 60
"""Longest wait of an event for its turn. Pub/Sub takes a push back after 10 to 600 s."""

log = structlog.get_logger()


_TEXT = {"type": "string", "minLength": 1}
_ATTRIBUTES = {"specversion": {"enum": ["0.3", "1.0"]}, "type": _TEXT, "source": _TEXT, "id": _TEXT}
_CLOUD_EVENT = {"type": "object", "properties": _ATTRIBUTES, "required": list(_ATTRIBUTES)}
_OBJECT_RESOURCE = {
    "type": "object",
    "title": "The resource of the object that was written",
    "properties": {"kind": {"const": "storage#object"}, "bucket": _TEXT, "name": _TEXT},
    "required": ["kind", "bucket", "name"],
}
_PUSH = {
    "type": "object",
    "title": "A push of Pub/Sub",
    "properties": {
        "message": {
            "type": "object",
            "properties": {
                "attributes": {"type": "object", "additionalProperties": {"type": "string"}},
                "data": {"type": "string", "contentEncoding": "base64"},
            },
        }
    },
    "required": ["message"],
}
_EXAMPLE = {"kind": "storage#object", "bucket": "my-bucket", "name": "photos/cat.jpg"}
_REQUEST = {
    "parameters": [
        {
            "name": f"ce-{name}",
            "in": "header",
            "description": "Of a CloudEvent in binary mode, as Eventarc sends it. The body is its data.",
            "schema": schema,
        }
        for name, schema in _ATTRIBUTES.items()
    ],
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": {"anyOf": [_OBJECT_RESOURCE, _PUSH]}, "example": _EXAMPLE},
            "application/cloudevents+json": {"schema": _CLOUD_EVENT},
            "application/cloudevents-batch+json": {"schema": {"type": "array", "items": _CLOUD_EVENT}},
        },
    },
}
"""The request as the API's description has it. Other forms that `events` reads are made by Google Cloud alone."""


class EventAnswer(BaseModel):
    """The answer to an event."""

    outcome: Result = Field(description="Failed is there in a batch only.")
    source: str | None = None
    thumbnail: str | None = Field(None, description="Of several sizes, the first.")
    thumbnails: list[str] | None = Field(None, description="Of several sizes, all.")
    damaged: bool | None = Field(None, description="True if the file ends too early: what is there is shown.")
    code: str | None = None
    reason: str | None = None


def add_event_route(app: FastAPI, service: Service) -> None:
    """Serve `POST /events`."""
    # What is small finds a place though many large ones came before.
    large_places = Semaphore(max(1, service.settings.concurrency * 2 // 3))

    @app.post(
        "/events",
        response_model=EventAnswer | list[EventAnswer],
        response_model_exclude_none=True,
        responses={
            400: {"model": ErrorAnswer, "description": "No event at all."},
            403: {"model": ErrorAnswer, "description": FOREIGN_PAGE},
            **TOO_LARGE,
            **try_again(
                "It may work later: deliver it again. Of a batch, the answers to all of its events.",
                ErrorAnswer | list[EventAnswer],
            ),
        },
        openapi_extra=_REQUEST,
    )
    async def events(request: Request, response: Response) -> EventAnswer | list[EventAnswer] | Response:
        """Thumbnail the one object that an event of Eventarc or Pub/Sub push is about.

        A batch of CloudEvents is answered with a list, in its order.
        """
        body = await read_body(request)
        try:
            batch = split_batch(request.headers, body)
        except UnusableEvent as error:
            return _rejected(service, error)
        if batch is None:
            answer, failure = await _answer_event(service, large_places, request.headers, body)
            if failure:
                return await answer_error(request, failure, message="image failed", outcome=Result.FAILED)
            log.debug("event", **answer.model_dump(exclude_none=True))
            return answer
        # Unlike a task group this ends no event because another one fails by a defect.
        answers = await asyncio.gather(
            *(_answer_event(service, large_places, headers, event) for headers, event in batch)
        )
        for answer, failure in answers:
            log.log(WARNING if failure else DEBUG, "event of a batch", **answer.model_dump(exclude_none=True))
        if failures := [failure for _, failure in answers if failure]:
            response.status_code = HTTPStatus.SERVICE_UNAVAILABLE
            if seconds := max(failure.retry_after or 0 for failure in failures):
                response.headers["Retry-After"] = str(seconds)
        return [answer for answer, _ in answers]


async def _answer_event(
    service: Service, large_places: Semaphore, headers: Mapping[str, str], body: bytes
) -> tuple[EventAnswer, RetryLater | None]:
    """Return the answer to one event, and if it failed the error, with which it is to be delivered again."""
    try:
        event = decode(headers, body)
    except UnusableEvent as error:
        return _rejected(service, error), None
    if isinstance(event, IgnoredEvent):
        service.metrics.image(Door.EVENTS, Result.IGNORED)
        return EventAnswer(outcome=Result.IGNORED, reason=event.reason), None
    # Also for the line that the server writes about a defect.
    bind_contextvars(source=str(event.location))
    ended, failure = Result.FAILED, None
    try:
        outcome = await submit_event(service, large_places, event)
        ended = outcome.result
    except RetryLater as error:
        outcome, failure = Outcome.failed(event.location, error), error
    finally:
        service.metrics.image(Door.EVENTS, ended)
    thumbnails = [str(thumbnail) for thumbnail in outcome.thumbnails]
    answer = EventAnswer(
        outcome=outcome.result,
        source=str(outcome.source),
        thumbnail=thumbnails[0] if thumbnails else None,
        thumbnails=thumbnails if len(thumbnails) > 1 else None,
        damaged=outcome.is_damaged or None,
        code=outcome.code or None,
        reason=outcome.reason or None,
    )
    return answer, failure


def _rejected(service: Service, error: UnusableEvent) -> EventAnswer:
    """Answer with success: any other answer would have the event delivered again for a day, and change nothing."""
    log.error("event rejected", outcome=Result.REJECTED, code=error.code, reason=str(error))
    service.metrics.image(Door.EVENTS, Result.REJECTED)
    return EventAnswer(outcome=Result.REJECTED, code=error.code, reason=str(error))


async def submit_event(service: Service, large_places: Semaphore, event: ObjectFinalized) -> Outcome:
    """Thumbnail the object of an event on the executor of all images.

    Raises:
        Overloaded: no place was free for too long.
        ShuttingDown: the process is about to end.
        RetryLater: see `Thumbnailer.process_event`.
    """
    ending = ShuttingDown("this instance is shutting down; another one takes the event when it is delivered again")
    concurrency = service.settings.concurrency
    overloaded = Overloaded(f"no place among {concurrency} images in flight for {_PLACE_WAIT_SECONDS} s")
    is_large = event.resource is not None and event.resource.size > SMALL_BYTES
    if is_large:
        place = asyncio.ensure_future(large_places.acquire())
        if not await settled(place, service, _PLACE_WAIT_SECONDS):
            if not place.cancel():
                large_places.release()
            raise ending if service.stop.is_set() else overloaded
    if service.stop.is_set():
        raise ending
    future = service.executor.submit(copy_context().run, service.thumbnailer.process_event, event)
    if is_large:
        loop = asyncio.get_running_loop()
        future.add_done_callback(lambda _: loop.call_soon_threadsafe(large_places.release))
    task = asyncio.ensure_future(wrap_future(future))
    if not await settled(task, service, _PLACE_WAIT_SECONDS):
        if service.stop.is_set():
            future.cancel()
            raise ending
        if future.cancel():
            raise overloaded
        if not await settled(task, service):
            raise ending
    return await task
