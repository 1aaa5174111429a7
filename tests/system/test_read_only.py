"""The real programs on a read-only root file system and without capabilities, as careful platforms run containers."""

import json
import os
import signal
import subprocess
import sys

import httpx
import pytest

from service.demo.network import local_client
from service.demo.processes import service_process
from tests.conftest import Put
from tests.support.eventarc import deliver
from tests.support.pictures import jpeg
from tests.support.read_only import confined, confinement_missing
from tests.system.test_end_to_end import environment, report_of, thumbnails

PICTURE = jpeg(640, 480)
HOUR = "20260101T00Z"


@pytest.fixture(autouse=True)
def _confinable(monkeypatch: pytest.MonkeyPatch) -> None:
    if missing := confinement_missing():
        pytest.skip(missing)
    # Coverage would write what it measured in these processes.
    for name in ("COVERAGE_PROCESS_START", "COVERAGE_PROCESS_CONFIG"):
        monkeypatch.delenv(name, raising=False)


def test_the_service_thumbnails_shows_and_ends_in_order(emulator: str, bucket: str, put: Put) -> None:
    put("in/old.jpg", PICTURE)
    settings = {"INPUT_FOLDER": f"gs://{bucket}/in", "STORAGE_EMULATOR_HOST": emulator, "PYTHONWARNINGS": "error"}
    command = confined([sys.executable, "-m", "service"])
    with (
        service_process(settings, command=command) as service,
        local_client() as client,
    ):
        client.base_url = httpx.URL(service.url)
        assert client.post("/run", json={"timestamp": HOUR}).json()["created"] == 1
        put("in/new.jpg", PICTURE)
        assert deliver(client, {"bucket": bucket, "name": "in/new.jpg"}).json()["outcome"] == "created"
        for page in ("/", "/runs", "/hours", f"/hours/{HOUR}", f"/hours/{HOUR}/old.jpg", "/docs"):
            assert client.get(page, headers={"Accept": "text/html,*/*"}).status_code == 200, page
        os.kill(service.pid, signal.SIGTERM)
        _, status = os.waitpid(service.pid, 0)
        problems = [
            line for line in map(json.loads, service.log.read_text().splitlines()) if line["severity"] != "INFO"
        ]
    assert os.waitstatus_to_exitcode(status) == 0
    assert not problems
    assert len(thumbnails(emulator, bucket)) == 2


def test_the_job_thumbnails_its_chunk(emulator: str, bucket: str, put: Put) -> None:
    for index in range(5):
        put(f"in/{index}.jpg", PICTURE)
    settings = {
        "INPUT_FOLDER": f"gs://{bucket}/in",
        "STORAGE_EMULATOR_HOST": emulator,
        "CLOUD_RUN_TASK_INDEX": "0",
        "CLOUD_RUN_TASK_COUNT": "1",
    }
    done = subprocess.run(
        confined([sys.executable, "-m", "service.job"]),
        env=environment(**settings),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert report_of(done.stdout)["created"] == 5
