"""Calls to storage side by side, on the executor that the whole process shares."""

from collections.abc import Callable
from concurrent.futures import Executor
from contextvars import copy_context
from typing import TypeVar

_Result = TypeVar("_Result")


def begin(executor: Executor, call: Callable[[], _Result]) -> Callable[[], _Result]:
    """Begin a call in another thread; return a function that waits for its result, or raises its exception.

    The caller's thread makes the call itself if no other thread has come to it by then: images never delay it.
    """
    try:
        # The lines of the log that a call causes say whose they are.
        future = executor.submit(copy_context().run, call)
    except RuntimeError:  # The executor was shut down.
        return call
    return lambda: call() if future.cancel() else future.result()
