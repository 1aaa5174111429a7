"""The HTTP doors over real HTTP, with the storage emulator behind a proxy that counts and breaks."""

import base64
import itertools
import json
import logging
import queue
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from logging.handlers import QueueHandler
from typing import Any

import httpx
import pytest
from structlog.testing import capture_logs

from service.events import FINALIZED, ObjectFinalized
from service.naming import Hour
from service.outcome import Outcome
from service.process import Shutdown
from service.thumbnailer import SMALL_BYTES
from tests.conftest import Put, Serve
from tests.support.eventarc import deliver
from tests.support.pictures import jpeg, opened
from tests.support.proxy import Fault, Harm, Proxy
from tests.support.waiting import until

SMALL = jpeg(16, 12)


def push(client: httpx.Client, **message: object) -> httpx.Response:
    """Post a Pub/Sub push message."""
    return client.post("/events", json={"message": message, "subscription": "projects/p/subscriptions/s"})


def structured(resource: dict[str, Any]) -> dict[str, Any]:
    """A structured CloudEvent about an object."""
    return {"specversion": "1.0", "id": "1", "source": "//s", "type": FINALIZED, "data": resource}


def post_batch(client: httpx.Client, events: object) -> httpx.Response:
    return client.post("/events", json=events, headers={"Content-Type": "application/cloudevents-batch+json"})


def hour_of(resource: dict[str, Any]) -> Hour:
    return Hour.of(datetime.fromisoformat(resource["timeCreated"]))


def test_health_answers_without_storage(serve: Serve, proxy: Proxy) -> None:
    client, _ = serve()
    assert client.get("/health").json() == {"status": "ok"}
    assert not proxy.requests


def test_a_path_that_is_not_there_says_which_are(serve: Serve) -> None:
    client, _ = serve()
    assert client.get("/nothing").status_code == 404
    answer = client.get("/run")
    assert answer.status_code == 405
    assert answer.headers["Allow"] == "POST"
    assert "POST /run" in answer.json()["reason"]
    assert client.head("/health").status_code == 200


@pytest.mark.parametrize("path", ["/run", "/events"])
@pytest.mark.parametrize("is_chunked", [False, True])
def test_a_body_that_is_far_too_large_is_refused_in_one_form(serve: Serve, path: str, *, is_chunked: bool) -> None:
    client, _ = serve()
    body = b"x" * 2_000_000
    answer = client.post(path, content=iter([body]) if is_chunked else body)
    assert (answer.status_code, answer.json()["code"]) == (413, "request_too_large")
    assert "1,048,576" in answer.json()["reason"]


def test_a_long_value_is_cut_in_the_answer(serve: Serve) -> None:
    client, _ = serve()
    assert client.post("/run", json={"run_id": "x" * 500_000}).status_code == 422
    assert len(client.post("/run", json={"x" * 100_000: "x" * 500_000}).text) < 2_000


@pytest.mark.parametrize("path", ["/run", "/events"])
def test_a_caller_that_goes_away_in_the_middle_of_its_body_is_one_line_of_information(
    serve: Serve, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    defects: queue.Queue[logging.LogRecord] = queue.Queue()
    monkeypatch.setattr(logging.getLogger("uvicorn.error"), "handlers", [QueueHandler(defects)])
    client, _ = serve()
    with capture_logs() as logs:
        with socket.create_connection((client.base_url.host, client.base_url.port or 0)) as caller:
            caller.sendall(b"POST %b HTTP/1.1\r\nHost: service\r\nContent-Length: 100\r\n\r\n{" % path.encode())
        until(lambda: bool(logs) or not defects.empty())
        # Once it has answered another one, it has written all about the first.
        assert client.get("/health").status_code == 200
    assert [(line["log_level"], line["event"], line["door"]) for line in logs] == [
        ("info", "the caller went away before its request was complete", f"POST {path}")
    ]
    assert defects.empty()


class TestRun:
    def test_a_folder_of_mixed_objects(self, serve: Serve, put: Put, bucket: str) -> None:
        put("in/a/photo.jpg", jpeg())
        put("in/b/photo.jpg", jpeg(300, 400))
        put("in/no type.png", jpeg(), "")
        put("in/broken.jpg", jpeg()[:-500])
        put("in/text.jpg", b"hello")
        put("in/empty.jpg", b"")
        put("in/notes.txt", b"hello", "text/plain")
        put("in/sub/", b"", "text/plain")
        put("index/outside.jpg", SMALL)
        client, _ = serve()
        answer = client.post("/run", json={"timestamp": "20251203T15Z"})
        assert answer.status_code == 200
        report = answer.json()
        assert report["assigned"] == report["created"] + report["skipped"] + report["rejected"] + report["failed"]
        assert (report["discovered"], report["created"], report["rejected"], report["renamed"]) == (6, 3, 3, 1)
        assert report["input_folder"] == f"gs://{bucket}/in/"
        assert report["output_folder"] == f"gs://{bucket}/20251203T15Z/"
        assert {rejection["code"] for rejection in report["rejections"]} == {
            "corrupt_image",
            "unsupported_format",
            "empty_object",
        }

    def test_an_empty_body_is_fine_whatever_its_content_type(self, serve: Serve) -> None:
        client, _ = serve()
        for content_type in ("", "application/octet-stream", "application/x-www-form-urlencoded", "application/json"):
            answer = client.post("/run", content=b"", headers={"Content-Type": content_type} if content_type else {})
            assert answer.status_code == 200
            assert answer.json()["discovered"] == 0

    @pytest.mark.parametrize("content_type", ["application/octet-stream", "application/x-www-form-urlencoded", ""])
    def test_json_is_json_whatever_its_content_type(self, serve: Serve, content_type: str) -> None:
        client, _ = serve()
        answer = client.post(
            "/run",
            content=b'{"timestamp": "20251203T15Z"}',
            headers={"Content-Type": content_type} if content_type else {},
        )
        assert answer.json()["timestamp"] == "20251203T15Z"

    @pytest.mark.parametrize(
        ("body", "field", "value"),
        [
            ('{"task_index": 4, "task_count": 4}', "task_index", "4"),
            ('{"task_index": -1}', "task_index", "-1"),
            ('{"task_index": "0"}', "task_index", "'0'"),
            ('{"task_index": 0.5}', "task_index", "0.5"),
            ('{"task_index": true}', "task_index", "True"),
            ('{"task_count": 0}', "task_count", "0"),
            ('{"task_index": 1}', "task_index", "1"),
            ('{"folder": "gs://x"}', "folder", "gs://x"),
            ('{"input_folder": "photos"}', "input_folder", "photos"),
            ('{"input_folder": 7}', "input_folder", "7"),
            ('{"timestamp": "today"}', "timestamp", "today"),
            ('{"run_id": "a/b"}', "run_id", "a/b"),
            ('{"dry_run": "yes"}', "dry_run", "yes"),
            ('{"dry_run": 1}', "dry_run", "1"),
            ('{"overwrite": "true"}', "overwrite", "true"),
            ('{"timestamp": 2025}', "timestamp", "2025"),
            ('{"since": 5}', "since", "5"),
            ('{"since": "yesterday"}', "since", "yesterday"),
            ('{"run_id": 7}', "run_id", "7"),
            ('{"task_count": 4.0}', "task_count", "4.0"),
            ('{"run_id": ""}', "run_id", "''"),
            ("{not json", "body", "{not json"),
            ("[]", "body", "[]"),
            ("null", "body", "null"),
        ],
    )
    def test_a_wrong_field_is_named_with_its_value(self, serve: Serve, body: str, field: str, value: str) -> None:
        client, _ = serve()
        answer = client.post("/run", content=body)
        assert answer.status_code == 422
        assert answer.json()["field"] == field
        assert value in answer.json()["reason"]

    def test_an_unknown_field_is_told_which_are_known(self, serve: Serve) -> None:
        client, _ = serve()
        assert "input_folder, task_index" in client.post("/run", content='{"folder": 1}').json()["reason"]

    @pytest.mark.parametrize("folder", ["gs://other-bucket/in", "gs://{bucket}", "gs://{bucket}/index"])
    def test_a_folder_outside_the_fence_is_forbidden(self, serve: Serve, bucket: str, folder: str) -> None:
        client, _ = serve()
        answer = client.post("/run", json={"input_folder": folder.format(bucket=bucket)})
        assert answer.status_code == 403
        assert (answer.json()["code"], answer.json()["field"]) == ("outside_fence", "input_folder")
        assert f"gs://{bucket}/in/" in answer.json()["reason"]

    def test_a_bucket_that_does_not_exist_is_not_found(self, serve: Serve) -> None:
        client, _ = serve(input_folder="gs://no-such-bucket/in")
        for accept in ("application/json", "application/x-ndjson"):
            answer = client.post("/run", headers={"Accept": accept})
            assert answer.status_code == 404
            assert "gs://no-such-bucket" in answer.json()["reason"]

    @pytest.mark.parametrize("overwrite", [False, pytest.param(True, marks=pytest.mark.slow)])
    def test_an_output_bucket_that_does_not_exist_may_be_made_later(
        self, serve: Serve, put: Put, *, overwrite: bool
    ) -> None:
        put("in/a.jpg", SMALL)
        client, _ = serve(output_bucket="no-such-bucket")
        answer = client.post("/run", json={"overwrite": overwrite})
        assert answer.status_code == 503
        report = answer.json()
        assert report["error"]["code"] == "bucket_not_found"
        assert "gs://no-such-bucket" in report["error"]["reason"]

    def test_the_hour_is_that_of_the_schedule_unless_the_body_says_another(self, serve: Serve) -> None:
        client, _ = serve()
        headers = {"X-CloudScheduler-ScheduleTime": "2026-10-05T18:41:00-07:00"}
        assert client.post("/run", headers=headers).json()["timestamp"] == "20261006T01Z"
        assert client.post("/run", headers=headers, json={"timestamp": "20251203T15Z"}).json()["timestamp"] == (
            "20251203T15Z"
        )
        now = Hour.of(datetime.now(UTC))
        assert client.post("/run").json()["timestamp"] in {str(now), str(Hour.of(datetime.now(UTC)))}

    @pytest.mark.parametrize("text", ["yesterday", "2026-10-05T18:41:00", "0001-01-01T00:00:00+14:00"])
    def test_a_schedule_time_that_is_none_is_refused_where_it_is_used(self, serve: Serve, text: str) -> None:
        client, _ = serve()
        headers = {"X-CloudScheduler-ScheduleTime": text}
        assert client.post("/run", headers=headers, json={"timestamp": "20251203T15Z"}).status_code == 200
        answer = client.post("/run", headers=headers)
        assert answer.status_code == 422
        assert answer.json()["field"] == "X-CloudScheduler-ScheduleTime"

    @pytest.mark.slow
    def test_five_hundred_mixed_objects_are_made_once_skipped_twice_and_made_again(
        self, serve: Serve, put: Put, proxy: Proxy
    ) -> None:
        for index in range(500):
            if index % 25 == 0:
                put(f"in/{index:03}.jpg", b"no image")
            elif index % 10 == 1:
                put(f"in/{index:03}.txt", b"text", "text/plain")
            else:
                put(f"in/{index % 7}/{index:03}.jpg", SMALL)
        client, _ = serve()
        body = {"timestamp": "20251203T15Z"}
        first = client.post("/run", json=body).json()
        assert (first["discovered"], first["created"], first["rejected"]) == (450, 430, 20)
        # One media read and one write for each image, and of the rest two listings: of the input, of the output; the
        # plan that was not there, the plan, and the reports, of which a run of a second or two has one or two.
        assert proxy.requests["read"] == 450
        assert proxy.requests["write"] == 430
        assert proxy.requests["list"] == 2
        assert proxy.requests["bookkeeping stat"] == 1
        assert proxy.requests["bookkeeping write"] <= 4
        assert proxy.requests["bookkeeping read"] == proxy.requests["bookkeeping list"] == 0
        assert proxy.requests["stat"] == proxy.requests["other"] == 0
        second = client.post("/run", json=body).json()
        assert (second["created"], second["skipped"], second["rejected"]) == (0, 430, 20)
        assert proxy.requests["write"] == 430
        assert proxy.requests["read"] == 450 + 20
        third = client.post("/run", json=body | {"overwrite": True}).json()
        assert (third["created"], third["skipped"], third["rejected"]) == (430, 0, 20)

    def test_a_dry_run_touches_nothing(self, serve: Serve, put: Put, proxy: Proxy) -> None:
        put("in/a.jpg", SMALL)
        client, _ = serve()
        report = client.post("/run", json={"dry_run": True}).json()
        assert (report["dry_run"], report["created"]) == (True, 1)
        estimate = report["estimate"]
        assert (estimate["media_reads"], estimate["writes"], estimate["bytes_to_read"]) == (1, 1, len(SMALL))
        assert estimate["by_type"] == {"image/jpeg": {"images": 1, "bytes": len(SMALL)}}
        assert set(proxy.requests) == {"list", "bookkeeping stat", "connection"}

    @pytest.mark.slow
    def test_tasks_of_a_run_list_the_folder_twice_together_however_many_they_are(
        self, serve: Serve, put: Put, proxy: Proxy
    ) -> None:
        for index in range(2100):
            put(f"in/{index:04}.jpg", b"")  # Rejected unread: nothing but listings is of interest.
        client, _ = serve()
        for index in range(8):
            report = client.post("/run", json={"task_index": index, "task_count": 8, "run_id": "mine"}).json()
            assert (report["discovered"], report["rejected"]) == (2100, report["assigned"])
        # Three pages to plan; for each task, whose 262 images are less than a page, its own and one of the hour folder.
        assert proxy.requests["list"] == 3 + 8 + 8

    @pytest.mark.parametrize("path", ["/run", "/events"])
    @pytest.mark.parametrize(
        "headers",
        [
            {"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"},
            {"Sec-Fetch-Site": "same-site"},
            {"Origin": "https://evil.example"},
            {"Origin": "null"},
            {"Origin": "http://[::1"},
            {"Origin": "http://[evil]"},
            {"Origin": "//service"},
        ],
    )
    def test_a_page_of_another_host_cannot_make_a_browser_call(
        self, serve: Serve, put: Put, proxy: Proxy, path: str, headers: dict[str, str]
    ) -> None:
        put("in/a.jpg", SMALL)
        client, _ = serve()
        answer = client.post(path, headers=headers | {"Content-Type": "text/plain"}, content=b"{}")
        assert (answer.status_code, answer.json()["code"]) == (403, "foreign_page")
        assert not proxy.requests
        own = {"Sec-Fetch-Site": "same-origin", "Origin": str(client.base_url).rstrip("/")}
        assert client.post("/run", headers=own).json()["created"] == 1

    def test_how_far_a_run_is_can_be_asked(self, serve: Serve, put: Put) -> None:
        for index in range(4):
            put(f"in/{index}.jpg", SMALL)
        put("in/bad.jpg", b"no image")
        client, _ = serve()
        assert client.get("/runs").json() == {"runs": [], "count": 0}
        assert client.get("/runs/mine").status_code == 404
        assert client.get("/runs/mine").json()["code"] == "object_not_found"
        assert client.get("/runs/-mine").status_code == 422
        client.post("/run", json={"run_id": "mine", "task_index": 0, "task_count": 2})
        half = client.get("/runs/mine").json()
        assert (half["state"], half["total"], half["done"], half["not_started"]) == ("running", 5, 2, [1])
        client.post("/run", json={"run_id": "mine", "task_index": 1, "task_count": 2})
        whole = client.get("/runs/mine").json()
        assert (whole["state"], whole["done"], whole["created"], whole["rejected"]) == ("whole", 5, 4, 1)
        assert whole["rejections"][0]["code"] == "unsupported_format"
        (listed,) = client.get("/runs").json()["runs"]
        assert (listed["run_id"], listed["total"], listed["task_count"]) == ("mine", 5, 2)

    def test_a_run_keeps_the_hour_it_was_planned_with(self, serve: Serve, put: Put) -> None:
        put("in/a.jpg", SMALL)
        client, _ = serve()
        headers = {"X-CloudScheduler-ScheduleTime": "2026-10-05T18:41:00Z"}
        client.post("/run", headers=headers, json={"run_id": "mine"})
        headers = {"X-CloudScheduler-ScheduleTime": "2026-10-05T19:41:00Z"}
        later = client.post("/run", headers=headers, json={"run_id": "mine"}).json()
        assert (later["timestamp"], later["skipped"]) == ("20261005T18Z", 1)
        refused = client.post("/run", json={"run_id": "mine", "timestamp": "20261005T19Z"})
        assert (refused.status_code, refused.json()["field"]) == (422, "timestamp")

    @pytest.mark.parametrize(
        ("planned", "asked", "field"),
        [
            ({"since": "2025-12-03T15:00:00Z"}, {"since": "2025-12-03T16:00:00+01:00"}, "since"),
            ({"since": "36h"}, {}, "since"),
            ({"timestamp": "created"}, {"timestamp": "run"}, "timestamp"),
        ],
    )
    def test_an_id_of_a_run_that_was_planned_otherwise_is_refused(
        self, serve: Serve, planned: dict[str, str], asked: dict[str, str], field: str
    ) -> None:
        client, _ = serve()
        assert client.post("/run", json={"run_id": "mine"} | planned).status_code == 200
        refused = client.post("/run", json={"run_id": "mine"} | asked)
        assert (refused.status_code, refused.json()["field"]) == (422, field)
        assert repr(planned[field]) in refused.json()["reason"]

    def test_a_run_that_was_planned_with_created_is_joined_without_a_timestamp(self, serve: Serve) -> None:
        client, _ = serve()
        client.post("/run", json={"run_id": "mine", "timestamp": "created"})
        joined = client.post("/run", json={"run_id": "mine"})
        assert (joined.status_code, joined.json()["timestamp"]) == (200, "created")

    @pytest.mark.parametrize("accept", ["application/json", "application/x-ndjson"])
    def test_an_id_that_another_call_takes_meanwhile_is_refused_and_the_other_run_stays_whole(
        self, serve: Serve, put: Put, proxy: Proxy, bucket: str, accept: str
    ) -> None:
        put("in/a.jpg", SMALL)
        client, _ = serve()
        lists = itertools.count()

        def be_first(kind: str, _: str) -> None:
            # No plan was there, and the folder's first page is on its way.
            if kind == "list" and next(lists) == 0:
                client.post("/run", json={"run_id": "mine", "timestamp": "created"}).raise_for_status()

        proxy.fault = be_first
        body = {"run_id": "mine", "timestamp": "20251203T15Z"}
        refused = client.post("/run", json=body, headers={"Accept": accept})
        reason = (
            "timestamp: '20251203T15Z' is not what the run 'mine' was planned with, 'created'; "
            "another run needs another run_id"
        )
        if accept == "application/json":
            assert refused.status_code == 422
            assert refused.json() == {"code": "invalid_value", "reason": reason, "field": "timestamp"}
        else:
            report = json.loads(refused.text.splitlines()[-1])
            assert report["error"] == {"source": f"gs://{bucket}/in/", "code": "invalid_value", "reason": reason}
        status = client.get("/runs/mine").json()
        assert (status["state"], status["created"], status["attempts"]) == ("whole", 1, 1)

    def test_a_stream_of_progress_ends_in_the_report(
        self, serve: Serve, put: Put, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("service.web.runs._PROGRESS_SECONDS", 0.02)
        for index in range(3):
            put(f"in/{index}.jpg", SMALL)
        client, _ = serve()
        seen = threading.Event()

        def wait_for_a_line(kind: str, _: str) -> None:
            if kind == "read":
                assert seen.wait(20)

        proxy.fault = wait_for_a_line
        with client.stream("POST", "/run", headers={"Accept": "application/x-ndjson"}) as answer:
            assert answer.status_code == 200
            assert answer.headers["content-type"].startswith("application/x-ndjson")
            lines = []
            for line in answer.iter_lines():
                lines.append(json.loads(line))
                seen.set()
        assert lines[0]["progress"]["created"] == 0
        assert lines[-1]["created"] == 3
        assert "progress" not in lines[-1]

    def test_a_stream_ends_in_the_report_though_the_run_ends_by_a_defect(
        self, serve: Serve, put: Put, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        put("in/a.jpg", SMALL)
        client, _ = serve()
        monkeypatch.setattr("service.runs.runner.list_images", lambda *_: 1 // 0)
        with client.stream("POST", "/run", headers={"Accept": "application/x-ndjson"}) as answer:
            lines = [json.loads(line) for line in answer.iter_lines()]
        assert lines[-1]["error"]["code"] == "internal_error"

    @pytest.mark.usefixtures("impatient")
    @pytest.mark.parametrize(
        ("fault", "code"),
        [(503, "storage_unavailable"), (429, "storage_unavailable"), (403, "permission_missing"),
         (Harm.STALL, "storage_unavailable"), (Harm.RESET_BEFORE, "storage_unavailable")],
    )  # fmt: skip
    @pytest.mark.parametrize("kind", ["read", "write", "list"])
    def test_a_storage_failure_is_for_the_caller_to_retry_and_the_retry_does_the_rest(
        self, serve: Serve, put: Put, proxy: Proxy, kind: str, fault: Fault, code: str
    ) -> None:
        for index in range(3):
            put(f"in/{index}.jpg", SMALL)
        client, _ = serve()
        proxy.fault = lambda asked, name: fault if asked == kind and (kind == "list" or "1.jpg" in name) else None
        answer = client.post("/run", json={"timestamp": "20251203T15Z"})
        assert answer.status_code == 503
        report = answer.json()
        if kind == "list":
            assert report["error"]["code"] == code
        else:
            assert (report["created"], report["failed"], report["failures"][0]["code"]) == (2, 1, code)
        proxy.fault = lambda *_: None
        again = client.post("/run", json={"timestamp": "20251203T15Z"}).json()
        assert again["created"] + again["skipped"] == 3

    @pytest.mark.parametrize("silent", ["list", "read"])
    def test_a_run_that_is_told_to_end_answers_though_storage_hangs(
        self, serve: Serve, put: Put, proxy: Proxy, silent: str
    ) -> None:
        put("in/a.jpg", SMALL)
        client, service = serve(Shutdown(run=1, images=0.3))
        # The first listing says that there is work; the second, of what is there already, or the read, hangs.
        lists = itertools.count()

        def hang(kind: str, _: str) -> Fault:
            if kind == silent and (kind == "read" or next(lists) == 1):
                service.stop.set()
                return Harm.STALL
            return None

        proxy.fault = hang
        answer = client.post("/run")
        assert answer.status_code == 503
        report = answer.json()
        (problem,) = report["failures"] if silent == "read" else [report["error"]]
        assert problem["code"] == "shutting_down"
        assert report["assigned"] == report["failed"]

    def test_two_runs_that_are_told_to_end_both_answer(self, serve: Serve, put: Put, proxy: Proxy) -> None:
        for index in range(10):
            put(f"in/{index}.jpg", SMALL)
        client, service = serve(Shutdown(images=0.3), concurrency=2)
        reading = threading.Event()

        def hang(kind: str, _: str) -> Fault:
            if kind == "read":
                reading.set()
                return Harm.STALL
            return None

        proxy.fault = hang
        with ThreadPoolExecutor(2) as callers:
            answers = [callers.submit(client.post, "/run", json={"overwrite": True}) for _ in range(2)]
            assert reading.wait(20)
            service.close()
            for answer in answers:
                assert answer.result(20).status_code == 503
                report = answer.result().json()
                assert report["assigned"] == report["failed"]
                # The second may not have come to its first image.
                assert report["failed"] or report["error"]["code"] == "shutting_down"

    def test_a_run_that_is_told_to_end_says_what_is_left(self, serve: Serve, put: Put, proxy: Proxy) -> None:
        for index in range(40):
            put(f"in/{index:02}.jpg", SMALL)
        client, service = serve(concurrency=2)
        proxy.fault = lambda kind, _: service.stop.set() if kind == "write" else None
        answer = client.post("/run")
        assert answer.status_code == 503
        report = answer.json()
        assert report["failures"][0]["code"] == "shutting_down"
        assert 1 <= report["created"] < 40


class TestEvents:
    def test_one_upload_makes_one_thumbnail_in_the_hour_of_its_creation(
        self, serve: Serve, put: Put, proxy: Proxy, bucket: str
    ) -> None:
        resource = put("in/a/ünï #?%20 (1).jpg", jpeg())
        client, _ = serve()
        answer = deliver(client, resource)
        assert answer.status_code == 200
        thumbnail = f"gs://{bucket}/{hour_of(resource)}/ünï #?%20 (1).jpg"
        assert answer.json() == {
            "outcome": "created",
            "source": f"gs://{bucket}/in/a/ünï #?%20 (1).jpg",
            "thumbnail": thumbnail,
        }
        proxy.requests.pop("connection")
        assert proxy.requests == {"read": 1, "write": 1}
        assert deliver(client, resource).json()["outcome"] == "skipped"

    def test_a_damaged_picture_that_is_shown_says_so_in_the_answer(self, serve: Serve, put: Put) -> None:
        resource = put("in/cut.jpg", jpeg()[:-200])
        client, _ = serve(damaged="show")
        for outcome in ("created", "skipped"):
            answer = deliver(client, resource).json()
            assert (answer["outcome"], answer["damaged"]) == (outcome, True)
        found = client.get("/thumbnails", params={"source": answer["source"]}).json()["thumbnails"]
        assert [each["damaged"] for each in found] == [True]
        client, _ = serve()
        assert deliver(client, resource).json()["code"] == "corrupt_image"

    def test_every_envelope_makes_the_same_thumbnail(self, serve: Serve, put: Put, bucket: str) -> None:
        resource = put("in/a.jpg", jpeg())
        client, _ = serve()
        attributes = {
            "eventType": "OBJECT_FINALIZE",
            "bucketId": bucket,
            "objectId": "in/a.jpg",
            "objectGeneration": resource["generation"],
            "payloadFormat": "JSON_API_V1",
        }
        data = base64.b64encode(json.dumps(resource).encode()).decode()
        published = {"ce-type": "google.cloud.pubsub.topic.v1.messagePublished"}
        audited = {"ce-type": "google.cloud.audit.log.v1.written"}
        entry = {
            "protoPayload": {
                "methodName": "storage.objects.create",
                "resourceName": f"projects/_/buckets/{bucket}/objects/in/a.jpg",
            }
        }
        answers = [
            deliver(client, resource),
            client.post("/events", json=structured(resource), headers={"Content-Type": "application/cloudevents+json"}),
            push(client, attributes=attributes, data=data),
            push(client, attributes=attributes | {"payloadFormat": "NONE"}),
            deliver(client, {"message": {"attributes": attributes, "data": data}}, **published),
            deliver(client, entry, **audited),
            client.post("/events", json=resource, headers=attributes),
            client.post("/events", json=resource),
            client.post("/events", headers=attributes | {"payloadFormat": "NONE"}),
        ]
        assert [answer.status_code for answer in answers] == [200] * 9
        assert [answer.json()["outcome"] for answer in answers] == ["created"] + ["skipped"] * 8
        assert len({answer.json()["thumbnail"] for answer in answers}) == 1

    def test_an_unwrapped_push_about_a_deletion_is_ignored_with_metadata_and_without(
        self, serve: Serve, put: Put, emulator: str, bucket: str
    ) -> None:
        resource = put("in/a.jpg", jpeg())
        httpx.delete(f"{emulator}/storage/v1/b/{bucket}/o/in%2Fa.jpg").raise_for_status()
        client, _ = serve()
        told = client.post("/events", json=resource, headers={"eventType": "OBJECT_DELETE"})
        assert (told.status_code, told.json()["outcome"]) == (200, "ignored")
        assert "OBJECT_DELETE" in told.json()["reason"]
        found = client.post("/events", json=resource)
        assert (found.status_code, found.json()["outcome"]) == (200, "ignored")
        assert "gone" in found.json()["reason"]

    def test_a_body_in_protobuf_is_told_which_setting_of_the_trigger_to_change(self, serve: Serve, put: Put) -> None:
        client, _ = serve()
        answer = deliver(client, put("in/a.jpg", SMALL), **{"Content-Type": "application/protobuf"})
        assert (answer.status_code, answer.json()["outcome"]) == (200, "rejected")
        assert "--event-data-content-type=application/json" in answer.json()["reason"]

    def test_a_batch_is_answered_event_by_event(self, serve: Serve, put: Put, bucket: str) -> None:
        events = [structured(put(f"in/{name}", data)) for name, data in (("a.jpg", SMALL), ("b.jpg", b"no image"))]
        events += [structured({"bucket": bucket, "name": "other/c.jpg"}), {"specversion": "1.0"}]
        client, _ = serve()
        answer = post_batch(client, events)
        assert answer.status_code == 200
        assert [one["outcome"] for one in answer.json()] == ["created", "rejected", "ignored", "rejected"]
        assert answer.json()[0]["source"] == f"gs://{bucket}/in/a.jpg"
        assert answer.json()[1]["code"] == "unsupported_format"
        assert answer.json()[3]["code"] == "unusable_event"
        assert (post_batch(client, []).status_code, post_batch(client, []).json()) == (200, [])
        refused = post_batch(client, {})
        assert (refused.status_code, refused.json()["outcome"]) == (200, "rejected")

    @pytest.mark.usefixtures("impatient")
    def test_a_batch_with_a_failure_is_to_be_delivered_again_and_then_does_the_rest(
        self, serve: Serve, put: Put, proxy: Proxy, bucket: str
    ) -> None:
        events = [structured(put(f"in/{index}.jpg", SMALL)) for index in range(3)]
        client, service = serve()
        proxy.fault = lambda kind, name: 503 if kind == "read" and "1.jpg" in name else None
        answer = post_batch(client, events)
        assert answer.status_code == 503
        assert [one["outcome"] for one in answer.json()] == ["created", "failed", "created"]
        failed = answer.json()[1]
        assert (failed["source"], failed["code"]) == (f"gs://{bucket}/in/1.jpg", "storage_unavailable")
        assert "Retry-After" not in answer.headers
        proxy.fault = lambda *_: None
        again = post_batch(client, events)
        assert (again.status_code, [one["outcome"] for one in again.json()]) == (200, ["skipped", "created", "skipped"])
        service.stop.set()
        ending = post_batch(client, events)
        assert (ending.status_code, ending.headers["Retry-After"]) == (503, "1")
        assert {one["code"] for one in ending.json()} == {"shutting_down"}

    def test_a_defect_in_one_event_of_a_batch_takes_no_place_from_later_events(
        self, serve: Serve, put: Put, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        large = [put(f"in/{index}.jpg", SMALL + bytes(SMALL_BYTES)) for index in range(5)]
        client, service = serve(concurrency=3)
        process = service.thumbnailer.process_event

        def fail_once(event: ObjectFinalized) -> Outcome:
            if event.location.name == "in/0.jpg":
                raise KeyError(event)
            return process(event)

        monkeypatch.setattr(service.thumbnailer, "process_event", fail_once)
        assert post_batch(client, [structured(resource) for resource in large]).status_code == 500
        monkeypatch.undo()
        monkeypatch.setattr("service.web.events._PLACE_WAIT_SECONDS", 10)
        # The server closes a connection on which it had a defect.
        with httpx.Client(base_url=client.base_url, timeout=60) as other:
            answers = post_batch(other, [structured(resource) for resource in large]).json()
        assert {answer["outcome"] for answer in answers} <= {"created", "skipped"}

    def test_several_sizes_are_all_named(self, serve: Serve, put: Put) -> None:
        client, _ = serve(thumbnail_sizes="100x100,20x20")
        answer = deliver(client, put("in/a.jpg", jpeg())).json()
        assert [name.split("/")[-2] for name in answer["thumbnails"]] == ["100x100", "20x20"]
        assert answer["thumbnail"] == answer["thumbnails"][0]

    @pytest.mark.parametrize(
        ("name", "content_type", "reason"),
        [
            ("other/a.jpg", "image/jpeg", "outside"),
            ("index/a.jpg", "image/jpeg", "outside"),
            ("in/notes.txt", "text/plain", "not an image"),
            ("in/sub/", "text/plain", "placeholder"),
        ],
    )
    def test_what_is_not_ours_is_ignored_unread(
        self, serve: Serve, put: Put, proxy: Proxy, name: str, content_type: str, reason: str
    ) -> None:
        client, _ = serve()
        answer = deliver(client, put(name, SMALL, content_type))
        assert (answer.status_code, answer.json()["outcome"]) == (200, "ignored")
        assert reason in answer.json()["reason"]
        assert not proxy.requests

    def test_what_include_and_exclude_leave_out_is_ignored_unasked(
        self, serve: Serve, put: Put, proxy: Proxy, bucket: str
    ) -> None:
        client, _ = serve(include="**/*.{jpg,png}", exclude="**/@eaDir/**")
        for name, reason in (("in/x.gif", "INCLUDE"), ("in/a b/@eaDir/é.jpg", "EXCLUDE"), ("in/100%.png", None)):
            resource = put(name, SMALL)
            proxy.requests.clear()
            answer = deliver(client, resource)
            assert answer.status_code == 200
            assert answer.json()["outcome"] == ("ignored" if reason else "created")
            assert (reason or "") in answer.json().get("reason", "")
            assert bool(proxy.requests) == (reason is None)
        notification = {"eventType": "OBJECT_FINALIZE", "bucketId": bucket, "objectId": "in/y.gif"}
        assert push(client, attributes=notification).json()["outcome"] == "ignored"

    def test_the_event_of_our_own_thumbnail_is_ignored_unread(
        self, serve: Serve, put: Put, proxy: Proxy, bucket: str
    ) -> None:
        client, _ = serve(input_folder=f"gs://{bucket}")
        thumbnail = put("20251203T15Z/a.jpg", SMALL)
        bookkeeping = put("thumbnail-runs/x/plan.jpg", SMALL)
        marked = put("elsewhere/a.jpg", SMALL) | {"metadata": {"thumbnail-source": "gs://x/y.jpg"}}
        for resource in (thumbnail, bookkeeping, marked):
            assert deliver(client, resource).json()["outcome"] == "ignored"
        assert not proxy.requests

    def test_another_event_type_is_ignored(self, serve: Serve, put: Put) -> None:
        client, _ = serve()
        resource = put("in/a.jpg", SMALL)
        answer = deliver(client, resource, **{"ce-type": "google.cloud.storage.object.v1.deleted"})
        assert (answer.status_code, answer.json()["outcome"]) == (200, "ignored")
        assert push(client, attributes={"eventType": "OBJECT_DELETE"}).json()["outcome"] == "ignored"

    @pytest.mark.parametrize(
        ("data", "code"),
        [
            (b"", "empty_object"),
            (b"hello", "unsupported_format"),
            (jpeg()[:-500], "corrupt_image"),
            (b"\xff" * 70_000, "source_too_large"),
            (jpeg(1100, 1000), "picture_too_large"),
        ],
    )
    def test_an_image_that_will_never_work_is_acknowledged_with_the_reason(
        self, serve: Serve, put: Put, data: bytes, code: str
    ) -> None:
        client, _ = serve(max_source_bytes="64KiB", max_image_pixels=1_000_000)
        with capture_logs() as logs:
            answer = deliver(client, put("in/a.jpg", data))
        assert (answer.status_code, answer.json()["outcome"], answer.json()["code"]) == (200, "rejected", code)
        assert answer.json()["reason"]
        assert ("error", code) in [(line["log_level"], line["code"]) for line in logs]

    def test_an_object_deleted_before_its_event_came_is_ignored(
        self, serve: Serve, put: Put, emulator: str, bucket: str
    ) -> None:
        client, _ = serve()
        resource = put("in/a.jpg", SMALL)
        assert httpx.delete(f"{emulator}/storage/v1/b/{bucket}/o/in%2Fa.jpg").is_success
        answer = deliver(client, resource)
        assert (answer.status_code, answer.json()["outcome"]) == (200, "ignored")
        assert "gone" in answer.json()["reason"]

    def test_an_object_overwritten_before_its_event_came_is_left_to_the_newer_event(
        self, serve: Serve, put: Put, emulator: str, bucket: str
    ) -> None:
        client, _ = serve()
        old = put("in/a.jpg", jpeg(400, 300))
        new = put("in/a.jpg", jpeg(300, 400))
        assert deliver(client, old).json()["outcome"] == "ignored"
        assert deliver(client, new).json()["outcome"] == "created"
        assert deliver(client, old).json()["outcome"] == "ignored"
        thumbnail = httpx.get(f"{emulator}/storage/v1/b/{bucket}/o/{hour_of(new)}%2Fa.jpg", params={"alt": "media"})
        assert opened(thumbnail.content).size == (75, 100)

    @pytest.mark.parametrize(
        ("headers", "body"),
        [
            ({"ce-type": FINALIZED, "ce-source": "s", "ce-id": "1", "ce-specversion": "1.0"}, "{oops"),
            ({"ce-type": FINALIZED, "ce-source": "s", "ce-id": "1", "ce-specversion": "1.0"}, "{}"),
            ({"ce-source": "s", "ce-id": "1", "ce-specversion": "1.0"}, "{}"),
            ({"Content-Type": "application/cloudevents+json"}, "{oops"),
            ({}, '{"message": {"attributes": {"eventType": "OBJECT_FINALIZE"}, "data": "!!!"}}'),
            ({}, '{"message": {"attributes": {"eventType": "OBJECT_FINALIZE"}, "data": "e29vcHM="}}'),
            ({}, '{"message": {"attributes": {"eventType": "OBJECT_FINALIZE"}}}'),
            ({}, '{"message": {}}'),
            ({}, '{"message": {"attributes": {"eventType": "\\ud800"}}}'),
            ({"Content-Type": "application/cloudevents+json"}, '{"type": "\\ud800", "source": "s", "data": {}}'),
            ({"Content-Type": "application/cloudevents+json"}, "[" * 100_000),
            ({"ce-type": FINALIZED, "ce-source": "s", "ce-id": "1", "ce-specversion": "1.0"}, "[" * 100_000),
        ],
    )
    def test_an_envelope_that_cannot_be_used_is_acknowledged_with_the_reason(
        self, serve: Serve, headers: dict[str, str], body: str
    ) -> None:
        client, _ = serve()
        with capture_logs() as logs:
            answer = client.post("/events", content=body, headers=headers)
        assert (answer.status_code, answer.json()["outcome"]) == (200, "rejected")
        assert answer.json()["reason"]
        assert "error" in [line["log_level"] for line in logs]

    def test_an_object_that_storage_calls_wrong_is_rejected(
        self, serve: Serve, put: Put, proxy: Proxy, bucket: str
    ) -> None:
        put("in/a.jpg", SMALL)
        client, _ = serve()
        proxy.fault = lambda kind, _: 400 if kind == "stat" else None
        answer = deliver(client, {"bucket": bucket, "name": "in/a.jpg", "generation": 10**30})
        assert (answer.status_code, answer.json()["outcome"], answer.json()["code"]) == (
            200,
            "rejected",
            "storage_refused",
        )

    def test_an_output_bucket_that_does_not_exist_has_the_event_delivered_again(self, serve: Serve, put: Put) -> None:
        client, _ = serve(output_bucket="no-such-bucket")
        answer = deliver(client, put("in/a.jpg", SMALL))
        assert (answer.status_code, answer.json()["code"]) == (503, "bucket_not_found")

    @pytest.mark.parametrize("body", ["", "{}", "hello", "[" * 100_000, "[]", '{"bucket": "b", "name": "in/a.jpg"}'])
    def test_what_is_no_envelope_at_all_is_told_what_is_expected(self, serve: Serve, body: str) -> None:
        client, _ = serve()
        answer = client.post("/events", content=body)
        assert answer.status_code == 400
        assert "ce-type" in answer.json()["reason"]

    @pytest.mark.usefixtures("impatient")
    @pytest.mark.parametrize("kind", ["read", "write"])
    @pytest.mark.parametrize("fault", [503, 429, 403, Harm.STALL])
    def test_a_storage_failure_has_the_event_delivered_again(
        self, serve: Serve, put: Put, proxy: Proxy, kind: str, fault: Fault
    ) -> None:
        client, _ = serve()
        resource = put("in/a.jpg", SMALL)
        proxy.fault = lambda asked, _: fault if asked == kind else None
        answer = deliver(client, resource)
        assert answer.status_code == 503
        assert answer.json()["code"] == ("permission_missing" if fault == 403 else "storage_unavailable")
        proxy.fault = lambda *_: None
        assert deliver(client, resource).json()["outcome"] == "created"

    def test_an_event_that_waits_too_long_for_its_turn_is_told_when_to_come_back(
        self, serve: Serve, put: Put, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("service.web.events._PLACE_WAIT_SECONDS", 0.1)
        client, service = serve(concurrency=1)
        resource = put("in/a.jpg", SMALL)
        free = threading.Event()
        service.executor.submit(free.wait, 20)
        try:
            answer = deliver(client, resource)
            assert answer.status_code == 503
            assert int(answer.headers["Retry-After"]) > 0
            assert client.get("/health").status_code == 200
        finally:
            free.set()
        assert deliver(client, resource).json()["outcome"] == "created"
        assert proxy.requests["read"] == 1

    def test_an_event_that_comes_as_the_process_ends_is_for_another_instance(self, serve: Serve, put: Put) -> None:
        client, service = serve()
        resource = put("in/a.jpg", SMALL)
        service.stop.set()
        answer = deliver(client, resource)
        assert (answer.status_code, answer.json()["code"]) == (503, "shutting_down")

    def test_a_defect_answers_500_and_keeps_its_text_in_the_log(
        self, serve: Serve, put: Put, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        logged: queue.Queue[logging.LogRecord] = queue.Queue()
        monkeypatch.setattr(logging.getLogger("uvicorn.error"), "handlers", [QueueHandler(logged)])

        def broken(*_: object, **__: object) -> None:
            raise TypeError("secret")

        monkeypatch.setattr("service.images.pool._thumbnails", broken)
        client, _ = serve()
        answer = deliver(client, put("in/a.jpg", SMALL))
        assert answer.status_code == 500
        assert "secret" not in answer.text
        assert answer.json()["code"] == "internal_error"
        while "TypeError: secret" not in logged.get(timeout=20).getMessage():
            pass
