"""Google's Pub/Sub emulator with one topic, its push subscription, and a relay that sees what is pushed."""

import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory

from service.demo.network import HOST, LocalWorldError, check, free_port, local_client
from service.demo.processes import running

PROJECT = "demo-project"
TOPIC = "uploads"

_ACK_SECONDS = 60


def pubsub_missing() -> str | None:
    """Return why the emulator cannot run here and what to do about it; None if it can."""
    gcloud = shutil.which("gcloud")
    if gcloud is None:
        return "gcloud is not in PATH: install the Google Cloud CLI, https://cloud.google.com/sdk/docs/install"
    if not _has_component(gcloud):
        return (
            "gcloud has no Pub/Sub emulator: run 'gcloud components install beta pubsub-emulator', or install the "
            "package google-cloud-cli-pubsub-emulator if gcloud came from a package repository"
        )
    if shutil.which("java") is None:
        return "java is not in PATH: install a Java runtime, which Google's Pub/Sub emulator needs"
    return None


def _has_component(gcloud: str) -> bool:
    component = Path("platform", "pubsub-emulator")
    if (Path(gcloud).resolve().parent.parent / component).is_dir():
        return True
    # Some installations put a script of their own in PATH; only gcloud itself knows its folder.
    answer = subprocess.run(  # noqa: S603 - the program is the gcloud in PATH, and its words are constants
        [gcloud, "info", "--format=value(installation.sdk_root)"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    root = answer.stdout.strip()
    return bool(root) and (Path(root) / component).is_dir()


@contextmanager
def pubsub_emulator() -> Iterator[str]:
    """Run the emulator with the topic `TOPIC`, and yield its address, `127.0.0.1:PORT`.

    Raises:
        LocalWorldError: it cannot run here, or does not start.
    """
    if missing := pubsub_missing():
        raise LocalWorldError(missing)
    address = f"{HOST}:{free_port()}"
    with TemporaryDirectory(prefix="pubsub-", ignore_cleanup_errors=True) as directory:
        folder = Path(directory)
        command = [
            *("gcloud", "beta", "emulators", "pubsub", "start"),
            *(f"--host-port={address}", f"--project={PROJECT}", f"--data-dir={folder}"),
        ]
        env = os.environ | {"CLOUDSDK_CORE_DISABLE_PROMPTS": "1", "CLOUDSDK_CORE_DISABLE_USAGE_REPORTING": "true"}
        with running("the Pub/Sub emulator", command, folder / "log", f"http://{address}/", env=env):
            # The storage emulator publishes from its first object on, and a message without a topic is lost.
            with local_client() as client:
                answer = client.put(f"http://{address}/v1/projects/{PROJECT}/topics/{TOPIC}")
            check(answer, f"make the topic {TOPIC}")
            yield address


def create_push_subscription(pubsub: str, push_url: str) -> None:
    """Have every further message of the topic posted to a URL.

    Args:
        pubsub: `host:port` of the emulator.
        push_url: where messages are posted to.

    Raises:
        LocalWorldError: the emulator refuses, for one because there is a subscription already.
    """
    with local_client() as client:
        answer = client.put(
            f"http://{pubsub}/v1/projects/{PROJECT}/subscriptions/{TOPIC}-push",
            json={
                "topic": f"projects/{PROJECT}/topics/{TOPIC}",
                "pushConfig": {"pushEndpoint": push_url},
                "ackDeadlineSeconds": _ACK_SECONDS,
            },
        )
    check(answer, f"subscribe to the topic {TOPIC}")


@contextmanager
def relay(deliver: Callable[[Mapping[str, str], bytes], int]) -> Iterator[str]:
    """Serve a URL for Pub/Sub to push to, and pass each message on.

    Args:
        deliver: gets headers and body of a message, and returns the HTTP status for Pub/Sub.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(deliver({"Content-Type": self.headers.get("Content-Type", "")}, body))
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Stay silent: the terminal is the demo's."""

    port = free_port()
    with _QuietServer((HOST, port), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, name="relay")
        thread.start()
        try:
            yield f"http://{HOST}:{port}/"
        finally:
            server.shutdown()
            thread.join()


class _QuietServer(ThreadingHTTPServer):
    # An event in flight must not hold up the end of the demo; Pub/Sub would deliver it again.
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Ignore connections that Pub/Sub closes."""
