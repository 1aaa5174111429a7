"""Pictures whose files end too early: what there is of them, as browsers show it.

Reads a file twice, each time over another ground: where the ground is seen, the file has said nothing.
"""

from collections.abc import Sequence
from contextlib import suppress
from functools import reduce
from typing import NamedTuple

from PIL import Image, ImageChops
from PIL.ImageFile import ImageFile

from service.errors import CorruptImage
from service.images.decode import decode
from service.images.formats import GIF, JPEG
from service.images.header import Header
from service.images.pillow import Reading, open_image
from service.images.validation import FileBytes

_WHITE = 255
_GROUNDS = (0, _WHITE)
_WIDE_WHITE = 0xFFFF
_WIDE_TO_BYTE = [value >> 8 for value in range(_WIDE_WHITE + 1)]
_NO_KEY = -1
_STRIP_PIXELS = 1_000_000
_ADAM7 = ((8, 8), (4, 8), (4, 4), (2, 4), (2, 2), (1, 2), (1, 1))
"""Columns and rows from one pixel that is known to the next after each pass of an interlaced PNG."""
_GIF_PASSES = ((1, 8), (1, 4), (1, 2), (1, 1))


class DecodedStill(NamedTuple):
    """A picture, and what is known of it."""

    picture: Image.Image
    missing: Image.Image | None = None
    """Not 0 where the file ends before it says what is there; None if nothing is missing."""
    is_damaged: bool = False


def decode_still(header: Header, data: FileBytes, at_least: tuple[int, int], reading: Reading) -> DecodedStill:
    """Return the first picture of a file; if that ends too early, and is to be shown, what there is of it."""
    try:
        (picture,) = decode(header, at_least, reading, all_frames=False)
    except CorruptImage:
        if not header.is_cut or header.format is JPEG:
            raise
    else:
        return DecodedStill(picture, is_damaged=header.is_cut and header.format is JPEG)
    header.picture.close()
    return decode_part(data, reading)


def decode_part(data: FileBytes, reading: Reading) -> DecodedStill:
    """Return what there is of the first picture of a PNG or GIF.

    Raises:
        CorruptImage: nothing is there.
    """
    with reading():
        picture, passes, box = _load_part(data, _GROUNDS[0])
        other, _, _ = _load_part(data, _GROUNDS[1])
        missing = _equal_to_ground(picture, other)
        other.close()
        if missing.crop(box).getextrema() == (255, 255):
            raise CorruptImage("it cannot be decoded: its file ends before its first pixel")
        if passes:
            _repeat_pixels(picture, missing, passes, box)
        return DecodedStill(picture, missing, is_damaged=True)


_Box = tuple[int, int, int, int]


def _load_part(data: FileBytes, ground: int) -> tuple[ImageFile, Sequence[tuple[int, int]], _Box]:
    """Return the picture over a ground, the passes if it is interlaced, and the box that its pixels are for."""
    picture = open_image(data)
    passes: Sequence[tuple[int, int]] = _ADAM7 if picture.info.get("interlace") else ()
    (tile,) = picture.tile
    if picture.format == GIF.name:
        bits, is_interlaced, _ = tuple(tile.args or ())
        passes = _GIF_PASSES if is_interlaced else ()
        # Pixels of the transparent color are to be told from those that are missing.
        picture.tile = [tile._replace(args=(bits, is_interlaced, _NO_KEY))]
        picture._frame_transparency = None  # type: ignore[attr-defined]  # noqa: SLF001 - Pillow 13 hides what it fills by
    white = _WIDE_WHITE if picture.mode.startswith("I") else 255
    picture.im = Image.new(picture.mode, picture.size, tuple([white * (ground > 0)] * len(picture.getbands()))).im
    with suppress(OSError, SyntaxError):
        picture.load()
    picture.tile = []
    return picture, passes, tile.extents or (0, 0, *picture.size)


def _equal_to_ground(picture: Image.Image, other: Image.Image) -> Image.Image:
    """Return where two readings differ in all that they can, as 255; else 0."""
    missing = Image.new("L", picture.size)
    rows = max(1, _STRIP_PIXELS // picture.width)
    for top in range(0, picture.height, rows):
        box = (0, top, picture.width, min(top + rows, picture.height))
        bands = ImageChops.difference(_samples(picture.crop(box)), _samples(other.crop(box))).split()
        missing.paste(reduce(ImageChops.darker, bands).point(lambda value: 255 * (value == _WHITE)), box)
    return missing


def _samples(strip: Image.Image) -> Image.Image:
    """Return a strip in a mode whose samples can be compared."""
    if strip.mode == "P":
        return Image.frombytes("L", strip.size, strip.tobytes())
    if strip.mode.startswith("I"):
        return strip.convert("I").point(_WIDE_TO_BYTE, "L")
    return strip.convert("L") if strip.mode == "1" else strip


def _repeat_pixels(picture: Image.Image, missing: Image.Image, passes: Sequence[tuple[int, int]], box: _Box) -> None:
    """Let each pixel of an interlaced picture stand for those to its right and below it until they come."""
    left, start, right, end = box
    # Whole blocks, of 8 rows at most.
    height = max(1, _STRIP_PIXELS // (right - left) // 8) * 8
    for top in range(start, end, height):
        strip = (left, top, right, min(top + height, end))
        part, unknown = picture.crop(strip), missing.crop(strip)
        missing.paste(255, strip)
        for columns, rows in passes:
            known = _blocks(unknown, columns, rows).point(lambda value: 255 - value).convert("1")
            picture.paste(_blocks(part, columns, rows), strip, known)
            missing.paste(0, strip, known)


def _blocks(part: Image.Image, columns: int, rows: int) -> Image.Image:
    """Return a picture of which one pixel of so many fills their whole block."""
    size = -(-part.width // columns), -(-part.height // rows)
    # From the middle of a small pixel to the middle of the first one that it stands for.
    shift_x, shift_y = (1 - columns) / 2, (1 - rows) / 2
    first = part.transform(size, Image.Transform.AFFINE, (columns, 0, shift_x, 0, rows, shift_y))
    blocks = first.resize((size[0] * columns, size[1] * rows), Image.Resampling.NEAREST)
    return blocks.crop((0, 0, *part.size))
