"""The case that image servers publish: JPEG of 2000x1333 to 500 pixels, from memory to memory, on all processors.

Each program runs once for each processor, and makes one thumbnail after the other. Started as
`python -m tests.benchmarks.published` it is one of them, and prints what it did as a line of JSON.
"""

import argparse
import io
import json
import os
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import PIL
import pyvips  # type: ignore[import-untyped]
from PIL import Image

from service.images.spec import Box, ThumbnailSpec
from service.images.thumbnail import make_thumbnails
from service.images.worker import KEPT_BYTES
from service.memory import tune_malloc
from tests.benchmarks.corpora import corpus
from tests.benchmarks.installed import IMG2DATASET, SHARP, img2dataset_python, version_of
from tests.benchmarks.processes import environment, last_json_with, run_together
from tests.benchmarks.sections import Effort, Say
from tests.benchmarks.tables import figure, table

SIDE = 500
_QUALITY = 80
_COUNTS = {Effort.SMOKE: 4, Effort.QUICK: 40, Effort.FULL: 160}
"""Images of each process."""
_ROUNDS = {Effort.SMOKE: 1, Effort.QUICK: 1, Effort.FULL: 5}
_RESIZER = f"""
import io, json, sys, time
from img2dataset.resizer import Resizer
count, *names = sys.argv[1:]
files = [open(name, 'rb').read() for name in names]
resize = Resizer({SIDE}, 'keep_ratio_largest', True, encode_quality={_QUALITY})
resize(io.BytesIO(files[0]))
began, began_cpu = time.perf_counter(), time.process_time()
for number in range(int(count)):
    *_, error = resize(io.BytesIO(files[number % len(files)]))
    assert error is None, error
done = {{'seconds': time.perf_counter() - began, 'cpu_seconds': time.process_time() - began_cpu}}
sys.stdout.write(json.dumps(done) + chr(10))
"""
"""Program for the interpreter of img2dataset."""


def by_the_service(data: bytes) -> bytes:
    """Do it as a worker process does."""
    spec = ThumbnailSpec(Box(SIDE, SIDE), quality=_QUALITY)
    (made,) = make_thumbnails(data, [spec], max_pixels=100_000_000, reserve=lambda _: nullcontext())
    return made.data


def by_pillow(data: bytes) -> bytes:
    """Do it with Pillow's own call, as most programs do."""
    picture = Image.open(io.BytesIO(data))
    picture.thumbnail((SIDE, SIDE))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=_QUALITY)
    return buffer.getvalue()


def by_libvips(data: bytes) -> bytes:
    """Do it as `vipsthumbnail` does."""
    made = pyvips.Image.thumbnail_buffer(data, SIDE, height=SIDE, size="down")
    return bytes(made.write_to_buffer(f".jpg[Q={_QUALITY}]"))


_MAKERS: dict[str, Callable[[bytes], bytes]] = {"service": by_the_service, "pillow": by_pillow, "libvips": by_libvips}


@dataclass(frozen=True, slots=True)
class _Figures:
    rate: float
    """Images a second of all processes."""
    cpu_milliseconds: float
    """An image."""


def _commands() -> dict[str, list[str]]:
    """The programs that are installed, without the count and the files, by name and version."""
    ours = [sys.executable, "-m", "tests.benchmarks.published", "--by"]
    commands = {"this service": [*ours, "service"]}
    if sharp := version_of(SHARP):
        commands[f"sharp {sharp}"] = ["node", str(Path(__file__).with_name("in_memory.cjs"))]
    libvips = ".".join(str(pyvips.version(part)) for part in range(3))
    commands[f"libvips {libvips}, as `vipsthumbnail`"] = [*ours, "libvips"]
    commands[f"Pillow {PIL.__version__}, `thumbnail()`"] = [*ours, "pillow"]
    if (python := img2dataset_python()) and (img2dataset := version_of(IMG2DATASET)):
        commands[f"img2dataset {img2dataset}, its resizer"] = [python, "-c", _RESIZER]
    return commands


def _measured(command: Sequence[str], count: int) -> _Figures:
    processes = len(os.sched_getaffinity(0))
    files = map(str, corpus("published").files)
    # One thread each. What looks for a newer version of itself is told not to.
    env = environment(NO_ALBUMENTATIONS_UPDATE="1", VIPS_CONCURRENCY="1")
    ended = run_together([*command, str(count), *files], [env] * processes)
    found = [last_json_with("seconds", each.output) for each in ended]
    done = count * processes
    return _Figures(
        done / max(each["seconds"] for each in found), sum(each["cpu_seconds"] for each in found) * 1000 / done
    )


def measure(effort: Effort, say: Say) -> str:
    """Measure all programs in turn; return a table."""
    found: defaultdict[str, list[_Figures]] = defaultdict(list)
    commands = _commands()
    for _ in range(_ROUNDS[effort]):
        for name, command in commands.items():
            found[name].append(_measured(command, _COUNTS[effort]))
            say(f"2000x1333 to {SIDE}, {name}: {found[name][-1]}")
    rates = {name: statistics.median(each.rate for each in several) for name, several in found.items()}
    cpu = {name: statistics.median(each.cpu_milliseconds for each in several) for name, several in found.items()}
    ours, our_cpu = next(iter(rates.values())), next(iter(cpu.values()))
    rows = [
        (name, figure(rate), f"{rate / ours:.2f}", figure(cpu[name]), f"{cpu[name] / our_cpu:.2f}")
        for name, rate in rates.items()
    ]
    titles = (f"JPEG of 2000x1333 to {SIDE} pixels, in memory", "images/s", "÷ service", "CPU ms an image", "÷ service")
    return table(titles, rows)


def main() -> None:
    """Make thumbnails of some files, again and again."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--by", choices=_MAKERS, required=True)
    parser.add_argument("count", type=int)
    parser.add_argument("files", type=Path, nargs="+")
    options = parser.parse_args()
    tune_malloc(KEPT_BYTES)
    files = [file.read_bytes() for file in options.files]
    make = _MAKERS[options.by]
    make(files[0])
    began, began_cpu = time.perf_counter(), time.process_time()
    for number in range(options.count):
        make(files[number % len(files)])
    done = {"seconds": time.perf_counter() - began, "cpu_seconds": time.process_time() - began_cpu}
    sys.stdout.write(f"{json.dumps(done)}\n")


if __name__ == "__main__":
    main()
