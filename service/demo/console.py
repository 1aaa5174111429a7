"""What the demo says in the terminal: lines, and a progress bar that is plain lines where nobody watches it move."""

import sys
import time
from typing import TextIO

_BAR_WIDTH = 28
_PLAIN_SECONDS = 2.0


class Console:
    """Writes to one stream, stdout unless told otherwise; to be used from one thread."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stdout
        self._moves = self._stream.isatty()
        self._bar = ""
        self._written_at = 0.0

    def line(self, text: str = "") -> None:
        """Write a line, in place of the progress bar if there is one."""
        self._clear()
        self._write(f"{text}\n")

    def heading(self, text: str) -> None:
        """Write a line that begins a part, in bold on a terminal."""
        self._clear()
        self._write(f"\n\x1b[1m{text}\x1b[0m\n" if self._moves else f"\n{text}\n")

    def progress(self, what: str, done: int, total: int) -> None:
        """Show how far something is; it may be called as often as one likes."""
        if not self._moves:
            now = time.monotonic()
            if not self._written_at:
                self._written_at = now
            elif now - self._written_at >= _PLAIN_SECONDS:
                self._written_at = now
                self._write(f"  {what}: {done:,} of {total:,}\n")
            return
        full = _BAR_WIDTH * done // max(total, 1)
        bar = f"  {what:<10} [{'█' * full}{'·' * (_BAR_WIDTH - full)}] {done:,} of {total:,}"
        self._write("\r" + bar.ljust(len(self._bar)))
        self._bar = bar

    def progress_ended(self) -> None:
        """Take the progress bar away; whoever called it says in a line what came of it."""
        self._clear()
        self._written_at = 0.0

    def _clear(self) -> None:
        if self._bar:
            self._write("\r" + " " * len(self._bar) + "\r")
            self._bar = ""

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()


def printable(text: str) -> str:
    """Text for a terminal: a file name may hold characters that a terminal obeys."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)
