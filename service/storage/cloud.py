"""`ObjectStore` on Cloud Storage. Only this package uses Google's libraries, and none of their exceptions leaves it.

Sets what an image costs: `read` and `write` are one request each, `list_objects` one per 1,000 objects, `stat` one.
"""

import os
import zlib
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import PurePosixPath
from typing import Any

import google.auth.exceptions
import google_crc32c
from google.api_core import exceptions as api
from google.cloud import storage
from google.cloud.storage.retry import DEFAULT_RETRY
from requests.adapters import HTTPAdapter

from service.errors import (
    CorruptImage,
    CredentialsMissing,
    NameTaken,
    ObjectNotFound,
    SourceTooLarge,
)
from service.storage.addresses import ALL_NAMES, FolderLocation, NameRange, ObjectLocation
from service.storage.base import RESOURCE_FIELDS, Folders, FoundObjects, Page, StoredObject, Upload
from service.storage.classes import StorageClass
from service.storage.media import MediaClient
from service.storage.metering import Operation, count
from service.storage.translation import RETRY_SECONDS, error_text, errors_translated

_TIMEOUT = (5, 15)
"""Seconds to connect, and seconds of silence, until one attempt times out."""

_RETRY = DEFAULT_RETRY.with_timeout(RETRY_SECONDS)
"""The client library's retry. Every write is safe to repeat, since it names the generation that it replaces.

With the time-out of the last attempt, one call takes 50 s at most: less than Cloud Run's default time-out of a request
(300 s) and than that of Cloud Scheduler (180 s).
"""

_PAGE_SIZE = 1000
_LISTED_FIELDS = f"items({RESOURCE_FIELDS}),nextPageToken"
_GZIP_WINDOW = 16 + zlib.MAX_WBITS


class CloudStore:
    """`ObjectStore` on Cloud Storage, or on the emulator that STORAGE_EMULATOR_HOST names.

    All threads share one instance, with one client.
    """

    def __init__(self, connections: int, storage_class: StorageClass = StorageClass.STANDARD) -> None:
        """Find the credentials, or raise CredentialsMissing. Makes no request.

        `connections` is the most calls at once. The client keeps 10 by default, and would open and close one for each
        further call. Everything is written in the storage class, whatever the bucket's default is.
        """
        self._storage_class = storage_class
        # Otherwise the client requests the bucket's metadata in the background, which needs another permission.
        os.environ.setdefault("DISABLE_GCS_PYTHON_CLIENT_OTEL_BUCKET_METADATA", "1")
        try:
            self._client = storage.Client(project=None)
        except google.auth.exceptions.DefaultCredentialsError as error:
            raise CredentialsMissing(
                "no Google credentials found. On Cloud Run they come with the service account; elsewhere run "
                "'gcloud auth application-default login', or set STORAGE_EMULATOR_HOST to use an emulator"
            ) from error
        session = self._client._http  # noqa: SLF001 - the client has no option for the size of its pool
        adapter = HTTPAdapter(pool_maxsize=connections)
        session.mount("https://", adapter)
        session.mount("http://", adapter)
        self._media = MediaClient(session, adapter, self._client.api_endpoint, _RETRY, _TIMEOUT)

    def close(self) -> None:
        """Close all connections."""
        self._client.close()

    def list_objects(
        self, folder: FolderLocation, names: NameRange = ALL_NAMES, *, glob: str | None = None
    ) -> Iterator[StoredObject]:
        """See `ObjectStore`."""
        with errors_translated("list", folder):
            for page in self._pages(folder, names, fields=_LISTED_FIELDS, matchGlob=glob):
                yield from _objects(folder.bucket, page, glob)

    def list_page(self, folder: FolderLocation, names: NameRange = ALL_NAMES, token: str = "") -> Page:
        """See `ObjectStore`."""
        with errors_translated("list", folder):
            page = self._page(folder, names, token, fields=_LISTED_FIELDS)
            resources = page.get("items", ())
            if not all(isinstance(resource["name"], str) for resource in resources):
                raise TypeError("an object has a name that is no text")
            return Page(folder, resources, str(page.get("nextPageToken", "")))

    def find_objects(self, bucket: str, names: NameRange, *, glob: str, requests: int) -> FoundObjects:
        """See `ObjectStore`."""
        folder = FolderLocation(bucket)
        with errors_translated("list", folder):
            pages = list(islice(self._pages(folder, names, fields=_LISTED_FIELDS, matchGlob=glob), requests))
            objects = [stored for page in pages for stored in _objects(bucket, page, glob)]
            return FoundObjects(tuple(objects), complete=_is_last(pages))

    def list_folders(self, folder: FolderLocation, names: NameRange, *, requests: int) -> Folders:
        """See `ObjectStore`."""
        with errors_translated("list", folder):
            pages = list(islice(self._pages(folder, names, fields="prefixes,nextPageToken", delimiter="/"), requests))
            prefixes = {prefix for page in pages for prefix in page.get("prefixes", ())}
            return Folders(tuple(sorted(prefixes)), complete=_is_last(pages))

    def _pages(self, folder: FolderLocation, names: NameRange, **options: str | None) -> Iterator[Mapping[str, Any]]:
        token = ""
        while True:
            page = self._page(folder, names, token, **options)
            yield page
            token = page.get("nextPageToken", "")
            if not token:
                return

    def _page(self, folder: FolderLocation, names: NameRange, token: str, **options: str | None) -> Mapping[str, Any]:
        query = {
            "prefix": folder.prefix or None,
            "startOffset": names.start or None,
            "endOffset": names.end,
            "pageToken": token or None,
            "maxResults": _PAGE_SIZE,
            "projection": "noAcl",
            "prettyPrint": "false",
            **options,
        }
        page = self._media.list_page(folder.bucket, {key: value for key, value in query.items() if value is not None})
        count(Operation.LIST)
        return page

    def stat(self, location: ObjectLocation, generation: int | None = None) -> StoredObject:
        """See `ObjectStore`."""
        with errors_translated("describe", location):
            return StoredObject.from_resource(location.bucket, self._media.describe(location, generation))

    def read(self, stored: StoredObject, max_bytes: int) -> bytes:
        """See `ObjectStore`."""
        if stored.size > max_bytes:
            raise SourceTooLarge(f"{stored.location} has {stored.size:,} bytes, more than {max_bytes:,}")
        data = self._read(stored)
        return _gunzip(data, max_bytes) if _is_gzip(stored, data) else data

    def read_head(self, stored: StoredObject, size: int) -> bytes:
        """See `ObjectStore`."""
        data = self._read(stored, first=size)
        if _is_gzip(stored, data):
            try:
                return zlib.decompressobj(_GZIP_WINDOW).decompress(data, size)
            except zlib.error:
                return b""
        return data

    def _read(self, stored: StoredObject, *, first: int | None = None) -> bytes:
        with errors_translated("read", stored.location):
            try:
                return self._media.read(stored, first=first)
            except api.PreconditionFailed as error:
                # In a bucket that keeps old generations, it says that this one is not live. A policy says the same.
                if self.stat(stored.location).generation == stored.generation:
                    raise
                raise ObjectNotFound(f"{stored.location} was replaced before it was read") from error

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
        """See `ObjectStore`."""
        resource = {
            "name": location.name,
            "contentType": content_type,
            "metadata": dict(metadata),
            "storageClass": self._storage_class,
        }
        if cache_control is not None:
            resource["cacheControl"] = cache_control
        with errors_translated("write", location):
            try:
                self._media.write(location.bucket, resource, data, if_generation=if_generation)
            except api.PreconditionFailed as error:
                if if_generation is None:
                    raise
                expected = f"generation {if_generation}" if if_generation else "no object"
                raise NameTaken(
                    f"cannot write {location}, whose name is to hold {expected}: {error_text(error)}"
                ) from error

    def open_upload(self, location: ObjectLocation, content_type: str) -> Upload:
        """See `ObjectStore`."""
        return _CloudUpload(self._media, location, content_type, self._storage_class)


class _CloudUpload:
    """`Upload` to Cloud Storage.

    The client's own writer would finish an abandoned object when it is collected as garbage.
    """

    def __init__(
        self, media: MediaClient, location: ObjectLocation, content_type: str, storage_class: StorageClass
    ) -> None:
        self._media = media
        self._storage_class = storage_class
        self._location = location
        self._sent = 0
        self._checksum = 0
        with errors_translated("write", location):
            resource = {"name": location.name, "contentType": content_type, "storageClass": storage_class}
            self._session = media.begin_upload(location.bucket, resource)

    def send(self, data: bytes) -> None:
        """See `Upload`."""
        self._checksum = google_crc32c.extend(self._checksum, data)
        with errors_translated("write", self._location):
            self._media.continue_upload(self._session, data, self._sent)
        self._sent += len(data)

    def finish(self, data: bytes) -> None:
        """See `Upload`."""
        checksum = google_crc32c.extend(self._checksum, data)
        with errors_translated("write", self._location):
            self._media.continue_upload(self._session, data, self._sent, checksum=checksum)
        # However many requests it took, it is billed as one operation.
        count(Operation.WRITE, self._storage_class)


def _objects(bucket: str, page: Mapping[str, Any], glob: str | None) -> Iterator[StoredObject]:
    for resource in page.get("items", ()):
        # Some emulators ignore globs. The slash makes the whole name match, and not its end.
        if glob is None or PurePosixPath("/", resource["name"]).match(f"/{glob}"):
            yield StoredObject.from_resource(bucket, resource)


def _is_last(pages: Sequence[Mapping[str, Any]]) -> bool:
    return not (pages and pages[-1].get("nextPageToken"))


def _is_gzip(stored: StoredObject, data: bytes) -> bool:
    return stored.content_encoding == "gzip" and data.startswith(b"\x1f\x8b")


def _gunzip(data: bytes, max_bytes: int) -> bytes:
    decompressor = zlib.decompressobj(_GZIP_WINDOW)
    try:
        decompressed = decompressor.decompress(data, max_bytes + 1)
    except zlib.error as error:
        raise CorruptImage(f"it is stored gzip-encoded and cannot be unpacked: {error}") from error
    if len(decompressed) > max_bytes:
        limit = f"MAX_SOURCE_BYTES, which is {max_bytes:,}"
        raise SourceTooLarge(f"it is stored gzip-encoded and unpacks to more than {limit}")
    if not decompressor.eof:
        raise CorruptImage("it is stored gzip-encoded and ends too early")
    return decompressed
