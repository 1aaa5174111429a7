"""From the bytes of an image file to small pictures whose pixels are right, or to the reason why there are none.

Knows what Pillow reads wrongly, and puts it right or refuses it. What a header tells (format, size, how the pixels are
coded, what decoding them will take) is told before anything is decoded.
"""

import io
import re
import struct
import zlib
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain

# Importing a plugin registers it; otherwise the first unknown file would import all of Pillow's.
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
from service.structure import check_structure, read_jpeg

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
_COEFFICIENT_BYTES = 2.03
"""Of a sample of a JPEG whose coefficients are held until its last scan, measured."""
_MAX_SLOW_BYTES_A_PIXEL = 32
_FREE_SLOW_BYTES = 65_536
"""How large a file of few pixels may be that one of those decoders reads."""
_MAX_SMALL_TILE = 2048 * 2048
_STRIP_PIXELS = 1_000_000
_ORIENTATION = 0x0112
_RAW_PROFILE = "Raw profile type exif"
"""Where PNG files had their EXIF before the format had a chunk for it."""
_PLANAR_CONFIGURATION = 284
_BITS_PER_SAMPLE = 258
_PHOTOMETRIC = 262
_SAMPLE_FORMAT = 339
_TILE_WIDTH, _TILE_LENGTH = 322, 323
_ROWS_PER_STRIP = 278
_EMBEDDED_PNG = re.compile(rb"\x89PNG\r\n\x1a\n.{4}IHDR(.{4})(.{4})", re.DOTALL)
_WIDE_MODES = frozenset({"I", "I;16", "I;16B", "I;16L", "I;16N", "F"})

_DAMAGE = (
    OSError, ValueError, SyntaxError, TypeError, LookupError, ArithmeticError, EOFError, AttributeError,
    AssertionError, RuntimeError, SystemError, MemoryError, BufferError, struct.error, zlib.error,
)  # fmt: skip
"""What Pillow's decoders raise when they meet damage; MemoryError where a damaged header asks for absurdly much."""

_BYTES_A_PIXEL = {"WEBP": 16.5, "AVIF": 16, "HEIF": 16, "JPEG2000": 25, "ICO": 9}
"""What decoding takes at its peak, measured; of the formats that are not named, `_MODE_BYTES`."""

_MODE_BYTES = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16B": 2, "I;16L": 2, "I;16N": 2}
"""Bytes that Pillow holds for a pixel; 4 in any other mode."""

_FRAME_BYTES = {"GIF": 12, "PNG": 12}
"""What putting an animation's frames together takes a pixel of one frame, measured; WebP's decoder always does it."""

_KEPT_DECODERS = frozenset({"WEBP", "AVIF", "HEIF"})

_STRIP_BYTES = {"1": 8, "P": 8}
"""What converting takes a pixel of a strip, measured; 13 from any other mode."""

_ENCODING_BYTES = {"JPEG": (4, 9), "PNG": (7, 10), "GIF": (29, 29), "WEBP": (23, 42), "AVIF": (48, 56)}
"""What encoding takes a pixel of the thumbnail at its peak, opaque and not, measured on noise, photos and drawings."""

_INDEXING_BYTES = 28
"""What finding a palette takes a pixel of the thumbnail, measured on noise."""

_ANY_PICTURE = 2 * 1024 * 1024
"""Bytes for rows, tables and other small things."""


def begins_like_an_image(head: bytes) -> bool:
    """Whether a file's first bytes (`HEAD_BYTES` are enough) are those of an image, readable here or not."""
    return head[4:12] in _HEIC_SIGNATURES or any(
        accept(head) is True for name in READABLE if (accept := Image.OPEN[name][1])
    )


@contextmanager
def rejecting_damage(data: bytes, max_pixels: int) -> Iterator[None]:
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
        if begins_like_an_image(data[:HEAD_BYTES]):
            raise CorruptImage("it cannot be decoded: its header is cut off, damaged, or of a rare kind") from error
        raise UnsupportedFormat(f"the bytes are of none of these formats: {', '.join(READABLE)}") from error
    except _DAMAGE as error:
        raise CorruptImage(f"it cannot be decoded: {str(error) or type(error).__name__}") from error


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
    buffered: float
    """Bytes a pixel that the decoder holds of the whole picture, whatever scale it decodes at."""

    def weight(self, at_least: tuple[int, int], targets: Collection[str] = (), held: int = 0) -> int:
        """Return the most bytes that decoding, shrinking and encoding will take at once, beyond the file's own.

        Args:
            at_least: the size to decode to, at the least: twice that of the largest thumbnail.
            targets: Pillow's names of the formats to encode; without any, the source's own.
            held: the pixels of all thumbnails that are held until they are encoded together, as an animation's are.
        """
        (width, height), mode = self.size, self.picture.mode
        # As `decode` and `shrinkable` will: a JPEG's scale, a power of 2, and how many pixels become one cheaply.
        fraction = max(1, min(8, width // at_least[0], height // at_least[1])) if self.format == "JPEG" else 1
        scale = 1 << fraction.bit_length() - 1
        columns, rows = -(-width // scale), -(-height // scale)
        raster = columns * rows * _MODE_BYTES.get(mode, 4)
        across, down = max(1, columns // at_least[0]), max(1, rows // at_least[1])
        columns, rows = -(-columns // across), -(-rows // down)
        decoding = width * height * self.buffered
        if self.format == "JPEG":
            decoding += raster
        elif self.format == "TIFF":
            decoding += _tiff_extra(self.picture)
        elif self.format == "GIF" and not _fills_its_screen(self.picture):
            decoding, raster = 10 * width * height, 4 * width * height
        opaque = mode in {"RGB", "L", "CMYK", "LAB"} and "transparency" not in self.picture.info
        strips = 0 if opaque else _STRIP_BYTES.get(mode, 13) * min(width * height, _STRIP_PIXELS)
        reduced = 0 if opaque and across * down == 1 else 4 * columns * rows
        thumbnail = at_least[0] * at_least[1] // 4
        encoding = max(_ENCODING_BYTES.get(target, (7, 10))[not opaque] for target in targets or (self.format,))
        if mode == "P":
            encoding = max(encoding, _INDEXING_BYTES)
        # Resized across first and then down; then turned, converted, encoded.
        finishing = 4 * thumbnail + max(2 * at_least[0] * rows, encoding * thumbnail)
        if held:
            decoding = width * height * max(self.buffered, _FRAME_BYTES.get(self.format, 0))
            # The encoder has copies, and that of PNG the differences between them, too.
            held *= 13 if "PNG" in (targets or {self.format}) else 8
            return int(decoding + strips + reduced + finishing) + held + _ANY_PICTURE
        # Some decoders live on, with all they hold besides the picture, until the picture goes.
        kept = decoding - raster if self.format in _KEPT_DECODERS else 0
        after = kept + max(raster + reduced + strips, (reduced or raster) + finishing)
        return int(max(decoding, after)) + _ANY_PICTURE


def _fills_its_screen(picture: Image.Image) -> bool:
    return all(tile.extents in {None, (0, 0, *picture.size)} for tile in getattr(picture, "tile", ()))


def _tiff_extra(picture: Image.Image) -> int:
    """Bytes that a TIFF takes besides its pixels: a strip or tile that is unpacked, a second picture where it turns."""
    tags = getattr(picture, "tag_v2", {})
    width, height = picture.size
    extra = 0 if tags.get(_ORIENTATION, 1) == 1 else width * height * _MODE_BYTES.get(picture.mode, 4)
    if any(tile.codec_name == "libtiff" for tile in getattr(picture, "tile", ())):
        bits = tags.get(_BITS_PER_SAMPLE, (1,))
        rows = int(tags.get(_TILE_LENGTH) or min(height, tags.get(_ROWS_PER_STRIP, height)))
        extra += int(tags.get(_TILE_WIDTH, width)) * rows * len(bits) * max(bits) // 8
    return extra


def read_header(data: bytes, max_pixels: int, *, all_frames: bool) -> Header:
    """Read what a file says of itself; to be called under `rejecting_damage`.

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
    buffered: float = _BYTES_A_PIXEL.get(image_format) or _MODE_BYTES.get(picture.mode, 4)
    if image_format == "JPEG":
        buffered = _COEFFICIENT_BYTES * jpeg.samples_a_pixel if jpeg and jpeg.buffered else 0
    elif image_format == "TIFF":
        _check_tiles(picture)
    elif image_format == "ICO":
        for found in _EMBEDDED_PNG.finditer(data):
            Image._decompression_bomb_check((int.from_bytes(found[1]), int.from_bytes(found[2])))  # noqa: SLF001
            buffered = max(buffered, 9 * int.from_bytes(found[1]) * int.from_bytes(found[2]) / (width * height))
    return Header(
        picture,
        image_format,
        picture.size,
        None if image_format == "PNG" else read_orientation(picture),
        _profile_of_jp2(data) if image_format == "JPEG2000" else picture.info.get("icc_profile"),
        None if "srgb" in picture.info else picture.info.get("gamma"),
        _sample_bits(picture),
        buffered,
    )


def _profile_of_jp2(data: bytes) -> bytes | None:
    """The ICC profile in a JPEG 2000's colour specification box (ISO 15444-1, I.5.3.3), which Pillow leaves there."""
    header, _, _ = data.partition(b"jp2c")
    start = header.find(b"colr")
    if start < 4 or header[start + 4 : start + 5] != b"\2":  # noqa: PLR2004 - the box begins with its length
        return None
    return header[start + 7 : start - 4 + int.from_bytes(header[start - 4 : start])]


def _check_tiles(picture: Image.Image) -> None:
    """Refuse tiles much larger than the picture, which would be decoded whole."""
    tags = getattr(picture, "tag_v2", {})
    tile = int(tags.get(_TILE_WIDTH, 0)) * int(tags.get(_TILE_LENGTH, 0))
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
    picture.tile = [  # type: ignore[attr-defined]
        tile._replace(args=(tile.args[0] + suffix, *tile.args[1:]))
        if tile.codec_name == "raw" and len(tile.args[0]) == 1
        else tile
        for tile in tiles
    ]


@dataclass(frozen=True, slots=True)
class Shrinkable:
    """A picture in a mode that can be averaged: RGB, L, CMYK, LAB, or RGBa (premultiplied)."""

    picture: Image.Image
    box: tuple[float, float, float, float]
    """What of it is the picture, in its pixels; the last row and column may be of fewer than the others."""

    def resized(self, size: tuple[int, int], gap: float) -> Image.Image:
        """Return it at this size; RGBa becomes RGBA."""
        small = self.picture.resize(size, Image.Resampling.LANCZOS, self.box, gap)
        return small.convert("RGBA") if small.mode == "RGBa" else small


def shrinkable(picture: Image.Image, sample_bits: int, target: tuple[int, int], gap: float) -> Shrinkable:
    """Bring a decoded picture into a mode that can be averaged, and down to some `gap` times the target.

    What has to be converted is converted strip by strip, so that no second picture of the full size is ever held.
    """
    across = max(1, int(picture.width / target[0] / gap))
    down = max(1, int(picture.height / target[1] / gap))
    box = (0.0, 0.0, picture.width / across, picture.height / down)
    convert = _conversion(picture, sample_bits)
    if convert is None:
        return Shrinkable(picture.reduce((across, down)) if across * down > 1 else picture, box)
    rows = max(down, _STRIP_PIXELS // picture.width // down * down)
    strips = (
        convert(picture.crop((0, top, picture.width, min(top + rows, picture.height)))).reduce((across, down))
        for top in range(0, picture.height, rows)
    )
    first = next(strips)
    small = Image.new(first.mode, (first.width, -(-picture.height // down)))
    for index, strip in enumerate(chain([first], strips)):
        small.paste(strip, (0, index * rows // down))
    return Shrinkable(small, box)


_Conversion = Callable[[Image.Image], Image.Image]


def _conversion(picture: Image.Image, sample_bits: int) -> _Conversion | None:
    """How to bring a strip of the picture into a mode that can be averaged; None where it is in one."""
    key = picture.info.get("transparency")
    if picture.mode in _WIDE_MODES:
        return _from_wide(picture, key if isinstance(key, int) else None)
    if picture.mode == "L" and isinstance(key, int):
        # Pillow scales the samples of a PNG of 2 or 4 bits to 8, and not the value that is transparent.
        return _from_gray(key * (255 // (2**sample_bits - 1)))
    if picture.mode == "RGB" and isinstance(key, tuple) and sample_bits == 16:  # noqa: PLR2004 - bits
        # Of samples of 16 bits Pillow keeps the upper 8, and of the value that is transparent all.
        picture.info["transparency"] = tuple(value >> 8 for value in key)
    if picture.mode in {"RGBA", "LA", "PA", "RGBa", "La"} or key is not None:
        return _premultiplied
    if picture.mode in {"RGB", "L", "CMYK", "LAB"}:
        return None
    wanted = "L" if picture.mode == "1" else "RGB"
    return lambda strip: strip.convert(wanted)


def _premultiplied(strip: Image.Image) -> Image.Image:
    return (strip if strip.mode == "RGBA" else strip.convert("RGBA")).convert("RGBa")


def _from_gray(transparent: int) -> _Conversion:
    alpha = [0 if value == transparent else 255 for value in range(256)]
    return lambda strip: _premultiplied(Image.merge("LA", [strip, strip.point(alpha)]))


def _from_wide(picture: Image.Image, transparent: int | None) -> _Conversion:
    """Scale samples of 16 or 32 bits to 8; clipping them would make all of a bright picture white."""
    low, high = (0, 65535) if picture.mode.startswith("I;16") else _extrema(picture)
    tags = getattr(picture, "tag_v2", {})
    if low < 0 and picture.mode == "I" and tags.get(_SAMPLE_FORMAT, (1,))[0] == 1:
        raise UnsupportedFormat("its samples are unsigned, of 32 bits, and some are too large to be read")
    convert = _scaled(picture, low, high, transparent)
    if tags.get(_PHOTOMETRIC) == 0:
        # White is zero, which Pillow heeds for samples of up to 8 bits alone.
        return lambda strip: convert(strip).point(range(255, -1, -1))
    return convert


def _scaled(picture: Image.Image, low: float, high: float, transparent: int | None) -> _Conversion:
    if picture.mode != "F" and low >= 0 and high <= 65535:  # noqa: PLR2004 - 16 bits
        gray = [(value + 128) // 257 for value in range(65536)]
        alpha = [0 if value == transparent else 255 for value in range(65536)]

        def convert(strip: Image.Image) -> Image.Image:
            wide = strip.convert("I")
            if transparent is None:
                return wide.point(gray, "L")
            return _premultiplied(Image.merge("LA", [wide.point(gray, "L"), wide.point(alpha, "L")]))

        return convert
    # Floating point is from 0 to 1 by convention; else the file's own range is the only one known.
    bottom, top = (0.0, 1.0) if low >= 0 and high <= 1 else (min(low, 0), max(high, 255))
    scale = 255 / (top - bottom)
    return lambda strip: strip.convert("F").point(lambda value: value * scale - bottom * scale).convert("L")


def _extrema(picture: Image.Image) -> tuple[float, float]:
    low, high = picture.getextrema()
    if isinstance(low, tuple) or isinstance(high, tuple):
        raise TypeError(f"no range of values in mode {picture.mode}")
    return low, high
