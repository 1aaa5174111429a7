"""`GET /thumbnails`: from an image to its thumbnails and back, over a store in memory and over the emulator."""

import json
from datetime import datetime
from typing import Any
from urllib.parse import quote

import pytest

from service.errors import StorageUnavailable
from service.naming import Hour
from service.storage.base import StoredObject
from tests.conftest import Put, Serve
from tests.support.browser import Answer, Looked, looking
from tests.support.memory_store import MemoryStore
from tests.support.pictures import encoded, jpeg, quadrants
from tests.support.proxy import Proxy

SMALL = jpeg(16, 12)
SOURCE = "gs://photos/in/a/cat.jpg"
HOURS = ["20251203T15Z", "20251203T16Z", "20260101T00Z"]
ODD_NAMES = [
    "*.jpg",
    "what?.jpg",
    "[ab].jpg",
    "{a,b}.jpg",
    "back\\slash [!x^].jpg",
    "ünï 猫 #%20&+.jpg",
    "no extension",
    ".jpg",
    "..jpg",
    "two.dots.jpg",
    " leading and trailing ",
]


def put_thumbnail(store: MemoryStore, name: str, source: str = SOURCE) -> StoredObject:
    metadata = {
        "thumbnail-source": source,
        "thumbnail-source-generation": "1767610799503551",
        "thumbnail-spec": "100x100 original",
        "thumbnail-size": "16x12",
    }
    return store.put(f"gs://photos/{name}", SMALL, metadata=metadata)


def address(**parameters: str) -> str:
    return "/thumbnails?" + "&".join(f"{name}={quote(value, safe='')}" for name, value in parameters.items())


def answered(looked: Looked, **parameters: str) -> dict[str, Any]:
    answer = looked.ask(address(**parameters))
    assert answer.status == 200
    found: dict[str, Any] = json.loads(answer.text)
    return found


def names(found: dict[str, Any]) -> list[str]:
    return [one["thumbnail"].removeprefix("gs://photos/") for one in found["thumbnails"]]


def problem(answer: Answer) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(answer.text)
    return found


class TestOfASource:
    def test_all_hours_are_found_newest_first_with_what_the_metadata_says(self, looked: Looked) -> None:
        for hour in HOURS:
            put_thumbnail(looked.store, f"{hour}/cat.jpg")
        found = answered(looked, source=SOURCE)
        assert (found["source"], found["complete"]) == (SOURCE, True)
        assert [one["timestamp"] for one in found["thumbnails"]] == HOURS[::-1]
        assert found["thumbnails"][0] == {
            "thumbnail": "gs://photos/20260101T00Z/cat.jpg",
            "timestamp": "20260101T00Z",
            "generation": "1767610799503551",
            "spec": "100x100 original",
            "size": "16x12",
        }

    def test_an_image_without_thumbnails_has_an_empty_list(self, looked: Looked) -> None:
        assert answered(looked, source=SOURCE) == {"source": SOURCE, "thumbnails": [], "complete": True}
        assert answered(looked, source="gs://photos/in/a/")["thumbnails"] == []
        assert answered(looked, source=f"gs://photos/in/{'x' * 1000}.jpg")["thumbnails"] == []

    def test_names_with_a_new_extension_or_a_suffix_are_found(self, looked: Looked) -> None:
        found = {
            "20251203T15Z/scan.tiff.jpg",
            "20251203T16Z/scan.tiff.png",
            "20251203T17Z/scan.tiff~2a04f1f1e2c0a3a5.jpg",
        }
        for name in found:
            put_thumbnail(looked.store, name, "gs://photos/in/scan.tiff")
        assert set(names(answered(looked, source="gs://photos/in/scan.tiff"))) == found

    def test_what_is_not_its_thumbnail_is_not_shown(self, looked: Looked) -> None:
        put_thumbnail(looked.store, "20251203T15Z/cat.jpg", "gs://photos/in/b/cat.jpg")
        looked.store.put("gs://photos/20251203T16Z/cat.jpg", SMALL)
        put_thumbnail(looked.store, "20251203T17Z/other.jpg")
        put_thumbnail(looked.store, "cat.jpg")
        put_thumbnail(looked.store, "0/20251203T15Z/cat.jpg")
        put_thumbnail(looked.store, "no-hour-at/cat.jpg")
        put_thumbnail(looked.store, "99999999T99Z/cat.jpg")
        assert answered(looked, source=SOURCE)["thumbnails"] == []

    @pytest.mark.parametrize("size_count", [1, 2])
    @pytest.mark.parametrize("layout", ["flat", "tree"])
    def test_folders_are_those_of_layout_and_sizes(self, store: MemoryStore, layout: str, size_count: int) -> None:
        sizes = ["100x100", "20x20"][:size_count]
        with looking(store, output_layout=layout, thumbnail_sizes=",".join(sizes)) as looked:
            made = [f"{folder}/" for folder in sizes] if size_count > 1 else [""]
            expected = [f"20251203T15Z/{folder}{'a/' if layout == 'tree' else ''}cat.jpg" for folder in made]
            for name in expected:
                put_thumbnail(store, name)
            assert names(answered(looked, source=SOURCE)) == expected

    def test_it_takes_two_listings_a_size_and_no_other_request(self, store: MemoryStore) -> None:
        with looking(store, thumbnail_sizes="100x100,20x20") as looked:
            for hour in range(24):
                put_thumbnail(store, f"20251203T{hour:02}Z/100x100/cat.jpg")
            assert len(answered(looked, source=SOURCE)["thumbnails"]) == 24
        assert store.calls == {"list": 4}

    def test_a_search_that_is_cut_off_says_so(self, looked: Looked, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("service.lookup._REQUESTS_PER_GLOB", 0)
        put_thumbnail(looked.store, "20251203T15Z/cat.jpg")
        assert answered(looked, source=SOURCE) == {"source": SOURCE, "thumbnails": [], "complete": False}
        assert "among the many" in looked.page(address(source=SOURCE)).html.one("main").text

    @pytest.mark.parametrize("layout", ["flat", "tree"])
    def test_what_was_made_is_found_whatever_its_name_is_and_leads_back(
        self, serve: Serve, put: Put, bucket: str, layout: str
    ) -> None:
        sources = [
            put(f"in/a[1]/{name}", encoded(quadrants(16, 12), "PNG") if index % 2 else SMALL)
            for index, name in enumerate(ODD_NAMES)
        ]
        sources.append(put("in/b/two.dots.jpg", SMALL))
        sources.append(put("in/photo.png", SMALL, "image/png"))
        client, _ = serve(output_layout=layout, output_format="webp", image_detection="content")
        report = client.post("/run", json={"timestamp": "created"}).json()
        assert (report["created"], report["failed"]) == (len(sources), 0)
        client.post("/run", json={"timestamp": "20251203T15Z"})
        for source in sources:
            uri = f"gs://{bucket}/{source['name']}"
            found = client.get("/thumbnails", params={"source": uri}).json()
            hours = [str(Hour.of(datetime.fromisoformat(source["timeCreated"]))), "20251203T15Z"]
            assert [one["timestamp"] for one in found["thumbnails"]] == hours, uri
            for one in found["thumbnails"]:
                assert one["generation"] == source["generation"]
                back = client.get("/thumbnails", params={"thumbnail": one["thumbnail"]}).json()
                assert back == {"source": uri, "thumbnails": [one], "complete": True}


class TestOfAThumbnail:
    def test_the_source_is_told_by_one_metadata_get(self, serve: Serve, put: Put, proxy: Proxy, bucket: str) -> None:
        source = put("in/a/cat.jpg", jpeg(200, 100))
        client, _ = serve()
        client.post("/run", json={"timestamp": "20251203T15Z"})
        proxy.requests.clear()
        found = client.get("/thumbnails", params={"thumbnail": f"gs://{bucket}/20251203T15Z/cat.jpg"}).json()
        assert found["source"] == f"gs://{bucket}/in/a/cat.jpg"
        (one,) = found["thumbnails"]
        assert (one["generation"], one["size"]) == (source["generation"], "100x50")
        assert one["spec"].startswith("100x100")
        proxy.requests.pop("connection", None)
        assert proxy.requests == {"stat": 1}

    @pytest.mark.parametrize(
        "thumbnail",
        [
            "gs://photos/20251203T15Z/no.jpg",
            "gs://photos/20251203T15Z/foreign.jpg",
            "gs://photos/in/a/cat.jpg",
            "gs://photos/elsewhere/marked.jpg",
            "gs://other-bucket/20251203T15Z/cat.jpg",
            "gs://photos/thumbnail-runs/x/plan.json",
        ],
    )
    def test_what_is_no_thumbnail_of_ours_is_not_found(self, looked: Looked, thumbnail: str) -> None:
        looked.store.put("gs://photos/20251203T15Z/foreign.jpg", SMALL)
        looked.store.put("gs://photos/thumbnail-runs/x/plan.json", b"{}")
        looked.store.put("gs://photos/in/a/cat.jpg", SMALL)
        put_thumbnail(looked.store, "elsewhere/marked.jpg")
        answer = looked.ask(address(thumbnail=thumbnail))
        assert (answer.status, problem(answer)["code"]) == (404, "object_not_found")


class TestRefused:
    @pytest.mark.parametrize(
        ("target", "field"),
        [
            ("/thumbnails", "source"),
            ("/thumbnails?source=", "source"),
            ("/thumbnails?thumbnail=", "thumbnail"),
            (address(source=SOURCE, thumbnail=SOURCE), "thumbnail"),
            (address(source="in/a/cat.jpg"), "source"),
            (address(source="https://storage.googleapis.com/photos/in/a.jpg"), "source"),
            (address(source="gs://photos"), "source"),
            (address(source="gs://photos/"), "source"),
            (address(source="gs://PHOTOS/in/a.jpg"), "source"),
            (address(source="gs://photos/in/\r\nx.jpg"), "source"),
            (address(source=f"gs://photos/in/{'é' * 600}"), "source"),
            (address(thumbnail="20251203T15Z/cat.jpg"), "thumbnail"),
        ],
    )
    def test_an_address_that_is_none_is_named(self, looked: Looked, target: str, field: str) -> None:
        answer = looked.ask(target)
        assert (answer.status, problem(answer)["code"], problem(answer)["field"]) == (422, "invalid_value", field)
        assert not looked.store.calls

    @pytest.mark.parametrize("source", ["gs://photos/index/cat.jpg", "gs://other/in/cat.jpg", "gs://photos/in"])
    def test_a_source_outside_the_fence_is_forbidden_unasked(self, looked: Looked, source: str) -> None:
        answer = looked.ask(address(source=source))
        assert (answer.status, problem(answer)["code"]) == (403, "outside_fence")
        assert "gs://photos/in/" in problem(answer)["reason"]
        assert not looked.store.calls

    def test_storage_that_does_not_answer_is_to_be_asked_again(self, looked: Looked) -> None:
        looked.store.fault = lambda *_: StorageUnavailable("storage is down")
        for parameters in ({"source": SOURCE}, {"thumbnail": "gs://photos/20251203T15Z/cat.jpg"}):
            assert looked.ask(address(**parameters)).status == 503


class TestPages:
    def test_the_front_page_leads_to_a_page_with_the_thumbnails(self, looked: Looked) -> None:
        generation = put_thumbnail(looked.store, "20251203T15Z/cat.jpg").generation
        front = looked.page("/").html
        assert front.one("form", role="search").attributes["action"] == "/thumbnails"
        assert front.one("input", name="source").attributes["id"] == "source"
        page = looked.page(address(source=SOURCE)).html
        assert page.one("input", name="source").attributes["value"] == SOURCE
        image = page.one("img", loading="lazy").attributes["src"]
        assert image == f"/hours/20251203T15Z/cat.jpg?generation={generation}"
        assert looked.page(image).body == SMALL
        assert page.one("a", href="/hours/20251203T15Z").text == "20251203T15Z"

    def test_a_wrong_address_is_a_page_with_the_reason(self, looked: Looked) -> None:
        answer = looked.page(address(source="cat.jpg"))
        assert (answer.status, answer.html.one("h1").text) == (422, "Unprocessable Entity")

    def test_without_pages_a_browser_gets_json(self, store: MemoryStore) -> None:
        put_thumbnail(store, "20251203T15Z/cat.jpg")
        with looking(store, pages=False) as looked:
            answer = looked.page(address(source=SOURCE))
        assert answer.headers["content-type"] == "application/json"
        assert names(json.loads(answer.text)) == ["20251203T15Z/cat.jpg"]

    def test_the_api_is_documented(self, looked: Looked) -> None:
        route = json.loads(looked.ask("/openapi.json").text)["paths"]["/thumbnails"]["get"]
        assert [one["name"] for one in route["parameters"]] == ["source", "thumbnail"]
        assert set(route["responses"]) == {"200", "403", "404", "422", "503"}
