"""Nothing that the service wrote is ever a source: each guard by itself, and a replay of all that was written.

A loop is what costs thousands: a thumbnail of a thumbnail of a thumbnail. Two guards stand against it, the name of the
folder and the metadata, and each has to do where the other one is gone.
"""

import base64
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import httpx
import pytest

from service.bootstrap import Service, build
from service.demo.storage import download, list_objects, upload
from service.events import AUDIT_LOG_WRITTEN, FINALIZED, MESSAGE_PUBLISHED, IgnoredEvent, decode
from service.naming import BOOKKEEPING_FOLDER, SOURCE_KEY, Hour, is_output
from service.outcome import Outcome, Result
from service.runs.report import RunReport
from service.runs.request import RunRequest
from service.settings import Settings
from service.storage.base import StoredObject
from tests.conftest import Put, Serve
from tests.support.assembly import Task, decoders
from tests.support.memory_store import MemoryStore
from tests.support.pictures import jpeg
from tests.support.proxy import Proxy

SMALL = jpeg(16, 12)
TALL = jpeg(12, 16)
CREATED_IN = "20251203T15Z"
"""The hour of all that is put into the memory store."""
FIRST, SECOND = "20260105T10Z", "20260105T11Z"
"""The hours of the runs."""

ENOUGH = ["binary", "structured", "push", "push in a CloudEvent"]
"""The envelopes that describe the object, so that storage need not be asked for its metadata."""

Doors = Callable[..., Service]


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore("photos", "thumbs")


@pytest.fixture
def doors(store: MemoryStore) -> Iterator[Doors]:
    """Makes services on the memory store."""
    made: list[Service] = []

    def make(input_folder: str = "gs://photos", **settings: Any) -> Service:  # noqa: ANN401 - whatever a setting is
        made.append(build(Settings(input_folder=input_folder, **settings), store, decoders=decoders()))
        return made[-1]

    yield make
    for service in made:
        service.close()


def resource_of(found: StoredObject) -> dict[str, Any]:
    """The object as the JSON API describes it."""
    return {
        "bucket": found.location.bucket,
        "name": found.location.name,
        "generation": str(found.generation),
        "size": str(found.size),
        "timeCreated": found.created.isoformat(),
        "contentType": found.content_type,
    } | ({"metadata": dict(found.metadata)} if found.metadata else {})


def deliveries(resource: dict[str, Any]) -> dict[str, tuple[dict[str, str], bytes]]:
    """The event of an object in every envelope that Google Cloud has for it: headers and body."""
    bucket, name = resource["bucket"], resource["name"]
    cloud_event = {"specversion": "1.0", "id": "1", "source": f"//storage.googleapis.com/projects/_/buckets/{bucket}"}
    attributes = {
        "eventType": "OBJECT_FINALIZE",
        "bucketId": bucket,
        "objectId": name,
        "objectGeneration": resource["generation"],
    }
    payload = base64.b64encode(json.dumps(resource).encode()).decode()
    push = {"message": {"attributes": attributes | {"payloadFormat": "JSON_API_V1"}, "data": payload}}
    bare = {"message": {"attributes": attributes | {"payloadFormat": "NONE"}}}
    entry = {
        "protoPayload": {
            "methodName": "storage.objects.create",
            "resourceName": f"projects/_/buckets/{bucket}/objects/{name}",
        }
    }

    def binary(kind: str, data: dict[str, Any]) -> tuple[dict[str, str], bytes]:
        headers = {f"ce-{key}": value for key, value in (cloud_event | {"type": kind}).items()}
        return headers | {"Content-Type": "application/json"}, json.dumps(data).encode()

    return {
        "binary": binary(FINALIZED, resource),
        "structured": (
            {"Content-Type": "application/cloudevents+json"},
            json.dumps(cloud_event | {"type": FINALIZED, "data": resource}).encode(),
        ),
        "push": ({}, json.dumps(push).encode()),
        "push in a CloudEvent": binary(MESSAGE_PUBLISHED, push),
        "push without payload": ({}, json.dumps(bare).encode()),
        "push without payload in a CloudEvent": binary(MESSAGE_PUBLISHED, bare),
        "audit log": binary(AUDIT_LOG_WRITTEN, entry),
    }


def deliver(service: Service, found: StoredObject, envelope: str = "binary") -> Outcome:
    event = decode(*deliveries(resource_of(found))[envelope])
    assert not isinstance(event, IgnoredEvent)
    return service.thumbnailer.process_event(event)


ENVELOPES = list(deliveries({"bucket": "b", "name": "n", "generation": "1"}))


def run(service: Service, **request: Any) -> RunReport:  # noqa: ANN401 - whatever a field is
    made = Task(service, RunRequest(**request))
    made.open()
    made.work()
    return made.report()


def run_tasks(service: Service, count: int, **request: Any) -> list[RunReport]:  # noqa: ANN401 - whatever a field is
    return [run(service, task_index=index, task_count=count, **request) for index in range(count)]


class TestByItsName:
    """Metadata is gone: a tool has copied a backup back, or somebody has edited it. The folder's name has to do."""

    @pytest.fixture
    def stripped(self, store: MemoryStore) -> list[StoredObject]:
        return [
            store.put(f"gs://photos/{name}", SMALL)
            for name in (
                f"{CREATED_IN}/x.jpg",
                f"{CREATED_IN}/x~1f3a9c2e.jpg",
                f"{CREATED_IN}/a/b/x.jpg",
                f"{CREATED_IN}/20x20/x.jpg",
                f"{CREATED_IN}/20x20/a/x.jpg",
                "00010101T00Z/x.jpg",
                "99991231T23Z/x.jpg",
            )
        ]

    @pytest.mark.parametrize("layout", ["flat", "tree"])
    @pytest.mark.parametrize("sizes", ["100x100", "100x100,20x20"])
    @pytest.mark.parametrize("detection", ["metadata", "content"])
    def test_what_is_in_an_hour_folder_is_no_source_for_any_door(
        self, store: MemoryStore, doors: Doors, stripped: list[StoredObject], layout: str, sizes: str, detection: str
    ) -> None:
        service = doors(output_layout=layout, thumbnail_sizes=sizes, image_detection=detection)
        for found in stripped:
            for envelope in ENVELOPES:
                outcome = deliver(service, found, envelope)
                assert (outcome.result, outcome.reason) == (Result.IGNORED, "in a folder that this service writes to")
        assert not store.calls
        for report in [run(service, timestamp=FIRST), *run_tasks(service, 2, timestamp=SECOND)]:
            assert (report.discovered, report.assigned, report.passed_over) == (0, 0, 0)
        assert not {"read", "head", "stat", "write"} & set(store.calls)

    @pytest.mark.usefixtures("stripped")
    @pytest.mark.parametrize("folder", [f"{CREATED_IN}/", f"{CREATED_IN}/a", BOOKKEEPING_FOLDER])
    def test_a_run_over_the_services_own_folder_finds_nothing(
        self, store: MemoryStore, doors: Doors, folder: str
    ) -> None:
        store.put(f"gs://photos/{BOOKKEEPING_FOLDER}r/x.jpg", SMALL)
        report = run(doors(), input_folder=f"gs://photos/{folder}", timestamp=FIRST)
        assert (report.discovered, report.assigned) == (0, 0)
        assert not {"read", "head", "stat", "write"} & set(store.calls)

    @pytest.mark.parametrize("name", ["plan.json", "planning-00000.json", "task-00000-of-00001.json", "plan.jpg", "x"])
    @pytest.mark.parametrize("content_type", ["application/json", "image/jpeg", "", "application/octet-stream"])
    def test_bookkeeping_is_no_source_whatever_it_is_called_and_holds(
        self, store: MemoryStore, doors: Doors, name: str, content_type: str
    ) -> None:
        found = store.put(f"gs://photos/{BOOKKEEPING_FOLDER}r/{name}", SMALL, content_type)
        service = doors(image_detection="content")
        for envelope in ENVELOPES:
            assert deliver(service, found, envelope).result is Result.IGNORED
        assert not store.calls
        # The folder of a run of one's own choice of name has nothing to add.
        report = run(service, timestamp=FIRST, run_id="picture.jpg")
        assert (report.discovered, report.passed_over) == (0, 0)
        assert not {"read", "head", "bookkeeping head", "write"} & set(store.calls)
        assert f"{BOOKKEEPING_FOLDER}r/{name}" in store.names("photos")

    def test_a_folder_that_only_looks_like_output_further_down_or_nearly_so_is_a_source(
        self, store: MemoryStore, doors: Doors
    ) -> None:
        names = [
            f"in/{CREATED_IN}/a.jpg",
            f"in/{BOOKKEEPING_FOLDER}b.jpg",
            "20251203T24Z/c.jpg",
            "20251203T15Z.jpg",
            "thumbnail-runs.jpg",
            "thumbnail-runs2/d.jpg",
        ]
        for name in names:
            store.put(f"gs://photos/{name}", SMALL)
        report = run(doors(), timestamp=FIRST)
        assert (report.discovered, report.created) == (len(names), len(names))


class TestByItsMetadata:
    """A thumbnail lies where no name gives it away: it was copied or moved, with all that it carries."""

    @pytest.fixture
    def copied(self, store: MemoryStore, doors: Doors) -> StoredObject:
        service = doors("gs://photos/in")
        source = store.put("gs://photos/in/x.jpg", SMALL)
        assert deliver(service, source).result is Result.CREATED
        thumbnail = store.held(f"gs://photos/{CREATED_IN}/x.jpg")
        copy = store.put("gs://photos/in/best of/cat.jpg", thumbnail.data, metadata=dict(thumbnail.described.metadata))
        store.delete("gs://photos/in/x.jpg")
        store.calls.clear()
        return copy

    @pytest.mark.parametrize("envelope", ENVELOPES)
    @pytest.mark.parametrize("settings", [{}, {"image_detection": "content"}, {"output_bucket": "thumbs"}])
    def test_a_copy_inside_the_input_folder_is_no_source_for_events(
        self, store: MemoryStore, doors: Doors, copied: StoredObject, envelope: str, settings: dict[str, str]
    ) -> None:
        outcome = deliver(doors("gs://photos/in", **settings), copied, envelope)
        assert (outcome.result, outcome.reason) == (Result.IGNORED, "a thumbnail of gs://photos/in/x.jpg")
        assert store.calls == ({} if envelope in ENOUGH else {"stat": 1})

    @pytest.mark.usefixtures("copied")
    @pytest.mark.parametrize("settings", [{}, {"image_detection": "content"}, {"output_bucket": "thumbs"}])
    def test_nor_is_it_for_runs(self, store: MemoryStore, doors: Doors, settings: dict[str, str]) -> None:
        service = doors("gs://photos/in", **settings)
        for report in [run(service, timestamp=FIRST), *run_tasks(service, 2, timestamp=SECOND)]:
            assert (report.discovered, report.assigned, report.passed_over) == (0, 0, 0)
        assert run(service, dry_run=True).discovered == 0
        assert not {"read", "head", "stat", "write"} & set(store.calls)

    def test_an_empty_value_marks_it_as_well(self, store: MemoryStore, doors: Doors) -> None:
        found = store.put("gs://photos/in/x.jpg", SMALL, metadata={SOURCE_KEY: ""})
        service = doors("gs://photos/in")
        assert {deliver(service, found, envelope).result for envelope in ENVELOPES} == {Result.IGNORED}
        assert run(service, timestamp=FIRST).discovered == 0

    @pytest.mark.parametrize("detection", ["metadata", "content"])
    def test_two_services_that_write_into_each_others_input_end_after_one_round(
        self, store: MemoryStore, doors: Doors, detection: str
    ) -> None:
        # Neither knows the other's folders by name: each looks for its own names in its own output bucket only.
        there = doors("gs://photos", output_bucket="thumbs", image_detection=detection)
        back = doors("gs://thumbs", output_bucket="photos", image_detection=detection)
        sources = [store.put("gs://photos/x.jpg", SMALL), store.put("gs://thumbs/y.jpg", SMALL)]
        known = {found.generation for found in sources}
        for found in sources:
            for service in (there, back):
                deliver(service, found)
        for service in (there, back):
            run_tasks(service, 2, timestamp=FIRST)
        written = written_into(store, known, "photos", "thumbs")
        assert len([found for found in written if SOURCE_KEY in found.metadata]) == 4
        store.calls.clear()
        for found in written:
            for service in (there, back):
                for envelope in ENVELOPES:
                    assert deliver(service, found, envelope).result is Result.IGNORED
        assert not {"read", "head", "write"} & set(store.calls)
        for service in (there, back):
            assert sum(report.created for report in run_tasks(service, 2, timestamp=FIRST)) == 0


class TestWhereOutputGoesToAnotherBucket:
    @pytest.mark.parametrize("layout", ["flat", "tree"])
    @pytest.mark.parametrize("name", [f"{CREATED_IN}/x.jpg", f"{BOOKKEEPING_FOLDER}x.jpg", f"{FIRST}/a/x.jpg"])
    def test_folders_that_look_like_output_are_sources_in_the_input_bucket(
        self, store: MemoryStore, doors: Doors, name: str, layout: str
    ) -> None:
        service = doors(output_bucket="thumbs", output_layout=layout)
        found = store.put(f"gs://photos/{name}", SMALL)
        outcome = deliver(service, found)
        assert outcome.result is Result.CREATED
        below = name if layout == "tree" else "x.jpg"
        assert [str(place) for place in outcome.thumbnails] == [f"gs://thumbs/{CREATED_IN}/{below}"]
        report = run(service, timestamp=FIRST)
        assert (report.discovered, report.created) == (1, 1)
        assert store.held(f"gs://thumbs/{FIRST}/{below}").described.metadata[SOURCE_KEY] == f"gs://photos/{name}"
        assert store.names("photos") == [name]

    def test_events_of_the_output_bucket_are_outside_the_fence(self, store: MemoryStore, doors: Doors) -> None:
        service = doors(output_bucket="thumbs")
        for name in (f"{CREATED_IN}/x.jpg", f"{BOOKKEEPING_FOLDER}r/x.jpg", "somebody's own.jpg"):
            found = store.put(f"gs://thumbs/{name}", SMALL)
            for envelope in ENVELOPES:
                outcome = deliver(service, found, envelope)
                assert (outcome.result, outcome.reason) == (Result.IGNORED, "outside gs://photos/")
        assert not store.calls


def written_into(store: MemoryStore, known: set[int], *buckets: str) -> list[StoredObject]:
    """All objects that the test did not put there itself."""
    held = [store.held(f"gs://{bucket}/{name}").described for bucket in buckets for name in store.names(bucket)]
    return [found for found in held if found.generation not in known]


WORLDS: dict[str, dict[str, Any]] = {
    "a folder": {"input_folder": "gs://photos/in"},
    "the bucket's root": {},
    "the root, tree": {"output_layout": "tree"},
    "the root, several sizes": {"thumbnail_sizes": "100x100,10x10"},
    "the root, tree, several sizes": {"output_layout": "tree", "thumbnail_sizes": "100x100,10x10"},
    "the root, by content, another format": {"image_detection": "content", "output_format": "webp"},
    "another bucket": {"output_bucket": "thumbs"},
    "another bucket, tree, several sizes": {
        "output_bucket": "thumbs",
        "output_layout": "tree",
        "thumbnail_sizes": "100x100,10x10",
    },
}


@pytest.mark.parametrize("world", WORLDS)
def test_the_replay_of_all_that_was_written_costs_nothing(store: MemoryStore, doors: Doors, world: str) -> None:
    service = doors(**WORLDS[world])
    output = service.settings.destination_bucket
    sizes = len(service.thumbnailer.outputs)
    sources = {
        name: store.put(f"gs://photos/{name}", data, content_type)
        for name, data, content_type in (
            ("in/a/x.jpg", SMALL, "image/jpeg"),
            ("in/b/x.jpg", TALL, "image/jpeg"),
            ("in/c.png", SMALL, ""),
            ("in/broken.jpg", SMALL[:-100], "image/jpeg"),
            ("in/notes.txt", b"text", "text/plain"),
            ("in/sub/", b"", "text/plain"),
        )
    }
    known = {found.generation for found in sources.values()}
    for found in sources.values():
        for envelope in ("binary", "audit log"):
            deliver(service, found, envelope)
    run_tasks(service, 3, timestamp=FIRST)
    sources["in/a/x.jpg"] = store.put("gs://photos/in/a/x.jpg", TALL)
    known.add(sources["in/a/x.jpg"].generation)
    deliver(service, sources["in/a/x.jpg"])
    run(service, timestamp=SECOND)
    run(service, timestamp=SECOND, overwrite=True)
    run(service, timestamp=SECOND, dry_run=True)
    run_tasks(service, 3, timestamp=FIRST)  # A retry: it takes the newer photo.

    written = written_into(store, known, "photos", "thumbs")
    # There is something to replay: thumbnails of three hours, plans, leases and reports.
    assert {found.location.bucket for found in written} == {output}
    folders = [found.location.name.partition("/")[0] for found in written]
    assert {folder: folders.count(folder) for folder in (CREATED_IN, FIRST, SECOND)} == dict.fromkeys(
        (CREATED_IN, FIRST, SECOND), 3 * sizes
    )
    last_names = {found.location.name.rpartition("/")[2] for found in written}
    assert {"plan.json", "planning-00000.json", "task-00002-of-00003.json"} <= last_names

    before = store.names(output)
    reads: list[str] = []

    def note(kind: str, location: object) -> None:
        if kind in {"read", "head"}:
            reads.append(str(location))

    store.fault = note
    for strip in (False, True):
        if strip:
            written = [
                store.put(str(found.location), store.held(str(found.location)).data, found.content_type)
                for found in written
            ]
        store.calls.clear()
        for found in written:
            for envelope in ENVELOPES:
                assert deliver(service, found, envelope).result is Result.IGNORED
            # As something to look up again it is no better: an event may say less than storage knows.
            assert service.selection.name_exclusion_reason(found.location)
        assert not store.calls, "not even a look"
        assert store.names(output) == before
        again = [
            *[report.discovered for report in run_tasks(service, 3, timestamp=FIRST)],
            run(service, timestamp=SECOND).discovered,
        ]
        assert again == [4, 4, 4, 4]
        if not strip:
            # Only the broken one is looked at again: another version of the decoder may read it.
            assert not {"head", "write"} & set(store.calls)
            assert store.calls["read"] == 2
    assert set(reads) <= {f"gs://photos/{name}" for name in sources}


def test_what_the_event_says_of_the_metadata_is_enough_though_storage_has_lost_it(
    store: MemoryStore, doors: Doors
) -> None:
    found = store.put("gs://photos/in/x.jpg", SMALL)
    marked = replace(found, metadata={SOURCE_KEY: "gs://photos/in/y.jpg"})
    service = doors("gs://photos/in")
    for envelope in ENOUGH:
        assert deliver(service, marked, envelope).result is Result.IGNORED
    assert not store.calls


@pytest.mark.parametrize("output_bucket", [None, "another"])
def test_over_http_the_replay_of_all_that_was_written_asks_nothing_of_storage(
    serve: Serve, put: Put, proxy: Proxy, emulator: str, bucket: str, output_bucket: str | None
) -> None:
    if output_bucket:
        output_bucket = f"{bucket}-thumbs"
        httpx.post(f"{emulator}/storage/v1/b", json={"name": output_bucket}).raise_for_status()
    output = output_bucket or bucket
    client, _ = serve(input_folder=f"gs://{bucket}", output_bucket=output_bucket, thumbnail_sizes="100x100,10x10")
    own = [
        put("a/x.jpg", SMALL),
        put("b/x.jpg", TALL),
        put("c.png", SMALL, ""),
        put("notes.txt", b"text", "text/plain"),
    ]
    names = {resource["name"] for resource in own}

    def posted(resource: dict[str, Any], envelope: str) -> dict[str, Any]:
        headers, body = deliveries(resource)[envelope]
        answer = client.post("/events", content=body, headers=headers)
        assert answer.status_code == 200
        return dict(answer.json())

    for resource in own:
        posted(resource, "binary")
    for body in ({"task_index": 0, "task_count": 2}, {"task_index": 1, "task_count": 2}):
        assert client.post("/run", json=body | {"timestamp": FIRST}).json()["discovered"] == 3
    assert client.post("/run", json={"timestamp": SECOND}).json()["created"] == 3

    written = [item for item in list_objects(emulator, output) if item["name"] not in names]
    assert len([item for item in written if SOURCE_KEY in item.get("metadata", {})]) == 3 * 3 * 2
    assert all(is_output(item["name"]) for item in written)
    assert {Hour.of(found.created).text for found in map(_stored, own)} <= {
        item["name"].partition("/")[0] for item in written
    }
    assert {"plan.json", "planning-00000.json"} <= {item["name"].rpartition("/")[2] for item in written}

    for strip in (False, True):
        if strip:
            written = [
                upload(emulator, output, item["name"], download(emulator, output, item["name"]), item["contentType"])
                for item in written
            ]
            assert not any(item.get("metadata") for item in written)
        proxy.requests.clear()
        for resource in written:
            for envelope in ENVELOPES:
                assert posted(resource, envelope)["outcome"] == "ignored"
        assert not proxy.requests
        if not strip:
            again = client.post("/run", json={"timestamp": SECOND}).json()
            assert (again["discovered"], again["skipped"]) == (3, 3)
            assert proxy.requests["read"] == proxy.requests["write"] == 0
    assert len(list_objects(emulator, output)) == len(written) + (0 if output_bucket else len(own))


def _stored(resource: dict[str, Any]) -> StoredObject:
    event = decode(*deliveries(resource)["binary"])
    assert not isinstance(event, IgnoredEvent)
    assert event.resource
    return event.resource
