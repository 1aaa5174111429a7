import json
import subprocess
import sys

PROGRAM = """
import os, sys, logging
from service.logs import configure_logs, divert_native_output
import structlog

configure_logs("DEBUG", {form!r})
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
