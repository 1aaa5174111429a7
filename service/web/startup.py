"""ASGI app that answers `/health` while the real application is being imported.

It imports the standard library alone. Web framework, storage client and image library take most of a start, and none
of them is needed to open the port.
"""

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable, MutableMapping
from threading import Thread
from typing import Any

HEALTHY = {"status": "ok"}
"""The answer of `GET /health`."""

_SWITCH_INTERVAL = 0.0005
"""Seconds after which importing gives way to requests; a tenth of Python's default."""

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Message, Receive, Send], Awaitable[None]]


class DeferredApp:
    """Passes requests to an application as soon as it is loaded."""

    def __init__(self, load: Callable[[], Application]) -> None:
        """Prepare without loading anything; `load` imports and builds the application."""
        self._load = load
        self._application: Application | None = None
        self._loaded = asyncio.Event()
        self.failure: Exception | None = None
        """The exception that `load` has raised."""

    def start_loading(self) -> None:
        """Load the application in a thread, which does not keep the process from ending. Needs an event loop."""
        Thread(target=self._work, args=[asyncio.get_running_loop()], name="load", daemon=True).start()

    def _work(self, loop: asyncio.AbstractEventLoop) -> None:
        default = sys.getswitchinterval()
        sys.setswitchinterval(_SWITCH_INTERVAL)
        try:
            self._application = self._load()
        except Exception as error:  # noqa: BLE001 - the edge of a thread; the program reads `failure` and ends
            self.failure = error
        finally:
            sys.setswitchinterval(default)
            loop.call_soon_threadsafe(self._loaded.set)

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Serve one connection (ASGI)."""
        if self._application is None:
            if scope["type"] == "http" and scope["path"] == "/health" and scope["method"] in {"GET", "HEAD"}:
                return await _answer(send, 200, HEALTHY)
            await self._loaded.wait()
        if self._application is None:
            return await _answer(send, 503, {"code": "shutting_down", "reason": "the service could not start"})
        return await self._application(scope, receive, send)


async def _answer(send: Send, status: int, content: dict[str, str]) -> None:
    body = json.dumps(content, separators=(",", ":")).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
