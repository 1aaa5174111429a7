"""The real programs as processes, against the emulators: the server, the job, one upload's way through Pub/Sub."""

import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.demo.network import free_port, local_client
from service.demo.processes import service_process
from service.demo.pubsub import create_push_subscription, pubsub_emulator, pubsub_missing
from service.demo.storage import list_objects, make_bucket, storage_emulator, upload
from service.naming import BOOKKEEPING_FOLDER, Hour, is_output
from tests.conftest import Put
from tests.support.pictures import jpeg
from tests.support.proxy import Fault, Harm, Proxy
from tests.support.waiting import until

SMALL = jpeg(16, 12)


def environment(**settings: str) -> dict[str, str]:
    """This process's environment without what the service reads, and with these settings."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("CLOUD_RUN_", "STORAGE_"))}
    return kept | {"PYTHONWARNINGS": "error"} | settings


def job(**settings: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "service.job"],
        env=environment(**settings),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def report_of(output: str) -> dict[str, Any]:
    """The line of a job's log that says how its run went."""
    (line,) = [line for line in map(json.loads, output.splitlines()) if line["message"] == "run ended"]
    return dict(line)


def thumbnails(emulator: str, bucket: str) -> list[dict[str, Any]]:
    """What is in the hour folders."""
    found = [item for item in list_objects(emulator, bucket) if is_output(item["name"])]
    return [item for item in found if not item["name"].startswith(BOOKKEEPING_FOLDER)]


def answers(log: Path) -> list[dict[str, Any]]:
    """The lines of a service's log that say how events were answered."""
    return [line for line in map(json.loads, log.read_text().splitlines()) if line["message"] == "event"]


@pytest.mark.parametrize("program", ["service", "service.job"])
def test_wrong_settings_end_the_program_with_all_that_is_wrong(program: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", program],
        env=environment(THUMBNAIL_SIZES="big", OUTPUT_QUALITY="no"),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 2
    assert [line.partition(":")[0] for line in done.stderr.splitlines()] == [
        "INPUT_FOLDER",
        "OUTPUT_QUALITY",
        "THUMBNAIL_SIZES",
    ]


def test_the_server_serves_and_ends_in_order_when_it_is_told_to(emulator: str, bucket: str, put: Put) -> None:
    put("in/a.jpg", SMALL)
    settings = {"INPUT_FOLDER": f"gs://{bucket}/in", "STORAGE_EMULATOR_HOST": emulator, "PYTHONWARNINGS": "error"}
    with service_process(settings) as service:
        assert httpx.post(f"{service.url}/run").json()["created"] == 1
        log = service.log
        os.kill(service.pid, signal.SIGTERM)
        _, status = os.waitpid(service.pid, 0)
        lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert os.waitstatus_to_exitcode(status) == 0
    assert {"severity", "message", "time"} <= set(lines[0])
    assert any(line["message"] == "run ended" for line in lines)


def test_three_tasks_of_the_job_share_the_folder(emulator: str, bucket: str, put: Put) -> None:
    names = {f"in/{index % 4}/{index:03}.jpg" for index in range(100)}
    for name in names:
        put(name, SMALL)
    settings = {
        "INPUT_FOLDER": f"gs://{bucket}/in",
        "STORAGE_EMULATOR_HOST": emulator,
        "CLOUD_RUN_TASK_COUNT": "3",
        "CLOUD_RUN_EXECUTION": "thumbs-abcde",
    }
    tasks = [job(**settings, CLOUD_RUN_TASK_INDEX=str(index)) for index in range(3)]
    outputs = [task.communicate(timeout=60) for task in tasks]
    assert [task.returncode for task in tasks] == [0, 0, 0], outputs
    reports = [report_of(output) for output, _ in outputs]
    assert sorted(report["created"] for report in reports) == [33, 33, 34]
    assert {report["run_id"] for report in reports} == {"thumbs-abcde"}
    sources = [item["metadata"]["thumbnail-source"] for item in thumbnails(emulator, bucket)]
    assert sorted(sources) == sorted(f"gs://{bucket}/{name}" for name in names)


def test_an_image_that_will_never_work_does_not_fail_the_job(emulator: str, bucket: str, put: Put) -> None:
    put("in/bad.jpg", b"no image")
    task = job(INPUT_FOLDER=f"gs://{bucket}/in", STORAGE_EMULATOR_HOST=emulator)
    output, _ = task.communicate(timeout=60)
    assert task.returncode == 0
    assert report_of(output)["rejected"] == 1


def test_a_bucket_that_is_not_there_fails_the_job(emulator: str) -> None:
    task = job(INPUT_FOLDER="gs://no-such-bucket", STORAGE_EMULATOR_HOST=emulator)
    output, _ = task.communicate(timeout=60)
    assert task.returncode == 1
    assert "no bucket gs://no-such-bucket" in output


def test_what_may_work_later_fails_the_task_and_its_retry_does_the_rest(proxy: Proxy, bucket: str, put: Put) -> None:
    for index in range(5):
        put(f"in/{index}.jpg", SMALL)
    settings = {"INPUT_FOLDER": f"gs://{bucket}/in", "STORAGE_EMULATOR_HOST": proxy.url}
    proxy.fault = lambda kind, name: 403 if kind == "write" and "3.jpg" in name else None
    task = job(**settings)
    output, _ = task.communicate(timeout=60)
    assert task.returncode == 1
    assert (report_of(output)["created"], report_of(output)["failed"]) == (4, 1)
    proxy.fault = lambda *_: None
    task = job(**settings, CLOUD_RUN_TASK_ATTEMPT="1")
    output, _ = task.communicate(timeout=60)
    assert task.returncode == 0
    assert (report_of(output)["created"], report_of(output)["skipped"]) == (1, 4)


def test_a_job_that_is_told_to_end_finishes_what_is_in_flight(proxy: Proxy, bucket: str, put: Put) -> None:
    for index in range(30):
        put(f"in/{index:02}.jpg", SMALL)
    reading, told = threading.Event(), threading.Event()

    def hold(kind: str, _: str) -> None:
        if kind == "read":
            reading.set()
            told.wait(30)

    proxy.fault = hold
    task = job(INPUT_FOLDER=f"gs://{bucket}/in", STORAGE_EMULATOR_HOST=proxy.url, CONCURRENCY="2")
    assert reading.wait(30)
    task.send_signal(signal.SIGTERM)
    told.set()
    output, _ = task.communicate(timeout=60)
    assert task.returncode == 1
    report = report_of(output)
    assert report["failed"] == 1
    assert report["assigned"] == report["created"] + report["failed"] < 30


@pytest.mark.slow
@pytest.mark.parametrize("silent", ["list", "read"])
@pytest.mark.parametrize("program", ["service", "service.job"])
def test_a_program_that_is_told_to_end_ends_within_ten_seconds_though_storage_hangs(
    proxy: Proxy, bucket: str, put: Put, silent: str, program: str
) -> None:
    put("in/a.jpg", SMALL)
    hanging = threading.Event()

    def hang(kind: str, _: str) -> Fault:
        if kind == silent:
            hanging.set()
            return Harm.STALL
        return None

    proxy.fault = hang
    settings = {"INPUT_FOLDER": f"gs://{bucket}/in", "STORAGE_EMULATOR_HOST": proxy.url}
    if program == "service.job":
        task = job(**settings)
        assert hanging.wait(30)
        started = time.monotonic()
        task.send_signal(signal.SIGTERM)
        output, _ = task.communicate(timeout=60)
        assert task.returncode == 1
        assert "shutting_down" in output
    else:
        with service_process(settings) as service, ThreadPoolExecutor(1) as caller:
            answer = caller.submit(httpx.post, f"{service.url}/run", timeout=60)
            assert hanging.wait(30)
            started = time.monotonic()
            os.kill(service.pid, signal.SIGTERM)
            assert answer.result().status_code == 503
            assert "shutting_down" in answer.result().text
            os.waitpid(service.pid, 0)
    assert time.monotonic() - started < 9


@pytest.mark.slow
@pytest.mark.parametrize("silent", ["list", "read"])
def test_storage_that_does_not_answer_at_all_ends_in_503_within_a_minute(
    proxy: Proxy, bucket: str, put: Put, silent: str
) -> None:
    put("in/a.jpg", SMALL)
    proxy.fault = lambda kind, _: Harm.STALL if kind == silent else None
    with service_process({"INPUT_FOLDER": f"gs://{bucket}/in", "STORAGE_EMULATOR_HOST": proxy.url}) as service:
        started = time.monotonic()
        answer = httpx.post(f"{service.url}/run", timeout=100)
        assert answer.status_code == 503
        assert time.monotonic() - started < 60
        assert httpx.get(f"{service.url}/health").status_code == 200


@pytest.mark.skipif(pubsub_missing() is not None, reason=f"needs Google's Pub/Sub emulator: {pubsub_missing()}")
@pytest.mark.slow
def test_two_hundred_uploads_at_the_buckets_root_make_two_hundred_thumbnails_and_then_silence() -> None:
    """Upload, notification, push, thumbnail, its own notification, and no more: the loop that must not be."""
    # The topic has to be there before the first object, and the service before the subscription that pushes to it.
    with pubsub_emulator() as pubsub, storage_emulator(pubsub=pubsub) as storage:
        make_bucket(storage, "photos")
        settings = {"INPUT_FOLDER": "gs://photos", "STORAGE_EMULATOR_HOST": storage, "LOG_LEVEL": "DEBUG"}
        with service_process(settings) as service:
            create_push_subscription(pubsub, f"{service.url}/events")
            first = upload(storage, "photos", "first.jpg", SMALL, "image/jpeg")
            until(lambda: len(thumbnails(storage, "photos")) == 1)
            made = thumbnails(storage, "photos")[0]
            assert made["metadata"]["thumbnail-source"] == "gs://photos/first.jpg"
            assert made["metadata"]["thumbnail-source-generation"] == first["generation"]
            for index in range(199):
                upload(storage, "photos", f"{index % 5}/{index:03}.jpg", SMALL, "image/jpeg")
            until(lambda: len(answers(service.log)) >= 400, 60)
            counted = {
                outcome: len(list(group))
                for outcome, group in itertools.groupby(sorted(line["outcome"] for line in answers(service.log)))
            }
            assert counted == {"created": 200, "ignored": 200}
            assert len(thumbnails(storage, "photos")) == 200
            # Silence: a further upload's two notifications are the only ones that come after it.
            upload(storage, "photos", "last.jpg", SMALL, "image/jpeg")
            until(lambda: len(answers(service.log)) >= 402)
            with local_client() as client:
                assert client.get(f"{service.url}/health").status_code == 200
            assert len(answers(service.log)) == 402
            assert len(thumbnails(storage, "photos")) == 201
            assert {Hour.parse(item["name"].partition("/")[0], "hour") for item in thumbnails(storage, "photos")}


def test_without_credentials_the_server_ends_with_what_to_do(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "service"],
        env=environment(
            INPUT_FOLDER="gs://photos/in",
            PORT=str(free_port()),
            GOOGLE_APPLICATION_CREDENTIALS=str(tmp_path / "none.json"),
        ),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 2
    assert "gcloud auth application-default login" in done.stderr
