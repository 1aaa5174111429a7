"""A progressive JPEG without what is not seen of it at an eighth of its size.

There, a pixel is the mean of a block, which its DC coefficient tells (ITU T.81, A.3.3). The scans of the others, the AC
coefficients, are most of the file and of the time that decoding takes. Knows bytes only: no pixels, no libraries.
"""

from collections.abc import Sequence
from itertools import pairwise

from service.images.validation import DEFINE_QUANTIZATION, END_OF_IMAGE, FRAMES, START_OF_SCAN, FileBytes, Segment

SCALE_OF_DC = 8
"""Columns and rows of a block."""

_REFINEMENT = 0x10
"""Least value of a scan's approximation bits (ITU T.81, B.2.3) that says that it only adds a bit to an earlier scan."""
_END = bytes([0xFF, END_OF_IMAGE])


def dc_scans(data: FileBytes, segments: Sequence[Segment]) -> list[memoryview]:
    """Return the parts of a progressive JPEG that make a file of its DC coefficients alone.

    At an eighth of its size it is the same picture if all components have its resolution. Those of half the resolution
    have one pixel for two.

    There are no parts if those coefficients of a component, or the end of the file, are missing.

    Args:
        data: the file.
        segments: those of its first picture, up to the end of image.
    """
    if not segments or segments[-1].marker != END_OF_IMAGE:
        return []
    whole = memoryview(data)
    parts = [whole[: segments[0].start]]
    missing: set[int] = set()
    for segment, following in pairwise(segments):
        part = whole[segment.start : following.start]
        if segment.marker in FRAMES:
            missing.update(part[10 : 10 + 3 * _byte(part, 9) : 3])
        elif segment.marker == DEFINE_QUANTIZATION:
            part = _without_ac(part[: segment.end - segment.start])
        elif segment.marker == START_OF_SCAN:
            components = _byte(part, 4)
            first_coefficient, approximation = (_byte(part, 5 + 2 * components + offset) for offset in (0, 2))
            if first_coefficient:
                continue
            if approximation < _REFINEMENT:
                missing.difference_update(part[5 : 5 + 2 * components : 2])
        parts.append(part)
    return [] if missing else [*parts, memoryview(_END)]


def _byte(part: memoryview, position: int) -> int:
    """Return a byte; 0 if a damaged segment ends before it, which the decoder will refuse."""
    return int.from_bytes(part[position : position + 1])


def _without_ac(segment: memoryview) -> memoryview:
    """Return a segment of quantization tables (ITU T.81, B.2.4.1) that make nothing of AC coefficients.

    With others, libjpeg guesses the missing coefficients from the blocks around. That takes as long as all the rest,
    and blurs the means.
    """
    tables, position = bytearray(segment), 4
    while position < len(tables):
        value_bytes = 2 if tables[position] >> 4 else 1
        ac, position = position + 1 + value_bytes, min(position + 1 + 64 * value_bytes, len(tables))
        tables[ac:position] = bytes(max(0, position - ac))
    return memoryview(tables)
