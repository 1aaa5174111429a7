"""What is measured: images by how they ended, seconds by stage, bytes, images in flight, and writes by what they show.

Off, each call does nothing. On, OpenTelemetry's own library counts and sends; its standard variables say where to.
Nothing of it is imported where it is off.
"""

import time
from enum import StrEnum
from importlib.util import find_spec
from threading import Thread
from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import MetricReader

log = structlog.get_logger()

_NAME = "thumbnail-service"
_SECONDS_BOUNDARIES = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
_FLUSH_SECONDS = 10.0
"""What the last export may take where nothing presses."""
_HURRIED_FLUSH_SECONDS = 1.0
"""Once the process was told to end, which leaves it ten seconds in all."""


class Door(StrEnum):
    """What an image came through."""

    EVENTS = "events"
    RUN = "run"
    JOB = "job"


class Stage(StrEnum):
    """What the time of an image goes to."""

    WAIT = "wait"
    """For memory, and for a processor."""
    READ = "read"
    MAKE = "make"
    WRITE = "write"
    WHOLE = "whole"


class Write(StrEnum):
    """What a write was."""

    CREATED = "created"
    REPLACED = "replaced"


class Origin(StrEnum):
    """What a written thumbnail was made from; all but the first are what a loop looks like."""

    PICTURE = "picture"
    SMALL = "small"
    """A picture that is no larger than its thumbnail: such as a thumbnail that somebody else has copied back."""
    OWN = "own"
    """Something that the service itself has written. It never happens."""


class Clock:
    """The stages of one image; this one does not look at the time."""

    def lap(self, stage: Stage) -> None:
        """Count the time since the lap before towards a stage."""

    def end(self) -> None:
        """Report all stages."""


class Metrics:
    """Measures nothing: what there is where METRICS is off."""

    _CLOCK = Clock()

    def clock(self) -> Clock:
        """Start on an image, which is in flight from now to the clock's end."""
        return self._CLOCK

    def image(self, door: Door, outcome: str) -> None:
        """Count an image that ended."""

    def read(self, size: int) -> None:
        """Count bytes that were read."""

    def wrote(self, size: int, write: Write, origin: Origin) -> None:
        """Count a thumbnail that was written."""

    def close(self, *, hurry: bool) -> None:
        """Send what was not sent yet.

        Args:
            hurry: the process was told to end, and may not take long.
        """


OFF = Metrics()


def is_installed() -> bool:
    """Whether the extra `otel` is there."""
    try:
        return all(find_spec(f"opentelemetry.{name}") for name in ("sdk.metrics", "exporter.otlp.proto.http"))
    except ModuleNotFoundError:
        return False


class OpenTelemetry(Metrics):
    """Measures by OpenTelemetry."""

    def __init__(self, reader: "MetricReader | None" = None) -> None:
        """Start measuring; nothing is sent yet.

        Args:
            reader: instead of one that sends by OTLP over HTTP, at an interval.
        """
        self._provider = _provider(reader)
        meter = self._provider.get_meter(_NAME)
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

    def clock(self) -> Clock:
        """See `Metrics`."""
        return _Running(self)

    def image(self, door: Door, outcome: str) -> None:
        """See `Metrics`."""
        self._images.add(1, {"door": door.value, "outcome": str(outcome)})

    def read(self, size: int) -> None:
        """See `Metrics`."""
        self._bytes.add(size, {"direction": "read"})

    def wrote(self, size: int, write: Write, origin: Origin) -> None:
        """See `Metrics`."""
        self._bytes.add(size, {"direction": "write"})
        self._writes.add(1, {"kind": write.value, "source": origin.value})

    def flying(self, change: int) -> None:
        """Count an image that is taken, or that ended."""
        self._in_flight.add(change)

    def took(self, stage: Stage, seconds: float) -> None:
        """Record what an image spent in a stage."""
        self._seconds.record(seconds, {"stage": stage.value})

    def close(self, *, hurry: bool) -> None:
        """See `Metrics`."""
        seconds = _HURRIED_FLUSH_SECONDS if hurry else _FLUSH_SECONDS
        # Its own time-out does not hold where the address does not answer at all.
        flush = Thread(target=self._send_rest, args=(seconds,), name="metrics", daemon=True)
        flush.start()
        flush.join(seconds)

    def _send_rest(self, seconds: float) -> None:
        try:
            self._provider.shutdown(timeout_millis=seconds * 1000)
        except Exception as error:  # noqa: BLE001 - the edge of a thread; the library raises nothing narrower
            log.warning("metrics not sent", reason=str(error))


class _Running(Clock):
    """Keeps the time of one image."""

    def __init__(self, metrics: OpenTelemetry) -> None:
        self._metrics = metrics
        self._spent: dict[Stage, float] = {}
        self._began = self._lap = time.perf_counter()
        metrics.flying(1)

    def lap(self, stage: Stage) -> None:
        now = time.perf_counter()
        self._spent[stage] = self._spent.get(stage, 0.0) + now - self._lap
        self._lap = now

    def end(self) -> None:
        for stage, seconds in self._spent.items():
            self._metrics.took(stage, seconds)
        self._metrics.took(Stage.WHOLE, time.perf_counter() - self._began)
        self._metrics.flying(-1)


def _provider(reader: "MetricReader | None") -> "MeterProvider":
    from opentelemetry.sdk.metrics import MeterProvider  # noqa: PLC0415 - an extra, and slow to import
    from opentelemetry.sdk.resources import SERVICE_NAME, Resource  # noqa: PLC0415

    if reader is None:
        from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter  # noqa: PLC0415
        from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader  # noqa: PLC0415

        reader = PeriodicExportingMetricReader(OTLPMetricExporter())
    resource = Resource.create()
    if str(resource.attributes.get(SERVICE_NAME, "unknown_service")).startswith("unknown_service"):
        resource = resource.merge(Resource({SERVICE_NAME: _NAME}))
    return MeterProvider(metric_readers=[reader], resource=resource, shutdown_on_exit=False)
