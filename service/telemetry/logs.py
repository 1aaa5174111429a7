"""Log as Cloud Logging reads it: one JSON object per line on stdout, or readable lines on a terminal.

Libraries log the same way, at INFO and above: their debug lines could hold a token. Values such as the trace of a
request are bound around the work that logs (structlog's context variables).
"""

import faulthandler
import logging
import os
import sys
import warnings
from collections.abc import Callable
from threading import Thread
from typing import Literal

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

TRACE, SPAN, SAMPLED = "trace", "span", "trace_sampled"
"""Names that the trace of a request is bound under."""

_CLOUD_NAMES = {
    TRACE: "logging.googleapis.com/trace",
    SPAN: "logging.googleapis.com/spanId",
    SAMPLED: "logging.googleapis.com/trace_sampled",
}
_OWN_LOGGERS = ("service", "native", "__main__")
_LONGEST_TEXT = 32_000
"""Most characters of one value. Cloud Logging takes 256 KiB a line, and a reason may repeat what a caller sent."""


def configure_logs(level: str, form: Literal["json", "console"] | None, project: str | None = None) -> None:
    """Set up logging for the process.

    DEBUG holds for the service alone, since libraries would log requests with their headers. A form of None means JSON
    unless stdout is a terminal. `project` is the Google Cloud project of the traces.
    """
    # Pillow warns of every odd file. The image's outcome has a line of its own.
    warnings.filterwarnings("ignore", module=r"PIL\.")
    logging.getLogger("PIL").setLevel(logging.CRITICAL)
    rendering: list[Processor] = [
        structlog.processors.format_exc_info,
        _as_cloud_logging(project),
        # Escaped, a name of 1,024 bytes may take three times as many.
        structlog.processors.JSONRenderer(ensure_ascii=False),
    ]
    if form == "console" or (form is None and sys.stdout.isatty()):
        # structlog's default traceback shows the values of variables.
        traceback = structlog.dev.plain_traceback
        rendering = [_printable, structlog.dev.ConsoleRenderer(timestamp_key="time", exception_formatter=traceback)]
    processors: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
        structlog.stdlib.ProcessorFormatter.remove_processors_meta,
        _cut,
        *rendering,
    ]
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(processors=processors))
    logging.basicConfig(handlers=[handler], level=max(logging.getLevelNamesMapping()[level], logging.INFO), force=True)
    for name in _OWN_LOGGERS:
        logging.getLogger(name).setLevel(level)
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )


def divert_native_output() -> None:
    """Log at DEBUG what native libraries print to file descriptor 2. Python's own stderr stays where it is.

    An image decoder may print hundreds of lines about a damaged file, which would break the format of the log.
    """
    sys.stderr = os.fdopen(os.dup(2), "w", buffering=1)
    # Prints a traceback if native code crashes.
    faulthandler.enable(sys.stderr)
    reading, writing = os.pipe()
    os.dup2(writing, 2)
    os.close(writing)
    # A library that prints while it holds the interpreter's lock would wait for ever for the thread that reads.
    os.set_blocking(2, False)

    def pass_on() -> None:
        with os.fdopen(reading, errors="replace") as lines:
            for line in lines:
                logging.getLogger("native").debug(line.rstrip())

    Thread(target=pass_on, daemon=True).start()


def _as_cloud_logging(project: str | None) -> Processor:
    """Use the names of cloud.google.com/logging/docs/structured-logging."""
    prefix = f"projects/{project}/traces/" if project else ""

    def name(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
        event["severity"] = event.pop("level").upper()
        event["message"] = "\n".join(filter(None, (event.pop("event"), event.pop("exception", None))))
        if TRACE in event:
            event[TRACE] = prefix + event[TRACE]
        return {_CLOUD_NAMES.get(key, key): value for key, value in event.items()}

    return name


def _in_texts(change: Callable[[str], str]) -> Processor:
    def process(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
        return {key: change(value) if isinstance(value, str) else value for key, value in event.items()}

    return process


_cut = _in_texts(lambda text: text if len(text) <= _LONGEST_TEXT else f"{text[:_LONGEST_TEXT]}…")
_printable = _in_texts(lambda text: text if text.isprintable() else repr(text)[1:-1])
"""Escapes control characters in an object's name, which a terminal would obey."""
