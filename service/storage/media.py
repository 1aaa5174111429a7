"""Bytes to and from Cloud Storage, one request each: the JSON API on the storage client's own connections.

The client's credentials, retries, checksums and connection pool are used as they are. What is left out is what the
client and `requests` do around each call, which takes several times the processor time of the transfer itself.
"""

import base64
import json
import secrets
from collections.abc import Mapping
from typing import Any, cast
from urllib.parse import quote, urlencode

import google_crc32c
import requests
import urllib3
from google.api_core import exceptions as api
from google.api_core.retry import Retry
from google.auth.transport.requests import AuthorizedSession, Request
from google.cloud.storage import __version__ as client_version
from requests.adapters import HTTPAdapter
from urllib3.exceptions import NewConnectionError, ProtocolError

_USER_AGENT = f"thumbnail-service gcloud-python/{client_version}"
_UNAUTHORIZED = 401


class MediaClient:
    """Reads and writes media; threads may share it.

    Its calls raise what the storage client's calls raise.
    """

    def __init__(
        self,
        session: AuthorizedSession,
        adapter: HTTPAdapter,
        endpoint: str,
        retry: Retry,
        timeout: tuple[float, float],
    ) -> None:
        """Take over the session's connections to an endpoint; no request is made.

        Args:
            session: the client's.
            adapter: the session's for that endpoint.
            endpoint: the API's address, such as `https://storage.googleapis.com`.
            retry: what is done about a failure that may pass.
            timeout: seconds to connect, and seconds of silence.
        """
        self._endpoint = endpoint
        self._retry = retry
        self._timeout = urllib3.Timeout(connect=timeout[0], read=timeout[1])
        self._credentials = session.credentials
        self._refreshing = Request(session)
        # Proxies and certificates of the environment, read once: `requests` would do so for each request.
        environment = session.merge_environment_settings(endpoint, {}, None, None, None)
        sample = requests.Request("GET", f"{endpoint}/").prepare()
        pool = adapter.get_connection_with_tls_context(
            sample, verify=environment["verify"], proxies=environment["proxies"], cert=environment["cert"]
        )
        self._pool = cast("urllib3.HTTPConnectionPool", pool)
        # A proxy without a tunnel is told the whole address.
        self._prefix = adapter.request_url(sample, environment["proxies"]).removesuffix("/")

    def read(self, bucket: str, name: str, generation: int, *, first: int | None = None) -> bytes:
        """Return the bytes of this generation as they are stored, checked against their checksum.

        Args:
            bucket: its name.
            name: the object's.
            generation: the one, which has to be the live one.
            first: only so many, which nothing checks.
        """
        query = urlencode({"alt": "media", "generation": generation, "ifGenerationMatch": generation})
        path = f"/download/storage/v1/b/{bucket}/o/{quote(name, safe='')}?{query}"
        # Otherwise storage would unpack what is stored gzip-encoded.
        headers = {"accept-encoding": "gzip"}
        if first is not None:
            headers["range"] = f"bytes=0-{first - 1}"

        def attempt() -> bytes:
            answer = self._request("GET", path, headers)
            if first is None:
                _check(answer.data, answer.headers.get("x-goog-hash", ""))
            return answer.data

        return bytes(self._retry(attempt)())

    def write(self, bucket: str, resource: Mapping[str, Any], data: bytes, *, if_generation: int | None) -> None:
        """Write an object in one multipart request; storage checks the bytes against their checksum.

        Args:
            bucket: its name.
            resource: what else is said of the object, as the JSON API has it.
            data: the bytes.
            if_generation: what the name has to hold; 0 for nothing, None for whatever it is.
        """
        query = {"uploadType": "multipart", "fields": "generation"}
        if if_generation is not None:
            query["ifGenerationMatch"] = str(if_generation)
        described = json.dumps({**resource, "crc32c": _crc32c(data)}).encode()
        boundary = secrets.token_hex(16).encode()
        body = b"".join(
            (
                b"--", boundary, b"\r\ncontent-type: application/json; charset=UTF-8\r\n\r\n", described,
                b"\r\n--", boundary, b"\r\ncontent-type: ", str(resource["contentType"]).encode(), b"\r\n\r\n", data,
                b"\r\n--", boundary, b"--\r\n",
            )
        )  # fmt: skip
        headers = {"content-type": f'multipart/related; boundary="{boundary.decode()}"'}
        path = f"/upload/storage/v1/b/{bucket}/o?{urlencode(query)}"
        self._retry(lambda: self._request("POST", path, headers, body))()

    def _request(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes | None = None
    ) -> urllib3.BaseHTTPResponse:
        """Make one attempt; return the answer where it is one of success."""
        answer = self._attempt(method, path, headers, body)
        if answer.status == _UNAUTHORIZED:
            # The token may have been withdrawn; with a new one it works, or not at all.
            self._credentials.refresh(self._refreshing)
            answer = self._attempt(method, path, headers, body)
        if answer.status // 100 != 2:  # noqa: PLR2004 - 2xx is success
            message = answer.data[:1000].decode(errors="replace")
            raise api.from_http_status(answer.status, message)  # type: ignore[no-untyped-call]
        return answer

    def _attempt(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes | None
    ) -> urllib3.BaseHTTPResponse:
        signed = {"user-agent": _USER_AGENT, **headers}
        self._credentials.before_request(self._refreshing, method, self._endpoint + path, signed)
        try:
            answer = self._pool.urlopen(
                method,
                self._prefix + path,
                body,
                signed,
                retries=False,
                redirect=False,
                assert_same_host=False,  # It is not, where a proxy stands between.
                timeout=self._timeout,
                decode_content=False,
            )
        except NewConnectionError as error:
            raise ConnectionError(str(error)) from error
        return answer


def _crc32c(data: bytes) -> str:
    return base64.b64encode(google_crc32c.value(data).to_bytes(4, "big")).decode()


def _check(data: bytes, hashes: str) -> None:
    """Compare bytes with what the answer's header says of them, where it does.

    Raises:
        ProtocolError: they are not those that were sent.
    """
    for part in hashes.split(","):
        kind, _, expected = part.strip().partition("=")
        if kind == "crc32c" and expected != _crc32c(data):
            raise ProtocolError(f"the bytes have the checksum {_crc32c(data)} and were sent with {expected}")
