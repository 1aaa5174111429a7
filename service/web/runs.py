"""`POST /run`, `GET /runs` and `GET /runs/<run_id>`. Translates only; a run itself is in the package `runs`."""

import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack
from datetime import datetime
from http import HTTPStatus
from typing import Annotated

import structlog
from fastapi import Depends, FastAPI, Request
from fastapi.responses import Response, StreamingResponse
from pydantic import ValidationError

from service.bootstrap import Service
from service.errors import BucketNotFound, InvalidValue
from service.naming import CREATED, RUN, Hour
from service.runs.report import Counts, Report, RunReport
from service.runs.request import RunId, RunParameters, RunRequest, check_run_id
from service.runs.run_list import RunList, list_runs
from service.runs.status import RunStatus, run_status
from service.runs.supervisor import open_run
from service.web.answers import FOREIGN_PAGE, TOO_LARGE, UNAVAILABLE, ErrorAnswer, answer_error, try_again
from service.web.body import read_body
from service.web.pages import VARY, Pages, prefers_page
from service.web.storage_threads import StorageThreads

NDJSON = "application/x-ndjson"
_SCHEDULE_TIME = "X-CloudScheduler-ScheduleTime"
_PROGRESS_SECONDS = 1.0
_PROGRESS_FIELDS = {*Counts.model_fields, "elapsed_seconds"}

log = structlog.get_logger()


def add_run_routes(app: FastAPI, service: Service, pages: Pages | None, threads: StorageThreads) -> None:
    """Serve `POST /run`, and how far runs are: as JSON, and to people as pages."""
    store, bucket = service.store, service.settings.destination_bucket
    vary = VARY if pages else {}

    @app.post(
        "/run",
        response_model=RunReport,
        response_model_exclude_none=True,
        responses={
            200: {"content": {NDJSON: {"schema": {"type": "string"}}}},
            403: {"model": ErrorAnswer, "description": f"The folder is outside INPUT_FOLDER. Or: {FOREIGN_PAGE}"},
            404: {"model": ErrorAnswer, "description": "The bucket does not exist."},
            **TOO_LARGE,
            422: {
                "model": RunReport | ErrorAnswer,
                "description": "A field is unknown or wrong. Or the run costs more than it may (`too_expensive`): "
                "with the estimate if it was refused, and with the report if it was stopped.",
            },
            **try_again(
                "Something failed and may work later: call again. Without a report, no run has begun.",
                RunReport | ErrorAnswer,
            ),
        },
        openapi_extra={
            "requestBody": {
                "content": {
                    "application/json": {"schema": RunRequest.model_json_schema(), "example": {"dry_run": True}}
                }
            }
        },
    )
    async def run(request: Request, until_answered: Annotated[AsyncExitStack, Depends(_until_answered)]) -> Response:
        """Thumbnail the input folder, a folder inside it, or one chunk of it.

        With `Accept: application/x-ndjson` the answer is a line of progress a second, then the report.
        """
        asked = _run_request(await read_body(request))
        default_hour = _scheduled_hour(request) if asked.timestamp in {None, RUN, CREATED} else None
        params = RunParameters.of(asked, service.settings, default_hour)
        report = Report(params, service)
        try:
            snapshots = await until_answered.enter_async_context(open_run(params, service, report, _PROGRESS_SECONDS))
        except BucketNotFound as error:
            return await answer_error(request, error, HTTPStatus.NOT_FOUND)
        if NDJSON in request.headers.get("accept", "").lower():
            return StreamingResponse(_ndjson(snapshots, report), media_type=NDJSON)
        async for _ in snapshots:
            if await request.is_disconnected():
                break
        answer = report.snapshot()
        status = HTTPStatus.OK if answer.whole else HTTPStatus.SERVICE_UNAVAILABLE
        if answer.is_too_expensive:
            status = HTTPStatus.UNPROCESSABLE_ENTITY
        return Response(answer.model_dump_json(exclude_none=True), status, media_type="application/json")

    @app.head("/runs", include_in_schema=False, response_model=RunList)
    @app.get("/runs", response_model=RunList, responses=UNAVAILABLE)
    @threads.wrap
    def runs(request: Request, response: Response) -> RunList | Response:
        """Return the latest runs, newest first."""
        latest = list_runs(store, bucket)
        response.headers.update(vary)
        return pages.runs(latest) if pages and prefers_page(request) else latest

    @app.head("/runs/{run_id}", include_in_schema=False, response_model=RunStatus)
    @app.get(
        "/runs/{run_id}",
        response_model=RunStatus,
        response_model_exclude_none=True,
        responses={
            404: {"model": ErrorAnswer, "description": "No such run."},
            422: {"model": ErrorAnswer, "description": "This cannot be a run's id, or its plan cannot be read."},
            **UNAVAILABLE,
        },
    )
    @threads.wrap
    def one_run(run_id: RunId, request: Request, response: Response) -> RunStatus | Response:
        """Progress of a run: the sum of what its tasks have reported."""
        status = run_status(store, bucket, check_run_id(run_id))
        response.headers.update(vary)
        return pages.run(status, str(request.base_url)) if pages and prefers_page(request) else status


async def _until_answered() -> AsyncIterator[AsyncExitStack]:
    """Yield a stack that is left once the answer was sent, or the caller has gone."""
    async with AsyncExitStack() as stack:
        yield stack


async def _ndjson(snapshots: AsyncGenerator[RunReport], report: Report) -> AsyncIterator[str]:
    """Yield a line of JSON for each snapshot, and the report at the end."""
    try:
        async for snapshot in snapshots:
            yield json.dumps({"progress": snapshot.model_dump(include=_PROGRESS_FIELDS)}) + "\n"
    except InvalidValue:
        pass  # The report says so, too, and the status has been sent.
    except Exception:
        log.exception("run ended by a defect")
    yield report.snapshot().model_dump_json(exclude_none=True) + "\n"


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
    """Return the hour of Cloud Scheduler's schedule time, which its retries keep; None for any other caller."""
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
