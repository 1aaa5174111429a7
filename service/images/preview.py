"""The preview inside of a HEIC, which is decoded in place of the photo if it is a small copy of it.

All that is compared stands in the headers of both. What the preview shows is not looked at.
"""

from contextlib import suppress
from dataclasses import dataclass, replace
from math import prod
from typing import Any, Protocol

from PIL import Image

from service.errors import ImageRejected
from service.images.formats import HEIF
from service.images.header import Header
from service.images.pillow import Reading

_BITS = 8
_ROUNDING = 2
"""Pixels by which the shorter side of a preview may miss the photo's shape: encoders round to even numbers."""
_PADDING = 64
"""Least columns or rows that a crop removes; fewer, at the right and the bottom, fill up the encoder's last block."""


class _HeifImage(Protocol):
    """An image in a HEIC: pillow-heif's `HeifImage`, which has no types."""

    size: tuple[int, int]
    mode: str
    info: dict[str, Any]
    _c_image: Any

    def get_thumbnail(self, index: int) -> "_HeifImage": ...

    def to_pillow(self) -> Image.Image: ...


@dataclass(frozen=True, slots=True)
class Preview:
    """A preview that shows what the photo shows, as far as the headers tell."""

    header: Header
    """That of the file, with the size of the preview."""
    _item: _HeifImage

    def decode(self, reading: Reading) -> Image.Image | None:
        """Return the picture; None if it is damaged."""
        with suppress(ImageRejected), reading():
            picture = self._item.to_pillow()
            return picture if picture.size == self.header.size else None
        return None


def find_preview(header: Header, at_least: tuple[int, int], reading: Reading) -> Preview | None:
    """Return the smallest preview that is no smaller than asked, and a copy of the photo; None if there is none."""
    if header.format is not HEIF:
        return None
    # pillow-heif's own choice, `draft`, decodes at once and asks less.
    # The plugin's picture does not show the file that it has opened.
    photo: _HeifImage = vars(header.picture)["_heif_file"][header.picture.tell()]
    copies = []
    for index in range(len(photo.info["thumbnails"])):
        with suppress(ImageRejected), reading():
            item = photo.get_thumbnail(index)
            if item.size[0] >= at_least[0] and item.size[1] >= at_least[1] and _is_copy(item, photo):
                copies.append(item)
    smallest = min(copies, key=lambda item: prod(item.size), default=None)
    if smallest is None:
        return None
    return Preview(replace(header, size=smallest.size, most_pixels=prod(smallest.size)), smallest)


def _is_copy(preview: _HeifImage, photo: _HeifImage) -> bool:
    width, height = photo.size
    is_smaller = prod(preview.size) < width * height
    has_shape = abs(preview.size[0] * height - preview.size[1] * width) < _ROUNDING * max(width, height)
    has_samples = preview.mode == photo.mode and preview.info["bit_depth"] == photo.info["bit_depth"] == _BITS
    # Upright sizes do not tell a picture that stands on its head.
    is_upright = _turns(preview) == _turns(photo) and not _is_cropped(preview) and not _is_cropped(photo)
    # To a preview without a profile, the photo's is applied.
    has_colors = _profile(preview) is None or _profile(preview) == _profile(photo)
    return is_smaller and has_shape and has_samples and is_upright and has_colors


def _turns(item: _HeifImage) -> list[tuple[Any, ...]]:
    """Return the rotation and the mirroring (ISO 23008-12, 6.5.10 and 6.5.12); a rotation by nothing is none."""
    return [each for each in _transformations(item) if each[0] != "clap" and each != ("irot", 0)]


def _is_cropped(item: _HeifImage) -> bool:
    """Return True if the file crops (ISO 23008-12, 6.5.9) more than the padding of the encoder."""
    crops = (each[1:5] for each in _transformations(item) if each[0] == "clap")
    return any(left or top or max(right, bottom) >= _PADDING for left, top, right, bottom in crops)


def _transformations(item: _HeifImage) -> list[tuple[Any, ...]]:
    native = item._c_image  # noqa: SLF001 - pillow-heif 1.8 applies the transformations and tells them nowhere else
    return [tuple(each) for each in native.transformations]


def _profile(item: _HeifImage) -> object:
    return item.info.get("icc_profile") or item.info.get("nclx_profile")
