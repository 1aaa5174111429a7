"""Cloud Run Job: one task of a run. Settings and options in, exit status out."""

import asyncio
import gc
import os
import signal
import sys
from argparse import SUPPRESS, ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from types import FrameType
from typing import NoReturn, Protocol

import structlog
from pydantic import ValidationError
from structlog.contextvars import bind_contextvars

from service.bootstrap import Service, build
from service.errors import InvalidValue, ServiceError
from service.process import DONE, POLL_SECONDS, TRY_AGAIN, WRONG_SETTINGS, begin, exit_status_of, leave
from service.runs.report import Report, RunReport
from service.runs.request import RunParameters, RunRequest
from service.runs.supervisor import open_run
from service.telemetry.metrics import Door

_COLUMNS, _ROWS = 100, 24
"""Of a terminal that does not say."""

_HELP = """\
Make the thumbnails of a folder, or of one task's chunk of it, as POST /run does.
Settings come from the environment; an option beats them."""

_HELP_END = """\
exit status:
  0  every image was created, skipped or rejected
  1  something failed, and a retry may help
  2  an option or a setting is wrong, or the run would cost more than it may

example:
  INPUT_FOLDER=gs://my-bucket/photos python -m service.job --timestamp=created --since=36h"""

log = structlog.get_logger()


class _Parser(ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """End with one line, without the usage."""
        self.exit(WRONG_SETTINGS, f"{message} (--help lists the options)\n")


def parse_options(arguments: Sequence[str]) -> RunRequest:
    """Read the options: one for each field of a request.

    Raises:
        SystemExit: an option is unknown or has a value of a wrong type; or help was asked for.
    """
    parser = _Parser(
        "python -m service.job",
        usage="%(prog)s [options]",
        description=_HELP,
        epilog=_HELP_END,
        formatter_class=partial(RawDescriptionHelpFormatter, max_help_position=28),
        argument_default=SUPPRESS,
        allow_abbrev=False,
    )
    for name, field in RunRequest.model_fields.items():
        text = (field.description or "").replace("`", "").replace("%", "%%")
        if field.annotation is bool:
            parser.add_argument(_option(name), nargs="?", const="true", metavar="true|false", help=text)
        else:
            parser.add_argument(_option(name), metavar=name.rpartition("_")[2].upper(), help=text)
    options = vars(parser.parse_args(arguments))
    try:
        return RunRequest.model_validate_strings(options)
    except ValidationError as error:
        wrong = error.errors()[0]
        parser.error(str(InvalidValue(_option(str(wrong["loc"][0])), wrong["input"], f"is wrong: {wrong['msg']}")))


def _option(field: str) -> str:
    return f"--{field.replace('_', '-')}"


def _naming_the_option(error: ServiceError) -> str:
    """Return the text of an error; if it begins with a request's field, with the option of that name instead."""
    field, colon, rest = str(error).partition(":")
    return f"{_option(field)}{colon}{rest}" if field in RunRequest.model_fields else str(error)


def main(arguments: Sequence[str] = ()) -> int:
    """Run this task's chunk and return the exit status.

    Returns:
        0 if every assigned image was created, skipped or rejected; 1 if something failed and a retry may help; 2 if
        the settings or options are wrong.
    """
    request = parse_options(arguments)
    try:
        settings = begin()
        params = RunParameters.of(request, settings, door=Door.JOB)
        service = build(settings)
        # All of it stays: no garbage collection need look through it.
        gc.freeze()
    except ServiceError as error:
        sys.stderr.write(f"{_naming_the_option(error)}\n")
        return exit_status_of(error)

    def stop(_: int, __: FrameType | None) -> None:
        service.stop.set()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    try:
        return asyncio.run(run(params, service))
    except ServiceError as error:
        log.error("run ended", code=error.code, reason=_naming_the_option(error))
        return exit_status_of(error)
    finally:
        service.close()


async def run(params: RunParameters, service: Service) -> int:
    """Run one task and return the exit status.

    Raises:
        ServiceError: the run could not begin.
    """
    bind_contextvars(run_id=params.run_id, task_index=params.chunk.index)
    report = Report(params, service)
    with progress_bar() as show:
        async with open_run(params, service, report, POLL_SECONDS) as snapshots:
            async for snapshot in snapshots:
                show(snapshot, report.task_total)
        show(report.snapshot(), report.task_total)
    ended = report.snapshot()
    if ended.is_too_expensive:
        return WRONG_SETTINGS
    return DONE if ended.whole else TRY_AGAIN


class Show(Protocol):
    """Shows how far a run is."""

    def __call__(self, report: RunReport, total: int | None) -> None:
        """Show a report; `total` is the images of the task, None if that is not known."""


@contextmanager
def progress_bar() -> Iterator[Show]:
    """Show a bar on stderr until the block ends, if that is a terminal; lines of the log go above it."""
    if not sys.stderr.isatty():
        yield lambda *_, **__: None
        return
    from tqdm import tqdm
    from tqdm.contrib.logging import logging_redirect_tqdm

    class Bar(tqdm):  # type: ignore[type-arg]  # its stubs want a parameter, which the class does not take
        monitor_interval = 0
        """No thread of its own."""

    # A terminal without a size, as some containers have it, would show a bar of no width.
    sized = os.get_terminal_size(sys.stderr.fileno()).columns > 0
    size = {"dynamic_ncols": True} if sized else {"ncols": _COLUMNS, "nrows": _ROWS}
    with ExitStack() as stack:
        bar = stack.enter_context(Bar(unit=" images", file=sys.stderr, desc="listing", **size))
        if sys.stdout.isatty():
            stack.enter_context(logging_redirect_tqdm(tqdm_class=Bar))

        def show(report: RunReport, total: int | None) -> None:
            bar.total = None if total is None else max(total, report.assigned)
            bar.set_description_str("thumbnails" if total or report.assigned else "listing", refresh=False)
            bar.set_postfix(rejected=report.rejected, failed=report.failed, refresh=False)
            bar.update(report.assigned - bar.n)
            bar.refresh()

        yield show


if __name__ == "__main__":
    leave(main(sys.argv[1:]))
