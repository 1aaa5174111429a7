"""Image file to header: format, size, orientation, colors and coding of the pixels, read before anything is decoded.

All that the header tells is refused here. Knows nothing of thumbnails.
"""

import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import ExifTags, Image, PngImagePlugin
from PIL.ImageFile import ImageFile
from PIL.TiffImagePlugin import TiffImageFile

from service.errors import CorruptImage, PictureTooLarge
from service.images.code_points import CodePoints, read_avif, read_heif, read_png
from service.images.formats import AVIF, BMP, FORMATS, HEIF, ICO, JPEG, JPEG2000, PNG, WEBP, Format
from service.images.kinds import kind_never_read
from service.images.pillow import DAMAGE, not_read, open_image, too_many_pixels
from service.images.scans import dc_scans
from service.images.validation import FileBytes, JpegLayout, check_jpeg, check_structure, ends_early

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
_BMP_V5_BYTES = 124
_PROFILE_EMBEDDED = int.from_bytes(b"MBED")
SEPARATE_PLANES = 2
"""Value of the TIFF tag PlanarConfiguration."""
_EMBEDDED_PNG = re.compile(rb"\x89PNG\r\n\x1a\n.{4}IHDR(.{4})(.{4})", re.DOTALL)


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
    jpeg: JpegLayout
    dc_scans: Sequence[memoryview]
    """Parts of a progressive JPEG that are enough for an eighth of its size; see `scans`."""
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
    jpeg = check_jpeg(data) if data[:2] == b"\xff\xd8" else JpegLayout()
    if kind := kind_never_read(data):
        raise not_read(kind)
    # Pillow refuses above twice this, wherever it meets a size: in headers, frames and embedded files.
    Image.MAX_IMAGE_PIXELS = (max_pixels + 1) // 2
    PngImagePlugin.MAX_TEXT_CHUNK = _MAX_TEXT_CHUNK
    PngImagePlugin.MAX_TEXT_MEMORY = 2 * _MAX_TEXT_CHUNK
    is_early = (shows_damaged or all_frames) and ends_early(data, all_frames=all_frames)
    is_cut = shows_damaged and is_early
    picture = open_image(data, is_cut=is_cut)
    if (pixels := picture.width * picture.height) > max_pixels:
        raise too_many_pixels(f"{pixels:,}", max_pixels)
    _check_decoder_speed(picture, len(data))
    if picture.format == PNG.name and not picture.tile:
        raise CorruptImage("it cannot be decoded: it has no picture data")
    image_format = JPEG if picture.format == "MPO" else FORMATS[picture.format or ""]
    if image_format is WEBP and picture.mode == "RGB" and getattr(picture, "n_frames", 1) > 1:
        # Viewers show an animation's empty canvas as transparent; Pillow asks the file's flags.
        picture._mode = picture.rawmode = "RGBA"  # type: ignore[attr-defined]  # noqa: SLF001 - `mode` itself is read-only
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
        jpeg=jpeg,
        dc_scans=dc_scans(data, jpeg.progressive_segments),
        tiff=_read_tiff_layout(picture) if isinstance(picture, TiffImageFile) else TiffLayout(),
        ends_early=is_early,
        is_cut=is_cut,
        most_pixels=max(pixels, _embedded_pixels(data, max_pixels) if image_format is ICO else 0),
    )


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
        raise too_many_pixels(f"{pixels:,}", max_pixels)
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
    # A bare stream of coded pixels has no boxes.
    box = _COLOR_BOX.search(data, 0, max(data.find(b"jp2c"), 0))
    if box is None or box[2] != _ICC_METHOD:
        return None
    return data[box.end() : box.start() + int.from_bytes(box[1])]


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
    if picture.mode in {"LA", "La"} and tags.get(base.PlanarConfiguration) == SEPARATE_PLANES:
        raise not_read("a TIFF of gray and alpha in planes of their own")
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
    except DAMAGE:
        return 1
    return value if isinstance(value, int) and value in _ORIENTATIONS else 1
