"""The worker processes: what they make, and what becomes of one that ends, hangs or answers nonsense."""

import os
import re
import signal
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

import pytest

from service.errors import (
    CorruptImage,
    DecoderCrashed,
    DecoderTimedOut,
    DecoderUnavailable,
    Overloaded,
    PictureTooLarge,
    UnsupportedFormat,
)
from service.images.formats import FORMATS
from service.images.pool import DecoderPool
from service.images.spec import Box, OutputFormat, Thumbnail, ThumbnailSpec
from service.images.thumbnail import make_thumbnails
from service.memory import Reserve
from tests.support.assembly import decoders
from tests.support.pictures import encoded, jpeg, quadrants
from tests.support.waiting import until
from tests.system.test_hostile_pictures import HOSTILE, hostile_picture

MEBIBYTE = 1024 * 1024
SPECS = [
    ThumbnailSpec(),
    ThumbnailSpec(Box(20, 30), OutputFormat.WEBP, 50),
    ThumbnailSpec(Box(10, 10), OutputFormat.PNG, animated=True),
]
LARGE = encoded(quadrants(2000, 1600), "PNG")
"""Decoding it takes more memory than a worker has without asking."""


def free(_: int) -> nullcontext[None]:
    """Memory without a limit."""
    return nullcontext()


def made(data: bytes, pool: DecoderPool | None = None, reserve: Reserve = free) -> list[Thumbnail]:
    return (pool or decoders()).make_thumbnails(data, SPECS, max_pixels=10_000_000, reserve=reserve)


@contextmanager
def pool(workers: int = 1, seconds: float = 60) -> Iterator[DecoderPool]:
    """Workers of a test's own."""
    opened = DecoderPool(workers, 256 * MEBIBYTE, seconds)
    try:
        yield opened
    finally:
        opened.close()


@pytest.fixture
def hostile(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures that do what they say to their decoder."""
    monkeypatch.setenv("PYTHONPATH", HOSTILE)


@pytest.mark.parametrize(
    "image_format", ["JPEG", "PNG", "GIF", "WEBP", "AVIF", "TIFF", "BMP", "ICO", "JPEG2000", "PPM"]
)
def test_a_worker_makes_what_is_made_in_the_process(image_format: str) -> None:
    data = encoded(quadrants(240, 180), image_format)
    assert made(data) == make_thumbnails(data, SPECS, max_pixels=10_000_000, reserve=free)


def test_an_animation_is_made_as_in_the_process() -> None:
    frames = [quadrants(40, 30).rotate(90 * turn) for turn in range(4)]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert made(data) == make_thumbnails(data, SPECS, max_pixels=10_000_000, reserve=free)


def test_a_rejection_has_the_code_and_the_reason_that_it_has_in_the_process() -> None:
    for data, kind in (
        (b"no image", UnsupportedFormat),
        (b"", UnsupportedFormat),
        (jpeg()[:1000], CorruptImage),
        (jpeg(4000, 3000), PictureTooLarge),
    ):
        with pytest.raises(kind) as here:
            make_thumbnails(data, SPECS, max_pixels=10_000_000, reserve=free)
        with pytest.raises(kind, match=f"^{re.escape(str(here.value))}$"):
            made(data)


def test_a_worker_asks_for_much_memory_and_goes_on_if_it_gets_none() -> None:
    asked: list[int] = []

    @contextmanager
    def nothing(wanted: int) -> Iterator[None]:
        asked.append(wanted)
        raise Overloaded("no memory")
        yield

    with pool() as own:
        with pytest.raises(Overloaded):
            made(LARGE, own, nothing)
        assert asked[0] > 2000 * 1600 * 3
        assert len(made(jpeg(), own, nothing)) == len(SPECS)
        assert len(asked) == 1
        assert len(made(LARGE, own)) == len(SPECS)


def test_a_worker_that_ended_between_two_images_costs_none_of_them() -> None:
    with pool() as own:
        made(jpeg(), own)
        for _ in range(3):
            (worker,) = own._running
            os.kill(worker._process.pid, signal.SIGKILL)
            assert len(made(jpeg(), own)) == len(SPECS)


@pytest.mark.usefixtures("hostile")
@pytest.mark.parametrize(
    ("deed", "kind", "reason"),
    [
        ("crash", DecoderCrashed, "ended with SIGSEGV, twice"),
        ("abort", DecoderCrashed, "ended with SIG(SEGV|ABRT), twice"),
        ("exit", DecoderCrashed, "ended with exit status 0, twice"),
        ("answer", DecoderCrashed, "answer"),
        ("hang", DecoderTimedOut, "longer than 1 s, which MAX_DECODE_SECONDS allows"),
        ("eat", PictureTooLarge, "more memory than its header accounts for"),
        ("fill", CorruptImage, "File too large"),
    ],
)
def test_a_picture_that_harms_its_worker_is_rejected_and_the_next_has_a_new_one(
    deed: str, kind: type[Exception], reason: str
) -> None:
    with pool(seconds=1) as own:
        with pytest.raises(kind, match=reason):
            made(hostile_picture(deed), own)
        assert len(made(hostile_picture("nothing"), own)) == len(SPECS)


@pytest.mark.usefixtures("hostile")
def test_a_defect_of_a_worker_is_one_of_the_service_and_has_its_traceback() -> None:
    with pool() as own:
        with pytest.raises(RuntimeError, match=r"(?s)Traceback.*stop iteration here"):
            made(hostile_picture("defect"), own)
        assert len(made(jpeg(), own)) == len(SPECS)


@pytest.mark.parametrize(
    ("start", "reason"), [("os._exit(3)", "exit status 3"), ("os.write(1, bytes(99))", "answer"), ("1/0", "")]
)
def test_a_worker_that_cannot_be_started_is_a_failure_and_no_rejection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, start: str, reason: str
) -> None:
    (tmp_path / "sitecustomize.py").write_text(f"import os\n{start}\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    if start == "1/0":
        monkeypatch.setattr(sys, "executable", str(tmp_path / "no-python"))
        reason = "No such file"
    with pool() as own:
        for _ in range(2):
            with pytest.raises(DecoderUnavailable, match=reason):
                made(jpeg(), own)
        monkeypatch.undo()

        def is_made() -> bool:
            try:
                return len(made(jpeg(), own)) == len(SPECS)
            except DecoderUnavailable:
                return False

        until(is_made)


def test_workers_have_no_environment_but_what_python_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "/secret.json")
    monkeypatch.setenv("LD_LIBRARY_PATH", "/nowhere")
    with pool() as own:
        made(jpeg(), own)
        (worker,) = own._running
        environment = Path(f"/proc/{worker._process.pid}/environ").read_bytes().split(b"\0")
        names = {entry.partition(b"=")[0].decode() for entry in environment if entry}
    assert names <= {"PYTHONPATH", "LD_LIBRARY_PATH", "LC_CTYPE", "GLIBC_TUNABLES"}
    assert "LD_LIBRARY_PATH" in names


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_workers_have_their_pipes_open_and_nothing_else() -> None:
    with pool() as own:
        made(jpeg(), own)
        (worker,) = own._running
        folder = Path(f"/proc/{worker._process.pid}/fd")
        targets = {number.name: str(number.readlink()) for number in folder.iterdir()}
    standard = {targets.pop(number) for number in ("1", "2")}
    assert len(standard) == 1, "what libraries print goes one way"
    kinds = sorted(target.partition(":")[0] for target in targets.values())
    assert kinds == sorted(["/memfd", f"/proc/{worker._process.pid}/statm", "pipe", "pipe"])


def test_a_picture_is_not_to_blame_for_a_pool_that_is_closed() -> None:
    """Closed while a worker decodes, and while it waits for memory."""
    for waits in (False, True):
        with pool(2) as own, ThreadPoolExecutor(1) as threads:
            made(jpeg(), own)
            inside, closed = threading.Event(), threading.Event()

            @contextmanager
            def reserve(_: int, inside: threading.Event = inside, closed: threading.Event = closed) -> Iterator[None]:
                inside.set()
                closed.wait(30)
                yield

            image = threads.submit(made, LARGE, own, reserve if waits else free)
            if waits:
                assert inside.wait(30)
            own.close()
            closed.set()
            with suppress(DecoderUnavailable):
                assert len(image.result(30)) == len(SPECS)
            with pytest.raises(DecoderUnavailable, match="about to end"):
                made(jpeg(), own)


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_starts_that_fail_leave_nothing_open(monkeypatch: pytest.MonkeyPatch) -> None:
    def open_now() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    monkeypatch.setattr(sys, "executable", "/no/python")
    before = open_now()
    with pool() as own:
        for _ in range(4):
            with pytest.raises(DecoderUnavailable):
                made(jpeg(), own)
    # The last start may still be under way.
    until(lambda: open_now() <= before)


def test_a_closed_pool_leaves_no_process() -> None:
    with pool(3) as own:
        until(lambda: len(own._running) == 3)
        processes = [worker._process for worker in own._running]
    assert all(process.poll() is not None for process in processes)


def test_many_threads_share_the_workers() -> None:
    sizes = range(30, 90)
    with ThreadPoolExecutor(16) as threads:
        thumbnails = threads.map(lambda width: made(jpeg(width, 30))[0], sizes)
        assert [thumbnail.width for thumbnail in thumbnails] == list(sizes)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_ten_thousand_images_leave_the_workers_as_small_as_a_thousand() -> None:
    files = [encoded(quadrants(400, 300), name) for name in FORMATS if name in {"JPEG", "PNG", "GIF", "WEBP", "TIFF"}]
    files += [jpeg()[:2000], b"no image", LARGE]

    def make(number: int) -> None:
        try:
            made(files[number % len(files)], own)
        except (CorruptImage, UnsupportedFormat):
            assert number % len(files) in {5, 6}

    def size() -> int:
        return sum(
            int(Path(f"/proc/{worker._process.pid}/statm").read_text().split()[1]) * 4096 for worker in own._running
        )

    with pool(2) as own, ThreadPoolExecutor(8) as threads:
        list(threads.map(make, range(1000)))
        before = size()
        list(threads.map(make, range(9000)))
        assert size() < before + 2 * MEBIBYTE
