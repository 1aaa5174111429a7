"""Small pictures to the bytes of a file: as small as they reasonably get, with nothing of the source but its look."""

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Self

from PIL import Image

from service.errors import UnsupportedFormat

_OPAQUE_FROM = 128
"""The alpha from which on a pixel is opaque where a format knows no half-transparent ones."""


@dataclass(frozen=True, slots=True)
class Encoding:
    """A format that every browser shows."""

    content_type: str
    extension: str
    has_alpha: bool
    animates: bool


ENCODINGS = {
    "JPEG": Encoding("image/jpeg", ".jpg", has_alpha=False, animates=False),
    "PNG": Encoding("image/png", ".png", has_alpha=True, animates=True),
    "GIF": Encoding("image/gif", ".gif", has_alpha=True, animates=True),
    "WEBP": Encoding("image/webp", ".webp", has_alpha=True, animates=True),
    "AVIF": Encoding("image/avif", ".avif", has_alpha=True, animates=False),
}
"""By Pillow's names."""


@dataclass(frozen=True, slots=True)
class Timing:
    """How an animation runs."""

    durations: Sequence[int]
    """Of each frame, in milliseconds."""
    plays: int
    """How often, 0 for ever."""

    @classmethod
    def read(cls, durations: Sequence[int], source_format: str, loop: int | None) -> Self:
        """From what Pillow says: a GIF tells how often it is repeated, and nothing where it is not."""
        if source_format == "GIF":
            return cls(durations, 1 if loop is None else loop and loop + 1)
        return cls(durations, loop or 0)

    def loop(self, target: str) -> dict[str, int]:
        """As an option for Pillow."""
        if target != "GIF":
            return {"loop": self.plays}
        return {} if self.plays == 1 else {"loop": self.plays and self.plays - 1}


def encode(picture: Image.Image, target: str, quality: int, *, was_palette: bool) -> bytes:
    """Encode one picture.

    Args:
        picture: RGB, RGBA or L.
        target: a key of `ENCODINGS`.
        quality: 1 to 100, for the lossy formats.
        was_palette: whether the source had a palette, so that a PNG may have one, too.
    """
    # Pillow copies what it finds here into the file: profile, comment, EXIF, XMP.
    picture.info.clear()
    if target == "PNG":
        candidates = [_saved(picture, "PNG", optimize=True)]
        if (indexed := _indexed(picture, lossy=was_palette)) is not None:
            candidates.append(_saved(indexed, "PNG", optimize=True))
        return min(candidates, key=len)
    if target == "GIF":
        indexed, transparent = _for_gif(picture)
        return _saved(indexed, "GIF", optimize=True, **transparent)
    if not ENCODINGS[target].has_alpha:
        return _saved(_on_white(picture), target, quality=quality, optimize=True)
    return _saved(picture, target, quality=quality, **({"max_threads": 1} if target == "AVIF" else {}))


def encode_animation(pictures: Sequence[Image.Image], timing: Timing, target: str, quality: int) -> bytes:
    """Encode the frames of an animation, each as a whole picture.

    Raises:
        UnsupportedFormat: the target knows no animation.
    """
    if not ENCODINGS[target].animates:
        raise UnsupportedFormat(f"{target} has no frames")
    for picture in pictures:
        picture.info.clear()
    options: dict[str, object] = {"save_all": True, "duration": list(timing.durations), **timing.loop(target)}
    frames = list(pictures)
    if target == "GIF":
        # Each frame stands alone: what is transparent in it has to show nothing of the one before.
        options |= {"disposal": 2, "optimize": False}
        indexed = [_for_gif(picture) for picture in pictures]
        frames = [frame for frame, _ in indexed]
        for frame, transparent in indexed:
            frame.info.update(transparent)
    elif target == "WEBP":
        options |= {"quality": quality, "minimize_size": False}
    elif target == "PNG":
        options |= {"optimize": True, "disposal": 0, "blend": 0}
        frames = [picture.convert("RGBA") for picture in pictures]
    return _saved(frames[0], target, append_images=frames[1:], **options)


def _saved(picture: Image.Image, target: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, target, **options)
    return buffer.getvalue()


def _on_white(picture: Image.Image) -> Image.Image:
    if picture.mode != "RGBA":
        return picture
    return Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")


def _indexed(picture: Image.Image, *, lossy: bool) -> Image.Image | None:
    """The picture with a palette: exact where 256 colours are enough, else the nearest where that is asked for."""
    if picture.mode == "L":
        return None
    if (colours := picture.getcolors(256)) is None:
        return picture.quantize(256) if lossy else None
    palette = [colour for _, colour in colours if isinstance(colour, tuple)]
    places = {colour: place for place, colour in enumerate(palette)}
    indexed = Image.frombytes("P", picture.size, bytes(places[colour] for colour in _pixels(picture)))
    indexed.putpalette([sample for colour in palette for sample in colour], picture.mode)
    return indexed


def _pixels(picture: Image.Image) -> Iterator[tuple[int, ...]]:
    samples = iter(picture.tobytes())
    return zip(*[samples] * len(picture.getbands()), strict=True)


def _for_gif(picture: Image.Image) -> tuple[Image.Image, dict[str, int]]:
    """The picture with a palette in which at most one entry is transparent, and which."""
    if picture.mode == "L":
        return picture, {}
    if picture.mode == "RGB" or picture.getchannel("A").getextrema()[0] == 255:  # noqa: PLR2004 - opaque
        return picture.convert("RGB").quantize(256), {}
    indexed = picture.convert("RGB").quantize(255)
    hole = picture.getchannel("A").point(lambda alpha: 255 * (alpha < _OPAQUE_FROM))
    indexed.paste(255, mask=hole)
    return indexed, {"transparency": 255}
