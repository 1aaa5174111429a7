"""Kinds of files that are whole and are not read, told by their own headers.

What a library cannot read may be damaged or only rare. This tells which, and names the kind. Knows bytes and numbers
only: no pixels, no libraries.
"""

import re
import struct

from service.images.boxes import boxes
from service.images.formats import TIFF
from service.images.tiff_tags import Directory, read_directories
from service.images.validation import FRAMES, FileBytes, find_segment

_TIFF = re.compile(TIFF.signature)
_BITS, _COMPRESSION, _PHOTOMETRIC, _MAKE, _SAMPLES, _SAMPLE_FORMAT, _DNG_VERSION = 258, 259, 262, 271, 277, 339, 50706
_WIDTH, _HEIGHT = 256, 257
_PLACES = (273, 324)
"""StripOffsets and TileOffsets."""
_SENSOR = frozenset({32803, 34892})
"""PhotometricInterpretation of a color filter array, and of linear raw samples."""
_RAW_COMPRESSIONS = frozenset({32767, 32769, 32770, 32867, 34713, 65000, 65535})
"""Of Sony, Epson, Samsung, Kodak, Nikon, Kodak and Pentax."""

_PHOTOMETRICS = {
    0: "gray", 1: "gray", 2: "RGB", 3: "a palette", 4: "a mask", 5: "CMYK", 6: "YCbCr", 8: "CIELAB", 9: "ICCLAB",
    10: "ITULAB", 32844: "LogL", 32845: "LogLuv",
}  # fmt: skip
_SAMPLE_FORMATS = {1: "unsigned", 2: "signed", 3: "floating-point", 4: "untyped", 5: "complex", 6: "complex"}
_MOST_BITS = 64
_COMPRESSIONS = {
    2: "CCITT RLE", 3: "fax", 4: "fax", 5: "LZW", 6: "old-style JPEG", 7: "JPEG", 8: "deflate", 9: "JBIG", 10: "JBIG",
    32766: "NeXT", 32771: "CCITT RLE", 32773: "PackBits", 32809: "ThunderScan", 32908: "Pixar film",
    32909: "Pixar deflate", 32946: "deflate", 33003: "JPEG 2000", 33004: "JPEG 2000", 33005: "JPEG 2000",
    34661: "JBIG", 34676: "SGI LogLuv", 34677: "SGI LogLuv", 34712: "JPEG 2000", 34715: "JBIG2", 34887: "LERC",
    34892: "lossy JPEG", 34925: "LZMA", 34933: "PNG", 34934: "JPEG XR", 50000: "Zstandard", 50001: "WebP",
    50002: "JPEG XL", 52546: "JPEG XL",
}  # fmt: skip

_JPEG_PROCESSES = {
    0xC3: "lossless", 0xC5: "hierarchical", 0xC6: "hierarchical", 0xC7: "lossless hierarchical",
    0xCB: "lossless arithmetic", 0xCD: "hierarchical arithmetic", 0xCE: "hierarchical arithmetic",
    0xCF: "lossless hierarchical arithmetic",
}  # fmt: skip
"""By the marker of the frame (ITU T.81, B.1.1.3), of those that are not read, or not at a fraction of their size."""
_JPEG_LS = 0xF7
_JPEG_BITS = 8
_READ_COMPONENTS = {1, 3, 4}

_MOST_JPEG_BITS = 16

_BMP_HEAD_BYTES = 66
"""Up to the masks."""
_BMP_CODINGS = {4: "a JPEG inside", 5: "a PNG inside", 11: "CMYK colors", 12: "CMYK colors", 13: "CMYK colors"}
_BMP_MASKS = {3, 6}
_BMP_MASK_BITS = {16, 32}
_RARE_BMP_BITS = {2, 64}
_BMP_INFO_BYTES = 40
_CR2_MARK = b"CR\x02\x00"
"""Canon's mark and major version, behind the header of a TIFF."""
_FRAME_HEAD_BYTES = 8
"""Up to the number of components."""


def kind_never_read(data: FileBytes) -> str | None:
    """Return what a file is, such as "a JPEG of 12 bits a sample", if no such file is to be given to a decoder."""
    if data[:2] == b"\xff\xd8":
        return _describe_jpeg(data)
    if data[:8] == b"\x89PNG\r\n\x1a\n" and data[12:16] == b"CgBI":
        return "a PNG made for iOS, which Apple's programs alone read"
    return "a raw photo of a camera" if _TIFF.match(data[:4]) and _is_raw_photo(data) else None


def kind_refused(data: FileBytes) -> str | None:
    """Return what a file is whose header no decoder takes, if it is of a rare kind; None if it is damaged."""
    if _TIFF.match(data[:4]):
        return _describe_tiff(next(read_directories(data), {}))
    if data[:2] == b"BM":
        return _describe_bmp(data[:_BMP_HEAD_BYTES])
    if data[4:8] == b"ftyp" and data[8:12] in {b"avif", b"avis"} and _ends_with_its_boxes(data):
        return "an AVIF of a kind that its decoder refuses"
    return None


def _is_raw_photo(data: FileBytes) -> bool:
    """Return True if a TIFF is the raw photo of a camera: DNG, CR2, NEF, ARW and others.

    Its first directory is a small preview as a rule, so a decoder of TIFF shows that, or fails at what comes later.
    """
    directories = list(read_directories(data))
    has_maker = any(_MAKE in tags for tags in directories)
    return data[8:12] == _CR2_MARK or any(
        _DNG_VERSION in tags
        or _value(tags, _PHOTOMETRIC) in _SENSOR
        or (has_maker and _value(tags, _COMPRESSION) in _RAW_COMPRESSIONS)
        for tags in directories
    )


def _describe_jpeg(data: FileBytes) -> str | None:
    place = find_segment(data, FRAMES | {_JPEG_LS})
    frame = data[place : place + _FRAME_HEAD_BYTES] if place else b""
    if place is None or len(frame) < _FRAME_HEAD_BYTES:
        return None
    marker, bits, components = data[place - 1], frame[2], frame[7]
    if marker == _JPEG_LS:
        return "a JPEG-LS"
    if marker in _JPEG_PROCESSES:
        return f"a {_JPEG_PROCESSES[marker]} JPEG"
    if bits != _JPEG_BITS and 1 < bits <= _MOST_JPEG_BITS:
        return f"a JPEG of {bits} bits a sample"
    if components and components not in _READ_COMPONENTS:
        return f"a JPEG of {components} components"
    return None


def _ends_with_its_boxes(data: FileBytes) -> bool:
    """Return True if the boxes of an ISO base media file are whole, and tell what is in it (ISO 14496-12, 4.2)."""
    found = {end: kind for kind, (_, end) in boxes(data, (0, len(data)))}
    return len(data) in found and b"meta" in found.values()


def _value(tags: Directory, tag: int, default: int | None = None) -> int | None:
    """Return the first value of a tag; the default if there is none."""
    return next(iter(tags.get(tag, ())), default)


def _describe_tiff(tags: Directory) -> str | None:
    sizes = [_value(tags, tag, 0) for tag in (_WIDTH, _HEIGHT)]
    bits, samples = _value(tags, _BITS, 1), _value(tags, _SAMPLES, 1)
    colors = _PHOTOMETRICS.get(_value(tags, _PHOTOMETRIC, -1) or 0)
    samples_are = _SAMPLE_FORMATS.get(_value(tags, _SAMPLE_FORMAT, 1) or 1)
    compression = _value(tags, _COMPRESSION, 1)
    packing = "" if compression == 1 else _COMPRESSIONS.get(compression or 0)
    is_there = any(tag in tags for tag in _PLACES)
    if not (all(sizes) and bits and bits <= _MOST_BITS and samples and colors and samples_are and is_there):
        return None
    if packing is None:
        return None
    counted = f"{samples} {samples_are} sample{'s' * (samples > 1)} of {bits} bit{'s' * (bits > 1)}"
    return f"a TIFF of {colors}, {counted} a pixel{f', packed as {packing}' if packing else ''}"


def _describe_bmp(head: bytes) -> str | None:
    if len(head) < _BMP_HEAD_BYTES:
        return None
    info_bytes, bits, coding = struct.unpack("<14xI10xHI", head[:34])
    if info_bytes < _BMP_INFO_BYTES:
        return None
    if coding in _BMP_CODINGS:
        return f"a BMP with {_BMP_CODINGS[coding]}"
    if bits in _RARE_BMP_BITS:
        return f"a BMP of {bits} bits a pixel"
    if coding in _BMP_MASKS and bits in _BMP_MASK_BITS:
        red, green, blue = masks = struct.unpack("<3I", head[54:66])
        if all(masks) and not (red & green or green & blue or red & blue):
            return f"a BMP with the rare color masks {red:X}, {green:X} and {blue:X}"
    return None
