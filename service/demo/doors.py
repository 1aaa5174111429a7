"""The two doors of the running service: `POST /run` for a folder, `POST /events` for one object."""

import json
import threading
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

import httpx

from service.demo.network import LocalWorldError, local_client
from service.demo.processes import ServiceProcess, log_end
from service.demo.terminal import counted, progress_bar
from service.events import FINALIZED

_STALL_SECONDS = 30
_PAUSES = (1, 2, 4, 8)
"""Seconds before an event that was refused is delivered again."""
_RESOURCE_FIELDS = ("bucket", "name", "generation", "size", "timeCreated", "contentType", "metadata")


def run_folder(service: ServiceProcess, body: Mapping[str, object]) -> dict[str, Any]:
    """Call `/run`, show its progress, and return its report.

    Raises:
        LocalWorldError: it answers with an error, or leaves something undone.
    """
    report: dict[str, Any] = {}
    with (
        local_client() as client,
        client.stream("POST", f"{service.url}/run", json=body, headers={"Accept": "application/x-ndjson"}) as answer,
        progress_bar("POST /run", None) as bar,
    ):
        if not answer.is_success:
            problem = answer.read().decode(errors="replace")
            raise _failure(service, f"POST /run answered HTTP {answer.status_code}: {problem}")
        for text in answer.iter_lines():
            report = json.loads(text)
            if progress := report.get("progress"):
                done = sum(progress[key] for key in ("created", "skipped", "rejected", "failed"))
                bar.total = max(progress["discovered"], done)
                bar.update(done - bar.n)
    if "failed" not in report:
        raise _failure(service, "POST /run ended without a report")
    if report["failed"] or report.get("error"):
        problem = json.dumps(report.get("error") or report["failures"][:1])
        raise _failure(service, f"POST /run left {counted(report['failed'], 'image')} undone: {problem}")
    return report


@dataclass(frozen=True, slots=True)
class Answer:
    """The service's answer to one event."""

    outcome: str
    thumbnail: str
    """Its `gs://` address; empty if none was made."""
    at: float
    """When it came, on the monotonic clock."""


class EventDoor:
    """`POST /events`, with a record of the answers; threads may share it."""

    def __init__(self, service: ServiceProcess) -> None:
        """Assemble; nothing is sent."""
        self._service = service
        self._client = local_client(timeout=90)
        self._changed = threading.Condition()
        self._answers: dict[str, Answer] = {}
        self._refusals = 0

    def deliver(self, headers: Mapping[str, str], body: bytes) -> int:
        """Post one event and return the status of the answer; an event without success is to be delivered again."""
        try:
            answer = self._client.post(f"{self._service.url}/events", content=body, headers=dict(headers))
        except httpx.HTTPError:
            status = int(HTTPStatus.SERVICE_UNAVAILABLE)
        else:
            status = answer.status_code
        with self._changed:
            if status == HTTPStatus.OK:
                said = answer.json()
                # The answer to a second delivery says nothing about the image.
                self._answers.setdefault(
                    said.get("source") or "", Answer(said["outcome"], said.get("thumbnail") or "", time.monotonic())
                )
            else:
                self._refusals += 1
            self._changed.notify_all()
        return status

    def deliver_until_taken(self, headers: Mapping[str, str], body: bytes) -> None:
        """Post one event again while it is refused, a few times, as Eventarc does for a day."""
        for pause in _PAUSES:
            if self.deliver(headers, body) == HTTPStatus.OK:
                return
            time.sleep(pause)
        self.deliver(headers, body)

    def wait_for(self, sources: Collection[str]) -> dict[str, Answer]:
        """Return the first answer about each of these objects, once all are there.

        Raises:
            LocalWorldError: no further answer came for `_STALL_SECONDS`.
        """
        wanted = set(sources)

        def count() -> int:
            return len(wanted & self._answers.keys())

        def is_more_than(number: int) -> Callable[[], bool]:
            return lambda: count() > number

        with progress_bar("events", len(wanted)) as bar, self._changed:
            while (answered := count()) < len(wanted):
                bar.update(answered - bar.n)
                if not self._changed.wait_for(is_more_than(answered), _STALL_SECONDS):
                    raise _failure(
                        self._service,
                        f"{answered:,} of {len(wanted):,} events were answered and then none for {_STALL_SECONDS} s; "
                        f"deliveries refused: {self._refusals:,}",
                    )
            return {source: self._answers[source] for source in sources}

    def close(self) -> None:
        """Close the connections."""
        self._client.close()


def finalized_event(resource: Mapping[str, Any]) -> tuple[dict[str, str], bytes]:
    """Return headers and body of the event that Eventarc sends about an object, a CloudEvent in binary mode.

    Args:
        resource: the object resource of the JSON API.
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


def _failure(service: ServiceProcess, problem: str) -> LocalWorldError:
    return LocalWorldError(f"{problem}. The end of the service's log:\n{log_end(service.log)}")
