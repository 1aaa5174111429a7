"""What the sections of the benchmarks have in common."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto

NEAR = 0.04
"""Seconds before storage answers, as from the same region."""

Say = Callable[[str], None]
"""Tells people what is going on."""


class Effort(Enum):
    """How much is measured."""

    SMOKE = auto()
    """A handful of images, which shows that it works; the figures mean nothing."""
    QUICK = auto()
    """Few images, one round."""
    FULL = auto()


@dataclass(frozen=True, slots=True)
class Section:
    """What was measured of one matter."""

    text: str
    """In Markdown, without a title."""
    figures: Mapping[str, float] = field(default_factory=dict)
    """Those that are to reach something, by their key in `figures.GOALS`."""
