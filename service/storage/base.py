"""What the service needs of an object store, and nothing of how one is reached."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from service.storage.addresses import ALL_NAMES, FolderLocation, NameRange, ObjectLocation


@dataclass(frozen=True, slots=True)
class StoredObject:
    """One generation of an object, as a listing or an event describes it."""

    location: ObjectLocation
    generation: int
    size: int
    """Stored bytes; of a gzip-encoded object the packed ones."""
    created: datetime
    """When this generation was made, `timeCreated`; aware."""
    content_type: str = ""
    content_encoding: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Folders:
    """Folders directly in a folder."""

    names: tuple[str, ...]
    """Whole prefixes, in the order of their UTF-8 bytes, each with a slash at the end."""
    whole: bool
    """Whether these are all of them."""


class ObjectStore(Protocol):
    """What the service needs of an object store.

    Each call but `close` may raise StorageUnavailable, PermissionMissing or StorageRefused.
    """

    def close(self) -> None:
        """Let go of all connections; nothing is called after that."""
        ...

    def list_objects(
        self, folder: FolderLocation, names: NameRange = ALL_NAMES, *, glob: str | None = None
    ) -> Iterator[StoredObject]:
        """Yield the live objects of a folder in the order of their names' UTF-8 bytes, page by page.

        Args:
            folder: which one.
            names: only those, by their whole names.
            glob: only those whose whole name matches; a `*` does not match a slash.

        Raises:
            BucketNotFound: at the first object.
        """
        ...

    def list_first(self, folder: FolderLocation, names: NameRange, count: int) -> list[StoredObject]:
        """Return the first live objects of a folder; fewer than `count`, a thousand at most, where there are no more.

        Raises:
            BucketNotFound: there is no such bucket.
        """
        ...

    def list_folders(self, folder: FolderLocation, names: NameRange, *, requests: int) -> Folders:
        """Return the folders directly in a folder.

        Args:
            folder: which one.
            names: only those with an object in this range.
            requests: how many are made at most. Each is for a thousand folders, and objects beside them.

        Raises:
            BucketNotFound: there is no such bucket.
        """
        ...

    def stat(self, location: ObjectLocation, generation: int | None = None) -> StoredObject:
        """Describe an object: this generation of it, or the live one.

        Raises:
            ObjectNotFound: it is not there.
        """
        ...

    def read(self, found: StoredObject, max_bytes: int) -> bytes:
        """Return the bytes of exactly this generation, unpacked where it is stored gzip-encoded.

        Raises:
            ObjectNotFound: this generation is not there any more.
            SourceTooLarge: it unpacks to more than `max_bytes`.
            CorruptImage: it does not unpack.
        """
        ...

    def read_head(self, found: StoredObject, size: int) -> bytes:
        """Return the first bytes of exactly this generation, at most `size`, unpacked where it is stored gzip-encoded.

        Raises:
            ObjectNotFound: this generation is not there any more.
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
        """Write an object where the name holds this generation, or nothing where it is 0; None: whatever it holds.

        Raises:
            NameTaken: it holds something else.
            BucketNotFound: there is no such bucket.
        """
        ...
