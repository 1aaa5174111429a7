"""An object store in memory, with the preconditions of Cloud Storage; `test_cloud.py` holds both to one contract."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import count, islice
from pathlib import PurePosixPath
from threading import RLock
from typing import Any

from service.errors import BucketNotFound, NameTaken, ObjectNotFound, PermissionMissing, ServiceError, SourceTooLarge
from service.naming import BOOKKEEPING_FOLDER
from service.storage.addresses import ALL_NAMES, FolderLocation, NameRange, ObjectLocation
from service.storage.base import UPLOAD_UNIT, Folders, FoundObjects, Page, StoredObject
from service.storage.classes import StorageClass
from service.storage.metering import Operation
from service.storage.metering import count as count_operation

EPOCH = datetime(2025, 12, 3, 15, 0, tzinfo=UTC)

Fault = Callable[[str, ObjectLocation | FolderLocation], ServiceError | None]
"""What becomes of a call of a kind; None if nothing."""


@dataclass(frozen=True)
class Held:
    """One live object."""

    described: StoredObject
    data: bytes
    cache_control: str | None


def resource_of(stored: StoredObject) -> dict[str, Any]:
    """Describe an object as the JSON API does."""
    fields = {
        "name": stored.location.name,
        "generation": str(stored.generation),
        "size": str(stored.size),
        "timeCreated": stored.created.isoformat(),
        "contentType": stored.content_type,
        "contentEncoding": stored.content_encoding,
        "metadata": dict(stored.metadata),
        "storageClass": stored.storage_class,
    }
    return {key: value for key, value in fields.items() if value}


class MemoryStore:
    """`ObjectStore` in a dict. Counts its calls by kind, those for plans and reports apart, and can be told to fail."""

    def __init__(self, *buckets: str) -> None:
        self._buckets: dict[str, dict[str, Held]] = {bucket: {} for bucket in buckets}
        self._lock = RLock()
        self._generations = count(1)
        self.calls: Counter[str] = Counter()
        self.fault: Fault = lambda *_: None
        self.page_size = 1000
        """Objects on each page that `list_page` returns."""

    def _called(self, kind: str, location: ObjectLocation | FolderLocation) -> None:
        if (location.prefix if isinstance(location, FolderLocation) else location.name).startswith(BOOKKEEPING_FOLDER):
            kind = f"bookkeeping {kind}"
        with self._lock:
            self.calls[kind] += 1
        if error := self.fault(kind, location):
            raise error

    def put(
        self,
        uri: str,
        data: bytes,
        content_type: str = "image/jpeg",
        *,
        metadata: Mapping[str, str] | None = None,
        cache_control: str | None = None,
        created: datetime | None = None,
        storage_class: StorageClass = StorageClass.STANDARD,
    ) -> StoredObject:
        """Put an object there, whatever is there; by default with a time that is the same in every test."""
        bucket, _, name = uri.removeprefix("gs://").partition("/")
        with self._lock:
            generation = next(self._generations)
            described = StoredObject(
                ObjectLocation(bucket, name),
                generation,
                len(data),
                created or EPOCH + timedelta(seconds=generation),
                content_type=content_type,
                metadata=dict(metadata or {}),
                storage_class=storage_class,
            )
            self._buckets[bucket][name] = Held(described, data, cache_control)
            return described

    def delete(self, uri: str) -> None:
        bucket, _, name = uri.removeprefix("gs://").partition("/")
        with self._lock:
            del self._buckets[bucket][name]

    def held(self, uri: str) -> Held:
        bucket, _, name = uri.removeprefix("gs://").partition("/")
        return self._buckets[bucket][name]

    def names(self, bucket: str, prefix: str = "") -> list[str]:
        return sorted(name for name in list(self._buckets[bucket]) if name.startswith(prefix))

    def close(self) -> None:
        """Nothing to let go of."""

    def list_objects(
        self, folder: FolderLocation, names: NameRange = ALL_NAMES, *, glob: str | None = None
    ) -> Iterator[StoredObject]:
        count_operation(Operation.LIST)
        for number, stored in enumerate(self._listed(folder, names, glob)):
            if number and number % 1000 == 0:
                count_operation(Operation.LIST)
            yield stored

    def _listed(self, folder: FolderLocation, names: NameRange, glob: str | None = None) -> Iterator[StoredObject]:
        self._called("list", folder)
        if folder.bucket not in self._buckets:
            raise BucketNotFound(f"there is no bucket gs://{folder.bucket}")
        for name in sorted(self._buckets[folder.bucket], key=str.encode):
            held = self._buckets[folder.bucket].get(name)
            if not (held and name.startswith(folder.prefix) and name in names):
                continue
            if glob is None or PurePosixPath("/", name).match(f"/{glob}"):
                yield held.described

    def list_page(self, folder: FolderLocation, names: NameRange = ALL_NAMES, token: str = "") -> Page:
        # The token is the name at which the page begins.
        count_operation(Operation.LIST)
        listed = self._listed(folder, NameRange(max(names.start, token), names.end))
        page = list(islice(listed, self.page_size + 1))
        rest = page[self.page_size :]
        resources = [resource_of(stored) for stored in page[: self.page_size]]
        return Page(folder, resources, rest[0].location.name if rest else "")

    def find_objects(self, bucket: str, names: NameRange, *, glob: str, requests: int) -> FoundObjects:
        found = list(self.list_objects(FolderLocation(bucket), names, glob=glob))
        return FoundObjects(tuple(found[: requests * 1000]), complete=len(found) <= requests * 1000)

    def list_folders(self, folder: FolderLocation, names: NameRange, *, requests: int) -> Folders:
        # As Cloud Storage does it: of each request a thousand entries, be they folders or objects.
        entries: dict[str, bool] = {}
        for found in self.list_objects(folder, names):
            below, slash, _ = found.location.name.removeprefix(folder.prefix).partition("/")
            entries[folder.prefix + below + slash] = bool(slash)
        seen = list(entries.items())[: requests * 1000]
        return Folders(tuple(name for name, is_folder in seen if is_folder), complete=len(seen) == len(entries))

    def _live(self, location: ObjectLocation, generation: int | None) -> Held:
        held = self._buckets.get(location.bucket, {}).get(location.name)
        if held is None or generation not in (None, held.described.generation):
            raise ObjectNotFound(f"{location} is not there")
        return held

    def stat(self, location: ObjectLocation, generation: int | None = None) -> StoredObject:
        self._called("stat", location)
        described = self._live(location, generation).described
        count_operation(Operation.DESCRIBE, described.storage_class)
        return described

    def read(self, stored: StoredObject, max_bytes: int) -> bytes:
        self._called("read", stored.location)
        data = self._live(stored.location, stored.generation).data
        if len(data) > max_bytes:
            raise SourceTooLarge(f"{stored.location} has {len(data):,} bytes, more than {max_bytes:,}")
        count_operation(Operation.READ, stored.storage_class, len(data))
        return data

    def read_head(self, stored: StoredObject, size: int) -> bytes:
        self._called("head", stored.location)
        data = self._live(stored.location, stored.generation).data[:size]
        count_operation(Operation.READ, stored.storage_class, len(data))
        return data

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
        self._called("write", location)
        with self._lock:
            bucket = self._buckets.get(location.bucket)
            if bucket is None:
                raise BucketNotFound(f"there is no bucket gs://{location.bucket}")
            held = bucket.get(location.name)
            if if_generation is not None and (held.described.generation if held else 0) != if_generation:
                raise NameTaken(f"{location} holds another generation")
            count_operation(Operation.WRITE)
            self.put(
                str(location),
                data,
                content_type,
                metadata=metadata,
                cache_control=cache_control,
                created=datetime.now(UTC),
            )

    def open_upload(self, location: ObjectLocation, content_type: str) -> "MemoryUpload":
        self._called("write", location)
        if location.bucket not in self._buckets:
            raise BucketNotFound(f"there is no bucket gs://{location.bucket}")
        return MemoryUpload(self, location, content_type)


class MemoryUpload:
    """`Upload` to a MemoryStore, each call of which is a write."""

    def __init__(self, store: MemoryStore, location: ObjectLocation, content_type: str) -> None:
        self._store = store
        self._location = location
        self._content_type = content_type
        self._data = b""

    def send(self, data: bytes) -> None:
        assert data
        assert len(data) % UPLOAD_UNIT == 0
        self._store._called("write", self._location)
        self._data += data

    def finish(self, data: bytes) -> None:
        assert data
        self._store.write(
            self._location,
            self._data + data,
            content_type=self._content_type,
            cache_control=None,
            metadata={},
            if_generation=None,
        )


def create_only(store: MemoryStore) -> Fault:
    """Let objects be created and not replaced."""

    def fault(kind: str, where: ObjectLocation | FolderLocation) -> ServiceError | None:
        taken = isinstance(where, ObjectLocation) and where.name in store.names(where.bucket)
        return PermissionMissing("storage.objects.delete is missing") if kind.endswith("write") and taken else None

    return fault
