"""HEIC files with previews of any kind, as cameras and editors write them."""

import io
import struct
from typing import Any

import pillow_heif
from PIL import Image

_PLACEHOLDER = 64
"""Side of a preview that the encoder makes; another picture takes its place."""


def heic(photo: Image.Image, preview: Image.Image | None = None, **options: Any) -> bytes:  # noqa: ANN401 - the encoder's
    """A photo, and a picture of one's own as its preview.

    Each has the orientation and the profile of its `info`. With the option `thumbnails`, the encoder makes previews of
    those sizes.
    """
    file = pillow_heif.HeifFile()  # type: ignore[no-untyped-call]
    _add(file, photo)
    if preview is None:
        return _saved(file, **options)
    file.info["thumbnails"] = [_PLACEHOLDER]
    _add(file, preview)
    data = _saved(file, primary_index=0, **options)
    item = pillow_heif.open_heif(io.BytesIO(data))[1]._c_image.item_id
    # The reference from a preview to its photo, ISO 14496-12, 8.11.12.
    at = data.index(b"thmb") + 4
    return data[:at] + struct.pack(">H", item) + data[at + 2 :]


def deep_heic(photo: Image.Image, **options: Any) -> bytes:  # noqa: ANN401 - the encoder's
    """A photo of 10 bits a sample."""
    wide = bytes(sample for sample in photo.tobytes() for _ in range(2))
    return _saved(pillow_heif.from_bytes("RGB;16", photo.size, wide), **options)


def cropped(data: bytes) -> bytes:
    """Let a file that is of an odd size, and so crops its photo by a column and a row, keep nine tenths of it."""
    at = data.index(b"clap") + 4
    width, _, height, _ = struct.unpack_from(">4i", data, at)
    return data[:at] + struct.pack(">8i", width * 9 // 10, 1, height * 9 // 10, 1, 0, 1, 0, 1) + data[at + 32 :]


def with_broken_preview(photo: Image.Image, preview: Image.Image) -> bytes:
    """A photo whose preview cannot be decoded."""
    data = heic(photo, preview)
    # What comes before it is the same in a file without it.
    before = heic(photo, thumbnails=[_PLACEHOLDER])
    kept = data.index(b"mdat") + len(before) - before.index(b"mdat")
    return data[:kept] + bytes(len(data) - kept)


def _add(file: pillow_heif.HeifFile, picture: Image.Image) -> None:
    """Add a picture. It is stored as it is: its orientation is told and not applied."""
    picture = picture.copy()
    exif = picture.info.pop("exif", None)
    added = file.add_from_pillow(picture)
    if exif:
        added.info["exif"] = exif


def _saved(file: pillow_heif.HeifFile, **options: Any) -> bytes:  # noqa: ANN401 - the encoder's
    buffer = io.BytesIO()
    file.save(buffer, quality=90, **options)
    return buffer.getvalue()
