"""The limit: decoding and shrinking alone, from memory, on all processors, with the faster library for each format.

No transfer, no encoding, no checks: what nobody can be faster than who uses these decoders. Started as
`python -m tests.benchmarks.limit`; prints what it did as a line of JSON.
"""

import argparse
import io
import json
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.synchronize import Barrier
from pathlib import Path

from PIL import Image

from tests.benchmarks.corpora import corpus
from tests.benchmarks.processes import own_peak_bytes

# Each worker is one thread of work, as the service's decoders are; to be said before libvips is loaded.
os.environ["VIPS_CONCURRENCY"] = "1"
try:
    import pyvips  # type: ignore[import-untyped]
except (ImportError, OSError):
    pyvips = None

SIDE = 100
_GAP = 2.0
_SAMPLES = 6
_REPEATS = 3

Shrink = Callable[[bytes], object]


def with_thumbnail(data: bytes) -> Image.Image:
    """Shrink with Pillow's own call for it, told to reduce first; palettes it would shrink by nearest neighbour."""
    picture = _averageable(Image.open(io.BytesIO(data)))
    picture.thumbnail((SIDE, SIDE), Image.Resampling.BICUBIC, reducing_gap=_GAP)
    return picture


def with_pillow(data: bytes) -> Image.Image:
    """Shrink with Pillow by hand: `thumbnail` asks for a scale as if the picture were square, and decodes too much."""
    picture = Image.open(io.BytesIO(data))
    scale = min(1, SIDE / max(picture.size))
    size = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
    picture.draft(None, (int(size[0] * _GAP), int(size[1] * _GAP)))
    return _averageable(picture).resize(size, Image.Resampling.BICUBIC, reducing_gap=_GAP)


def _averageable(picture: Image.Image) -> Image.Image:
    if picture.mode == "P":
        picture = picture.convert("RGBA" if "transparency" in picture.info else "RGB")
    # Reducing first is left out for RGBA, and done for RGBa.
    return picture.convert("RGBa") if picture.mode == "RGBA" else picture


def with_vips(data: bytes) -> object:
    """Shrink with libvips, which also decodes at a scale."""
    return pyvips.Image.thumbnail_buffer(data, SIDE, height=SIDE, size="down", no_rotate=True).write_to_memory()


LIBRARIES: dict[str, Shrink] = {"Pillow, thumbnail()": with_thumbnail, "Pillow, by hand": with_pillow} | (
    {"libvips": with_vips} if pyvips else {}
)


def milliseconds(shrink: Shrink, samples: Sequence[bytes]) -> float:
    """CPU milliseconds an image; of some repetitions the least."""
    times = []
    for _ in range(_REPEATS):
        began = time.process_time()
        for data in samples:
            shrink(data)
        times.append(time.process_time() - began)
    return min(times) * 1000 / len(samples)


def timed(files: Sequence[Path]) -> dict[str, dict[str, float]]:
    """CPU milliseconds an image, by file extension and library."""
    found: dict[str, dict[str, float]] = {}
    for extension in sorted({file.suffix for file in files}):
        of_kind = [file for file in dict.fromkeys(files) if file.suffix == extension]
        samples = [file.read_bytes() for file in of_kind[:: max(1, len(of_kind) // _SAMPLES)]]
        found[extension] = {name: milliseconds(shrink, samples) for name, shrink in LIBRARIES.items()}
    return found


def _work(
    files: Sequence[Path], order: Sequence[int], best: Mapping[str, str], start: Barrier, end: Barrier
) -> tuple[float, float, int]:
    """Shrink some files; return the seconds, the CPU seconds and the memory that it took."""
    held = {file: file.read_bytes() for file in dict.fromkeys(files)}
    for extension in {file.suffix for file in files}:
        LIBRARIES[best[extension]](next(data for file, data in held.items() if file.suffix == extension))
    start.wait()
    began, began_cpu = time.perf_counter(), time.process_time()
    for place in order:
        file = files[place % len(files)]
        LIBRARIES[best[file.suffix]](held[file])
    cpu_seconds = time.process_time() - began_cpu
    end.wait()
    return time.perf_counter() - began, cpu_seconds, own_peak_bytes()


_barriers: list[Barrier] = []


def _keep(start: Barrier, end: Barrier) -> None:
    _barriers[:] = [start, end]


def _task(files: Sequence[Path], order: Sequence[int], best: Mapping[str, str]) -> tuple[float, float, int]:
    return _work(files, order, best, *_barriers)


def main() -> None:
    """Shrink the first objects of a folder with the files of a corpus."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--corpus", required=True)
    parser.add_argument("--count", type=int, required=True)
    options = parser.parse_args()
    files = corpus(options.corpus).files
    by_format = timed(files)
    best = {extension: min(times, key=times.__getitem__) for extension, times in by_format.items()}
    workers = os.cpu_count() or 1
    context = multiprocessing.get_context("spawn")
    barriers = context.Barrier(workers), context.Barrier(workers)
    with context.Pool(workers, _keep, barriers) as pool:
        tasks = [(files, range(worker, options.count, workers), best) for worker in range(workers)]
        done = pool.starmap(_task, tasks, chunksize=1)
    measured = {
        "seconds": max(seconds for seconds, _, _ in done),
        "cpu_seconds": sum(cpu_seconds for _, cpu_seconds, _ in done),
        "peak_bytes": sum(peak for _, _, peak in done),
        "by_format": by_format,
    }
    sys.stdout.write(f"{json.dumps(measured)}\n")


if __name__ == "__main__":
    main()
