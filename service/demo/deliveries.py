"""Events on their way to the service's `/events`, and what it answers.

Pub/Sub pushes to a relay in this process, which passes each message on unchanged: that is how the demo can count
answers that nobody but Pub/Sub sees. Where there is no Pub/Sub, the demo delivers events itself as Eventarc would.
"""

import json
import threading
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import quote

import httpx

from service.demo.emulators import free_port, local_client
from service.events import FINALIZED

_RESOURCE_FIELDS = ("bucket", "name", "generation", "size", "timeCreated", "contentType", "metadata")


@dataclass(frozen=True, slots=True)
class Answer:
    """What the service answered to one event."""

    source: str
    """The `gs://` address of the object that the event is about."""
    outcome: str
    thumbnail: str
    code: str
    reason: str
    at: float
    """When it came, on the monotonic clock."""


class EventDoor:
    """The service's `/events`, with a memory of its answers; threads may share it."""

    def __init__(self, service_url: str) -> None:
        """Assemble; nothing is sent."""
        self._url = f"{service_url}/events"
        self._client = local_client(timeout=90)
        self._changed = threading.Condition()
        self._answers: dict[str, Answer] = {}
        self._refusals = 0

    def deliver(self, headers: Mapping[str, str], body: bytes) -> int:
        """Post one event and return the status of the answer; what is no success is to be delivered again."""
        try:
            answer = self._client.post(self._url, content=body, headers=dict(headers))
        except httpx.HTTPError:
            status = int(HTTPStatus.SERVICE_UNAVAILABLE)
        else:
            status = answer.status_code
        with self._changed:
            if status == HTTPStatus.OK:
                said = answer.json()
                source = said.get("source") or ""
                # What came of a second delivery says nothing about the image.
                self._answers.setdefault(
                    source,
                    Answer(
                        source,
                        said["outcome"],
                        said.get("thumbnail") or "",
                        said.get("code") or "",
                        said.get("reason") or "",
                        time.monotonic(),
                    ),
                )
            else:
                self._refusals += 1
            self._changed.notify_all()
        return status

    def answers(self) -> dict[str, Answer]:
        """The first answer about each object, by its `gs://` address."""
        with self._changed:
            return dict(self._answers)

    @property
    def refusals(self) -> int:
        """How many deliveries were answered with "later"."""
        with self._changed:
            return self._refusals

    def wait_for_more(self, sources: Collection[str], seconds: float) -> int:
        """Return how many sources are answered; wait for a further answer first, unless all are."""
        with self._changed:
            answered = sum(source in self._answers for source in sources)
            if answered < len(sources) and self._changed.wait(seconds):
                answered = sum(source in self._answers for source in sources)
        return answered

    def close(self) -> None:
        """Close the connections."""
        self._client.close()


@contextmanager
def event_door(service_url: str) -> Iterator[EventDoor]:
    """Yield the door to a service, and close it."""
    door = EventDoor(service_url)
    try:
        yield door
    finally:
        door.close()


@contextmanager
def relay(door: EventDoor) -> Iterator[str]:
    """Pass on what Pub/Sub pushes to the URL that is yielded, and answer as the door does."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            headers = {"Content-Type": self.headers.get("Content-Type", "")}
            self.send_response(door.deliver(headers, body))
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Stay silent: the terminal is the demo's."""

    port = free_port()
    with _QuietServer(("127.0.0.1", port), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, name="relay")
        thread.start()
        try:
            yield f"http://127.0.0.1:{port}/"
        finally:
            server.shutdown()
            thread.join()


class _QuietServer(ThreadingHTTPServer):
    # An event in flight must not hold up the end of the demo; Pub/Sub would deliver it again.
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: a connection that Pub/Sub closed is its own affair."""


def finalized_event(resource: Mapping[str, Any]) -> tuple[dict[str, str], bytes]:
    """Return headers and body of the event that Eventarc sends about an object, a CloudEvent in binary mode.

    Args:
        resource: the object, as the JSON API describes it.
    """
    headers = {
        "Content-Type": "application/json",
        "ce-specversion": "1.0",
        "ce-type": FINALIZED,
        "ce-source": f"//storage.googleapis.com/projects/_/buckets/{resource['bucket']}",
        "ce-subject": f"objects/{quote(resource['name'])}",
        "ce-id": f"{resource['generation']}",
        "ce-time": resource["timeCreated"],
    }
    data = {key: resource[key] for key in _RESOURCE_FIELDS if key in resource}
    return headers, json.dumps(data).encode()
