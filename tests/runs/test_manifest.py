"""What the manifests of a run say, whatever happens to its tasks; the questions that the page answers with them."""

import gzip
import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha512
from pathlib import Path
from typing import Any

import duckdb
import pytest

from service.errors import ServiceError, StorageUnavailable
from service.runs.report import RunReport
from service.runs.request import RunRequest
from service.runs.status import run_status
from service.storage.addresses import FolderLocation, ObjectLocation
from tests.support.assembly import Task, finished, make_task
from tests.support.heic import heic
from tests.support.memory_store import MemoryStore, create_only
from tests.support.pictures import jpeg, quadrants

PAGE = (Path(__file__).resolve().parents[2] / ".readme" / "runs.md").read_text()
SMALL, WIDE = jpeg(16, 12), jpeg(400, 300)
FOLDER = "thumbnail-runs/mine/manifest/"
FIELDS = [
    "source",
    "generation",
    "bytes",
    "outcome",
    "thumbnail",
    "width",
    "height",
    "thumbnail_bytes",
    "from_preview",
    "damaged",
    "code",
    "reason",
]

Line = dict[str, Any]


def task(
    store: MemoryStore,
    executor: ThreadPoolExecutor,
    index: int = 0,
    count: int = 1,
    *,
    run_id: str = "mine",
    request: dict[str, Any] | None = None,
    **settings: Any,  # noqa: ANN401 - whatever a setting is
) -> Task:
    asked = RunRequest(run_id=run_id, task_index=index, task_count=count, **(request or {}))
    return make_task(store, executor, asked, **settings)


def lines(store: MemoryStore) -> list[Line]:
    """The lines of all manifests of the run."""
    found = []
    for name in store.names("photos", FOLDER):
        held = store.held(f"gs://photos/{name}")
        assert held.described.content_type == "application/gzip"
        assert held.described.content_encoding == ""
        found += [json.loads(line) for line in gzip.decompress(held.data).splitlines()]
    return found


def sources(store: MemoryStore) -> list[str]:
    return sorted(line["source"] for line in lines(store))


def put_many(store: MemoryStore, count: int) -> list[str]:
    """Put images with names that no compression makes much shorter."""
    names = (f"{number:04}-{sha512(bytes(number)).hexdigest()}" for number in range(count))
    return [str(store.put(f"gs://photos/in/{name}.jpg", SMALL).location) for name in names]


def no_manifest(kind: str, where: ObjectLocation | FolderLocation) -> ServiceError | None:
    return StorageUnavailable("storage is down") if kind == "bookkeeping write" and "/manifest/" in str(where) else None


def test_a_manifest_has_a_line_for_each_thumbnail_and_each_image_without_one(
    store: MemoryStore, executor: ThreadPoolExecutor
) -> None:
    wide = store.put('gs://photos/in/a/ü "猫".jpg', WIDE)
    bad = store.put("gs://photos/in/bad.jpg", b"no image")
    empty = store.put("gs://photos/in/empty.jpg", b"")
    store.put("gs://photos/in/notes.txt", b"text", "text/plain")
    assert finished(task(store, executor)).whole

    assert store.names("photos", FOLDER) == [f"{FOLDER}task-00000-of-00001.jsonl.gz"]
    by_source = {line["source"]: line for line in lines(store)}
    thumbnail = store.held('gs://photos/20251203T15Z/ü "猫".jpg').described
    assert by_source == {
        str(wide.location): {
            "source": 'gs://photos/in/a/ü "猫".jpg',
            "generation": wide.generation,
            "bytes": len(WIDE),
            "outcome": "created",
            "thumbnail": 'gs://photos/20251203T15Z/ü "猫".jpg',
            "width": 100,
            "height": 75,
            "thumbnail_bytes": thumbnail.size,
            "from_preview": False,
            "damaged": False,
            "code": None,
            "reason": None,
        },
        str(bad.location): rejected(bad.generation, len(b"no image"), by_source[str(bad.location)]),
        str(empty.location): rejected(empty.generation, 0, by_source[str(empty.location)]),
    }
    assert by_source[str(bad.location)]["code"] == "unsupported_format"
    assert by_source[str(empty.location)]["code"] == "empty_object"
    assert "of none of these formats" in by_source[str(bad.location)]["reason"]
    assert {tuple(line) for line in lines(store)} == {tuple(FIELDS)}


def rejected(generation: int, size: int, line: Line) -> Line:
    nothing = dict.fromkeys(("thumbnail", "width", "height", "thumbnail_bytes", "from_preview", "damaged"))
    told = {key: line[key] for key in ("source", "code", "reason")}
    return told | nothing | {"generation": generation, "bytes": size, "outcome": "rejected"}


def test_the_line_of_a_damaged_image_that_is_shown_says_so(store: MemoryStore, executor: ThreadPoolExecutor) -> None:
    store.put("gs://photos/in/cut.jpg", WIDE[:-200])
    store.put("gs://photos/in/whole.jpg", WIDE)
    for run_id in ("before", "mine"):
        finished(task(store, executor, run_id=run_id, damaged="show"))
    assert {line["source"].rpartition("/")[2]: line["damaged"] for line in lines(store)} == {
        "cut.jpg": True,
        "whole.jpg": False,
    }


@pytest.mark.parametrize("timestamp", ["run", "created"])
def test_a_thumbnail_that_is_there_already_has_its_line(
    store: MemoryStore, executor: ThreadPoolExecutor, timestamp: str
) -> None:
    put_many(store, 3)
    store.put("gs://photos/in/wide.jpg", WIDE)
    asked = {"timestamp": timestamp}
    finished(task(store, executor, run_id="before", request=asked))
    finished(task(store, executor, run_id="mine", request=asked))
    (before,) = store.names("photos", "thumbnail-runs/before/manifest/")
    made = map(json.loads, gzip.decompress(store.held(f"gs://photos/{before}").data).splitlines())
    by_source = sorted(lines(store), key=lambda line: str(line["source"]))
    assert by_source == [line | {"outcome": "skipped"} for line in sorted(made, key=lambda line: str(line["source"]))]
    assert (by_source[-1]["width"], by_source[-1]["height"]) == (100, 75)


def test_a_thumbnail_that_does_not_say_its_size_has_none_in_its_line(
    store: MemoryStore, executor: ThreadPoolExecutor
) -> None:
    store.put("gs://photos/in/a.jpg", SMALL)
    finished(task(store, executor, run_id="before"))
    held = store.held("gs://photos/20251203T15Z/a.jpg")
    metadata = {key: value for key, value in held.described.metadata.items() if key != "thumbnail-size"}
    store.put("gs://photos/20251203T15Z/a.jpg", held.data, metadata=metadata)
    finished(task(store, executor))
    (line,) = lines(store)
    assert (line["outcome"], line["width"], line["height"]) == ("skipped", None, None)
    assert line["thumbnail_bytes"] == len(held.data)


@pytest.mark.parametrize("outcome", ["created", "skipped"])
def test_a_line_says_if_its_thumbnail_was_made_from_the_preview_inside_of_the_photo(
    store: MemoryStore, executor: ThreadPoolExecutor, outcome: str
) -> None:
    store.put("gs://photos/in/with.heic", heic(quadrants(600, 400), thumbnails=[300]), "image/heic")
    store.put("gs://photos/in/without.heic", heic(quadrants(600, 400)), "image/heic")
    if outcome == "skipped":
        finished(task(store, executor, run_id="before"))
    finished(task(store, executor))
    shown = [(line["source"], line["outcome"], line["from_preview"]) for line in lines(store)]
    assert sorted(shown) == [
        ("gs://photos/in/with.heic", outcome, True),
        ("gs://photos/in/without.heic", outcome, False),
    ]


def test_with_several_sizes_each_thumbnail_has_a_line_and_an_image_without_one_has_one(
    store: MemoryStore, executor: ThreadPoolExecutor
) -> None:
    store.put("gs://photos/in/bad.jpg", b"no image")
    store.put("gs://photos/in/wide.jpg", WIDE)
    for outcome in ("created", "skipped"):
        finished(task(store, executor, run_id="mine", thumbnail_sizes="100x100,40x40"))
        shown = sorted((line["thumbnail"] or "", line["width"] or 0, line["outcome"]) for line in lines(store))
        assert shown == [
            ("", 0, "rejected"),
            ("gs://photos/20251203T15Z/100x100/wide.jpg", 100, outcome),
            ("gs://photos/20251203T15Z/40x40/wide.jpg", 40, outcome),
        ]


def test_an_image_that_was_deleted_meanwhile_has_the_generation_that_was_listed(
    store: MemoryStore, executor: ThreadPoolExecutor
) -> None:
    image = store.put("gs://photos/in/a.jpg", SMALL)

    def delete(kind: str, _: object) -> None:
        if kind == "read":
            store.delete("gs://photos/in/a.jpg")

    store.fault = delete
    finished(task(store, executor))
    (line,) = lines(store)
    assert (line["code"], line["generation"], line["bytes"]) == ("source_gone", image.generation, len(SMALL))


def test_a_task_without_images_has_an_empty_manifest(store: MemoryStore, executor: ThreadPoolExecutor) -> None:
    assert finished(task(store, executor)).whole
    (name,) = store.names("photos", FOLDER)
    assert gzip.decompress(store.held(f"gs://photos/{name}").data) == b""


def test_a_dry_run_writes_none(store: MemoryStore, executor: ThreadPoolExecutor) -> None:
    put_many(store, 3)
    finished(task(store, executor, request={"dry_run": True}))
    assert store.names("photos", "thumbnail-runs/") == []


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """A manifest of a few hundred lines is sent in pieces."""
    monkeypatch.setattr("service.runs.manifest.PIECE_BYTES", 1024)
    monkeypatch.setattr("tests.support.memory_store.UPLOAD_UNIT", 256)


@pytest.mark.usefixtures("small_pieces")
def test_a_long_manifest_is_sent_as_the_run_goes(store: MemoryStore, executor: ThreadPoolExecutor) -> None:
    images = put_many(store, 600)
    requests: list[int] = []
    store.fault = lambda kind, where: (
        requests.append(store.calls["read"]) if kind == "bookkeeping write" and "/manifest/" in str(where) else None
    )
    assert finished(task(store, executor)).whole
    assert sources(store) == images
    assert len(requests) > 5
    assert requests[0] < 300


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize("images", [3, 600])
def test_an_interrupted_task_has_none_and_its_next_attempt_a_whole_one(
    store: MemoryStore, executor: ThreadPoolExecutor, images: int
) -> None:
    expected = put_many(store, images)
    begun = task(store, executor, concurrency=1)
    begun.open()
    begun.work(lambda: store.calls["read"] >= images - 1)
    assert not begun.report().whole
    assert lines(store) == []

    again = finished(task(store, executor))
    assert (again.whole, again.created + again.skipped) == (True, images)
    assert sources(store) == expected
    assert {line["outcome"] for line in lines(store)} == {"created", "skipped"}


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize("images", [3, 600])
def test_a_task_with_a_failed_image_has_none(store: MemoryStore, executor: ThreadPoolExecutor, images: int) -> None:
    expected = put_many(store, images)
    store.fault = lambda kind, where: (
        StorageUnavailable("storage is down") if kind == "read" and f"/{images - 1:04}-" in str(where) else None
    )
    assert finished(task(store, executor)).failed == 1
    assert store.names("photos", FOLDER) == []
    store.fault = lambda *_: None
    assert finished(task(store, executor)).whole
    assert sources(store) == expected


def test_the_manifests_of_eight_tasks_name_every_image_once_although_one_was_stopped_and_tried_again(
    store: MemoryStore, executor: ThreadPoolExecutor
) -> None:
    expected = put_many(store, 100)
    expected.append(str(store.put("gs://photos/in/bad.jpg", b"no image").location))
    finished(task(store, executor, 0, 8))
    stopped = task(store, executor, 3, 8)
    stopped.open()
    enough = store.calls["read"] + 3
    stopped.work(lambda: store.calls["read"] >= enough)
    assert not stopped.report().whole
    for index in (7, 6, 5, 4, 2, 1):
        assert finished(task(store, executor, index, 8)).whole
    named = sources(store)
    assert len(named) == len(set(named)) < len(expected)

    assert finished(task(store, executor, 3, 8)).whole
    assert sources(store) == sorted(expected)
    assert len(store.names("photos", FOLDER)) == 8
    assert run_status(store, "photos", "mine").state == "whole"


def test_a_later_attempt_replaces_the_manifest(store: MemoryStore, executor: ThreadPoolExecutor) -> None:
    _, replaced, deleted = put_many(store, 3)
    finished(task(store, executor))
    newer = store.put(replaced, WIDE)
    store.delete(deleted)
    finished(task(store, executor))
    by_source = {line["source"]: (line["generation"], line["outcome"]) for line in lines(store)}
    assert by_source[str(newer.location)] == (newer.generation, "created")
    assert len(by_source) == 2


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize("images", [3, 600])
def test_where_nothing_may_be_replaced_a_manifest_with_the_same_lines_stands(
    store: MemoryStore, executor: ThreadPoolExecutor, images: int, capsys: pytest.CaptureFixture[str]
) -> None:
    put_many(store, images)
    store.put("gs://photos/in/bad.jpg", b"no image")
    store.fault = create_only(store)
    assert finished(task(store, executor)).whole
    first = lines(store)
    capsys.readouterr()
    assert finished(task(store, executor)).whole
    assert lines(store) == first
    assert "manifest not replaced" in capsys.readouterr().out


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize("images", [3, 600])
def test_where_nothing_may_be_replaced_a_manifest_with_other_lines_is_an_error_each_time(
    store: MemoryStore, executor: ThreadPoolExecutor, images: int
) -> None:
    put_many(store, images)
    store.fault = create_only(store)
    assert finished(task(store, executor)).whole
    store.put("gs://photos/in/new.jpg", SMALL)
    for created in (1, 0):
        report = finished(task(store, executor))
        assert (report.created, report.failed, report.whole) == (created, 0, False)
        assert "could not be written" in problem(report)
    store.fault = lambda *_: None
    assert finished(task(store, executor)).whole
    assert "gs://photos/in/new.jpg" in sources(store)


def test_where_nothing_may_be_replaced_an_object_that_is_no_manifest_does_not_stand(
    store: MemoryStore, executor: ThreadPoolExecutor
) -> None:
    put_many(store, 3)
    store.put(f"gs://photos/{FOLDER}task-00000-of-00001.jsonl.gz", b"something else")
    store.fault = create_only(store)
    assert "could not be written" in problem(finished(task(store, executor)))


def problem(report: RunReport) -> str:
    assert report.error
    assert report.error.code in {"permission_missing", "storage_unavailable"}
    return report.error.reason


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize("images", [3, 600])
def test_a_manifest_that_cannot_be_written_makes_the_run_not_whole_and_keeps_no_image_from_being_made(
    store: MemoryStore, executor: ThreadPoolExecutor, images: int
) -> None:
    expected = put_many(store, images)
    store.fault = no_manifest
    report = finished(task(store, executor))
    assert (report.created, report.failed, report.whole) == (images, 0, False)
    assert "the manifest of the run could not be written: storage is down" in problem(report)
    status = run_status(store, "photos", "mine")
    assert (status.state, status.failures[0].code) == ("unfinished", "storage_unavailable")

    store.fault = lambda *_: None
    assert finished(task(store, executor)).whole
    assert sources(store) == expected


def test_the_status_of_a_run_lists_no_manifests(store: MemoryStore, executor: ThreadPoolExecutor) -> None:
    for index in range(3):
        finished(task(store, executor, index, 3))
    listed: list[str] = []
    list_objects = store.list_objects

    def listing(*args: Any, **options: Any) -> Iterator[Any]:  # noqa: ANN401 - passed on
        for stored in list_objects(*args, **options):
            listed.append(stored.location.name)
            yield stored

    store.list_objects = listing  # type: ignore[method-assign]  # a spy
    assert run_status(store, "photos", "mine").state == "whole"
    assert len(listed) >= 4
    assert not any("manifest" in name for name in listed)


def answer(query: str) -> list[Any]:
    relation = duckdb.sql(query)
    assert relation
    return relation.fetchall()


class TestThePage:
    """What the page says of the manifest, tried on one."""

    @pytest.fixture
    def folder(
        self, store: MemoryStore, executor: ThreadPoolExecutor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The manifests of a run, downloaded."""
        for name, data in (
            ("2024/beach.jpg", WIDE),
            ("2024/broken.jpg", WIDE[:300]),
            ("2024/summer/a.jpg", SMALL),
            ("2024/summer/b.jpg", SMALL),
            ("top.jpg", SMALL),
        ):
            store.put(f"gs://photos/in/{name}", data)
        for index in range(8):
            assert finished(task(store, executor, index, 8, thumbnail_sizes="100x100,40x40")).whole
        (tmp_path / "manifest").mkdir()
        for name in store.names("photos", FOLDER):
            (tmp_path / "manifest" / Path(name).name).write_bytes(store.held(f"gs://photos/{name}").data)
        monkeypatch.chdir(tmp_path)

    def queries(self) -> list[str]:
        return re.findall(r"^```sql\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)

    def test_names_all_fields(self) -> None:
        table = PAGE.partition("## What was made: the manifest")[2].partition("\n## ")[0]
        assert re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE) == FIELDS

    @pytest.mark.usefixtures("folder")
    def test_its_questions_are_answered(self, store: MemoryStore) -> None:
        without, of_one, by_folder = (answer(query) for query in self.queries())
        ((source, code, reason),) = without
        assert (source, code) == ("gs://photos/in/2024/broken.jpg", "corrupt_image")
        assert reason
        assert of_one == [
            ("gs://photos/20251203T15Z/100x100/beach.jpg", 100, 75),
            ("gs://photos/20251203T15Z/40x40/beach.jpg", 40, 30),
        ]
        assert [(folder, images, size) for folder, images, size, _ in by_folder] == [
            ("gs://photos/in/2024/", 2, len(WIDE) + 300),
            ("gs://photos/in/2024/summer/", 2, 2 * len(SMALL)),
            ("gs://photos/in/", 1, len(SMALL)),
        ]
        held = (store.held(f"gs://photos/{name}").data for name in store.names("photos", "20251203T15Z/"))
        assert sum(size for *_, size in by_folder) == sum(map(len, held))

    @pytest.mark.usefixtures("folder")
    def test_the_columns_have_the_types_that_are_inferred(self) -> None:
        types = {
            name: str(kind) for name, kind, *_ in answer("DESCRIBE SELECT * FROM read_json('manifest/*.jsonl.gz')")
        }
        numbers = {"generation", "bytes", "width", "height", "thumbnail_bytes"}
        texts = dict.fromkeys(FIELDS, "VARCHAR")
        assert types == texts | dict.fromkeys(numbers, "BIGINT") | dict.fromkeys(("from_preview", "damaged"), "BOOLEAN")
