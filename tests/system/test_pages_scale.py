"""A hundred thousand thumbnails in one hour folder, through the real storage client: what the pages of it take.

On the emulator, which looks at every object for every listing; and before a stand-in that answers listings from a
sorted list, as a store with an index does, where what is left is the service's own time.
"""

import json
import os
import shutil
import sys
import time
from bisect import bisect_left
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from service.bootstrap import build
from service.demo.network import local_client
from service.demo.storage import make_bucket, storage_emulator, upload
from service.settings import Settings
from service.web.app import create_app
from tests.support.assembly import decoders
from tests.support.browser import BROWSER, Html, serving
from tests.support.http_server import listening
from tests.support.pictures import jpeg
from tests.support.proxy import proxied

HOUR = "20251203T15Z"
TOTAL = 100_000
ATTRIBUTES = "user.metadata"
"""Where the emulator keeps what it knows of an object beside its bytes."""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def name_of(index: int) -> str:
    return f"IMG_{index:06}.jpg"


@contextmanager
def looking_through(storage: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[httpx.Client]:
    """Serve the application with the real client before a storage server; yield a client of it."""
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", storage)
    service = build(Settings(input_folder="gs://photos/in"), decoders=decoders())
    with serving(create_app(service)) as url, local_client(timeout=120) as client:
        client.base_url = httpx.URL(url)
        client.headers.update(BROWSER)
        yield client
    service.close()


def timed(client: httpx.Client, address: str) -> tuple[float, Html]:
    began = time.monotonic()
    answer = client.get(address)
    seconds = time.monotonic() - began
    assert answer.status_code == 200
    return seconds, Html(answer.text)


def shown(page: Html) -> list[str]:
    return [urlsplit(one.attributes["src"]).path.rpartition("/")[2] for one in page.all("img", loading="lazy")]


def say(capsys: pytest.CaptureFixture[str], text: str) -> None:
    with capsys.disabled():
        sys.stdout.write(f"\n{text}\n")


@pytest.fixture
def full(tmp_path: Path) -> Iterator[str]:
    """An emulator with all of them, written as it writes them: through its door it would take hours."""
    with storage_emulator(objects=tmp_path) as url:
        make_bucket(url, "photos")
        upload(url, "photos", f"{HOUR}/{name_of(0)}", jpeg(16, 12), "image/jpeg")
        folder = tmp_path / "photos" / HOUR
        first = folder / name_of(0)
        try:
            attributes = json.loads(os.getxattr(first, ATTRIBUTES))
        except OSError:
            pytest.skip(f"{tmp_path} is on a file system without extended attributes")
        data = first.read_bytes()
        for index in range(TOTAL):
            path = folder / name_of(index)
            path.write_bytes(data)
            attributes["Metadata"] = {"thumbnail-source": f"gs://photos/in/{name_of(index)}"}
            os.setxattr(path, ATTRIBUTES, json.dumps(attributes).encode())
        yield url
    shutil.rmtree(tmp_path)


def test_on_the_emulator_a_page_takes_what_one_listing_of_it_takes(
    full: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    listing = f"{full}/storage/v1/b/photos/o"
    alone = []
    with proxied(full) as proxy, looking_through(proxy.url, monkeypatch) as client:
        timed(client, f"/hours/{HOUR}")  # The first listing of all fills the system's caches.
        proxy.requests.clear()
        for _ in range(3):
            began = time.monotonic()
            assert httpx.get(listing, params={"prefix": f"{HOUR}/", "maxResults": 202}, timeout=120).is_success
            alone.append(time.monotonic() - began)
        first, page = timed(client, f"/hours/{HOUR}")
        assert shown(page) == [name_of(index) for index in range(200)]
        deep, page = timed(client, f"/hours/{HOUR}?after={name_of(50_000)}")
        assert shown(page) == [name_of(index) for index in range(50_001, 50_201)]
        assert proxy.requests["list"] == 2
        assert sum(proxy.requests[kind] for kind in ("read", "stat", "write")) == 0
        image = client.get(f"/hours/{HOUR}/{name_of(99_999)}")
        assert image.headers["content-type"] == "image/jpeg"
    say(
        capsys,
        f"{TOTAL:,} thumbnails on the emulator: first page {first:.2f} s, one in the middle {deep:.2f} s, one listing "
        f"each; of which the emulator takes {min(alone):.2f} s to {max(alone):.2f} s by itself",
    )
    assert first < 60


def test_before_a_store_with_an_index_a_page_takes_no_longer_than_one_of_a_small_folder(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with indexed() as (storage, asked), looking_through(storage, monkeypatch) as client:
        timed(client, f"/hours/{HOUR}")
        asked.clear()
        times = sorted(timed(client, f"/hours/{HOUR}")[0] for _ in range(5))
        assert asked == [1000] * 5
        deep, page = timed(client, f"/hours/{HOUR}?after={name_of(50_000)}")
        assert shown(page) == [name_of(index) for index in range(50_001, 50_201)]
        asked.clear()
        search, page = timed(client, f"/hours/{HOUR}?search=IMG_0099")
        assert asked == [1000] * 10
        assert len(shown(page)) == 100
    say(
        capsys,
        f"{TOTAL:,} thumbnails before a stand-in with an index: first page {times[2] * 1000:.0f} ms, one in the middle "
        f"{deep * 1000:.0f} ms, a search through 10,000 names {search * 1000:.0f} ms",
    )
    assert times[2] < 10


@contextmanager
def indexed() -> Iterator[tuple[str, list[int]]]:
    """Serve listings of a folder of a hundred thousand; yield the address, and how many objects each one had."""
    names = [f"{HOUR}/{name_of(index)}" for index in range(TOTAL)]
    asked = list[int]()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            query = {name: value for name, (value, *_) in parse_qs(urlsplit(self.path).query).items()}
            start = bisect_left(names, query.get("pageToken", query.get("startOffset", "")))
            count = int(query["maxResults"])
            listed = names[start : start + count]
            asked.append(len(listed))
            items = [
                {
                    "name": name,
                    "size": "3210",
                    "generation": "1795351556870692",
                    "contentType": "image/jpeg",
                    "timeCreated": "2025-12-03T15:00:00.000Z",
                    "metadata": {"thumbnail-source": f"gs://photos/in/{name}"},
                }
                for name in listed
            ]
            following = names[start + count : start + count + 1]
            body = json.dumps({"items": items} | ({"nextPageToken": following[0]} if following else {})).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    with listening(Handler) as url:
        yield url, asked
