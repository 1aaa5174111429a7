"""OpenTelemetry's SDK and its OTLP exporter, which the extra `otel` installs.

Imports neither until a provider is made: the settings ask here whether they are installed, before the port is open.
"""

from importlib.util import find_spec
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import MetricReader

SERVICE = "thumbnail-service"


def is_installed() -> bool:
    """Return True if the extra `otel` is installed."""
    try:
        return all(find_spec(f"opentelemetry.{name}") for name in ("sdk.metrics", "exporter.otlp.proto.http"))
    except ModuleNotFoundError:
        return False


def meter_provider(reader: "MetricReader | None" = None) -> "MeterProvider":
    """Return a provider whose metrics are sent at an interval, by OTLP over HTTP.

    OpenTelemetry's standard environment variables say where to. The provider is not made the global one: FastAPI and
    the storage client would send metrics of their own through that.

    Args:
        reader: replaces the sending, in tests.
    """
    from opentelemetry.sdk.metrics import MeterProvider  # noqa: PLC0415 - an extra, and slow to import
    from opentelemetry.sdk.resources import SERVICE_NAME, Resource  # noqa: PLC0415 - an extra, and slow to import

    if reader is None:
        from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter  # noqa: PLC0415 - an extra
        from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader  # noqa: PLC0415 - an extra

        reader = PeriodicExportingMetricReader(OTLPMetricExporter())
    resource = Resource.create()
    if str(resource.attributes.get(SERVICE_NAME, "unknown_service")).startswith("unknown_service"):
        resource = resource.merge(Resource({SERVICE_NAME: SERVICE}))
    return MeterProvider(metric_readers=[reader], resource=resource, shutdown_on_exit=False)
