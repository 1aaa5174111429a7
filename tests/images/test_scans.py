"""Progressive JPEG at least 16 times as large as its thumbnail, of which the DC coefficients alone are read."""

import io
import re
import struct
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from service.demo.photos import sample_files
from service.errors import CorruptImage, UnsupportedFormat
from service.images.scans import dc_scans
from service.images.spec import Box, OutputFormat, Thumbnail, ThumbnailSpec
from service.images.validation import check_jpeg
from tests.images.conformance import (
    MAX_PIXELS,
    Difference,
    adobe_rgb,
    cmyk_of,
    look_of,
    photo,
    pillow,
    unbounded,
    vips,
    ycck,
)
from tests.support.assembly import decoders
from tests.support.pictures import encoded, lying

TIMES = 16
FILES = Path(__file__).parents[1] / "data" / "jpeg"
PHOTOS = ("arches.jpg", "phone/IMG_2041.jpg", "2024/window.jpg", "2025/window.jpg", "stars.jpg")
SCAN = re.compile(rb"\xff\xda\0.(?:\x01..|\x02.{4}|\x03.{6}|\x04.{8})(.).(.)", re.DOTALL)
"""Header of a scan: its first coefficient, and its bits."""
END = b"\xff\xd9"


def made(data: bytes, times: int = TIMES, **settings: Any) -> Thumbnail:  # noqa: ANN401 - those of a spec
    """A thumbnail that is so many times as small as the picture."""
    side = max(Image.open(io.BytesIO(data)).size) // times
    spec = ThumbnailSpec(Box(side, side), format=OutputFormat.PNG, **settings)
    (thumbnail,) = decoders().make_thumbnails(data, [spec], max_pixels=MAX_PIXELS, reserve=unbounded)
    return thumbnail


def decoded_whole(data: bytes) -> bytes:
    """The picture as a file without loss, which nothing is left out of."""
    picture = Image.open(io.BytesIO(data))
    picture.load()
    return encoded(
        picture, "TIFF", **{key: picture.info[key] for key in ("icc_profile", "exif") if key in picture.info}
    )


def difference(data: bytes) -> Difference:
    """Between the thumbnail of a file and that of all its pixels."""
    return Difference.between(*(look_of(made(each).data) for each in (data, decoded_whole(data))))


def without_details(data: bytes) -> bytes:
    """The file with nonsense in place of the coded data of its AC coefficients."""
    parts, position = [], 0
    for found in SCAN.finditer(data):
        following = re.compile(rb"\xff[^\0\xd0-\xd7]").search(data, found.end())
        assert following
        parts.append(data[position : found.end()])
        position = following.start() if found[1] > b"\0" else found.end()
        parts.append(b"\x55" * (position - found.end()))
    return b"".join([*parts, data[position:]])


@pytest.mark.parametrize("options", [{}, {"subsampling": 0}, {"quality": 50}, {"quality": 95, "subsampling": 1}])
@pytest.mark.parametrize("name", PHOTOS)
def test_a_photo_looks_as_if_all_of_it_had_been_read(name: str, options: dict[str, Any]) -> None:
    (source,) = (file.read() for file in sample_files() if file.name == name)
    seen = difference(encoded(Image.open(io.BytesIO(source)), progressive=True, **options))
    assert seen.mean <= 0.6
    assert seen.structure >= 0.998


def _large() -> Image.Image:
    return pillow(photo()).resize((800, 560))


def _inks() -> Image.Image:
    return Image.frombytes("CMYK", _large().size, cmyk_of(np.asarray(_large())).tobytes())


def _lying(orientation: int) -> bytes:
    lain, exif = lying(_large(), orientation)
    return encoded(lain, progressive=True, exif=exif)


def _progressive_ycck() -> bytes:
    """Pillow writes inks as they are; the marker says that three of them are luma and chroma."""
    inks = Image.open(io.BytesIO(ycck(np.asarray(_large()))))
    stored = encoded(inks, quality=95, subsampling=0, progressive=True)
    marker = stored.index(b"Adobe")
    return stored[: marker + 11] + b"\2" + stored[marker + 12 :]


KINDS: dict[str, Callable[[], bytes]] = {
    "gray": lambda: encoded(_large().convert("L"), progressive=True),
    "colours": lambda: encoded(_large(), progressive=True),
    "CMYK": lambda: encoded(_inks(), progressive=True),
    "YCCK": _progressive_ycck,
    "restarts": lambda: encoded(_large(), progressive=True, restart_marker_blocks=3),
    "with a profile": lambda: encoded(_large(), progressive=True, icc_profile=adobe_rgb()),
    "turned": partial(_lying, 6),
    "on its head": partial(_lying, 3),
    "two pictures in one file": lambda: encoded(
        _large(), "MPO", save_all=True, append_images=[_large().rotate(180)], progressive=True
    ),
    "scans as mozjpeg chooses them": lambda: bytes(
        vips(np.asarray(_large())).write_to_buffer(".jpg[interlace,optimize_scans,trellis_quant]")
    ),
    # Made with `cjpeg -arithmetic -progressive`.
    "arithmetic coding": (FILES / "progressive_arithmetic.jpg").read_bytes,
    # Made with `cjpeg -scans`: the coefficients of each component by themselves, some DC behind some AC.
    "scans of one component": (FILES / "progressive_dc_apart.jpg").read_bytes,
}


@pytest.mark.parametrize("kind", KINDS)
def test_of_every_kind_the_scans_of_details_are_not_read(kind: str) -> None:
    data = KINDS[kind]()
    nonsense = without_details(data)
    assert nonsense != data
    assert made(nonsense).data == made(data).data
    assert difference(data).mean <= 0.6


@pytest.mark.parametrize("times", [8, 15])
def test_a_picture_that_is_not_so_large_is_decoded_with_its_details(times: int) -> None:
    data = KINDS["colours"]()
    assert made(without_details(data), times).data != made(data, times).data


@pytest.mark.parametrize("kind", ["gray", "colours", "arithmetic coding", "scans of one component"])
def test_a_file_that_lacks_its_end_is_not_passed_on_in_silence(kind: str) -> None:
    data = KINDS[kind]()
    first, *_, last = (found.start() for found in SCAN.finditer(data))
    for end in (first + 40, len(data) // 2, last, last + 4, len(data) - 20, len(data) - 2, len(data) - 1):
        with pytest.raises(CorruptImage):
            made(data[:end])
        assert made(data[:end], shows_damaged=True).is_damaged


@pytest.mark.parametrize("kind", ["colours", "arithmetic coding"])
def test_what_is_damaged_in_the_scans_that_are_read_is_shown_as_ever(kind: str) -> None:
    data = bytearray(KINDS[kind]())
    start = next(SCAN.finditer(data)).end() + 200
    data[start : start + 100] = b"\x55" * 100
    assert not made(bytes(data)).is_damaged


def test_a_progressive_jpeg_of_12_bits_is_refused_as_ever() -> None:
    data = KINDS["colours"]()
    frame = data.index(b"\xff\xc2") + 4
    data = data[:frame] + b"\x0c" + data[frame + 1 :]
    with pytest.raises(UnsupportedFormat, match="12"):
        decoders().make_thumbnails(data, [ThumbnailSpec()], max_pixels=MAX_PIXELS, reserve=unbounded)


def parts_of(data: bytes) -> bytes:
    return b"".join(dc_scans(data, check_jpeg(data).progressive_segments))


def test_what_is_left_has_the_dc_coefficients_alone_to_their_last_bit() -> None:
    left = parts_of(KINDS["colours"]())
    assert [(found[1], found[2]) for found in SCAN.finditer(left)] == [(b"\0", b"\1"), (b"\0", b"\x10")]
    assert len(left) < len(KINDS["colours"]()) / 4
    assert left.endswith(END)


def _without_scan_of(component: int) -> bytes:
    data = KINDS["scans of one component"]()
    start = data.index(b"\xff\xda\0\x08\1" + bytes([component]))
    return data[:start] + data[data.index(b"\xff\xc4", start) :]


@pytest.mark.parametrize(
    "data",
    [
        encoded(_large()),
        KINDS["colours"]()[:-2],
        _without_scan_of(3),
        KINDS["colours"]().replace(b"\xff\xc2", b"\xff\xe2"),
    ],
    ids=["not progressive", "no end", "no DC of a component", "no frame"],
)
def test_a_file_is_read_whole_if_it_is_not_progressive_or_not_whole(data: bytes) -> None:
    assert not parts_of(data)


def test_a_progressive_jpeg_cut_or_broken_anywhere_is_taken_apart_without_a_defect() -> None:
    data = KINDS["scans of one component"]()
    for position in range(len(data)):
        parts_of(data[:position] + END)
        parts_of(data[:position] + b"\xff" + data[position + 1 :])
        parts_of(data[:position] + struct.pack(">BBH", 0xFF, 0xDB, 9_000) + data[position:])
