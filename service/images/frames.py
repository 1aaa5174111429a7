"""Frames that the service and a worker process exchange over pipes: JSON fields, and bytes.

    request    specs, max_pixels; the bytes of an image file
    answer     thumbnails, and their bytes; or code and reason; or the traceback of a defect
    in between reserve, the memory that decoding takes in place of any before; answered with granted

Once it is ready, a worker says if its system calls are unfiltered, and why.
"""

import json
import struct
from collections.abc import Mapping
from typing import Any

from service.images.spec import Box, OutputFormat, ThumbnailSpec

LENGTHS = struct.Struct("=IQ")
"""Begins a frame: the bytes of its JSON, and of what follows that."""


def pack(fields: Mapping[str, Any], payload_bytes: int = 0) -> bytes:
    """Return the beginning of a frame, to be followed by so many bytes."""
    encoded = json.dumps(fields).encode()
    return LENGTHS.pack(len(encoded), payload_bytes) + encoded


def spec_to_json(spec: ThumbnailSpec) -> list[Any]:
    """Return a spec as values of JSON."""
    return [spec.box.width, spec.box.height, spec.format, spec.quality, spec.animated, spec.shows_damaged]


def spec_from_json(values: list[Any]) -> ThumbnailSpec:
    """Return the spec that `spec_to_json` has written."""
    width, height, name, quality, animated, shows_damaged = values
    return ThumbnailSpec(Box(width, height), OutputFormat(name), quality, animated, shows_damaged)
