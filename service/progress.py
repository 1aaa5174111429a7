"""How far a job is, for whoever watches it: a bar on stderr where that is a terminal, and nothing anywhere else."""

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Protocol

from service.reports import RunReport

_COLUMNS, _ROWS = 100, 24
"""Of a terminal that does not say."""


class Watched(Protocol):
    """What is told how far a run is."""

    def __call__(self, report: RunReport, total: int | None) -> None:
        """Show a report; `total` is the images of the task, None where that is not known yet."""


@contextmanager
def watched() -> Iterator[Watched]:
    """Show a bar until the block ends; lines of the log go above it."""
    if not sys.stderr.isatty():
        yield lambda *_, **__: None
        return
    from tqdm import tqdm  # noqa: PLC0415 - where nobody watches it is not needed
    from tqdm.contrib.logging import logging_redirect_tqdm  # noqa: PLC0415

    class Bar(tqdm):  # type: ignore[type-arg]  # not generic when the program runs
        monitor_interval = 0
        """No thread of its own."""

    # A terminal without a size, as some containers have it, would show a bar of no width.
    sized = os.get_terminal_size(sys.stderr.fileno()).columns > 0
    size = {"dynamic_ncols": True} if sized else {"ncols": _COLUMNS, "nrows": _ROWS}
    with ExitStack() as stack:
        bar = stack.enter_context(Bar(unit=" images", file=sys.stderr, **size))
        if sys.stdout.isatty():
            stack.enter_context(logging_redirect_tqdm(tqdm_class=Bar))

        def show(report: RunReport, total: int | None) -> None:
            bar.total = None if total is None else max(total, report.assigned)
            bar.set_description_str("listing" if total is None else "thumbnails", refresh=False)
            bar.set_postfix(rejected=report.rejected, failed=report.failed, refresh=False)
            bar.update(report.assigned - bar.n)
            bar.refresh()

        yield show
