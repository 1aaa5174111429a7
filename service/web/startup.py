"""What answers while the rest is still being imported: an ASGI application that opens the port at once.

Imports no more than it needs for that. The web framework, the storage client and the picture library take most of a
start, and none of them is needed to say that the process is there.
"""

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable, MutableMapping
from threading import Thread
from typing import Any

HEALTHY = {"status": "ok"}
"""The answer of `GET /health`."""

_SWITCH_SECONDS = 0.0005
"""How soon an import lets the requests have the interpreter; by default it is ten times that."""

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Message, Receive, Send], Awaitable[None]]


class DeferredApp:
    """Passes requests on to the application, as soon as there is one."""

    def __init__(self, load: Callable[[], Application], close: Callable[[], None]) -> None:
        """Assemble; nothing is loaded.

        Args:
            load: imports and builds the application; called once, in a thread.
            close: called when the server has stopped serving.
        """
        self._load = load
        self._close = close
        self._application: Application | None = None
        self._loaded = asyncio.Event()
        self.failure: Exception | None = None
        """Why there is no application, where `load` has raised."""

    def begin(self, failed: Callable[[], None]) -> None:
        """Load in a thread, from within the event loop.

        Args:
            failed: called in the event loop when `load` has raised.
        """
        loop = asyncio.get_running_loop()

        def work() -> None:
            usual = sys.getswitchinterval()
            sys.setswitchinterval(_SWITCH_SECONDS)
            try:
                self._application = self._load()
            except Exception as error:  # noqa: BLE001 - the edge of a thread: it is kept for whoever ends the program
                self.failure = error
                loop.call_soon_threadsafe(failed)
            finally:
                sys.setswitchinterval(usual)
                loop.call_soon_threadsafe(self._loaded.set)

        Thread(target=work, name="load", daemon=True).start()

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Serve one connection, as ASGI has it."""
        if scope["type"] == "lifespan":
            return await self._live(receive, send)
        if self._application is None:
            if scope["type"] == "http" and scope["path"] == "/health" and scope["method"] in {"GET", "HEAD"}:
                return await _answer(send, 200, HEALTHY)
            await self._loaded.wait()
        if self._application is None:
            return await _answer(send, 503, {"code": "shutting_down", "reason": "the service could not start"})
        return await self._application(scope, receive, send)

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await asyncio.to_thread(self._close)
        await send({"type": "lifespan.shutdown.complete"})


async def _answer(send: Send, status: int, content: dict[str, str]) -> None:
    body = json.dumps(content, separators=(",", ":")).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
