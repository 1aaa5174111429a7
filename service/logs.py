"""Log lines as Cloud Logging reads them: one JSON object a line on stdout, or readable lines on a terminal.

What the libraries log goes the same way.
"""

import faulthandler
import logging
import os
import sys
import warnings
from threading import Thread
from typing import Literal

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger


def configure_logs(level: str, form: Literal["json", "console"] | None) -> None:
    """Set up logging for the process.

    Args:
        level: a name of the standard library's, such as `INFO`.
        form: None for JSON unless stdout is a terminal.
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
        [structlog.dev.ConsoleRenderer(timestamp_key="time")]
        if to_console
        else [structlog.processors.format_exc_info, _as_cloud_logging, structlog.processors.JSONRenderer()]
    )
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *rendering],
        )
    )
    logging.basicConfig(handlers=[handler], level=level, force=True)
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


def _as_cloud_logging(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Use the names that Cloud Logging gives a meaning to."""
    event["severity"] = event.pop("level").upper()
    event["message"] = event.pop("event")
    if trace := event.pop("exception", None):
        event["message"] += f"\n{trace}"
    return event
