"""How much memory there is, who may use it, and that no picture takes more than is estimated."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image

from service.errors import Overloaded
from service.memory import Budget, count_processors, count_workers, decoding_budget, memory_limit
from tests.images.conformance import png
from tests.support.heic import heic
from tests.support.pictures import encoded
from tests.support.waiting import until

MEBIBYTE = 1024 * 1024
NO_LIMIT_OF_VERSION_1 = 9223372036854771712
MACHINE = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 0


def limit_of(root: Path, own: str | None, files: dict[str, str]) -> int:
    """The limit that is found where control groups look so."""
    return memory_limit(*groups(root, own, files))


def groups(root: Path, own: str | None, files: dict[str, str]) -> tuple[Path, Path]:
    """Control groups that look so."""
    mount, membership = root / "cgroup", root / "own"
    for name, text in files.items():
        path = mount / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    if own is not None:
        membership.write_text(own)
    return mount, membership


VERSION_1 = "9:name=systemd:/x\n5:cpu,cpuacct:/cpu\n4:memory:/outer/inner\n0::/\n"
HYBRID = "3:cpuset,memory:/outer/inner\n0::/other\n"


@pytest.mark.parametrize(
    ("own", "files", "expected"),
    [
        pytest.param("0::/\n", {"memory.max": "1000\n"}, 1000, id="version 2, the container's own group"),
        pytest.param("0::/\n", {"memory.max": "max\n"}, None, id="version 2 without a limit"),
        pytest.param(
            "0::/outer/inner\n",
            {"outer/inner/memory.max": "3000\n", "outer/memory.max": "2000\n"},
            2000,
            id="version 2, limited further out",
        ),
        pytest.param(
            "0::/outer/inner\n",
            {"outer/inner/memory.max": "3000\n", "outer/memory.max": "max\n"},
            3000,
            id="version 2, limited within",
        ),
        pytest.param(
            "0::/docker/1f\n", {"memory.max": "1000\n"}, 1000, id="a path that only the host of the container sees"
        ),
        pytest.param("0::/../..\n", {"memory.max": "1000\n"}, 1000, id="a group outside of what is seen"),
        pytest.param(None, {"memory.max": "1000\n"}, 1000, id="nothing says which group"),
        pytest.param("0:\nnonsense\n\n", {"memory.max": "1000\n"}, 1000, id="groups that cannot be read"),
        pytest.param(None, {"memory/memory.limit_in_bytes": "1000\n"}, 1000, id="version 1 as gVisor shows it"),
        pytest.param(VERSION_1, {"memory/outer/inner/memory.limit_in_bytes": "1000\n"}, 1000, id="version 1, nested"),
        pytest.param(
            VERSION_1,
            {
                "memory/memory.limit_in_bytes": f"{NO_LIMIT_OF_VERSION_1}\n",
                "memory/outer/memory.limit_in_bytes": "2000\n",
                "memory/outer/inner/memory.limit_in_bytes": f"{NO_LIMIT_OF_VERSION_1}\n",
            },
            2000,
            id="version 1, limited further out",
        ),
        pytest.param(
            VERSION_1,
            {"memory/memory.limit_in_bytes": f"{NO_LIMIT_OF_VERSION_1}\n"},
            None,
            id="version 1 without a limit",
        ),
        pytest.param(
            VERSION_1, {"memory/elsewhere/memory.limit_in_bytes": "1000\n"}, None, id="the limit of another group"
        ),
        pytest.param(
            HYBRID,
            {"memory/outer/inner/memory.limit_in_bytes": "2000\n", "unified/other/memory.max": "1000\n"},
            1000,
            id="both versions",
        ),
        pytest.param("0::/\n", {"memory.max": "0\n"}, None, id="a limit that nothing could run in"),
        pytest.param("0::/\n", {"memory.max": "many\n"}, None, id="a limit that cannot be read"),
        pytest.param("0::/\n", {}, None, id="no limits"),
        pytest.param(None, {}, None, id="no control groups"),
    ],
)
def test_the_limit_is_the_least_of_all_control_groups_around_the_process(
    tmp_path: Path, own: str | None, files: dict[str, str], expected: int | None
) -> None:
    assert limit_of(tmp_path, own, files) == (expected or MACHINE)


@pytest.mark.parametrize("answer", [ValueError("unrecognized configuration name"), OSError(), -1])
def test_a_system_that_does_not_say_its_memory_has_its_groups_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: Exception | int
) -> None:
    def sysconf(_: str) -> int:
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(os, "sysconf", sysconf)
    assert limit_of(tmp_path, None, {"memory.max": "1000\n"}) == 1000
    assert memory_limit(tmp_path / "none", tmp_path / "none") == sys.maxsize


def test_the_real_limit_is_positive_and_no_more_than_the_machine_has() -> None:
    assert 0 < memory_limit() <= MACHINE


@pytest.mark.parametrize(
    ("limit", "processors", "workers"),
    [
        (512, 1, 1), (512, 2, 2), (512, 16, 3), (1024, 1, 2), (1024, 2, 2), (2048, 2, 3), (4096, 8, 9),
        (32768, 8, 9), (128, 4, 1),
    ],
)  # fmt: skip
def test_there_is_a_worker_for_each_processor_and_one_more_if_there_is_memory_for_it(
    limit: int, processors: int, workers: int
) -> None:
    assert count_workers(limit * MEBIBYTE, processors) == workers


@pytest.mark.parametrize("limit", [512 * MEBIBYTE, 1024 * MEBIBYTE, 4096 * MEBIBYTE, 32768 * MEBIBYTE])
@pytest.mark.parametrize("workers", [1, 2])
def test_processes_and_sources_and_decoding_leave_a_tenth_of_the_limit(limit: int, workers: int) -> None:
    measured_processes = (88 + workers * 34) * MEBIBYTE
    budget = decoding_budget(limit, workers)
    assert measured_processes + budget // 2 + budget <= 0.9 * limit
    assert budget > 0.35 * limit


@pytest.mark.parametrize(
    ("own", "files", "expected"),
    [
        pytest.param("0::/\n", {"cpu.max": "100000 100000\n"}, 1, id="one processor"),
        pytest.param("0::/\n", {"cpu.max": "150000 100000\n"}, 2, id="one and a half"),
        pytest.param("0::/\n", {"cpu.max": "20000 100000\n"}, 1, id="a fifth"),
        pytest.param("0::/\n", {"cpu.max": "max 100000\n"}, None, id="no quota"),
        pytest.param(
            "0::/a/b\n", {"a/b/cpu.max": "max\n", "a/cpu.max": "50000 50000\n"}, 1, id="of a group further out"
        ),
        pytest.param(VERSION_1, {"cpu/cpu/cpu.cfs_quota_us": "100000\n"}, 1, id="version 1"),
        pytest.param(VERSION_1, {"cpu/cpu/cpu.cfs_quota_us": "-1\n"}, None, id="version 1 without a quota"),
        pytest.param(None, {}, None, id="no control groups"),
    ],
)
def test_there_are_as_many_processors_as_may_be_used(
    tmp_path: Path, own: str | None, files: dict[str, str], expected: int | None
) -> None:
    mount, membership = groups(tmp_path, own, files)
    assert count_processors(mount, membership) == (expected or len(os.sched_getaffinity(0)))


def test_the_smallest_container_still_decodes() -> None:
    assert decoding_budget(128 * MEBIBYTE, 1) == 64 * MEBIBYTE


@settings(deadline=None, max_examples=25)
@given(
    total=st.integers(1, 100),
    wishes=st.lists(st.integers(0, 150), min_size=1, max_size=60),
)
def test_threads_never_hold_more_than_there_is_and_all_of_them_get_their_share(total: int, wishes: list[int]) -> None:
    budget = Budget(total)
    lock = threading.Lock()
    held: list[int] = []
    wrong: list[str] = []

    def use(wish: int) -> None:
        with budget.reserve(wish):
            with lock:
                held.append(min(wish, total))
                if sum(held) > total:
                    wrong.append(f"{held} of {total}")
            with lock:
                held.remove(min(wish, total))

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(use, wishes, timeout=60))
    assert not wrong
    # All of it is free again.
    with budget.reserve(total):
        pass


def test_first_come_is_first_served_so_that_small_ones_never_keep_a_large_one_out() -> None:
    budget = Budget(10)
    order: list[str] = []

    def use(name: str, wanted: int) -> None:
        with budget.reserve(wanted):
            order.append(name)

    with ThreadPoolExecutor(3) as threads, budget.reserve(5):
        for waiting, (name, wanted) in enumerate([("large", 10), ("small", 1), ("smaller", 1)], 1):
            threads.submit(use, name, wanted)
            until_waiting(budget, waiting)
        # There is room for the small ones, and they came later.
        assert order == []
    assert order[0] == "large"
    assert sorted(order) == ["large", "small", "smaller"]


def test_small_ones_pass_others_a_few_times_and_no_more() -> None:
    budget = Budget(10)
    order: list[str] = []

    def use(name: str, wanted: int, *, is_small: bool) -> None:
        with budget.reserve(wanted, is_small=is_small):
            order.append(name)

    with ThreadPoolExecutor(40) as threads, budget.reserve(10):
        for number in range(10):
            threads.submit(use, "large", 10, is_small=False)
            until_waiting(budget, number + 1)
        for number in range(20):
            threads.submit(use, "small", 10, is_small=True)
            until_waiting(budget, number + 11)
    assert order == ["small"] * 8 + ["large"] + ["small"] * 8 + ["large"] + ["small"] * 4 + ["large"] * 8


def test_a_wait_that_is_interrupted_lets_the_next_one_in(monkeypatch: pytest.MonkeyPatch) -> None:
    budget = Budget(10)
    served, woken = threading.Event(), threading.Event()

    class Interruption(Exception):
        pass

    class Interrupted:
        """What a signal does to the main thread: an exception out of the wait."""

        def acquire(self, timeout: float | None = None) -> bool:
            if timeout is None:
                return True
            woken.wait(30)
            raise Interruption

        def release(self) -> None:
            """Nobody waits any more."""

    def give_up() -> None:
        with monkeypatch.context() as patch:
            patch.setattr("service.memory.Lock", Interrupted)
            with pytest.raises(Interruption), budget.reserve(10):
                pass

    def wait() -> None:
        with budget.reserve(1):
            served.set()

    with ThreadPoolExecutor(2) as threads, budget.reserve(5):
        given_up = threads.submit(give_up)
        until_waiting(budget, 1)
        woken.set()
        given_up.result(30)
        threads.submit(wait)
        assert served.wait(30)
    with budget.reserve(10):
        pass


def test_what_is_held_is_given_back_when_its_user_fails() -> None:
    budget = Budget(10)
    with pytest.raises(RuntimeError), budget.reserve(10):
        raise RuntimeError
    with budget.reserve(10):
        pass


def test_who_waits_too_long_is_told_to_come_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.memory.PATIENCE_SECONDS", 0.05)
    budget = Budget(10)
    with budget.reserve(10), pytest.raises(Overloaded, match="5 bytes of memory"), budget.reserve(5):
        pass
    with budget.reserve(10):
        pass


def test_more_than_all_there_is_waits_until_it_is_alone() -> None:
    budget = Budget(10)
    alone = threading.Event()

    def use() -> None:
        with budget.reserve(1000):
            alone.set()

    with ThreadPoolExecutor(1) as threads:
        with budget.reserve(1):
            threads.submit(use)
            until_waiting(budget, 1)
            assert not alone.is_set()
        assert alone.wait(30)


def until_waiting(budget: Budget, count: int) -> None:
    """Return once so many wait for some of the budget."""
    until(lambda: budget.waiting >= count)


MEASURE = """
import contextlib, io, json, sys
from PIL import ExifTags, Image
from service.images.spec import Box, ThumbnailSpec
from service.images.thumbnail import make_thumbnails

def status(key):
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(key))

@contextlib.contextmanager
def reserve(estimate):
    estimates.append(estimate)
    yield

data, specs, estimates = sys.stdin.buffer.read(), [ThumbnailSpec(Box.parse(sys.argv[1]), shows_damaged=True)], []
with Image.open(io.BytesIO(data)) as picture:
    warm = io.BytesIO()
    Image.new("RGB", (64, 64)).save(warm, picture.format)
make_thumbnails(warm.getvalue(), specs, max_pixels=10**9, reserve=reserve)
before = status("VmRSS")
with open("/proc/self/clear_refs", "w") as file:
    file.write("5")  # The peak starts anew, proc(5).
make_thumbnails(data, specs, max_pixels=10**9, reserve=reserve)
print(json.dumps([status("VmHWM") - before, estimates[-1]]))
"""
"""Prints the memory that making a thumbnail took at its peak, and the estimate."""

SIZE = (2800, 2100)


def picture(mode: str) -> Image.Image:
    slope = Image.linear_gradient("L").resize(SIZE)
    colours = Image.merge("RGB", [slope, slope.transpose(Image.Transpose.FLIP_TOP_BOTTOM), slope])
    if "A" in mode:
        colours.putalpha(slope)
    return colours.convert(mode)


PICTURES: dict[str, Callable[[], bytes]] = {
    "baseline JPEG": lambda: encoded(picture("RGB"), "JPEG"),
    "progressive JPEG": lambda: encoded(picture("RGB"), "JPEG", progressive=True),
    "progressive JPEG, full colour": lambda: encoded(picture("RGB"), "JPEG", progressive=True, subsampling=0),
    "progressive JPEG, gray": lambda: encoded(picture("L"), "JPEG", progressive=True),
    "progressive JPEG, CMYK": lambda: encoded(picture("CMYK"), "JPEG", progressive=True),
    "PNG": lambda: encoded(picture("RGB"), "PNG", compress_level=1),
    "translucent PNG": lambda: encoded(picture("RGBA"), "PNG", compress_level=1),
    "gray PNG": lambda: encoded(picture("L"), "PNG", compress_level=1),
    "gray translucent PNG": lambda: encoded(picture("LA"), "PNG", compress_level=1),
    "palette PNG": lambda: encoded(picture("P"), "PNG", compress_level=1),
    "palette PNG with a hole": lambda: encoded(picture("P"), "PNG", compress_level=1, transparency=0),
    "PNG with a transparent colour": lambda: encoded(picture("RGB"), "PNG", compress_level=1, transparency=(0, 0, 0)),
    "16-bit PNG": lambda: encoded(picture("L").convert("I;16"), "PNG", compress_level=1),
    "GIF": lambda: encoded(picture("P"), "GIF"),
    "lossy WebP": lambda: encoded(picture("RGB"), "WEBP", method=0),
    "lossless translucent WebP": lambda: encoded(picture("RGBA"), "WEBP", lossless=True, method=0, quality=0),
    "TIFF": lambda: encoded(picture("RGB"), "TIFF", compression="tiff_adobe_deflate"),
    "TIFF on its side": lambda: encoded(
        picture("RGB"), "TIFF", compression="tiff_adobe_deflate", tiffinfo={ExifTags.Base.Orientation: 6}
    ),
    "TIFF of one strip": lambda: encoded(
        picture("RGB"), "TIFF", compression="tiff_adobe_deflate", strip_size=SIZE[0] * SIZE[1] * 3
    ),
    "AVIF": lambda: encoded(picture("RGBA"), "AVIF", speed=10),
    "HEIC with a preview": lambda: heic(picture("RGB"), thumbnails=[400]),
    "JPEG 2000": lambda: encoded(picture("RGBA"), "JPEG2000"),
    "BMP": lambda: encoded(picture("RGB"), "BMP"),
    "JPEG, half of it": lambda: half(encoded(noise("RGB"), "JPEG")),
    "PNG, half of it": lambda: half(encoded(noise("RGB"), "PNG", compress_level=1)),
    "translucent PNG, half of it": lambda: half(encoded(noise("RGBA"), "PNG", compress_level=1)),
    "interlaced PNG, half of it": lambda: half(png(np.asarray(noise("RGB")), 8, 2, interlaced=True)),
    "16-bit PNG, half of it": lambda: half(encoded(noise("L").convert("I;16"), "PNG", compress_level=1)),
    "GIF, half of it": lambda: half(encoded(noise("P"), "GIF", interlace=0)),
    "interlaced GIF, half of it": lambda: half(encoded(noise("P"), "GIF", interlace=1)),
}


def noise(mode: str) -> Image.Image:
    """A picture of more colours than a palette has, wherever it ends."""
    return Image.merge("RGB", [Image.effect_noise(SIZE, sigma) for sigma in (40, 60, 80)]).convert(mode)


def half(data: bytes) -> bytes:
    return data[: len(data) // 2]


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="only Linux tells a process's peak since then")
@pytest.mark.parametrize("box", ["100x100", pytest.param("1400x1400", marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", PICTURES)
def test_no_picture_takes_more_memory_than_is_estimated(kind: str, box: str) -> None:
    measured = subprocess.run(
        [sys.executable, "-c", MEASURE, box],
        input=PICTURES[kind](),
        capture_output=True,
        check=True,
        cwd=Path(__file__).parents[1],
    )
    peak, estimate = json.loads(measured.stdout)
    assert peak <= 1.05 * estimate + 2 * MEBIBYTE
    if box == "100x100" and kind.endswith(("JPEG", "PNG", "WebP")):
        # Nor is much more estimated: that would be waiting, or a rejection, for nothing.
        assert estimate <= 1.5 * peak + 8 * MEBIBYTE
