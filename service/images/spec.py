"""Thumbnails to make, as values that are valid from birth, and thumbnails that are made.

Imports no library and knows no pictures, since the settings need it before Pillow is loaded.
"""

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Self

from service.errors import InvalidValue
from service.images.formats import Format

_MAX_SIDE = 4096
_DAMAGED = " damaged"
"""Of the text of a spec: made because damaged pictures are shown."""
_SIZE = re.compile(r"(\d{1,5})x(\d{1,5})", re.ASCII)


class OutputFormat(StrEnum):
    """Formats of thumbnails; `original` keeps the format of the source if every browser shows it."""

    ORIGINAL = "original"
    JPEG = "jpeg"
    PNG = "png"
    WEBP = "webp"
    AVIF = "avif"


@dataclass(frozen=True, slots=True)
class Box:
    """The largest size of a thumbnail, in pixels."""

    width: int
    height: int

    def __post_init__(self) -> None:
        if not (0 < self.width <= _MAX_SIDE and 0 < self.height <= _MAX_SIDE):
            raise InvalidValue("size", str(self), f"is not between 1x1 and {_MAX_SIDE}x{_MAX_SIDE}")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `WIDTHxHEIGHT`, such as `100x100`. Raise InvalidValue if it is not written so, or out of bounds."""
        if not (match := _SIZE.fullmatch(text)):
            raise InvalidValue("size", text, "is not WIDTHxHEIGHT in pixels, such as 100x100")
        return cls(int(match[1]), int(match[2]))

    def __str__(self) -> str:
        return f"{self.width}x{self.height}"

    def fit(self, width: int, height: int) -> tuple[int, int]:
        """Return the largest size of the same shape that fits: never enlarged, at least one pixel a side."""
        scale = min(1.0, self.width / width, self.height / height)
        return max(1, round(width * scale)), max(1, round(height * scale))


@dataclass(frozen=True, slots=True)
class ThumbnailSpec:
    """Everything besides the source that a thumbnail's bytes depend on."""

    box: Box = Box(100, 100)
    format: OutputFormat = OutputFormat.ORIGINAL
    quality: int = 80
    """1 to 100, for the lossy formats."""
    animated: bool = False
    """True if the frames of an animation are kept."""
    shows_damaged: bool = False
    """True if of a picture whose file ends too early that is shown which is there."""

    def __str__(self) -> str:
        """Return what shapes the thumbnail of a whole picture, which does not depend on `shows_damaged`."""
        return f"{self.box} {self.format} q{self.quality}{' animated' if self.animated else ''}"

    def covers(self, text: str) -> bool:
        """Return True if a thumbnail with this `Thumbnail.spec_text` is one that this spec asks for."""
        return text == str(self) or (self.shows_damaged and text == f"{self}{_DAMAGED}")


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """One encoded thumbnail."""

    spec: ThumbnailSpec
    data: bytes
    format: Format
    is_converted: bool
    """True if the source has another format."""
    width: int
    height: int
    is_whole: bool
    """True if it has as many pixels as its source, which was no larger."""
    from_preview: bool = False
    """True if it was made from the preview inside of its source."""
    is_damaged: bool = False
    """True if its source ends too early, and it shows that which is there."""

    @property
    def spec_text(self) -> str:
        """The settings that shaped it, as text."""
        return f"{self.spec}{_DAMAGED if self.is_damaged else ''}"

    @property
    def new_extension(self) -> str:
        """The extension of its format, such as `.jpg`; empty if that is the format of the source."""
        return self.format.output_extension if self.is_converted else ""
