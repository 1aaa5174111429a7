"""Small pictures to the bytes of a file: as few as is reasonable, and nothing of the source but its look.

Knows nothing of the source file but how its animation ran.
"""

import io
from collections.abc import Sequence

from PIL import Image

from service.images.formats import GIF, PNG, Format

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
    # Encoders ignore options that they do not have: JPEG optimizes its tables, AVIF would start threads.
    return _save(picture, target, quality=quality, optimize=True, max_threads=1)


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
    options: dict[str, object] = {"duration": list(durations), "loop": plays, "quality": quality, "optimize": True}
    frames = list(pictures)
    if target is GIF:
        # Each frame stands alone: its transparent pixels must show nothing of the one before.
        options |= {"disposal": 2, "optimize": False, "loop": None if plays == 1 else max(plays - 1, 0)}
        frames = [_index_for_gif(picture) for picture in pictures]
    elif target is PNG:
        frames = [picture.convert("RGBA") for picture in pictures]
    return _save(frames[0], target, save_all=True, append_images=frames[1:], **options)


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
