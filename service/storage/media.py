"""The JSON API of Cloud Storage, one request per call, on the storage client's connections.

Uses the client's credentials, retries, checksums and connection pool. Leaves out what the client and `requests` do
around each call, which takes several times the processor time of the transfer itself.
"""

import base64
import hashlib
import json
import secrets
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, cast
from urllib.parse import quote, urlencode, urlsplit

import google_crc32c
import requests
import urllib3
from google.api_core import exceptions as api
from google.api_core.retry import Retry
from google.auth.transport.requests import AuthorizedSession, Request
from google.cloud.storage import __version__ as client_version
from requests.adapters import HTTPAdapter
from urllib3.exceptions import NewConnectionError, ProtocolError

from service.storage.addresses import ObjectLocation
from service.storage.base import RESOURCE_FIELDS, StoredObject
from service.storage.classes import StorageClass, class_named
from service.storage.metering import Operation, count

_USER_AGENT = f"thumbnail-service gcloud-python/{client_version}"
_UNAUTHORIZED = 401
_SUCCESS = range(200, 300)
_RESUME_INCOMPLETE = 308
_LONGEST_MESSAGE = 1000
_ONE_ATTEMPT = urllib3.Retry(total=False, redirect=False)
"""What is tried again is decided here. Made once: urllib3 would make one for each request."""


class MediaClient:
    """Reads, writes and describes objects. Safe to share between threads.

    Raises the exceptions that the storage client raises.
    """

    def __init__(
        self,
        session: AuthorizedSession,
        adapter: HTTPAdapter,
        endpoint: str,
        retry: Retry,
        timeout: tuple[float, float],
    ) -> None:
        """Take the credentials and the connection pool of the storage client's session. Makes no request.

        The adapter is the session's for the endpoint, which is the API's address. A time-out is given as seconds to
        connect and seconds of silence.
        """
        self._endpoint = endpoint
        # As unknown to those whose bytes are sent as a new one for each request would be.
        self._boundary = secrets.token_hex(16).encode()
        self._retry = retry
        # Wrapped once, and not for each request.
        self._retried_request = retry(self._request)
        self._retried_read = retry(self._read_once)
        self._retried_write = retry(self._write_once)
        self._timeout = urllib3.Timeout(connect=timeout[0], read=timeout[1])
        self._credentials = session.credentials
        # Not of this session, which would send the old token with the request for a new one.
        self._refresh_request = Request()
        # Read proxies and certificates from the environment once: `requests` does so for each request.
        environment = session.merge_environment_settings(endpoint, {}, None, None, None)
        sample = requests.Request("GET", f"{endpoint}/").prepare()
        pool = adapter.get_connection_with_tls_context(
            sample, verify=environment["verify"], proxies=environment["proxies"], cert=environment["cert"]
        )
        self._pool = cast("urllib3.HTTPConnectionPool", pool)
        # A proxy without a tunnel needs the full URL.
        self._prefix = adapter.request_url(sample, environment["proxies"]).removesuffix("/")

    def list_page(self, bucket: str, query: Mapping[str, str | int]) -> Mapping[str, Any]:
        """Return a page of a listing, as the JSON API answers the query."""
        path = f"/storage/v1/b/{bucket}/o?{urlencode(query)}"
        # A page shrinks to a tenth.
        page = json.loads(self._retried_request("GET", path, {"accept-encoding": "gzip"}).data)
        if not isinstance(page, dict):
            raise TypeError("a page of a listing is no JSON object")
        return page

    def describe(self, location: ObjectLocation, generation: int | None) -> Mapping[str, Any]:
        """Return the object resource of one generation, or of the live one if None."""
        query = {"fields": RESOURCE_FIELDS} | ({} if generation is None else {"generation": generation})
        path = f"/storage/v1/{_path(location)}?{urlencode(query)}"
        resource: Mapping[str, Any] = json.loads(self._retried_request("GET", path, {}).data)
        count(Operation.DESCRIBE, class_named(resource.get("storageClass", "")))
        return resource

    def read(self, stored: StoredObject, *, first: int | None = None) -> bytes:
        """Return the bytes of a live generation as stored, compared with their number and their checksum.

        With `first`, read only so many bytes, which have no checksum.
        """
        generation = stored.generation
        query = f"alt=media&generation={generation}&ifGenerationMatch={generation}"
        path = f"/download/storage/v1/{_path(stored.location)}?{query}"
        return bytes(self._retried_read(path, stored, first))

    def _read_once(self, path: str, stored: StoredObject, first: int | None) -> bytes:
        # Without this header, storage decompresses what is stored gzip-encoded.
        headers = {"accept-encoding": "gzip"}
        size = stored.size
        if first is not None:
            headers["range"] = f"bytes=0-{first - 1}"
            size = min(first, size)
        response = self._request("GET", path, headers, preload=False)
        # One byte more tells an answer that is too long.
        data = _read_at_most(response, size + 1)
        count(Operation.READ, stored.storage_class, len(data))
        if first is None:
            _verify(data, size, response.headers.get("x-goog-hash", ""))
            return data
        if len(data) < size:
            raise ProtocolError(f"the first {size} bytes were asked for and {len(data)} were sent")
        # Storage may send more than it was asked for, and a proxy that ignores ranges sends everything.
        return data[:size]

    def write(self, bucket: str, resource: Mapping[str, Any], data: bytes, *, if_generation: int | None) -> None:
        """Write the object of a resource in one multipart request. Storage checks the bytes against their checksum.

        The name must hold the generation `if_generation`; 0 means no object, None means any.
        """
        condition = "" if if_generation is None else f"&ifGenerationMatch={if_generation}"
        metadata = json.dumps({**resource, "crc32c": _crc32c(data)}).encode()
        boundary = self._boundary
        body = b"".join(
            (
                b"--", boundary, b"\r\ncontent-type: application/json; charset=UTF-8\r\n\r\n", metadata,
                b"\r\n--", boundary, b"\r\ncontent-type: ", str(resource["contentType"]).encode(), b"\r\n\r\n", data,
                b"\r\n--", boundary, b"--\r\n",
            )
        )  # fmt: skip
        path = f"/upload/storage/v1/b/{bucket}/o?uploadType=multipart&fields=generation{condition}"
        self._retried_write(path, body, class_named(resource.get("storageClass", "")))

    def _write_once(self, path: str, body: bytes, storage_class: StorageClass) -> None:
        headers = {"content-type": f'multipart/related; boundary="{self._boundary.decode()}"'}
        response = self._request("POST", path, headers, body)
        count(Operation.WRITE, storage_class)
        _verify_written(response)

    def begin_upload(self, bucket: str, resource: Mapping[str, Any]) -> str:
        """Begin a resumable upload; return the path that takes its bytes.

        It may last for a week. Only a finished one becomes an object, or costs an operation
        (cloud.google.com/storage/docs/resumable-uploads).
        """
        path = f"/upload/storage/v1/b/{bucket}/o?uploadType=resumable"
        headers = {"content-type": "application/json; charset=UTF-8"}

        def attempt() -> str:
            location = self._request("POST", path, headers, json.dumps(resource).encode()).headers.get("location")
            if not location:
                raise ProtocolError("storage has begun an upload and does not say where")
            session = urlsplit(location)
            return f"{session.path}?{session.query}"

        return str(self._retry(attempt)())

    def continue_upload(self, session: str, data: bytes, start: int, *, checksum: int | None = None) -> None:
        """Send bytes of a resumable upload, the first of which is number `start`.

        With the CRC32C of the whole object, they are the last ones. Storage ignores what it has already.
        """
        end = start + len(data)
        headers = {"content-range": f"bytes {start}-{end - 1}/{'*' if checksum is None else end}"}
        if checksum is not None:
            headers["x-goog-hash"] = f"crc32c={_encoded(checksum)}"

        def attempt() -> None:
            try:
                response = self._request("PUT", session, headers, data, incomplete=True)
            except api.NotFound as error:
                raise api.GoogleAPIError("storage does not know the upload any more") from error
            if checksum is not None:
                _verify_written(response)
            elif response.headers.get("range") != f"bytes=0-{end - 1}":
                raise ProtocolError("storage has not taken all bytes of an upload")

        self._retry(attempt)()

    def _request(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str],
        body: bytes | None = None,
        *,
        incomplete: bool = False,
        preload: bool = True,
    ) -> urllib3.BaseHTTPResponse:
        """Return a successful response, or one to an incomplete upload; refresh a rejected token once.

        Without `preload`, the caller reads its body.
        """
        response = self._send(method, path, headers, body, preload=preload)
        if response.status == _UNAUTHORIZED:
            response.drain_conn()
            self._credentials.refresh(self._refresh_request)
            response = self._send(method, path, headers, body, preload=preload)
        if response.status not in _SUCCESS and not (incomplete and response.status == _RESUME_INCOMPLETE):
            raise api.from_http_status(response.status, error_message(response.data))  # type: ignore[no-untyped-call]  # api_core has no types for it
        return response

    def _send(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes | None, *, preload: bool
    ) -> urllib3.BaseHTTPResponse:
        signed = {"user-agent": _USER_AGENT, **headers}
        self._credentials.before_request(self._refresh_request, method, self._endpoint + path, signed)
        try:
            return self._pool.urlopen(
                method,
                self._prefix + path,
                body,
                signed,
                retries=_ONE_ATTEMPT,
                redirect=False,
                assert_same_host=False,  # The host differs if there is a proxy.
                timeout=self._timeout,
                preload_content=preload,
                decode_content=preload,  # An object is read as it is stored.
            )
        except NewConnectionError as error:
            raise ConnectionError(str(error)) from error


def _path(location: ObjectLocation) -> str:
    return f"b/{location.bucket}/o/{quote(location.name, safe='')}"


def error_message(body: bytes) -> str:
    """Return what storage says about an error, such as which permission is missing."""
    with suppress(ValueError, LookupError, TypeError):
        return str(json.loads(body)["error"]["message"])
    return body[:_LONGEST_MESSAGE].decode(errors="replace")


def _crc32c(data: bytes) -> str:
    return _encoded(google_crc32c.value(data))


def _md5(data: bytes) -> str:
    return base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()


def _encoded(checksum: int) -> str:
    return base64.b64encode(checksum.to_bytes(4, "big")).decode()


def _read_at_most(response: urllib3.BaseHTTPResponse, count: int) -> bytes:
    """Read so many bytes of a response, or all if there are fewer; leave the rest unread."""
    try:
        return response.read(count)
    finally:
        # Ends the connection if there is a rest. At the end of a response, the pool has it already.
        response.close()
        response.release_conn()


def _verify(data: bytes, size: int, hashes: str) -> None:
    """Raise ProtocolError if bytes are not those of an object of this size.

    They are compared with the checksum that the value of an `x-goog-hash` header may give: CRC32C, or else MD5.
    """
    if len(data) != size:
        sent = f"only {len(data):,}" if len(data) < size else "more"
        raise ProtocolError(f"the object has {size:,} bytes and {sent} were sent")
    sums = dict(part.strip().split("=", 1) for part in hashes.split(",") if "=" in part)
    expected, actual = sums.get("crc32c"), _crc32c
    if expected is None:
        expected, actual = sums.get("md5"), _md5
    if expected is not None and expected != actual(data):
        raise ProtocolError(f"the bytes have the checksum {actual(data)} and were sent with {expected}")


def _verify_written(response: urllib3.BaseHTTPResponse) -> None:
    """Raise ProtocolError if an answer to a write does not name the generation that was made."""
    try:
        int(json.loads(response.data)["generation"])
    except (ValueError, LookupError, TypeError):
        raise ProtocolError(
            f"storage answered a write with HTTP {response.status} and names no generation that it made"
        ) from None
