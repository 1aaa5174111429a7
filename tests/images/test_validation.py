import random
import struct
import zlib

import pytest

from service.errors import CorruptImage
from service.images.validation import check_jpeg, check_structure, find_segment, whole_segments
from tests.support.pictures import encoded, jpeg, quadrants

FLOOD = 4_000_000
PNG = encoded(quadrants(), "PNG")
GIF = encoded(quadrants(), "GIF")
EMPTY_CHUNK = struct.pack(">I4sI", 0, b"teSt", zlib.crc32(b"teSt"))
GIF_HEADER = 13 + (3 * 2 ** ((GIF[10] & 7) + 1) if GIF[10] & 0x80 else 0)


@pytest.mark.parametrize(
    ("options", "mode", "samples"),
    [
        ({}, "RGB", 0),
        ({"subsampling": 0}, "RGB", 0),
        ({"progressive": True}, "RGB", 1.5),
        ({"progressive": True, "subsampling": 0}, "RGB", 3),
        ({"progressive": True, "subsampling": 1}, "RGB", 2),
        ({"progressive": True}, "L", 1),
    ],
)
def test_a_jpeg_says_what_its_decoder_holds(options: dict[str, int], mode: str, samples: float) -> None:
    assert check_jpeg(encoded(quadrants(mode=mode), "JPEG", **options)).buffered_samples == samples


def test_what_stands_behind_a_jpeg_is_nothing_to_it() -> None:
    """Phones append a film; twelve pictures in one file are twelve times as many scans."""
    trailer = random.Random(1).randbytes(10_000_000)  # noqa: S311 - no secret
    assert trailer.count(b"\xff\xda") > 100
    assert check_jpeg(jpeg() + trailer).buffered_samples == 0
    assert check_jpeg(jpeg(progressive=True) + trailer).buffered_samples == 1.5
    assert check_jpeg(jpeg(progressive=True) * 12).buffered_samples == 1.5


def test_a_jpeg_cut_anywhere_is_walked_to_its_end() -> None:
    data = jpeg(progressive=True)
    for end in range(len(data)):
        check_jpeg(data[:end])


HEAD, REST = jpeg()[:2], jpeg()[2:]
PROGRESSIVE = jpeg(progressive=True)
LAST_SCAN = PROGRESSIVE[PROGRESSIVE.rindex(b"\xff\xda") : -2]


@pytest.mark.parametrize(
    "data",
    [
        HEAD + b"\xff\xfe\x00\x03a" * (FLOOD // 5) + REST,
        HEAD + b"\xff\xe3\x00\x02" * (FLOOD // 4) + REST,
        HEAD + b"\xff\xe3\x00\x00" * (FLOOD // 4) + REST,
        HEAD + b"\xff" * FLOOD + REST,
        HEAD + b"\x00" * FLOOD + REST,
        PROGRESSIVE[:-2] + LAST_SCAN * 200 + PROGRESSIVE[-2:],
    ],
    ids=["comments", "empty segments", "segments of no length", "fill bytes", "garbage", "scans"],
)
def test_a_jpeg_made_to_waste_time_is_refused_at_once(data: bytes) -> None:
    with pytest.raises(CorruptImage):
        check_jpeg(data)


@pytest.mark.parametrize(
    "data",
    [
        PNG[:33] + EMPTY_CHUNK * (FLOOD // 12) + PNG[33:],
        GIF[:GIF_HEADER] + b"\x21\xfe" + b"\x01a" * (FLOOD // 2) + b"\0" + GIF[GIF_HEADER:],
        GIF[:GIF_HEADER] + b"\x21\xfe\x01a\0" * (FLOOD // 5) + GIF[GIF_HEADER:],
        GIF[:GIF_HEADER] + b"\0" * FLOOD + GIF[GIF_HEADER:],
        b"P6\n#" + b"x" * FLOOD + b"\n1 1 255\n...",
        b"P3 4 3 255 " + b"#a\n" * (FLOOD // 3) + b"1 " * 36,
    ],
    ids=["chunks", "blocks", "extensions", "padding", "comment", "comments"],
)
def test_other_files_made_to_waste_time_are_refused_at_once(data: bytes) -> None:
    with pytest.raises(CorruptImage):
        check_structure(data, all_frames=False)


@pytest.mark.parametrize("all_frames", [False, True])
@pytest.mark.parametrize(
    "data", [PNG, GIF, jpeg(), b"P5 4 4 255\n" + b"." * 16, b"P4\n# a comment\n8 1\n.", b"", b"text"]
)
def test_other_files_pass(data: bytes, *, all_frames: bool) -> None:
    check_structure(data, all_frames=all_frames)


def test_a_png_of_many_chunks_of_the_usual_size_passes() -> None:
    chunk = struct.pack(">I4s", 8192, b"IDAT") + bytes(8192) + bytes(4)
    check_structure(PNG[:33] + chunk * 5_000, all_frames=False)


def test_markers_without_a_length_are_counted_too() -> None:
    flood = b"\xff\xd8" + b"\xff\x01" * FLOOD
    for look in (check_jpeg, whole_segments, lambda data: find_segment(data, {0xC0})):
        with pytest.raises(CorruptImage, match="made to waste time"):
            look(flood)
