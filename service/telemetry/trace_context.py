"""Which trace a request is part of, on every line of the log that the request causes.

Nothing but what has exactly the form of an identifier gets there from a header.
"""

import re
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

from structlog.contextvars import bind_contextvars, clear_contextvars

from service.telemetry.logs import SAMPLED, SPAN, TRACE

_TRACEPARENT = re.compile(rb"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})")
"""W3C Trace Context, version 00. A later version may say more behind a hyphen, which is cut off."""
_CLOUD_TRACE = re.compile(rb"([0-9a-fA-F]{32})(?:/([0-9]{1,20}))?(?:;o=([0-9]))?")
"""`X-Cloud-Trace-Context`, in which the span is a decimal number."""
_TRACEPARENT_LENGTH = 55
_LARGEST_SPAN = 2**64 - 1

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class TraceContextMiddleware:
    """ASGI middleware that binds the request's trace for the log."""

    def __init__(self, app: Callable[[Scope, Receive, Send], Awaitable[None]]) -> None:
        """Wrap an application."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, as ASGI has it."""
        # Not unbound at the end: what the server logs of a request that failed comes after it.
        clear_contextvars()
        if scope["type"] == "http":
            bind_contextvars(**trace_of(scope["headers"]))
        await self._app(scope, receive, send)


def trace_of(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str | bool]:
    """Read the trace, span and whether it is sampled; what is missing or malformed is left out.

    Args:
        headers: names in lower case, as ASGI has them.
    """
    found = {name: value for name, value in headers if name in {b"traceparent", b"x-cloud-trace-context"}}
    return _traceparent(found.get(b"traceparent", b"")) or _cloud_trace(found.get(b"x-cloud-trace-context", b""))


def _traceparent(value: bytes) -> dict[str, str | bool]:
    if value[_TRACEPARENT_LENGTH:].startswith(b"-") and not value.startswith(b"00"):
        value = value[:_TRACEPARENT_LENGTH]
    if (match := _TRACEPARENT.fullmatch(value)) is None:
        return {}
    trace, span, flags = match.groups()
    return {TRACE: trace.decode(), SPAN: span.decode(), SAMPLED: bool(int(flags, 16) & 1)}


def _cloud_trace(value: bytes) -> dict[str, str | bool]:
    if (match := _CLOUD_TRACE.fullmatch(value)) is None or not int(match[1], 16):
        return {}
    found: dict[str, str | bool] = {TRACE: match[1].decode().lower()}
    if match[2] and 0 < (span := int(match[2])) <= _LARGEST_SPAN:
        found[SPAN] = f"{span:016x}"
    if match[3]:
        found[SAMPLED] = bool(int(match[3]) & 1)
    return found
