"""What the client of media does by itself; `test_cloud.py` has the rest, over the proxy."""

import gzip
import json
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler
from urllib.parse import parse_qs, urlsplit

import google.auth.credentials
import google.auth.transport
import google_crc32c
import pytest
from google.auth.exceptions import RefreshError
from google.auth.transport.requests import AuthorizedSession
from google.cloud.storage.retry import DEFAULT_RETRY
from requests.adapters import HTTPAdapter
from urllib3.exceptions import ProtocolError

from service.errors import NameTaken, ObjectNotFound, ServiceError, StorageUnavailable
from service.storage.addresses import ALL_NAMES, FolderLocation, NameRange, ObjectLocation
from service.storage.base import RESOURCE_FIELDS, Page, StoredObject
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


Answer = tuple[int, dict[str, str], bytes]
"""Status, headers and body."""


class Server:
    """Answers each request with the next of these; keeps what was asked.

    An answer with an empty Content-Length has none, and ends with its connection.
    """

    def __init__(self, *answers: Answer) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[str, dict[str, str]]] = []


@contextmanager
def served(*answers: Answer) -> Iterator[tuple[Server, str]]:
    server = Server(*answers)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("content-length", 0)))
            server.asked.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
            status, headers, data = server.answers.pop(0)
            self.send_response(status)
            for name, value in ({"content-length": str(len(data))} | headers).items():
                if value:
                    self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)
            if not headers.get("content-length", "a length"):
                self.close_connection = True

        do_POST = do_PUT = do_GET  # noqa: N815 - the names that http.server looks for

    with listening(Handler) as url:
        yield server, url


def client(url: str, tokens: Tokens) -> MediaClient:
    session = AuthorizedSession(tokens)  # type: ignore[no-untyped-call]
    adapter = HTTPAdapter()
    session.mount("http://", adapter)
    return MediaClient(session, adapter, url, DEFAULT_RETRY.with_timeout(1).with_delay(initial=0.01), (1, 1))


PHOTO = ObjectLocation("photos", "a")
PICTURE = StoredObject(PHOTO, 1, 5, datetime.now(UTC))
HELLO = b"hello"
HELLO_HASH = "crc32c=mnG7TA==,md5=XUFAKrxLKna5cZ2REBfFkg=="


def test_a_request_carries_the_token_and_asks_for_the_bytes_as_they_are_stored() -> None:
    with served((200, {"x-goog-hash": HELLO_HASH}, HELLO)) as (server, url):
        assert (
            client(url, Tokens()).read(replace(PICTURE, location=ObjectLocation("photos", "in/ä b.jpg"), generation=7))
            == HELLO
        )
    ((path, headers),) = server.asked
    assert path == "/download/storage/v1/b/photos/o/in%2F%C3%A4%20b.jpg?alt=media&generation=7&ifGenerationMatch=7"
    assert headers["authorization"] == "Bearer token-1"
    assert headers["accept-encoding"] == "gzip"


def test_a_token_that_is_refused_is_renewed_once() -> None:
    with served((401, {}, b""), (200, {}, HELLO)) as (server, url):
        assert client(url, Tokens()).read(PICTURE) == HELLO
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
        assert client(url, tokens).read(PICTURE) == HELLO
    assert [headers["authorization"] for _, headers in server.asked] == ["Bearer of the caller", "Bearer token-2"]


def test_a_token_that_cannot_be_renewed_is_said_to_be_so() -> None:
    with served((401, {}, b"")) as (_, url), pytest.raises(RefreshError):
        client(url, Tokens(renewable=False)).read(PICTURE)


def test_bytes_that_are_not_those_that_were_sent_are_asked_for_again() -> None:
    wrong = {"x-goog-hash": HELLO_HASH}
    with served((200, wrong, b"hullo"), (200, wrong, HELLO)) as (server, url):
        assert client(url, Tokens()).read(PICTURE) == HELLO
    assert len(server.asked) == 2


def test_a_part_is_not_compared_with_the_checksum_of_the_whole() -> None:
    with served((206, {"x-goog-hash": HELLO_HASH}, b"he")) as (server, url):
        assert client(url, Tokens()).read(PICTURE, first=2) == b"he"
    assert server.asked[0][1]["range"] == "bytes=0-1"


def test_an_answer_that_ends_too_early_is_asked_for_again() -> None:
    cut = (200, {"content-length": "5", "connection": "close"}, b"hel")
    with served(cut, (200, {"x-goog-hash": HELLO_HASH}, HELLO)) as (server, url):
        assert client(url, Tokens()).read(PICTURE) == HELLO
    assert len(server.asked) == 2


def test_a_checksum_that_never_fits_fails_in_the_end() -> None:
    answers = [(200, {"x-goog-hash": HELLO_HASH}, b"hullo")] * 200
    with served(*answers) as (_, url), pytest.raises(Exception, match="checksum") as caught:
        client(url, Tokens()).read(PICTURE)
    assert isinstance(caught.value.__cause__, ProtocolError)


STORED: Answer = (200, {}, b'{"generation": "7"}')
SESSION = (200, {"location": "https://elsewhere.example/upload/b?upload_id=7"}, b"{}")


def test_an_upload_sends_each_byte_once_and_the_checksum_at_the_end() -> None:
    with served(SESSION, (308, {"range": "bytes=0-1"}, b""), STORED) as (server, url):
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
    answer: Answer,
) -> None:
    with served(answer, (308, {"range": "bytes=0-1"}, b"")) as (server, url):
        client(url, Tokens()).continue_upload("/upload/b", b"he", 0)
    assert len(server.asked) == 2


@pytest.mark.parametrize(
    "answer", [(308, {"range": "bytes=0-1"}, b""), (503, {}, b""), (200, {}, b"{}"), (200, {}, b"")]
)
def test_the_end_of_an_upload_that_storage_has_not_taken_is_sent_again(
    answer: Answer,
) -> None:
    with served(answer, STORED) as (server, url):
        client(url, Tokens()).continue_upload("/upload/b", b"llo", 2, checksum=1)
    assert len(server.asked) == 2


def test_the_environments_proxy_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    with served((200, {"x-goog-hash": HELLO_HASH}, HELLO)) as (server, url):
        monkeypatch.setenv("http_proxy", url)
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        assert client("http://storage.example", Tokens()).read(PICTURE) == HELLO
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


@contextmanager
def storage(monkeypatch: pytest.MonkeyPatch, *answers: Answer) -> Iterator[tuple[Server, CloudStore]]:
    """A store that has these answers, and gives up soon."""
    monkeypatch.setattr("service.storage.cloud._RETRY", DEFAULT_RETRY.with_timeout(0.3).with_delay(initial=0.01))
    with served(*answers) as (server, url):
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", url)
        with closing(CloudStore(2)) as store:
            yield server, store


UNTOLD = {"content-length": ""}
"""An answer that does not say how long it is."""


def put(store: CloudStore, if_generation: int | None = 0) -> None:
    store.write(PHOTO, HELLO, content_type="image/png", cache_control=None, metadata={}, if_generation=if_generation)


@pytest.mark.parametrize("body", [b"", b"{}", b"<html>", b"[]", b'{"generation": "x"}', b'{"generation": null}'])
def test_a_write_is_done_once_storage_names_the_generation_that_it_made(
    monkeypatch: pytest.MonkeyPatch, body: bytes
) -> None:
    with storage(monkeypatch, (200, {}, body), STORED) as (server, store):
        put(store)
    assert len(server.asked) == 2


def test_a_write_of_which_storage_never_names_a_generation_has_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        storage(monkeypatch, *[(200, {}, b"{}")] * 200) as (_, store),
        pytest.raises(StorageUnavailable, match=r"cannot write gs://photos/a: .*names no generation"),
    ):
        put(store)


@pytest.mark.parametrize(
    ("headers", "data"),
    [
        ({}, b"<html>please log in</html>"),
        (UNTOLD, b"hell"),
        (UNTOLD, b"hello and more"),
        ({"x-goog-hash": "md5=XUFAKrxLKna5cZ2REBfFkg=="}, b"hullo"),
        ({"x-goog-hash": "crc32c=mnG7TA=="}, b"hullo"),
        ({"x-goog-hash": HELLO_HASH}, b"hello and more"),
    ],
)
def test_bytes_that_are_not_the_objects_are_storages_fault(
    monkeypatch: pytest.MonkeyPatch, headers: dict[str, str], data: bytes
) -> None:
    with (
        storage(monkeypatch, *[(200, headers, data)] * 200) as (server, store),
        pytest.raises(StorageUnavailable, match="cannot read gs://photos/a"),
    ):
        store.read(PICTURE, 1000)
    assert len(server.asked) > 1


@pytest.mark.parametrize("headers", [{}, UNTOLD, {"x-goog-hash": "md5=XUFAKrxLKna5cZ2REBfFkg=="}])
def test_bytes_without_a_crc32c_are_compared_with_what_there_is(
    monkeypatch: pytest.MonkeyPatch, headers: dict[str, str]
) -> None:
    with storage(monkeypatch, (200, headers, HELLO)) as (_, store):
        assert store.read(PICTURE, 1000) == HELLO


@pytest.mark.parametrize("status", [200, 206])
@pytest.mark.parametrize("headers", [{}, UNTOLD])
def test_more_than_was_asked_for_is_cut_off(
    monkeypatch: pytest.MonkeyPatch, status: int, headers: dict[str, str]
) -> None:
    with storage(monkeypatch, (status, headers, HELLO), STAT) as (_, store):
        assert store.read_head(PICTURE, 2) == b"he"
        # The connection that was left in the middle of an answer does no harm to the next call.
        assert store.stat(PHOTO).generation == 1


def test_a_whole_object_that_was_not_asked_for_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    huge = {"content-length": str(10**12)}
    with storage(monkeypatch, (200, huge, HELLO)) as (server, store):
        assert store.read_head(replace(PICTURE, size=10**12), 2) == b"he"
    assert len(server.asked) == 1


def test_the_beginning_of_an_object_that_ends_too_early_is_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    with storage(monkeypatch, (206, UNTOLD, b"h"), (206, {}, b"he")) as (server, store):
        assert store.read_head(PICTURE, 2) == b"he"
    assert len(server.asked) == 2


POLICY = json.dumps({"error": {"code": 412, "message": "constraint storage.example is violated", "errors": []}})
REFUSED: Answer = (412, {}, POLICY.encode())
RESOURCE = {"name": "a", "generation": "1", "size": "5", "timeCreated": "2026-01-05T10:59:59.503Z"}
STAT: Answer = (200, {}, json.dumps(RESOURCE).encode())


@pytest.mark.parametrize(
    ("call", "answers"),
    [
        (lambda store: list(store.list_objects(FolderLocation("photos"))), [REFUSED]),
        (lambda store: store.list_folders(FolderLocation("photos"), ALL_NAMES, requests=1), [REFUSED]),
        (lambda store: store.stat(PHOTO), [REFUSED]),
        (lambda store: store.read(PICTURE, 10), [REFUSED, STAT]),
        (lambda store: store.read_head(PICTURE, 2), [REFUSED, STAT]),
        (lambda store: store.read(PICTURE, 10), [REFUSED, REFUSED]),
        (lambda store: put(store, None), [REFUSED]),
        (lambda store: store.open_upload(PHOTO, "application/gzip"), [REFUSED]),
    ],
)
def test_a_412_to_what_has_no_condition_that_fails_is_said_in_storages_words(
    monkeypatch: pytest.MonkeyPatch,
    call: Callable[[CloudStore], object],
    answers: list[Answer],
) -> None:
    with (
        storage(monkeypatch, *answers) as (server, store),
        pytest.raises(
            StorageUnavailable, match=r"HTTP 412 from Cloud Storage \(constraint storage.example is violated\)"
        ),
    ):
        call(store)
    assert server.answers == []


def test_a_412_to_a_write_that_expects_a_generation_says_what_storage_said(monkeypatch: pytest.MonkeyPatch) -> None:
    with storage(monkeypatch, REFUSED) as (_, store), pytest.raises(NameTaken, match=r"storage.example is violated"):
        put(store)


@pytest.mark.parametrize("answer", [(200, {}, json.dumps(RESOURCE | {"generation": "2"}).encode()), (404, {}, b"")])
def test_a_412_to_a_read_of_an_object_that_was_replaced_or_deleted_is_what_it_says(
    monkeypatch: pytest.MonkeyPatch, answer: Answer
) -> None:
    with storage(monkeypatch, REFUSED, answer) as (_, store), pytest.raises(ObjectNotFound):
        store.read(PICTURE, 10)


@pytest.mark.parametrize("body", [b"[]", b"{}", b"7", json.dumps(RESOURCE | {"timeCreated": "soon"}).encode()])
def test_a_description_that_is_none_is_no_answer(monkeypatch: pytest.MonkeyPatch, body: bytes) -> None:
    with (
        storage(monkeypatch, (200, {}, body)) as (_, store),
        pytest.raises(StorageUnavailable, match=r"cannot describe gs://photos/a"),
    ):
        store.stat(PHOTO)


@pytest.mark.parametrize("body", [b"[]", b"7", b'{"items": [{"name": "a"}]}', b'{"items": 7}', b'{"items": ["a"]}'])
def test_a_listing_that_is_none_is_no_answer(monkeypatch: pytest.MonkeyPatch, body: bytes) -> None:
    with (
        storage(monkeypatch, (200, {}, body)) as (_, store),
        pytest.raises(StorageUnavailable, match=r"cannot list gs://photos/"),
    ):
        list(store.list_objects(FolderLocation("photos")))


@pytest.mark.parametrize(
    "body", [b"[]", b"7", b"<html>", b'{"items": 7}', b'{"items": ["a"]}', b'{"items": [{"name": 7}]}']
)
def test_a_page_that_is_none_is_no_answer(monkeypatch: pytest.MonkeyPatch, body: bytes) -> None:
    with (
        storage(monkeypatch, (200, {}, body)) as (_, store),
        pytest.raises(StorageUnavailable, match=r"cannot list gs://photos/"),
    ):
        store.list_page(FolderLocation("photos"))


def test_a_resource_on_a_page_that_describes_no_object_is_no_answer() -> None:
    page = Page(FolderLocation("photos"), [RESOURCE | {"timeCreated": "soon"}])
    with pytest.raises(StorageUnavailable, match=r"cannot list gs://photos/: storage's answer is malformed"):
        page.describe(page.resources[0])


def test_a_page_may_be_sent_compressed(monkeypatch: pytest.MonkeyPatch) -> None:
    page = gzip.compress(json.dumps({"items": [RESOURCE], "nextPageToken": "more"}).encode())
    with storage(monkeypatch, (200, {"content-encoding": "gzip"}, page)) as (server, store):
        listed = store.list_page(FolderLocation("photos", "in/"), NameRange("in/a", "in/b"), "token")
        assert (listed.resources, listed.next_token) == ([RESOURCE], "more")
        ((path, headers),) = server.asked
    assert headers["accept-encoding"] == "gzip"
    assert parse_qs(urlsplit(path).query) == {
        "prefix": ["in/"],
        "startOffset": ["in/a"],
        "endOffset": ["in/b"],
        "pageToken": ["token"],
        "maxResults": ["1000"],
        "projection": ["noAcl"],
        "prettyPrint": ["false"],
        "fields": [f"items({RESOURCE_FIELDS}),nextPageToken"],
    }


def test_a_page_that_is_compressed_wrongly_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        storage(monkeypatch, *[(200, {"content-encoding": "gzip"}, b"{}")] * 50) as (_, store),
        pytest.raises(StorageUnavailable, match=r"cannot list gs://photos/"),
    ):
        store.list_page(FolderLocation("photos"))


def test_an_upload_that_storage_has_forgotten_says_nothing_of_the_bucket(monkeypatch: pytest.MonkeyPatch) -> None:
    with storage(monkeypatch, SESSION, (404, {}, b"")) as (_, store):
        upload = store.open_upload(PHOTO, "application/gzip")
        with pytest.raises(StorageUnavailable, match="does not know the upload"):
            upload.finish(HELLO)


def test_an_answer_that_is_no_json_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    with served((200, {}, b"<html>")) as (_, url):
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", url)
        with closing(CloudStore(2)) as store, pytest.raises(StorageUnavailable, match="cannot describe gs://photos/a"):
            store.stat(PHOTO)
