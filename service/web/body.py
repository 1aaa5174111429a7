"""Reads the body of a request, up to a limit."""

from fastapi import Request

from service.errors import RequestTooLarge

MAX_BODY_BYTES = 1024 * 1024
"""Of a request; an event has two thousand."""


async def read_body(request: Request) -> bytes:
    """Return the body of a request.

    Raises:
        RequestTooLarge: it has more than `MAX_BODY_BYTES`. The rest is not read.
    """
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > MAX_BODY_BYTES:
            raise RequestTooLarge(f"the body has more than {MAX_BODY_BYTES:,} bytes; send less in one request")
    return bytes(body)
