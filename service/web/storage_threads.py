"""Threads for GET requests that ask storage. If it hangs, these wait, and those that serve files do not."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial, wraps
from typing import ParamSpec, TypeVar

from anyio import CapacityLimiter, to_thread

from service.errors import Overloaded

_P = ParamSpec("_P")
_T = TypeVar("_T")


class StorageThreads:
    """So many threads at once, for which requests wait in the order they came."""

    def __init__(self, count: int, patience: float) -> None:
        """Start no thread yet. `patience` is the longest wait for one, in seconds."""
        self._count = count
        self._patience = patience
        self._free = asyncio.Semaphore(count)

    def wrap(self, handler: Callable[_P, _T]) -> Callable[_P, Awaitable[_T]]:
        """Return a handler that calls this one in a thread. It raises Overloaded if none is free for too long."""

        @wraps(handler)
        async def handle_in_thread(*args: _P.args, **kwargs: _P.kwargs) -> _T:
            try:
                async with asyncio.timeout(self._patience):
                    await self._free.acquire()
            except TimeoutError:
                raise Overloaded(
                    f"{self._count} requests before this one wait for Cloud Storage, which is slow to answer; ask again"
                ) from None
            try:
                call = partial(handler, *args, **kwargs)
                # The framework's own limiter is that of static files. A thread that hangs is left behind when the
                # process ends.
                return await to_thread.run_sync(call, abandon_on_cancel=True, limiter=CapacityLimiter(1))
            finally:
                self._free.release()

        return handle_in_thread
