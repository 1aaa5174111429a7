"""What is measured where METRICS is on, and what it costs where it is off."""

import io
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.sdk.metrics.export import HistogramDataPoint, InMemoryMetricReader, NumberDataPoint
from PIL import Image
from structlog.testing import capture_logs

from service.demo.processes import service_process
from service.errors import StorageUnavailable, WrongSettings
from service.events import ObjectFinalized
from service.naming import SOURCE_KEY
from service.outcome import Result
from service.runs.request import RunRequest
from service.settings import load_settings
from service.telemetry.metrics import Door, Metrics, Stage, Timer, meter_provider
from tests.conftest import Put, Serve
from tests.support.assembly import HOUR, Task, finished, make_service, make_thumbnailer
from tests.support.eventarc import deliver
from tests.support.http_server import listening
from tests.support.memory_store import MemoryStore
from tests.support.pictures import jpeg


class Measured:
    """What came to a reader, by instrument and attributes."""

    def __init__(self) -> None:
        self.reader = InMemoryMetricReader()
        self.provider = meter_provider(self.reader)
        self.metrics = Metrics(self.provider)

    def points(self, name: str) -> dict[str, NumberDataPoint | HistogramDataPoint]:
        data = self.reader.get_metrics_data()
        found: dict[str, Any] = {}
        for resource in data.resource_metrics if data else []:
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    if metric.name == name:
                        found |= {
                            " ".join(map(str, dict(p.attributes or {}).values())): p for p in metric.data.data_points
                        }
        return found

    def sums(self, name: str) -> dict[str, float]:
        return {key: point.value for key, point in self.points(name).items() if isinstance(point, NumberDataPoint)}


@pytest.fixture
def measured() -> Iterator[Measured]:
    made = Measured()
    yield made
    made.metrics.close()


def finish(store: MemoryStore, metrics: Metrics, **request: Any) -> None:  # noqa: ANN401 - fields of a request
    with ThreadPoolExecutor(4) as executor:
        service = make_service(store, executor, metrics)
        finished(Task(service, RunRequest(**request), door=Door.JOB))


def test_images_are_counted_by_how_they_end_and_what_they_came_through(store: MemoryStore, measured: Measured) -> None:
    for name in ("a", "b", "fails"):
        store.put(f"gs://photos/in/{name}.jpg", jpeg())
    store.put("gs://photos/in/broken.jpg", jpeg()[:-500])
    failing = StorageUnavailable("for now")
    store.fault = lambda kind, location: failing if kind == "write" and "fails" in str(location) else None
    finish(store, measured.metrics)
    assert measured.sums("thumbnails.images") == {"job created": 2, "job rejected": 1, "job failed": 1}
    store.fault = lambda *_: None
    finish(store, measured.metrics, run_id="again")
    assert measured.sums("thumbnails.images") == {
        "job created": 3, "job skipped": 2, "job rejected": 2, "job failed": 1,
    }  # fmt: skip
    finish(store, measured.metrics, dry_run=True)
    assert sum(measured.sums("thumbnails.images").values()) == 8


def test_what_the_time_of_an_image_goes_to_adds_up(
    store: MemoryStore, measured: Measured, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticks = SimpleNamespace(perf_counter=itertools.count().__next__)
    monkeypatch.setattr("service.telemetry.metrics.time", ticks)
    found = store.put("gs://photos/in/a.jpg", jpeg(2000, 1500))
    assert measured.sums("thumbnails.in_flight") == {}
    make_thumbnailer(store, metrics=measured.metrics).process(found, HOUR)
    points = measured.points("thumbnails.duration")
    assert set(points) == set(Stage)
    assert all(isinstance(point, HistogramDataPoint) and point.count == 1 for point in points.values())
    spent = {stage: point.sum for stage, point in points.items() if isinstance(point, HistogramDataPoint)}
    whole = spent.pop(Stage.WHOLE)
    # The clock counts how often it is asked: between waiting, reading, waiting, making, writing, and after these.
    assert spent == {Stage.WAIT: 2, Stage.READ: 1, Stage.MAKE: 1, Stage.WRITE: 1}
    assert whole == 5
    assert measured.sums("thumbnails.in_flight") == {"": 0}


def test_a_stage_ends_the_one_before_and_times_of_one_stage_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SimpleNamespace(perf_counter=iter([0.0, 1.0, 3.0, 7.0]).__next__)
    monkeypatch.setattr("service.telemetry.metrics.time", clock)
    timer = Timer()
    for stage in (Stage.MAKE, Stage.WAIT, Stage.WRITE):
        timer.enter(stage)
    assert timer.seconds == {Stage.WAIT: 1 + 4, Stage.MAKE: 2}


def test_an_image_that_fails_has_its_time_too_and_is_in_flight_no_more(store: MemoryStore, measured: Measured) -> None:
    found = store.put("gs://photos/in/a.jpg", jpeg())
    in_flight: list[float] = []

    def fault(kind: str, _: object) -> StorageUnavailable | None:
        in_flight.append(measured.sums("thumbnails.in_flight")[""])
        return StorageUnavailable("for now") if kind == "read" else None

    store.fault = fault
    with pytest.raises(StorageUnavailable):
        make_thumbnailer(store, metrics=measured.metrics).process(found, HOUR)
    assert in_flight == [1]
    assert measured.sums("thumbnails.in_flight") == {"": 0}
    assert set(measured.points("thumbnails.duration")) == {Stage.WAIT, Stage.READ, Stage.WHOLE}


def test_bytes_and_writes_are_counted(store: MemoryStore, measured: Measured) -> None:
    made = make_thumbnailer(store, metrics=measured.metrics)
    large, small = jpeg(400, 300), jpeg(60, 100)
    first = made.process(store.put("gs://photos/in/large.jpg", large), HOUR)
    again = made.process(store.put("gs://photos/in/large.jpg", large), HOUR)
    tiny = made.process(store.put("gs://photos/in/small.jpg", small), HOUR)
    assert measured.sums("thumbnails.writes") == {"created picture": 1, "replaced picture": 1, "created small": 1}
    assert measured.sums("thumbnails.io") == {
        "read": 2 * len(large) + len(small),
        "write": sum(outcome.bytes_written for outcome in (first, again, tiny)),
    }


def test_thumbnails_that_are_copied_back_as_sources_show_as_small(store: MemoryStore, measured: Measured) -> None:
    """A loop that nothing in an object tells: somebody copies thumbnails back, without their metadata."""
    made = make_thumbnailer(store, metrics=measured.metrics)
    found = store.put("gs://photos/in/0.jpg", jpeg())
    for number in range(1, 6):
        (thumbnail,) = made.process(found, HOUR).thumbnails
        found = store.put(f"gs://photos/in/{number}.jpg", store.held(str(thumbnail)).data)
    assert measured.sums("thumbnails.writes") == {"created picture": 1, "created small": 4}


@pytest.mark.parametrize("mark", ["name", "metadata"])
def test_what_must_never_be_is_counted_and_is_a_critical_line(
    store: MemoryStore, measured: Measured, mark: str
) -> None:
    made = make_thumbnailer(store, metrics=measured.metrics, input_folder="gs://photos")
    name, metadata = ("20251203T14Z/a.jpg", {}) if mark == "name" else ("in/a.jpg", {SOURCE_KEY: "gs://photos/b.jpg"})
    found = store.put(f"gs://photos/{name}", jpeg(), metadata=metadata)
    with capture_logs() as logged:
        # As if all that keeps a run or an event from coming so far were broken.
        made.process(found, HOUR)
    assert measured.sums("thumbnails.writes") == {"created own": 1}
    (line,) = [line for line in logged if line["log_level"] == "critical"]
    assert line["source"] == f"gs://photos/{name}"


def test_a_source_that_a_thumbnail_is_put_in_place_of_during_a_run_is_passed_over(
    store: MemoryStore, measured: Measured
) -> None:
    found = store.put("gs://photos/in/a.jpg", jpeg())
    store.put("gs://photos/in/a.jpg", jpeg(), metadata={SOURCE_KEY: "gs://photos/in/b.jpg"})
    outcome = make_thumbnailer(store, metrics=measured.metrics).process(found, HOUR)
    assert outcome.result is Result.IGNORED
    assert not store.names("photos", "2025")


def test_events_are_counted(serve: Serve, put: Put, bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    measured = Measured()
    monkeypatch.setattr("service.bootstrap.meter_provider", lambda: measured.provider)
    client, service = serve(metrics=True)
    resource = put("in/a.jpg", jpeg())
    for data in (resource, resource, put("out/a.jpg", jpeg()), put("in/b.jpg", b"x"), {"bucket": bucket}):
        assert deliver(client, data).status_code == 200
    deliver(client, resource, **{"ce-type": "other"})
    client.post("/events", content=b"nothing")
    service.stop.set()
    assert deliver(client, resource).status_code == 503
    assert measured.sums("thumbnails.images") == {
        "events created": 1, "events skipped": 1, "events ignored": 2, "events rejected": 2, "events failed": 1,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("modules", "unwanted"),
    [("service.__main__", "opentelemetry"), ("service.web.app, service.job", "opentelemetry.sdk")],
    ids=["before the port is open", "before metrics are asked for"],
)
def test_nothing_of_opentelemetry_is_imported_before_it_is_needed(modules: str, unwanted: str) -> None:
    program = f"import sys, {modules}; print({unwanted!r} in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "False"


def test_without_the_extra_the_settings_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.settings._has_exporter", lambda: False)
    monkeypatch.setenv("INPUT_FOLDER", "gs://photos/in")
    assert not load_settings().metrics
    monkeypatch.setenv("METRICS", "true")
    with pytest.raises(WrongSettings, match=r"METRICS: .*uv sync --extra otel"):
        load_settings()


class Collector:
    """Takes what is exported by OTLP over HTTP, or lets it wait."""

    def __init__(self, *, silent: bool = False) -> None:
        self.bodies: list[bytes] = []
        self.released = threading.Event()
        self.url = ""
        if not silent:
            self.released.set()

    def names(self) -> set[str]:
        return {
            metric.name
            for body in self.bodies
            for resource in ExportMetricsServiceRequest.FromString(body).resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }


@contextmanager
def collector(*, silent: bool = False) -> Iterator[Collector]:
    taken = Collector(silent=silent)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            taken.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
            taken.released.wait()
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

    with listening(Handler) as url:
        taken.url = url
        try:
            yield taken
        finally:
            taken.released.set()


def settings(emulator: str, bucket: str, endpoint: str) -> dict[str, str]:
    return {
        "INPUT_FOLDER": f"gs://{bucket}/in",
        "STORAGE_EMULATOR_HOST": emulator,
        "METRICS": "true",
        "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
        "OTEL_EXPORTER_OTLP_COMPRESSION": "none",
        "PYTHONWARNINGS": "error",
    }


def test_a_job_sends_what_it_measured_before_it_ends(emulator: str, bucket: str, put: Put) -> None:
    put("in/a.jpg", jpeg())
    with collector() as taken:
        done = subprocess.run(
            [sys.executable, "-m", "service.job"],
            env=os.environ | settings(emulator, bucket, taken.url),
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
    assert done.returncode == 0, done.stdout + done.stderr
    assert taken.names() >= {f"thumbnails.{name}" for name in ("images", "duration", "io", "in_flight", "writes")}
    assert all(json.loads(line) for line in done.stdout.splitlines())


@pytest.mark.parametrize("silent", [False, True])
def test_a_service_that_is_told_to_end_sends_the_rest_and_does_not_wait_long(
    emulator: str, bucket: str, put: Put, *, silent: bool
) -> None:
    put("in/a.jpg", jpeg())
    with collector(silent=silent) as taken, service_process(settings(emulator, bucket, taken.url)) as service:
        assert httpx.post(f"{service.url}/run", timeout=60).json()["created"] == 1
        began = time.monotonic()
        os.kill(service.pid, signal.SIGTERM)
        _, status = os.waitpid(service.pid, 0)
        assert os.waitstatus_to_exitcode(status) == 0
        assert time.monotonic() - began < 9
    assert "thumbnails.writes" in taken.names()


def test_a_turned_picture_is_known_to_be_small(store: MemoryStore, measured: Measured) -> None:
    made = make_thumbnailer(store, metrics=measured.metrics)
    out = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (40, 90)).save(out, "JPEG", exif=exif)
    made.process(store.put("gs://photos/in/turned.jpg", out.getvalue()), HOUR)
    assert measured.sums("thumbnails.writes") == {"created small": 1}


def test_an_event_about_a_picture_is_timed(store: MemoryStore, measured: Measured) -> None:
    found = store.put("gs://photos/in/a.jpg", jpeg())
    make_thumbnailer(store, metrics=measured.metrics).process_event(
        ObjectFinalized(found.location, found.generation, found)
    )
    assert set(measured.points("thumbnails.duration")) == set(Stage)
