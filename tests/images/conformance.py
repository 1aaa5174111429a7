"""Files of every kind that is read, what each should look like by an independent reference, and a table of it.

The reference is libvips: a full decode, turned upright, converted to sRGB, reduced by its own Lanczos filter. Where
libvips does not read a file, or is known to read it otherwise than the specification says, it starts from the pixels
that the file was made of. `python -m tests.images.conformance` prints the table in the README; with a folder it
compares the files there instead.
"""

import io
import struct
import sys
import zlib
from base64 import b64decode
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from itertools import product
from pathlib import Path
from typing import Any, Self

import numpy as np
import pillow_heif
import pyvips  # type: ignore[import-untyped]
from numpy.typing import NDArray
from PIL import Image, ImageOps

from service.demo.photos import sample_files
from service.errors import ImageRejected
from service.images.spec import ThumbnailSpec
from tests.images import code_points
from tests.images.code_points import BT709, BT2020, DISPLAY_P3, GAMMA, HLG, LINEAR, PQ, SRGB, cicp
from tests.support.assembly import decoders
from tests.support.heic import heic
from tests.support.pictures import encoded, lying

Pixels = NDArray[Any]
"""Rows of pixels, of samples where there are several."""

BOX = 100
MAX_PIXELS = 100_000_000
QUALITY = 100
"""At which thumbnails are compared, so that the picture is judged, and not what any lossy format does to it."""


@contextmanager
def unbounded(_: int) -> Iterator[None]:
    """Memory without a limit."""
    yield


def ours(data: bytes, spec: ThumbnailSpec | None = None) -> bytes:
    """The thumbnail that the service makes, in a worker process: what it needs has to be there from its start."""
    (thumbnail,) = decoders().make_thumbnails(
        data, [spec or ThumbnailSpec(quality=QUALITY)], max_pixels=MAX_PIXELS, reserve=unbounded
    )
    return thumbnail.data


def naive(data: bytes) -> bytes:
    """The thumbnail that three lines of Pillow make."""
    picture = Image.open(io.BytesIO(data))
    picture.thumbnail((BOX, BOX))
    image_format = "JPEG" if picture.format == "MPO" else picture.format or ""
    return encoded(picture, image_format, **({"quality": QUALITY} if image_format in {"JPEG", "WEBP", "AVIF"} else {}))


# Source pictures


@cache
def photo() -> Pixels:
    """A photo, 357x241: sides that no whole number divides."""
    (data,) = (file.read() for file in sample_files() if file.name == "cat.jpg")
    picture = Image.open(io.BytesIO(data)).convert("RGB")
    return np.asarray(picture.resize((357, 241), Image.Resampling.LANCZOS, (40, 60, 40 + 714, 60 + 482)))


def wide(pixels: Pixels) -> Pixels:
    """Samples of 8 bits as ones of 16."""
    return np.asarray(pixels.astype(np.uint16) * 257)


def gray() -> Pixels:
    """The photo without its colours."""
    return np.asarray(Image.fromarray(photo()).convert("L"))


def soft_disc() -> Pixels:
    """An alpha channel of 8 bits: opaque in the middle, clear at the edge, and all between."""
    height, width = photo().shape[:2]
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    return np.asarray((np.clip(1.6 - 1.8 * np.hypot(x, y), 0, 1) * 255).round().astype(np.uint8))


def cut_out(colours: Pixels, alpha: Pixels) -> Pixels:
    """Colours with alpha; what is clear has a glaring colour, which must not be seen."""
    colours = colours if colours.ndim == 3 else colours[..., None]
    glaring = np.where(alpha[..., None] == 0, (0, 255, 0)[: colours.shape[2]], colours)
    return np.dstack([glaring, alpha]).astype(np.uint8)


def photo_with_alpha() -> Pixels:
    """The photo as a soft disc."""
    return cut_out(photo(), soft_disc())


def with_hole(colours: Pixels, key: Sequence[int] | int) -> Pixels:
    """The picture with a transparent block, 120x80, of one colour that is found nowhere else in it."""
    height, width = colours.shape[:2]
    flat = colours.reshape(height, width, -1).copy()
    same = (flat == np.atleast_1d(key)).all(-1)
    flat[same] ^= 1
    flat[70:150, 90:210] = key
    return flat.reshape(colours.shape)


def few_bits(bits: int) -> Pixels:
    """The gray photo in samples of 1, 2 or 4 bits."""
    return gray() >> (8 - bits)


@cache
def indexed(colours: int) -> Image.Image:
    """The photo with a palette."""
    return Image.fromarray(photo()).quantize(colours)


def pillow(pixels: Pixels) -> Image.Image:
    """Samples as one of Pillow's pictures."""
    return Image.fromarray(np.ascontiguousarray(pixels))


def vips(pixels: Pixels) -> Any:  # noqa: ANN401 - pyvips has no types
    """Samples as one of libvips' pictures."""
    bands = 1 if pixels.ndim == 2 else pixels.shape[2]
    deep = {"uint16": ("grey16", "rgb16"), "float32": ("b-w", "scrgb")}.get(str(pixels.dtype), ("b-w", "srgb"))
    return pyvips.Image.new_from_array(np.ascontiguousarray(pixels)).copy(interpretation=deep[bands > 2])


# Files that Pillow cannot write


def png(samples: Pixels, bits: int, colour_type: int, *chunks: tuple[bytes, bytes], interlaced: bool = False) -> bytes:
    """A PNG of these samples, with further chunks before its data."""
    height, width = samples.shape[:2]
    rows = b""
    for x, y, dx, dy in _ADAM7 if interlaced else [(0, 0, 1, 1)]:
        for row in samples[y::dy, x::dx]:
            rows += b"\0" + _packed(row, bits)
    header = struct.pack(">IIBBBBB", width, height, bits, colour_type, 0, 0, interlaced)
    parts = [(b"IHDR", header), *chunks, (b"IDAT", zlib.compress(rows, 1)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*part) for part in parts)


_ADAM7 = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]


def png_chunk(name: bytes, body: bytes) -> bytes:
    """One chunk of a PNG."""
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def _packed(row: Pixels, bits: int, order: str = ">") -> bytes:
    if bits >= 8:
        return row.astype(f"{order}u{bits // 8}").tobytes()
    places = np.unpackbits(row.astype(np.uint8).reshape(-1, 1), axis=1)[:, 8 - bits :]
    return np.packbits(places.ravel()).tobytes()


def palette_chunk(picture: Image.Image) -> tuple[bytes, bytes]:
    """The palette of a picture as a chunk of a PNG."""
    return b"PLTE", bytes(picture.getpalette() or [])


_MAKERS = {"<": "Intel", ">": "Motorola"}
"""Makers of the processors with this order of bytes."""

_TIFF_TYPES = {"H": 3, "I": 4, "s": 2, "B": 7}


def tiff(  # noqa: PLR0913 - a TIFF has many ways
    samples: Pixels,
    bits: int,
    photometric: int,
    *,
    order: str = "<",
    planar: bool = False,
    kind: int = 1,
    extra: Sequence[int] = (),
    more: Sequence[tuple[int, str, tuple[Any, ...]]] = (),
    packed: Callable[[bytes], bytes] = bytes,
    compression: int = 1,
) -> bytes:
    """A TIFF of one strip, or of one for each plane, byte by byte."""
    height, width = samples.shape[:2]
    planes = samples.reshape(height, width, -1)
    bands = planes.shape[2]
    layers = [planes[..., band] for band in range(bands)] if planar else [planes.reshape(height, -1)]
    strips = []
    for layer in layers:
        raw = layer.astype(f"{order}f{bits // 8}").tobytes() if kind == 3 else b""
        strips.append(packed(raw or b"".join(_packed(row, bits, order) for row in layer)))
    places = [8 + sum(map(len, strips[:index])) for index in range(len(strips))]
    tags: list[tuple[int, str, tuple[Any, ...]]] = [
        (256, "I", (width,)),
        (257, "I", (height,)),
        (258, "H", (bits,) * bands),
        (259, "H", (compression,)),
        (262, "H", (photometric,)),
        (273, "I", tuple(places)),
        (277, "H", (bands,)),
        (278, "I", (height,)),
        (279, "I", tuple(map(len, strips))),
        (284, "H", (1 + planar,)),
        (339, "H", (kind,) * bands),
        *more,
    ]
    if extra:
        tags.append((338, "H", tuple(extra)))
    body = b"".join(strips)
    body += bytes(len(body) % 2)
    entries, behind = b"", b""
    start = 8 + len(body) + 2 + 12 * len(tags) + 4
    for number, letter, values in sorted(tags):
        value = struct.pack(f"{order}{len(values)}{letter}", *values)
        if len(value) > 4:
            value, behind = struct.pack(f"{order}I", start + len(behind)), behind + value + bytes(len(value) % 2)
        entries += struct.pack(f"{order}HHI", number, _TIFF_TYPES[letter], len(values)) + value.ljust(4, b"\0")
    head = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, 8 + len(body))
    return head + body + struct.pack(f"{order}H", len(tags)) + entries + bytes(4) + behind


def bmp(pixels: Pixels, masks: Sequence[int], bits: int) -> bytes:
    """A BMP whose masks tell which bits are which colour (header of version 4), with or without alpha."""
    height, width = pixels.shape[:2]
    words = np.zeros((height, width), np.uint32)
    for band, mask in enumerate(masks[: pixels.shape[2]]):
        shift, size = (mask & -mask).bit_length() - 1, mask.bit_count()
        words |= (pixels[..., band].astype(np.uint32) >> (8 - size)) << shift
    row_bytes = -(-width * bits // 32) * 4
    rows = (words[row].astype(f"<u{bits // 8}").tobytes().ljust(row_bytes, b"\0") for row in range(height)[::-1])
    body = b"".join(rows)
    head = struct.pack("<IiiHHIIiiII4I", 108, width, height, 1, bits, 3, len(body), 0, 0, 0, 0, *masks)
    head = head.ljust(108, b"\0")
    return b"BM" + struct.pack("<IHHI", 14 + 108 + len(body), 0, 0, 14 + 108) + head + body


def bmp_with_profile(pixels: Pixels, profile: bytes) -> bytes:
    """A BMP of 24 bits with a header of version 5, which has a profile behind the pixels."""
    height, width = pixels.shape[:2]
    row_bytes = -(-width * 3 // 4) * 4
    body = b"".join(row[:, ::-1].tobytes().ljust(row_bytes, b"\0") for row in pixels[::-1])
    head = struct.pack("<IiiHHIIiiII", 124, width, height, 1, 24, 0, len(body), 0, 0, 0, 0)
    head = head.ljust(56, b"\0") + b"DEBM"
    head = head.ljust(108, b"\0") + struct.pack("<IIII", 4, 124 + len(body), len(profile), 0)
    size = 14 + len(head) + len(body) + len(profile)
    return b"BM" + struct.pack("<IHHI", size, 0, 0, 14 + len(head)) + head + body + profile


def ico_with_mask(pixels: Pixels) -> bytes:
    """An icon of 24 bits a pixel, whose transparency is a mask of one bit behind the colours."""
    height, width = pixels.shape[:2]
    colours = b"".join(
        pixels[row, :, 2::-1].tobytes().ljust(-(-width * 3 // 4) * 4, b"\0") for row in range(height)[::-1]
    )
    mask = b"".join(
        np.packbits(pixels[row, :, 3] < 128).tobytes().ljust(-(-width // 32) * 4, b"\0") for row in range(height)[::-1]
    )
    body = struct.pack("<IiiHHIIiiII", 40, width, 2 * height, 1, 24, 0, 0, 0, 0, 0, 0) + colours + mask
    return struct.pack("<HHHBBBBHHII", 0, 1, 1, width % 256, height % 256, 0, 0, 1, 24, len(body), 22) + body


def gif_in_larger_screen(data: bytes, screen: tuple[int, int], place: tuple[int, int]) -> bytes:
    """Move the only frame of a GIF without extensions into a larger screen."""
    table = 3 * 2 ** ((data[10] & 7) + 1)
    start = data.index(b",", 13 + table)
    return (
        data[:6] + struct.pack("<HH", *screen) + data[10 : start + 1] + struct.pack("<HH", *place) + data[start + 5 :]
    )


def ycck(pixels: Pixels) -> bytes:
    """A JPEG as Photoshop writes CMYK: inverted, and three of its components turned into luma and chroma."""
    cmyk = cmyk_of(pixels)
    turned = np.asarray(pillow(cmyk[..., :3]).convert("YCbCr"))
    stored = np.dstack([255 - turned, cmyk[..., 3]])
    data = encoded(Image.frombytes("CMYK", stored.shape[1::-1], stored.tobytes()), quality=95, subsampling=0)
    marker = data.index(b"Adobe")
    return data[: marker + 11] + b"\2" + data[marker + 12 :]


def cmyk_of(pixels: Pixels) -> Pixels:
    """Ink for these colours, black taken out of the other three."""
    inks = 255.0 - pixels
    black = inks.min(-1, keepdims=True) * 0.8
    return np.dstack([(inks - black) / (255 - black) * 255, black]).round().astype(np.uint8)


def ink_on_paper(cmyk: Pixels) -> Pixels:
    """The look of ink without a profile, as browsers have it: each takes its share of the light."""
    inks = 255.0 - cmyk
    return np.asarray((inks[..., :3] * inks[..., 3:] / 255).round().astype(np.uint8))


# Colour profiles

_D50 = np.array([0.9642, 1.0, 0.8249])
_BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])


def matrix_profile(
    red: Sequence[float], green: Sequence[float], blue: Sequence[float], *, d50: bool, gamma: float
) -> bytes:
    """An ICC profile of a display: the chromaticities of its primaries, its white point, its gamma."""
    x, y = (0.3457, 0.3585) if d50 else (0.3127, 0.3290)
    white = np.array([x / y, 1, (1 - x - y) / y])
    primaries = np.array([[x / y, 1, (1 - x - y) / y] for x, y in (red, green, blue)]).T
    colorants = primaries * np.linalg.solve(primaries, white)
    adaptation = np.linalg.inv(_BRADFORD) @ np.diag((_BRADFORD @ _D50) / (_BRADFORD @ white)) @ _BRADFORD
    adapted = (adaptation @ colorants).T
    tags = {name: _xyz(colorant) for name, colorant in zip((b"rXYZ", b"gXYZ", b"bXYZ"), adapted, strict=True)}
    return _profile(b"RGB ", tags | dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), _curve(gamma)))


def violet_profile() -> bytes:
    """An ICC profile whose colorants add up to no white: its green has been lost."""
    red, green, blue = (0.436, 0.222, 0.014), (0.0, 0.0, 0.0), (0.143, 0.061, 0.714)
    tags = {b"rXYZ": _xyz(red), b"gXYZ": _xyz(green), b"bXYZ": _xyz(blue)}
    return _profile(b"RGB ", tags | dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), _curve(2.2)))


def tinting_profile() -> bytes:
    """An ICC profile with the colorants of sRGB, and a curve for red that is none of a display's: gray becomes cyan."""
    colorants = {b"rXYZ": (0.436, 0.222, 0.014), b"gXYZ": (0.385, 0.717, 0.097), b"bXYZ": (0.143, 0.061, 0.714)}
    curves = {b"rTRC": _curve(6.0), b"gTRC": _curve(1.8), b"bTRC": _curve(1.8)}
    return _profile(b"RGB ", {tag: _xyz(values) for tag, values in colorants.items()} | curves)


def gray_profile(gamma: float) -> bytes:
    """An ICC profile for gray."""
    return _profile(b"GRAY", {b"kTRC": _curve(gamma)})


def _xyz(values: Iterable[float]) -> bytes:
    return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(value * 65536) for value in values))


def _curve(gamma: float) -> bytes:
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256)) + b"\0\0"


def _profile(space: bytes, tags: dict[bytes, bytes]) -> bytes:
    name = b"made for a test\0"
    tags = tags | {
        b"desc": b"desc\0\0\0\0" + struct.pack(">I", len(name)) + name + bytes(78),
        b"cprt": b"text\0\0\0\0none\0",
        b"wtpt": _xyz(_D50),
    }
    table, body = struct.pack(">I", len(tags)), b""
    for tag, value in tags.items():
        table += struct.pack(">4sII", tag, 128 + 4 + 12 * len(tags) + len(body), len(value))
        body += value + bytes(-len(value) % 4)
    head = struct.pack(">I4sI4s4s4s", 128 + len(table) + len(body), b"none", 0x02200000, b"mntr", space, b"XYZ ")
    head += bytes(12) + b"acsp" + bytes(28) + struct.pack(">3i", *(round(value * 65536) for value in _D50))
    return head.ljust(128, b"\0") + table + body


def display_p3() -> bytes:
    """The primaries of Apple's displays, with a plain gamma."""
    return matrix_profile((0.680, 0.320), (0.265, 0.690), (0.150, 0.060), d50=False, gamma=2.2)


def adobe_rgb() -> bytes:
    """The primaries of Adobe RGB (1998)."""
    return matrix_profile((0.64, 0.33), (0.21, 0.71), (0.15, 0.06), d50=False, gamma=563 / 256)


def prophoto() -> bytes:
    """The primaries of ProPhoto RGB, two of which no eye can see."""
    return matrix_profile((0.7347, 0.2653), (0.1596, 0.8404), (0.0366, 0.0001), d50=True, gamma=1.8)


def cmyk_profile() -> bytes:
    """The profile of a printing press that libvips brings along."""
    return bytes(pyvips.Operation.call("profile_load", "cmyk"))


# The reference


def look_of(data: bytes) -> Any:  # noqa: ANN401 - pyvips has no types
    """A file as libvips shows it in full: upright, sRGB with alpha, 8 bits."""
    picture = pyvips.Image.new_from_buffer(data, "", fail_on="error").autorot()
    if "icc-profile-data" in picture.get_fields() and picture.interpretation != "lab":
        try:
            picture = picture.icc_transform(
                "srgb", embedded=True, intent="perceptual", black_point_compensation=True, depth=8
            )
        except pyvips.Error:
            picture = picture.colourspace("srgb")
    else:
        picture = picture.colourspace("srgb")
    picture = picture.cast("uchar")
    picture = picture if picture.bands > 2 else picture[0].bandjoin([picture[0], picture[0], *picture[1:]])
    return picture if picture.hasalpha() else picture.addalpha()


def look_of_pixels(pixels: Pixels) -> Any:  # noqa: ANN401 - pyvips has no types
    """Gray, RGB or RGBA samples of 8 bits, upright and sRGB, as `look_of` has them."""
    rgb = np.dstack([pixels] * 3) if pixels.ndim == 2 else pixels
    picture = vips(rgb.astype(np.uint8))
    return picture if picture.bands == 4 else picture.addalpha()


def fitted(width: int, height: int) -> tuple[int, int]:
    """The size of the thumbnail of a picture of this size."""
    longest = max(width, height, BOX)
    return max(1, round(width * BOX / longest)), max(1, round(height * BOX / longest))


def reduced(picture: Any) -> Any:  # noqa: ANN401 - pyvips has no types
    """The look in full at the size of a thumbnail."""
    width, height = fitted(picture.width, picture.height)
    small = picture.premultiply().resize(width / picture.width, vscale=height / picture.height, kernel="lanczos3")
    return small.unpremultiply().rint().cast("uchar").copy(interpretation="srgb").copy_memory()


def shown(data: bytes) -> Any:  # noqa: ANN401 - pyvips has no types
    """A thumbnail as people see it."""
    try:
        return look_of(data)
    except pyvips.Error:
        return look_of_pixels(np.asarray(Image.open(io.BytesIO(data)).convert("RGBA")))


@dataclass(frozen=True, slots=True)
class Difference:
    """Difference of a thumbnail from the reference, on the worse of a white and a black background."""

    mean: float
    """Of CIEDE2000, after a blur of 1.5 pixels: what is seen, without the grain that lossy formats make."""
    worst: float
    """The same at the pixel that is worse than 99 % of them: a wrong corner hides in a mean."""
    structure: float
    """SSIM of luma: 1 is the same."""

    @classmethod
    def between(cls, got: Any, wanted: Any) -> Self:  # noqa: ANN401 - pyvips has no types
        """Compare two pictures of one size, RGBA."""
        means, worsts, structures = [], [], []
        for background in (255,) if got[3].min() == wanted[3].min() == 255 else (255, 0):
            one, other = (picture.flatten(background=background) for picture in (got, wanted))
            blurred = [picture.gaussblur(1.5).colourspace("lab") for picture in (one, other)]
            distance = blurred[0].dE00(blurred[1]).numpy()
            means.append(float(distance.mean()))
            worsts.append(float(np.percentile(distance, 99)))
            structures.append(_ssim(*(picture.colourspace("b-w")[0].cast("float") for picture in (one, other))))
        return cls(max(means), max(worsts), min(structures))


def _ssim(one: Any, other: Any) -> float:  # noqa: ANN401 - pyvips has no types
    def blur(picture: Any) -> NDArray[np.float64]:  # noqa: ANN401
        return np.asarray(picture.gaussblur(1.5, precision="float").numpy(), np.float64)

    mean, other_mean = blur(one), blur(other)
    variances = blur(one * one) - mean**2 + blur(other * other) - other_mean**2
    covariance = blur(one * other) - mean * other_mean
    dark, flat = 2.55**2, 7.65**2
    likeness = (2 * mean * other_mean + dark) * (2 * covariance + flat)
    return float((likeness / ((mean**2 + other_mean**2 + dark) * (variances + flat))).mean())


@dataclass(frozen=True, slots=True)
class Limits:
    """The most that a right thumbnail differs from the reference."""

    mean: float
    worst: float
    structure: float

    def allow(self, difference: Difference) -> bool:
        """Return True if it is within all of them."""
        return (
            difference.mean <= self.mean and difference.worst <= self.worst and difference.structure >= self.structure
        )


# Measured: the best wrong one of the matrix, a JPEG whose Display P3 was taken for sRGB, is at a mean of 2.2; a whole
# picture that is off by 1 is seen only beside the right one.
LOSSLESS, LOSSY, FEW_COLOURS = Limits(0.6, 2.5, 0.98), Limits(1.9, 4.5, 0.97), Limits(2.2, 7, 0.94)


# The matrix


@cache
def _reduced_pixels(pixels: Callable[[], Pixels]) -> Any:  # noqa: ANN401 - pyvips has no types
    return reduced(look_of_pixels(pixels()))


@dataclass(frozen=True, slots=True)
class Case:
    """One file and where its look comes from."""

    category: str
    name: str
    make: Callable[[], bytes]
    pixels: Callable[[], Pixels] | None = None
    """The picture in it, upright and in sRGB; None if libvips tells."""

    def reference(self) -> Any:  # noqa: ANN401 - pyvips has no types
        """Return the right look of its thumbnail."""
        return _reduced_pixels(self.pixels) if self.pixels else reduced(look_of(self.make()))

    def difference(self, thumbnail: bytes) -> Difference | None:
        """Return the difference of a thumbnail from the right one; None if it is of another size."""
        got, wanted = shown(thumbnail), self.reference()
        if (got.width, got.height) != (wanted.width, wanted.height):
            return None
        return Difference.between(got, wanted)


def _saved(image_format: str, pixels: Callable[[], Pixels], **options: Any) -> bytes:  # noqa: ANN401 - Pillow's
    return encoded(pillow(pixels()), image_format, **options)


def _vips_saved(suffix: str, pixels: Callable[[], Pixels], **options: Any) -> bytes:  # noqa: ANN401 - libvips'
    return bytes(vips(pixels()).write_to_buffer(suffix, **options))


def _cmyk_picture() -> Image.Image:
    cmyk = cmyk_of(photo())
    return Image.frombytes("CMYK", cmyk.shape[1::-1], cmyk.tobytes())


def _heic(picture: Image.Image, **options: Any) -> bytes:  # noqa: ANN401 - pillow_heif's
    buffer = io.BytesIO()
    pillow_heif.from_pillow(picture).save(buffer, quality=90, **options)
    return buffer.getvalue()


def _plain() -> Iterator[Case]:
    def case(name: str, make: Callable[[], bytes], pixels: Callable[[], Pixels] | None = None) -> Case:
        return Case("8 bits a sample", name, make, pixels)

    yield case("JPEG baseline", partial(_saved, "JPEG", photo, quality=90))
    yield case("JPEG 4:4:4", partial(_saved, "JPEG", photo, quality=90, subsampling=0))
    yield case("JPEG RGB without YCbCr", partial(_saved, "JPEG", photo, quality=90, keep_rgb=True))
    yield case("JPEG gray", partial(_saved, "JPEG", gray, quality=90))
    yield case("PNG RGB", partial(_saved, "PNG", photo))
    yield case("PNG gray", partial(_saved, "PNG", gray))
    yield case("WebP lossy", partial(_saved, "WEBP", photo, quality=90))
    yield case("WebP lossless", partial(_saved, "WEBP", photo, lossless=True))
    yield case("AVIF", partial(_saved, "AVIF", photo, quality=90))
    yield case("AVIF 4:4:4", partial(_saved, "AVIF", photo, quality=90, subsampling="4:4:4"))
    yield case("AVIF gray", partial(_saved, "AVIF", gray, quality=90))
    yield case("HEIC", lambda: _heic(pillow(photo())), photo)
    yield case("TIFF RGB", partial(_saved, "TIFF", photo))
    yield case("TIFF gray", partial(_saved, "TIFF", gray))
    yield case("TIFF gray, white is zero", lambda: tiff(255 - gray(), 8, 0))
    yield case("TIFF Lab", lambda: encoded(_lab_picture(), "TIFF"), photo)
    yield case("BMP 24 bit", partial(_saved, "BMP", photo), photo)
    yield case("BMP gray", partial(_saved, "BMP", gray), gray)
    yield case("BMP 16 bit, 5-6-5", lambda: bmp(photo(), (0xF800, 0x07E0, 0x001F, 0), 16), photo)
    yield case("BMP 32 bit, padded", lambda: bmp(photo(), (0xFF0000, 0xFF00, 0xFF, 0), 32), photo)
    yield case("JPEG 2000", partial(_saved, "JPEG2000", photo), photo)
    yield case("JPEG 2000 gray", partial(_saved, "JPEG2000", gray), gray)
    yield case("JPEG 2000, code stream alone", partial(_saved, "JPEG2000", photo, no_jp2=True), photo)
    yield case("PPM", partial(_saved, "PPM", photo), photo)
    yield case("PGM", partial(_saved, "PPM", gray), gray)
    yield case("PPM in plain text", lambda: _plain_ppm(photo()), photo)
    yield case("PGM up to 100", lambda: _pgm(gray() * 100.0 / 255, 100), gray)


def _lab_picture() -> Image.Image:
    lab = vips(photo()).colourspace("lab").numpy().astype(np.float64)
    samples = np.dstack([lab[..., 0] * 2.55, lab[..., 1:].round().astype(np.int64) % 256]).round().astype(np.uint8)
    return Image.frombytes("LAB", (lab.shape[1], lab.shape[0]), samples.tobytes())


def _plain_ppm(pixels: Pixels) -> bytes:
    height, width = pixels.shape[:2]
    return f"P3\n# made for a test\n{width} {height}\n255\n{' '.join(map(str, pixels.ravel()))}\n".encode()


def _pgm(samples: Pixels, most: int) -> bytes:
    head = f"P{5 if samples.ndim == 2 else 6} {samples.shape[1]} {samples.shape[0]} {most}\n".encode()
    return head + samples.round().astype(">u2" if most > 255 else "u1").tobytes()


_ARITHMETIC_JPEG = (
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAAMCAgMCAgMDAwMEAwMEBQgFBQQEBQoHBwYIDAoMDAsKCwsNDhIQDQ4RDgsLEBYQERMU"
    "FRUVDA8XGBYUGBIUFRT/2wBDAQMEBAUEBQkFBQkUDQsNFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQU"
    "FBQUFBQUFBT/yQARCAAYACQDAREAAhEBAxEB/8wACgAQEAUBEBEF/9oADAMBAAIRAxEAPwD/AOeshZmaK4yY64JudyMaFb3Arw+C"
    "7H1ga4zQQlBNXPtXxuaBeOF/64sQKAbWEJpaegkliX5f5r9ZLHaaAL7ddmCPy++Twiz6wu+WYJEyoOOx5PJbWup/vy/yyDzOMnLU"
    "7mNJktIDF4GA+85c6nsKzq6sEj3DOpWVM/vozzeVkIPA2sjk26e3h9H0fKWKamS2jBkSevvTYQ0VttUir79UNk+d7XI7jlRWd9Xh"
    "dCN4/9k="
)
"""Base64 of `_slopes` by `cjpeg -arithmetic -quality 90 -sample 1x1`, since no library here writes such a file."""


def _slopes() -> Pixels:
    y, x = np.mgrid[:24, :36]
    return np.dstack([7 * x, 10 * y, 255 - 3 * x - 4 * y]).astype(np.uint8)


def _layouts() -> Iterator[Case]:
    def case(name: str, make: Callable[[], bytes], pixels: Callable[[], Pixels] | None = None) -> Case:
        return Case("Layout of the file", name, make, pixels)

    yield case("JPEG progressive", partial(_saved, "JPEG", photo, quality=90, progressive=True))
    yield case("JPEG gray progressive", partial(_saved, "JPEG", gray, quality=90, progressive=True))
    yield case("JPEG with arithmetic coding", partial(b64decode, _ARITHMETIC_JPEG), _slopes)
    yield case("JPEG with restart markers", partial(_saved, "JPEG", photo, quality=90, restart_marker_rows=1))
    yield case(
        "JPEG with another behind it (MPO)",
        lambda: encoded(
            pillow(photo()), "MPO", quality=90, save_all=True, append_images=[Image.new("RGB", (357, 241), "red")]
        ),
    )
    yield case("JPEG with a film behind it", lambda: encoded(pillow(photo()), quality=90) + _noise(10_000_000))
    yield case("PNG RGB interlaced", lambda: png(photo(), 8, 2, interlaced=True))
    yield case("PNG gray interlaced", lambda: png(gray(), 8, 0, interlaced=True))
    yield case("PNG whose text and time have a wrong checksum", _png_with_wrong_checksums, photo)
    yield case("PNG whose profile has a wrong checksum, so that it does not count", _png_with_wrong_profile, photo)
    yield case("GIF interlaced", lambda: encoded(indexed(200), "GIF", interlace=1))
    yield case("GIF in order", lambda: encoded(indexed(200), "GIF", interlace=0))
    for compression, planar, order in product((1, 8), (False, True), "<>"):
        if planar or order == ">":
            yield case(
                f"TIFF {'planes' if planar else 'RGB'}, {_MAKERS[order]}, "
                f"{'deflate' if compression == 8 else 'not compressed'}",
                partial(_tiff_photo, compression=compression, planar=planar, order=order),
            )
    for packing in ("tiff_lzw", "tiff_adobe_deflate", "packbits", "lzma", "zstd"):
        yield case(f"TIFF {packing.removeprefix('tiff_')}", partial(_saved, "TIFF", photo, compression=packing), photo)
    yield case("TIFF with JPEG inside", partial(_saved, "TIFF", photo, compression="jpeg", quality=90))
    yield case(
        "TIFF LZW with differences", partial(_vips_saved, ".tif", photo, compression="lzw", predictor="horizontal")
    )
    tiled = {"tile": True, "tile_width": 64, "tile_height": 48}
    yield case("TIFF in tiles", partial(_vips_saved, ".tif", photo, **tiled))
    yield case("TIFF in tiles of JPEG", partial(_vips_saved, ".tif", photo, compression="jpeg", Q=90, **tiled))
    yield case("TIFF gray in tiles, deflated", partial(_vips_saved, ".tif", gray, compression="deflate", **tiled))
    yield case("TIFF large (BigTIFF)", partial(_vips_saved, ".tif", photo, bigtiff=True))
    yield case("TIFF pyramid", partial(_vips_saved, ".tif", photo, pyramid=True, **tiled))
    yield case(
        "TIFF of several pages",
        lambda: encoded(pillow(photo()), "TIFF", save_all=True, append_images=[Image.new("RGB", (90, 90), "red")]),
    )
    yield case("BMP upside down", lambda: _upside_down_bmp(photo()), photo)
    yield case("HEIC with a preview", partial(_heic_with_preview, (300, 202)), photo)
    yield case("HEIC with a padded preview", partial(_heic_with_preview, (320, 240)), photo)
    yield case("JPEG 2000 in tiles", partial(_saved, "JPEG2000", photo, tile_size=(128, 128)), photo)
    yield case("JPEG 2000 lossy", partial(_saved, "JPEG2000", photo, irreversible=True, quality_layers=[20]), photo)
    yield case(
        "ICO with BMP inside", lambda: encoded(_icon(), "ICO", bitmap_format="bmp", sizes=[(200, 200)]), _icon_pixels
    )
    yield case("ICO with PNG inside", lambda: encoded(_icon(), "ICO", sizes=[(200, 200)]), _icon_pixels)
    yield case("ICO of several sizes", lambda: encoded(_icon(), "ICO", sizes=[(16, 16), (200, 200)]), _icon_pixels)


def _heic_with_preview(size: tuple[int, int]) -> bytes:
    picture = pillow(photo())
    return heic(picture, ImageOps.pad(picture, size))


def with_wrong_checksum(data: bytes, chunk: bytes) -> bytes:
    """A PNG of whose first chunk of this name one bit of the checksum is another."""
    place = data.index(chunk)
    end = place + 4 + int.from_bytes(data[place - 4 : place])
    return data[:end] + bytes([data[end] ^ 1]) + data[end + 1 :]


def _png_with_wrong_checksums() -> bytes:
    time = struct.pack(">HBBBBB", 2026, 1, 2, 3, 4, 5)
    data = png(photo(), 8, 2, (b"tEXt", b"Comment\0made for a test"), (b"tIME", time))
    return with_wrong_checksum(with_wrong_checksum(data, b"tEXt"), b"tIME")


def _png_with_wrong_profile() -> bytes:
    return with_wrong_checksum(encoded(pillow(photo()), "PNG", icc_profile=display_p3()), b"iCCP")


def _noise(length: int) -> bytes:
    return np.random.default_rng(1).bytes(length)


def _tiff_photo(*, compression: int, planar: bool, order: str) -> bytes:
    packed = zlib.compress if compression == 8 else bytes
    return tiff(photo(), 8, 2, compression=compression, packed=packed, planar=planar, order=order)


def _upside_down_bmp(pixels: Pixels) -> bytes:
    data = bytearray(encoded(pillow(pixels[::-1]), "BMP"))
    data[22:26] = struct.pack("<i", -pixels.shape[0])
    return bytes(data)


def _icon_pixels() -> Pixels:
    return photo_with_alpha()[20:220, 80:280]


def _icon() -> Image.Image:
    return pillow(_icon_pixels())


def _orientations() -> Iterator[Case]:
    for image_format, orientation in product(("JPEG", "PNG", "WEBP", "TIFF", "AVIF", "HEIC"), range(1, 9)):
        yield Case(
            "EXIF orientation", f"{image_format} {orientation}", partial(_lying, image_format, orientation), photo
        )

    for image_format in ("JPEG", "PNG", "WEBP"):
        yield Case("EXIF orientation", f"{image_format}, in XMP alone", partial(_lying_by_xmp, image_format), photo)


def _lying_by_xmp(image_format: str) -> bytes:
    """Programs that turn a picture and drop its EXIF forget what XMP says; browsers do not ask it."""
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    if image_format == "PNG":
        return png(photo(), 8, 2, (b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp))
    return encoded(pillow(photo()), image_format, quality=96, xmp=xmp)


def _lying(image_format: str, orientation: int) -> bytes:
    picture, exif = lying(pillow(photo()), orientation)
    if image_format == "HEIC":
        return _heic(picture, exif=exif)
    return encoded(picture, image_format, exif=exif, **({} if image_format == "TIFF" else {"quality": 96}))


def _profiles() -> Iterator[Case]:
    def case(name: str, make: Callable[[], bytes], pixels: Callable[[], Pixels] | None = None) -> Case:
        return Case("Colour profile", name, make, pixels)

    displays = {"Display P3": display_p3, "Adobe RGB": adobe_rgb, "ProPhoto": prophoto}
    for image_format, (name, profile) in product(("JPEG", "PNG", "WEBP", "TIFF", "AVIF"), displays.items()):
        yield case(f"{image_format} {name}", partial(_with_profile, image_format, photo, profile))
    yield case("PNG Display P3 with alpha", partial(_with_profile, "PNG", photo_with_alpha, display_p3))
    yield case("WEBP Display P3 with alpha", partial(_with_profile, "WEBP", photo_with_alpha, display_p3))
    yield case("PNG Adobe RGB, palette", lambda: encoded(indexed(200), "PNG", icc_profile=adobe_rgb()))
    yield case("PNG ProPhoto, 16 bit", lambda: _vips_with_profile(".png", wide(photo()), prophoto()))
    yield case("TIFF ProPhoto, 16 bit", lambda: _vips_with_profile(".tif", wide(photo()), prophoto()))
    yield case(
        "HEIC Display P3", partial(_heic_with_profile, photo, display_p3), lambda: _from_profile(photo(), display_p3())
    )
    yield case(
        "JPEG 2000 Display P3",
        lambda: _jp2_with_profile(photo(), display_p3()),
        lambda: _from_profile(photo(), display_p3()),
    )
    for image_format in ("JPEG", "PNG", "TIFF"):
        yield case(
            f"{image_format} gray, gamma 1", partial(_with_profile, image_format, gray, partial(gray_profile, 1.0))
        )
        yield case(
            f"{image_format} gray, gamma 1.8", partial(_with_profile, image_format, gray, partial(gray_profile, 1.8))
        )
    yield case(
        "PNG gray with a transparent value, gamma 1",
        lambda: encoded(pillow(with_hole(gray(), 200)), "PNG", transparency=200, icc_profile=gray_profile(1.0)),
    )
    yield case(
        "PNG gray and alpha, gamma 1.8",
        lambda: encoded(pillow(cut_out(gray(), soft_disc())), "PNG", icc_profile=gray_profile(1.8)),
    )
    for image_format in ("JPEG", "TIFF"):
        yield case(
            f"{image_format} CMYK with a press's profile",
            partial(
                lambda image_format: encoded(
                    _cmyk_picture(),
                    image_format,
                    icc_profile=cmyk_profile(),
                    **({"quality": 90} if image_format == "JPEG" else {}),
                ),
                image_format,
            ),
        )
    for image_format in ("JPEG", "PNG", "WEBP", "TIFF"):
        yield case(
            f"{image_format} broken profile", partial(_with_profile, image_format, photo, lambda: b"none" * 99), photo
        )
    for name, profile in (("no white", violet_profile), ("a tint", tinting_profile)):
        for image_format in ("JPEG", "PNG", "TIFF"):
            yield case(
                f"{image_format}, a profile with {name}", partial(_with_profile, image_format, photo, profile), photo
            )
    yield case(
        "BMP Display P3",
        lambda: bmp_with_profile(photo(), display_p3()),
        lambda: _from_profile(photo(), display_p3()),
    )
    yield case("JPEG RGB with a profile for CMYK", partial(_with_profile, "JPEG", photo, cmyk_profile), photo)
    yield case(
        "PNG gray with a profile for RGB",
        partial(_with_profile, "PNG", gray, adobe_rgb),
        lambda: _from_profile(np.dstack([gray()] * 3), adobe_rgb()),
    )
    linear = (b"gAMA", struct.pack(">I", 100000))
    srgb = (b"sRGB", b"\0")
    yield case("PNG RGB, gAMA of 1", lambda: png(photo(), 8, 2, linear), lambda: _gamma_encoded(photo(), 1.0))
    yield case("PNG gray, gAMA of 1", lambda: png(gray(), 8, 0, linear), lambda: _gamma_encoded(gray(), 1.0))
    yield case("PNG RGB, gAMA of 1 and sRGB, which wins", lambda: png(photo(), 8, 2, linear, srgb), photo)
    yield case("PNG RGB, gAMA of 1/2.2", lambda: png(photo(), 8, 2, (b"gAMA", struct.pack(">I", 45455))), photo)


def _with_profile(image_format: str, pixels: Callable[[], Pixels], profile: Callable[[], bytes]) -> bytes:
    lossy = {} if image_format in {"TIFF", "JPEG2000"} else {"quality": 90}
    return encoded(pillow(pixels()), image_format, icc_profile=profile(), **lossy)


def _jp2_with_profile(pixels: Pixels, profile: bytes) -> bytes:
    data = encoded(pillow(pixels), "JPEG2000")
    plain = b"colr\1\0\0\0\0\0\x10"
    colour = b"colr\2\0\0" + profile
    place, header = data.index(plain) - 4, data.index(b"jp2h") - 4
    (length,) = struct.unpack(">I", data[header : header + 4])
    length += len(colour) - len(plain)
    box = struct.pack(">I", 4 + len(colour)) + colour
    return b"".join(
        [data[:header], struct.pack(">I", length), data[header + 4 : place], box, data[place + 4 + len(plain) :]]
    )


def _heic_with_profile(pixels: Callable[[], Pixels], profile: Callable[[], bytes]) -> bytes:
    picture = pillow(pixels())
    picture.info["icc_profile"] = profile()
    return _heic(picture)


def _vips_with_profile(suffix: str, pixels: Pixels, profile: bytes) -> bytes:
    picture = vips(pixels).copy()
    picture.set_type(pyvips.GValue.blob_type, "icc-profile-data", profile)
    return bytes(picture.write_to_buffer(suffix))


def _from_profile(pixels: Pixels, profile: bytes) -> Pixels:
    """RGB samples from their profile to sRGB, by libvips."""
    picture = vips(pixels).copy()
    picture.set_type(pyvips.GValue.blob_type, "icc-profile-data", profile)
    return np.asarray(picture.icc_transform("srgb", embedded=True, intent="perceptual").numpy())


def _gamma_encoded(samples: Pixels, gamma: float) -> Pixels:
    """Samples that are proportional to this power of light to sRGB."""
    light = (samples / 255.0) ** (1 / gamma)
    srgb = np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)
    return np.asarray((srgb * 255).round().astype(np.uint8))


def _code_points() -> Iterator[Case]:
    def case(name: str, make: Callable[[], bytes], pixels: Callable[[], Pixels]) -> Case:
        return Case("Colour by code points", name, make, pixels)

    p3 = partial(_written_photo, DISPLAY_P3, SRGB)

    for primaries, transfer in product(_PRIMARIES, _TRANSFERS):
        pixels = partial(_written_photo, primaries, transfer)
        look = partial(_by_code_points, pixels, primaries, transfer)
        name = f"{_PRIMARIES[primaries]}, {_TRANSFERS[transfer]}"
        yield case(f"PNG {name}", partial(_cicp_png, pixels, cicp(primaries, transfer)), look)
        if transfer not in {GAMMA, LINEAR}:
            yield case(f"AVIF {name}", *_avif_row(pixels, primaries, transfer))
            yield case(f"HEIC {name}", partial(_nclx_heic, pixels, primaries, transfer), look)
    for primaries in (BT2020, DISPLAY_P3):
        yield case(
            f"PNG {_PRIMARIES[primaries]}, more colourful than sRGB",
            partial(_cicp_png, photo, cicp(primaries, SRGB)),
            partial(_by_code_points, photo, primaries, SRGB),
        )
    # Chromium takes what cameras encode by for the gamma of a display in a PNG, and for sRGB in an AVIF.
    as_gamma = partial(_by_code_points, p3, DISPLAY_P3, GAMMA)
    as_srgb = partial(_by_code_points, p3, DISPLAY_P3, SRGB)
    for same in (6, 14, 15):
        yield case(f"PNG Display P3, transfer {same}", partial(_cicp_png, p3, cicp(DISPLAY_P3, same)), as_gamma)
    for same in (1, 2, 6, 14, 15):
        yield case(f"AVIF Display P3, transfer {same}", *_avif_row(p3, DISPLAY_P3, SRGB, same))
        yield case(f"HEIC Display P3, transfer {same}", partial(_nclx_heic, p3, DISPLAY_P3, same), as_srgb)
    yield case("AVIF without primaries", partial(_nclx_avif, photo, 2, SRGB), photo)
    yield case("AVIF of a limited range", *_avif_row(p3, DISPLAY_P3, SRGB, range="limited"))
    yield case("HEIC of a limited range", partial(_nclx_heic, p3, DISPLAY_P3, SRGB, full_range_flag=0), as_srgb)
    yield from (case(*row) for row in _light_levels())
    yield from (case(*row) for row in _other_modes())
    yield from (case(*row) for row in _two_statements())


_PRIMARIES = {BT709: "BT.709", BT2020: "BT.2020", DISPLAY_P3: "Display P3"}
_TRANSFERS = {GAMMA: "gamma 2.4", LINEAR: "linear", SRGB: "sRGB", PQ: "PQ", HLG: "HLG"}

_Row = tuple[str, Callable[[], bytes], Callable[[], Pixels]]


def _light_levels() -> Iterator[_Row]:
    """HDR whose brightest pixel is said."""
    for transfer, nits in ((PQ, 150), (PQ, 400), (PQ, 4000), (HLG, 400), (HLG, 4000)):
        pixels = partial(_written_photo, BT2020, transfer, nits)
        look = partial(_by_code_points, pixels, BT2020, transfer, nits)
        name = f"{_TRANSFERS[transfer]}, {nits} cd/m²"
        level, display = code_points.content_light(nits), code_points.mastering_display(nits)
        said = cicp(BT2020, transfer)
        yield f"PNG {name}", partial(_cicp_png, pixels, said, level), look
        yield f"HEIC {name}", partial(_nclx_heic, pixels, BT2020, transfer, nits=nits), look
        yield f"PNG {name} of the display", partial(_cicp_png, pixels, display, said), look
        unknown = code_points.content_light(0)
        yield f"PNG {name} of the display alone", partial(_cicp_png, pixels, unknown, display, said), look


def _other_modes() -> Iterator[_Row]:
    deep = partial(_written_photo, BT2020, PQ)
    look = partial(_by_code_points, deep, BT2020, PQ)
    yield "PNG PQ, 16 bit", lambda: png(wide(deep()), 16, 2, cicp(BT2020, PQ)), look
    yield "PNG PQ, interlaced", lambda: png(deep(), 8, 2, cicp(BT2020, PQ), interlaced=True), look
    p3 = cicp(DISPLAY_P3, SRGB)
    yield (
        "PNG Display P3, palette",
        lambda: png(np.asarray(indexed(200)), 8, 3, p3, palette_chunk(indexed(200))),
        lambda: _by_code_points(lambda: np.asarray(indexed(200).convert("RGB")), DISPLAY_P3, SRGB),
    )
    yield (
        "PNG Display P3 with alpha",
        lambda: png(photo_with_alpha(), 8, 6, p3),
        lambda: np.dstack([_by_code_points(photo, DISPLAY_P3, SRGB), soft_disc()]),
    )
    yield (
        "PNG PQ, gray and alpha",
        lambda: png(cut_out(gray() // 2, soft_disc()), 8, 4, cicp(BT2020, PQ)),
        lambda: np.dstack([_by_code_points(lambda: np.dstack([gray() // 2] * 3), BT2020, PQ), soft_disc()]),
    )
    yield (
        "PNG HLG, gray",
        lambda: png(gray(), 8, 0, cicp(BT2020, HLG)),
        lambda: _by_code_points(lambda: np.dstack([gray()] * 3), BT2020, HLG),
    )
    yield (
        "AVIF Display P3 with alpha",
        partial(_nclx_avif, photo_with_alpha, DISPLAY_P3, SRGB),
        lambda: np.dstack([_by_code_points(photo, DISPLAY_P3, SRGB), soft_disc()]),
    )


def _two_statements() -> Iterator[_Row]:
    """Files that say their colours twice, and what browsers believe."""
    p3, as_p3 = cicp(DISPLAY_P3, SRGB), partial(_by_code_points, photo, DISPLAY_P3, SRGB)
    profile = b"iCCP", b"ProPhoto\0\0" + zlib.compress(prophoto())
    from_profile = lambda: _from_profile(photo(), prophoto())  # noqa: E731 - one of a row's two functions
    yield "PNG with a profile, which loses", partial(_cicp_png, photo, profile, p3), as_p3
    yield "PNG with a profile, which loses to sRGB", partial(_cicp_png, photo, cicp(BT709, SRGB), profile), photo
    linear = b"gAMA", struct.pack(">I", 100_000)
    yield "PNG with a gAMA, which loses", partial(_cicp_png, photo, linear, p3), as_p3
    unusable = {
        "unknown": cicp(200, 200),
        "unspecified": cicp(2, 2),
        "of a limited range": cicp(BT2020, PQ, full_range=0),
        "cut short": (b"cICP", b"\x09\x10\0"),
    }
    for name, chunk in unusable.items():
        yield f"PNG {name}", partial(_cicp_png, photo, chunk), photo
        yield f"PNG {name}, with a profile", partial(_cicp_png, photo, chunk, profile), from_profile
    yield "PNG after its palette", lambda: png(photo(), 8, 2, (b"PLTE", bytes(768)), p3), photo
    for transfer in (SRGB, PQ):
        make = partial(_nclx_avif, photo, DISPLAY_P3, transfer, icc_profile=display_p3())
        look = partial(lambda make: _from_profile(_vips_pixels(make()), display_p3()), make)
        yield f"AVIF {_TRANSFERS[transfer]} with a profile, which wins", make, look


def _by_code_points(pixels: Callable[[], Pixels], primaries: int, transfer: int, peak_nits: float = 1000) -> Pixels:
    look = code_points.shown_in_srgb(pixels() / 255.0, primaries, transfer, peak_nits)
    return np.asarray((look * 255).round().astype(np.uint8))


def _written_photo(primaries: int, transfer: int, peak_nits: float = 1000) -> Pixels:
    return code_points.written(photo(), primaries, transfer, peak_nits)


def _cicp_png(pixels: Callable[[], Pixels], *chunks: tuple[bytes, bytes]) -> bytes:
    return png(pixels(), 8, 2, *chunks)


def _avif_row(
    pixels: Callable[[], Pixels],
    primaries: int,
    transfer: int,
    said: int = 0,
    **options: Any,  # noqa: ANN401 - Pillow's
) -> tuple[Callable[[], bytes], Callable[[], Pixels]]:
    """An AVIF, and the look of its pixels as libvips decodes them: even the best quality changes some by much."""
    make = partial(_nclx_avif, pixels, primaries, said or transfer, **options)
    return make, partial(_by_code_points, lambda: _vips_pixels(make()), primaries, transfer)


def _vips_pixels(data: bytes) -> Pixels:
    return np.asarray(pyvips.Image.new_from_buffer(data, "").numpy())


def _nclx_avif(pixels: Callable[[], Pixels], primaries: int, transfer: int, **options: Any) -> bytes:  # noqa: ANN401 - Pillow's
    data = encoded(pillow(pixels()), "AVIF", quality=100, subsampling="4:4:4", **options)
    return code_points.with_nclx(data, primaries, transfer)


def _nclx_heic(
    pixels: Callable[[], Pixels], primaries: int, transfer: int, nits: int = 0, full_range_flag: int = 1
) -> bytes:
    buffer = io.BytesIO()
    heif = pillow_heif.from_pillow(pillow(pixels()))
    if nits:
        heif.info["content_light_level"] = {"max_content_light_level": nits, "max_pic_average_light_level": 0}
    said = {"color_primaries": primaries, "transfer_characteristics": transfer, "matrix_coefficients": 6}
    heif.save(buffer, quality=98, chroma=444, full_range_flag=full_range_flag, **said)
    return buffer.getvalue()


def _ink() -> Iterator[Case]:
    def case(name: str, make: Callable[[], bytes]) -> Case:
        return Case("CMYK without a profile", name, make, lambda: ink_on_paper(cmyk_of(photo())))

    yield case("JPEG CMYK, inverted as Adobe does", lambda: encoded(_cmyk_picture(), quality=90))
    yield case("JPEG CMYK progressive", lambda: encoded(_cmyk_picture(), quality=90, progressive=True))
    yield case("JPEG YCCK, inverted as Adobe does", lambda: ycck(photo()))
    yield case("TIFF CMYK", lambda: encoded(_cmyk_picture(), "TIFF"))
    yield case("TIFF CMYK, LZW", lambda: encoded(_cmyk_picture(), "TIFF", compression="tiff_lzw"))
    yield case("TIFF CMYK, planes", lambda: tiff(cmyk_of(photo()), 8, 5, planar=True))
    yield case("TIFF CMYK, 16 bit", lambda: tiff(wide(cmyk_of(photo())), 16, 5))


def _transparency() -> Iterator[Case]:
    def case(name: str, make: Callable[[], bytes], pixels: Callable[[], Pixels] | None = None) -> Case:
        return Case("Transparency", name, make, pixels)

    for bits, interlaced in product((1, 2, 4, 8, 16), (False, True)):
        yield case(
            f"PNG gray with a transparent value, {bits} bit{', interlaced' * interlaced}",
            partial(_gray_with_key, bits, interlaced=interlaced),
        )
    for bits, interlaced in product((8, 16), (False, True)):
        yield case(
            f"PNG RGB with a transparent colour, {bits} bit{', interlaced' * interlaced}",
            partial(_rgb_with_key, bits, interlaced=interlaced),
        )
    for bits, interlaced in product((1, 2, 4, 8), (False, True)):
        yield case(
            f"PNG palette of {bits} bit with transparency{', interlaced' * interlaced}",
            partial(_palette_png, bits, transparent=True, interlaced=interlaced),
        )
    for bits, interlaced in product((8, 16), (False, True)):
        suffix = f"{bits} bit{', interlaced' * interlaced}"
        yield case(f"PNG RGBA, {suffix}", partial(_alpha_png, photo, bits, 6, interlaced=interlaced))
        yield case(f"PNG gray and alpha, {suffix}", partial(_alpha_png, gray, bits, 4, interlaced=interlaced))
    yield case("GIF", partial(_gif_with_hole))
    yield case("GIF interlaced", partial(_gif_with_hole, interlace=1))
    yield case(
        "GIF frame smaller than its screen",
        lambda: gif_in_larger_screen(_small_gif(), (357, 241), (100, 60)),
        lambda: _on_screen(_small_frame(), (357, 241), (100, 60)),
    )
    yield case("WebP lossy", partial(_saved, "WEBP", photo_with_alpha, quality=90))
    yield case("WebP lossless", partial(_saved, "WEBP", photo_with_alpha, lossless=True))
    yield case("AVIF", partial(_saved, "AVIF", photo_with_alpha, quality=90))
    yield case("HEIC", lambda: _heic(pillow(photo_with_alpha())), photo_with_alpha)
    yield case("TIFF RGBA", partial(_saved, "TIFF", photo_with_alpha))
    yield case("TIFF RGBA, planes", lambda: tiff(photo_with_alpha(), 8, 2, extra=[2], planar=True))
    yield case("TIFF RGBA, premultiplied", lambda: tiff(_premultiplied(), 8, 2, extra=[1]), photo_with_alpha)
    yield case("TIFF RGBA, 16 bit", lambda: tiff(wide(photo_with_alpha()), 16, 2, extra=[2]))
    yield case("TIFF gray and alpha", lambda: tiff(cut_out(gray(), soft_disc()), 8, 1, extra=[2]))
    yield case("TIFF gray and alpha, premultiplied", lambda: tiff(_premultiplied_gray(), 8, 1, extra=[1]), _gray_alpha)
    yield case(
        "TIFF gray and alpha, premultiplied, deflate",
        lambda: tiff(_premultiplied_gray(), 8, 1, extra=[1], compression=8, packed=zlib.compress),
        _gray_alpha,
    )
    yield case(
        "TIFF with a fourth sample that means nothing",
        lambda: tiff(np.dstack([photo(), soft_disc()]), 8, 2, extra=[0]),
        photo,
    )
    yield case("BMP 32 bit with alpha", lambda: bmp(photo_with_alpha(), _BGRA, 32), photo_with_alpha)
    yield case("JPEG 2000 RGBA", partial(_saved, "JPEG2000", photo_with_alpha), photo_with_alpha)
    yield case(
        "JPEG 2000 gray and alpha",
        partial(_saved, "JPEG2000", lambda: cut_out(gray(), soft_disc())),
        lambda: _gray_alpha_rgba(cut_out(gray(), soft_disc())),
    )
    yield case("ICO with a mask", lambda: ico_with_mask(_masked_icon()), _masked_icon)


_BGRA = (0x00FF0000, 0x0000FF00, 0x000000FF, 0xFF000000)


def _gray_with_key(bits: int, *, interlaced: bool) -> bytes:
    samples = gray() if bits == 8 else wide(gray()) if bits == 16 else few_bits(bits)
    key = {1: 1, 2: 2, 4: 9, 8: 200, 16: 0x1234}[bits]
    return png(with_hole(samples, key), bits, 0, (b"tRNS", struct.pack(">H", key)), interlaced=interlaced)


def _rgb_with_key(bits: int, *, interlaced: bool) -> bytes:
    key = (200, 30, 40) if bits == 8 else (0x1234, 0x2345, 0x3456)
    samples = with_hole(photo() if bits == 8 else wide(photo()), key)
    return png(samples, bits, 2, (b"tRNS", struct.pack(">3H", *key)), interlaced=interlaced)


def _palette_png(bits: int, *, transparent: bool = False, interlaced: bool = False) -> bytes:
    picture = indexed(2**bits)
    chunks = [palette_chunk(picture)]
    if transparent:
        chunks.append((b"tRNS", bytes([0, 128, 255][: 2**bits])))
    return png(np.asarray(picture), bits, 3, *chunks, interlaced=interlaced)


def _alpha_png(colours: Callable[[], Pixels], bits: int, colour_type: int, *, interlaced: bool) -> bytes:
    samples = cut_out(colours(), soft_disc())
    return png(samples if bits == 8 else wide(samples), bits, colour_type, interlaced=interlaced)


def _gif_with_hole(**options: int) -> bytes:
    picture = indexed(200)
    samples = np.asarray(picture).copy()
    samples[70:150, 90:210] = 255
    holed = pillow(samples)
    holed.putpalette(picture.getpalette() or [])
    return encoded(holed, "GIF", transparency=255, **options)


def _small_frame() -> Pixels:
    return np.asarray(indexed(100).convert("RGB"))[:120, :200]


def _small_gif() -> bytes:
    return encoded(indexed(100).crop((0, 0, 200, 120)), "GIF")


def _on_screen(frame: Pixels, screen: tuple[int, int], place: tuple[int, int]) -> Pixels:
    whole = np.zeros((screen[1], screen[0], 4), np.uint8)
    (x, y), (height, width) = place, frame.shape[:2]
    whole[y : y + height, x : x + width] = np.dstack([frame, np.full((height, width), 255)])
    return whole


def _premultiplied() -> Pixels:
    pixels = photo_with_alpha().astype(np.float64)
    return np.asarray(np.dstack([pixels[..., :3] * pixels[..., 3:] / 255, pixels[..., 3]]).round().astype(np.uint8))


def _premultiplied_gray() -> Pixels:
    pixels = cut_out(gray(), soft_disc()).astype(np.float64)
    return np.asarray(np.dstack([pixels[..., 0] * pixels[..., 1] / 255, pixels[..., 1]]).round().astype(np.uint8))


def _gray_alpha() -> Pixels:
    return _gray_alpha_rgba(cut_out(gray(), soft_disc()))


def _gray_alpha_rgba(samples: Pixels) -> Pixels:
    return np.dstack([samples[..., 0]] * 3 + [samples[..., 1]])


def _masked_icon() -> Pixels:
    pixels = _icon_pixels().copy()
    pixels[..., 3] = np.where(pixels[..., 3] < 128, 0, 255)
    return pixels


def _palettes() -> Iterator[Case]:
    def case(name: str, make: Callable[[], bytes], pixels: Callable[[], Pixels] | None = None) -> Case:
        return Case("Palette, 1, 2 and 4 bits", name, make, pixels)

    for bits, interlaced in product((1, 2, 4), (False, True)):
        yield case(
            f"PNG gray, {bits} bit{', interlaced' * interlaced}",
            partial(lambda bits, interlaced: png(few_bits(bits), bits, 0, interlaced=interlaced), bits, interlaced),
        )
    for bits, interlaced in product((1, 2, 4, 8), (False, True)):
        yield case(
            f"PNG palette of {bits} bit{', interlaced' * interlaced}",
            partial(_palette_png, bits, interlaced=interlaced),
        )
    yield case("GIF of 256 colours", lambda: encoded(indexed(256), "GIF"))
    yield case("GIF of 2 colours", lambda: encoded(indexed(2), "GIF"))
    for bits, photometric in product((1, 2, 4), (0, 1)):
        yield case(
            f"TIFF gray, {bits} bit, {'black' if photometric else 'white'} is zero",
            partial(lambda bits, photometric: tiff(few_bits(bits), bits, photometric), bits, photometric),
            partial(_stretched, bits, inverted=not photometric),
        )
    yield case(
        "TIFF fax (group 4)",
        lambda: encoded(pillow(gray()).convert("1"), "TIFF", compression="group4"),
        lambda: np.asarray(pillow(gray()).convert("1").convert("L")),
    )
    yield case("TIFF palette", lambda: encoded(indexed(200), "TIFF"))
    yield case("TIFF palette, LZW", lambda: encoded(indexed(200), "TIFF", compression="tiff_lzw"))
    yield case("BMP palette", lambda: encoded(indexed(200), "BMP"), lambda: np.asarray(indexed(200).convert("RGB")))
    yield case(
        "BMP 1 bit",
        lambda: encoded(pillow(gray()).convert("1"), "BMP"),
        lambda: np.asarray(pillow(gray()).convert("1").convert("L")),
    )
    yield case(
        "BMP palette, run lengths", lambda: _rle_bmp(indexed(200)), lambda: np.asarray(indexed(200).convert("RGB"))
    )
    yield case(
        "PBM",
        lambda: encoded(pillow(gray()).convert("1"), "PPM"),
        lambda: np.asarray(pillow(gray()).convert("1").convert("L")),
    )
    yield case(
        "JPEG 2000 of a palette's colours",
        lambda: encoded(indexed(200).convert("RGB"), "JPEG2000"),
        lambda: np.asarray(indexed(200).convert("RGB")),
    )


def _stretched(bits: int, *, inverted: bool) -> Pixels:
    samples = few_bits(bits) * (255 // (2**bits - 1))
    return np.asarray(255 - samples if inverted else samples)


def _rle_bmp(picture: Image.Image) -> bytes:
    """A BMP of 8 bits whose rows are run lengths: here, all runs of one."""
    plain = encoded(picture, "BMP")
    (start,) = struct.unpack("<I", plain[10:14])
    rows = b"".join(b"".join(bytes([1, value]) for value in row) + b"\0\0" for row in np.asarray(picture)[::-1])
    body = rows[:-2] + b"\0\1"
    head = bytearray(plain[:start])
    head[2:6] = struct.pack("<I", start + len(body))
    head[30:38] = struct.pack("<II", 1, len(body))
    return bytes(head) + body


def _deep() -> Iterator[Case]:
    def case(name: str, make: Callable[[], bytes], pixels: Callable[[], Pixels] | None = None) -> Case:
        return Case("16 and 32 bits a sample", name, make, pixels)

    for interlaced in (False, True):
        suffix = ", interlaced" * interlaced
        yield case(f"PNG gray, 16 bit{suffix}", partial(lambda i: png(wide(gray()), 16, 0, interlaced=i), interlaced))
        yield case(f"PNG RGB, 16 bit{suffix}", partial(lambda i: png(wide(photo()), 16, 2, interlaced=i), interlaced))
    for planar, order, compression in product((False, True), "<>", (1, 8)):
        packed = zlib.compress if compression == 8 else bytes
        name = f"TIFF RGB, 16 bit, {'planes, ' * planar}{_MAKERS[order]}{', deflate' * (compression == 8)}"
        yield case(
            name,
            partial(
                lambda **options: tiff(wide(photo()), 16, 2, **options),
                planar=planar,
                order=order,
                packed=packed,
                compression=compression,
            ),
        )
    yield case("TIFF gray, 16 bit", lambda: tiff(wide(gray()), 16, 1))
    yield case("TIFF gray, 16 bit, Motorola", lambda: tiff(wide(gray()), 16, 1, order=">"))
    yield case("TIFF gray, 16 bit, white is zero", lambda: tiff(wide(255 - gray()), 16, 0), gray)
    yield case(
        "TIFF gray, 16 bit, in tiles, deflated",
        partial(_vips_saved, ".tif", lambda: wide(gray()), tile=True, compression="deflate"),
    )
    yield case(
        "TIFF RGB, 16 bit, in tiles, LZW",
        partial(_vips_saved, ".tif", lambda: wide(photo()), tile=True, compression="lzw"),
    )
    differences = {"compression": "lzw", "predictor": "horizontal"}
    yield case("TIFF RGB, 16 bit, differences", partial(_vips_saved, ".tif", lambda: wide(photo()), **differences))
    for order in "<>":
        yield case(
            f"TIFF float from 0 to 1, {_MAKERS[order]}",
            partial(lambda order: tiff((gray() / 255).astype(np.float32), 32, 1, kind=3, order=order), order),
            gray,
        )
    yield case("TIFF float from 0 to 255", lambda: tiff(gray().astype(np.float32), 32, 1, kind=3), gray)
    yield case("TIFF gray, signed 16 bit", lambda: tiff(gray().astype(np.int16) * 128, 16, 1, kind=2))
    yield case("TIFF gray, 32 bit, of which 16 are used", lambda: tiff(gray().astype(np.uint32) * 257, 32, 1), gray)
    yield case("TIFF gray, 16 bit, dark", lambda: tiff(wide(gray() // 8), 16, 1), lambda: gray() // 8)
    yield case("PPM, 16 bit", lambda: _pgm(photo() * 257.0, 65535), photo)
    yield case("PGM, 16 bit", lambda: _pgm(gray() * 257.0, 65535), gray)
    yield case("PGM, 12 bit", lambda: _pgm(gray() * (4095 / 255), 4095), gray)
    yield case("JPEG 2000 gray, 16 bit", lambda: encoded(pillow(wide(gray())), "JPEG2000"), gray)
    yield case("AVIF, 10 bit", partial(_vips_saved, ".avif", lambda: wide(photo()), bitdepth=10, Q=96))
    yield case("HEIC, 10 bit", _deep_heic, photo)
    yield case("PFM", lambda: _pfm(gray() / 255.0), gray)


def _light(pixels: Pixels) -> Pixels:
    """SRGB samples of 8 bits as shares of light from 0 to 1."""
    share = pixels / 255.0
    return np.asarray(np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4))


def _deep_heic() -> bytes:
    buffer = io.BytesIO()
    height, width = photo().shape[:2]
    heif = pillow_heif.from_bytes("RGB;16", (width, height), wide(photo()).tobytes())
    heif.save(buffer, quality=90)
    return buffer.getvalue()


def _pfm(samples: Pixels) -> bytes:
    return b"Pf\n%d %d\n-1.0\n" % samples.shape[1::-1] + samples[::-1].astype("<f4").tobytes()


def cases() -> list[Case]:
    """The matrix: format, mode, orientation, profile, transparency."""
    return [
        *_plain(),
        *_layouts(),
        *_orientations(),
        *_profiles(),
        *_code_points(),
        *_ink(),
        *_transparency(),
        *_palettes(),
        *_deep(),
    ]


def refused_cases() -> list[tuple[Case, str]]:
    """Files that are whole, of a kind that is not read, and the name of the kind: refused, not passed on as noise."""
    gray_and_alpha = cut_out(gray(), soft_disc())
    kinds: list[tuple[str, Callable[[], bytes], str]] = [
        (
            "TIFF RGB float",
            lambda: tiff(_light(photo()).astype(np.float32), 32, 2, kind=3),
            "3 floating-point samples of 32",
        ),
        ("TIFF gray, half float", lambda: tiff((gray() / 255.0).astype(np.float16), 16, 1, kind=3), "floating-point"),
        (
            "TIFF gray and alpha, 16 bit",
            lambda: tiff(wide(gray_and_alpha), 16, 1, extra=[2]),
            "2 unsigned samples",
        ),
        ("TIFF gray and alpha, planes", lambda: tiff(gray_and_alpha, 8, 1, extra=[2], planar=True), "planes"),
        (
            "TIFF gray and alpha, planes, deflate",
            lambda: tiff(_premultiplied_gray(), 8, 1, extra=[1], planar=True, compression=8, packed=zlib.compress),
            "planes",
        ),
        ("TIFF gray, all of 32 bit", lambda: tiff(gray().astype(np.uint32) * 0x01010101, 32, 1), "unsigned"),
        ("TIFF gray of 64 bit", lambda: tiff(gray() / 255.0, 64, 1, kind=3), "of 64 bits"),
        ("TIFF gray of 3 bit", lambda: tiff(few_bits(3), 3, 1), "of 3 bits"),
        ("TIFF RGB of 32 bit", lambda: tiff(photo().astype(np.uint32) << 24, 32, 2), "3 unsigned samples of 32 bits"),
        ("TIFF complex", lambda: tiff(photo(), 8, 2, kind=6), "complex"),
        ("TIFF CIELAB, 16 bit", lambda: tiff(wide(photo()), 16, 8), "CIELAB"),
        ("TIFF ICCLAB", lambda: tiff(photo(), 8, 9), "ICCLAB"),
        ("TIFF LogLuv", lambda: tiff(photo(), 8, 32845), "LogLuv"),
        ("JPEG 2000 in a TIFF", lambda: tiff(photo(), 8, 2, compression=34712), "JPEG 2000"),
        ("JBIG in a TIFF", lambda: tiff(few_bits(1), 1, 0, compression=34661), "JBIG"),
        ("BMP of odd masks", lambda: bmp(photo(), (0xF00, 0xF0, 0xF, 0), 16), "masks"),
        ("BMP of 2 bits", lambda: _bmp_as(2, 0), "2 bits a pixel"),
        ("JPEG in a BMP", lambda: _bmp_as(0, 4), "JPEG"),
        ("JPEG of 12 bits", partial(_jpeg_as, 0xC1, bits=12), "12 bits"),
        ("JPEG lossless", lambda: lossless_jpeg(gray()[..., None]), "a lossless JPEG"),
        ("JPEG RGB, lossless", lambda: lossless_jpeg(photo()), "a lossless JPEG"),
        ("JPEG lossless, arithmetic", partial(_jpeg_as, 0xCB), "lossless arithmetic"),
        ("JPEG hierarchical", partial(_jpeg_as, 0xC5), "hierarchical"),
        ("JPEG-LS", partial(_jpeg_as, 0xF7), "JPEG-LS"),
        ("PNG of iOS", lambda: _apple_png(photo()), "iOS"),
        ("AVIF without colours", _auxiliary_avif, "AVIF"),
        ("Raw: DNG", lambda: raw_photo(dng=True), "raw photo of a camera"),
        ("Raw: colour filter array", lambda: tiff(wide(gray()), 16, 32803), "raw photo of a camera"),
        ("Raw: linear", lambda: tiff(wide(photo()), 16, 34892), "raw photo of a camera"),
        ("Raw: NEF or ARW", raw_photo, "raw photo of a camera"),
        ("Raw: CR2", _cr2, "raw photo of a camera"),
    ]
    return [(Case("Refused", name, make), word) for name, make, word in kinds]


def _bmp_as(bits: int, coding: int) -> bytes:
    """A BMP whose header says so."""
    data = bytearray(encoded(pillow(gray()), "BMP"))
    data[28:30], data[30:34] = struct.pack("<H", bits), struct.pack("<I", coding)
    return bytes(data)


def _jpeg_as(frame: int, bits: int = 8) -> bytes:
    """A JPEG whose frame says so."""
    data = bytearray(encoded(pillow(photo())))
    place = data.index(b"\xff\xc0")
    data[place + 1], data[place + 4] = frame, bits
    return bytes(data)


def lossless_jpeg(samples: Pixels) -> bytes:
    """A lossless JPEG: each sample is the difference to its left neighbour (ITU T.81, annex H)."""
    height, width, bands = samples.shape
    values = samples.astype(int)
    above = np.concatenate([np.full((1, 1, bands), 128), values[:-1, :1]])
    bits = []
    for difference in np.diff(values, axis=1, prepend=above).ravel().tolist():
        size = abs(difference).bit_length()
        place = difference + (2**size - 1 if difference < 0 else 0)
        # The codes are the sizes themselves, in 4 bits.
        bits.append(f"{size:04b}" + (f"{place:0{size}b}" if size else ""))
    text = "".join(bits)
    text += "1" * (-len(text) % 8)
    body = int(text, 2).to_bytes(len(text) // 8).replace(b"\xff", b"\xff\0")
    table = b"\0" + bytes([0, 0, 0, 9]) + bytes(12) + bytes(range(9))
    frame = struct.pack(">BHHB", 8, height, width, bands) + b"".join(bytes([band, 0x11, 0]) for band in range(bands))
    scan = bytes([bands]) + b"".join(bytes([band, 0]) for band in range(bands)) + bytes([1, 0, 0])
    segments = b"".join(
        struct.pack(">BBH", 0xFF, marker, len(part) + 2) + part
        for marker, part in [(0xC3, frame), (0xC4, table), (0xDA, scan)]
    )
    return b"\xff\xd8" + segments + body + b"\xff\xd9"


def _apple_png(pixels: Pixels) -> bytes:
    """A PNG as Apple's tools make it for iOS, with a chunk before the header."""
    data = png(pixels, 8, 2)
    return data[:8] + png_chunk(b"CgBI", b"\x50\0\x20\2") + data[8:]


def _auxiliary_avif() -> bytes:
    """An AVIF whose item has a coding that is none of its own."""
    return encoded(pillow(photo()), "AVIF").replace(b"av01", b"av99")


def raw_photo(*, dng: bool = False) -> bytes:
    """A TIFF as cameras write it: first a tiny picture, and the samples of the sensor in a directory of its own."""
    make = (271, "s", (b"Camera",))
    more: list[tuple[int, str, tuple[Any, ...]]] = [make, (330, "I", (0,))]
    if dng:
        more = [make, (50706, "B", (1, 4, 0, 0))]
    tiny = tiff(photo()[:8, :8], 8, 2, more=more)
    if dng:
        return tiny
    sensor = tiff(wide(gray()), 16, 32803)
    base = len(tiny)
    (start,) = struct.unpack("<I", sensor[4:8])
    entries = bytearray(sensor[start:])
    # Of the sensor's directory no value but its place counts here.
    place = tiny.index(struct.pack("<HHI", 330, 4, 1)) + 8
    return tiny[:place] + struct.pack("<I", base) + tiny[place + 4 :] + bytes(entries)


def _cr2() -> bytes:
    data = tiff(photo()[:8, :8], 8, 2)
    (start,) = struct.unpack("<I", data[4:8])
    return data[:4] + struct.pack("<I", start) + b"CR\2\0" + data[12:]


# The table


def limits_for(thumbnail: bytes) -> Limits:
    """Return the difference that a format cannot avoid, at the quality that is compared."""
    with Image.open(io.BytesIO(thumbnail)) as picture:
        if picture.mode == "P" or picture.format == "GIF":
            return FEW_COLOURS
        return LOSSLESS if picture.format in {"PNG", "TIFF", "BMP", "PPM", "JPEG2000", "ICO"} else LOSSY


def is_right(case: Case, thumbnail: bytes) -> bool:
    """Return True if a thumbnail has the size and the look of the reference."""
    difference = case.difference(thumbnail)
    return difference is not None and limits_for(thumbnail).allow(difference)


def table(matrix: Sequence[Case]) -> str:
    """Count the files of each category that come out right, here and with three lines of Pillow, in Markdown."""
    files, right, naive_right = Counter[str](), Counter[str](), Counter[str]()
    for case in matrix:
        data = case.make()
        files[case.category] += 1
        right[case.category] += is_right(case, ours(data))
        try:
            naive_right[case.category] += is_right(case, naive(data))
        except Exception:  # noqa: BLE001, S112 - whatever it raises, there is no thumbnail
            continue
    rows = [(name, *(count[name] for count in (files, right, naive_right))) for name in files]
    rows.append(("**all**", files.total(), right.total(), naive_right.total()))
    lines = ["| category | files | this service | Pillow alone |", "| --- | ---: | ---: | ---: |"]
    return "\n".join(lines + [f"| {name} | {all_} | {good} | {plain} |" for name, all_, good, plain in rows])


def compared(folder: Path) -> Iterator[str]:
    """A line for each file of a folder, and of those below it, that the service and libvips do not agree on."""
    same = 0
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        verdict = _agreement(path.read_bytes())
        same += not verdict
        if verdict:
            yield f"{path.relative_to(folder)}: {verdict}"
    yield f"{same} others are the same to the eye, or are refused by both"


def _agreement(data: bytes) -> str:
    try:
        wanted = reduced(look_of(data))
    except pyvips.Error:
        wanted = None
    try:
        got = shown(ours(data))
    except ImageRejected as error:
        return "" if wanted is None else f"refused, and libvips reads it: {error}"
    if wanted is None:
        return "libvips does not read it"
    if (got.width, got.height) != (wanted.width, wanted.height):
        return f"{got.width}x{got.height}, and libvips has {wanted.width}x{wanted.height}"
    difference = Difference.between(got, wanted)
    return "" if FEW_COLOURS.allow(difference) else str(difference)


def main(arguments: Sequence[str]) -> None:
    """Print the table, or what is different in a folder."""
    lines = compared(Path(arguments[0])) if arguments else iter([table(cases())])
    for line in lines:
        sys.stdout.write(f"{line}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
