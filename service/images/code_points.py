"""Colors of a file by code points (CICP, ITU-T H.273), read as Chromium reads them.

Pillow passes over them. Knows no pixels.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

from service.images.boxes import primary_properties
from service.images.validation import FileBytes, png_chunks

BT709, BT2020, DISPLAY_P3 = 1, 9, 12
"""Primaries (H.273, table 2). All have the white of sRGB."""
GAMMA, LINEAR, SRGB, PQ, HLG = 1, 8, 13, 16, 18
"""Transfer characteristics (H.273, table 3). The first is that of a display, 2.4 (ITU-R BT.1886)."""

_PRIMARIES = {code: code for code in (BT709, BT2020, DISPLAY_P3)}
_TRANSFERS = {code: code for code in (GAMMA, LINEAR, SRGB, PQ, HLG)}
_PNG_TRANSFERS = _TRANSFERS | dict.fromkeys((6, 14, 15), GAMMA)
# 2 is "unspecified".
_BOX_PRIMARIES = _PRIMARIES | {2: BT709}
_BOX_TRANSFERS = _TRANSFERS | dict.fromkeys((GAMMA, 2, 6, 14, 15), SRGB)
"""Transfer characteristics in an AVIF, in which Chromium takes all of a video camera for sRGB."""

_CHUNK_BYTES = 24
"""Most that a chunk about colors has."""


@dataclass(frozen=True, slots=True)
class CodePoints:
    """The colors of a picture of which all parts are understood."""

    primaries: int
    transfer: int
    peak_nits: float = 1000
    """Luminance of the brightest pixel, in cd/m². The default is Chromium's."""


def read_png(data: FileBytes) -> CodePoints | None:
    """Read the chunks `cICP`, `cLLI` and `mDCV` of a PNG (third edition, 11.3.2.6 to 11.3.2.8).

    `cICP` wins over all others, a profile among them. None if there is none, or one that is not understood.
    """
    chunks = dict.fromkeys((b"cICP", b"cLLI", b"mDCV"), b"")
    for begin, name, end in takewhile(lambda chunk: chunk[1] not in {b"PLTE", b"IDAT"}, png_chunks(data)):
        if name in chunks and not chunks[name]:
            chunks[name] = data[begin + 8 : min(end - 4, begin + 8 + _CHUNK_BYTES)]
    brightest = int.from_bytes(chunks[b"cLLI"][:4]) or int.from_bytes(chunks[b"mDCV"][16:20])
    match [*chunks[b"cICP"]]:
        # RGB samples of the full range; Chromium ignores others.
        case primaries, transfer, 0, 1:
            return _understood(_PRIMARIES.get(primaries), _PNG_TRANSFERS.get(transfer), brightest / 10_000)
    return None


def read_avif(data: FileBytes) -> CodePoints | None:
    """Read the boxes `colr` and `clli` of an AVIF (ISO/IEC 14496-12, 12.1.5 and 12.1.6).

    A profile wins over them. None if there is no `colr` of type `nclx`, or one that is not understood.
    """
    light_level = 0
    said = b""
    for kind, body in primary_properties(data):
        if kind == b"colr" and body[:4] == b"nclx":
            said = said or body
        elif kind == b"clli":
            light_level = int.from_bytes(body[:2])
    primaries, transfer = int.from_bytes(said[4:6]), int.from_bytes(said[6:8])
    return _understood(_BOX_PRIMARIES.get(primaries), _BOX_TRANSFERS.get(transfer), light_level)


def read_heif(info: Mapping[Any, Any]) -> CodePoints | None:
    """Take from pillow-heif's information on a HEIC what `read_avif` finds in its like."""
    said = info.get("nclx_profile", {})
    return _understood(
        _BOX_PRIMARIES.get(said.get("color_primaries")),
        _BOX_TRANSFERS.get(said.get("transfer_characteristics")),
        info.get("content_light_level", {}).get("max_content_light_level", 0),
    )


def _understood(primaries: int | None, transfer: int | None, peak_nits: float) -> CodePoints | None:
    """Return None if a code point means nothing here; a luminance of 0 is one that is not known."""
    if primaries is None or transfer is None:
        return None
    return CodePoints(primaries, transfer, peak_nits) if peak_nits else CodePoints(primaries, transfer)
