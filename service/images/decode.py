"""Image file to header, and header to decoded picture; or the rejection that says why not.

All that the header tells (format, size, orientation, coding of the pixels) is read, and refused, before anything is
decoded. Knows nothing of thumbnails.
"""

import io
import itertools
import re
import struct
import zlib
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

from PIL import ExifTags, Image, PngImagePlugin, UnidentifiedImageError
from PIL.ImageFile import ImageFile
from PIL.TiffImagePlugin import TiffImageFile

from service.errors import CorruptImage, PictureTooLarge, UnsupportedFormat
from service.images.code_points import CodePoints, read_avif, read_heif, read_png
from service.images.formats import (
    AVIF,
    BMP,
    FORMATS,
    GIF,
    HEIF,
    ICO,
    JPEG,
    JPEG2000,
    PNG,
    WEBP,
    Format,
    looks_like_image,
)
from service.images.kinds import kind_never_read, kind_refused
from service.images.validation import FileBytes, check_jpeg, check_structure, ends_early, sound_parts, whole_segments

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer


def _load_decoders() -> Iterator[str]:
    """Register the decoders that are installed, and no others; yield Pillow's names of their formats."""
    for row in FORMATS.values():
        with suppress(ImportError):
            if row.plugin:
                import_module(row.plugin)
                yield row.name


READABLE = tuple(_load_decoders())
"""Pillow's names of the formats that are read; no other decoder is tried."""

_READ_BYTES = 64 * 1024
"""What Pillow reads at once."""
_MAX_SLOW_PIXELS = 4_000_000
"""Largest picture for those of Pillow's decoders that are written in Python, which take about a microsecond a pixel."""
_MAX_SLOW_BYTES_PER_PIXEL = 32
_FREE_SLOW_BYTES = 65_536
"""File size up to which those decoders read a file of any number of pixels."""
_MAX_TEXT_CHUNK = 8 * 1024 * 1024
"""Unpacked size of a PNG's text chunk; editors have been seen to write some mebibytes of a file's history."""
_MAX_SMALL_TILE = 2048 * 2048
_RAW_PROFILE = "Raw profile type exif"
"""Text chunk with the EXIF of PNG files from before the format had a chunk for it."""
_COLOR_BOX = re.compile(rb"(.{4})colr(.)..", re.DOTALL)
_ICC_METHOD = b"\2"
_ORIENTATIONS = range(1, 9)
_END_OF_JPEG = b"\xff\xd9"
_BMP_V5_BYTES = 124
_PROFILE_EMBEDDED = int.from_bytes(b"MBED")
_SEPARATE_PLANES = 2
"""Value of the TIFF tag PlanarConfiguration."""
_EMBEDDED_PNG = re.compile(rb"\x89PNG\r\n\x1a\n.{4}IHDR(.{4})(.{4})", re.DOTALL)

_DAMAGE = (
    OSError, ValueError, SyntaxError, TypeError, LookupError, ArithmeticError, EOFError, AttributeError,
    AssertionError, RuntimeError, SystemError, BufferError, struct.error, zlib.error,
)  # fmt: skip
"""Raised by Pillow's decoders for damaged files."""


@contextmanager
def pillow_errors_as_rejections(data: FileBytes, max_pixels: int) -> Iterator[None]:
    """Turn whatever Pillow raises about a file into one of our rejections."""
    try:
        yield
    except Image.DecompressionBombError as error:
        match = re.search(r"\((\d+) pixels\)", str(error))
        pixels = f"{int(match[1]):,}" if match else "too many"
        raise _too_many_pixels(pixels, max_pixels) from error
    except UnidentifiedImageError as error:
        if HEIF.name not in READABLE and re.match(HEIF.signature, data, re.DOTALL):
            raise UnsupportedFormat(f"it is a HEIC picture, which needs the extra '{HEIF.extra}' to be read") from error
        if looks_like_image(data):
            raise CorruptImage("it cannot be decoded: its header is cut off or damaged") from error
        raise UnsupportedFormat(f"the bytes are of none of these formats: {', '.join(READABLE)}") from error
    except MemoryError as error:
        raise PictureTooLarge("decoding it takes more memory than its header accounts for") from error
    except _DAMAGE as error:
        raise CorruptImage(f"it cannot be decoded: {str(error) or type(error).__name__}") from error


def _too_many_pixels(pixels: str, max_pixels: int) -> PictureTooLarge:
    return PictureTooLarge(f"it has {pixels} pixels and MAX_IMAGE_PIXELS is {max_pixels:,}")


class _MappedFile(io.RawIOBase):
    """Reads parts of memory as one file. Unlike `mmap` itself it can be told to seek beyond the end, as files can."""

    def __init__(self, parts: Sequence[memoryview]) -> None:
        self._parts = parts
        self._starts = list(itertools.accumulate(map(len, parts), initial=0))
        self._position = 0

    @classmethod
    def open(cls, parts: Sequence[memoryview]) -> io.BufferedReader:
        return io.BufferedReader(cls(parts), _READ_BYTES)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer") -> int:
        if self._position >= self._starts[-1]:
            return 0
        index = bisect_right(self._starts, self._position) - 1
        start = self._position - self._starts[index]
        part = self._parts[index][start : start + memoryview(buffer).nbytes]
        memoryview(buffer)[: len(part)] = part
        self._position += len(part)
        return len(part)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._starts[-1]}[whence]
        if start + offset < 0:
            raise ValueError(f"negative seek position {start + offset}")
        self._position = start + offset
        return self._position


Reading = Callable[[], AbstractContextManager[None]]
"""`pillow_errors_as_rejections` of a file: wraps every call in which a library reads it."""


@dataclass(frozen=True, slots=True)
class TiffLayout:
    """Layout of a TIFF's samples, from its tags; the defaults for other formats."""

    is_turned: bool = False
    white_is_zero: bool = False
    is_unsigned: bool = True
    block_bytes: int = 0
    """Size of a tile or strip, which libtiff unpacks as a whole; 0 if Pillow reads the file itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """Everything a file says of itself before it is decoded."""

    picture: ImageFile
    format: Format
    size: tuple[int, int]
    """As stored: not yet upright."""
    orientation: int | None
    """EXIF orientation of the pixels as they will be decoded, 1 to 8; None if it may stand behind the pixels."""
    icc_profile: bytes | None
    gamma: float | None
    """Of a PNG without a better statement about its colors."""
    code_points: CodePoints | None
    """The colors by code points, if they win over the profile."""
    sample_bits: int
    """Bits of one sample of a PNG, as stored; 8 for other formats."""
    buffered_samples: float
    """Samples per pixel of a JPEG that are held until its last scan."""
    tiff: TiffLayout
    ends_early: bool
    """True for a file without an end; of stills that is asked only if damaged pictures are shown."""
    is_cut: bool
    """True for a JPEG, PNG or GIF that ends too early, if that which is there is to be shown."""
    most_pixels: int
    """Pixels of the picture, or of a larger one inside of it that may be decoded in its place."""


def read_header(data: FileBytes, max_pixels: int, *, all_frames: bool, shows_damaged: bool = False) -> Header:
    """Read what a file says of itself; to be called under `pillow_errors_as_rejections`.

    If `shows_damaged`, a JPEG that ends too early is read as if it ended there.

    Raise PictureTooLarge if its decoder would take far too long, CorruptImage if it asks for unreasonable work.
    """
    check_structure(data, all_frames=all_frames)
    buffered_samples = check_jpeg(data) if data[:2] == b"\xff\xd8" else 0
    if kind := kind_never_read(data):
        raise _not_read(kind)
    # Pillow refuses above twice this, wherever it meets a size: in headers, frames and embedded files.
    Image.MAX_IMAGE_PIXELS = max_pixels / 2  # type: ignore[assignment]  # Pillow compares it only, and a half is exact
    PngImagePlugin.MAX_TEXT_CHUNK = _MAX_TEXT_CHUNK
    PngImagePlugin.MAX_TEXT_MEMORY = 2 * _MAX_TEXT_CHUNK
    is_early = (shows_damaged or all_frames) and ends_early(data, all_frames=all_frames)
    is_cut = shows_damaged and is_early
    picture = open_image(data, is_cut=is_cut)
    _check_decoder_speed(picture, len(data))
    if picture.format == PNG.name and not picture.tile:
        raise CorruptImage("it cannot be decoded: it has no picture data")
    image_format = JPEG if picture.format == "MPO" else FORMATS[picture.format or ""]
    if image_format is WEBP and picture.mode == "RGB" and getattr(picture, "n_frames", 1) > 1:
        # Viewers show an animation's empty canvas as transparent; Pillow asks the file's flags.
        picture._mode = picture.rawmode = "RGBA"  # type: ignore[attr-defined]  # noqa: SLF001 - Pillow sets it nowhere else
    return Header(
        picture=picture,
        format=image_format,
        size=picture.size,
        orientation=None if image_format is PNG else 1 if image_format.decodes_upright else read_orientation(picture),
        icc_profile=_read_profile(picture, image_format, data),
        gamma=None if "srgb" in picture.info else picture.info.get("gamma"),
        code_points=_read_code_points(data, picture, image_format),
        # From Pillow's raw mode, such as `RGB;16B`.
        sample_bits=int(str(picture.tile[0].args).partition(";")[2].rstrip("B") or 8) if image_format is PNG else 8,
        buffered_samples=buffered_samples,
        tiff=_read_tiff_layout(picture) if isinstance(picture, TiffImageFile) else TiffLayout(),
        ends_early=is_early,
        is_cut=is_cut,
        most_pixels=max(
            picture.width * picture.height, _embedded_pixels(data, max_pixels) if image_format is ICO else 0
        ),
    )


def open_image(data: FileBytes, *, is_cut: bool = False) -> ImageFile:
    """Let Pillow read the header; of a JPEG that `is_cut`, the decoder makes the rest gray."""
    parts = sound_parts(data) if data[:8] == b"\x89PNG\r\n\x1a\n" else [memoryview(data)]
    if is_cut and data[:2] == b"\xff\xd8":
        parts = [parts[0][: whole_segments(data)], memoryview(_END_OF_JPEG)]
    try:
        return Image.open(_MappedFile.open(parts), formats=READABLE)
    except _DAMAGE as error:
        if kind := kind_refused(data):
            raise _not_read(kind) from error
        raise


def _not_read(kind: str) -> UnsupportedFormat:
    return UnsupportedFormat(f"it is {kind}; such files are not read")


def _check_decoder_speed(picture: ImageFile, size: int) -> None:
    """Refuse a file that a decoder written in Python would take too long for."""
    codecs = {tile.codec_name for tile in picture.tile}
    if not codecs & Image.DECODERS.keys():
        return
    width, height = picture.size
    if width * height > _MAX_SLOW_PIXELS:
        raise PictureTooLarge(
            f"{width}x{height} is more than the {_MAX_SLOW_PIXELS:,} pixels that are decoded of a {picture.format} "
            f"file that is coded as this one is ({', '.join(sorted(codecs))})"
        )
    if size > _MAX_SLOW_BYTES_PER_PIXEL * width * height + _FREE_SLOW_BYTES:
        raise CorruptImage(f"it cannot be decoded: {size:,} bytes for {width}x{height} pixels waste time")


def _embedded_pixels(data: FileBytes, max_pixels: int) -> int:
    """Return the pixels of the largest PNG in an icon, whose directory may give another size.

    Pillow does not limit them.
    """
    sizes = (int.from_bytes(found[1]) * int.from_bytes(found[2]) for found in _EMBEDDED_PNG.finditer(data))
    pixels = max(sizes, default=0)
    if pixels > max_pixels:
        raise _too_many_pixels(f"{pixels:,}", max_pixels)
    return pixels


def _read_profile(picture: ImageFile, image_format: Format, data: FileBytes) -> bytes | None:
    if image_format is JPEG2000:
        return _jp2_profile(data)
    return _bmp_profile(data) if image_format is BMP else picture.info.get("icc_profile")


def _read_code_points(data: FileBytes, picture: Image.Image, image_format: Format) -> CodePoints | None:
    """Return what browsers believe: the code points of a PNG, but rather the profile of an AVIF or HEIC."""
    if image_format is PNG:
        return read_png(data)
    if image_format not in {AVIF, HEIF} or "icc_profile" in picture.info:
        return None
    return read_avif(data) if image_format is AVIF else read_heif(picture.info)


def _jp2_profile(data: FileBytes) -> bytes | None:
    """Return the ICC profile of a JPEG 2000's color specification box (ISO 15444-1, I.5.3.3), which Pillow ignores."""
    header = data[: data.find(b"jp2c")]
    box = _COLOR_BOX.search(header)
    if box is None or box[2] != _ICC_METHOD:
        return None
    return header[box.end() : box.start() + int.from_bytes(box[1])]


def _bmp_profile(data: FileBytes) -> bytes | None:
    """Return the ICC profile that a BMP of version 5 has (BITMAPV5HEADER), which Pillow ignores."""
    info_bytes, color_space, start, size = struct.unpack("<14xI52xI52xII", data[:134].ljust(134, b"\0"))
    if info_bytes < _BMP_V5_BYTES or color_space != _PROFILE_EMBEDDED:
        return None
    # From the beginning of this header.
    return data[14 + start : 14 + start + size] or None


def _read_tiff_layout(picture: TiffImageFile) -> TiffLayout:
    """Read the tags. Refuse tiles much larger than the picture, which would be decoded whole."""
    tags, base = picture.tag_v2, ExifTags.Base
    tile = int(tags.get(base.TileWidth, 0)), int(tags.get(base.TileLength, 0))
    if (pixels := tile[0] * tile[1]) > max(_MAX_SMALL_TILE, 4 * picture.width * picture.height):
        raise CorruptImage(f"it cannot be decoded: tiles of {pixels:,} pixels are made to waste memory")
    if picture.mode in {"LA", "La"} and tags.get(base.PlanarConfiguration) == _SEPARATE_PLANES:
        raise _not_read("a TIFF of gray and alpha in planes of their own")
    strip = picture.width, min(picture.height, int(tags.get(base.RowsPerStrip, picture.height)))
    width, height = tile if all(tile) else strip
    bits = [int(value) for value in tags.get(base.BitsPerSample, (1,))]
    is_unpacked_whole = any(part.codec_name == "libtiff" for part in picture.tile)
    return TiffLayout(
        is_turned=int(tags.get(base.Orientation, 1)) != 1,
        white_is_zero=tags.get(base.PhotometricInterpretation) == 0,
        is_unsigned=tags.get(base.SampleFormat, (1,))[0] == 1,
        block_bytes=width * height * len(bits) * max(bits, default=1) // 8 if is_unpacked_whole else 0,
    )


def read_orientation(picture: Image.Image) -> int:
    """Return the EXIF orientation, 1 to 8; 1, which is upright, if it is unreadable or absurd."""
    try:
        if _RAW_PROFILE in picture.info:
            exif = picture.getexif()
        else:
            # Not `getexif`: it falls back to XMP, which viewers ignore and editors leave stale.
            exif = Image.Exif()
            exif.load(picture.info.get("exif", b""))
        value = exif.get(ExifTags.Base.Orientation, 1)
    except _DAMAGE:
        return 1
    return value if isinstance(value, int) and value in _ORIENTATIONS else 1


def decode(header: Header, at_least: tuple[int, int], reading: Reading, *, all_frames: bool) -> Iterator[Image.Image]:
    """Yield the first picture, or all frames of an animation, as viewers show them.

    A JPEG is decoded at the smallest scale that is no smaller than asked. The picture that a PNG has for viewers
    without animation is none of its frames.
    """
    picture = header.picture
    first = 1 if all_frames and getattr(picture, "default_image", False) else 0
    undrawn = None if header.format is not GIF or fills_screen(picture) else Image.new("L", picture.size, 255)
    for index in itertools.count(first) if all_frames else [0]:
        with reading():
            try:
                if index:
                    picture.seek(index)
            except EOFError:
                if index == first:
                    raise
                return
            if header.format is JPEG:
                # Of a HEIC, this would choose a preview, which `find_preview` does.
                picture.draft(None, at_least)
            if isinstance(picture, TiffImageFile):
                _widen_planes(picture)
            drawn = [tile.extents for tile in picture.tile]
            picture.load()
        frame: Image.Image = picture
        if undrawn is not None and drawn:
            # A frame beyond the screen makes Pillow's picture larger.
            undrawn = undrawn.crop((0, 0, *picture.size))
            undrawn.paste(0, drawn[0])
            if undrawn.getbbox():
                # Viewers show nothing there, Pillow the palette's first entry.
                frame = picture.convert("RGBA")
                frame.paste((0, 0, 0, 0), mask=undrawn)
        yield frame


def fills_screen(gif: ImageFile) -> bool:
    """Return True if the frame to be decoded next leaves nothing of a GIF's screen empty."""
    return all(tile.extents in {None, (0, 0, *gif.size)} for tile in gif.tile)


def _widen_planes(picture: TiffImageFile) -> None:
    """Read uncompressed planes of 16-bit samples as such; Pillow would take each half of a sample for one of 8 bits."""
    tags = picture.tag_v2
    is_planar = tags.get(ExifTags.Base.PlanarConfiguration) == _SEPARATE_PLANES
    if not is_planar or set(tags.get(ExifTags.Base.BitsPerSample, (8,))) != {16}:
        return
    suffix = ";16B" if tags.prefix == b"MM" else ";16L"
    picture.tile = [
        tile._replace(args=(tile.args[0] + suffix, *tile.args[1:]))
        if tile.codec_name == "raw" and isinstance(tile.args, tuple) and len(tile.args[0]) == 1
        else tile
        for tile in picture.tile
    ]
