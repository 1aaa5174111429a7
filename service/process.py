"""A program of the service from its first step to its last: set-up, the signal to stop, exit statuses.

Light: imports nothing that takes long, since the HTTP port opens behind it.
"""

import logging
import math
import os
import sys
import time
from dataclasses import dataclass
from threading import Event
from typing import NoReturn

from service.errors import (
    CredentialsMissing,
    InvalidValue,
    ServiceError,
    ShuttingDown,
    WrongSettings,
)
from service.memory import tune_malloc
from service.settings import Settings, load_settings
from service.telemetry.logs import configure_logs, divert_native_output

DONE = 0
TRY_AGAIN = 1
WRONG_SETTINGS = 2

EXIT_STATUS: dict[type[ServiceError], int] = {
    ServiceError: TRY_AGAIN,
    WrongSettings: WRONG_SETTINGS,
    CredentialsMissing: WRONG_SETTINGS,
    InvalidValue: WRONG_SETTINGS,
}
"""Exit status of a program that ends with an error. A class that is not named has the status of its base."""

POLL_SECONDS = 0.2
"""A wait notices so soon that work has to end."""


@dataclass(frozen=True, slots=True)
class Shutdown:
    """The budget of time from SIGTERM to the end of the process, in seconds.

    Cloud Run kills the container 10 s after SIGTERM (cloud.google.com/run/docs/container-contract). Each share is part
    of the one before it.
    """

    whole: float = 8
    """All requests end within it."""
    run: float = 6.5
    """A run or an event ends by itself within it; after that the answer is given without it."""
    images: float = 5
    """Images in flight end within it; after that they count as failed."""
    metrics: float = 1
    """The last export of metrics."""


class Stop:
    """Tells that work has to end: the process was told to, or the caller is gone."""

    def __init__(self, parent: "Stop | None" = None) -> None:
        """Start unset; set as soon as the parent is."""
        self._event = Event()
        self._parent = parent
        self._set_at = math.inf

    def set(self) -> None:
        """Tell it; the first time counts."""
        self._set_at = min(self._set_at, time.monotonic())
        self._event.set()

    def is_set(self) -> bool:
        """Return True once work has to end."""
        return self._event.is_set() or (self._parent is not None and self._parent.is_set())

    def is_set_for(self, seconds: float) -> bool:
        """Return True once it has been set for so long."""
        return time.monotonic() - self._set_at >= seconds or (
            self._parent is not None and self._parent.is_set_for(seconds)
        )

    def wait(self, seconds: float) -> bool:
        """Wait until it is set, for so long at most; return True if it is."""
        until = time.monotonic() + seconds
        while not self.is_set() and (left := until - time.monotonic()) > 0:
            self._event.wait(min(left, POLL_SECONDS))
        return self.is_set()

    def raise_if_set(self, reason: str) -> None:
        """Raise ShuttingDown with this reason if it is set."""
        if self.is_set():
            raise ShuttingDown(reason)


def exit_status_of(error: ServiceError) -> int:
    """Return the exit status of an error's nearest class in `EXIT_STATUS`."""
    return next(EXIT_STATUS[kind] for kind in type(error).__mro__ if kind in EXIT_STATUS)


def begin() -> Settings:
    """Read the settings and set up malloc and the log.

    Raises:
        WrongSettings: see `load_settings`.
    """
    tune_malloc()
    settings = load_settings()
    configure_logs(settings.log_level, settings.log_format, settings.google_cloud_project)
    divert_native_output()
    return settings


def leave(status: int) -> NoReturn:
    """End the process now, although a thread may hang in a call to storage."""
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
