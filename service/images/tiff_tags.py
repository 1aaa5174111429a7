"""The directories of a TIFF and their tags (TIFF 6.0, section 2; BigTIFF too), as far as they tell what is in it.

Knows bytes and numbers only: no pixels, no libraries.
"""

import struct
from collections.abc import Iterator, Mapping
from typing import TypeAlias

from service.images.validation import FileBytes

Directory: TypeAlias = Mapping[int, tuple[int, ...]]
"""Values by tag. Those that are no whole numbers, or too many, are an empty tuple."""

_ORDERS = {b"II": "<", b"MM": ">"}
_BIG = 43
_HEAD_BYTES = 16
_LETTERS = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}
"""Types of whole numbers, as `struct` has them."""
_MOST_VALUES = 16
_MOST_ENTRIES = 1_000
_MOST_DIRECTORIES = 32
_SUB_DIRECTORIES = 330


def read_directories(data: FileBytes) -> Iterator[Directory]:
    """Yield the directories of a TIFF, each before those inside of it; none if there is no whole one."""
    order = _ORDERS.get(data[:2])
    if order is None or len(data) < _HEAD_BYTES:
        return
    version = struct.unpack(f"{order}H", data[2:4])[0]
    is_big = version == _BIG
    first = struct.unpack(f"{order}Q", data[8:16])[0] if is_big else struct.unpack(f"{order}I", data[4:8])[0]
    waiting, seen = [first], set[int]()
    while waiting and len(seen) < _MOST_DIRECTORIES:
        start = waiting.pop(0)
        if not start or start in seen:
            continue
        seen.add(start)
        try:
            tags, following = _read_directory(data, start, order, is_big=is_big)
        except struct.error:
            continue
        yield tags
        waiting += [*tags.get(_SUB_DIRECTORIES, ()), following]


def _read_directory(data: FileBytes, start: int, order: str, *, is_big: bool) -> tuple[dict[int, tuple[int, ...]], int]:
    """Return the tags of a directory, and where the next one is. Raise struct.error if the file ends before."""
    count_format, entry_format, room = ("Q", "HHQ8s", 8) if is_big else ("H", "HHI4s", 4)
    head, entry, place = (
        struct.Struct(order + letters) for letters in (count_format, entry_format, "Q" if is_big else "I")
    )
    (count,) = head.unpack(data[start : start + head.size])
    start += head.size
    tags: dict[int, tuple[int, ...]] = {}
    for number in range(min(count, _MOST_ENTRIES)):
        place_of_entry = start + number * entry.size
        tag, kind, length, value = entry.unpack(data[place_of_entry : place_of_entry + entry.size])
        tags[tag] = ()
        if kind in _LETTERS and length <= _MOST_VALUES:
            values = struct.Struct(f"{order}{length}{_LETTERS[kind]}")
            if values.size > room:
                (offset,) = place.unpack(value)
                value = data[offset : offset + values.size]
            tags[tag] = values.unpack(value[: values.size])
    end = start + count * entry.size
    following = data[end : end + place.size]
    return tags, int(place.unpack(following)[0]) if len(following) == place.size else 0
