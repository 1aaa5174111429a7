"""Boxes of an AVIF or HEIC file that describe its picture (ISO/IEC 14496-12 and 23008-12).

Reads few of them, whatever they claim, and none beyond the one around it. Knows bytes only: no pixels, no libraries.
"""

from collections.abc import Iterator
from itertools import islice

from service.images.validation import FileBytes

_MAX_BOXES = 10_000
"""Side by side in one box; a photo of a hundred tiles has some hundreds of properties."""
_MAX_BODY_BYTES = 65_536
"""Of a body that is read: that photo's lists, of which property is whose, take about a thousand."""
_MAX_LISTS = 4
"""Of which property is whose; there is one for each way to write them."""

Span = tuple[int, int]
"""Beginning and end of a box's body. The body of a box that is not there is empty."""


def primary_properties(data: FileBytes) -> list[tuple[bytes, bytes]]:
    """Return the type and the body of each property of the primary picture, in the order that the file gives.

    There are none if the boxes are damaged: the decoder refuses such a file, or knows better.
    """
    begin, end = _find(data, b"meta", (0, len(data)))
    meta = begin + 4, end
    item = _read(data, _find(data, b"pitm", meta))
    primary = int.from_bytes(item[4:8] if item[:1] > b"\0" else item[4:6])
    described = _find(data, b"iprp", meta)
    properties = [*boxes(data, _find(data, b"ipco", described))]
    lists = (_read(data, span) for kind, span in boxes(data, described) if kind == b"ipma")
    numbers = [number for body in islice(lists, _MAX_LISTS) for number in _numbers_of(primary, body)]
    named = (properties[number - 1] for number in numbers if 0 < number <= len(properties))
    return [(kind, _read(data, span)) for kind, span in named]


def boxes(data: FileBytes, around: Span) -> Iterator[tuple[bytes, Span]]:
    """Yield the type and the body of each box within a body, as far as they are whole."""
    begin, end = around
    for _ in range(_MAX_BOXES):
        body = begin + 8
        size = int.from_bytes(data[begin : begin + 4])
        if size == 1:
            size, body = int.from_bytes(data[body : body + 8]), body + 8
        stop = begin + size if size else end
        if not body <= stop <= end:
            return
        yield data[begin + 4 : begin + 8], (body, stop)
        begin = stop


def _numbers_of(item: int, body: bytes) -> list[int]:
    """Return the numbers, from 1, of an item's properties, from the body of an `ipma` box."""
    id_bytes = 4 if body[:1] > b"\0" else 2
    number_bytes = 2 if body[3:4] > b"\0" else 1
    position = 8
    while position < len(body):
        found = int.from_bytes(body[position : position + id_bytes])
        position += id_bytes + 1
        length = int.from_bytes(body[position - 1 : position]) * number_bytes
        if found == item:
            listed = (body[start : start + number_bytes] for start in range(position, position + length, number_bytes))
            # The highest bit says that a reader must know the property.
            return [int.from_bytes(each) & (1 << 8 * number_bytes - 1) - 1 for each in listed]
        position += length
    return []


def _find(data: FileBytes, kind: bytes, around: Span) -> Span:
    return next((span for found, span in boxes(data, around) if found == kind), (around[1], around[1]))


def _read(data: FileBytes, span: Span) -> bytes:
    begin, end = span
    return data[begin : min(end, begin + _MAX_BODY_BYTES)]
