"""Measure how much memory this process has taken."""

import resource
import sys

MEBIBYTE = 1024 * 1024
_RSS_UNIT = 1 if sys.platform == "darwin" else 1024
"""The unit of `ru_maxrss`: bytes on macOS, KiB on Linux."""


def peak_memory() -> int:
    """Return the most bytes that this process has had in memory so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _RSS_UNIT
