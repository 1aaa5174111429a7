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

    def __init__(self, load: Callable[[], Application], on_shutdown: Callable[[], None]) -> None:
        """Prepare without loading anything.

        Args:
            load: imports and builds the application. Called once, in a thread.
            on_shutdown: called when the server has stopped serving.
        """
        self._load = load
        self._on_shutdown = on_shutdown
        self._application: Application | None = None
        self._loaded = asyncio.Event()
        self.failure: Exception | None = None
        """What `load` has raised."""

    def start_loading(self, on_failure: Callable[[], None]) -> None:
        """Load the application in a thread. Call this from the event loop.

        Args:
            on_failure: called in the event loop if `load` raises.
        """
        loop = asyncio.get_running_loop()

        def work() -> None:
            default = sys.getswitchinterval()
            sys.setswitchinterval(_SWITCH_INTERVAL)
            try:
                self._application = self._load()
            except Exception as error:  # noqa: BLE001 - the edge of a thread; the program reads `failure` and ends
                self.failure = error
                loop.call_soon_threadsafe(on_failure)
            finally:
                sys.setswitchinterval(default)
                loop.call_soon_threadsafe(self._loaded.set)

        Thread(target=work, name="load", daemon=True).start()

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Serve one connection (ASGI)."""
        if scope["type"] == "lifespan":
            return await self._lifespan(receive, send)
        if self._application is None:
            if scope["type"] == "http" and scope["path"] == "/health" and scope["method"] in {"GET", "HEAD"}:
                return await _answer(send, 200, HEALTHY)
            await self._loaded.wait()
        if self._application is None:
            return await _answer(send, 503, {"code": "shutting_down", "reason": "the service could not start"})
        return await self._application(scope, receive, send)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await asyncio.to_thread(self._on_shutdown)
        await send({"type": "lifespan.shutdown.complete"})


async def _answer(send: Send, status: int, content: dict[str, str]) -> None:
    body = json.dumps(content, separators=(",", ":")).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
