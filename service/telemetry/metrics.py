"""Metrics: images by outcome, seconds by stage, bytes, images in flight, and thumbnails written.

The instruments are OpenTelemetry's. They do nothing unless METRICS is on, which gives them a provider of its SDK.
"""

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from threading import Thread
from typing import TYPE_CHECKING

import structlog
from opentelemetry.metrics import NoOpMeterProvider

if TYPE_CHECKING:
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import MetricReader

log = structlog.get_logger()

_SERVICE = "thumbnail-service"
_SECONDS_BOUNDARIES = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
_FLUSH_SECONDS = 10.0
"""Time for the last export of a process that ends by itself."""


class Door(StrEnum):
    """Door by which an image reached the service."""

    EVENTS = "events"
    RUN = "run"
    JOB = "job"


class Stage(StrEnum):
    """A part of the time that an image takes."""

    WAIT = "wait"
    """Waiting for memory or a processor."""
    READ = "read"
    MAKE = "make"
    WRITE = "write"
    WHOLE = "whole"
    """All of it. Recorded by `Metrics.in_flight`."""


class Write(StrEnum):
    """Kind of a write."""

    CREATED = "created"
    REPLACED = "replaced"


class Origin(StrEnum):
    """The kind of source that a thumbnail was made from. Any but the first may be a sign of a loop."""

    PICTURE = "picture"
    SMALL = "small"
    """A picture no larger than its thumbnail, such as a thumbnail that somebody copied back."""
    OWN = "own"
    """The service's own output. Never happens unless every guard fails."""


class Timer:
    """Seconds that one image spends in each stage. Begins with `Stage.WAIT`."""

    __slots__ = ("_since", "_stage", "seconds")

    def __init__(self) -> None:
        self.seconds: dict[Stage, float] = defaultdict(float)
        self._stage = Stage.WAIT
        self._since = time.perf_counter()

    def enter(self, stage: Stage) -> None:
        """Begin a stage, which ends the one before."""
        now = time.perf_counter()
        self.seconds[self._stage] += now - self._since
        self._stage, self._since = stage, now


class Metrics:
    """The instruments. Safe to share between threads."""

    def __init__(self, provider: "MeterProvider | None" = None) -> None:
        """Create the instruments; None makes them do nothing."""
        self._provider = provider
        meter = (provider or NoOpMeterProvider()).get_meter(_SERVICE)
        self._images = meter.create_counter("thumbnails.images", "{image}", "Images by outcome and door.")
        self._seconds = meter.create_histogram(
            "thumbnails.duration",
            "s",
            "What the time of an image goes to, by stage.",
            explicit_bucket_boundaries_advisory=_SECONDS_BOUNDARIES,
        )
        self._bytes = meter.create_counter("thumbnails.io", "By", "Bytes read from and written to storage.")
        self._in_flight = meter.create_up_down_counter("thumbnails.in_flight", "{image}", "Images being worked on.")
        self._writes = meter.create_counter(
            "thumbnails.writes", "{thumbnail}", "Thumbnails written, by kind and by what they were made from."
        )

    @contextmanager
    def in_flight(self) -> Iterator[Timer]:
        """Count an image as in flight, and record the seconds that it spent in each stage."""
        timer = Timer()
        self._in_flight.add(1)
        try:
            yield timer
        finally:
            timer.enter(Stage.WHOLE)
            for stage, seconds in timer.seconds.items():
                self._seconds.record(seconds, {"stage": stage})
            self._seconds.record(sum(timer.seconds.values()), {"stage": Stage.WHOLE})
            self._in_flight.add(-1)

    def image(self, door: Door, outcome: str) -> None:
        """Count an image that ended."""
        self._images.add(1, {"door": door, "outcome": outcome})

    def read(self, size: int) -> None:
        """Count bytes read."""
        self._bytes.add(size, {"direction": "read"})

    def wrote(self, size: int, write: Write, origin: Origin) -> None:
        """Count a thumbnail written."""
        self._bytes.add(size, {"direction": "write"})
        self._writes.add(1, {"kind": write, "source": origin})

    def close(self, seconds: float = _FLUSH_SECONDS) -> None:
        """Send the rest, within so many seconds."""
        if self._provider is None:
            return
        # In a thread: the exporter's own time-out does not hold if the address does not answer at all.
        flush = Thread(target=_shut_down, args=(self._provider, seconds), name="metrics", daemon=True)
        flush.start()
        flush.join(seconds)


OFF = Metrics()
"""Measures nothing."""


def meter_provider(reader: "MetricReader | None" = None) -> "MeterProvider":
    """Return a provider that sends metrics by OTLP over HTTP, or hands them to `reader`.

    OpenTelemetry's standard environment variables say where to and how often. The provider is not made the global one:
    FastAPI and the storage client would send metrics of their own through that.
    """
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.resources import SERVICE_NAME, OTELResourceDetector, Resource

    if reader is None:
        from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
        from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader

        reader = PeriodicExportingMetricReader(OTLPMetricExporter())
    resource = Resource.create({SERVICE_NAME: _SERVICE}).merge(OTELResourceDetector().detect())
    return MeterProvider(metric_readers=[reader], resource=resource, shutdown_on_exit=False)


def _shut_down(provider: "MeterProvider", seconds: float) -> None:
    try:
        provider.shutdown(timeout_millis=seconds * 1000)
    except Exception as error:  # noqa: BLE001 - the edge of a thread; the library raises nothing narrower
        log.warning("metrics not sent", reason=str(error))
