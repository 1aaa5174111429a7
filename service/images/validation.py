"""Checks of a file's structure, before a library reads it, against files made to waste time or memory.

A library reads every segment, chunk and block, however many there are; here, a file is refused at the first that is
too many. Knows bytes and numbers only: no pixels, no libraries.
"""

import re
import zlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from mmap import mmap
from typing import NamedTuple, TypeAlias

from service.errors import CorruptImage

FileBytes: TypeAlias = bytes | mmap
"""A whole file, in this process's memory or in what it shares with another."""

_MAX_SEGMENTS = 5_000
"""Of a JPEG; profiles and previews of 64 MiB take a thousand."""
_MAX_FILL = 65_536
"""Bytes between two segments of a JPEG that belong to neither."""
_MAX_SCANS = 100
"""Of a JPEG; a progressive one has about ten, and each costs a pass over the whole picture."""
_FREE_CHUNKS = 20_000
"""Chunks of a PNG of any size; an animation of a thousand small frames has two thousand."""
_MIN_CHUNK_BYTES = 512
"""Least average size of the chunks of a PNG that has more than the free ones."""
_MAX_BLOCKS = 300_000
"""Of a GIF of 64 MiB with blocks of the usual size."""

_JPEG_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""Markers that begin the header of a JPEG's frame."""
_PROGRESSIVE = frozenset({0xC2, 0xC6, 0xCA, 0xCE})
_STANDALONE = frozenset({0x01, 0xD8})
START_OF_SCAN, END_OF_IMAGE, DEFINE_QUANTIZATION = 0xDA, 0xD9, 0xDB
_ANCILLARY = 0x20
"""Bit of the first letter of a PNG's chunk that a picture can be shown without."""
_PNM_HEADER = re.compile(rb"P[14](?:(?:\s|#[^\r\n]*[\r\n])+\d+){2}\s|P[2356](?:(?:\s|#[^\r\n]*[\r\n])+\d+){3}\s")
_PNM_HEADER_BYTES = 4_096
_GIF_EXTENSION, _GIF_IMAGE, _GIF_TRAILER = 0x21, 0x2C, 0x3B


def check_structure(data: FileBytes, *, all_frames: bool) -> None:
    """Raise CorruptImage if a PNG, GIF or PNM is made to waste time. See `check_jpeg` for a JPEG."""
    if data[:8] == b"\x89PNG\r\n\x1a\n":
        _check_chunks(data)
    elif data[:6] in {b"GIF87a", b"GIF89a"}:
        _check_blocks(data, all_frames=all_frames)
    elif re.match(rb"P[1-6]\s", data):
        header = _PNM_HEADER.match(data[:_PNM_HEADER_BYTES])
        if header is None:
            raise CorruptImage(f"it cannot be decoded: its first {_PNM_HEADER_BYTES:,} bytes hold no whole header")
        if data[1:2] in b"123" and data.find(b"#", header.end()) >= 0:
            raise CorruptImage("it cannot be decoded: comments between plain samples are made to waste time")


class Segment(NamedTuple):
    """A segment of a JPEG: its marker, and where the marker, its body, and what follows begin.

    Behind the segment that starts a scan, its coded data follow.
    """

    marker: int
    start: int
    body: int
    end: int


@dataclass(frozen=True, slots=True)
class JpegLayout:
    """How the (first) picture of a JPEG is coded; the defaults for other formats."""

    buffered_samples: float = 0
    """Samples per pixel that its decoder holds until the last scan, whatever scale it decodes at.

    They are of all components together, so subsampling makes it less than their number; 0 if one scan has all of them.
    """
    progressive_segments: Sequence[Segment] = ()
    """All of it, up to the end of image if there is one; none unless it is progressive."""


def check_jpeg(data: FileBytes) -> JpegLayout:
    """Return how a JPEG is coded. Raise CorruptImage if it is made to waste time."""
    frame, progressive, scans, previous = b"", False, 0, 2
    segments: list[Segment] = []
    for segment in _segments(data):
        segments.append(segment)
        marker, start, body, end = segment
        if marker == END_OF_IMAGE:
            break
        if not scans and start - previous > _MAX_FILL:
            raise CorruptImage(f"it cannot be decoded: more than {_MAX_FILL:,} bytes lie between its segments")
        previous = end
        if marker in FRAMES and not frame:
            frame, progressive = data[body:end], marker in _PROGRESSIVE
        elif marker == START_OF_SCAN:
            scans += 1
            if scans > _MAX_SCANS:
                raise _too_many_segments()
            # The numbers of components, of which each header begins its list.
            of_all_components = bool(frame[7:8]) and data[body + 2 : body + 3] == frame[7:8]
            if scans == 1 and of_all_components and not progressive:
                return JpegLayout()
    return JpegLayout(_samples_per_pixel(frame), segments if progressive else ())


def _segments(data: FileBytes) -> Iterator[Segment]:
    """Yield each segment of a JPEG.

    Raises:
        CorruptImage: there are too many.
    """
    position, segments = 2, 0
    while found := _JPEG_MARKER.search(data, position):
        segments += 1
        if segments > _MAX_SEGMENTS:
            raise _too_many_segments()
        marker, body = found[0][1], found.end()
        position = body if marker in _STANDALONE else body + int.from_bytes(data[body : body + 2])
        yield Segment(marker, found.start(), body, position)


def _too_many_segments() -> CorruptImage:
    return CorruptImage(
        f"it cannot be decoded: a JPEG of more than {_MAX_SEGMENTS:,} segments or {_MAX_SCANS} scans "
        "is made to waste time"
    )


def find_segment(data: FileBytes, markers: Collection[int]) -> int | None:
    """Return where the first such segment of a JPEG begins, behind its marker; None if there is none before a scan."""
    for marker, _, body, _ in _segments(data):
        if marker in markers:
            return body
        if marker in {START_OF_SCAN, END_OF_IMAGE}:
            return None
    return None


def png_chunks(data: FileBytes) -> Iterator[tuple[int, bytes, int]]:
    """Yield each chunk of a PNG: where it begins, its name, and where it ends, which may be behind the file's end."""
    position = 8
    while position + 8 <= len(data):
        end = position + 12 + int.from_bytes(data[position : position + 4])
        yield position, data[position + 4 : position + 8], end
        position = end


def sound_parts(data: FileBytes) -> list[memoryview]:
    """Return a PNG without the ancillary chunks that have a wrong checksum: as decoders do, to ignore them.

    Those of frames are left in, whose checksum no decoder looks at.
    """
    whole = memoryview(data)
    parts, start = [], 0
    for begin, name, end in png_chunks(data):
        is_checked = name[0] & _ANCILLARY and name != b"fdAT" and end <= len(data)
        if is_checked and zlib.crc32(whole[begin + 4 : end - 4]) != int.from_bytes(data[end - 4 : end]):
            parts.append(whole[start:begin])
            start = end
    return [*parts, whole[start:]]


def ends_early(data: FileBytes, *, all_frames: bool) -> bool:
    """Return True if a JPEG, PNG or GIF has no end, which a decoder may still not need to see."""
    if data[:2] == b"\xff\xd8":
        scan = find_segment(data, {START_OF_SCAN})
        return scan is not None and data.find(bytes([0xFF, END_OF_IMAGE]), scan) < 0
    if data[:8] == b"\x89PNG\r\n\x1a\n":
        return _png_ends_early(data)
    return data[:6] in {b"GIF87a", b"GIF89a"} and _gif_ends_early(data, all_frames=all_frames)


def whole_segments(data: FileBytes) -> int:
    """Return the size of a JPEG without the segment in which it ends, such as a table between two scans."""
    for _, start, body, end in _segments(data):
        if end > len(data) or len(data) < body + 2:
            return start
    return len(data)


def _png_ends_early(data: FileBytes) -> bool:
    return not any(name == b"IEND" and begin + 12 <= len(data) for begin, name, _ in png_chunks(data))


def _gif_ends_early(data: FileBytes, *, all_frames: bool) -> bool:
    position = 13 + _color_table_bytes(data[10:11])
    while position < len(data) and data[position] != _GIF_TRAILER:
        first = data[position]
        position += 1
        if first in {_GIF_EXTENSION, _GIF_IMAGE}:
            position += 1 if first == _GIF_EXTENSION else 10 + _color_table_bytes(data[position + 8 : position + 9])
            while position < len(data) and data[position]:
                position += 1 + data[position]
            position += 1
        if first == _GIF_IMAGE and not all_frames:
            return position > len(data)
    # Without the mark of its end alone it is whole.
    return position > len(data)


def _samples_per_pixel(frame: bytes) -> float:
    """Read a frame header (ITU T.81, B.2.2): for each component an identifier, its sampling factors, a table."""
    factors = [(byte >> 4, byte & 15) for byte in frame[9::3]]
    whole = max((h for h, _ in factors), default=1) * max((v for _, v in factors), default=1)
    return sum(h * v for h, v in factors) / (whole or 1)


def _check_chunks(data: FileBytes) -> None:
    for chunks, (_, _, end) in enumerate(png_chunks(data), 1):
        if chunks > _FREE_CHUNKS and end < chunks * _MIN_CHUNK_BYTES:
            raise CorruptImage(f"it cannot be decoded: a PNG of {chunks:,} tiny chunks is made to waste time")


def _check_blocks(data: FileBytes, *, all_frames: bool) -> None:
    position, blocks, inside = 13 + _color_table_bytes(data[10:11]), 0, False
    while position < len(data):
        blocks += 1
        if blocks > _MAX_BLOCKS:
            raise CorruptImage(f"it cannot be decoded: a GIF of more than {_MAX_BLOCKS:,} blocks is made to waste time")
        first = data[position]
        if inside:
            position += 1 + first
            inside = first > 0
        elif first == _GIF_EXTENSION:
            position += 2
            inside = True
        elif first == _GIF_IMAGE:
            if not all_frames:
                return
            position += 11 + _color_table_bytes(data[position + 9 : position + 10])
            inside = True
        else:
            position += 1


def _color_table_bytes(flags: bytes) -> int:
    """Return the size of a GIF's color table, from the flags that announce it."""
    return 3 * 2 ** ((flags[0] & 7) + 1) if flags and flags[0] & 0x80 else 0
