"""Boxes made by hand, whole and damaged, and what is read of them."""

import struct
from collections.abc import Sequence

import pytest

from service.images.boxes import primary_properties
from service.images.code_points import BT2020, DISPLAY_P3, PQ, SRGB, CodePoints, read_avif

NCLX = b"nclx" + struct.pack(">HHHB", BT2020, PQ, 9, 0x80)
OTHER = b"nclx" + struct.pack(">HHHB", DISPLAY_P3, SRGB, 6, 0x80)
PROFILE = b"prof" + bytes(1000)
LIGHT_LEVEL = struct.pack(">HH", 4000, 200)


def box(kind: bytes, *bodies: bytes, large: bool = False) -> bytes:
    body = b"".join(bodies)
    return (
        struct.pack(">I4sQ", 1, kind, 16 + len(body)) + body
        if large
        else struct.pack(">I4s", 8 + len(body), kind) + body
    )


def avif(
    properties: Sequence[tuple[bytes, bytes]],
    owned: dict[int, list[int]],
    primary: int = 1,
    *,
    wide_ids: bool = False,
    wide_numbers: bool = False,
    large: bool = False,
) -> bytes:
    """A file without pixels; `owned` has for each picture the numbers of its properties."""
    letter = "I" if wide_ids else "H"
    entries = b"".join(
        struct.pack(f">{letter}B", item, len(numbers))
        + b"".join(struct.pack(">H", 0x8000 | number) if wide_numbers else bytes([0x80 | number]) for number in numbers)
        for item, numbers in owned.items()
    )
    return box(b"ftyp", b"avif\0\0\0\0mif1") + box(
        b"meta",
        bytes(4),
        box(b"hdlr", bytes(25)),
        box(b"pitm", struct.pack(f">I{letter}", wide_ids << 24, primary)),
        box(
            b"iprp",
            box(b"ipco", *(box(kind, body) for kind, body in properties)),
            box(b"ipma", struct.pack(">II", wide_ids << 24 | wide_numbers, len(owned)), entries),
            large=large,
        ),
        large=large,
    )


PROPERTIES = [(b"ispe", bytes(12)), (b"colr", OTHER), (b"colr", PROFILE), (b"colr", NCLX), (b"clli", LIGHT_LEVEL)]


@pytest.mark.parametrize("wide_ids", [False, True])
@pytest.mark.parametrize("wide_numbers", [False, True])
@pytest.mark.parametrize("large", [False, True])
def test_the_properties_are_those_of_the_primary_picture(*, wide_ids: bool, wide_numbers: bool, large: bool) -> None:
    owned = {3: [1, 2], 7: [5, 1, 3, 4], 8: [2]}
    data = avif(PROPERTIES, owned, 7, wide_ids=wide_ids, wide_numbers=wide_numbers, large=large)
    assert primary_properties(data) == [PROPERTIES[number - 1] for number in owned[7]]
    assert read_avif(data) == CodePoints(BT2020, PQ, 4000)


def test_of_two_statements_the_first_is_believed() -> None:
    assert read_avif(avif(PROPERTIES, {1: [2, 4]})) == CodePoints(DISPLAY_P3, SRGB)


@pytest.mark.parametrize(
    ("primaries", "transfer", "nits"), [(BT2020, 99, 1000), (4, PQ, 1000), (0, 0, 0), (65_535, 65_535, 65_535)]
)
def test_what_is_not_understood_is_as_if_it_were_not_there(primaries: int, transfer: int, nits: int) -> None:
    said = b"nclx" + struct.pack(">HHHB", primaries, transfer, 9, 0x80)
    assert read_avif(avif([(b"colr", said), (b"clli", struct.pack(">HH", nits, 0))], {1: [1, 2]})) is None


@pytest.mark.parametrize("owned", [{}, {2: [4]}, {1: []}, {1: [0]}, {1: [6]}, {1: [127]}])
def test_a_picture_may_have_no_properties(owned: dict[int, list[int]]) -> None:
    assert primary_properties(avif(PROPERTIES, owned)) == []


def test_a_file_that_is_cut_short_or_damaged_is_read_without_an_error() -> None:
    whole = avif(PROPERTIES, {7: [5, 1, 3, 4]}, 7)
    for length in range(len(whole)):
        assert primary_properties(whole[:length]) == []
    for place in range(len(whole)):
        for value in (0, 1, 7, 0x7F, 0xFF):
            assert len(primary_properties(whole[:place] + bytes([value]) + whole[place + 1 :])) <= 255


def test_a_flood_of_boxes_is_not_waded_through() -> None:
    said = avif(PROPERTIES, {1: [4]})
    assert primary_properties(box(b"free") * 9_000 + said)
    assert primary_properties(box(b"free") * 400_000 + said) == []
    owned = {item: [1] * 5 for item in range(2, 60_000)} | {1: [4]}
    assert primary_properties(avif(PROPERTIES, owned)) == []
    lists = [box(b"ipma", struct.pack(">II", 0, 0), bytes(65_000))] * 200
    described = box(b"iprp", box(b"ipco", box(b"colr", NCLX)), *lists)
    assert primary_properties(box(b"meta", bytes(4), box(b"pitm", struct.pack(">IH", 0, 1)), described)) == []
