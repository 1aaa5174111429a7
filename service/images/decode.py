"""From the bytes of an image file to its decoded picture, or to the reason why there is none.

What a header tells (format, size, orientation, how the pixels are coded) is told, and refused, before anything is
decoded. Knows nothing of thumbnails.
"""

import io
import re
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

# Importing a plugin registers it; otherwise the first unknown file would import all of Pillow's.
import PIL
from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    IcoImagePlugin,
    Image,
    Jpeg2KImagePlugin,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,
)

from service.errors import CorruptImage, PictureTooLarge, UnsupportedFormat
from service.images.validation import JpegScans, check_structure, read_jpeg

try:
    import pi_heif
except ImportError:
    _HEIF: tuple[str, ...] = ()
else:
    pi_heif.register_heif_opener()
    _HEIF = ("HEIF",)

READABLE = _HEIF + tuple(
    plugin.format
    for plugin in (
        JpegImagePlugin.JpegImageFile,
        PngImagePlugin.PngImageFile,
        GifImagePlugin.GifImageFile,
        WebPImagePlugin.WebPImageFile,
        AvifImagePlugin.AvifImageFile,
        TiffImagePlugin.TiffImageFile,
        BmpImagePlugin.BmpImageFile,
        IcoImagePlugin.IcoImageFile,
        Jpeg2KImagePlugin.Jpeg2KImageFile,
        PpmImagePlugin.PpmImageFile,
    )
)
"""Pillow's names of the formats that are read; HEIF where the extra `heif` is installed. No other decoder is tried."""

HEAD_BYTES = 64
"""How many of a file's first bytes tell whether it is an image."""

_HEIC_SIGNATURES = frozenset(b"ftyp" + brand for brand in (b"heic", b"heix", b"heim", b"heis", b"mif1", b"msf1"))
_MAX_SLOW_PIXELS = 4_000_000
"""The largest picture for those decoders of Pillow that are written in Python, at about a microsecond a pixel."""
_MAX_TEXT_CHUNK = 8 * 1024 * 1024
"""Of a PNG, unpacked: what editors write of a file's history has been seen to be some mebibytes."""
_MAX_SLOW_BYTES_A_PIXEL = 32
_FREE_SLOW_BYTES = 65_536
"""How large a file of few pixels may be that one of those decoders reads."""
_MAX_SMALL_TILE = 2048 * 2048
_ORIENTATION = 0x0112
_RAW_PROFILE = "Raw profile type exif"
"""Where PNG files had their EXIF before the format had a chunk for it."""
_PLANAR_CONFIGURATION = 284
_BITS_PER_SAMPLE = 258
_PHOTOMETRIC, _SAMPLE_FORMAT = 262, 339
_ROWS_PER_STRIP = 278
_TILE_WIDTH, _TILE_LENGTH = 322, 323
_EMBEDDED_PNG = re.compile(rb"\x89PNG\r\n\x1a\n.{4}IHDR(.{4})(.{4})", re.DOTALL)

_DAMAGE = (
    OSError, ValueError, SyntaxError, TypeError, LookupError, ArithmeticError, EOFError, AttributeError,
    AssertionError, RuntimeError, SystemError, MemoryError, BufferError, struct.error, zlib.error,
)  # fmt: skip
"""What Pillow's decoders raise when they meet damage; MemoryError where a damaged header asks for absurdly much."""


def looks_like_image(head: bytes) -> bool:
    """Whether a file's first bytes (`HEAD_BYTES` are enough) are those of an image, readable here or not."""
    return head[4:12] in _HEIC_SIGNATURES or any(
        accept(head) is True for name in READABLE if (accept := Image.OPEN[name][1])
    )


def readers() -> str:
    """Name what decodes here: with another version or another format, what was refused may be read."""
    return f"Pillow {PIL.__version__} for {', '.join(READABLE)}"


@contextmanager
def pillow_errors_as_rejections(data: bytes, max_pixels: int) -> Iterator[None]:
    """Turn whatever Pillow raises of a file into one of our rejections."""
    try:
        yield
    except Image.DecompressionBombError as error:
        match = re.search(r"\((\d+) pixels\)", str(error))
        pixels = f"{int(match[1]):,}" if match else "too many"
        raise PictureTooLarge(f"it has {pixels} pixels and MAX_IMAGE_PIXELS is {max_pixels:,}") from error
    except UnidentifiedImageError as error:
        if data[4:12] in _HEIC_SIGNATURES and not _HEIF:
            raise UnsupportedFormat("it is a HEIC picture, which needs the extra 'heif' to be read") from error
        if looks_like_image(data[:HEAD_BYTES]):
            raise CorruptImage("it cannot be decoded: its header is cut off, damaged, or of a rare kind") from error
        raise UnsupportedFormat(f"the bytes are of none of these formats: {', '.join(READABLE)}") from error
    except _DAMAGE as error:
        raise CorruptImage(f"it cannot be decoded: {str(error) or type(error).__name__}") from error


@dataclass(frozen=True, slots=True)
class TiffLayout:
    """How the samples of a TIFF are laid out, read from its tags once; a file without tags has the defaults."""

    orientation: int = 1
    bits: tuple[int, ...] = (1,)
    """Of each sample of a pixel."""
    white_is_zero: bool = False
    is_unsigned: bool = True
    tile: tuple[int, int] | None = None
    """Width and height, if the pixels are stored in tiles."""
    rows_per_strip: int | None = None


@dataclass(frozen=True, slots=True)
class Header:
    """What a file says of itself before it is decoded."""

    picture: Image.Image
    format: str
    """Pillow's name; MPO counts as JPEG, which it is."""
    size: tuple[int, int]
    """As stored: not yet upright."""
    orientation: int | None
    """EXIF orientation of the pixels as they will be decoded, 1 to 8; None where it may stand behind the pixels."""
    icc_profile: bytes | None
    gamma: float | None
    """Of a PNG that says nothing better of its colours."""
    sample_bits: int
    """Of a PNG: the bits of one sample, as stored."""
    jpeg: JpegScans | None
    """Of a JPEG, how its samples are laid out."""
    tiff: TiffLayout
    most_pixels: int
    """Of the picture, or of one that is inside of it and may be decoded in its place."""


def read_header(data: bytes, max_pixels: int, *, all_frames: bool) -> Header:
    """Read what a file says of itself; to be called under `pillow_errors_as_rejections`.

    Args:
        data: the file.
        max_pixels: a picture with more is refused.
        all_frames: whether all frames of an animation will be read.

    Raises:
        PictureTooLarge: its decoder would take far too long.
        CorruptImage: it asks for unreasonable work.
    """
    check_structure(data, all_frames=all_frames)
    jpeg = read_jpeg(data) if data.startswith(b"\xff\xd8") else None
    # Pillow refuses above twice this, wherever it meets a size: in headers, frames and embedded files.
    Image.MAX_IMAGE_PIXELS = max_pixels / 2  # type: ignore[assignment]  # an odd limit has a half
    PngImagePlugin.MAX_TEXT_CHUNK = _MAX_TEXT_CHUNK
    PngImagePlugin.MAX_TEXT_MEMORY = 2 * _MAX_TEXT_CHUNK
    picture = Image.open(io.BytesIO(data), formats=READABLE)
    width, height = picture.size
    codecs = {tile.codec_name for tile in getattr(picture, "tile", ())}
    if codecs & Image.DECODERS.keys():
        if width * height > _MAX_SLOW_PIXELS:
            raise PictureTooLarge(
                f"{width}x{height} is more than the {_MAX_SLOW_PIXELS:,} pixels that are decoded of a {picture.format} "
                f"file that is coded as this one is ({', '.join(sorted(codecs))})"
            )
        if len(data) > _MAX_SLOW_BYTES_A_PIXEL * width * height + _FREE_SLOW_BYTES:
            raise CorruptImage(f"it cannot be decoded: {len(data):,} bytes for {width}x{height} pixels waste time")
    image_format = "JPEG" if picture.format == "MPO" else picture.format or ""
    most_pixels = width * height
    tiff = TiffLayout()
    if image_format == "TIFF":
        tiff = _read_tiff_layout(picture)
        _check_tiles(picture, tiff)
    elif image_format == "WEBP":
        _keep_nothing_transparent(picture)
    elif image_format == "ICO":
        # What the directory says of their size need not be true.
        for found in _EMBEDDED_PNG.finditer(data):
            inside = int.from_bytes(found[1]), int.from_bytes(found[2])
            Image._decompression_bomb_check(inside)  # noqa: SLF001 - the check that Pillow leaves out here
            most_pixels = max(most_pixels, inside[0] * inside[1])
    return Header(
        picture,
        image_format,
        picture.size,
        None if image_format == "PNG" else read_orientation(picture),
        _profile_of_jp2(data) if image_format == "JPEG2000" else picture.info.get("icc_profile"),
        None if "srgb" in picture.info else picture.info.get("gamma"),
        _sample_bits(picture),
        jpeg,
        tiff,
        most_pixels,
    )


def _profile_of_jp2(data: bytes) -> bytes | None:
    """The ICC profile in a JPEG 2000's colour specification box (ISO 15444-1, I.5.3.3), which Pillow leaves there."""
    header, _, _ = data.partition(b"jp2c")
    start = header.find(b"colr")
    if start < 4 or header[start + 4 : start + 5] != b"\2":  # noqa: PLR2004 - the box begins with its length
        return None
    return header[start + 7 : start - 4 + int.from_bytes(header[start - 4 : start])]


def _read_tiff_layout(picture: Image.Image) -> TiffLayout:
    tags = getattr(picture, "tag_v2", {})
    tile = int(tags.get(_TILE_WIDTH, 0)), int(tags.get(_TILE_LENGTH, 0))
    rows = tags.get(_ROWS_PER_STRIP)
    return TiffLayout(
        orientation=int(tags.get(_ORIENTATION, 1)),
        bits=tuple(map(int, tags.get(_BITS_PER_SAMPLE, (1,)))),
        white_is_zero=tags.get(_PHOTOMETRIC) == 0,
        is_unsigned=tags.get(_SAMPLE_FORMAT, (1,))[0] == 1,
        tile=tile if all(tile) else None,
        rows_per_strip=None if rows is None else int(rows),
    )


def _check_tiles(picture: Image.Image, tiff: TiffLayout) -> None:
    """Refuse tiles much larger than the picture, which would be decoded whole."""
    if tiff.tile is None:
        return
    tile = tiff.tile[0] * tiff.tile[1]
    if tile > max(_MAX_SMALL_TILE, 4 * picture.width * picture.height):
        raise CorruptImage(f"it cannot be decoded: tiles of {tile:,} pixels are made to waste memory")


def read_orientation(picture: Image.Image) -> int:
    """EXIF orientation, 1 to 8, of the pixels as they will be decoded; unreadable or absurd counts as upright."""
    if picture.format in {"TIFF", "HEIF"}:
        return 1  # Their decoders turn the pixels, and their size is the upright one.
    try:
        if _RAW_PROFILE in picture.info:
            exif = picture.getexif()
        else:
            # Not `getexif`: it falls back to XMP, which viewers do not heed and editors leave stale.
            exif = Image.Exif()
            exif.load(picture.info.get("exif", b""))
        value = exif.get(_ORIENTATION, 1)
    except _DAMAGE:
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1  # noqa: PLR2004 - as EXIF numbers them


def _sample_bits(picture: Image.Image) -> int:
    tiles = getattr(picture, "tile", None)
    if picture.format != "PNG" or not tiles:
        return 8
    raw_mode = tiles[0].args if isinstance(tiles[0].args, str) else tiles[0].args[0]
    bits = raw_mode.partition(";")[2].rstrip("B")
    return int(bits) if bits.isdigit() else 8


def decode(header: Header, at_least: tuple[int, int]) -> Image.Image:
    """Decode the (first) picture; a JPEG at the smallest scale that is still as large as asked.

    Raises:
        UnsupportedFormat: its samples are of a kind that Pillow reads wrongly.
    """
    picture = header.picture
    picture.draft(None, at_least)
    if header.format == "TIFF":
        _widen_planes(picture)
    covered = [tile.extents for tile in getattr(picture, "tile", ())] if header.format == "GIF" else []
    picture.load()
    if covered and covered[0] not in {None, (0, 0, *picture.size)}:
        return _on_nothing(picture, covered[0])
    return picture


def _keep_nothing_transparent(picture: Image.Image) -> None:
    """Have an animated WebP's empty canvas decoded as transparent, which it is whatever the file's flags say."""
    if getattr(picture, "n_frames", 1) > 1 and picture.mode == "RGB":
        picture._mode = picture.rawmode = "RGBA"  # type: ignore[attr-defined]  # noqa: SLF001 - Pillow asks the flags


def _on_nothing(picture: Image.Image, covered: tuple[int, int, int, int]) -> Image.Image:
    """A GIF's frame on a larger screen, of which the rest shows nothing; Pillow shows the palette's first entry."""
    screen = Image.new("RGBA", picture.size)
    screen.paste(picture.crop(covered).convert("RGBA"), covered)
    return screen


def _widen_planes(picture: Image.Image) -> None:
    """Read uncompressed planes of 16-bit samples as such; Pillow would take each half of a sample for one of 8 bits."""
    tags = getattr(picture, "tag_v2", {})
    bits = tags.get(_BITS_PER_SAMPLE, (8,))
    if tags.get(_PLANAR_CONFIGURATION) != 2 or set(bits) != {16}:  # noqa: PLR2004 - separate planes, bits
        return
    suffix = ";16B" if getattr(tags, "prefix", b"II") == b"MM" else ";16L"
    tiles = getattr(picture, "tile", [])
    picture.tile = [  # type: ignore[attr-defined]  # a TIFF has tiles, which `Image` does not know of
        tile._replace(args=(tile.args[0] + suffix, *tile.args[1:]))
        if tile.codec_name == "raw" and len(tile.args[0]) == 1
        else tile
        for tile in tiles
    ]
