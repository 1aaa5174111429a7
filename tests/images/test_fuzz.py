"""Any bytes give a thumbnail or a rejection of ours, in bounded time and memory.

By default they draw the same few hundred mutations of real files each time. `FUZZ_EXAMPLES=100000 pytest -m slow
tests/images/test_fuzz.py -k mutated` draws that many, and others each time.
"""

import io
import json
import os
import resource
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pillow_heif
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from PIL import Image

from service.errors import CorruptImage, ImageRejected
from service.images.spec import Box, OutputFormat, Thumbnail, ThumbnailSpec
from service.images.thumbnail import make_thumbnails
from tests.images.conformance import (
    bmp,
    cmyk_profile,
    display_p3,
    ico_with_mask,
    png,
    png_chunk,
    tiff,
    unbounded,
    ycck,
)
from tests.support.heic import heic
from tests.support.memory_use import MEBIBYTE, peak_memory
from tests.support.pictures import encoded, lying, opened, quadrants

pytestmark = pytest.mark.slow

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "0"))
SPECS = [ThumbnailSpec(), ThumbnailSpec(Box(30, 30), OutputFormat.WEBP, animated=True)]
FEW_PIXELS = 1_000_000


# Real files, small


def _picture() -> Image.Image:
    """Something of everything: edges, a gradient, noise."""
    picture = quadrants(64, 48)
    picture.paste(Image.linear_gradient("L").resize((30, 20)), (5, 5))
    picture.paste(Image.effect_noise((20, 15), 60), (38, 27))
    return picture


def _alpha() -> Image.Image:
    picture = _picture().convert("RGBA")
    picture.putalpha(Image.radial_gradient("L").resize(picture.size))
    return picture


def _turning(count: int = 4) -> list[Image.Image]:
    return [_alpha().rotate(20 * index) for index in range(count)]


def _heic() -> bytes:
    buffer = io.BytesIO()
    picture, exif = lying(_picture(), 6)
    pillow_heif.from_pillow(picture).save(buffer, exif=exif, quality=60)
    return buffer.getvalue()


@cache
def seeds() -> dict[str, bytes]:
    """Small files of every format that is read, in many ways of writing them."""
    picture, alpha, samples = _picture(), _alpha(), np.asarray(_picture())
    indexed = picture.quantize(32)
    many = {"save_all": True, "append_images": _turning()[1:], "duration": [40, 70, 90, 120], "loop": 2}
    exif = lying(picture, 8)[1]
    cmyk = picture.convert("CMYK")
    return {
        "JPEG": encoded(picture, "JPEG", exif=exif, icc_profile=display_p3(), comment=b"a comment"),
        "JPEG progressive": encoded(picture, "JPEG", progressive=True, quality=90),
        "JPEG with restarts": encoded(picture, "JPEG", restart_marker_blocks=2),
        "JPEG CMYK": encoded(cmyk, "JPEG", icc_profile=cmyk_profile()[:60_000]),
        "JPEG YCCK": ycck(samples),
        "MPO": encoded(picture, "MPO", save_all=True, append_images=[picture.rotate(90)]),
        "PNG": encoded(picture, "PNG", exif=exif, icc_profile=display_p3()),
        "PNG alpha, interlaced": png(np.asarray(alpha), 8, 6, (b"gAMA", struct.pack(">I", 50_000)), interlaced=True),
        "PNG 16 bit": png(samples.astype(np.uint16) * 257, 16, 2, (b"tRNS", struct.pack(">3H", 1, 2, 3))),
        "PNG gray of 2 bits": png(samples[..., 0] >> 6, 2, 0, (b"tRNS", b"\0\2")),
        "PNG palette": encoded(indexed, "PNG", transparency=b"\0\x80\xff"),
        "PNG animated": encoded(alpha, "PNG", disposal=1, **many),
        "GIF": encoded(indexed, "GIF", transparency=3, comment=b"a comment"),
        "GIF animated": encoded(alpha, "GIF", disposal=2, **many),
        "WebP": encoded(picture, "WEBP", exif=exif, icc_profile=display_p3()),
        "WebP lossless": encoded(alpha, "WEBP", lossless=True),
        "WebP alpha": encoded(alpha, "WEBP"),
        "WebP animated": encoded(alpha, "WEBP", **many),
        "AVIF": encoded(alpha, "AVIF", exif=exif),
        "HEIC": _heic(),
        "HEIC with a preview": heic(picture.resize((320, 240)), thumbnails=[200]),
        "TIFF": encoded(picture, "TIFF", exif=exif, icc_profile=display_p3()),
        "TIFF LZW": encoded(alpha, "TIFF", compression="tiff_lzw"),
        "TIFF deflate": encoded(picture, "TIFF", compression="tiff_adobe_deflate"),
        "TIFF with JPEG inside": encoded(picture, "TIFF", compression="jpeg"),
        "TIFF fax": encoded(picture.convert("1"), "TIFF", compression="group4"),
        "TIFF pages": encoded(picture, "TIFF", save_all=True, append_images=[picture.rotate(90)]),
        "TIFF planes of 16 bits": tiff(samples.astype(np.uint16) * 257, 16, 2, planar=True, order=">"),
        "TIFF float": tiff((samples[..., 0] / 255).astype(np.float32), 32, 1, kind=3),
        "TIFF CMYK": encoded(cmyk, "TIFF", compression="packbits"),
        "BMP": encoded(picture, "BMP"),
        "BMP alpha": bmp(np.asarray(alpha), (0xFF0000, 0xFF00, 0xFF, 0xFF000000), 32),
        "BMP palette": encoded(indexed, "BMP"),
        "ICO": encoded(alpha, "ICO", sizes=[(16, 16), (48, 48)]),
        "ICO with BMP inside": ico_with_mask(np.asarray(alpha)),
        "JPEG 2000": encoded(alpha, "JPEG2000"),
        "JPEG 2000 in tiles": encoded(picture, "JPEG2000", tile_size=(32, 32), irreversible=True, quality_layers=[9]),
        "PPM": encoded(picture, "PPM"),
        "PPM in plain text": b"P3 4 3 255 " + b" ".join(b"%d" % value for value in range(36)),
        "PFM": b"Pf\n4 3\n-1.0\n" + struct.pack("<12f", *range(12)),
    }


# What happens to them

_EXTREMES = [0, 1, 2, 0x7F, 0xFF, 0x100, 0x7FFF, 0xFFFF, 0x10000, 0xFFFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF]


def _mended(data: bytes) -> bytes:
    """A PNG with the checksums of what is in it; without them no change to a PNG gets past its first check."""
    parts, position = [data[:8]], 8
    while position + 12 <= len(data):
        length = int.from_bytes(data[position : position + 4])
        if position + 12 + length > len(data):
            break
        parts.append(png_chunk(data[position + 4 : position + 8], data[position + 8 : position + 8 + length]))
        position += 12 + length
    return b"".join(parts) + data[position:]


@st.composite
def mutated_files(draw: st.DrawFn) -> bytes:
    """A real file after one to four accidents."""
    data = seeds()[draw(st.sampled_from(sorted(seeds())))]
    for _ in range(draw(st.integers(1, 4))):
        # What is at the beginning tells how to read the rest.
        early = draw(st.booleans())
        at = draw(st.integers(0, min(len(data), 160 if early else len(data))))
        length = draw(st.integers(1, 64))
        match draw(st.sampled_from(["byte", "field", "cut", "drop", "double", "splice", "junk"])):
            case "byte":
                data = data[:at] + bytes([draw(st.integers(0, 255))]) + data[at + 1 :]
            case "field":
                size = draw(st.sampled_from([1, 2, 4]))
                value = draw(st.sampled_from(_EXTREMES)) & (256**size - 1)
                order: Any = draw(st.sampled_from(["little", "big"]))
                data = data[:at] + value.to_bytes(size, order) + data[at + size :]
            case "cut":
                data = data[: max(at, 12)]
            case "drop":
                data = data[:at] + data[at + length :]
            case "double":
                data = data[: at + length] + data[at:]
            case "splice":
                other = seeds()[draw(st.sampled_from(sorted(seeds())))]
                start = draw(st.integers(0, len(other)))
                data = data[:at] + other[start : start + 8 * length] + data[at:]
            case _:
                data += draw(st.binary(max_size=64))
    return _mended(data) if data[:4] == b"\x89PNG" and draw(st.booleans()) else data


def _ends_well(data: bytes, max_pixels: int = FEW_PIXELS) -> ImageRejected | None:
    """Make thumbnails and look at them; return the rejection. Everything else is a failure.

    What is corrupt is tried again as something of which the rest is to be shown.
    """
    rejection = _try(data, SPECS, max_pixels)
    if isinstance(rejection, CorruptImage):
        _try(data, [replace(spec, shows_damaged=True) for spec in SPECS], max_pixels)
    return rejection


def _try(data: bytes, specs: list[ThumbnailSpec], max_pixels: int) -> ImageRejected | None:
    began, rejection, thumbnails = time.thread_time(), None, list[Thumbnail]()
    try:
        thumbnails = make_thumbnails(data, specs, max_pixels=max_pixels, reserve=unbounded)
    except ImageRejected as error:
        rejection = error
    assert time.thread_time() - began < 10, "processor time that no noise explains"
    assert rejection is None or (str(rejection) and not isinstance(rejection.__cause__, MemoryError))
    for thumbnail in thumbnails:
        picture = opened(thumbnail.data)
        assert picture.size == (thumbnail.width, thumbnail.height)
        assert thumbnail.spec.box.fit(*picture.size) == picture.size
    return rejection


def _profile(examples: int) -> settings:
    return settings(
        max_examples=EXAMPLES or examples,
        derandomize=not EXAMPLES,
        database=None,
        deadline=None,
        phases=[Phase.generate, Phase.shrink] if EXAMPLES else [Phase.generate],
        suppress_health_check=list(HealthCheck),
    )


@pytest.mark.parametrize("name", sorted(seeds()))
def test_the_files_are_whole_before_anything_happens_to_them(name: str) -> None:
    assert _ends_well(seeds()[name]) is None


@_profile(2000)
@given(mutated_files())
def test_mutated_files_end_in_a_thumbnail_or_a_rejection(data: bytes) -> None:
    _ends_well(data)


@_profile(100)
@given(st.sampled_from(sorted(seeds())), st.binary(max_size=300))
def test_mutated_beginnings_with_nothing_sensible_behind_end_in_a_rejection_or_a_thumbnail(
    name: str, junk: bytes
) -> None:
    _ends_well(seeds()[name][:24] + junk)


@_profile(60)
@given(st.data())
def test_mutated_colour_profiles_never_stop_a_picture(data: st.DataObject) -> None:
    """The library that reads them is written in C and follows the offsets that it finds."""
    name, profile = data.draw(st.sampled_from([("RGB", display_p3()), ("CMYK", cmyk_profile()[:40_000])]))
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, 300))
        value = data.draw(st.sampled_from(_EXTREMES)).to_bytes(4)
        profile = profile[:at] + value + profile[at + 4 :]
    assert _ends_well(encoded(_picture().convert(name), "JPEG", icc_profile=profile)) is None


@pytest.mark.parametrize("name", sorted(seeds()))
def test_a_file_cut_anywhere_ends_in_a_thumbnail_or_a_rejection(name: str) -> None:
    data = seeds()[name]
    for end in range(0, len(data), max(1, len(data) // 12)):
        _ends_well(data[:end])


def _mutate_within(mebibytes: int) -> None:
    """Meet the mutated files with this much address space beyond what the process has."""
    _ends_well(seeds()["PNG"])
    with open("/proc/self/statm") as file:  # noqa: PTH123 - not a file to have a path
        have = int(file.read().split()[0]) * resource.getpagesize()
    limit = have + mebibytes * MEBIBYTE
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    test_mutated_files_end_in_a_thumbnail_or_a_rejection()


@pytest.mark.skipif(sys.platform != "linux", reason="address space is limited on Linux only")
def test_mutated_files_never_need_more_memory_than_their_pixels_do() -> None:
    """A million pixels take 32 MB at the most; what asks for far more is refused without, or has to be found."""
    _in_child("_mutate_within(256)")


# Bombs


def _png_of(width: int, height: int, *chunks: tuple[bytes, bytes], colour_type: int = 2, body: bytes = b"") -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, colour_type, 0, 0, 0)
    parts = [(b"IHDR", header), *chunks, (b"IDAT", body or zlib.compress(bytes(MEBIBYTE))), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*part) for part in parts)


def _zeros(mebibytes: int) -> bytes:
    packer = zlib.compressobj(9)
    return b"".join(packer.compress(bytes(MEBIBYTE)) for _ in range(mebibytes)) + packer.flush()


def _with(name: str, *changes: tuple[int | bytes, int, bytes]) -> bytes:
    """A seed with bytes put over others, each at an offset from its start or from where something is found."""
    data = bytearray(seeds()[name])
    for anchor, offset, value in changes:
        at = offset + (data.index(anchor) if isinstance(anchor, bytes) else anchor)
        data[at : at + len(value)] = value
    return bytes(data)


def _with_more(name: str, at: int, more: bytes) -> bytes:
    data = seeds()[name]
    return data[:at] + more + data[at:]


def _jpeg_of(width: int, height: int, name: str = "JPEG") -> bytes:
    frame = b"\xff\xc2" if "progressive" in name else b"\xff\xc0"
    return _with(name, (frame, 5, struct.pack(">HH", height, width)))


def _jpeg_of_many_scans(scans: int) -> bytes:
    data = encoded(quadrants(1600, 1200), "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    return data[:last] + data[last:-2] * scans + data[-2:]


def _gif_of(screen: tuple[int, int], frame: tuple[int, int], frames: int = 1) -> bytes:
    picture = b"!\xf9\4\4\1\0\0\0," + struct.pack("<HHHHB", 0, 0, *frame, 0) + b"\2\2\x44\1\0"
    return b"GIF89a" + struct.pack("<HHBBB", *screen, 0x80, 0, 0) + bytes(6) + picture * frames + b";"


def _webp_of(width: int, height: int, *, animated: bool = False) -> bytes:
    name = "WebP animated" if animated else "WebP alpha"
    sizes = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return _with(name, (b"VP8X", 12, sizes))


def _tiff_of(*tags: tuple[int, int, int, int], behind: bytes = b"", following: int = 0) -> bytes:
    """A TIFF of these tags: number, type, count, value."""
    entries = b"".join(struct.pack("<HHII", *tag) for tag in sorted(tags))
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(tags)) + entries + struct.pack("<I", following) + behind


_SMALL_TIFF = [(256, 4, 1, 64), (257, 4, 1, 64), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (277, 3, 1, 1)]


def _tiff_deflate_bomb() -> bytes:
    body = _zeros(200)
    tags = [(256, 4, 1, 64), (257, 4, 1, 64), (258, 3, 1, 8), (259, 3, 1, 8), (262, 3, 1, 1), (277, 3, 1, 1)]
    start = 8 + 2 + 12 * 9 + 4
    return _tiff_of(*tags, (273, 4, 1, start), (278, 4, 1, 64), (279, 4, 1, len(body)), behind=body)


def _tiff_of_tiles(width: int, length: int) -> bytes:
    tags = [*_SMALL_TIFF[:3], (259, 3, 1, 8), *_SMALL_TIFF[4:]]
    body = zlib.compress(bytes(1000))
    start = 8 + 2 + 12 * (len(tags) + 4) + 4
    tiles = [(322, 4, 1, width), (323, 4, 1, length), (324, 4, 1, start), (325, 4, 1, len(body))]
    return _tiff_of(*tags, *tiles, behind=body)


def _ico_of(body: bytes, entries: int = 1) -> bytes:
    start = 6 + 16 * entries
    return (
        struct.pack("<HHH", 0, 1, entries)
        + struct.pack("<BBBBHHII", 16, 16, 0, 0, 1, 32, len(body), start) * entries
        + body
    )


def _bmp_of(width: int, height: int, compression: int = 0, bits: int = 24, body: bytes = b"") -> bytes:
    head = struct.pack("<IiiHHIIiiII", 40, width, height, 1, bits, compression, len(body), 0, 0, 0, 0)
    palette = bytes(1024 if bits == 8 else 0)
    return b"BM" + struct.pack("<IHHI", 0, 0, 0, 54 + len(palette)) + head + palette + body


def _heif_of(name: str, width: int, height: int) -> bytes:
    return _with(name, (b"ispe", 8, struct.pack(">II", width, height)))


def _jpeg_2000_of(width: int, height: int, tile_width: int, tile_height: int) -> bytes:
    """The size is in the box that wraps the code stream, and in the code stream."""
    sizes = struct.pack(">IIII", width, height, 0, 0) + struct.pack(">IIII", tile_width, tile_height, 0, 0)
    return _with("JPEG 2000", (b"ihdr", 4, struct.pack(">II", height, width)), (b"\xff\x51", 6, sizes))


def _mpo_of_many() -> bytes:
    """It says that it holds two billion pictures, and each that it does hold says the same."""
    data = _with("MPO", (b"\1\xb0\4\0\1\0\0\0", 8, b"\xff\xff\xff\x7f"))
    return data * 500


def _exif_that_loops() -> bytes:
    """Every directory is inside of itself."""
    entries = [(0x8769, 4, 1, 8), (0x8825, 4, 1, 8), (0xA005, 4, 1, 8), (0x014A, 4, 1, 8), (0x927C, 4, 1, 8)]
    return encoded(_picture(), "JPEG", exif=b"Exif\0\0" + _tiff_of(*entries, following=8))


BOMBS: dict[str, Callable[[], bytes]] = {
    "PNG of 30000x30000": lambda: _png_of(30_000, 30_000, body=_zeros(20)),
    "PNG as wide as can be": lambda: _png_of(0x7FFFFFFF, 1),
    "PNG with a zTXt that unpacks to 100 MiB": lambda: _png_of(8, 8, (b"zTXt", b"Comment\0\0" + _zeros(100))),
    "PNG with an iTXt that unpacks to 100 MiB": lambda: _png_of(8, 8, (b"iTXt", b"Comment\0\1\0\0\0" + _zeros(100))),
    "PNG with an iCCP that unpacks to 100 MiB": lambda: _png_of(8, 8, (b"iCCP", b"Profile\0\0" + _zeros(100))),
    "PNG with 90 zTXt of 1 MiB each": lambda: _png_of(
        8, 8, *((b"zTXt", b"Comment%d\0\0" % index + zlib.compress(bytes(MEBIBYTE))) for index in range(90))
    ),
    "PNG with a megabyte of empty chunks": lambda: _png_of(8, 8, *[(b"teSt", b"")] * 90_000),
    "PNG whose data unpacks to 500 MiB more than it needs": lambda: _png_of(64, 64, body=_zeros(500)),
    "PNG that says it has a billion frames": lambda: _png_of(8, 8, (b"acTL", struct.pack(">II", 10**9, 0))),
    "GIF with a screen of 65535": lambda: _gif_of((65535, 65535), (1, 1)),
    "GIF with a frame larger than its screen": lambda: _gif_of((10, 10), (65535, 65535)),
    "GIF whose frames are too many for its screen": lambda: _gif_of((9000, 9000), (1, 1), frames=1000),
    "GIF of 200,000 frames": lambda: _gif_of((100, 100), (1, 1), frames=200_000),
    "JPEG of 65000x65000": lambda: _jpeg_of(65_000, 65_000),
    "JPEG progressive of 65000x65000": lambda: _jpeg_of(65_000, 65_000, "JPEG progressive"),
    "JPEG of 500 scans": lambda: _jpeg_of_many_scans(500),
    "JPEG of 400,000 comments": lambda: _with_more("JPEG", 2, b"\xff\xfe\0\x03a" * 400_000),
    "JPEG of four million fill bytes": lambda: _with_more("JPEG", 2, b"\xff" * 4_000_000),
    "JPEG whose EXIF loops": _exif_that_loops,
    "MPO of 500 that each say they are two billion": _mpo_of_many,
    "WebP of 16383x16383": lambda: _webp_of(16_383, 16_383),
    "WebP of 16777216x16777216": lambda: _webp_of(1 << 24, 1 << 24),
    "WebP animated on a huge canvas": lambda: _webp_of(16_384, 16_384, animated=True),
    "AVIF of 65535x65535": lambda: _heif_of("AVIF", 65_535, 65_535),
    "HEIC of 65535x65535": lambda: _heif_of("HEIC", 65_535, 65_535),
    "HEIC of 4294967295x4294967295": lambda: _heif_of("HEIC", 0xFFFFFFFF, 0xFFFFFFFF),
    "TIFF of 60000x60000": lambda: _tiff_of((256, 4, 1, 60_000), (257, 4, 1, 60_000), *_SMALL_TIFF[2:], (273, 4, 1, 8)),
    "TIFF with tiles of 65536x65536": lambda: _tiff_of_tiles(65_536, 65_536),
    "TIFF with tiles of 2147483632x16": lambda: _tiff_of_tiles(0x7FFFFFF0, 16),
    "TIFF with two billion strips": lambda: _tiff_of(
        *_SMALL_TIFF, (273, 4, 0x7FFFFFFF, 8), (279, 4, 0x7FFFFFFF, 8), (278, 4, 1, 1)
    ),
    "TIFF whose pages loop": lambda: _tiff_of(*_SMALL_TIFF, (273, 4, 1, 8), following=8),
    "TIFF with 65535 tags": lambda: b"II*\0\x08\0\0\0\xff\xff" + struct.pack("<HHII", 700, 1, 0xFFFFFFFF, 8) * 65_535,
    "TIFF with a strip that unpacks to 200 MiB": _tiff_deflate_bomb,
    "TIFF with 65535 samples a pixel": lambda: _tiff_of(
        *_SMALL_TIFF[:2], (258, 3, 65535, 8), *_SMALL_TIFF[3:5], (277, 3, 1, 65535), (273, 4, 1, 8), (279, 4, 1, 8)
    ),
    "BMP as high as can be": lambda: _bmp_of(1, -0x7FFFFFFF),
    "BMP of 60000x60000": lambda: _bmp_of(60_000, 60_000),
    "BMP of run lengths, 9000x9000": lambda: _bmp_of(9000, 9000, 1, 8, b"\xff\7" * 320_000 + b"\0\1"),
    "BMP of empty run lengths": lambda: _bmp_of(1900, 1900, 1, 8, b"\0\0" * 4_000_000 + b"\0\1"),
    "ICO with a PNG of 30000x30000 inside": lambda: _ico_of(_png_of(30_000, 30_000)),
    "ICO with a BMP of 60000x60000 inside": lambda: _ico_of(_bmp_of(60_000, 120_000, bits=32)[14:]),
    "ICO of 65535 icons": lambda: _ico_of(seeds()["PNG"], 65_535),
    "JPEG 2000 of 100000x100000": lambda: _jpeg_2000_of(100_000, 100_000, 100_000, 100_000),
    "JPEG 2000 with tiles of 4294967295x4294967295": lambda: _jpeg_2000_of(64, 48, 0xFFFFFFFF, 0xFFFFFFFF),
    "JPEG 2000 of a hundred million tiles": lambda: _jpeg_2000_of(9999, 9999, 1, 1),
    "PPM of 60000x60000": lambda: b"P6 60000 60000 255\n" + bytes(1000),
    "PPM with a size of a million digits": lambda: b"P6 " + b"9" * MEBIBYTE + b" 1 255\n",
    "PPM in plain text of 9000x9000": lambda: b"P3 9000 9000 255\n" + b"1 " * MEBIBYTE,
    "PPM in plain text, mostly comments": lambda: b"P3 4 3 255 " + b"#a\n" * MEBIBYTE + b"1 " * 36,
    "PPM that is one comment": lambda: b"P6\n#" + b"a" * (8 * MEBIBYTE),
}

DEFUSED = {
    "PNG with a zTXt that unpacks to 100 MiB",
    "PNG with an iTXt that unpacks to 100 MiB",
    "PNG with an iCCP that unpacks to 100 MiB",
    "PNG with 90 zTXt of 1 MiB each",
    "PNG with a megabyte of empty chunks",
    "PNG whose data unpacks to 500 MiB more than it needs",
    "JPEG of 400,000 comments",
    "JPEG of four million fill bytes",
    "JPEG whose EXIF loops",
    "MPO of 500 that each say they are two billion",
    "TIFF with a strip that unpacks to 200 MiB",
    "ICO of 65535 icons",
    "JPEG 2000 with tiles of 4294967295x4294967295",
}
"""Bombs beside a small picture, which may be shown all the same."""


def _run_bombs() -> None:
    """Meet each bomb in a process of its own, and write down what it took: for `outcomes`, in a child process."""
    make_thumbnails(seeds()["PNG"], SPECS, max_pixels=FEW_PIXELS, reserve=unbounded)
    for name, make in BOMBS.items():
        data = make()
        sys.stdout.flush()
        if child := os.fork():
            os.waitpid(child, 0)
            continue
        before = peak_memory()
        began = time.process_time()
        try:
            make_thumbnails(data, SPECS, max_pixels=100_000_000, reserve=unbounded)
            outcome = "thumbnail"
        except ImageRejected as error:
            outcome = f"{type(error).__name__}: {error}"
        seconds = time.process_time() - began
        grown = (peak_memory() - before) / MEBIBYTE
        sys.stdout.write(json.dumps([name, outcome, round(seconds, 3), round(grown, 1), len(data)]) + "\n")
        sys.stdout.flush()
        os._exit(0)


def _in_child(call: str) -> str:
    """Call a function of this module in a process of its own; return what it prints."""
    program = f"import logging; logging.disable()\nfrom tests.images import test_fuzz\ntest_fuzz.{call}"
    arguments = [sys.executable, "-W", "ignore", "-c", program]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def outcomes() -> dict[str, tuple[str, float, float]]:
    """Of each bomb: what came of it, in how many seconds of processor time, and for how many MiB."""
    lines = (json.loads(line) for line in _in_child("_run_bombs()").splitlines())
    return {name: (outcome, seconds, grown) for name, outcome, seconds, grown, _ in lines}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_at_once_and_for_little_memory(
    name: str, outcomes: dict[str, tuple[str, float, float]]
) -> None:
    assert name in outcomes, "it took the process with it"
    outcome, seconds, mebibytes = outcomes[name]
    assert seconds < 5, "processor time that no noise explains"
    assert mebibytes < 80
    assert name in DEFUSED or outcome.partition(":")[0] in {"PictureTooLarge", "CorruptImage", "UnsupportedFormat"}
