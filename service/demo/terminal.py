"""Output to the terminal: lines, headings, and progress bars on stderr if that is a terminal."""

import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NoReturn, TypeVar

from tqdm import tqdm

_THREADS = 8
_BAR_DELAY_SECONDS = 0.2
"""Shorter work shows no bar."""

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def line(text: str = "") -> None:
    """Write a line to stdout at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def heading(text: str) -> None:
    """Write a line that begins a part, in bold on a terminal."""
    line(f"\n\x1b[1m{text}\x1b[0m" if sys.stdout.isatty() else f"\n{text}")


def printable(text: str) -> str:
    """Replace the characters of a file name that a terminal would obey."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)


def counted(count: int, noun: str) -> str:
    """Return `1 file`, `2 files`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def progress_bar(what: str, total: int | None) -> "tqdm[NoReturn]":
    """Return a progress bar; used in a `with` block, it is gone after that.

    Args:
        what: its label.
        total: None if that is not known yet.
    """
    return tqdm(desc=f"  {what}", total=total, unit="", leave=False, disable=None, delay=_BAR_DELAY_SECONDS)


def in_parallel(what: str, function: Callable[[_Item], _Result], items: Sequence[_Item]) -> list[_Result]:
    """Call a function with each item, a few at a time, behind a progress bar; return the results in order."""
    results: list[_Result] = []
    pool = ThreadPoolExecutor(_THREADS)
    try:
        with progress_bar(what, len(items)) as bar:
            for result in pool.map(function, items):
                results.append(result)
                bar.update()
    finally:
        pool.shutdown(cancel_futures=True)
    return results
