"""Image bytes in, thumbnail bytes out. Knows nothing of storage.

All that can be done before the pixels are decoded is done before: a picture is refused by the size in its header, a
JPEG is decoded at a fraction of its size, and of a HEIC its preview if that is a copy. Turning upright and converting
colors come last, when the picture is small.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial

from PIL import Image

from service.errors import CorruptImage, PictureTooLarge
from service.images.color import to_srgb
from service.images.damage import DecodedStill, decode_part, decode_still
from service.images.decode import decode
from service.images.encode import count_plays, encode, encode_animation
from service.images.footprint import estimate_memory
from service.images.formats import FORMATS, GIF, JPEG, PNG, Format
from service.images.header import Header, read_header, read_orientation
from service.images.pillow import pillow_errors_as_rejections
from service.images.preview import find_preview
from service.images.resize import REDUCING_GAP, ReducedPicture, reduce_picture
from service.images.spec import OutputFormat, Thumbnail, ThumbnailSpec
from service.images.validation import FileBytes
from service.memory import Reserve

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

_DEFAULT_FRAME_MILLISECONDS = 100
"""For a frame that gives no duration, as in browsers."""


def make_thumbnails(
    data: FileBytes, specs: Sequence[ThumbnailSpec], *, max_pixels: int, reserve: Reserve
) -> list[Thumbnail]:
    """Decode an image file once and make a thumbnail of it for each spec. Reserve the memory for it first.

    Raises:
        UnsupportedFormat: the file has a format, or a kind of samples, that is not read.
        PictureTooLarge: its header says that it has more than `max_pixels`, in all frames that are read.
        CorruptImage: it cannot be decoded to its end, and what there is of it is not to be shown.
    """
    reading = partial(pillow_errors_as_rejections, data, max_pixels)
    with reading():
        header = read_header(
            data,
            max_pixels,
            all_frames=any(spec.animated for spec in specs),
            shows_damaged=any(spec.shows_damaged for spec in specs),
        )
        count = _count_frames(header, specs, max_pixels)
    sizes = _sizes(header, header.orientation or 1, specs)
    at_least = _decoding_size(sizes)
    targets = {_output_format(header.format, spec, has_alpha=True) for spec in specs}
    if preview := find_preview(header, at_least, reading):
        with reserve(estimate_memory(preview.header, at_least, targets, 0)):
            copy = preview.decode(reading)
            if copy is not None:
                return [replace(each, from_preview=True) for each in _make_stills(header, specs, DecodedStill(copy))]
    # An animation's thumbnails are all held until they are encoded together.
    frame_pixels = count * sum(width * height for width, height in sizes) if count > 1 else 0
    with reserve(estimate_memory(header, at_least, targets, frame_pixels)):
        if count > 1:
            if animations := _make_animations(header, specs, decode(header, at_least, reading, all_frames=True), count):
                return animations
            return _make_stills(header, specs, decode_part(data, reading))
        return _make_stills(header, specs, decode_still(header, data, at_least, reading))


def _sizes(header: Header, orientation: int, specs: Sequence[ThumbnailSpec]) -> list[tuple[int, int]]:
    """Return the size of each thumbnail before it is turned upright."""
    if orientation in _TURNED_BY_90:
        return [spec.box.fit(*header.size[::-1])[::-1] for spec in specs]
    return [spec.box.fit(*header.size) for spec in specs]


def _decoding_size(sizes: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """Return the size that is enough for the largest of the thumbnails, which all have the same shape."""
    width, height = max(sizes)
    return REDUCING_GAP * width, REDUCING_GAP * height


def _count_frames(header: Header, specs: Sequence[ThumbnailSpec], max_pixels: int) -> int:
    """Return how many frames to read: 1, or all of an animation."""
    kept = (spec.animated and _output_format(header.format, spec, has_alpha=True).animates for spec in specs)
    if not header.format.animates or not any(kept):
        return 1
    frames = int(getattr(header.picture, "n_frames", 1))
    if (pixels := header.size[0] * header.size[1] * frames) > max_pixels and frames > 1:
        raise PictureTooLarge(
            f"its {frames} frames have {pixels:,} pixels and MAX_IMAGE_PIXELS is {max_pixels:,}; "
            "without ANIMATED only the first would be read"
        )
    return frames


def _output_format(source: Format, spec: ThumbnailSpec, *, has_alpha: bool) -> Format:
    if spec.format is not OutputFormat.ORIGINAL:
        return FORMATS[spec.format.upper()]
    if source.output_extension:
        return source
    return PNG if has_alpha else JPEG


def _finish(reduced: ReducedPicture, size: tuple[int, int], header: Header, orientation: int) -> Image.Image:
    """Resize, convert to sRGB, and turn upright."""
    picture = to_srgb(reduced.resize(size), header.icc_profile, header.gamma, header.code_points)
    return picture.transpose(_TURNS[orientation]) if orientation in _TURNS else picture


def _make_stills(header: Header, specs: Sequence[ThumbnailSpec], still: DecodedStill) -> list[Thumbnail]:
    picture, missing, is_damaged = still
    del still
    orientation = header.orientation or read_orientation(picture)
    sizes = _sizes(header, orientation, specs)
    was_palette = picture.mode in {"P", "PA"}
    reduced = reduce_picture(picture, header, _decoding_size(sizes), missing)
    if reduced.picture is not picture:
        # Several times the size of all that follows.
        picture.close()
    del missing
    finished = ([_finish(reduced, size, header, orientation)] for size in sizes)
    thumbnails = [
        _encode(header, spec, pictures, [], was_palette=was_palette)
        for spec, pictures in zip(specs, finished, strict=True)
    ]
    return [replace(each, is_damaged=is_damaged) for each in thumbnails]


def _make_animations(
    header: Header, specs: Sequence[ThumbnailSpec], frames: Iterator[Image.Image], count: int
) -> list[Thumbnail]:
    """Return the animations; of a file that ends too early those of its whole frames, none if it has no such."""
    orientation = header.orientation or read_orientation(header.picture)
    sizes = _sizes(header, orientation, specs)
    pictures: list[list[Image.Image]] = [[] for _ in specs]
    durations: list[int] = []
    try:
        for frame in frames:
            durations.append(int(header.picture.info.get("duration", 0)) or _DEFAULT_FRAME_MILLISECONDS)
            reduced = reduce_picture(frame, header, _decoding_size(sizes))
            for finished, size in zip(pictures, sizes, strict=True):
                finished.append(_finish(reduced, size, header, orientation))
        is_damaged = header.ends_early and (header.format is GIF or len(durations) < count)
        if is_damaged and not header.is_cut:
            raise CorruptImage(f"it cannot be decoded: its file ends after {len(durations)} whole frames")
    except CorruptImage:
        if not header.is_cut:
            raise
        is_damaged = True
    if not durations:
        return []
    thumbnails = [
        _encode(header, spec, finished, durations, was_palette=header.format is GIF)
        for spec, finished in zip(specs, pictures, strict=True)
    ]
    return [replace(each, is_damaged=is_damaged) for each in thumbnails]


def _encode(
    header: Header,
    spec: ThumbnailSpec,
    pictures: Sequence[Image.Image],
    durations: Sequence[int],
    *,
    was_palette: bool,
) -> Thumbnail:
    """Encode all pictures as an animation if the spec keeps it, else the first alone."""
    picture = pictures[0]
    target = _output_format(header.format, spec, has_alpha=picture.mode == "RGBA")
    if spec.animated and target.animates and len(pictures) > 1:
        plays = count_plays(header.format, header.picture.info.get("loop"))
        data = encode_animation(pictures, durations, plays, target, spec.quality)
    else:
        data = encode(picture, target, spec.quality, was_palette=was_palette)
    return Thumbnail(
        spec,
        data,
        target,
        target is not header.format,
        *picture.size,
        # Turned upright or not.
        is_whole=sorted(picture.size) == sorted(header.size),
    )
