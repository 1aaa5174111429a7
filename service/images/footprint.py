"""How much memory a picture will take, told from its header, so that nobody starts on what does not fit.

All constants are measured, at 12 and at 40 megapixels, as the most that a process grew by.
"""

from collections.abc import Collection

from PIL import Image

from service.images.decode import Header
from service.images.resize import strip_rows

_COEFFICIENT_BYTES = 2.03
"""Of a sample of a JPEG whose coefficients are held until its last scan, measured."""

_BYTES_A_PIXEL = {"WEBP": 16.5, "AVIF": 16, "HEIF": 16, "JPEG2000": 25, "ICO": 9}
"""What decoding takes at its peak, measured; of the formats that are not named, `_MODE_BYTES`."""

_MODE_BYTES = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16B": 2, "I;16L": 2, "I;16N": 2}
"""Bytes that Pillow holds for a pixel; 4 in any other mode."""

_FRAME_BYTES = {"GIF": 12, "PNG": 12}
"""What putting an animation's frames together takes a pixel of one frame, measured; WebP's decoder always does it."""

_KEPT_DECODERS = frozenset({"WEBP", "AVIF", "HEIF"})

_STRIP_BYTES = {"1": 8, "P": 8}
"""What converting takes a pixel of a strip, measured; 13 from any other mode."""

_ENCODING_BYTES = {"JPEG": (4, 9), "PNG": (7, 10), "GIF": (29, 29), "WEBP": (23, 42), "AVIF": (48, 56)}
"""What encoding takes a pixel of the thumbnail at its peak, opaque and not, measured on noise, photos and drawings."""

_INDEXING_BYTES = 28
"""What finding a palette takes a pixel of the thumbnail, measured on noise."""

_ANY_PICTURE = 2 * 1024 * 1024
"""Bytes for rows, tables and other small things."""


def estimate_memory(header: Header, at_least: tuple[int, int], targets: Collection[str], held: int) -> int:
    """Return the most bytes that decoding, shrinking and encoding will take at once, beyond the file's own.

    Args:
        header: of the file.
        at_least: the size to decode to, at the least: twice that of the largest thumbnail.
        targets: Pillow's names of the formats to encode.
        held: the pixels of all thumbnails that are held until they are encoded together, as an animation's are.
    """
    (width, height), mode = header.size, header.picture.mode
    # As `decode` and `shrinkable` will: a JPEG's scale, a power of 2, and how many pixels become one cheaply.
    fraction = max(1, min(8, width // at_least[0], height // at_least[1])) if header.format == "JPEG" else 1
    scale = 1 << fraction.bit_length() - 1
    columns, rows = -(-width // scale), -(-height // scale)
    raster = columns * rows * _MODE_BYTES.get(mode, 4)
    across, down = max(1, columns // at_least[0]), max(1, rows // at_least[1])
    columns, rows = -(-columns // across), -(-rows // down)
    decoding = _buffered(header)
    if header.format == "JPEG":
        decoding += raster
    elif header.format == "TIFF":
        decoding += _tiff_extra(header)
    elif header.format == "GIF" and not _fills_its_screen(header.picture):
        decoding, raster = 10 * width * height, 4 * width * height
    opaque = mode in {"RGB", "L", "CMYK", "LAB"} and "transparency" not in header.picture.info
    strips = 0 if opaque else _STRIP_BYTES.get(mode, 13) * width * min(height, strip_rows(width, down))
    reduced = 0 if opaque and across * down == 1 else 4 * columns * rows
    thumbnail = at_least[0] * at_least[1] // 4
    encoding = max(_ENCODING_BYTES.get(target, (7, 10))[not opaque] for target in targets)
    if mode == "P":
        encoding = max(encoding, _INDEXING_BYTES)
    # Resized across first and then down; then turned, converted, encoded.
    finishing = 4 * thumbnail + max(2 * at_least[0] * rows, encoding * thumbnail)
    if held:
        decoding = max(_buffered(header), width * height * _FRAME_BYTES.get(header.format, 0))
        # The encoder has copies, and that of PNG the differences between them, too.
        held *= 13 if "PNG" in targets else 8
        return int(decoding + strips + reduced + finishing) + held + _ANY_PICTURE
    # Some decoders live on, with all they hold besides the picture, until the picture goes.
    kept = decoding - raster if header.format in _KEPT_DECODERS else 0
    after = kept + max(raster + reduced + strips, (reduced or raster) + finishing)
    return int(max(decoding, after)) + _ANY_PICTURE


def _buffered(header: Header) -> float:
    """Bytes that the decoder holds of the whole picture, whatever scale it decodes at."""
    if header.format == "JPEG":
        scans = header.jpeg
        held = _COEFFICIENT_BYTES * scans.samples_a_pixel if scans and scans.buffered else 0
    else:
        held = _BYTES_A_PIXEL.get(header.format) or _MODE_BYTES.get(header.picture.mode, 4)
    return header.most_pixels * held


def _fills_its_screen(picture: Image.Image) -> bool:
    return all(tile.extents in {None, (0, 0, *picture.size)} for tile in getattr(picture, "tile", ()))


def _tiff_extra(header: Header) -> int:
    """Bytes that a TIFF takes besides its pixels: a strip or tile that is unpacked, a second picture where it turns."""
    picture, layout = header.picture, header.tiff
    width, height = picture.size
    extra = 0 if layout.orientation == 1 else width * height * _MODE_BYTES.get(picture.mode, 4)
    if any(tile.codec_name == "libtiff" for tile in getattr(picture, "tile", ())):
        strip = (width, min(height, height if layout.rows_per_strip is None else layout.rows_per_strip))
        columns, rows = layout.tile or strip
        extra += columns * rows * len(layout.bits) * max(layout.bits, default=1) // 8
    return extra
