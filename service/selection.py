"""What is known of a stored object without reading it, and the one answer to "is this ours to do?".

All doors ask the same `Selection`, so none of them can loop over the service's own output.
"""

from dataclasses import dataclass

from service.naming import SOURCE_KEY, is_output
from service.storage.addresses import FolderLocation, ObjectLocation
from service.storage.base import StoredObject

IMAGE_EXTENSIONS = frozenset(
    [
        ".apng",
        ".avif",
        ".bmp",
        ".dib",
        ".gif",
        ".heic",
        ".heif",
        ".ico",
        ".j2c",
        ".j2k",
        ".jfif",
        ".jp2",
        ".jpe",
        ".jpeg",
        ".jpf",
        ".jpg",
        ".jpx",
        ".mpo",
        ".pbm",
        ".pgm",
        ".png",
        ".pnm",
        ".ppm",
        ".qoi",
        ".tga",
        ".tif",
        ".tiff",
        ".webp",
    ]
)
"""File extensions, in lower case, that mean an image where the content type says nothing."""

_GENERIC_TYPES = frozenset({"", "application/octet-stream", "binary/octet-stream", "application/x-www-form-urlencoded"})
"""What storage and common clients put where nobody said what the bytes are; curl is the last one."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Which objects are sources: images inside the fence that the service did not write itself."""

    fence: FolderLocation
    output_bucket: str
    by_content: bool = False
    """Whether the first bytes decide where neither the content type nor the name does."""

    def name_exclusion_reason(self, location: ObjectLocation) -> str | None:
        """Why an object cannot be a source, from its address alone; None if it can."""
        if location not in self.fence:
            return f"outside {self.fence}"
        if location.bucket == self.output_bucket and is_output(location.name):
            return "in a folder that this service writes to"
        if location.name.endswith("/"):
            return "a folder placeholder"
        return None

    def exclusion_reason(self, found: StoredObject) -> str | None:
        """Why an object cannot be a source, image or not; None if it can."""
        if reason := self.name_exclusion_reason(found.location):
            return reason
        if SOURCE_KEY in found.metadata:
            return f"a thumbnail of {found.metadata[SOURCE_KEY]}"
        return None

    def non_image_reason(self, found: StoredObject) -> str | None:
        """Why an object is taken for no image; None if it is one, or its first bytes have to decide."""
        if _is_image(found) or self.needs_sniffing(found):
            return None
        return f"not an image by its content type ({found.content_type or 'none'}) and its name"

    def is_source(self, stored: StoredObject) -> bool:
        """Tell if an object is an image that gets a thumbnail, as far as is known without reading it."""
        return self.exclusion_reason(stored) is None and self.non_image_reason(stored) is None

    def needs_sniffing(self, found: StoredObject) -> bool:
        """Whether the first bytes have to decide: the type and the name say nothing, or contradict each other."""
        return self.by_content and found.size > 0 and _is_image(found) is None


def _is_image(found: StoredObject) -> bool | None:
    """What content type and name say; None where they say nothing, or contradict each other."""
    content_type = found.content_type.partition(";")[0].strip().lower()
    if content_type.startswith("image/"):
        return True
    _, dot, extension = found.location.name.rpartition("/")[2].rpartition(".")
    named_so = dot + extension.lower() in IMAGE_EXTENSIONS
    if content_type in _GENERIC_TYPES:
        return True if named_so else None
    return None if named_so else False
