"""The image formats, one row each: names, abilities and measured costs.

Pure data: imports no library, so that what starts before Pillow is loaded can use it. A new format is a row here and
its library among the dependencies. How a file is decoded or encoded is not said here.
"""

import re
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from mmap import mmap

DEFAULT_SECONDS_PER_MIB = 0.020
"""Processor time to decode one mebibyte of a format that was not measured."""


@dataclass(frozen=True, slots=True)
class Format:
    """An image format. All figures are measured; memory is in bytes per pixel, at the peak."""

    name: str
    """Pillow's name."""
    media_type: str
    extensions: tuple[str, ...]
    """File extensions, in lower case, that mean this format if the content type says nothing."""
    _: KW_ONLY
    signature: bytes = b""
    """Regular expression that a file of this format begins with; empty if there is none."""
    plugin: str = ""
    """Module that registers a decoder with Pillow when imported; empty for a format that is recognised and refused."""
    extra: str = ""
    """Extra of this project that installs the plugin; empty if Pillow has it."""
    seconds_per_mib: float = DEFAULT_SECONDS_PER_MIB
    """Processor time to decode one mebibyte of the file."""
    decoding_bytes: float = 0
    """Memory to decode; 0 if it is just what the pixels take in their mode."""
    retains_decoder: bool = False
    """True if the decoder and its buffers live as long as the decoded picture."""
    decodes_upright: bool = False
    """True if the decoder applies the orientation, and the size in the header is the upright one."""
    animates: bool = False
    """True if the frames of an animation are read and written."""
    frame_bytes: int = 0
    """Memory to compose frames, in bytes per pixel of one frame; 0 if it is what `decoding_bytes` says."""
    output_extension: str = ""
    """File extension of a thumbnail in this format; empty if no thumbnail is, as not every browser shows it."""
    has_alpha: bool = False
    """True if a thumbnail in this format can be transparent."""
    encoding_bytes: tuple[int, int] = (0, 0)
    """Memory to encode an opaque thumbnail and one with transparency; measured on noise, photos and drawings."""


# fmt: off
HEIF = Format(
    "HEIF", "image/heic", (".heic", ".heif"), signature=rb".{4}ftyp(?:hei[cxms]|mif1|msf1)",
    plugin="pillow_heif.HeifImagePlugin", extra="heif", seconds_per_mib=0.150,
    decoding_bytes=16, retains_decoder=True, decodes_upright=True,
)
JPEG = Format(
    "JPEG", "image/jpeg", (".jfif", ".jpe", ".jpeg", ".jpg", ".mpo"), signature=rb"\xff\xd8\xff",
    plugin="PIL.JpegImagePlugin",
    seconds_per_mib=0.010, output_extension=".jpg", encoding_bytes=(4, 9),
)
PNG = Format(
    "PNG", "image/png", (".apng", ".png"), signature=rb"\x89PNG\r\n\x1a\n",
    plugin="PIL.PngImagePlugin", seconds_per_mib=0.020,
    animates=True, frame_bytes=12, output_extension=".png", has_alpha=True, encoding_bytes=(7, 10),
)
GIF = Format(
    "GIF", "image/gif", (".gif",), signature=rb"GIF8[79]a",
    plugin="PIL.GifImagePlugin", seconds_per_mib=0.010,
    animates=True, frame_bytes=12, output_extension=".gif", has_alpha=True, encoding_bytes=(29, 29),
)
WEBP = Format(
    "WEBP", "image/webp", (".webp",), signature=rb"RIFF.{4}WEBPVP8[ LX]",
    plugin="PIL.WebPImagePlugin", seconds_per_mib=0.065,
    decoding_bytes=16.5, retains_decoder=True, animates=True,
    output_extension=".webp", has_alpha=True, encoding_bytes=(23, 42),
)
AVIF = Format(
    "AVIF", "image/avif", (".avif",), signature=rb".{4}ftyp(?:avi[fs]|mif1|msf1)",
    plugin="PIL.AvifImagePlugin", seconds_per_mib=0.150,
    decoding_bytes=16, retains_decoder=True, output_extension=".avif", has_alpha=True, encoding_bytes=(48, 56),
)
TIFF = Format(
    "TIFF", "image/tiff", (".tif", ".tiff"), signature=rb"II(?:[*+]\x00|\x00\*)|MM(?:\x00[*+]|\*\x00)",
    plugin="PIL.TiffImagePlugin", seconds_per_mib=0.010, decodes_upright=True,
)
BMP = Format(
    "BMP", "image/bmp", (".bmp", ".dib"), signature=rb"BM",
    plugin="PIL.BmpImagePlugin", seconds_per_mib=0.004,
)
ICO = Format(
    "ICO", "image/vnd.microsoft.icon", (".ico",), signature=rb"\x00\x00\x01\x00",
    plugin="PIL.IcoImagePlugin", decoding_bytes=9,
)
JPEG2000 = Format(
    "JPEG2000", "image/jp2", (".j2c", ".j2k", ".jp2", ".jpf", ".jpx"),
    signature=rb"\xff\x4f\xff\x51|\x00\x00\x00\x0cjP  \r\n\x87\n",
    plugin="PIL.Jpeg2KImagePlugin", decoding_bytes=25,
)
PPM = Format(
    "PPM", "image/x-portable-anymap", (".pbm", ".pgm", ".pnm", ".ppm"), signature=rb"P[1-6][\s#]",
    plugin="PIL.PpmImagePlugin",
)
QOI = Format("QOI", "image/qoi", (".qoi",))
TGA = Format("TGA", "image/x-tga", (".tga",))
# fmt: on

FORMATS: Mapping[str, Format] = {
    row.name: row for row in (HEIF, JPEG, PNG, GIF, WEBP, AVIF, TIFF, BMP, ICO, JPEG2000, PPM, QOI, TGA)
}
"""By name, in the order in which decoders are tried: HEIF first, since AVIF's decoder would look into its files."""

OUTPUT_MEDIA_TYPES = frozenset(row.media_type for row in FORMATS.values() if row.output_extension)
"""Media types of thumbnails, all of which browsers show; never SVG, which is a program."""

EXTENSIONS = frozenset(extension for row in FORMATS.values() for extension in row.extensions)
"""File extensions, in lower case, that mean an image if the content type says nothing."""

HEAD_BYTES = 64
"""Number of a file's first bytes that tell if it is an image."""

_SIGNATURES = re.compile(b"|".join(row.signature for row in FORMATS.values() if row.signature), re.DOTALL)

_BY_MEDIA_TYPE = {row.media_type: row for row in FORMATS.values()}
_BY_EXTENSION = {extension: row for row in FORMATS.values() for extension in row.extensions}


def media_type_of(content_type: str) -> str:
    """Return a content type in lower case, without its parameters."""
    return content_type.partition(";")[0].strip().lower()


def format_of(content_type: str, name: str) -> Format | None:
    """Return the format that the content type says, or else the file extension; None if neither does."""
    _, dot, extension = name.rpartition("/")[2].rpartition(".")
    return _BY_MEDIA_TYPE.get(media_type_of(content_type)) or _BY_EXTENSION.get(dot + extension.lower())


def looks_like_image(head: bytes | mmap) -> bool:
    """Return True if a file's first bytes (`HEAD_BYTES` are enough) are those of an image, readable here or not."""
    return _SIGNATURES.match(head) is not None
