"""Local processes that end with the block that started them, on every way out of it; the service is one."""

import os
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType

import httpx

from service.demo.network import HOST, LocalWorldError, free_port, local_client

_START_SECONDS = 60
_POLL_SECONDS = 0.02
_SERVICE_GRACE_SECONDS = 15
"""Between SIGTERM and SIGKILL; the service gives requests in flight 8 s."""
_GONE_SECONDS = 0.5
"""Time to look for the children of a killed process. They end at once, but a slow init leaves their entries."""
_LOG_LINES = 25


@dataclass(frozen=True, slots=True)
class ServiceProcess:
    """The service, running and healthy."""

    url: str
    log: Path
    """Its stdout and stderr; there until the service ends."""
    pid: int


@contextmanager
def service_process(
    settings: Mapping[str, str], *, command: Sequence[str] = (sys.executable, "-m", "service")
) -> Iterator[ServiceProcess]:
    """Run the service on a free port until the block ends: then SIGTERM, and SIGKILL if that does not end it.

    Args:
        settings: environment variables. They are added to this process's own, except for INPUT_FOLDER and those of
            a Cloud Run job.
        command: the program and its arguments. It listens on the port in PORT.

    Raises:
        LocalWorldError: it ends, or does not answer, before it is healthy.
    """
    url = f"http://{HOST}:{free_port()}"
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("CLOUD_RUN_") and name != "INPUT_FOLDER"
    }
    env = inherited | dict(settings) | {"PORT": url.rpartition(":")[2]}
    with TemporaryDirectory(prefix="service-", ignore_cleanup_errors=True) as directory:
        log = Path(directory) / "log"
        with running(
            "the service", command, log, f"{url}/health", env=env, grace_seconds=_SERVICE_GRACE_SECONDS
        ) as process:
            yield ServiceProcess(url, log, process.pid)


@contextmanager
def running(
    what: str,
    command: Sequence[str],
    log: Path,
    ready_url: str,
    *,
    env: Mapping[str, str],
    grace_seconds: float = 0,
) -> Iterator[subprocess.Popen[bytes]]:
    """Start a process, wait until it answers, and end it together with its children.

    Args:
        what: its name for people.
        command: the program and its arguments.
        log: the file for its output. A pipe that nobody reads would stop it once it is full.
        ready_url: answers 200 once it is up.
        env: the whole of its environment.
        grace_seconds: between SIGTERM and SIGKILL; 0 for a process that needs no orderly end.

    Raises:
        LocalWorldError: it does not start, ends, or does not answer in time.
    """
    with _signals_deferred():
        try:
            with log.open("wb") as output:
                process = subprocess.Popen(  # noqa: S603 - callers give constant words, and a program of this machine
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    env=env,
                    # A group of its own: Ctrl-C reaches this process alone, which ends the others in order, and the
                    # children of a launcher are ended with it.
                    start_new_session=True,
                )
        except OSError as error:
            raise LocalWorldError(f"cannot start {what} ({command[0]}): {error}") from error
        # At the interpreter's exit, if an exception cuts the orderly end short.
        kill_at_exit = weakref.finalize(process, _signal_group, process.pid, signal.SIGKILL)
    try:
        _wait_until_ready(what, process, log, ready_url)
        yield process
    finally:
        _end(process, grace_seconds)
        kill_at_exit.detach()


def log_end(log: Path) -> str:
    """Return the last lines of a log, indented, or a sentence if there are none."""
    try:
        lines = log.read_text(errors="replace").splitlines()
    except OSError as error:
        return f"  (its log cannot be read: {error})"
    return "\n".join(f"  {line}" for line in lines[-_LOG_LINES:]) or "  (its log is empty)"


@contextmanager
def _signals_deferred() -> Iterator[None]:
    """Hold back signals that raise in Python, lest one falls between a process's start and the means to end it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    arrived: list[int] = []

    def note(number: int, _: FrameType | None) -> None:
        arrived.append(number)

    handlers = {
        number: handler
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        if callable(handler := signal.getsignal(number))
    }
    for number in handlers:
        signal.signal(number, note)
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        for arrival in arrived:
            signal.raise_signal(arrival)


def _wait_until_ready(what: str, process: subprocess.Popen[bytes], log: Path, ready_url: str) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while not _answers(ready_url):
        if process.poll() is not None:
            raise LocalWorldError(f"{what} ended with status {process.returncode} as it started:\n{log_end(log)}")
        if time.monotonic() > deadline:
            raise LocalWorldError(f"{what} did not answer within {_START_SECONDS} s:\n{log_end(log)}")
        time.sleep(_POLL_SECONDS)


def _answers(url: str) -> bool:
    try:
        with local_client(timeout=5) as client:
            return client.get(url).status_code == HTTPStatus.OK
    except httpx.TransportError:
        return False


def _end(process: subprocess.Popen[bytes], grace_seconds: float) -> None:
    if grace_seconds and process.poll() is None:
        _signal_group(process.pid, signal.SIGTERM)
        try:
            process.wait(grace_seconds)
        except subprocess.TimeoutExpired:
            sys.stderr.write(f"process {process.pid} did not end within {grace_seconds} s of SIGTERM: killed\n")
    _signal_group(process.pid, signal.SIGKILL)
    process.wait()
    # Its children cannot be waited for; they are gone once their group is.
    deadline = time.monotonic() + _GONE_SECONDS
    while _signal_group(process.pid, 0) and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)


def _signal_group(leader: int, number: int) -> bool:
    """Signal a process and its children; return whether any of them was still there."""
    try:
        os.killpg(leader, number)
    except (ProcessLookupError, PermissionError):
        # macOS answers "not permitted" for a group of nothing but zombies.
        return False
    return True
