"""The interface to object storage: what an object store can do, and an object as it describes it.

Knows nothing of how storage is reached; `cloud.py` implements it.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol, Self

from service.errors import ServiceError, StorageUnavailable
from service.storage.addresses import ALL_NAMES, FolderLocation, NameRange, ObjectLocation
from service.storage.classes import StorageClass, class_named

RESOURCE_FIELDS = "name,generation,size,timeCreated,contentType,contentEncoding,storageClass,metadata"
"""The fields of an object resource that `StoredObject.from_resource` reads."""


UPLOAD_UNIT = 256 * 1024
"""Bytes (cloud.google.com/storage/docs/performing-resumable-uploads#chunked-upload)."""


@dataclass(frozen=True, slots=True)
class StoredObject:
    """One generation of an object, as a listing or an event describes it."""

    location: ObjectLocation
    generation: int
    size: int
    """Stored bytes. For a gzip-encoded object these are the compressed bytes."""
    created: datetime
    """When this generation was written (`timeCreated`). Has a time zone."""
    content_type: str = ""
    content_encoding: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    storage_class: StorageClass | None = None
    """None if the resource does not say."""

    @classmethod
    def from_resource(cls, bucket: str, resource: Mapping[str, Any]) -> Self:
        """Read an object resource, in which integers are strings (cloud.google.com/storage/docs/json_api/v1/objects).

        Raises:
            KeyError, TypeError, ValueError: a field is missing or malformed.
        """
        created = datetime.fromisoformat(resource["timeCreated"])
        content_type = resource.get("contentType", "")
        content_encoding = resource.get("contentEncoding", "")
        metadata = resource.get("metadata", {})
        class_name = resource.get("storageClass", "")
        texts = isinstance(content_type, str) and isinstance(content_encoding, str) and isinstance(class_name, str)
        if not (created.tzinfo and texts and isinstance(metadata, dict)):
            raise TypeError("malformed timeCreated, contentType, contentEncoding, storageClass or metadata")
        location = ObjectLocation(bucket, resource["name"])
        generation, size = int(resource["generation"]), int(resource.get("size", 0))
        # Positional arguments: this runs for each object of a listing, and keywords take a tenth longer.
        storage_class = class_named(class_name) if class_name else None
        return cls(location, generation, size, created, content_type, content_encoding, metadata, storage_class)


@dataclass(frozen=True, slots=True)
class Page:
    """A page of a listing."""

    folder: FolderLocation
    resources: Sequence[Mapping[str, Any]]
    """Each has a name. They are in the order of the names' UTF-8 bytes."""
    next_token: str = ""
    """Of the next page; empty if there is none."""

    def describe(self, resource: Mapping[str, Any]) -> StoredObject:
        """Return the object that one of the resources describes.

        Raises:
            StorageUnavailable: a field is missing or malformed.
        """
        try:
            return StoredObject.from_resource(self.folder.bucket, resource)
        except (KeyError, TypeError, ValueError) as error:
            raise StorageUnavailable(f"cannot list {self.folder}: storage's answer is malformed: {error!r}") from error


@dataclass(frozen=True, slots=True)
class Folders:
    """Folders directly inside a folder."""

    names: tuple[str, ...]
    """Full prefixes, each ending in a slash, in the order of their UTF-8 bytes."""
    complete: bool
    """False if the listing was cut off before the end."""


@dataclass(frozen=True, slots=True)
class FoundObjects:
    """Objects that a search found."""

    objects: tuple[StoredObject, ...]
    """In the order of their names' UTF-8 bytes."""
    complete: bool
    """False if the search was cut off before the end."""


class Upload(Protocol):
    """An object that is sent piece by piece. It is there once it is finished; if it never is, nothing is left of it."""

    def send(self, data: bytes) -> None:
        """Send the next bytes, a multiple of `UPLOAD_UNIT`."""

    def finish(self, data: bytes) -> None:
        """Send the last bytes, of which there is at least one. The object replaces what its name holds."""


class ObjectStore(Protocol):
    """The object storage that the service needs.

    Every call but `close`, and every call of an upload, may raise StorageUnavailable, PermissionMissing or
    StorageRefused. Listings and writes raise BucketNotFound, `list_objects` with its first object. What a call is
    served is counted; see `metering`.
    """

    def close(self) -> None:
        """Close all connections. No call may follow."""

    def list_objects(
        self, folder: FolderLocation, names: NameRange = ALL_NAMES, *, glob: str | None = None
    ) -> Iterator[StoredObject]:
        """Yield the live objects of a folder and of all below it, in the order of their names' UTF-8 bytes.

        Makes one request per 1,000 objects, each when its first object is needed. Full names are in the range and match
        the glob, in which a `*` does not match a slash.
        """

    def list_page(self, folder: FolderLocation, names: NameRange = ALL_NAMES, token: str = "") -> Page:
        """Return the page of `list_objects` that a token names; the first one if it is empty. Makes one request."""

    def find_objects(self, bucket: str, names: NameRange, *, glob: str, requests: int) -> FoundObjects:
        """Return the objects that `list_objects` yields, as far as so many requests reach."""

    def list_folders(self, folder: FolderLocation, names: NameRange, *, requests: int) -> Folders:
        """Return the folders directly inside a folder that have an object in the range.

        Makes at most `requests` requests, each of which covers 1,000 folders and objects directly in the folder.
        """

    def stat(self, location: ObjectLocation, generation: int | None = None) -> StoredObject:
        """Describe one generation of an object, or the live one if None.

        Raises:
            ObjectNotFound: it does not exist.
        """

    def read(self, stored: StoredObject, max_bytes: int) -> bytes:
        """Return the bytes of exactly this generation, decompressed if stored gzip-encoded.

        Raises:
            ObjectNotFound: this generation no longer exists.
            SourceTooLarge: it has more than `max_bytes`, or decompresses to more.
            CorruptImage: it cannot be decompressed.
        """

    def read_head(self, stored: StoredObject, size: int) -> bytes:
        """Return at most the first `size` bytes as `read` does, and none if they cannot be decompressed.

        Raises:
            ObjectNotFound: this generation no longer exists.
        """

    def write(
        self,
        location: ObjectLocation,
        data: bytes,
        *,
        content_type: str,
        cache_control: str | None,
        metadata: Mapping[str, str],
        if_generation: int | None,
    ) -> None:
        """Write an object if the name holds the generation `if_generation`; 0 means no object, None means any.

        Raises:
            NameTaken: the name holds another generation. Storage says the same if a policy forbids the write; see
                `refused`.
        """

    def open_upload(self, location: ObjectLocation, content_type: str) -> Upload:
        """Begin to write an object of any size. Takes a request, and one for each call of the upload."""


def refused(error: ServiceError) -> StorageUnavailable:
    """Return the error of a write that storage refuses as if the name were taken, while the name holds nothing."""
    return StorageUnavailable(f"{error}. But the name holds nothing; look for a policy that forbids the write")
