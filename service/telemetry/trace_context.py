"""Bind the trace that a request is part of, so that each log line of the request names it.

Only well-formed identifiers get from a header into the log.
"""

import re
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

from opentelemetry.trace import format_span_id, format_trace_id, get_current_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from structlog.contextvars import bind_contextvars, clear_contextvars

from service.telemetry.logs import SAMPLED, SPAN, TRACE

_CLOUD_TRACE = re.compile(r"([0-9a-fA-F]{32})(?:/([0-9]{1,20}))?(?:;o=([0-9]))?")
"""`X-Cloud-Trace-Context`: trace, span as a decimal number, options."""
_LARGEST_SPAN = 2**64 - 1
_PROPAGATOR = TraceContextTextMapPropagator()

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class TraceContextMiddleware:
    """ASGI middleware that binds the request's trace for the log."""

    def __init__(self, app: Callable[[Scope, Receive, Send], Awaitable[None]]) -> None:
        """Wrap an application."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection, as ASGI has it."""
        # Not cleared at the end, since the server logs a failed request after this.
        clear_contextvars()
        if scope["type"] == "http":
            bind_contextvars(**trace_of(scope["headers"]))
        await self._app(scope, receive, send)


def trace_of(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str | bool]:
    """Return the trace, the span, and whether they are sampled; leave out what is missing or malformed.

    The standard header goes before Google's own. Names of headers are in lower case, as ASGI has them.
    """
    values = {name: value.decode("latin-1") for name, value in headers}
    context = _PROPAGATOR.extract({"traceparent": values.get(b"traceparent", "")})
    span = get_current_span(context).get_span_context()
    if not span.is_valid:
        return _from_cloud(values.get(b"x-cloud-trace-context", ""))
    return {
        TRACE: format_trace_id(span.trace_id),
        SPAN: format_span_id(span.span_id),
        SAMPLED: span.trace_flags.sampled,
    }


def _from_cloud(value: str) -> dict[str, str | bool]:
    if (match := _CLOUD_TRACE.fullmatch(value)) is None or not int(match[1], 16):
        return {}
    trace: dict[str, str | bool] = {TRACE: match[1].lower()}
    if match[2] and 0 < (span := int(match[2])) <= _LARGEST_SPAN:
        trace[SPAN] = format_span_id(span)
    if match[3]:
        trace[SAMPLED] = bool(int(match[3]) & 1)
    return trace
