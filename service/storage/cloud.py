"""`ObjectStore` on Cloud Storage. With `transfer.py` it has Google's libraries, and none of their exceptions leaves it.

What one image costs is decided here: `read` is one request, `write` is one request, `list_objects` is one for a
thousand objects. What storage may still be asked, beyond that, is `stat`.
"""

import json
import os
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime
from http import HTTPStatus
from itertools import islice
from pathlib import PurePosixPath
from typing import Any

import google.auth.exceptions
import requests
import urllib3
from google.api_core import exceptions as api
from google.cloud import storage
from google.cloud.storage.exceptions import DataCorruption
from google.cloud.storage.retry import DEFAULT_RETRY
from requests.adapters import HTTPAdapter

from service.errors import (
    BucketNotFound,
    CorruptImage,
    CredentialsMissing,
    NameTaken,
    ObjectNotFound,
    PermissionMissing,
    SourceTooLarge,
    StorageRefused,
    StorageUnavailable,
)
from service.storage.addresses import ALL_NAMES, FolderLocation, NameRange, ObjectLocation
from service.storage.base import Folders, StoredObject
from service.storage.media import MediaClient

_TIMEOUT = (5, 15)
"""Seconds to connect, and seconds of silence, after which one attempt is given up."""

_RETRY_SECONDS = 30
_RETRY = DEFAULT_RETRY.with_timeout(_RETRY_SECONDS)
"""The client's own retry of what is safe to repeat; every write here is, since it names the generation it replaces.

With the last attempt's time-out one call takes 50 s at most: well within Cloud Run's default of 300 s for a request,
and within a Cloud Scheduler deadline of 180 s.
"""

_PAGE_SIZE = 1000
_SOURCE_FIELDS = "items(name,size,generation,contentType,contentEncoding,timeCreated,metadata),nextPageToken"
_FOLDER_FIELDS = "prefixes,nextPageToken"
_LONGEST_MESSAGE = 300
_GZIP_MAGIC = b"\x1f\x8b"
_GZIP_WINDOW = 16 + zlib.MAX_WBITS


class CloudStore:
    """`ObjectStore` on Cloud Storage, or on an emulator where STORAGE_EMULATOR_HOST names one.

    One client for the process, shared by all threads.
    """

    def __init__(self, connections: int) -> None:
        """Find the credentials; no request is made.

        Args:
            connections: how many calls are made at once. The client's default of 10 would open and throw away a
                connection for every further one.

        Raises:
            CredentialsMissing: there are none.
        """
        # Without this the client asks for the bucket's metadata behind our back, which needs a further permission.
        os.environ.setdefault("DISABLE_GCS_PYTHON_CLIENT_OTEL_BUCKET_METADATA", "1")
        try:
            self._client = storage.Client(project=None)
        except google.auth.exceptions.DefaultCredentialsError as error:
            raise CredentialsMissing(
                "no Google credentials found. On Cloud Run they come with the service account; elsewhere run "
                "'gcloud auth application-default login', or set STORAGE_EMULATOR_HOST to use an emulator"
            ) from error
        session = self._client._http  # noqa: SLF001 - the documented way to widen its pool
        adapter = HTTPAdapter(pool_maxsize=connections)
        session.mount("https://", adapter)
        session.mount("http://", adapter)
        session.hooks["response"].append(_drain_error)
        self._media = MediaClient(session, adapter, self._client.api_endpoint, _RETRY, _TIMEOUT)

    def close(self) -> None:
        """Close all connections."""
        self._client.close()

    def list_objects(
        self, folder: FolderLocation, names: NameRange = ALL_NAMES, *, glob: str | None = None
    ) -> Iterator[StoredObject]:
        """See `ObjectStore`."""
        with _translated("list", folder, missing=BucketNotFound):
            listed = self._listing(folder, names, match_glob=glob)
            for page in listed.pages:
                # As it came: the client's own object for each costs several times as much.
                for resource in (page.raw_page or {}).get("items", ()):
                    # Not every emulator knows globs.
                    if glob is None or PurePosixPath(resource["name"]).match(glob):
                        yield _described(folder.bucket, resource)

    def _listing(self, folder: FolderLocation, names: NameRange, **more: object) -> Any:  # noqa: ANN401 - untyped client
        return self._client.list_blobs(
            folder.bucket,
            prefix=folder.prefix or None,
            start_offset=names.start or None,
            end_offset=names.end,
            page_size=_PAGE_SIZE,
            fields=_SOURCE_FIELDS,
            timeout=_TIMEOUT,
            retry=_RETRY,
            **more,
        )

    def list_first(self, folder: FolderLocation, names: NameRange, count: int) -> list[StoredObject]:
        """See `ObjectStore`."""
        with _translated("list", folder, missing=BucketNotFound):
            listed = self._listing(folder, names, max_results=count)
            return [
                _described(folder.bucket, resource)
                for page in listed.pages
                for resource in (page.raw_page or {}).get("items", ())
            ]

    def list_folders(self, folder: FolderLocation, names: NameRange, *, requests: int) -> Folders:
        """See `ObjectStore`."""
        with _translated("list", folder, missing=BucketNotFound):
            listed = self._client.list_blobs(
                folder.bucket,
                prefix=folder.prefix or None,
                delimiter="/",
                start_offset=names.start or None,
                end_offset=names.end,
                page_size=_PAGE_SIZE,
                fields=_FOLDER_FIELDS,
                timeout=_TIMEOUT,
                retry=_RETRY,
            )
            found = set[str]()
            for page in islice(listed.pages, requests):
                found.update((page.raw_page or {}).get("prefixes", ()))
            return Folders(tuple(sorted(found)), whole=listed.next_page_token is None)

    def stat(self, location: ObjectLocation, generation: int | None = None) -> StoredObject:
        """See `ObjectStore`."""
        blob = self._client.bucket(location.bucket).blob(location.name, generation=generation)
        with _translated("describe", location, missing=ObjectNotFound):
            blob.reload(timeout=_TIMEOUT, retry=_RETRY)
        return StoredObject(
            location=location,
            generation=blob.generation,
            size=blob.size or 0,
            created=blob.time_created,
            content_type=blob.content_type or "",
            content_encoding=blob.content_encoding or "",
            metadata=blob.metadata or {},
        )

    def read(self, found: StoredObject, max_bytes: int) -> bytes:
        """See `ObjectStore`."""
        # Of a bucket that keeps old generations, the precondition asks for the live one.
        with _translated("read", found.location, missing=ObjectNotFound):
            data = self._media.read(found.location.bucket, found.location.name, found.generation)
        return _unpack(data, max_bytes) if _is_packed(found, data) else data

    def read_head(self, found: StoredObject, size: int) -> bytes:
        """See `ObjectStore`."""
        with _translated("read", found.location, missing=ObjectNotFound):
            data = self._media.read(found.location.bucket, found.location.name, found.generation, first=size)
        if _is_packed(found, data):
            try:
                return zlib.decompressobj(_GZIP_WINDOW).decompress(data, size)
            except zlib.error:
                return b""
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
        """See `ObjectStore`."""
        resource = {"name": location.name, "contentType": content_type, "metadata": dict(metadata)}
        if cache_control is not None:
            resource["cacheControl"] = cache_control
        with _translated("write", location, missing=BucketNotFound):
            self._media.write(location.bucket, resource, data, if_generation=if_generation)


def _drain_error(response: requests.Response, *_: object, **__: object) -> None:
    """Read an error's body at once: the client leaves that of a download unread, and its connection is then lost."""
    if not response.ok:
        response.content  # noqa: B018 - the property reads


def _described(bucket: str, resource: Mapping[str, Any]) -> StoredObject:
    """Read an object resource of the JSON API, which gives integers as text."""
    return StoredObject(
        location=ObjectLocation(bucket, resource["name"]),
        generation=int(resource["generation"]),
        size=int(resource.get("size", 0)),
        created=datetime.fromisoformat(resource["timeCreated"]),
        content_type=resource.get("contentType", ""),
        content_encoding=resource.get("contentEncoding", ""),
        metadata=resource.get("metadata", {}),
    )


def _is_packed(found: StoredObject, data: bytes) -> bool:
    return found.content_encoding == "gzip" and data.startswith(_GZIP_MAGIC)


def _unpack(data: bytes, max_bytes: int) -> bytes:
    unpacker = zlib.decompressobj(_GZIP_WINDOW)
    try:
        unpacked = unpacker.decompress(data, max_bytes + 1)
    except zlib.error as error:
        raise CorruptImage(f"it is stored gzip-encoded and cannot be unpacked: {error}") from error
    if len(unpacked) > max_bytes:
        raise SourceTooLarge(
            f"it is stored gzip-encoded and unpacks to more than MAX_SOURCE_BYTES, which is {max_bytes:,}"
        )
    if not unpacker.eof:
        raise CorruptImage("it is stored gzip-encoded and ends too early")
    return unpacked


@contextmanager
def _translated(
    action: str, location: ObjectLocation | FolderLocation, missing: type[ObjectNotFound | BucketNotFound]
) -> Iterator[None]:
    """Turn every exception of the client library into one of ours, with the cause chained.

    Args:
        action: what was tried, in a word.
        location: with what.
        missing: what a 404 means for this call.
    """
    what = f"cannot {action} {location}"
    try:
        yield
    except api.NotFound as error:
        if missing is BucketNotFound:
            raise BucketNotFound(f"{what}: there is no bucket gs://{location.bucket}") from error
        raise missing(f"{what}: it, or this generation of it, does not exist") from error
    except api.PreconditionFailed as error:
        if missing is ObjectNotFound:
            raise missing(f"{what}: this generation of it is not the live one") from error
        raise NameTaken(f"{what}: the name holds another generation than expected") from error
    except (api.Forbidden, api.Unauthorized) as error:
        raise PermissionMissing(f"{what}: {_reason(error)}. {_ROLES[action]}") from error
    except api.RetryError as error:
        raise StorageUnavailable(f"{what}: {_reason(error)}") from error
    except api.GoogleAPICallError as error:
        refused = error.code == HTTPStatus.BAD_REQUEST and isinstance(location, ObjectLocation)
        # Of a bucket whose requester pays, it is not the object that is wrong.
        refused = refused and "user project" not in str(error).lower()
        raise (StorageRefused if refused else StorageUnavailable)(f"{what}: {_reason(error)}") from error
    except google.auth.exceptions.GoogleAuthError as error:
        raise StorageUnavailable(f"{what}: no access token could be had: {error}") from error
    except (
        requests.RequestException,
        urllib3.exceptions.HTTPError,
        ConnectionError,
        DataCorruption,
    ) as error:
        raise StorageUnavailable(f"{what}: {error}") from error


_ROLES = {
    "list": "Grant the service account roles/storage.objectViewer on the bucket",
    "describe": "Grant the service account roles/storage.objectViewer on the bucket",
    "read": "Grant the service account roles/storage.objectViewer on the bucket",
    "write": "Grant the service account roles/storage.objectCreator on the bucket, "
    "or roles/storage.objectUser where an existing thumbnail has to be replaced",
}


def _reason(error: Exception) -> str:
    if isinstance(error, api.RetryError) and error.cause:
        return f"given up after {_RETRY_SECONDS} s of retries: {_reason(error.cause)}"
    if isinstance(error, api.GoogleAPICallError):
        return f"HTTP {error.code} from Cloud Storage ({_said(error)})"
    return str(error)


def _said(error: api.GoogleAPICallError) -> str:
    """What storage says itself, such as which permission or which policy it is."""
    text = str(error.message)
    with suppress(ValueError, LookupError, TypeError):  # The client has taken it out of the answer already.
        text = str(json.loads(text)["error"]["message"])
    return " ".join(text.split())[:_LONGEST_MESSAGE]
