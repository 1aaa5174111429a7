"""Decoded pictures to small ones, by averaging.

Brings every mode into one that can be averaged, and corrects what Pillow reads wrongly. Both are done strip by strip,
so that no second picture of the full size is ever held.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from itertools import chain
from typing import cast

from PIL import Image

from service.errors import UnsupportedFormat
from service.images.header import Header, TiffLayout

REDUCING_GAP = 2
"""Least ratio of the picture to the thumbnail after the cheap first reduction, on each side."""
_STRIP_PIXELS = 1_000_000
_WIDE_BITS = 16
_WIDE_WHITE = 2**_WIDE_BITS - 1
_WIDE_MODES = frozenset({"I", "I;16", "I;16B", "I;16L", "I;16N", "F"})

_Converter = Callable[[Image.Image], Image.Image]
"""Brings a strip of a picture into a mode that can be averaged."""


@dataclass(frozen=True, slots=True)
class ReducedPicture:
    """A picture in a mode that can be averaged: RGB, L, CMYK, LAB, or RGBa (premultiplied)."""

    picture: Image.Image
    box: tuple[float, float, float, float]
    """The part to use, in pixels of `picture`: its last column and row may stand for fewer pixels than the others."""

    def resize(self, size: tuple[int, int]) -> Image.Image:
        """Return the picture at this size; RGBa becomes RGBA."""
        small = self.picture.resize(size, Image.Resampling.LANCZOS, self.box, REDUCING_GAP)
        return small.convert("RGBA") if small.mode == "RGBa" else small


def reduce_picture(
    picture: Image.Image, header: Header, at_least: tuple[int, int], missing: Image.Image | None = None
) -> ReducedPicture:
    """Bring a decoded picture into a mode that can be averaged, and average whole pixels down to no less than a size.

    It becomes transparent where pixels are `missing`.

    Raise UnsupportedFormat if its samples are of a kind that Pillow reads wrongly.
    """
    factors = factor_x, factor_y = reduction_factors(picture.size, at_least)
    box = (0.0, 0.0, picture.width / factor_x, picture.height / factor_y)
    convert = _converter(picture, header)
    if convert is None and not missing:
        return ReducedPicture(picture.reduce(factors) if factors != (1, 1) else picture, box)
    rows = strip_rows(picture.width, factor_y)

    def reduced_strip(top: int) -> Image.Image:
        # Nothing of the full width outlives the call.
        box = (0, top, picture.width, min(top + rows, picture.height))
        strip = convert(picture.crop(box)) if convert else picture.crop(box)
        return (_clear(strip, missing.crop(box)) if missing else strip).reduce(factors)

    strips = map(reduced_strip, range(0, picture.height, rows))
    first = next(strips)
    small = Image.new(first.mode, (first.width, -(-picture.height // factor_y)))
    for index, strip in enumerate(chain([first], strips)):
        small.paste(strip, (0, index * rows // factor_y))
    return ReducedPicture(small, box)


def reduction_factors(size: tuple[int, int], at_least: tuple[int, int]) -> tuple[int, int]:
    """Return how many columns and rows are averaged into one."""
    return max(1, size[0] // at_least[0]), max(1, size[1] // at_least[1])


def strip_rows(width: int, factor_y: int) -> int:
    """Return how many rows of a picture are converted at once: a multiple of the rows that become one."""
    return max(factor_y, _STRIP_PIXELS // width // factor_y * factor_y)


def _converter(picture: Image.Image, header: Header) -> _Converter | None:
    """Choose how to bring a strip into a mode that can be averaged; None if the picture is in one."""
    key = picture.info.get("transparency")
    if picture.mode in _WIDE_MODES:
        return _wide_converter(picture, header.tiff, key if isinstance(key, int) else None)
    if picture.mode == "L" and isinstance(key, int):
        # Pillow scales the samples of a PNG of 2 or 4 bits to 8, and not the value that is transparent.
        return _table_converter(range(256), key * (255 // (2**header.sample_bits - 1)))
    if picture.mode == "RGB" and isinstance(key, tuple) and header.sample_bits == _WIDE_BITS:
        # Of samples of 16 bits Pillow keeps the upper 8, and of the value that is transparent all.
        return partial(_premultiply, transparent=tuple(value >> 8 for value in key))
    if picture.mode in {"RGBA", "LA", "PA", "RGBa", "La"} or key is not None:
        return _premultiply
    if picture.mode in {"RGB", "L", "CMYK", "LAB"}:
        return None
    return lambda strip: strip.convert("L" if strip.mode == "1" else "RGB")


def _premultiply(strip: Image.Image, transparent: tuple[int, ...] | None = None) -> Image.Image:
    if transparent:
        strip.info["transparency"] = transparent
    if strip.mode == "La":  # Pillow converts it to nothing but LA.
        strip = strip.convert("LA")
    return (strip if strip.mode == "RGBA" else strip.convert("RGBA")).convert("RGBa")


def _clear(strip: Image.Image, missing: Image.Image) -> Image.Image:
    strip = strip if strip.mode == "RGBa" else _premultiply(strip)
    strip.paste((0, 0, 0, 0), mask=missing)
    return strip


def _table_converter(gray: Sequence[int], transparent: int | None) -> _Converter:
    """Look samples of one band up in a table; make those of one value transparent."""
    alpha = [] if transparent is None else [255 * (value != transparent) for value in range(len(gray))]

    def convert(strip: Image.Image) -> Image.Image:
        samples = strip if strip.mode == "L" else strip.convert("I")
        small = samples.point(gray, "L")
        return small if transparent is None else _premultiply(Image.merge("LA", [small, samples.point(alpha, "L")]))

    return convert


@cache
def _wide_to_byte() -> Sequence[int]:
    return [(value + 128) // 257 for value in range(_WIDE_WHITE + 1)]


def _wide_converter(picture: Image.Image, tiff: TiffLayout, transparent: int | None) -> _Converter:
    """Scale the samples, of one band of 16 or 32 bits, to 8; clipping would make all of a bright picture white."""
    low, high = (
        (0, _WIDE_WHITE) if picture.mode.startswith("I;16") else cast("tuple[float, float]", picture.getextrema())
    )
    if low < 0 and picture.mode == "I" and tiff.is_unsigned:
        raise UnsupportedFormat("its samples are unsigned, of 32 bits, and some are too large to be read")
    if picture.mode != "F" and low >= 0 and high <= _WIDE_WHITE:
        convert = _table_converter(_wide_to_byte(), transparent)
    else:
        # Floating point is from 0 to 1 by convention; else the file's own range is the only one known.
        bottom, top = (0.0, 1.0) if low >= 0 and high <= 1 else (min(low, 0), max(high, 255))
        scale = 255 / (top - bottom)

        def convert(strip: Image.Image) -> Image.Image:
            return strip.convert("F").point(lambda value: value * scale - bottom * scale).convert("L")

    # Pillow inverts samples of up to 8 bits only.
    return (lambda strip: convert(strip).point(range(255, -1, -1))) if tiff.white_is_zero else convert
