"""Log lines as Cloud Logging reads them: one JSON object a line on stdout, or readable lines on a terminal.

What the libraries log goes the same way, without their details: those are where a token could be. What else a line
says, such as the trace of its request, is bound around the work that causes it (structlog's context variables).
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
"""What the trace of a request is bound as."""

_OWN_LOGGERS = ("service", "native", "__main__")
_LONGEST_TEXT = 32_000
"""Of one value, in characters. Cloud Logging takes 256 KiB a line, and what a caller sent may be in a reason."""


def configure_logs(level: str, form: Literal["json", "console"] | None, project: str | None = None) -> None:
    """Set up logging for the process.

    Args:
        level: a name of the standard library's, such as `INFO`. DEBUG is the service's own; of what the libraries
            log, requests and their headers among it, that would be too much to show.
        form: None for JSON unless stdout is a terminal.
        project: the Google Cloud project that traces are in.
    """
    # Pillow warns of every odd file; what matters of it is the image's outcome, which has its own line.
    warnings.filterwarnings("ignore", module=r"PIL\.")
    logging.getLogger("PIL").setLevel(logging.CRITICAL)
    to_console = form == "console" or (form is None and sys.stdout.isatty())
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
    ]
    rendering: list[Processor] = (
        [
            _printable,
            # Not the one that shows the values of variables, which structlog takes where it can.
            structlog.dev.ConsoleRenderer(timestamp_key="time", exception_formatter=structlog.dev.plain_traceback),
        ]
        if to_console
        else [
            structlog.processors.format_exc_info,
            _as_cloud_logging(project),
            # Text as it is: escaped, a name of 1,024 bytes may take three times as many.
            structlog.processors.JSONRenderer(ensure_ascii=False),
        ]
    )
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, _cut, *rendering],
        )
    )
    logging.basicConfig(handlers=[handler], level=max(logging.getLevelNamesMapping()[level], logging.INFO), force=True)
    for name in _OWN_LOGGERS:
        logging.getLogger(name).setLevel(level)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )


def divert_native_output() -> None:
    """Log what native libraries print to file descriptor 2 as lines of their own, at DEBUG.

    An image decoder that complains there of a damaged file would break the format of the log, hundreds of lines a file.
    Python's own stderr keeps going where it went.
    """
    sys.stderr = os.fdopen(os.dup(2), "w", buffering=1)
    # A crash in native code still says where.
    faulthandler.enable(sys.stderr)
    reading, writing = os.pipe()
    os.dup2(writing, 2)
    os.close(writing)

    def pass_on() -> None:
        with os.fdopen(reading, errors="replace") as lines:
            for line in lines:
                logging.getLogger("native").debug(line.rstrip())

    Thread(target=pass_on, daemon=True).start()


def _as_cloud_logging(project: str | None) -> Processor:
    """Use the names that Cloud Logging gives a meaning to."""
    prefix = f"projects/{project}/traces/" if project else ""

    def name(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
        event["severity"] = event.pop("level").upper()
        event["message"] = event.pop("event")
        if traceback := event.pop("exception", None):
            event["message"] += f"\n{traceback}"
        if trace := event.pop(TRACE, None):
            event["logging.googleapis.com/trace"] = prefix + trace
        if span := event.pop(SPAN, None):
            event["logging.googleapis.com/spanId"] = span
        if (sampled := event.pop(SAMPLED, None)) is not None:
            event["logging.googleapis.com/trace_sampled"] = sampled
        return event

    return name


def _in_texts(change: Callable[[str], str]) -> Processor:
    def process(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
        return {key: change(value) if isinstance(value, str) else value for key, value in event.items()}

    return process


_cut = _in_texts(lambda text: text if len(text) <= _LONGEST_TEXT else f"{text[:_LONGEST_TEXT]}…")
_printable = _in_texts(lambda text: text if text.isprintable() else repr(text)[1:-1])
"""An object's name may hold characters that a terminal obeys."""
