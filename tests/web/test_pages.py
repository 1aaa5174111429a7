"""The web pages over real HTTP, with the application over a store in memory.

Object names, sources and reasons are hostile text, and so is every address.
"""

import json
import re
import shlex
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from itertools import cycle, islice, pairwise
from urllib.parse import parse_qs, quote, urlsplit

import pytest

from service.errors import PermissionMissing, StorageUnavailable
from service.runs.request import RunRequest
from service.storage.base import StoredObject
from service.web.rendering import render
from tests.support.assembly import Task, finished
from tests.support.browser import BROWSER, Answer, Html, Looked, looking
from tests.support.memory_store import MemoryStore
from tests.support.pictures import jpeg
from tests.support.waiting import until

HOUR = "20251203T15Z"
THUMBNAILS = "/thumbnails?source=gs://photos/in/cat.jpg"
SMALL = jpeg(16, 12)
TEXTS = [
    "<script>alert(1)</script>.jpg",
    "</bdi></title><img src=x onerror=alert(1)>.jpg",
    '" onload="alert(1)" \'.jpg',
    "javascript:alert(1).jpg",
    "\u202egpj.exe.jpg",
    "\u2066\u2067mark\u200f.jpg",
    "😀 ünï 猫 e\u0301.jpg",
    "&lt;b&gt;&amp;#x3c;.jpg",
    "{{ 7 * 7 }}{% raw %}.jpg",
    "a b+c%20%2F?x=1&y=2#z;.jpg",
    "back\\slash\t\x1b[31m\x7f\x85.jpg",
    "-->]]><!--.jpg",
    "//evil.example/x.jpg",
]
"""What object names may be, and what must not come of it."""


def put_thumbnail(store: MemoryStore, name: str, data: bytes = SMALL, content_type: str = "image/jpeg") -> int:
    source = f"gs://photos/in/{name}"
    found = store.put(f"gs://photos/{HOUR}/{name}", data, content_type, metadata={"thumbnail-source": source})
    return found.generation


def run_to_its_end(looked: Looked, hour: str = HOUR, run_id: str | None = None) -> str:
    return finished(Task(looked.service, RunRequest(timestamp=hour, run_id=run_id))).run_id


def names_on(page: Html) -> list[str]:
    """The names on a contact sheet, folders and all, as the addresses of its images have them."""
    return [one.attributes["src"] for one in page.all("img", loading="lazy")]


def is_safe(answer: Answer) -> None:
    """No page has a script, a style or a handler in it, nor an address that leaves the service."""
    page = answer.html
    assert [one.attributes["src"].partition("?")[0] for one in page.all("script")] == ["/static/pages.js"]
    assert all(not one.text for one in page.all("script"))
    assert not page.all("style")
    for one in page.elements:
        assert not [name for name in one.attributes if name.startswith("on") or name in {"style", "srcdoc"}]
    for address in page.addresses:
        assert address.startswith(("/", "#"))
        assert not address.startswith("//")


class TestEveryAnswer:
    ADDRESSES = (
        "/",
        "/runs",
        "/runs/none",
        "/runs/-",
        "/hours",
        "/hours?before=x",
        f"/hours/{HOUR}",
        f"/hours/{HOUR}/",
        "/hours/x",
        f"/hours/{HOUR}/cat.jpg",
        f"/hours/{HOUR}/no.jpg",
        "/thumbnails",
        THUMBNAILS,
        "/thumbnails?thumbnail=gs://photos/no.jpg",
        "/static/style.css",
        "/static/pages.js",
        "/static/icon.svg",
        "/static/no.css",
        "/nothing",
        "/health",
        "/run",
        "/openapi.json",
        "/docs/assets/docs.js",
    )

    @pytest.mark.parametrize("accept", [BROWSER["Accept"], "application/json"])
    @pytest.mark.parametrize("target", ADDRESSES)
    def test_has_the_headers_that_keep_a_browser_in_bounds(self, looked: Looked, target: str, accept: str) -> None:
        put_thumbnail(looked.store, "cat.jpg")
        answer = looked.ask(target, Accept=accept)
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; ")
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert not re.search(r"https?:|\*|data:|blob:", policy)
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        if answer.headers["content-type"].startswith("text/html"):
            assert "script-src 'self'; style-src 'self'; img-src 'self'" in policy
            is_safe(answer)

    @pytest.mark.parametrize("target", ADDRESSES)
    def test_is_the_same_without_its_body_for_head(self, looked: Looked, target: str) -> None:
        put_thumbnail(looked.store, "cat.jpg")
        head, get = looked.ask(target, "HEAD", **BROWSER), looked.page(target)
        assert head.body == b""
        if target not in {"/run", "/openapi.json"}:
            assert (head.status, head.headers["content-type"]) == (get.status, get.headers["content-type"])

    def test_of_a_defect_is_a_page_without_the_defects_text(
        self, looked: Looked, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def broken(*_: object, **__: object) -> None:
            raise ZeroDivisionError("secret")

        monkeypatch.setattr("service.web.pages.list_runs", broken)
        monkeypatch.setattr("logging.Logger.error", lambda *_, **__: None)
        answer = looked.page("/")
        assert answer.status == 500
        assert answer.html.one("h1").text == "Internal Server Error"
        assert "secret" not in answer.text
        assert answer.headers["x-content-type-options"] == "nosniff"

    def test_is_found_on_a_page_with_landmarks_headings_and_a_way_past_the_navigation(self, looked: Looked) -> None:
        put_thumbnail(looked.store, "a/cat.jpg")
        looked.store.put("gs://photos/in/a.jpg", SMALL)
        run_id = run_to_its_end(looked)
        for target in ("/", "/runs", f"/runs/{run_id}", "/hours", f"/hours/{HOUR}", THUMBNAILS, "/nothing"):
            page = looked.page(target).html
            assert page.elements[0].attributes == {"lang": "en"}
            assert page.one("title").text.endswith(" · Thumbnails")
            skip = page.all("a")[0]
            assert page.one("main").attributes["id"] == skip.attributes["href"].removeprefix("#")
            assert len(page.all("h1")) == len(page.all("footer")) == len(page.all("header")) == 1
            ids = [one.attributes["id"] for one in page.elements if "id" in one.attributes]
            assert len(ids) == len(set(ids))
            for one in page.elements:
                assert one.attributes.get("aria-labelledby", ids[0]) in ids
            levels = [int(one.tag[1]) for one in page.elements if re.fullmatch(r"h[1-6]", one.tag)]
            assert all(after - before <= 1 for before, after in pairwise(levels))
            assert all("alt" in one.attributes for one in page.all("img"))
            labelled = {one.attributes["for"] for one in page.all("label")}
            fields = [one for one in page.all("input") if one.attributes["type"] != "hidden"]
            assert all(one.attributes["id"] in labelled for one in fields)


class TestOverview:
    def test_shows_settings_runs_hours_and_commands(self, looked: Looked) -> None:
        looked.store.put("gs://photos/in/a.jpg", SMALL)
        run_id = run_to_its_end(looked)
        page = looked.page("/").html
        rows = {row.text.split()[0]: row.text for row in page.all("tr")}
        assert "gs://photos/in/" in rows["INPUT_FOLDER"]
        assert "environment" in rows["INPUT_FOLDER"]
        assert "64.0 MiB" in rows["MAX_SOURCE_BYTES"]
        assert "default" in rows["MAX_SOURCE_BYTES"]
        assert "CLOUD_RUN_TASK_INDEX" not in rows
        assert page.one("a", href=f"/runs/{run_id}").text == run_id
        assert page.one("a", href=f"/hours/{HOUR}").text.split() == [HOUR, "3", "December", "2025,", "15:00", "UTC"]
        commands = [one.text for one in page.all("pre")]
        assert f"curl -N -X POST {looked.url}/run -H 'Accept: application/x-ndjson'" in commands
        assert f"curl {looked.url}/runs" in commands

    def test_asks_storage_little(self, looked: Looked) -> None:
        put_thumbnail(looked.store, "a.jpg")
        looked.page("/")
        assert looked.store.calls["bookkeeping list"] == 1
        assert looked.store.calls["list"] <= 6
        assert set(looked.store.calls) == {"bookkeeping list", "list"}

    def test_says_whether_decoders_are_confined(self, looked: Looked, monkeypatch: pytest.MonkeyPatch) -> None:
        (section,) = [one.text for one in looked.page("/").html.all("section") if "Decoders" in one.text]
        assert "2 processes without credentials" in " ".join(section.split())
        monkeypatch.setattr(looked.service.decoders, "unfiltered", "prctl(22) failed: Invalid argument")
        (section,) = [one.text for one in looked.page("/").html.all("section") if "Decoders" in one.text]
        assert "prctl(22) failed: Invalid argument" in section

    def test_its_commands_are_for_a_shell_whatever_the_folder_is_called(self) -> None:
        with looking(MemoryStore("photos"), input_folder='gs://photos/o\'hara "&" <sons>') as other:
            events = next(one.text for one in other.page("/").html.all("pre") if "/events" in one.text)
        words = shlex.split(events)
        body = json.loads(words[words.index("-d") + 1])
        assert body == {"bucket": "photos", "name": 'o\'hara "&" <sons>/cat.jpg'}
        assert words.count("-H") == 5

    @pytest.mark.parametrize(
        ("headers", "address"),
        [
            ({"Host": "thumbnails-abc.a.run.app", "X_Forwarded_Proto": "https"}, "https://thumbnails-abc.a.run.app"),
            ({"Host": "localhost:8080"}, "http://localhost:8080"),
        ],
    )
    def test_its_commands_have_the_address_that_the_reader_came_by(
        self, looked: Looked, headers: dict[str, str], address: str
    ) -> None:
        answer = looked.page("/", **headers)
        is_safe(answer)
        (runs,) = [one.text for one in answer.html.all("pre") if "/runs" in one.text]
        header = ' -H "Authorization: Bearer $(gcloud auth print-identity-token)"'
        assert runs == f"curl {address}/runs" + (header if address.startswith("https") else "")

    @pytest.mark.parametrize(
        "host",
        ["x;reboot", "$(reboot)", "x&reboot", "x'$IFS'", "[::1]:8080", "x;rm -rf /", "<script>", "`reboot`", '"', ""],
    )
    def test_its_commands_are_for_a_shell_whatever_host_is_asked_for(self, looked: Looked, host: str) -> None:
        answer = looked.page("/", Host=host)
        is_safe(answer)
        commands = [one.text for one in answer.html.all("pre") if "/run" in one.text]
        assert len(commands) == 3
        for command in commands:
            # The shell takes the address for one word, and nothing in it for more than text.
            (address,) = [word for word in shlex.split(command) if "/run" in word]
            assert shlex.quote(address) in command
            assert urlsplit(address).netloc in {host, urlsplit(looked.url).netloc}

    def test_shows_no_password(self, store: MemoryStore) -> None:
        with looking(store, storage_emulator_host="http://user:hunter2@127.0.0.1:4443") as looked:
            text = looked.page("/").text
        assert "hunter2" not in text
        assert "http://127.0.0.1:4443" in text.replace("<wbr>", "")

    def test_of_a_new_bucket_says_that_there_is_nothing_yet(self, looked: Looked) -> None:
        assert [one.text for one in looked.page("/").html.all("p", **{"class": "nothing"})] == [
            "No runs yet. The first command below starts one.",
            "No thumbnails yet.",
        ]


class TestHours:
    def put(self, store: MemoryStore, *hours: datetime) -> None:
        for hour in hours:
            store.put(f"gs://photos/{hour:%Y%m%dT%H}Z/a.jpg", b"")

    def test_are_listed_newest_first_and_page_by_page(self, looked: Looked) -> None:
        last = datetime.now(UTC)
        hours = [last - timedelta(hours=3 * index) for index in range(300)]
        self.put(looked.store, *hours)
        expected = [f"/hours/{hour:%Y%m%dT%H}Z" for hour in hours]

        def listed(page: Html) -> list[str]:
            return [one.attributes["href"] for one in page.all("a") if one.attributes["href"].startswith("/hours/")]

        assert listed(looked.page("/").html) == expected[:24]
        first = looked.page("/hours").html
        assert listed(first) == expected[:200]
        (older,) = first.all("a", rel="next")
        second = looked.page(older.attributes["href"]).html
        assert listed(second) == expected[200:]
        assert not second.all("a", rel="next")

    def test_are_found_however_far_they_lie_apart_and_ahead(self, looked: Looked) -> None:
        found = ["99991231T23Z", "20301203T15Z", "20240229T00Z", "19991231T23Z", "00010101T00Z"]
        for hour in found:
            looked.store.put(f"gs://photos/{hour}/a.jpg", b"")
        for other in ("20250230T00Z/x", "20251203/x", "2025.jpg", f"{HOUR}.jpg", "in/x.jpg", "zoo/x", "0", ":/x"):
            looked.store.put(f"gs://photos/{other}", b"")
        page = looked.page("/hours").html
        assert [one.text.split()[0] for one in page.all("a") if "/hours/" in one.attributes["href"]] == found
        assert looked.store.calls["list"] <= 6

    def test_before_the_first_of_all_there_are_none(self, looked: Looked) -> None:
        self.put(looked.store, datetime(1, 1, 1, 3, tzinfo=UTC), datetime(1, 1, 1, 4, tzinfo=UTC))
        looked.store.put("gs://photos/00010101T03Z/a.jpg", b"")
        page = looked.page("/hours?before=00010201T00Z").html
        assert page.all("a", href="/hours/00010101T03Z")
        assert "No thumbnails before this hour." in looked.page("/hours?before=00010101T00Z").html.one("main").text
        assert looked.page("/hours?before=20251203").status == 422

    def test_that_hide_behind_too_many_objects_are_not_looked_for_for_ever(self, looked: Looked) -> None:
        for index in range(3100):
            looked.store.put(f"gs://photos/20250101_{index:05}.jpg", b"")
        self.put(looked.store, datetime(2025, 1, 2, tzinfo=UTC))
        page = looked.page("/hours").html
        assert "Some hours may be missing here" in page.one("main").text


class TestContactSheet:
    def test_shows_name_source_and_size_in_the_order_of_names(self, looked: Looked) -> None:
        generations = {name: put_thumbnail(looked.store, name) for name in ("b.jpg", "a/x.jpg", "A.jpg")}
        page = looked.page(f"/hours/{HOUR}").html
        assert names_on(page) == [
            f"/hours/{HOUR}/{name}?generation={generations[name]}" for name in ("A.jpg", "a/x.jpg", "b.jpg")
        ]
        first, second, _ = [one.text.split() for one in page.all("li") if "gs://" in one.text]
        assert first == ["A.jpg", f"{len(SMALL)}", "B", "from", "gs://photos/in/A.jpg"]
        assert second == ["x.jpg", "in", "a/", f"{len(SMALL)}", "B", "from", "gs://photos/in/a/x.jpg"]
        for image in page.all("img", loading="lazy"):
            assert (image.attributes["width"], image.attributes["height"]) == ("100", "100")
            assert looked.ask(image.attributes["src"]).body == SMALL
        assert looked.store.calls["list"] == 1

    def test_shows_nothing_that_the_service_has_not_made(self, looked: Looked) -> None:
        put_thumbnail(looked.store, "mine.jpg")
        put_thumbnail(looked.store, "page.html", b"<script>", "text/html")
        put_thumbnail(looked.store, "drawing.svg", b"<svg>", "image/svg+xml")
        looked.store.put(f"gs://photos/{HOUR}/yours.jpg", SMALL)
        looked.store.put("gs://photos/in/source.jpg", SMALL)
        (only,) = names_on(looked.page(f"/hours/{HOUR}").html)
        assert "mine.jpg" in only

    def test_with_several_sizes_shows_all_or_those_of_one_size(self, store: MemoryStore) -> None:
        with looking(store, thumbnail_sizes="100x100,400x300", output_layout="tree") as looked:
            for size in ("100x100", "400x300"):
                for name in ("a/b/c.jpg", "d.jpg"):
                    put_thumbnail(store, f"{size}/{name}")
            page = looked.page(f"/hours/{HOUR}").html
            assert len(names_on(page)) == 4
            assert {(one.attributes["width"], one.attributes["height"]) for one in page.all("img", loading="lazy")} == {
                ("400", "300")
            }
            (large,) = [one for one in page.all("a") if one.text == "400x300"]
            page = looked.page(large.attributes["href"]).html
            assert [name.split("?")[0] for name in names_on(page)] == [
                f"/hours/{HOUR}/400x300/a/b/c.jpg",
                f"/hours/{HOUR}/400x300/d.jpg",
            ]
            (folder,) = [one for one in page.all("a") if one.text == "400x300/a/b/"]
            page = looked.page(folder.attributes["href"]).html
            assert len(names_on(page)) == 1
            assert page.one("input", name="folder").attributes["value"] == "400x300/a/b/"

    def test_comes_in_pages_that_together_are_all_of_it(self, looked: Looked) -> None:
        for index in range(450):
            put_thumbnail(looked.store, f"{index:03}.jpg")
        target, seen = f"/hours/{HOUR}", list[str]()
        for expected in (200, 200, 50):
            page = looked.page(target).html
            assert len(names_on(page)) == expected
            seen += names_on(page)
            target = next((one.attributes["href"] for one in page.all("a", rel="next")), "")
        assert target == ""
        assert [urlsplit(name).path[-7:-4] for name in seen] == [f"{index:03}" for index in range(450)]
        assert looked.store.calls["list"] == 3
        assert len(page.all("a", href=f"/hours/{HOUR}")) == 1

    @pytest.mark.parametrize("count", [0, 199, 200, 201, 202, 203, 400, 402])
    def test_ends_where_the_names_end(self, looked: Looked, count: int) -> None:
        for index in range(count):
            put_thumbnail(looked.store, f"{index:03}.jpg")
        target, seen = f"/hours/{HOUR}", 0
        while target:
            page = looked.page(target).html
            assert names_on(page) or not count
            seen += len(names_on(page))
            target = next((one.attributes["href"] for one in page.all("a", rel="next")), "")
        assert seen == count

    def test_goes_on_where_page_after_page_is_something_else(self, looked: Looked) -> None:
        for index in range(3000):
            looked.store.put(f"gs://photos/{HOUR}/{index:04}.txt", b"", "text/plain")
        put_thumbnail(looked.store, "a.jpg")
        target, pages = f"/hours/{HOUR}", 0
        while not names_on(page := looked.page(target).html):
            target = page.one("a", rel="next").attributes["href"]
            pages += 1
        assert 1 <= pages <= 3
        assert looked.store.calls["list"] <= 5 * (pages + 1)

    @pytest.mark.parametrize(
        ("search", "found"),
        [
            ("cat", ["Cat.jpg", "a/concatenated.jpg"]),
            ("CAT.", ["Cat.jpg"]),
            (" cat.j ", ["Cat.jpg"]),
            ("a/con", ["a/concatenated.jpg"]),
            ("é", ["cafe\u0301.jpg"]),
            ("STRASSE", ["straße.jpg"]),
            (".*", []),
            ("", ["Cat.jpg", "a/concatenated.jpg", "cafe\u0301.jpg", "dog.jpg", "straße.jpg"]),
        ],
    )
    def test_can_be_searched_by_name(self, looked: Looked, search: str, found: list[str]) -> None:
        for name in ("Cat.jpg", "a/concatenated.jpg", "cafe\u0301.jpg", "dog.jpg", "straße.jpg"):
            put_thumbnail(looked.store, name)
        answer = looked.page(f"/hours/{HOUR}?search={quote(search)}")
        names = [urlsplit(name).path for name in names_on(answer.html)]
        assert names == [f"/hours/{HOUR}/{quote(name)}" for name in found]
        assert answer.html.one("input", id="search").attributes["value"] == search.strip()

    def test_searches_so_far_and_offers_to_search_on(self, looked: Looked) -> None:
        for index in range(25_000):
            looked.store.put(f"gs://photos/{HOUR}/{index:05}.jpg", b"", metadata={"thumbnail-source": "gs://x/y"})
        page = looked.page(f"/hours/{HOUR}?search=24999").html
        assert looked.store.calls["list"] == 1
        assert not names_on(page)
        assert "among the 10,000 searched" in page.one("p", **{"class": "count"}).text
        page = looked.page(page.one("a", rel="next").attributes["href"]).html
        page = looked.page(page.one("a", rel="next").attributes["href"]).html
        assert [urlsplit(name).path for name in names_on(page)] == [f"/hours/{HOUR}/24999.jpg"]
        assert looked.store.calls["list"] == 3

    @pytest.mark.parametrize(
        "query",
        [
            "?after=" + "x" * 1100,
            "?after=%00",
            "?after=a%0Ab",
            "?folder=a",
            "?folder=%0D/",
            "?folder=" + "ä" * 600 + "/",
            "?search=" + "x" * 201,
        ],
    )
    def test_refuses_what_no_name_can_be_without_asking_storage(self, looked: Looked, query: str) -> None:
        assert looked.page(f"/hours/{HOUR}{quote(query, safe='?=%/')}").status == 422
        assert not looked.store.calls

    @pytest.mark.parametrize("folder", ["../", "../../in/", "/", "%2e%2e/", "..%2fin/", "../thumbnail-runs/"])
    def test_of_a_folder_with_a_way_out_in_it_lists_what_is_called_so_and_no_more(
        self, looked: Looked, folder: str
    ) -> None:
        looked.store.put("gs://photos/in/x.jpg", SMALL, metadata={"thumbnail-source": "gs://x/y"})
        answer = looked.page(f"/hours/{HOUR}?folder={folder}&after=../../in/")
        assert answer.status == 200
        assert not names_on(answer.html)

    @pytest.mark.parametrize(
        "hour",
        ["x", "20251203T24Z", "20250230T00Z", "20251203t15z", "in", "thumbnail-runs", "..", "%2e%2e", HOUR + "%0A"],
    )
    def test_of_what_is_no_hour_says_so(self, looked: Looked, hour: str) -> None:
        answer = looked.page(f"/hours/{hour}")
        assert answer.status == 422
        assert "is not an hour in UTC" in answer.html.one("main").text
        assert json.loads(looked.ask(f"/hours/{hour}").body)["field"] == "hour"
        assert not looked.store.calls

    def test_of_an_hour_without_any_says_so(self, looked: Looked) -> None:
        answer = looked.page(f"/hours/{HOUR}")
        assert answer.status == 200
        assert "No thumbnails here yet." in answer.html.one("main").text

    def test_of_a_hundred_thousand_thumbnails_takes_one_listing_of_a_page(self, looked: Looked) -> None:
        for index in range(100_000):
            looked.store.put(f"gs://photos/{HOUR}/{index:06}.jpg", b"", metadata={"thumbnail-source": "gs://x/y"})
        asked = list[int]()
        list_objects = looked.store.list_objects

        def counted(*args: object) -> Iterator[StoredObject]:
            asked.append(0)
            for stored in list_objects(*args):  # type: ignore[arg-type]  # as they came
                asked[-1] += 1
                yield stored

        looked.store.list_objects = counted  # type: ignore[method-assign, assignment]  # to see how much is asked
        page = looked.page(f"/hours/{HOUR}").html
        assert len(names_on(page)) == 200
        assert asked == [201]
        deep = looked.page(f"/hours/{HOUR}?after=050000.jpg").html
        assert urlsplit(names_on(deep)[0]).path == f"/hours/{HOUR}/050001.jpg"
        assert asked == [201, 202]


class TestImage:
    def test_comes_as_it_is_stored_with_its_type_and_may_be_kept(self, looked: Looked) -> None:
        generation = put_thumbnail(looked.store, "a/ünï #1?.jpg")
        target = f"/hours/{HOUR}/{quote('a/ünï #1?.jpg')}"
        answer = looked.ask(target)
        assert (answer.status, answer.body) == (200, SMALL)
        assert answer.headers["content-type"] == "image/jpeg"
        assert answer.headers["etag"] == f'"{generation}"'
        assert answer.headers["cache-control"] == "private, no-cache"
        assert answer.headers["content-security-policy"] == "default-src 'none'; sandbox; frame-ancestors 'none'"
        assert dict(looked.store.calls) == {"stat": 1, "read": 1}
        kept = looked.ask(f"{target}?generation={generation}")
        assert kept.headers["cache-control"] == "private, max-age=31536000, immutable"
        assert kept.body == SMALL

    @pytest.mark.parametrize("known", ['"{}"', 'W/"{}"', '"1000", "{}"', "*"])
    def test_that_the_caller_has_is_not_read_again(self, looked: Looked, known: str) -> None:
        generation = put_thumbnail(looked.store, "a.jpg")
        answer = looked.ask(f"/hours/{HOUR}/a.jpg", If_None_Match=known.format(generation))
        assert (answer.status, answer.body) == (304, b"")
        assert answer.headers["etag"] == f'"{generation}"'
        assert "content-security-policy" in answer.headers
        assert dict(looked.store.calls) == {"stat": 1}

    def test_that_was_replaced_is_read_again(self, looked: Looked) -> None:
        old = put_thumbnail(looked.store, "a.jpg")
        new = put_thumbnail(looked.store, "a.jpg", SMALL + b"new")
        answer = looked.ask(f"/hours/{HOUR}/a.jpg", If_None_Match=f'"{old}"')
        assert (answer.status, answer.headers["etag"]) == (200, f'"{new}"')
        assert looked.ask(f"/hours/{HOUR}/a.jpg?generation={old}").status == 404

    def test_asked_for_without_its_body_is_not_read(self, looked: Looked) -> None:
        put_thumbnail(looked.store, "a.jpg")
        answer = looked.ask(f"/hours/{HOUR}/a.jpg", "HEAD")
        assert (answer.status, answer.body) == (200, b"")
        assert answer.headers["content-length"] == str(len(SMALL))
        assert answer.headers["content-type"] == "image/jpeg"
        assert dict(looked.store.calls) == {"stat": 1}

    @pytest.mark.parametrize("content_type", ["image/png", "IMAGE/GIF", "image/webp; x=y", "image/avif"])
    def test_has_one_of_the_types_that_browsers_show(self, looked: Looked, content_type: str) -> None:
        put_thumbnail(looked.store, "a", content_type=content_type)
        answer = looked.ask(f"/hours/{HOUR}/a")
        assert answer.headers["content-type"] == content_type.lower().partition(";")[0]

    @pytest.mark.parametrize(
        "content_type", ["text/html", "image/svg+xml", "", "application/pdf", "image/jpegx", "image/jpeg\r\nX: y"]
    )
    def test_of_any_other_type_is_not_shown(self, looked: Looked, content_type: str) -> None:
        put_thumbnail(looked.store, "a", content_type=content_type)
        assert looked.ask(f"/hours/{HOUR}/a").status == 404
        assert looked.store.calls["read"] == 0

    def test_that_the_service_has_not_made_is_not_shown(self, looked: Looked) -> None:
        looked.store.put(f"gs://photos/{HOUR}/a.jpg", SMALL)
        assert looked.ask(f"/hours/{HOUR}/a.jpg").status == 404
        assert looked.store.calls["read"] == 0

    def test_that_is_far_too_large_is_not_shown(self, looked: Looked, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("service.web.contact_sheet.MAX_IMAGE_BYTES", 10)
        put_thumbnail(looked.store, "a.jpg")
        assert looked.ask(f"/hours/{HOUR}/a.jpg").status == 404

    def test_that_storage_does_not_hand_out_keeps_nobody_from_anything_else(self, looked: Looked) -> None:
        put_thumbnail(looked.store, "a.jpg")
        go_on = threading.Event()
        looked.store.fault = lambda kind, _: None if kind != "read" or go_on.wait(20) else StorageUnavailable("late")
        with ThreadPoolExecutor(60) as readers:
            answers = [readers.submit(looked.ask, f"/hours/{HOUR}/a.jpg") for _ in range(60)]
            until(lambda: looked.store.calls["read"] >= 16)
            assert looked.page("/").status == looked.ask("/runs").status == 200
            assert looked.store.calls["read"] == 16
            go_on.set()
            assert {answer.result().body for answer in answers} == {SMALL}

    @pytest.mark.parametrize("generation", ["", "x", "-1", "1e3", "٣", str(2**63), "9" * 500, "1%0A"])
    def test_of_what_is_no_generation_is_not_there(self, looked: Looked, generation: str) -> None:
        put_thumbnail(looked.store, "a.jpg")
        assert looked.ask(f"/hours/{HOUR}/a.jpg?generation={quote(generation, safe='%')}").status == 404
        assert not looked.store.calls


def every_way_out() -> list[str]:
    """Ways to the objects outside of hour folders, as callers have tried elsewhere."""
    wanted = ["in/secret.jpg", "thumbnail-runs/x/plan.json", "thumbnail-runs/x/fake.jpg", "root.jpg"]
    steps = [
        *("..", "%2e%2e", "%2E%2e", ".%2e", "..%2f", "%2e%2e%2f", "..%5c", "..\\", "%5c..", "%252e%252e", "..;"),
        *("%c0%ae%c0%ae", "%u002e%u002e", "....//", "..%00", "%00..", "..%20", ".", "%2e", "", "%2f", "%2f..", "..%0a"),
    ]
    found = []
    for name in wanted:
        for step in steps:
            for hour in (HOUR, step, "x", "..", f"{HOUR}%2f..", f"{HOUR}%00", f"{HOUR}%0d%0a"):
                found.append(f"/hours/{hour}/{step}/{name}")
                found.append(f"/hours/{hour}/{step}{name}")
            found.append(f"/hours/{HOUR}/{step}/{step}/{name}")
            found.append(f"/hours/{step}/{name}")
            found.append(f"/hours/{HOUR}/{step}/{HOUR}/{step}/{quote(name, safe='')}")
        found += [
            f"/hours/{name}",
            f"/hours//{name}",
            f"//hours/{HOUR}/../{name}",
            f"/hours/{HOUR}/gs:/photos/{name}",
            f"/hours/{HOUR}/gs://photos/{name}",
            f"/hours/{HOUR}?name={name}",
            f"/hours/{HOUR}/x?name=../{name}&hour=in",
            f"/hours/{HOUR}#/../{name}",
            f"/static/../{name}",
            f"/static/%2e%2e/{name}",
        ]
    return found


class TestNothingElse:
    def store_of_secrets(self) -> MemoryStore:
        store = MemoryStore("photos", "other")
        made = {"thumbnail-source": "gs://photos/in/y.jpg"}
        # Each is as much like a thumbnail as can be; its place alone tells that it is none.
        for name in ("in/secret.jpg", "thumbnail-runs/x/plan.json", "thumbnail-runs/x/fake.jpg", "root.jpg"):
            store.put(f"gs://photos/{name}", b"secret", metadata=made)
        store.put("gs://other/20251203T15Z/secret.jpg", b"secret", metadata=made)
        # Names that lead out where somebody takes them for a path.
        for name in ("../in/secret.jpg", "./x.jpg", "..", "a/../../in/secret.jpg", "a\\..\\x.jpg"):
            store.put(f"gs://photos/{HOUR}/{name}", b"secret", metadata=made)
        store.put("gs://photos/x/secret.jpg", b"secret", metadata=made)
        store.put("gs://photos/../secret.jpg", b"secret", metadata=made)
        return store

    def test_is_read_whatever_the_address(self) -> None:
        with looking(self.store_of_secrets()) as looked:
            for target in every_way_out():
                for accept in ("*/*", BROWSER["Accept"]):
                    answer = looked.ask(target, Accept=accept)
                    assert answer.status in {404, 422, 200}, target
                    # The one page that may come is that of the hour itself, or a redirect to none.
                    if answer.status == 200:
                        assert urlsplit(target).path == f"/hours/{HOUR}", target
                    assert answer.body != b"secret", target
            assert looked.store.calls["read"] == 0

    @pytest.mark.parametrize(
        "name",
        [
            "a%00.jpg",
            "a%0d%0aSet-Cookie:x=y.jpg",
            "a%0a.jpg",
            "../x.jpg",
            "%2e%2e/x.jpg",
            "a/%2e%2e/x.jpg",
            "./x.jpg",
            "..%5Cx.jpg",
            "x" * 1100,
            "%C3%A4" * 600,
            "",
        ],
    )
    def test_that_cannot_be_a_thumbnails_name_is_asked_of_storage(self, looked: Looked, name: str) -> None:
        answer = looked.ask(f"/hours/{HOUR}/{name}", Accept="image/*")
        assert answer.status == (404 if name else 200)
        assert looked.store.calls["stat"] == looked.store.calls["read"] == 0
        assert "set-cookie" not in answer.headers

    def test_is_said_of_what_is_there_and_must_not_be_seen_than_of_what_is_not(self, looked: Looked) -> None:
        looked.store.put(f"gs://photos/{HOUR}/a.jpg", SMALL)
        there, not_there = looked.ask(f"/hours/{HOUR}/a.jpg"), looked.ask(f"/hours/{HOUR}/b.jpg")
        assert (there.status, there.body) == (not_there.status, not_there.body)

    def test_has_an_image_that_its_name_hides_from_browsers(self) -> None:
        with looking(self.store_of_secrets()) as looked:
            page = looked.page(f"/hours/{HOUR}").html
            assert names_on(page) == []
            assert page.one("main").text.count("Its name cannot be part of an address") == 5


class TestHostileText:
    def check(self, answer: Answer, *texts: str) -> Html:
        """The page is safe, and shows each text whole, each time in a `<bdi>` of its own."""
        is_safe(answer)
        page = answer.html
        shown = [one.text for one in page.all("bdi")]
        for text in texts:
            assert any(visible(text) in one for one in shown), text
        for text in texts:
            if set(text) & set("<>\"'&"):
                assert text not in answer.text
        assert not {"\x1b", "\x7f", "\x85", "\0"} & set("".join(shown))
        return page

    @pytest.mark.parametrize("text", TEXTS)
    def test_in_names_and_sources_is_shown_and_its_image_is_found(self, looked: Looked, text: str) -> None:
        for name in (text, f"{text}/b.jpg"):
            put_thumbnail(looked.store, name)
        answer = looked.page(f"/hours/{HOUR}")
        page = self.check(answer, text.rpartition("/")[2], f"gs://photos/in/{text}", f"gs://photos/in/{text}/b.jpg")
        for address in names_on(page):
            assert re.fullmatch(r"/hours/20251203T15Z/[A-Za-z0-9%/_.~-]+\?generation=\d+", address)
            assert looked.ask(address).body == SMALL
        for image in page.all("img", loading="lazy"):
            alt = image.attributes["alt"]
            assert alt.startswith("Thumbnail of \u2068")
            assert alt.endswith("\u2069")
        folder = [one for one in page.all("a") if "folder=" in one.attributes.get("href", "")]
        assert f"{text}/" in [parse_qs(urlsplit(one.attributes["href"]).query)["folder"][0] for one in folder]
        for one in folder:
            assert names_on(looked.page(one.attributes["href"]).html)

    @pytest.mark.parametrize("text", TEXTS)
    def test_in_what_is_asked_is_shown_as_it_was(self, looked: Looked, text: str) -> None:
        put_thumbnail(looked.store, f"{text}/a.jpg")
        page = self.check(looked.page(f"/hours/{HOUR}?search={quote(text)}&folder={quote(text)}/"), text)
        assert page.one("input", id="search").attributes["value"] == text
        assert page.one("input", name="folder").attributes["value"] == f"{text}/"
        assert len(names_on(page)) == 1
        self.check(looked.page(f"/hours/{HOUR}?after={quote(text)}"), text)
        for target in (
            f"/nothing/{quote(text)}",
            f"/hours/{quote(text, safe='')}",
            f"/runs/{quote(text, safe='')}",
            f"/hours?before={quote(text)}",
        ):
            is_safe(looked.page(target))

    def test_in_a_runs_reasons_sources_and_ids_is_shown(self, looked: Looked) -> None:
        for text in TEXTS:
            looked.store.put(f"gs://photos/in/{text}", b"no image")
        run_id = run_to_its_end(looked)
        page = self.check(looked.page(f"/runs/{run_id}"), *(f"gs://photos/in/{text}" for text in TEXTS))
        assert len(page.all("p", **{"class": "source"})) == len(TEXTS)
        for text in TEXTS:
            looked.store.put(f"gs://photos/thumbnail-runs/{text.rpartition('/')[2]}/plan.json", b"{}")
        self.check(looked.page("/runs"), *(text.rpartition("/")[2] for text in TEXTS))
        self.check(looked.page("/"))

    @pytest.mark.parametrize("text", TEXTS)
    def test_in_the_settings_is_shown(self, text: str) -> None:
        with looking(MemoryStore("photos"), input_folder=f"gs://photos/{text}") as looked:
            self.check(looked.page("/"), f"gs://photos/{text}/")

    def test_that_is_no_text_at_all_is_shown_as_what_it_is_not(self) -> None:
        page = render(
            "problem.html", bucket="b", section="", status=404, title="x", code="x", reason="lone \ud800 surrogate"
        ).decode()
        assert "lone � surrogate" in page


def visible(text: str) -> str:
    """Control characters as their pictures."""
    return "".join(chr(0x2400 + ord(one)) if one < " " else {"\x7f": "␡", "\x85": "�"}.get(one, one) for one in text)


class TestRuns:
    def test_are_a_page_to_a_browser_and_json_to_a_program_at_one_address(self, looked: Looked) -> None:
        looked.store.put("gs://photos/in/a.jpg", SMALL)
        run_id = run_to_its_end(looked)
        for target in ("/runs", f"/runs/{run_id}", "/runs/none", "/runs/-", "/nothing"):
            page = looked.page(target)
            assert page.headers["content-type"].startswith("text/html")
            assert page.headers["vary"] == "Accept"
            for headers in ({}, {"Accept": "*/*"}, {"Accept": "application/json"}):
                answer = looked.ask(target, **headers)
                assert answer.headers["content-type"] == "application/json"
                assert answer.headers["vary"] == "Accept"
                assert answer.status == page.status
                assert json.loads(answer.body)

    def test_that_ended_say_how_and_where_the_pictures_are(self, looked: Looked) -> None:
        looked.store.put("gs://photos/in/a.jpg", SMALL)
        looked.store.put("gs://photos/in/b.jpg", b"no image")
        page = looked.page(f"/runs/{run_to_its_end(looked)}").html
        assert page.one("article").attributes["data-state"] == "whole"
        assert (page.one("progress").attributes["max"], page.one("progress").attributes["value"]) == ("2", "2")
        assert page.one("a", href=f"/hours/{HOUR}").text == f"Contact sheet of {HOUR}"
        (rejection,) = page.all("p", **{"class": "source"})
        assert rejection.text == "gs://photos/in/b.jpg"
        assert "unsupported_format" in page.one("section", id="rejected").text
        assert "hidden" in page.one("section", id="failed").attributes
        assert not page.all("noscript")

    def test_that_are_going_reload_where_there_is_no_script(self, looked: Looked) -> None:
        for index in range(4):
            looked.store.put(f"gs://photos/in/{index}.jpg", SMALL)
        finished(Task(looked.service, RunRequest(timestamp=HOUR, run_id="mine", task_index=0, task_count=2)))
        page = looked.page("/runs/mine").html
        assert page.one("article").attributes["data-state"] == "running"
        assert (page.one("progress").attributes["max"], page.one("progress").attributes["value"]) == ("4", "2")
        refresh = page.one("meta", **{"http-equiv": "refresh"})
        assert refresh.within[-1] == "noscript"
        assert "Not started: task 1" in page.one("main").text

    def test_of_nothing_are_done(self, looked: Looked) -> None:
        page = looked.page(f"/runs/{run_to_its_end(looked)}").html
        assert (page.one("progress").attributes["max"], page.one("progress").attributes["value"]) == ("1", "1")

    def test_that_were_never_planned_have_no_end_in_sight(self, looked: Looked) -> None:
        looked.store.put("gs://photos/thumbnail-runs/mine/planning-00000.json", b"{}", "application/json")
        page = looked.page("/runs/mine").html
        assert page.one("article").attributes["data-state"] == "planning"
        assert "max" not in page.one("progress").attributes

    def test_whose_images_are_not_all_listed_yet_say_so(self, looked: Looked) -> None:
        looked.store.put("gs://photos/thumbnail-runs/mine/plan.json", b"{}", metadata={"tasks": "1"})
        for target in ("/runs", "/"):
            assert [one.text for one in looked.page(target).html.all("td", **{"data-label": "Images"})] == [
                "not known yet"
            ]
        looked.store.put("gs://photos/thumbnail-runs/other/planning-00000.json", b"{}", "application/json")
        assert looked.page("/runs/other").html.one("span", id="done").text == "0 images so far"

    def test_whose_plan_cannot_be_read_say_so_and_are_listed_beside_the_others(self, looked: Looked) -> None:
        run_to_its_end(looked, run_id="good")
        looked.store.put("gs://photos/thumbnail-runs/bad/plan.json", b"{", "application/json")
        answer = looked.ask("/runs/bad")
        said = json.loads(answer.body)
        assert (answer.status, said["code"], said["field"]) == (422, "invalid_value", "run_id")
        assert "gs://photos/thumbnail-runs/bad/plan.json" in said["reason"]
        page = looked.page("/runs/bad")
        assert page.status == 422
        assert "gs://photos/thumbnail-runs/bad/plan.json" in page.html.one("main").text
        listed = json.loads(looked.ask("/runs").body)["runs"]
        assert {run["run_id"] for run in listed} == {"good", "bad"}

    def test_that_left_something_say_what_to_do(self, looked: Looked) -> None:
        looked.store.put("gs://photos/in/a.jpg", SMALL)
        looked.store.fault = lambda kind, _: StorageUnavailable("<no> storage") if kind == "read" else None
        page = looked.page(f"/runs/{run_to_its_end(looked)}").html
        assert page.one("article").attributes["data-state"] == "unfinished"
        assert "Start it again with the same run_id" in page.one("main").text
        assert "<no> storage" in page.one("section", id="failed").text

    def test_of_many_are_cut_to_the_latest(self, looked: Looked) -> None:
        for index in range(120):
            looked.store.put(
                f"gs://photos/thumbnail-runs/{index:03}/plan.json", b"{}", metadata={"total": "7", "tasks": "2"}
            )
        page = looked.page("/runs").html
        assert "The latest 100 of 120." in page.one("main").text
        assert len(page.all("tr")) == 101
        assert page.all("th", scope="row")[0].text == "119"
        assert "All 120 runs" in looked.page("/").html.one("main").text


class TestFailures:
    @pytest.mark.parametrize("target", ["/", "/hours", f"/hours/{HOUR}", f"/hours/{HOUR}/a.jpg", "/runs", "/runs/x"])
    @pytest.mark.parametrize("error", [StorageUnavailable, PermissionMissing])
    def test_of_storage_are_told_as_such(
        self, looked: Looked, target: str, error: type[StorageUnavailable | PermissionMissing]
    ) -> None:
        looked.store.fault = lambda *_: error("cannot list <gs://photos>: grant roles/storage.objectViewer")
        answer = looked.page(target)
        assert answer.status == 503
        is_safe(answer)
        page = answer.html
        assert page.one("h1").text == "Service Unavailable"
        assert "cannot list <gs://photos>: grant roles/storage.objectViewer" in page.one("main").text
        said = looked.ask(target)
        assert (said.status, json.loads(said.body)["code"]) == (503, error.code)

    def test_of_a_bucket_that_is_not_there_are_told_as_such(self) -> None:
        with looking(MemoryStore("other")) as looked:
            for target in ("/", "/hours", f"/hours/{HOUR}", "/runs"):
                answer = looked.page(target)
                assert answer.status == 503
                assert "gs://photos" in answer.html.one("main").text


class TestStorageThatHangs:
    ASKING = ("/", "/hours", f"/hours/{HOUR}", "/runs", "/runs/mine", THUMBNAILS)
    """What has to ask storage."""

    @pytest.mark.parametrize("accept", [BROWSER["Accept"], "application/json"])
    def test_keeps_nothing_waiting_that_asks_nothing_of_it(
        self, looked: Looked, accept: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("service.web.app._PATIENCE_SECONDS", 0.2)
        go_on = threading.Event()
        looked.store.fault = lambda *_: None if go_on.wait(60) else StorageUnavailable("late")
        with ThreadPoolExecutor(80) as readers, ExitStack() as stack:
            stack.callback(go_on.set)
            targets = list(islice(cycle(self.ASKING), 80))
            answers = [readers.submit(looked.ask, target, Accept=accept) for target in targets]
            until(lambda: looked.store.calls.total() == 16)
            for target in ("/static/style.css", "/docs", "/docs/assets/docs.js", "/openapi.json", "/health"):
                assert looked.ask(target).status == 200
            # Those that got no thread are told so soon, and all others wait for storage.
            until(lambda: sum(answer.done() for answer in answers) == 64)
            for answer in (future.result() for future in answers if future.done()):
                assert (answer.status, answer.headers["retry-after"]) == (503, "10")
                assert "Cloud Storage" in answer.text
            assert looked.store.calls.total() == 16
            go_on.set()
            assert {future.result().status for future in answers} <= {200, 404, 503}
        assert looked.ask("/runs").status == 200


class TestStaticFiles:
    def test_may_be_kept_for_ever_under_the_address_that_pages_have(self, looked: Looked) -> None:
        page = looked.page("/").html
        addresses = {one for one in page.addresses if one.startswith("/static/")}
        assert len(addresses) == 3
        for address in addresses:
            answer = looked.ask(address)
            assert answer.status == 200
            assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
            plain = looked.ask(urlsplit(address).path)
            assert plain.headers["cache-control"] == "no-cache"
            assert looked.ask(address, If_None_Match=answer.headers["etag"]).status == 304
            assert "http" not in answer.text.replace("http://www.w3.org/2000/svg", "")

    @pytest.mark.parametrize(
        "name", ["../pages.py", "%2e%2e%2fpages.py", "..%2ftemplates%2fbase.html", "style.css%00", ""]
    )
    def test_are_these_and_no_others(self, looked: Looked, name: str) -> None:
        assert looked.ask(f"/static/{name}").status == 404


class TestApiDocs:
    def test_ask_nothing_of_another_host(self, looked: Looked) -> None:
        page = looked.page("/docs")
        policy = page.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; ")
        assert "unsafe" not in policy
        assert not re.search(r"https?:|\*", policy)
        assert len(page.html.addresses) == 4
        for address in page.html.addresses:
            assert address.startswith("/docs/assets/")
            answer = looked.ask(address)
            assert answer.status == 200
            assert answer.headers["cache-control"] == "no-cache"
            assert looked.ask(address, If_None_Match=answer.headers["etag"]).status == 304
        assert "/openapi.json" in looked.ask("/docs/assets/docs.js").text

    def test_are_there_without_the_other_pages(self) -> None:
        with looking(MemoryStore("photos"), pages=False) as looked:
            page = looked.page("/docs")
            assert page.status == 200
            assert "default-src 'none'" in page.headers["content-security-policy"]
            assert {looked.ask(address).status for address in page.html.addresses} == {200}


class TestSwitchedOff:
    def test_there_is_none_and_runs_are_json_whoever_asks(self) -> None:
        store = MemoryStore("photos")
        put_thumbnail(store, "a.jpg")
        with looking(store, pages=False) as looked:
            for target in ("/", "/hours", f"/hours/{HOUR}", f"/hours/{HOUR}/a.jpg", "/static/style.css"):
                answer = looked.page(target)
                assert (answer.status, answer.headers["content-type"]) == (404, "application/json")
                assert json.loads(answer.body)["code"] == "no_route"
            assert json.loads(looked.page("/runs").body) == {"runs": [], "count": 0}
            assert json.loads(looked.page("/runs/mine").body)["code"] == "object_not_found"
            assert "vary" not in looked.page("/runs").headers
            assert set(store.calls) == {"bookkeeping list"}
