"""Memory that a picture will take, estimated from its header, so that nothing is begun that does not fit.

Mirrors what `decode`, `resize` and `encode` do, and does none of it. All figures are measured, at 12 and at 40
megapixels, as the most that a process grew by.
"""

from collections.abc import Collection

from service.images.decode import fills_screen
from service.images.formats import GIF, JPEG, PNG, TIFF, Format
from service.images.header import Header
from service.images.resize import reduction_factors, strip_rows

_COEFFICIENT_BYTES = 2.03
"""Per sample of a JPEG whose coefficients are held until its last scan."""

_MODE_BYTES = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16B": 2, "I;16L": 2, "I;16N": 2}
"""Per pixel of a decoded picture; 4 in any other mode."""

_STRIP_BYTES = {"1": 8, "P": 8}
"""Per pixel of a strip that is converted; 13 from any other mode."""

_PART_BYTES = 14
"""Per pixel of a PNG or GIF that ends too early: two readings of it, and what is missing."""

_INDEXING_BYTES = 30
"""Per pixel of a thumbnail that a palette is made for; measured on noise."""

_BASE_BYTES = 2 * 1024 * 1024
"""For rows, tables and other small things."""


def estimate_memory(header: Header, at_least: tuple[int, int], targets: Collection[Format], frame_pixels: int) -> int:
    """Return the most bytes that decoding, reducing and encoding will take at once, beyond the file's own.

    `at_least` is the size to decode to: twice that of the largest thumbnail. `frame_pixels` are those of all frames of
    an animation's thumbnails, which are held until they are encoded together; 0 for a still.
    """
    picture, source = header.picture, header.format
    width, height = header.size
    pixel_bytes = _MODE_BYTES.get(picture.mode, 4)
    # The scales at which a JPEG can be decoded are powers of 2.
    fraction = max(1, min(8, width // at_least[0], height // at_least[1])) if source is JPEG else 1
    scale = 1 << fraction.bit_length() - 1
    columns, rows = -(-width // scale), -(-height // scale)
    decoded = columns * rows * pixel_bytes
    factor_x, factor_y = reduction_factors((columns, rows), at_least)
    columns, rows = -(-columns // factor_x), -(-rows // factor_y)

    decoding = header.most_pixels * (source.decoding_bytes or pixel_bytes)
    if source is JPEG:
        decoding = header.most_pixels * (_COEFFICIENT_BYTES * header.jpeg.buffered_samples) + decoded
    elif source is TIFF:
        # A turned one is turned into a second picture.
        decoding += header.tiff.block_bytes + (decoded if header.tiff.is_turned else 0)
    elif source is GIF and not fills_screen(picture):
        decoding, decoded = 10 * width * height, 4 * width * height

    if header.is_cut and source is not JPEG:
        decoding = max(decoding, _PART_BYTES * width * height)
        decoded += width * height

    opaque = picture.mode in {"RGB", "L", "CMYK", "LAB"} and "transparency" not in picture.info and not header.is_cut
    strips = 0 if opaque else _STRIP_BYTES.get(picture.mode, 13) * width * min(height, strip_rows(width, factor_y))
    reduced = 0 if opaque and factor_x * factor_y == 1 else 4 * columns * rows
    thumbnail = at_least[0] * at_least[1] // 4
    encoding = max(target.encoding_bytes[not opaque] for target in targets)
    if picture.mode == "P":
        encoding = max(encoding, _INDEXING_BYTES)
    # Resized horizontally, then vertically; then turned, converted, encoded.
    finishing = 4 * thumbnail + max(2 * at_least[0] * rows, encoding * thumbnail)
    if frame_pixels:
        decoding = max(decoding, width * height * source.frame_bytes)
        # The encoder has copies, and that of PNG the differences between them, too.
        frames = frame_pixels * (13 if PNG in targets else 8)
        return int(decoding + strips + reduced + finishing) + frames + _BASE_BYTES
    retained = decoding - decoded if source.retains_decoder else 0
    after = retained + max(decoded + reduced + strips, (reduced or decoded) + finishing)
    return int(max(decoding, after)) + _BASE_BYTES
