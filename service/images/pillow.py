"""Access to Pillow: the decoders that are registered, its view of a file, and its errors as rejections."""

import io
import itertools
import re
import struct
import zlib
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from importlib import import_module
from typing import TYPE_CHECKING

from PIL import Image, UnidentifiedImageError
from PIL.ImageFile import ImageFile

from service.errors import CorruptImage, PictureTooLarge, UnsupportedFormat
from service.images.formats import FORMATS, HEIF, looks_like_image
from service.images.kinds import kind_refused
from service.images.validation import FileBytes, sound_parts, whole_segments

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer


def _load_decoders() -> Iterator[str]:
    """Register the decoders that are installed, and no others; yield Pillow's names of their formats."""
    for row in FORMATS.values():
        with suppress(ImportError):
            if row.plugin:
                import_module(row.plugin)
                yield row.name


READABLE = tuple(_load_decoders())
"""Pillow's names of the formats that are read; no other decoder is tried."""

_READ_BYTES = 64 * 1024
"""Size of one of Pillow's reads."""
_END_OF_JPEG = b"\xff\xd9"

DAMAGE = (
    OSError, ValueError, SyntaxError, TypeError, LookupError, ArithmeticError, EOFError, AttributeError,
    AssertionError, RuntimeError, SystemError, BufferError, struct.error, zlib.error,
)  # fmt: skip
"""Raised by Pillow's decoders for damaged files."""


@contextmanager
def pillow_errors_as_rejections(data: FileBytes, max_pixels: int) -> Iterator[None]:
    """Turn whatever Pillow raises about a file into one of our rejections."""
    try:
        yield
    except Image.DecompressionBombError as error:
        match = re.search(r"\((\d+) pixels\)", str(error))
        pixels = f"{int(match[1]):,}" if match else "too many"
        raise too_many_pixels(pixels, max_pixels) from error
    except UnidentifiedImageError as error:
        if HEIF.name not in READABLE and re.match(HEIF.signature, data, re.DOTALL):
            raise UnsupportedFormat(f"it is a HEIC picture, which needs the extra '{HEIF.extra}' to be read") from error
        if looks_like_image(data):
            raise CorruptImage("it cannot be decoded: its header is cut off or damaged") from error
        raise UnsupportedFormat(f"the bytes are of none of these formats: {', '.join(READABLE)}") from error
    except MemoryError as error:
        raise PictureTooLarge(
            "decoding it takes more memory than its header accounts for; save it anew with another program"
        ) from error
    except DAMAGE as error:
        raise CorruptImage(f"it cannot be decoded: {str(error) or type(error).__name__}") from error


def too_many_pixels(pixels: str, max_pixels: int) -> PictureTooLarge:
    """Return the rejection of a picture with so many pixels."""
    return PictureTooLarge(f"it has {pixels} pixels and MAX_IMAGE_PIXELS is {max_pixels:,}")


class _MappedFile(io.RawIOBase):
    """Reads parts of memory as one file. Unlike `mmap` itself it can be told to seek beyond the end, as files can."""

    def __init__(self, parts: Sequence[memoryview]) -> None:
        self._parts = parts
        self._starts = list(itertools.accumulate(map(len, parts), initial=0))
        self._position = 0

    @classmethod
    def open(cls, parts: Sequence[memoryview]) -> io.BufferedReader:
        return io.BufferedReader(cls(parts), _READ_BYTES)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer") -> int:
        if self._position >= self._starts[-1]:
            return 0
        index = bisect_right(self._starts, self._position) - 1
        start = self._position - self._starts[index]
        part = self._parts[index][start : start + memoryview(buffer).nbytes]
        memoryview(buffer)[: len(part)] = part
        self._position += len(part)
        return len(part)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._starts[-1]}[whence]
        if start + offset < 0:
            raise ValueError(f"negative seek position {start + offset}")
        self._position = start + offset
        return self._position


Reading = Callable[[], AbstractContextManager[None]]
"""`pillow_errors_as_rejections` of a file: wraps every call in which a library reads it."""


def open_image(data: FileBytes, *, is_cut: bool = False) -> ImageFile:
    """Let Pillow read the header; of a JPEG that `is_cut`, the decoder makes the rest gray."""
    parts = sound_parts(data) if data[:8] == b"\x89PNG\r\n\x1a\n" else [memoryview(data)]
    if is_cut and data[:2] == b"\xff\xd8":
        parts = [parts[0][: whole_segments(data)], memoryview(_END_OF_JPEG)]
    try:
        return Image.open(_MappedFile.open(parts), formats=READABLE)
    except DAMAGE as error:
        if kind := kind_refused(data):
            raise not_read(kind) from error
        raise


def read_instead(picture: ImageFile, parts: Sequence[memoryview]) -> None:
    """Let the decoder read these parts as one file, in place of that which the header is from."""
    picture.fp = _MappedFile.open(parts)


def not_read(kind: str) -> UnsupportedFormat:
    """Return the rejection of a kind of file, such as `a JPEG-LS`."""
    return UnsupportedFormat(f"it is {kind}; such files are not read")
