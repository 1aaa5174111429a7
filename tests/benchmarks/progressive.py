"""Progressive JPEG of 12 megapixels: the service, which reads the scans that are seen, beside reading all of them.

Started as `python -m tests.benchmarks.progressive`; prints the CPU milliseconds of both as a line of JSON.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

from PIL import Image

from service.images.worker import KEPT_BYTES
from service.memory import tune_malloc
from tests.benchmarks.corpora import corpus
from tests.benchmarks.parts import by_the_service, encoded
from tests.benchmarks.processes import environment, last_json_with, run_to_end
from tests.benchmarks.sections import Effort, Say, Section
from tests.benchmarks.tables import figure, table
from tests.support import pictures

_PHOTOS = {Effort.SMOKE: 1, Effort.QUICK: 4, Effort.FULL: 8}
_ROUNDS = {Effort.SMOKE: 1, Effort.QUICK: 3, Effort.FULL: 5}
_KINDS = {"colours of half the resolution": 2, "colours of the full resolution": 0}
"""By Pillow's number of the subsampling."""
_READERS: dict[str, Callable[[bytes], bytes]] = {"service": by_the_service, "all scans": encoded}


def _milliseconds(files: list[bytes], rounds: int) -> dict[str, float]:
    """Measure in turn, so that both have the same share of what others do."""
    times: dict[str, list[float]] = {name: [] for name in _READERS}
    for _ in range(rounds):
        for data in files:
            for name, read in _READERS.items():
                began = time.process_time()
                read(data)
                times[name].append((time.process_time() - began) * 1000)
    return {name: statistics.median(several) for name, several in times.items()}


def main() -> None:
    """Make thumbnails of some photos, again and again, with the memory settings of a worker process."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--rounds", type=int, required=True)
    parser.add_argument("--subsampling", type=int, required=True)
    parser.add_argument("photos", type=Path, nargs="+", help="which are made progressive first")
    options = parser.parse_args()
    tune_malloc(KEPT_BYTES)
    files = [
        pictures.encoded(Image.open(photo), quality=92, progressive=True, subsampling=options.subsampling)
        for photo in options.photos
    ]
    sys.stdout.write(f"{json.dumps(_milliseconds(files, options.rounds))}\n")


def section(effort: Effort, say: Say) -> Section:
    """Measure the photos of a phone, made progressive."""
    photos = [str(photo) for photo in corpus("phone").files[: _PHOTOS[effort]]]
    rows = []
    shares = []
    for kind, subsampling in _KINDS.items():
        command = [sys.executable, "-m", "tests.benchmarks.progressive", *photos]
        command += ["--rounds", str(_ROUNDS[effort]), "--subsampling", str(subsampling)]
        found = last_json_with("service", run_to_end(command, environment()).output)
        shares.append(found["service"] / found["all scans"])
        say(f"progressive, {kind}: {shares[-1]:.2f} of what all scans take")
        rows.append((kind, figure(found["service"]), figure(found["all scans"]), f"{shares[-1]:.2f}"))
    titles = ("CPU ms an image", "service", "Pillow by hand: all scans at an eighth", "service ÷ all scans")
    about = "JPEG of 12 megapixels, quality 92, to 100 pixels, with the memory settings of a worker process."
    return Section(f"{table(titles, rows)}\n{about}\n", {"progressive": max(shares)})


if __name__ == "__main__":
    main()
