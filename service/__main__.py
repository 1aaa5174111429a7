"""Starts the HTTP service on $PORT."""

import signal
import sys
from types import FrameType

import uvicorn

from service.app import create_app
from service.errors import ServiceError
from service.job import exit_status_of
from service.wiring import Service, leave, start

_GRACE_SECONDS = 8
"""What requests in flight get after SIGTERM; Cloud Run kills the container after 10 s."""


class _Server(uvicorn.Server):
    """Tells the service at once that it was told to end, so that long runs end early."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self._service = service

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """End in order at the first signal, at once at a second Ctrl-C.

        Not uvicorn's own, which sends itself the signal again at the end and so dies of it instead of returning.
        """
        del frame
        self._service.stopping.set()
        self.force_exit = self.should_exit and sig == signal.SIGINT
        self.should_exit = True


def main() -> int:
    """Serve until told to end; return the exit status."""
    try:
        settings, service = start()
    except ServiceError as error:
        sys.stderr.write(f"{error}\n")
        return exit_status_of(error)
    config = uvicorn.Config(
        create_app(service),
        # Cloud Run reaches the container from outside of it.
        host="0.0.0.0",  # noqa: S104 - see the line above
        port=settings.port,
        log_config=None,
        # The platform logs requests already.
        access_log=False,
        timeout_graceful_shutdown=_GRACE_SECONDS,
        server_header=False,
    )
    _Server(config, service).run()
    return 0


if __name__ == "__main__":
    leave(main())
