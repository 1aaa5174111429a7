import json
import logging
import os
import queue
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
from structlog.contextvars import get_contextvars

from service.demo.processes import service_process
from tests.conftest import Put, Serve
from tests.support.eventarc import deliver
from tests.support.pictures import jpeg
from tests.support.proxy import Proxy

TRACE = "0af7651916cd43dd8448eb211c80319c"
SPAN = "b7ad6b7169203331"
SECRET = "ya29.a-token-that-nobody-may-see"  # noqa: S105 - it is what is looked for

PROGRAM = """
import os, sys, logging
from service.telemetry.logs import configure_logs, divert_native_output
import structlog

configure_logs("DEBUG", {form!r}, "my-project")
divert_native_output()
log = structlog.get_logger()
log.info("hello", source="gs://b/x.jpg", run="r1")
log.debug("a detail")
logging.getLogger("library").warning("of a library: %s", 7)
try:
    1 / 0
except ZeroDivisionError:
    log.exception("it failed")
"""


def lines_of(program: str, form: str = "json") -> tuple[list[str], str]:
    done = subprocess.run(
        [sys.executable, "-c", program.format(form=form)], capture_output=True, text=True, check=False, timeout=60
    )
    return done.stdout.splitlines(), done.stderr


def test_each_line_is_one_json_object_as_cloud_logging_reads_it() -> None:
    lines, _ = lines_of(PROGRAM)
    hello, detail, warning, failure = map(json.loads, lines)
    assert (hello["severity"], hello["message"]) == ("INFO", "hello")
    assert (hello["source"], hello["run"]) == ("gs://b/x.jpg", "r1")
    assert hello["time"].endswith("Z")
    assert (detail["severity"], detail["message"]) == ("DEBUG", "a detail")
    assert (warning["severity"], warning["message"]) == ("WARNING", "of a library: 7")
    assert failure["severity"] == "ERROR"
    assert "ZeroDivisionError" in failure["message"]


def test_on_a_console_lines_are_for_people() -> None:
    lines, _ = lines_of(PROGRAM, "console")
    assert "hello" in lines[0]
    assert not lines[0].startswith("{")


def test_what_native_code_prints_becomes_lines_of_the_log_and_pythons_own_stderr_stays() -> None:
    lines, errors = lines_of(
        PROGRAM + 'os.write(2, b"TIFFReadDirectory: odd\\nand another\\n")\n'
        'sys.stderr.write("python itself\\n")\n'
        "os.close(2)\n"
        "import threading\n"
        "[thread.join() for thread in threading.enumerate() if thread.daemon]\n"
        'raise RuntimeError("the end")'
    )
    native = [json.loads(line) for line in lines[4:]]
    assert [(line["severity"], line["message"]) for line in native] == [
        ("DEBUG", "TIFFReadDirectory: odd"),
        ("DEBUG", "and another"),
    ]
    assert "python itself" in errors
    assert "RuntimeError: the end" in errors


def test_native_code_that_prints_more_than_a_pipe_holds_never_stops_the_process() -> None:
    """While it holds the interpreter's lock, nobody can read what it prints."""
    _, errors = lines_of(
        PROGRAM + "import ctypes\n"
        'ctypes.PyDLL(None).write(2, b"x" * 200_000, 200_000)\n'
        'sys.stderr.write("still there\\n")\n'
    )
    assert "still there" in errors


def test_a_console_is_told_nothing_that_it_would_obey_and_no_values_of_variables() -> None:
    lines, _ = lines_of(
        """
from service.telemetry.logs import configure_logs
import structlog
configure_logs("INFO", {form!r})
log = structlog.get_logger()
log.info("odd", source="gs://b/\\x1b[2J.jpg")
token = "SECRET"
try:
    [][1]
except IndexError:
    log.exception("failed")
""",
        "console",
    )
    text = "\n".join(lines)
    assert "\x1b[2J" not in text
    assert "[2J.jpg" in text
    assert "IndexError" in text
    # The line of the source that raised is shown, values are not.
    assert "SECRET" not in text


@pytest.mark.parametrize(("project", "shown"), [("my-project", f"projects/my-project/traces/{TRACE}"), (None, TRACE)])
def test_a_trace_is_named_as_cloud_logging_links_it(project: str | None, shown: str) -> None:
    lines, _ = lines_of(
        f"""
from service.telemetry.logs import configure_logs
from structlog.contextvars import bind_contextvars
import logging, structlog
configure_logs("INFO", {{form!r}}, {project!r})
bind_contextvars(trace="{TRACE}", span="{SPAN}", trace_sampled=False)
structlog.get_logger().info("ours")
logging.getLogger("library").warning("theirs")
"""
    )
    for line in map(json.loads, lines):
        assert line["logging.googleapis.com/trace"] == shown
        assert line["logging.googleapis.com/spanId"] == SPAN
        assert line["logging.googleapis.com/trace_sampled"] is False
        assert not {"trace", "span", "trace_sampled"} & set(line)


def test_libraries_keep_their_details_to_themselves_and_no_value_makes_a_line_too_long_to_be_taken() -> None:
    lines, _ = lines_of(
        """
from service.telemetry.logs import configure_logs
import logging, structlog
configure_logs("DEBUG", {form!r})
logging.getLogger("google.auth").debug("authorization: SECRET")
structlog.get_logger("service.x").debug("ours", reason="x" * 1_000_000)
"""
    )
    (line,) = lines
    assert json.loads(line)["message"] == "ours"
    assert len(line) < 256 * 1024


class Lines:
    """The log of a service that was asked things."""

    def __init__(self, log: Path) -> None:
        self.text = log.read_text()
        self.all: list[dict[str, Any]] = [json.loads(line) for line in self.text.splitlines()]

    def about(self, source: str) -> list[dict[str, Any]]:
        return [line for line in self.all if str(line.get("source", "")).endswith(source)]


def test_a_request_can_be_followed_through_the_log_and_nothing_secret_is_in_it(
    proxy: Proxy, bucket: str, put: Put
) -> None:
    put("in/good.jpg", jpeg())
    put("in/broken.jpg", jpeg()[:-500])
    put("in/failing.jpg", jpeg())
    event = put("in/event.jpg", jpeg()[:-500])
    put("in/late.jpg", jpeg())
    proxy.fault = lambda kind, name: 403 if kind == "write" and ("failing" in name or "late" in name) else None
    settings = {
        "INPUT_FOLDER": f"gs://{bucket}/in",
        "STORAGE_EMULATOR_HOST": proxy.url,
        "GOOGLE_CLOUD_PROJECT": "my-project",
        "LOG_LEVEL": "DEBUG",
        "PYTHONWARNINGS": "error",
    }
    with service_process(settings) as service:
        secret = {"Authorization": f"Bearer {SECRET}", "X-Serverless-Authorization": f"Bearer {SECRET}"}
        with httpx.Client(base_url=service.url, headers=secret, timeout=60) as client:
            traced = {"traceparent": f"00-{TRACE}-{SPAN}-01"}
            answer = client.post("/run", headers=traced, json={"run_id": "mine"})
            assert answer.status_code == 503
            hostile = {"X-Cloud-Trace-Context": f'{TRACE}", "x": "' + "y" * 10_000}
            deliver(client, event, **hostile)
            late = {"bucket": bucket, "name": "in/late.jpg"}
            assert deliver(client, late, **traced).status_code == 503
            client.post("/events", headers=hostile, content=SECRET)
            client.get("/nothing")
            client.get("/health")
        os.kill(service.pid, signal.SIGTERM)
        os.waitpid(service.pid, 0)
        lines = Lines(service.log)

    assert SECRET not in lines.text
    assert "yyyy" not in lines.text
    trace = f"projects/my-project/traces/{TRACE}"
    of_run = [line for line in lines.all if line.get("run_id") == "mine"]
    # Lines from the thread of the run, from its workers, and from that which keeps its report.
    assert {line["message"] for line in of_run} >= {"run planned", "image rejected", "image failed", "run ended"}
    assert {line["logging.googleapis.com/trace"] for line in of_run} == {trace}
    assert {line["task_index"] for line in of_run} == {0}
    for source, outcome, severity in (("/broken.jpg", "rejected", "ERROR"), ("/failing.jpg", "failed", "WARNING")):
        (line,) = lines.about(source)
        assert (line["run_id"], line["outcome"], line["severity"]) == ("mine", outcome, severity)
        assert line["code"]
        assert line["reason"]
    assert not lines.about("/good.jpg")
    (summary,) = [line for line in lines.all if line["message"] == "run ended"]
    assert summary["outcome"] == "unfinished"
    assert summary["severity"] == "WARNING"
    counted = {"discovered": 5, "assigned": 5, "created": 1, "rejected": 2, "failed": 2}
    assert {key: summary[key] for key in counted} == counted
    assert {"task_count", "attempt", "bytes_read", "elapsed_seconds", "timestamp"} <= set(summary)

    rejected = [line for line in lines.about("/event.jpg") if line["message"] == "image rejected"]
    assert [line.get("run_id") for line in rejected] == ["mine", None]
    assert "logging.googleapis.com/trace" not in rejected[1]
    failed = [line for line in lines.about("/late.jpg") if line["message"] == "image failed"]
    assert [line.get("run_id") for line in failed] == ["mine", None]
    assert failed[1]["logging.googleapis.com/trace"] == trace
    assert failed[1]["outcome"] == "failed"
    # Two images and a run; requests have lines of their own from the platform.
    assert not [line for line in lines.all if "GET" in line["message"]]


def test_a_defect_is_logged_with_its_trace_and_its_source_and_the_caller_learns_nothing_of_it(
    serve: Serve, put: Put, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: queue.Queue[dict[str, Any]] = queue.Queue()

    class Seen(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.exc_info:
                seen.put(get_contextvars())

    monkeypatch.setattr(logging.getLogger("uvicorn.error"), "handlers", [Seen()])

    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError(SECRET)

    monkeypatch.setattr("service.images.pool._thumbnails", broken)
    client, _ = serve()
    answer = deliver(client, put("in/a.jpg", jpeg()), traceparent=f"00-{TRACE}-{SPAN}-01")
    assert answer.status_code == 500
    for word in (SECRET, "ZeroDivisionError", "Traceback", ".py"):
        assert word not in answer.text
    # The server logs it once the answer is on its way.
    line = seen.get(timeout=20)
    assert line["trace"] == TRACE
    assert line["source"].endswith("/in/a.jpg")
