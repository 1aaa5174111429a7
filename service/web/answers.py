"""From an error to the answer: the one table of statuses, in JSON for programs and as a page for people."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from service.errors import (
    CredentialsMissing,
    ForeignPage,
    ImageRejected,
    InternalError,
    InvalidValue,
    NameTaken,
    NotAnEvent,
    ObjectNotFound,
    OutsideFence,
    RequestTooLarge,
    RetryLater,
    ServiceError,
    TooExpensive,
    UnusableEvent,
    WrongSettings,
)
from service.runs.costs import PlannedCost
from service.web.body import MAX_BODY_BYTES
from service.web.pages import VARY, Pages, prefers_page

STATUS: dict[type[ServiceError], HTTPStatus] = {
    InvalidValue: HTTPStatus.UNPROCESSABLE_ENTITY,
    OutsideFence: HTTPStatus.FORBIDDEN,
    ForeignPage: HTTPStatus.FORBIDDEN,
    RequestTooLarge: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    NotAnEvent: HTTPStatus.BAD_REQUEST,
    ObjectNotFound: HTTPStatus.NOT_FOUND,
    RetryLater: HTTPStatus.SERVICE_UNAVAILABLE,
    # These are answered where they arise, or end the program before it serves.
    UnusableEvent: HTTPStatus.INTERNAL_SERVER_ERROR,
    ImageRejected: HTTPStatus.INTERNAL_SERVER_ERROR,
    NameTaken: HTTPStatus.INTERNAL_SERVER_ERROR,
    WrongSettings: HTTPStatus.INTERNAL_SERVER_ERROR,
    CredentialsMissing: HTTPStatus.INTERNAL_SERVER_ERROR,
}
"""Status of an answer to an error. A class that is not named has the status of its base."""

log = structlog.get_logger()


class ErrorAnswer(BaseModel):
    """Why a request was not served."""

    code: str
    reason: str
    field: str | None = None
    estimate: PlannedCost | None = Field(None, description="Of a run that would cost more than it may.")


Described = dict[int | str, dict[str, Any]]
"""Answers of a route by their status, for the description of the API."""

FOREIGN_PAGE = "A page of another host made a browser call."
TOO_LARGE: Described = {
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: {
        "model": ErrorAnswer,
        "description": f"The body has more than {MAX_BODY_BYTES:,} bytes.",
    }
}


def try_again(description: str, model: Any = ErrorAnswer) -> Described:  # noqa: ANN401 - a union of models has no type
    """Describe the answer with which a caller is to come again."""
    # In words: Swagger UI's table of headers is wider than a phone.
    text = f"{description} `Retry-After` has the seconds to wait, if known."
    return {HTTPStatus.SERVICE_UNAVAILABLE: {"model": model, "description": text}}


UNAVAILABLE = try_again("Storage did not answer, or too many requests wait for it: ask again.")


def add_error_handlers(app: FastAPI) -> None:
    """Answer every error that leaves a route."""
    app.exception_handler(ServiceError)(answer_error)
    app.exception_handler(HTTPException)(_answer_no_route)
    app.exception_handler(ClientDisconnect)(_answer_nobody)
    app.exception_handler(Exception)(_answer_unforeseen)


def status_of(error: ServiceError) -> HTTPStatus:
    """Return the status of an error's nearest class in `STATUS`."""
    return next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)


async def answer_error(
    request: Request,
    error: ServiceError,
    status: HTTPStatus | None = None,
    message: str = "to be tried again",
    **fields: str,
) -> Response:
    """Answer with an error and its status, unless another is given.

    An error that may pass is logged with the message and the fields; one that only the caller can mend is not.
    """
    field = error.field if isinstance(error, InvalidValue) else None
    estimate = error.estimate if isinstance(error, TooExpensive) else None
    answer = ErrorAnswer.model_validate(
        {"code": error.code, "reason": str(error), "field": field, "estimate": estimate}
    )
    headers = {}
    if isinstance(error, RetryLater):
        log.warning(message, **fields, code=error.code, reason=str(error))
        if error.retry_after is not None:
            headers["Retry-After"] = str(error.retry_after)
    return _answer(request, answer, status or status_of(error), headers)


def _answer(request: Request, answer: ErrorAnswer, status: int, headers: Mapping[str, str]) -> Response:
    pages: Pages | None = request.app.state.pages
    if pages and prefers_page(request):
        return pages.problem(status, answer.code, answer.reason, headers)
    vary = VARY if pages else {}
    return JSONResponse(answer.model_dump(exclude_none=True), status, {**vary, **headers})


async def _answer_no_route(request: Request, error: HTTPException) -> Response:
    reason = f"{request.method} {request.url.path}: {error.detail}. The doors are POST /run and POST /events; see /docs"
    return _answer(request, ErrorAnswer(code="no_route", reason=reason), error.status_code, error.headers or {})


async def _answer_nobody(request: Request, _: ClientDisconnect) -> Response:
    log.info("the caller went away before its request was complete", door=f"{request.method} {request.url.path}")
    return Response(status_code=HTTPStatus.BAD_REQUEST)


async def _answer_unforeseen(request: Request, _: Exception) -> Response:
    """Answer without a word of the traceback, which the server logs."""
    answer = ErrorAnswer(code=InternalError.code, reason=str(InternalError()))
    return _answer(request, answer, HTTPStatus.INTERNAL_SERVER_ERROR, {})
