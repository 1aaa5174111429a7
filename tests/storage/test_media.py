"""What the client of media does by itself; `test_cloud.py` has the rest, over the proxy."""

import json
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler

import google.auth.credentials
import google.auth.transport
import google_crc32c
import pytest
from google.auth.exceptions import RefreshError
from google.auth.transport.requests import AuthorizedSession
from google.cloud.storage.retry import DEFAULT_RETRY
from requests.adapters import HTTPAdapter
from urllib3.exceptions import ProtocolError

from service.errors import ServiceError, StorageUnavailable
from service.storage.addresses import ObjectLocation
from service.storage.base import StoredObject
from service.storage.cloud import CloudStore
from service.storage.media import MediaClient
from tests.support.http_server import listening


class Tokens(google.auth.credentials.Credentials):
    """Credentials with numbered tokens."""

    def __init__(self, *, renewable: bool = True) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.number = 1
        self.token = f"token-{self.number}"
        self.renewable = renewable

    def refresh(self, _: google.auth.transport.Request) -> None:
        if not self.renewable:
            raise RefreshError("cannot be renewed")  # type: ignore[no-untyped-call]
        self.number += 1
        self.token = f"token-{self.number}"


class Server:
    """Answers each request with the next of these; keeps what was asked."""

    def __init__(self, *answers: tuple[int, dict[str, str], bytes]) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[str, dict[str, str]]] = []


@contextmanager
def served(*answers: tuple[int, dict[str, str], bytes]) -> Iterator[tuple[Server, str]]:
    server = Server(*answers)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("content-length", 0)))
            server.asked.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
            status, headers, data = server.answers.pop(0)
            self.send_response(status)
            for name, value in ({"content-length": str(len(data))} | headers).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)

        do_POST = do_PUT = do_GET  # noqa: N815 - the names that http.server looks for

    with listening(Handler) as url:
        yield server, url


def client(url: str, tokens: Tokens) -> MediaClient:
    session = AuthorizedSession(tokens)  # type: ignore[no-untyped-call]
    adapter = HTTPAdapter()
    session.mount("http://", adapter)
    return MediaClient(session, adapter, url, DEFAULT_RETRY.with_timeout(1).with_delay(initial=0.01), (1, 1))


PHOTO = ObjectLocation("photos", "a")
HELLO = b"hello"
HELLO_HASH = "crc32c=mnG7TA==,md5=XUFAKrxLKna5cZ2REBfFkg=="


def test_a_request_carries_the_token_and_asks_for_the_bytes_as_they_are_stored() -> None:
    with served((200, {"x-goog-hash": HELLO_HASH}, HELLO)) as (server, url):
        assert client(url, Tokens()).read(ObjectLocation("photos", "in/ä b.jpg"), 7) == HELLO
    ((path, headers),) = server.asked
    assert path == "/download/storage/v1/b/photos/o/in%2F%C3%A4%20b.jpg?alt=media&generation=7&ifGenerationMatch=7"
    assert headers["authorization"] == "Bearer token-1"
    assert headers["accept-encoding"] == "gzip"


def test_a_token_that_is_refused_is_renewed_once() -> None:
    with served((401, {}, b""), (200, {}, HELLO)) as (server, url):
        assert client(url, Tokens()).read(PHOTO, 1) == HELLO
    assert [headers["authorization"] for _, headers in server.asked] == ["Bearer token-1", "Bearer token-2"]


def test_a_new_token_is_asked_for_once_and_without_the_old_one() -> None:
    """As google-auth does it for impersonation: the request for the token has an authorization of its own."""

    class FromServer(Tokens):
        def refresh(self, request: google.auth.transport.Request) -> None:
            request(f"{url}/token", method="POST", headers={"authorization": "Bearer of the caller"})
            super().refresh(request)

    with served((200, {}, b""), (200, {}, HELLO)) as (server, url):
        tokens = FromServer()
        tokens.token = None
        assert client(url, tokens).read(PHOTO, 1) == HELLO
    assert [headers["authorization"] for _, headers in server.asked] == ["Bearer of the caller", "Bearer token-2"]


def test_a_token_that_cannot_be_renewed_is_said_to_be_so() -> None:
    with served((401, {}, b"")) as (_, url), pytest.raises(RefreshError):
        client(url, Tokens(renewable=False)).read(PHOTO, 1)


def test_bytes_that_are_not_those_that_were_sent_are_asked_for_again() -> None:
    wrong = {"x-goog-hash": HELLO_HASH}
    with served((200, wrong, b"hullo"), (200, wrong, HELLO)) as (server, url):
        assert client(url, Tokens()).read(PHOTO, 1) == HELLO
    assert len(server.asked) == 2


def test_a_part_is_not_compared_with_the_checksum_of_the_whole() -> None:
    with served((206, {"x-goog-hash": HELLO_HASH}, b"he")) as (server, url):
        assert client(url, Tokens()).read(PHOTO, 1, first=2) == b"he"
    assert server.asked[0][1]["range"] == "bytes=0-1"


def test_an_answer_that_ends_too_early_is_asked_for_again() -> None:
    cut = (200, {"content-length": "50", "connection": "close"}, HELLO)
    with served(cut, (200, {"x-goog-hash": HELLO_HASH}, HELLO)) as (server, url):
        assert client(url, Tokens()).read(PHOTO, 1) == HELLO
    assert len(server.asked) == 2


def test_a_checksum_that_never_fits_fails_in_the_end() -> None:
    answers = [(200, {"x-goog-hash": HELLO_HASH}, b"hullo")] * 200
    with served(*answers) as (_, url), pytest.raises(Exception, match="checksum") as caught:
        client(url, Tokens()).read(PHOTO, 1)
    assert isinstance(caught.value.__cause__, ProtocolError)


SESSION = (200, {"location": "https://elsewhere.example/upload/b?upload_id=7"}, b"{}")


def test_an_upload_sends_each_byte_once_and_the_checksum_at_the_end() -> None:
    with served(SESSION, (308, {"range": "bytes=0-1"}, b""), (200, {}, b"{}")) as (server, url):
        media = client(url, Tokens())
        session = media.begin_upload("photos", {"name": "a"})
        media.continue_upload(session, b"he", 0)
        media.continue_upload(session, b"llo", 2, checksum=google_crc32c.value(HELLO))
    (begun, _), (sent, first), (finished, last) = server.asked
    assert begun == "/upload/storage/v1/b/photos/o?uploadType=resumable"
    assert sent == finished == "/upload/b?upload_id=7"
    assert (first["content-range"], last["content-range"]) == ("bytes 0-1/*", "bytes 2-4/5")
    assert ("x-goog-hash" in first, last["x-goog-hash"]) == (False, HELLO_HASH.partition(",")[0])


@pytest.mark.parametrize(
    "answer", [(308, {"range": "bytes=0-0"}, b""), (308, {}, b""), (200, {}, b"{}"), (503, {}, b"")]
)
def test_bytes_of_an_upload_that_storage_has_not_taken_are_sent_again(
    answer: tuple[int, dict[str, str], bytes],
) -> None:
    with served(answer, (308, {"range": "bytes=0-1"}, b"")) as (server, url):
        client(url, Tokens()).continue_upload("/upload/b", b"he", 0)
    assert len(server.asked) == 2


@pytest.mark.parametrize("status", [308, 503])
def test_the_end_of_an_upload_that_storage_has_not_taken_is_sent_again(status: int) -> None:
    with served((status, {"range": "bytes=0-1"}, b""), (200, {}, b"{}")) as (server, url):
        client(url, Tokens()).continue_upload("/upload/b", b"llo", 2, checksum=1)
    assert len(server.asked) == 2


def test_the_environments_proxy_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    with served((200, {"x-goog-hash": HELLO_HASH}, HELLO)) as (server, url):
        monkeypatch.setenv("http_proxy", url)
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        assert client("http://storage.example", Tokens()).read(PHOTO, 1) == HELLO
    assert server.asked[0][0].startswith("http://storage.example/download/storage/v1/b/photos/o/a?")


@pytest.mark.parametrize("form", ["json", "plain"])
@pytest.mark.parametrize(
    ("status", "said", "code"),
    [
        (403, "Permission denied on Cloud KMS key", "permission_missing"),
        (400, "Bucket is a requester pays bucket but no user project provided.", "storage_unavailable"),
        (400, "Invalid argument", "storage_refused"),
    ],
)
def test_what_storage_says_itself_is_passed_on(
    monkeypatch: pytest.MonkeyPatch, status: int, said: str, code: str, form: str
) -> None:
    body = json.dumps({"error": {"code": status, "message": said}}) if form == "json" else said
    with served((status, {}, body.encode())) as (_, url):
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", url)
        found = StoredObject(ObjectLocation("photos", "a"), 1, 5, datetime.now(UTC))
        with closing(CloudStore(2)) as store, pytest.raises(ServiceError) as caught:
            store.read(found, 10)
    assert (caught.value.code, said in str(caught.value)) == (code, True)


def test_an_answer_that_is_no_json_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    with served((200, {}, b"<html>")) as (_, url):
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", url)
        with closing(CloudStore(2)) as store, pytest.raises(StorageUnavailable, match="cannot describe gs://photos/a"):
            store.stat(PHOTO)
