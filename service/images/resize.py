"""Decoded pictures to small ones, and nothing lost on the way that averaging needs.

Brings every mode into one that can be averaged, puts right what Pillow reads wrongly, and does both strip by strip, so
that no second picture of the full size is ever held.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain

from PIL import Image

from service.errors import UnsupportedFormat
from service.images.decode import Header, TiffLayout

_STRIP_PIXELS = 1_000_000
_WIDE_MODES = frozenset({"I", "I;16", "I;16B", "I;16L", "I;16N", "F"})


@dataclass(frozen=True, slots=True)
class Shrinkable:
    """A picture in a mode that can be averaged: RGB, L, CMYK, LAB, or RGBa (premultiplied)."""

    picture: Image.Image
    box: tuple[float, float, float, float]
    """What of it is the picture, in its pixels; the last row and column may be of fewer than the others."""

    def resized(self, size: tuple[int, int], gap: float) -> Image.Image:
        """Return it at this size; RGBa becomes RGBA."""
        small = self.picture.resize(size, Image.Resampling.LANCZOS, self.box, gap)
        return small.convert("RGBA") if small.mode == "RGBa" else small


def shrinkable(picture: Image.Image, header: Header, target: tuple[int, int], gap: float) -> Shrinkable:
    """Bring a decoded picture into a mode that can be averaged, and down to some `gap` times the target.

    What has to be converted is converted strip by strip, so that no second picture of the full size is ever held.
    """
    across = max(1, int(picture.width / target[0] / gap))
    down = max(1, int(picture.height / target[1] / gap))
    box = (0.0, 0.0, picture.width / across, picture.height / down)
    convert = _conversion(picture, header)
    if convert is None:
        return Shrinkable(picture.reduce((across, down)) if across * down > 1 else picture, box)
    rows = strip_rows(picture.width, down)
    strips = (
        convert(picture.crop((0, top, picture.width, min(top + rows, picture.height)))).reduce((across, down))
        for top in range(0, picture.height, rows)
    )
    first = next(strips)
    small = Image.new(first.mode, (first.width, -(-picture.height // down)))
    for index, strip in enumerate(chain([first], strips)):
        small.paste(strip, (0, index * rows // down))
    return Shrinkable(small, box)


def strip_rows(width: int, down: int) -> int:
    """How many rows of a picture are converted at once: some that make whole rows of the reduced one."""
    return max(down, _STRIP_PIXELS // width // down * down)


_Conversion = Callable[[Image.Image], Image.Image]


def _conversion(picture: Image.Image, header: Header) -> _Conversion | None:
    """How to bring a strip of the picture into a mode that can be averaged; None where it is in one."""
    key = picture.info.get("transparency")
    if picture.mode in _WIDE_MODES:
        return _from_wide(picture, header.tiff, key if isinstance(key, int) else None)
    if picture.mode == "L" and isinstance(key, int):
        # Pillow scales the samples of a PNG of 2 or 4 bits to 8, and not the value that is transparent.
        return _from_gray(key * (255 // (2**header.sample_bits - 1)))
    if picture.mode == "RGB" and isinstance(key, tuple) and header.sample_bits == 16:  # noqa: PLR2004 - bits
        # Of samples of 16 bits Pillow keeps the upper 8, and of the value that is transparent all.
        return _with_hole(tuple(value >> 8 for value in key))
    if picture.mode in {"RGBA", "LA", "PA", "RGBa", "La"} or key is not None:
        return _premultiplied
    if picture.mode in {"RGB", "L", "CMYK", "LAB"}:
        return None
    wanted = "L" if picture.mode == "1" else "RGB"
    return lambda strip: strip.convert(wanted)


def _premultiplied(strip: Image.Image) -> Image.Image:
    if strip.mode == "La":  # Pillow converts it to nothing but LA.
        strip = strip.convert("LA")
    return (strip if strip.mode == "RGBA" else strip.convert("RGBA")).convert("RGBa")


def _with_hole(transparent: tuple[int, ...]) -> _Conversion:
    def convert(strip: Image.Image) -> Image.Image:
        strip.info["transparency"] = transparent
        return _premultiplied(strip)

    return convert


def _from_gray(transparent: int) -> _Conversion:
    alpha = [0 if value == transparent else 255 for value in range(256)]
    return lambda strip: _premultiplied(Image.merge("LA", [strip, strip.point(alpha)]))


def _from_wide(picture: Image.Image, tiff: TiffLayout, transparent: int | None) -> _Conversion:
    """Scale samples of 16 or 32 bits to 8; clipping them would make all of a bright picture white."""
    low, high = (0, 65535) if picture.mode.startswith("I;16") else _extrema(picture)
    if low < 0 and picture.mode == "I" and tiff.is_unsigned:
        raise UnsupportedFormat("its samples are unsigned, of 32 bits, and some are too large to be read")
    convert = _scaled(picture, low, high, transparent)
    if tiff.white_is_zero:
        # White is zero, which Pillow heeds for samples of up to 8 bits alone.
        return lambda strip: convert(strip).point(range(255, -1, -1))
    return convert


def _scaled(picture: Image.Image, low: float, high: float, transparent: int | None) -> _Conversion:
    if picture.mode != "F" and low >= 0 and high <= 65535:  # noqa: PLR2004 - 16 bits
        gray = [(value + 128) // 257 for value in range(65536)]
        alpha = [0 if value == transparent else 255 for value in range(65536)]

        def convert(strip: Image.Image) -> Image.Image:
            wide = strip.convert("I")
            if transparent is None:
                return wide.point(gray, "L")
            return _premultiplied(Image.merge("LA", [wide.point(gray, "L"), wide.point(alpha, "L")]))

        return convert
    # Floating point is from 0 to 1 by convention; else the file's own range is the only one known.
    bottom, top = (0.0, 1.0) if low >= 0 and high <= 1 else (min(low, 0), max(high, 255))
    scale = 255 / (top - bottom)
    return lambda strip: strip.convert("F").point(lambda value: value * scale - bottom * scale).convert("L")


def _extrema(picture: Image.Image) -> tuple[float, float]:
    low, high = picture.getextrema()
    if isinstance(low, tuple) or isinstance(high, tuple):
        raise TypeError(f"no range of values in mode {picture.mode}")
    return low, high
