"""Starts the HTTP service on $PORT."""

import gc
import logging
import signal
import sys
from contextlib import ExitStack
from socket import socket
from types import FrameType

import uvicorn

from service.errors import ServiceError
from service.process import DONE, TRY_AGAIN, Shutdown, Stop, begin, exit_status_of, leave
from service.settings import Settings
from service.web.startup import Application, DeferredApp


class _Server(uvicorn.Server):
    """Loads the application once the port is open, and tells long runs at once when the process is to end."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._stop = Stop()
        self._ending = ExitStack()
        self.app = DeferredApp(self._load)
        config = uvicorn.Config(
            self.app,
            host="0.0.0.0",  # noqa: S104 - requests reach a container from outside of it
            port=settings.port,
            lifespan="off",
            log_config=None,
            # The platform logs requests already.
            access_log=False,
            timeout_graceful_shutdown=int(Shutdown().whole),
            server_header=False,
            # Cloud Run ends TLS and says so in X-Forwarded-Proto. Nothing is allowed or refused by it.
            forwarded_allow_ips="*",
        )
        super().__init__(config)

    def _load(self) -> Application:
        from service.web.app import load

        service, app = load(self._settings, self._stop)
        # The rest ends with the process.
        self._ending.callback(service.metrics.close, service.shutdown.metrics)
        self._ending.callback(service.decoders.close)
        # All of it stays: no garbage collection need look through it.
        gc.freeze()
        return app

    async def startup(self, sockets: list[socket] | None = None) -> None:
        await super().startup(sockets)
        self.app.start_loading()

    async def on_tick(self, counter: int) -> bool:
        """Return True once the server has to end."""
        return await super().on_tick(counter) or self.app.failure is not None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """End in order at the first signal, at once at a second Ctrl-C.

        Not uvicorn's own, which sends itself the signal again at the end and so dies of it instead of returning.
        """
        del frame
        self._stop.set()
        self.force_exit = self.should_exit and sig == signal.SIGINT
        self.should_exit = True

    async def shutdown(self, sockets: list[socket] | None = None) -> None:
        await super().shutdown(sockets)
        self._ending.close()


def main() -> int:
    """Serve until told to end; return the exit status."""
    try:
        server = _Server(begin())
        server.run()
        if server.app.failure:
            raise server.app.failure
    except ServiceError as error:
        sys.stderr.write(f"{error}\n")
        return exit_status_of(error)
    except Exception:
        logging.getLogger(__name__).critical("the service could not start", exc_info=True)
        return TRY_AGAIN
    return DONE


if __name__ == "__main__":
    leave(main())
