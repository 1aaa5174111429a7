"""Image bytes in, thumbnail bytes out. Knows nothing of storage.

What can be done before the pixels are decoded is done before: a picture is refused by the size in its header, and a
JPEG is decoded at a fraction of its size. Turning upright and converting colours come after shrinking, where they
cost nothing.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial

from PIL import Image, ImageChops

from service.errors import PictureTooLarge
from service.images.color import to_srgb
from service.images.decode import Header, decode, pillow_errors_as_rejections, read_header, read_orientation
from service.images.encode import ENCODINGS, Timing, encode, encode_animation
from service.images.footprint import estimate_memory
from service.images.resize import Shrinkable, shrinkable
from service.images.spec import OutputFormat, ThumbnailSpec

_SHRINK_GAP = 2.0
"""How much larger than the thumbnail the cheap first reduction leaves the picture (Pillow's `reducing_gap`)."""

_TURNED_BY_90 = frozenset({5, 6, 7, 8})
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""By EXIF orientation."""

_ANIMATED_FORMATS = frozenset({"GIF", "WEBP", "PNG"})
_DEFAULT_FRAME_MILLISECONDS = 100
"""What browsers make of a frame that says nothing, or next to nothing, about its time."""


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """One encoded thumbnail."""

    spec: ThumbnailSpec
    data: bytes
    content_type: str
    new_extension: str
    """The extension of its format, such as `.jpg`; empty where that is the format of the source."""
    width: int
    height: int
    is_whole: bool
    """Whether it has as many pixels as its source, which was no larger."""


Reading = Callable[[], AbstractContextManager[None]]
"""Is around every call in which a library reads the file, and turns what that raises into a rejection."""

Reserve = Callable[[int], AbstractContextManager[None]]
"""Waits until this many bytes of memory are free for decoding, and holds them; raises where they never can be."""


def make_thumbnails(
    data: bytes, specs: Sequence[ThumbnailSpec], *, max_pixels: int, reserve: Reserve
) -> list[Thumbnail]:
    """Decode a picture once and make a thumbnail of it for each spec.

    Args:
        data: the bytes of an image file.
        specs: at least one.
        max_pixels: a picture with more, in all frames that are read, is refused before it is decoded.
        reserve: called with what decoding will take at the most.

    Raises:
        UnsupportedFormat: the bytes are of no format that is read.
        PictureTooLarge: its header says that it has more than `max_pixels`.
        CorruptImage: it cannot be decoded to its end.
    """
    with pillow_errors_as_rejections(data, max_pixels):
        header = read_header(data, max_pixels, all_frames=any(spec.animated for spec in specs))
        frames = _frame_count(header, specs, max_pixels)
    sizes = _sizes(header, header.orientation or 1, specs)
    at_least = (int(max(sizes)[0] * _SHRINK_GAP), int(max(sizes)[1] * _SHRINK_GAP))
    targets = {_target(header.format, spec, has_alpha=True) for spec in specs}
    # An animation's thumbnails are all held until they are encoded together.
    held = frames * sum(width * height for width, height in sizes) if frames > 1 else 0
    with reserve(estimate_memory(header, at_least, targets, held)):
        if frames > 1:
            return _animations(header, specs, partial(pillow_errors_as_rejections, data, max_pixels))
        with pillow_errors_as_rejections(data, max_pixels):
            picture = decode(header, at_least)
        orientation = header.orientation or read_orientation(picture)
        sizes = _sizes(header, orientation, specs)
        was_palette = picture.mode in {"P", "PA"}
        small = shrinkable(picture, header, max(sizes), _SHRINK_GAP)
        if small.picture is not picture:
            # Several times the size of all that follows.
            picture.close()
        return [
            _still(_finished(small, size, header, orientation), header, spec, was_palette=was_palette)
            for spec, size in zip(specs, sizes, strict=True)
        ]


def _sizes(header: Header, orientation: int, specs: Sequence[ThumbnailSpec]) -> list[tuple[int, int]]:
    """The size of each thumbnail before it is turned upright."""
    boxes = (spec.box.turned() if orientation in _TURNED_BY_90 else spec.box for spec in specs)
    return [box.fit(*header.size) for box in boxes]


def _frame_count(header: Header, specs: Sequence[ThumbnailSpec], max_pixels: int) -> int:
    """How many frames are wanted: 1, or all of an animation."""
    if header.format not in _ANIMATED_FORMATS or not any(_keeps_frames(header.format, spec) for spec in specs):
        return 1
    frames = int(getattr(header.picture, "n_frames", 1))
    if (pixels := header.size[0] * header.size[1] * frames) > max_pixels and frames > 1:
        raise PictureTooLarge(
            f"its {frames} frames have {pixels:,} pixels and MAX_IMAGE_PIXELS is {max_pixels:,}; "
            "without ANIMATED only the first would be read"
        )
    return frames


def _keeps_frames(source_format: str, spec: ThumbnailSpec) -> bool:
    return spec.animated and ENCODINGS[_target(source_format, spec, has_alpha=True)].animates


def _finished(small: Shrinkable, size: tuple[int, int], header: Header, orientation: int) -> Image.Image:
    picture = to_srgb(small.resized(size, _SHRINK_GAP), header.icc_profile, header.gamma)
    turn = _TURNS.get(orientation)
    return picture if turn is None else picture.transpose(turn)


def _still(picture: Image.Image, header: Header, spec: ThumbnailSpec, *, was_palette: bool) -> Thumbnail:
    target = _target(header.format, spec, has_alpha=picture.mode == "RGBA")
    return _thumbnail(picture, header, target, spec, encode(picture, target, spec.quality, was_palette=was_palette))


def _animations(header: Header, specs: Sequence[ThumbnailSpec], reading: Reading) -> list[Thumbnail]:
    with reading():
        orientation = header.orientation or read_orientation(header.picture)
    sizes = _sizes(header, orientation, specs)
    frames: list[list[Image.Image]] = [[] for _ in specs]
    durations: list[int] = []
    for frame, milliseconds in _frames(header.picture, reading):
        small = shrinkable(frame, header, max(sizes), _SHRINK_GAP)
        durations.append(milliseconds)
        for made, size in zip(frames, sizes, strict=True):
            made.append(_finished(small, size, header, orientation))
    timing = Timing.read(durations, header.format, header.picture.info.get("loop"))
    thumbnails = []
    for spec, made in zip(specs, frames, strict=True):
        target = _target(header.format, spec, has_alpha=True)
        if _keeps_frames(header.format, spec) and len(made) > 1:
            data = encode_animation(made, timing, target, spec.quality)
            thumbnails.append(_thumbnail(made[0], header, target, spec, data))
        else:
            thumbnails.append(_still(made[0], header, spec, was_palette=header.format == "GIF"))
    return thumbnails


def _frames(picture: Image.Image, reading: Reading) -> Iterator[tuple[Image.Image, int]]:
    """Yield the frames as a viewer shows them, and for how many milliseconds.

    A PNG's stand-in for viewers that know no animation is left out.
    """
    first = 1 if getattr(picture, "default_image", False) else 0
    drawn = Image.new("L", picture.size)
    for index in itertools.count(first):
        with reading():
            try:
                picture.seek(index)
            except EOFError:
                return
            areas = [tile.extents for tile in getattr(picture, "tile", ())] if picture.format == "GIF" else []
            picture.load()
            milliseconds = int(picture.info.get("duration", 0)) or _DEFAULT_FRAME_MILLISECONDS
        if areas and drawn.getextrema()[0] == 0:
            drawn.paste(255, areas[0])
        if areas and drawn.getextrema()[0] == 0:
            # Where no frame has drawn yet there is nothing; Pillow shows the palette's first entry.
            bare = picture.convert("RGBA")
            bare.putalpha(ImageChops.multiply(bare.getchannel("A"), drawn))
            bare.info = picture.info
            yield bare, milliseconds
        else:
            yield picture, milliseconds


def _target(source_format: str, spec: ThumbnailSpec, *, has_alpha: bool) -> str:
    if spec.format is not OutputFormat.ORIGINAL:
        return spec.format.upper()
    if source_format in ENCODINGS:
        return source_format
    return "PNG" if has_alpha else "JPEG"


def _thumbnail(picture: Image.Image, header: Header, target: str, spec: ThumbnailSpec, data: bytes) -> Thumbnail:
    encoding = ENCODINGS[target]
    return Thumbnail(
        spec,
        data,
        encoding.content_type,
        new_extension="" if target == header.format else encoding.extension,
        width=picture.width,
        height=picture.height,
        # Turned upright or not.
        is_whole=sorted(picture.size) == sorted(header.size),
    )
