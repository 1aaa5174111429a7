"""The HTTP doors: routes, request and response models, and the one table from error to status.

Translates only. What an event or a run does is in `pipeline.py` and `runs.py`.
"""

from collections.abc import Mapping
from contextlib import aclosing
from datetime import datetime
from functools import partial
from http import HTTPStatus
from typing import Annotated
from urllib.parse import urlsplit

import structlog
from fastapi import Depends, FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from pydantic import BaseModel, Field, ValidationError
from starlette.exceptions import HTTPException
from structlog.contextvars import bind_contextvars

from service.bootstrap import Service
from service.errors import (
    BucketNotFound,
    CredentialsMissing,
    ForeignPage,
    ImageRejected,
    InvalidValue,
    NameTaken,
    NotAnEvent,
    ObjectNotFound,
    OutsideFence,
    RetryLater,
    ServiceError,
    UnusableEvent,
    WrongSettings,
)
from service.events import IgnoredEvent, decode
from service.naming import Hour
from service.runs.report import RunReport
from service.runs.request import RunRequest, check_run_id
from service.runs.status import RunList, RunStatus, list_runs, run_status
from service.telemetry.metrics import Door
from service.telemetry.trace_context import TraceContextMiddleware
from service.thumbnailer import Result
from service.web.pages import VARY, Pages, add_docs, prefers_page
from service.web.startup import HEALTHY
from service.web.supervisor import ndjson, preflight, submit_event, supervise

STATUS: dict[type[ServiceError], HTTPStatus] = {
    InvalidValue: HTTPStatus.UNPROCESSABLE_ENTITY,
    OutsideFence: HTTPStatus.FORBIDDEN,
    ForeignPage: HTTPStatus.FORBIDDEN,
    NotAnEvent: HTTPStatus.BAD_REQUEST,
    ObjectNotFound: HTTPStatus.NOT_FOUND,
    RetryLater: HTTPStatus.SERVICE_UNAVAILABLE,
    # These have an answer of their own where they arise, or end the program before it serves.
    UnusableEvent: HTTPStatus.INTERNAL_SERVER_ERROR,
    ImageRejected: HTTPStatus.INTERNAL_SERVER_ERROR,
    NameTaken: HTTPStatus.INTERNAL_SERVER_ERROR,
    WrongSettings: HTTPStatus.INTERNAL_SERVER_ERROR,
    CredentialsMissing: HTTPStatus.INTERNAL_SERVER_ERROR,
}
"""What an error means to the caller; an error that is not named here means what its base class means."""

NDJSON = "application/x-ndjson"
_MAX_BODY_BYTES = 1024 * 1024
"""Of a request; an event has two thousand."""
_SCHEDULE_TIME = "X-CloudScheduler-ScheduleTime"

log = structlog.get_logger()


class EventAnswer(BaseModel):
    """What became of an event."""

    outcome: str = Field(description="created, skipped, ignored or rejected")
    source: str | None = None
    thumbnail: str | None = Field(None, description="Of several sizes, the first.")
    thumbnails: list[str] | None = Field(None, description="Where THUMBNAIL_SIZES has several.")
    code: str | None = None
    reason: str | None = None


class ErrorAnswer(BaseModel):
    """Why a request was not served."""

    code: str
    reason: str
    field: str | None = None


def create_app(service: Service) -> FastAPI:
    """Build the application around a service that is ready."""
    app = FastAPI(
        title="Thumbnails for Cloud Storage",
        description="Thumbnails of the images in a Cloud Storage folder: a whole folder, or one image as it arrives.",
        max_body_size=_MAX_BODY_BYTES,
        docs_url=None,
        redoc_url=None,
    )
    app.add_middleware(TraceContextMiddleware)
    pages = Pages(service) if service.settings.pages else None
    app.state.pages = pages
    app.exception_handler(ServiceError)(_answer_service_error)
    app.exception_handler(HTTPException)(_answer_no_route)
    app.exception_handler(Exception)(_answer_unforeseen)

    @app.head("/health", include_in_schema=False)
    @app.get("/health")
    async def health() -> dict[str, str]:
        """Whether the process serves; asks nothing of storage."""
        return HEALTHY

    _serve_run(app, service)
    _serve_status(app, service, pages)
    _serve_events(app, service)
    add_docs(app)
    if pages:
        pages.add_to(app)
    return app


def _serve_run(app: FastAPI, service: Service) -> None:
    @app.post(
        "/run",
        response_model=RunReport,
        response_model_exclude_none=True,
        responses={
            403: {"model": ErrorAnswer, "description": "The folder is outside INPUT_FOLDER."},
            404: {"model": ErrorAnswer, "description": "The bucket does not exist."},
            422: {"model": ErrorAnswer, "description": "A field is unknown or wrong."},
            503: {"model": RunReport, "description": "Something failed and may work later: call again."},
        },
        openapi_extra={"requestBody": {"content": {"application/json": {"schema": RunRequest.model_json_schema()}}}},
    )
    async def run(request: Request, body: Annotated[bytes, Depends(_body)]) -> Response:
        """Thumbnail the input folder, a folder inside it, or one chunk of it.

        With `Accept: application/x-ndjson` the answer is a line of progress a second, then the report.
        """
        asked = _run_request(body)
        ordered = service.run(asked, _scheduled_hour(request) if asked.timestamp is None else None)
        try:
            await preflight(ordered, service)
        except BucketNotFound as error:
            return _answer(request, error, HTTPStatus.NOT_FOUND)
        if NDJSON in request.headers.get("accept", "").lower():
            return StreamingResponse(ndjson(ordered, service), media_type=NDJSON)
        async with aclosing(supervise(ordered, service)) as reports:
            async for done, _ in reports:
                if done or await request.is_disconnected():
                    break
        report = ordered.report()
        return Response(
            report.model_dump_json(exclude_none=True),
            HTTPStatus.OK if report.whole else HTTPStatus.SERVICE_UNAVAILABLE,
            media_type="application/json",
        )


def _serve_status(app: FastAPI, service: Service, pages: Pages | None) -> None:
    store, bucket = service.thumbnailer.store, service.output_bucket
    vary = VARY if pages else {}

    @app.head("/runs", include_in_schema=False, response_model=RunList)
    @app.get("/runs", response_model=RunList, responses={503: {"model": ErrorAnswer}})
    def runs(request: Request, response: Response) -> RunList | Response:
        """Return the latest runs, newest first."""
        found = list_runs(store, bucket)
        response.headers.update(vary)
        return pages.runs(found) if pages and prefers_page(request) else found

    @app.head("/runs/{run_id}", include_in_schema=False, response_model=RunStatus)
    @app.get(
        "/runs/{run_id}",
        response_model=RunStatus,
        response_model_exclude_none=True,
        responses={404: {"model": ErrorAnswer, "description": "No such run."}, 503: {"model": ErrorAnswer}},
    )
    def one_run(run_id: str, request: Request, response: Response) -> RunStatus | Response:
        """How far a run is: the sum of what its tasks have reported."""
        found = run_status(store, bucket, check_run_id(run_id))
        response.headers.update(vary)
        return pages.run(found) if pages and prefers_page(request) else found


def _serve_events(app: FastAPI, service: Service) -> None:
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
    async def events(request: Request, body: Annotated[bytes, Depends(_body)]) -> EventAnswer | Response:
        """Thumbnail the one object that an event of Eventarc or Pub/Sub push is about."""
        answer = await _event_answer(service, request, body)
        if isinstance(answer, EventAnswer):
            log.debug("event", **answer.model_dump(exclude_none=True))
        return answer


async def _body(request: Request) -> bytes:
    """The raw body: callers send JSON under many media types, and bad JSON has an answer of its own.

    Raises:
        ForeignPage: a browser says that another host's page makes it call. Where a proxy adds the token, any page that
            is open beside it could start runs.
    """
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    foreign = (
        site not in {"same-origin", "none"} if site else bool(origin) and urlsplit(origin).netloc != request.url.netloc
    )
    if foreign:
        raise ForeignPage(
            f"a page of {origin or 'another host'} may not call; use curl, Cloud Scheduler or this service's own /docs"
        )
    return await request.body()


def _run_request(body: bytes) -> RunRequest:
    if not body.strip():
        return RunRequest()
    try:
        return RunRequest.model_validate_json(body)
    except ValidationError as error:
        problem = error.errors()[0]
        field = ".".join(map(str, problem["loc"]))[:100] or "body"
        given = body.decode(errors="replace") if field == "body" else problem["input"]
        known = f" (known are {', '.join(RunRequest.model_fields)})" if problem["type"] == "extra_forbidden" else ""
        raise InvalidValue(field, given, f"is wrong: {problem['msg']}{known}") from None


def _scheduled_hour(request: Request) -> Hour | None:
    """The hour of Cloud Scheduler's schedule time, which its retries keep; None for any other caller."""
    text = request.headers.get(_SCHEDULE_TIME)
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None:
            raise ValueError
        return Hour.of(moment)
    except (ValueError, OverflowError):
        raise InvalidValue(_SCHEDULE_TIME, text, "is not a time with an offset (RFC 3339)") from None


async def _event_answer(service: Service, request: Request, body: bytes) -> EventAnswer | Response:
    metrics = service.thumbnailer.metrics
    try:
        event = decode(request.headers, body)
    except UnusableEvent as error:
        # Any answer but 2xx would have it delivered again for a day, and change nothing.
        log.error("event rejected", outcome=Result.REJECTED, code=error.code, reason=str(error))
        metrics.image(Door.EVENTS, Result.REJECTED)
        return EventAnswer(outcome="rejected", code=error.code, reason=str(error))
    if isinstance(event, IgnoredEvent):
        metrics.image(Door.EVENTS, Result.IGNORED)
        return EventAnswer(outcome="ignored", reason=event.reason)
    # Also for the line that the server writes should there be a defect.
    bind_contextvars(source=str(event.location))
    ended = "failed"
    try:
        outcome = await submit_event(service, partial(service.thumbnailer.handle, event))
        ended = outcome.result
    except RetryLater as error:
        return _answer(request, error, status_of(error), "image failed", outcome="failed")
    finally:
        metrics.image(Door.EVENTS, ended)
    thumbnails = [str(location) for location in outcome.thumbnails]
    return EventAnswer(
        outcome=outcome.result,
        source=str(outcome.source),
        thumbnail=thumbnails[0] if thumbnails else None,
        thumbnails=thumbnails if len(thumbnails) > 1 else None,
        code=outcome.code or None,
        reason=outcome.reason or None,
    )


def status_of(error: ServiceError) -> HTTPStatus:
    """Look an error's nearest class up in `STATUS`."""
    return next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)


def _answer(
    request: Request, error: ServiceError, status: HTTPStatus, message: str = "to be tried again", **said: str
) -> Response:
    """Answer with an error, and log one that may pass; nothing logs what the caller alone can mend.

    Args:
        request: a browser's gets a page.
        error: what happened.
        status: of the answer.
        message: the log's.
        said: further fields for the log.
    """
    answer = ErrorAnswer(code=error.code, reason=str(error))
    headers = {}
    if isinstance(error, InvalidValue):
        answer.field = error.field
    if isinstance(error, RetryLater):
        log.warning(message, **said, code=error.code, reason=str(error))
        if error.retry_after is not None:
            headers["Retry-After"] = str(error.retry_after)
    return _problem(request, answer, status, headers)


def _problem(request: Request, answer: ErrorAnswer, status: int, headers: Mapping[str, str]) -> Response:
    """Say it as a page to a browser, in JSON to a program."""
    pages: Pages | None = request.app.state.pages
    if pages and prefers_page(request):
        return pages.problem(status, answer.code, answer.reason, headers)
    vary = VARY if pages else {}
    return JSONResponse(answer.model_dump(exclude_none=True), status, {**vary, **headers})


async def _answer_service_error(request: Request, error: ServiceError) -> Response:
    return _answer(request, error, status_of(error))


async def _answer_no_route(request: Request, error: HTTPException) -> Response:
    reason = f"{request.method} {request.url.path}: {error.detail}. The doors are POST /run and POST /events; see /docs"
    return _problem(request, ErrorAnswer(code="no_route", reason=reason), error.status_code, error.headers or {})


async def _answer_unforeseen(request: Request, _: Exception) -> Response:
    """The server logs the traceback; the caller gets none of it."""
    answer = ErrorAnswer(code="internal_error", reason="a defect of the service; its log has the traceback")
    return _problem(request, answer, HTTPStatus.INTERNAL_SERVER_ERROR, {})
