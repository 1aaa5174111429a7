"""Small pictures to the bytes of a file: as few as is reasonable, and nothing of the source but its look.

Knows nothing of the source file but how its animation ran.
"""

import io
from bisect import bisect_left
from collections.abc import Sequence
from functools import cache

from PIL import Image, ImageChops

from service.images.formats import AVIF, GIF, JPEG, PNG, WEBP, Format

_QUALITIES = (1, 5, 10, 20, 30, 50, 60, 70, 80, 90, 95, 100)
"""Qualities of thumbnails, for each of which the tables below have an encoder's own number.

A quality means a look. A JPEG has as many bytes as one with the tables of its standard (ITU T.81, Annex K) and 4:2:0 at
the same number, and is nearer to the picture. A WebP has as many bytes, too, and an AVIF looks as good. Measured on
forty photos by SSIMULACRA2.
"""
_JPEG_SCALES_444 = (50, 10, 4.9, 2.6, 1.85, 1.23, 1.02, 0.8, 0.585, 0.335, 0.19, 0.06)
_JPEG_SCALES_420 = (43, 9.4, 4.3, 2.14, 1.41, 0.855, 0.69, 0.52, 0.344, 0.162, 0.085, 0.01)
"""By what the quantization table is multiplied, at full and at half resolution of the colors."""
_WEBP_QUALITIES = (1, 5, 10, 23, 37, 60, 71, 78, 83, 91, 96, 100)
_AVIF_QUALITIES = (1, 7, 14, 23, 35, 47, 53, 60, 70, 85, 91, 100)
_SMALL_AVIF_QUALITIES = (1, 4, 9, 17, 26, 35, 40, 45, 52, 63, 77, 100)

_TINY_SIDE = 80
_TINY_SCALE = 0.75
"""In a JPEG with no longer sides than that, so much finer steps cost 200 bytes: coarse ones show in few pixels."""
_FULL_COLOR_SIDE = 360
"""Longest side of a JPEG with its colors at full resolution. In a larger one the bytes are better spent on the rest."""
# fmt: off
_QUANTIZATION = (
    16, 16, 16, 18, 25, 37, 56, 85,
    16, 17, 20, 27, 34, 40, 53, 75,
    16, 20, 24, 31, 43, 62, 91, 135,
    18, 27, 31, 40, 53, 74, 106, 156,
    25, 34, 43, 53, 69, 94, 131, 189,
    37, 40, 62, 74, 94, 124, 169, 238,
    56, 53, 91, 106, 131, 169, 226, 311,
    85, 75, 135, 156, 189, 238, 311, 418,
)
# fmt: on
"""Table of N. Robidoux for brightness and color, the default of mozjpeg: less is spent on the finest detail."""
_WEBP_METHOD = 5
"""Takes 4 % of the bytes away for a tenth more time. The next one takes twice the time."""
_AVIF_SPEED = 5
"""That of other image servers. Slower ones take several times as long for a tenth of the bytes."""
_SMALL_AVIF_SIDE = 250
_SMALL_AVIF_TUNING = {"tune": "psnr"}
"""For as many bytes it is nearer to a picture with no longer sides than that; in a larger one the default is nearer."""

_FAINT = 8
"""Alpha below which nobody sees the color of a pixel."""

_OPAQUE = 255
_OPAQUE_FROM = 128
"""Least alpha of a pixel that is opaque in a format without half-transparent ones."""


def encode(picture: Image.Image, target: Format, quality: int, *, was_palette: bool) -> bytes:
    """Encode one picture, RGB, RGBA or L. A PNG may lose colors to a palette if the source had one."""
    # Pillow copies what it finds here into the file: profile, comment, EXIF, XMP.
    picture.info.clear()
    if target is PNG:
        plain = _save(picture, PNG, optimize=True)
        indexed = _index(picture, lossy=was_palette)
        return min(plain, _save(indexed, PNG, optimize=True), key=len) if indexed else plain
    if target is GIF:
        return _save(_index_for_gif(picture), GIF, optimize=True)
    if not target.has_alpha and picture.mode == "RGBA":
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")
    if target in {WEBP, AVIF} and picture.mode == "RGBA":
        picture = _fill_unseen(picture)
    if target is WEBP and picture.mode == "RGB":
        picture = _emphasize_colors(picture)
    return _save(picture, target, **_options(target, quality, picture))


def count_plays(source: Format, loop: int | None) -> int:
    """Return how often an animation is shown, 0 for ever, from Pillow's `loop`, which for a GIF counts repetitions."""
    if source is GIF:
        return 1 if loop is None else loop and loop + 1
    return loop or 0


def encode_animation(
    pictures: Sequence[Image.Image], durations: Sequence[int], plays: int, target: Format, quality: int
) -> bytes:
    """Encode the frames of an animation, RGB, RGBA or L, each as a whole picture.

    `durations` are in milliseconds; `plays` is how often the animation is shown, 0 for ever.
    """
    for picture in pictures:
        picture.info.clear()
    timing = {"duration": list(durations), "loop": plays}
    options = timing | _options(target, quality, pictures[0])
    frames = list(pictures)
    if target is GIF:
        # Each frame stands alone: its transparent pixels must show nothing of the one before.
        options |= {"disposal": 2, "optimize": False, "loop": None if plays == 1 else max(plays - 1, 0)}
        frames = [_index_for_gif(picture) for picture in pictures]
    elif target is PNG:
        frames = [picture.convert("RGBA") for picture in pictures]
    return _save(frames[0], target, save_all=True, append_images=frames[1:], **options)


def _options(target: Format, quality: int, picture: Image.Image) -> dict[str, object]:
    """Return Pillow's options for a quality, 1 to 100."""
    if target is JPEG and picture.mode == "L":
        # Without colors the tables of the standard are as good, and better for drawings in black and white.
        return {"quality": quality, "optimize": True}
    if target is JPEG:
        is_small = max(picture.size) <= _FULL_COLOR_SIDE
        scale = _look_up(quality, _JPEG_SCALES_444 if is_small else _JPEG_SCALES_420)
        if max(picture.size) <= _TINY_SIDE:
            scale *= _TINY_SCALE
        return {
            "qtables": [_quantization(scale)] * 2,
            "subsampling": "4:4:4" if is_small else "4:2:0",
            "optimize": True,
            # Of a small picture the scans' headers take more than they save.
            "progressive": not is_small,
        }
    if target is WEBP:
        return {"quality": _look_up(quality, _WEBP_QUALITIES), "method": _WEBP_METHOD}
    if target is AVIF:
        is_small = max(picture.size) <= _SMALL_AVIF_SIDE
        return {
            "quality": round(_look_up(quality, _SMALL_AVIF_QUALITIES if is_small else _AVIF_QUALITIES)),
            "subsampling": "4:4:4",
            "speed": _AVIF_SPEED,
            # One processor is what a picture has.
            "max_threads": 1,
            "advanced": _SMALL_AVIF_TUNING if is_small else {},
        }
    return {"optimize": True}


@cache
def _quantization(scale: float) -> Sequence[int]:
    return [max(1, min(255, round(value * scale))) for value in _QUANTIZATION]


def _look_up(quality: int, numbers: Sequence[float]) -> float:
    """Return the number of a quality, between two of `_QUALITIES` in proportion."""
    above = bisect_left(_QUALITIES, quality)
    if _QUALITIES[above] == quality:
        return numbers[above]
    low, high = _QUALITIES[above - 1], _QUALITIES[above]
    return numbers[above - 1] + (numbers[above] - numbers[above - 1]) * (quality - low) / (high - low)


def _fill_unseen(picture: Image.Image) -> Image.Image:
    """Give pixels that nobody sees the colors around them: edges and noise in them would cost bytes."""
    alpha = picture.getchannel("A")
    seen = alpha.point([255 * (value >= _FAINT) for value in range(256)])
    if not ImageChops.invert(seen).getbbox():
        return picture
    filled = picture.copy()
    filled.putalpha(seen)
    filled = _fill_transparent(filled)
    filled.putalpha(alpha)
    return filled


def _fill_transparent(picture: Image.Image) -> Image.Image:
    """Return a picture without alpha. What was transparent is the same picture at half the size, filled likewise."""
    if max(picture.size) == 1:
        return picture.convert("RGB")
    smaller = picture.convert("RGBa").reduce(2).convert("RGBA")
    smaller.putalpha(smaller.getchannel("A").point([0] + [255] * 255))
    half = (0, 0, picture.width / 2, picture.height / 2)
    around = _fill_transparent(smaller).resize(picture.size, Image.Resampling.BILINEAR, half)
    return Image.composite(picture.convert("RGB"), around, picture.getchannel("A"))


def _emphasize_colors(picture: Image.Image) -> Image.Image:
    """Add what the picture loses if its colors have half the resolution, which a WebP's always have."""
    brightness, *colors = picture.convert("YCbCr").split()
    half = (0, 0, picture.width / 2, picture.height / 2)
    halved = [color.reduce(2).resize(color.size, Image.Resampling.BILINEAR, half) for color in colors]
    shown = Image.merge("YCbCr", [brightness, *halved]).convert("RGB")
    return ImageChops.add(picture, ImageChops.subtract(picture, shown, 1, 128), 1, -128)


def _save(picture: Image.Image, target: Format, **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, target.name, **options)
    return buffer.getvalue()


def _index(picture: Image.Image, *, lossy: bool) -> Image.Image | None:
    """Give the picture a palette: exact if 256 colors are enough, else the nearest colors if `lossy`, else none."""
    if picture.mode == "L":
        return None
    if (colors := picture.getcolors(256)) is None:
        return picture.quantize(256) if lossy else None
    palette = [color for _, color in colors if isinstance(color, tuple)]
    index_of: dict[object, int] = {color: index for index, color in enumerate(palette)}
    # A row at a time: a pixel takes a hundred bytes as a tuple.
    rows = (picture.crop((0, row, picture.width, row + 1)) for row in range(picture.height))
    indexes = b"".join(bytes(map(index_of.__getitem__, row.get_flattened_data())) for row in rows)
    indexed = Image.frombytes("P", picture.size, indexes)
    indexed.putpalette([sample for color in palette for sample in color], picture.mode)
    return indexed


def _index_for_gif(picture: Image.Image) -> Image.Image:
    """Give the picture a palette with at most one transparent entry."""
    if picture.mode == "L":
        return picture
    if picture.mode == "RGB" or picture.getchannel("A").getextrema()[0] == _OPAQUE:
        return picture.convert("RGB").quantize(256)
    indexed = picture.convert("RGB").quantize(255)
    indexed.paste(255, mask=picture.getchannel("A").point(lambda alpha: 255 * (alpha < _OPAQUE_FROM)))
    indexed.info["transparency"] = 255
    return indexed
