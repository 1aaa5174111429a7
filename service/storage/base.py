"""The interface to object storage: what an object store can do, and an object as it describes it.

Knows nothing of how storage is reached; `cloud.py` implements it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol, Self

from service.storage.addresses import ALL_NAMES, FolderLocation, NameRange, ObjectLocation

RESOURCE_FIELDS = "name,generation,size,timeCreated,contentType,contentEncoding,metadata"
"""The fields of an object resource that `StoredObject.from_resource` reads."""


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

    @classmethod
    def from_resource(cls, bucket: str, resource: Mapping[str, Any]) -> Self:
        """Read an object resource of the JSON API, in which integers are strings.

        See cloud.google.com/storage/docs/json_api/v1/objects#resource.

        Raises:
            KeyError, TypeError, ValueError: a field is missing or malformed.
        """
        created = datetime.fromisoformat(resource["timeCreated"])
        content_type = resource.get("contentType", "")
        content_encoding = resource.get("contentEncoding", "")
        metadata = resource.get("metadata", {})
        if not (
            created.tzinfo
            and isinstance(content_type, str)
            and isinstance(content_encoding, str)
            and isinstance(metadata, dict)
        ):
            raise TypeError("malformed timeCreated, contentType, contentEncoding or metadata")
        # Positional arguments: this runs for each object of a listing, and keywords take a tenth longer.
        return cls(
            ObjectLocation(bucket, resource["name"]),
            int(resource["generation"]),
            int(resource.get("size", 0)),
            created,
            content_type,
            content_encoding,
            metadata,
        )


@dataclass(frozen=True, slots=True)
class Folders:
    """Folders directly inside a folder."""

    names: tuple[str, ...]
    """Full prefixes, each ending in a slash, in the order of their UTF-8 bytes."""
    complete: bool
    """False if the listing was cut off before the end."""


class ObjectStore(Protocol):
    """The object storage that the service needs.

    Every call but `close` may raise StorageUnavailable, PermissionMissing or StorageRefused.
    """

    def close(self) -> None:
        """Close all connections. No call may follow."""
        ...

    def list_objects(
        self, folder: FolderLocation, names: NameRange = ALL_NAMES, *, glob: str | None = None
    ) -> Iterator[StoredObject]:
        """Yield the live objects of a folder in the order of their names' UTF-8 bytes.

        Makes one request per 1,000 objects, each when its first object is needed.

        Args:
            folder: the folder, with everything below it.
            names: limits the full names.
            glob: a pattern that full names must match. A `*` does not match a slash.

        Raises:
            BucketNotFound: on the first object.
        """
        ...

    def list_folders(self, folder: FolderLocation, names: NameRange, *, requests: int) -> Folders:
        """Return the folders directly inside a folder.

        Args:
            folder: the parent folder.
            names: only folders with an object in this range.
            requests: the most requests to make. Each covers 1,000 folders and objects directly in the folder.

        Raises:
            BucketNotFound: the bucket does not exist.
        """
        ...

    def stat(self, location: ObjectLocation, generation: int | None = None) -> StoredObject:
        """Describe one generation of an object, or the live one if None.

        Raises:
            ObjectNotFound: it does not exist.
        """
        ...

    def read(self, stored: StoredObject, max_bytes: int) -> bytes:
        """Return the bytes of exactly this generation, decompressed if stored gzip-encoded.

        Raises:
            ObjectNotFound: this generation no longer exists.
            SourceTooLarge: it decompresses to more than `max_bytes`.
            CorruptImage: it cannot be decompressed.
        """
        ...

    def read_head(self, stored: StoredObject, size: int) -> bytes:
        """Return at most the first `size` bytes of exactly this generation, decompressed if stored gzip-encoded.

        Raises:
            ObjectNotFound: this generation no longer exists.
        """
        ...

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
            NameTaken: the name holds another generation.
            BucketNotFound: the bucket does not exist.
        """
        ...
