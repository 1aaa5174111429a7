"""What is refused for its kind, beside what is refused because it is damaged."""

import io
import struct

import pytest
from PIL import Image

from service.errors import CorruptImage, UnsupportedFormat
from service.images.kinds import kind_never_read, kind_refused
from service.images.tiff_tags import read_directories
from tests.images.conformance import (
    bmp,
    gray,
    ours,
    photo,
    pillow,
    png,
    raw_photo,
    refused_cases,
    tiff,
    wide,
    with_wrong_checksum,
)
from tests.support.pictures import encoded, jpeg

REFUSED = {case.name: case.make() for case, _ in refused_cases()}
MASKS = (0xF800, 0x07E0, 0x001F, 0)


NO_HEIGHT = struct.pack("<HHII", 257, 4, 1, 0)
DAMAGED = {
    "JPEG": jpeg()[:3000],
    "JPEG's header": jpeg()[:100],
    "JPEG of 12 bits, its header": REFUSED["JPEG of 12 bits"][:160],
    "JPEG of no components": REFUSED["JPEG of 12 bits"].replace(
        b"\xff\xc1\0\x11\x0c\0\xf1\1\x65\3", b"\xff\xc1\0\x11\x08\0\xf1\1\x65\0"
    ),
    "TIFF": tiff(gray(), 8, 1)[:2000],
    "TIFF of unknown colours": tiff(gray(), 8, 99),
    "TIFF of unknown samples": tiff(gray(), 8, 1, kind=77),
    "TIFF packed in an unknown way": tiff(gray(), 8, 1, compression=12345),
    "TIFF without rows": tiff(wide(photo()), 16, 8).replace(struct.pack("<HHII", 257, 4, 1, 241), NO_HEIGHT),
    "TIFF's tags": REFUSED["TIFF RGB float"][:-200],
    "BMP with masks": bmp(photo(), MASKS, 16)[:9000],
    "BMP whose masks overlap": bmp(photo(), (0xF800, 0xFF00, 0x001F, 0), 16),
    "BMP's header": bmp(photo(), MASKS, 16)[:60],
    "BMP of OS/2": b"BM" + struct.pack("<IHHII", 26, 0, 0, 26, 12) + bytes(80),
    "BMP of 5 bits": REFUSED["BMP of 2 bits"].replace(struct.pack("<HH", 1, 2), struct.pack("<HH", 1, 5)),
    "AVIF": encoded(pillow(photo()), "AVIF")[:-500],
    "rare AVIF": REFUSED["AVIF without colours"][:-500],
    "PNG's header": with_wrong_checksum(png(photo(), 8, 2), b"IHDR"),
    "PNG's palette": with_wrong_checksum(png(gray() // 128, 1, 3, (b"PLTE", b"\0\0\0\xff\xff\xff")), b"PLTE"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_what_is_damaged_is_corrupt_and_of_no_rare_kind(name: str) -> None:
    with pytest.raises(CorruptImage):
        ours(DAMAGED[name])


@pytest.mark.parametrize("order", ["<", ">"])
def test_directories_are_read_in_either_order_of_bytes(order: str) -> None:
    (tags,) = read_directories(tiff(photo(), 8, 2, order=order))
    assert (tags[256], tags[257], tags[258], tags[262]) == ((357,), (241,), (8, 8, 8), (2,))


def test_directories_are_those_of_pages_and_those_inside() -> None:
    assert [tags[256] for tags in read_directories(raw_photo())] == [(8,), (357,)]
    pages = encoded(pillow(photo()), "TIFF", save_all=True, append_images=[pillow(gray()[:9, :9])])
    assert [tags[256] for tags in read_directories(pages)] == [(357,), (9,)]


@pytest.mark.parametrize("data", [b"", b"II*\0", b"II*\0\x08\0\0\0" + b"\xff" * 40, b"MM\0*" + bytes(40), b"text" * 9])
def test_no_directory_is_read_of_what_has_none(data: bytes) -> None:
    assert list(read_directories(data)) == []


def test_directories_that_go_in_circles_end() -> None:
    data = bytearray(tiff(gray(), 8, 1, more=[(330, "I", (8,))]))
    (start,) = struct.unpack("<I", data[4:8])
    place = data.index(struct.pack("<HHI", 330, 4, 1)) + 8
    data[place : place + 4] = struct.pack("<I", start)
    assert len(list(read_directories(bytes(data)))) == 1


def test_a_picture_with_a_cameras_name_is_no_raw_photo() -> None:
    """Editors keep the maker of the camera, and write previews into directories inside."""
    data = raw_photo().replace(struct.pack("<HHIHH", 262, 3, 1, 32803, 0), struct.pack("<HHIHH", 262, 3, 1, 1, 0))
    assert kind_never_read(data) is None
    assert ours(data)


@pytest.mark.parametrize("name", [name for name in REFUSED if name.startswith("Raw")])
def test_a_raw_photo_that_was_cut_is_one_still_if_its_tags_are_there(name: str) -> None:
    with pytest.raises(UnsupportedFormat, match="a raw photo of a camera"):
        ours(REFUSED[name] + bytes(100))


def test_nothing_that_is_read_has_the_name_of_a_rare_kind() -> None:
    for data in (jpeg(), png(photo(), 8, 2), tiff(photo(), 8, 2), bmp(photo(), MASKS, 16), b"text", b""):
        assert kind_never_read(data) is None
    assert kind_refused(b"text") is None


def test_a_picture_whose_first_pixels_spell_a_cameras_mark_is_no_raw_photo() -> None:
    pixels = b"CR\x03" * 600
    start = 8 + len(pixels)
    entries = [(256, 4, 1, 30), (257, 4, 1, 20), (258, 3, 1, 8), (262, 3, 1, 2), (273, 4, 1, 8), (277, 3, 1, 3)]
    directory = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *entry) for entry in entries) + bytes(4)
    # The pixels first, as libtiff writes them.
    data = struct.pack("<2sHI", b"II", 42, start) + pixels + directory
    assert kind_never_read(data) is None
    assert Image.open(io.BytesIO(ours(data))).size == (30, 20)
