"""Image bytes in, thumbnail bytes out. The only file that knows Pillow, and it knows nothing of storage.

What can be done before the pixels are decoded is done before: a picture is refused by the size in its header, and a
JPEG is decoded at a fraction of its size. Turning upright and converting colours come after shrinking, where they
cost nothing.
"""

import functools
import io
import re
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Self

# Importing a plugin registers it; otherwise the first unknown file would import all of Pillow's.
from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    IcoImagePlugin,
    Image,
    ImageCms,
    Jpeg2KImagePlugin,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    QoiImagePlugin,
    TiffImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,
)

from service.errors import CorruptImage, InvalidValue, PictureTooLarge, UnsupportedFormat

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
        QoiImagePlugin.QoiImageFile,
    )
)
"""Pillow's names of the formats that are read; HEIF where the extra `heif` is installed. No other decoder is tried."""

_HEIC_SIGNATURES = frozenset(b"ftyp" + brand for brand in (b"heic", b"heix", b"heim", b"heis", b"mif1", b"msf1"))

_SHRINK_GAP = 2.0
"""How much larger than the thumbnail the cheap first reduction leaves the picture (Pillow's `reducing_gap`)."""

_MAX_SIDE = 4096
_SIZE = re.compile(r"(\d{1,5})x(\d{1,5})", re.ASCII)
_ORIENTATION = 0x0112
_TURNED_BY_90 = frozenset({5, 6, 7, 8})


class OutputFormat(StrEnum):
    """What thumbnails are encoded as; `original` keeps the source's format where every browser shows it."""

    ORIGINAL = "original"
    JPEG = "jpeg"
    PNG = "png"
    WEBP = "webp"
    AVIF = "avif"


@dataclass(frozen=True, slots=True)
class _Encoding:
    content_type: str
    extension: str
    has_alpha: bool
    lossy: bool


_ENCODINGS = {
    "JPEG": _Encoding("image/jpeg", ".jpg", has_alpha=False, lossy=True),
    "PNG": _Encoding("image/png", ".png", has_alpha=True, lossy=False),
    "GIF": _Encoding("image/gif", ".gif", has_alpha=True, lossy=False),
    "WEBP": _Encoding("image/webp", ".webp", has_alpha=True, lossy=True),
    "AVIF": _Encoding("image/avif", ".avif", has_alpha=True, lossy=True),
}


@dataclass(frozen=True, slots=True)
class Box:
    """The largest size, in pixels, that a thumbnail may have."""

    width: int
    height: int

    def __post_init__(self) -> None:
        if not (0 < self.width <= _MAX_SIDE and 0 < self.height <= _MAX_SIDE):
            raise InvalidValue("size", str(self), f"is not between 1x1 and {_MAX_SIDE}x{_MAX_SIDE}")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `WIDTHxHEIGHT`, such as `100x100`.

        Raises:
            InvalidValue: it is not written so, or out of bounds.
        """
        if not (match := _SIZE.fullmatch(text)):
            raise InvalidValue("size", text, "is not WIDTHxHEIGHT in pixels, such as 100x100")
        return cls(int(match[1]), int(match[2]))

    def __str__(self) -> str:
        return f"{self.width}x{self.height}"

    def fit(self, width: int, height: int) -> tuple[int, int]:
        """The largest size of the same shape that this box holds: never enlarged, at least one pixel a side."""
        scale = min(1.0, self.width / width, self.height / height)
        return max(1, round(width * scale)), max(1, round(height * scale))

    def turned(self) -> "Box":
        """The box as a picture sees it that is yet to be turned by a quarter."""
        return Box(self.height, self.width)


@dataclass(frozen=True, slots=True)
class ThumbnailSpec:
    """Everything that shapes a thumbnail's bytes."""

    box: Box = Box(100, 100)
    format: OutputFormat = OutputFormat.ORIGINAL
    quality: int = 80
    """1 to 100, for the lossy formats."""

    def __str__(self) -> str:
        return f"{self.box} {self.format} q{self.quality}"


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


def make_thumbnails(data: bytes, specs: Sequence[ThumbnailSpec], *, max_pixels: int) -> list[Thumbnail]:
    """Decode a picture once and make a thumbnail of it for each spec.

    Args:
        data: the bytes of an image file.
        specs: at least one.
        max_pixels: a picture with more is refused before it is decoded.

    Raises:
        UnsupportedFormat: the bytes are of no format that is read.
        PictureTooLarge: its header says that it has more than `max_pixels`.
        CorruptImage: it cannot be decoded to its end.
    """
    with _rejecting_damage(data):
        picture = _open(data)
        if (pixels := picture.width * picture.height) > max_pixels:
            raise PictureTooLarge(
                f"{picture.width}x{picture.height} is {pixels:,} pixels and MAX_IMAGE_PIXELS is {max_pixels:,}"
            )
        source_format = "JPEG" if picture.format == "MPO" else picture.format or ""
        orientation = _orientation(picture)
        boxes = [spec.box.turned() if orientation in _TURNED_BY_90 else spec.box for spec in specs]
        sizes = [box.fit(*picture.size) for box in boxes]
        largest = max(sizes)
        picture.draft(None, (int(largest[0] * _SHRINK_GAP), int(largest[1] * _SHRINK_GAP)))
        picture.load()
        profile = picture.info.get("icc_profile")
        pixels_of = _shrinkable(picture)
        return [
            _encode(_upright(_to_srgb(_shrink(pixels_of, size), profile), orientation), source_format, spec)
            for spec, size in zip(specs, sizes, strict=True)
        ]


@contextmanager
def _rejecting_damage(data: bytes) -> Iterator[None]:
    """Pillow's decoders meet damage with many kinds of exceptions; all of them mean the same here."""
    try:
        yield
    except UnidentifiedImageError as error:
        if _begins_like_an_image(data):
            raise CorruptImage("it cannot be decoded: its header is cut off or damaged") from error
        hint = "; HEIC needs the extra 'heif'" if data[4:12] in _HEIC_SIGNATURES and not _HEIF else ""
        raise UnsupportedFormat(f"the bytes are of none of these formats: {', '.join(READABLE)}{hint}") from error
    except (
        OSError, ValueError, SyntaxError, TypeError, KeyError, IndexError, OverflowError, EOFError, AttributeError,
        struct.error, MemoryError, Image.DecompressionBombError,
    ) as error:  # fmt: skip
        raise CorruptImage(f"it cannot be decoded: {str(error) or type(error).__name__}") from error


def _begins_like_an_image(data: bytes) -> bool:
    """Whether the first bytes are those of a readable format; Pillow's own check of them."""
    return any(accept(data[:16]) is True for name in READABLE if (accept := Image.OPEN[name][1]))


def _open(data: bytes) -> Image.Image:
    # Pillow only warns above its own limit and refuses at twice that; `max_pixels` is checked instead.
    Image.MAX_IMAGE_PIXELS = None
    return Image.open(io.BytesIO(data), formats=READABLE)


def _orientation(picture: Image.Image) -> int:
    """EXIF orientation of the pixels as they will be decoded, 1 to 8; unreadable or absurd counts as upright."""
    if picture.format == "TIFF":
        return 1  # Pillow turns the pixels of this format itself, and its size is the upright one.
    try:
        value = picture.getexif().get(_ORIENTATION, 1)
    except (OSError, ValueError, SyntaxError, TypeError, KeyError, IndexError, struct.error):
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1  # noqa: PLR2004 - as EXIF numbers them


def _shrinkable(picture: Image.Image) -> Image.Image:
    """The same pixels in a mode that can be averaged: no palettes, no single bits, alpha premultiplied."""
    if picture.mode.startswith("I;16"):
        # Scaled, not clipped: Pillow's own conversion to 8 bits cuts every value above 255 to white.
        return picture.convert("I").point(lambda value: value / 257).convert("L")
    if picture.mode in {"RGBA", "LA", "PA", "RGBa", "La"} or "transparency" in picture.info:
        return picture.convert("RGBA").convert("RGBa")
    if picture.mode in {"RGB", "L", "CMYK"}:
        return picture
    return picture.convert("L" if picture.mode == "1" else "RGB")


def _shrink(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    small = picture.resize(size, Image.Resampling.LANCZOS, reducing_gap=_SHRINK_GAP)
    return small.convert("RGBA") if small.mode == "RGBa" else small


@functools.cache
def _srgb() -> ImageCms.ImageCmsProfile:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))


def _to_srgb(picture: Image.Image, icc_profile: bytes | None) -> Image.Image:
    """Convert from the embedded profile; a profile that is broken or of another colour space is ignored."""
    alpha = picture.getchannel("A") if picture.mode == "RGBA" else None
    colours = picture.convert("RGB") if alpha else picture
    if icc_profile:
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(icc_profile))
            converted = ImageCms.profileToProfile(colours, source, _srgb(), outputMode="RGB")
        except (ImageCms.PyCMSError, OSError, ValueError):
            converted = None
        colours = converted or colours
    if colours.mode == "CMYK":
        colours = colours.convert("RGB")
    if alpha:
        colours = colours.convert("RGB")
        colours.putalpha(alpha)
    return colours


def _upright(picture: Image.Image, orientation: int) -> Image.Image:
    turns = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_270,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_90,
    }
    return picture.transpose(turns[orientation]) if orientation in turns else picture


def _target_format(picture: Image.Image, source_format: str, wanted: OutputFormat) -> str:
    if wanted is not OutputFormat.ORIGINAL:
        return wanted.upper()
    if source_format in _ENCODINGS:
        return source_format
    return "PNG" if picture.mode == "RGBA" else "JPEG"


def _encode(picture: Image.Image, source_format: str, spec: ThumbnailSpec) -> Thumbnail:
    target = _target_format(picture, source_format, spec.format)
    encoding = _ENCODINGS[target]
    if picture.mode == "RGBA" and not encoding.has_alpha:
        white = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(white, picture).convert("RGB")
    # Pillow copies what it finds here into the file: profile, comment, EXIF, XMP.
    picture.info.clear()
    buffer = io.BytesIO()
    options: dict[str, object] = {"optimize": True} if target in {"JPEG", "PNG", "GIF"} else {}
    if encoding.lossy:
        options["quality"] = spec.quality
    picture.save(buffer, target, **options)
    return Thumbnail(
        spec,
        buffer.getvalue(),
        encoding.content_type,
        "" if target == source_format else encoding.extension,
        picture.width,
        picture.height,
    )
