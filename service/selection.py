"""The one answer to "is this object a source?", from what a listing or an event says of it.

Events and runs ask the same `Selection`, so none of them can loop over the service's own output. Reads nothing from
storage.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from service.images.formats import format_of, media_type_of
from service.naming import SOURCE_KEY, is_output
from service.storage.addresses import FolderLocation, ObjectLocation
from service.storage.base import Page, StoredObject
from service.storage.classes import StorageClass
from service.storage.globs import Globs

_GENERIC_TYPES = frozenset({"", "application/octet-stream", "binary/octet-stream", "application/x-www-form-urlencoded"})
"""Content types that storage and common clients put if nobody said one; the last one is curl's."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Chooses the sources: images inside the fence that the service did not write itself."""

    fence: FolderLocation
    output_bucket: str
    by_content: bool = False
    """True if the first bytes decide when neither the content type nor the name does."""
    include: Globs | None = None
    exclude: Globs | None = None
    storage_classes: tuple[StorageClass, ...] = ()
    """None means all."""

    def name_exclusion_reason(self, location: ObjectLocation) -> str | None:
        """Return why an object cannot be a source, from its address alone; None if it can."""
        if location not in self.fence:
            return f"outside {self.fence}"
        if location.bucket == self.output_bucket and is_output(location.name):
            return "in a folder that this service writes to"
        if location.name.endswith("/"):
            return "a folder placeholder"
        return None

    def exclusion_reason(self, stored: StoredObject) -> str | None:
        """Return why an object cannot be a source, image or not; None if it can."""
        reason = self.name_exclusion_reason(stored.location)
        if reason is None and SOURCE_KEY in stored.metadata:
            return f"a thumbnail of {stored.metadata[SOURCE_KEY]}"
        return reason

    def non_image_reason(self, stored: StoredObject) -> str | None:
        """Return why an object is not taken for an image; None if it is, or its first bytes have to decide."""
        if _is_image(stored) or self.needs_sniffing(stored):
            return None
        return f"not an image by its content type ({stored.content_type or 'none'}) and its name"

    def reason_to_ignore(self, stored: StoredObject) -> str | None:
        """Return why an object is no source, as far as is known without reading it; None if it is one."""
        return self.exclusion_reason(stored) or self.non_image_reason(stored)

    def filter_reason(self, location: ObjectLocation) -> str | None:
        """Return why INCLUDE or EXCLUDE leaves an object inside the fence out; None if they do not."""
        name = location.name.removeprefix(self.fence.prefix)
        if self.include and not self.include.matches(name):
            return "no glob of INCLUDE matches its name"
        if self.exclude and self.exclude.matches(name):
            return "a glob of EXCLUDE matches its name"
        return None

    def class_reason(self, stored: StoredObject) -> str | None:
        """Return why STORAGE_CLASSES leaves an object out; None if it does not."""
        storage_class = stored.storage_class or StorageClass.STANDARD
        if not self.storage_classes or storage_class in self.storage_classes:
            return None
        return f"its storage class is {storage_class}, and STORAGE_CLASSES is {','.join(self.storage_classes)}"

    def leaves_out(self, stored: StoredObject, since: datetime | None) -> bool:
        """Return True if an image is not asked for: older than `since`, of another class, or left out by a glob."""
        if since is not None and stored.created < since:
            return True
        return self.class_reason(stored) is not None or self.filter_reason(stored.location) is not None

    def is_source(self, stored: StoredObject, since: datetime | None = None) -> bool:
        """Return True if an object is an image that gets a thumbnail, as far as is known without reading it."""
        return self.reason_to_ignore(stored) is None and not self.leaves_out(stored, since)

    def sources_of(self, page: Page, since: datetime | None = None) -> list[Mapping[str, Any]]:
        """Return the sources among the objects of a page, in order.

        Most objects are images by their type alone, which is seen in a tenth of the time of a whole description.
        """
        rest_is_default = self == Selection(self.fence, self.output_bucket, by_content=self.by_content)
        type_decides = rest_is_default and since is None and page.folder in self.fence
        prefix = page.folder.prefix
        may_be_output = page.folder.bucket == self.output_bucket and (not prefix or is_output(prefix))
        return [
            resource
            for resource in page.resources
            if (type_decides and _is_plain_image(resource) and not (may_be_output and is_output(resource["name"])))
            or self.is_source(page.describe(resource), since)
        ]

    def needs_sniffing(self, stored: StoredObject) -> bool:
        """Return True if the first bytes have to decide: type and name say nothing, or contradict each other."""
        return self.by_content and stored.size > 0 and _is_image(stored) is None


def _is_plain_image(resource: Mapping[str, Any]) -> bool:
    """Return True if the type of an object says that it is an image, and nothing else in its description matters."""
    content_type, metadata = resource.get("contentType"), resource.get("metadata")
    return (
        isinstance(content_type, str)
        and content_type.startswith("image/")
        and (metadata is None or (isinstance(metadata, dict) and SOURCE_KEY not in metadata))
        and not resource["name"].endswith("/")
    )


def _is_image(stored: StoredObject) -> bool | None:
    """Return what content type and name say; None if they say nothing, or contradict each other."""
    content_type = media_type_of(stored.content_type)
    if content_type.startswith("image/"):
        return True
    has_image_name = format_of("", stored.location.name) is not None
    if content_type in _GENERIC_TYPES:
        return True if has_image_name else None
    return None if has_image_name else False
