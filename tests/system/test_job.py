"""The options of the job, and the job as a process that is told what to do by them."""

import itertools
import subprocess
import sys
from datetime import datetime, timedelta

import pytest

from service.job import main, parse_options
from service.runs.request import RunRequest
from service.settings import load_settings
from tests.conftest import Put
from tests.support.pictures import jpeg
from tests.support.proxy import Proxy
from tests.system.test_end_to_end import environment, report_of, thumbnails

SMALL = jpeg(16, 12)


def job(*options: str, **settings: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "service.job", *options],
        env=environment(**settings),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_each_field_of_a_request_is_an_option() -> None:
    given = {
        "input_folder": "gs://photos/in/a b",
        "task_index": 1,
        "task_count": 3,
        "timestamp": "created",
        "since": "36h",
        "run_id": "mine",
        "overwrite": True,
        "dry_run": True,
        "max_dollars": 2.5,
    }
    assert set(given) == set(RunRequest.model_fields)
    names = {name: f"--{name.replace('_', '-')}" for name in given}
    joined = [names[name] if value is True else f"{names[name]}={value}" for name, value in given.items()]
    apart = [word for name, value in given.items() for word in (names[name], str(value).removesuffix("True"))]
    assert parse_options(joined) == parse_options([word for word in apart if word]) == RunRequest.model_validate(given)


def test_no_options_are_an_empty_request() -> None:
    assert parse_options([]) == RunRequest()
    assert parse_options(["--dry-run=false", "--overwrite=true"]) == RunRequest(overwrite=True)
    assert parse_options(["--since=1h", "--since=2h"]) == RunRequest(since="2h")


@pytest.mark.parametrize(
    "option",
    [
        "--nonsense=1",
        "--task_index=1",
        "--task-ind=1",
        "--task-index=one",
        "--task-index=0.5",
        "--task-index=",
        f"--task-count={'9' * 5000}",
        "--dry-run=perhaps",
        "--since",
        "--max-dollars=much",
        "in",
        "-x",
    ],
)
def test_a_wrong_option_ends_with_a_line_that_names_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, option: str
) -> None:
    # Options come first: nothing is set up, nor are the settings asked.
    monkeypatch.delenv("INPUT_FOLDER", raising=False)
    with pytest.raises(SystemExit) as ended:
        main([option])
    assert ended.value.code == 2
    said = capsys.readouterr()
    assert not said.out
    assert option.partition("=")[0] in said.err
    assert said.err.count("\n") == 1
    assert len(said.err) < 1300


@pytest.mark.parametrize(
    "option",
    [
        "--timestamp=today",
        "--timestamp=",
        "--since=yesterday",
        "--since=2099-01-01T00:00:00Z",
        "--since=2025-01-01",
        "--since=",
        "--task-index=4",
        "--task-index=-1",
        "--task-count=0",
        "--run-id=a/b",
        "--max-dollars=-1",
        "--max-dollars=nan",
        "--run-id=",
        "--input-folder=photos",
        "--input-folder=gs://photos/index",
        "--input-folder=gs://other/in",
        "--input-folder=gs://photos/in/\udcff",
    ],
)
def test_a_wrong_value_does_too_before_storage_is_asked(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, option: str
) -> None:
    monkeypatch.setenv("INPUT_FOLDER", "gs://photos/in")
    monkeypatch.setattr("service.job.begin", load_settings)
    monkeypatch.setattr("service.job.build", None)
    assert main([option]) == 2
    said = capsys.readouterr()
    assert said.err.startswith(f"{option.partition('=')[0]}: ")
    assert said.err.count("\n") == 1


def test_the_help_has_a_line_for_each_option_and_the_exit_statuses() -> None:
    done = job("--help")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    for name, field in RunRequest.model_fields.items():
        (line,) = [line for line in lines if line.strip().startswith(f"--{name.replace('_', '-')} ")]
        assert (field.description or "").split()[0] in line
    assert [line.split()[0] for line in lines[lines.index("exit status:") + 1 :][:3]] == ["0", "1", "2"]
    assert "--timestamp=created --since=36h" in lines[-1]


def test_options_beat_the_environment(emulator: str, bucket: str, put: Put) -> None:
    resources = [put(f"in/{folder}/{index}.jpg", SMALL) for folder in ("a", "b c") for index in range(4)]
    settings = {
        "INPUT_FOLDER": f"gs://{bucket}/in",
        "STORAGE_EMULATOR_HOST": emulator,
        "TIMESTAMP": "20251203T15Z",
        "CLOUD_RUN_TASK_INDEX": "3",
        "CLOUD_RUN_TASK_COUNT": "7",
        "CLOUD_RUN_EXECUTION": "thumbs-abcde",
    }
    options = [f"--input-folder=gs://{bucket}/in/b c", "--timestamp=created", "--task-index=1", "--task-count=2"]
    planned = job(*options, "--run-id=planned", "--dry-run", **settings)
    assert planned.returncode == 0, planned.stderr
    assert not thumbnails(emulator, bucket)
    done = job(*options, "--run-id=mine", **settings)
    assert done.returncode == 0, done.stderr
    report = report_of(done.stdout)
    assert (report["run_id"], report["timestamp"], report["task_index"], report["task_count"]) == (
        "mine",
        "created",
        1,
        2,
    )
    assert (report["discovered"], report["created"]) == (4, 2)
    assert report_of(planned.stdout)["created"] == 2
    assert report_of(planned.stdout)["estimate"]["media_reads"] == 2
    assert "estimate" not in report
    hour = f"{datetime.fromisoformat(resources[-1]['timeCreated']):%Y%m%dT%HZ}"
    assert {item["name"] for item in thumbnails(emulator, bucket)} == {f"{hour}/2.jpg", f"{hour}/3.jpg"}


def test_a_job_whose_id_another_task_takes_meanwhile_ends_with_the_option_to_mend(
    emulator: str, bucket: str, put: Put, proxy: Proxy
) -> None:
    put("in/a.jpg", SMALL)
    settings = {"INPUT_FOLDER": f"gs://{bucket}/in", "CLOUD_RUN_EXECUTION": "thumbs-abcde"}
    lists = itertools.count()

    def be_first(kind: str, _: str) -> None:
        # No plan was there, and the folder's first page is on its way.
        if kind == "list" and next(lists) == 0:
            assert job("--timestamp=created", STORAGE_EMULATOR_HOST=emulator, **settings).returncode == 0

    proxy.fault = be_first
    done = job("--timestamp=20251203T15Z", STORAGE_EMULATOR_HOST=proxy.url, **settings)
    assert done.returncode == 2
    end = report_of(done.stdout)
    assert end["code"] == "invalid_value"
    assert end["reason"].startswith("--timestamp: '20251203T15Z' is not what the run 'thumbs-abcde' was planned with")


def test_a_nightly_repair_with_globs_and_an_overwrite(emulator: str, bucket: str, put: Put) -> None:
    for name in ("in/a.jpg", "in/b.jpg", "in/@eaDir/a.jpg"):
        resource = put(name, SMALL)
    settings = {"INPUT_FOLDER": f"gs://{bucket}/in", "STORAGE_EMULATOR_HOST": emulator, "EXCLUDE": "**/@eaDir/**"}
    counts = ("discovered", "created", "skipped", "left_out")

    def repair(*options: str) -> list[int]:
        done = job("--timestamp=created", *options, **settings)
        assert done.returncode == 0, done.stderr
        report = report_of(done.stdout)
        return [report[count] for count in counts]

    assert repair("--since=36h") == [2, 2, 0, 1]
    assert repair("--since", "36h") == [2, 0, 2, 1]
    assert repair("--overwrite") == [2, 2, 0, 1]
    late = datetime.fromisoformat(resource["timeCreated"]) + timedelta(microseconds=1)
    assert repair(f"--since={late.isoformat()}") == [0, 0, 0, 3]


def test_a_wrong_option_ends_the_process_without_a_log(emulator: str, bucket: str) -> None:
    settings = {"INPUT_FOLDER": f"gs://{bucket}/in", "STORAGE_EMULATOR_HOST": emulator}
    for option in ("--nonsense=1", "--input-folder=gs://other/in"):
        done = job(option, **settings)
        assert (done.returncode, done.stdout) == (2, "")
        assert option.partition("=")[0] in done.stderr
        assert len(done.stderr.splitlines()) == 1


def test_a_glob_that_is_wrong_ends_the_process() -> None:
    done = job(INPUT_FOLDER="gs://photos/in", INCLUDE="**/*.jpg, [a-", EXCLUDE="{a,b")
    assert (done.returncode, done.stdout) == (2, "")
    exclude, include = done.stderr.splitlines()
    assert exclude.startswith("EXCLUDE: ")
    assert include.startswith("INCLUDE: ")
    assert "'[a-'" in include


def test_a_run_that_costs_more_than_it_may_ends_with_status_2(emulator: str, bucket: str, put: Put) -> None:
    for index in range(3):
        put(f"in/{index}.jpg", SMALL)
    settings = {"INPUT_FOLDER": f"gs://{bucket}/in", "STORAGE_EMULATOR_HOST": emulator}
    refused = job("--max-dollars=0", **settings)
    assert refused.returncode == 2
    assert report_of(refused.stdout)["reason"].startswith("--max-dollars: 0.0 does not pay")
    stopped = job(MAX_RUN_DOLLARS="0.00004", PRICES='{"vcpu_second": 0, "gib_second": 0}', **settings)
    assert stopped.returncode == 2
    report = report_of(stopped.stdout)
    assert report["error"]["code"] == "too_expensive"
    assert report["created"] < 3
    done = job("--max-dollars=1", MAX_RUN_DOLLARS="0.00004", **settings)
    assert done.returncode == 0
