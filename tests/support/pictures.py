"""Test images made in code."""

import io
from typing import Any

from PIL import Image

QUADRANTS = {"top-left": "red", "top-right": "lime", "bottom-left": "blue", "bottom-right": "yellow"}
"""The colours of `quadrants`, by where they are in the upright picture."""


def quadrants(width: int = 400, height: int = 300, mode: str = "RGB") -> Image.Image:
    """A picture with a colour of its own in each quarter, so that any turn or flip of it shows."""
    picture = Image.new("RGB", (width, height))
    for index, colour in enumerate(QUADRANTS.values()):
        x, y = index % 2 * (width // 2), index // 2 * (height // 2)
        picture.paste(colour, (x, y, x + width - width // 2, y + height - height // 2))
    return picture.convert(mode)


def encoded(picture: Image.Image, image_format: str = "JPEG", **options: Any) -> bytes:  # noqa: ANN401 - Pillow's
    """The picture as a file's bytes."""
    buffer = io.BytesIO()
    picture.save(buffer, image_format, **options)
    return buffer.getvalue()


def jpeg(width: int = 400, height: int = 300, **options: Any) -> bytes:  # noqa: ANN401 - Pillow's
    """A JPEG of `quadrants`."""
    return encoded(quadrants(width, height), "JPEG", **options)


def opened(data: bytes) -> Image.Image:
    """Decode to the end."""
    picture = Image.open(io.BytesIO(data))
    picture.load()
    return picture


_TURNS = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
"""How to lay a picture down so that its EXIF orientation stands it up again: the inverse of what a viewer does."""


def lying(picture: Image.Image, orientation: int) -> tuple[Image.Image, bytes]:
    """The pixels as a camera with this EXIF orientation stores them, and the EXIF that says so."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    turn = _TURNS[orientation]
    return (picture.transpose(turn) if turn is not None else picture), exif.tobytes()
