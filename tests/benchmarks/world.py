"""The service beside other programs that make thumbnails of 100 pixels, as far as they are installed.

- sharp in the best program that we could write, from and to storage in memory;
- the way of Firebase's extension Resize Images, which is one function call for each image;
- img2dataset, which resizes what it downloads, and writes it to local files.
"""

import json
import statistics
from collections import defaultdict
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.benchmarks import published
from tests.benchmarks.contenders import Contender, Measured, Task, check, limit, service_run
from tests.benchmarks.corpora import corpus
from tests.benchmarks.installed import IMG2DATASET, NODE_STORAGE, SHARP, missing, version_of
from tests.benchmarks.limit import SIDE
from tests.benchmarks.processes import BenchmarkFailed, Ended, StandIn, last_json_with, run_to_end, stand_in
from tests.benchmarks.sections import NEAR, Effort, Say, Section
from tests.benchmarks.standin import BUCKET, FOLDER
from tests.benchmarks.tables import MEGABYTE, figure, table

_HERE = Path(__file__).parent
_IN_FLIGHT = 32
_COUNTS = {
    Effort.SMOKE: {"tiny": 40},
    Effort.QUICK: {"web": 120, "phone": 32},
    Effort.FULL: {"web": 600, "phone": 120},
}
_ROUNDS = {Effort.SMOKE: 1, Effort.QUICK: 1, Effort.FULL: 3}
_SERIAL_SHARE = 6
"""Of how many images Firebase's way is given one, for it is slow."""
_PROCESSES = 2
"""Of img2dataset."""


def _by_node(task: Task, storage: StandIn, count: int, program: str, *arguments: str) -> Measured:
    storage.reset(delay=task.delay, count=count)
    command = ["node", str(_HERE / program), storage.url, BUCKET, FOLDER, str(count), *arguments]
    ended = run_to_end(command, storage.environment())
    found = last_json_with("seconds", ended.output)
    requests = storage.requests()
    check(requests, count, count)
    return Measured(count, found["seconds"], found["cpu_seconds"], found["peak_bytes"], requests, ended.seconds)


def _sharp(task: Task, storage: StandIn) -> Measured:
    return _by_node(task, storage, task.count, "sharp.cjs", str(_IN_FLIGHT))


def _firebase(task: Task, storage: StandIn) -> Measured:
    return _by_node(task, storage, max(1, task.count // _SERIAL_SHARE), "firebase.cjs")


def _img2dataset(task: Task, storage: StandIn) -> Measured:
    """Run it as its pages recommend; the CPU that one image for each process takes counts as its start."""
    start, _ = _download(task, storage, _PROCESSES)
    ended, seconds = _download(task, storage, task.count)
    cpu_seconds = max(0, ended.used.cpu_seconds - start.used.cpu_seconds)
    return Measured(task.count, seconds, cpu_seconds, ended.used.peak_bytes, storage.requests(), ended.seconds)


def _download(task: Task, storage: StandIn, count: int) -> tuple[Ended, float]:
    """Let img2dataset download and resize; return also the seconds from the first image to the last."""
    storage.reset(delay=task.delay, count=count)
    items = storage.described(min(count, 1000))
    with TemporaryDirectory() as folder:
        urls = Path(folder) / "urls.txt"
        urls.write_text("\n".join(str(item["mediaLink"]) for item in items))
        command = [
            IMG2DATASET, f"--url_list={urls}", f"--output_folder={folder}/made", f"--processes_count={_PROCESSES}",
            f"--thread_count={_IN_FLIGHT}", f"--image_size={SIDE}", "--resize_mode=keep_ratio_largest",
            "--resize_only_if_bigger=True", "--encode_quality=80", "--extract_exif=False",
            f"--number_sample_per_shard={-(-count // _PROCESSES)}",
        ]  # fmt: skip
        ended = run_to_end(command, storage.environment(NO_ALBUMENTATIONS_UPDATE="1"))
        shards = [json.loads(stats.read_text()) for stats in Path(folder).rglob("*_stats.json")]
    if (made := sum(shard["successes"] for shard in shards)) != count:
        raise BenchmarkFailed(f"of {count} images img2dataset has made {made}: {ended.output[-1000:]}")
    return ended, max(shard["end_time"] for shard in shards) - min(shard["start_time"] for shard in shards)


def _contenders() -> dict[str, Contender]:
    """The programs that are installed, by name and version."""
    found: dict[str, Contender] = {"this service, `POST /run`": service_run}
    sharp = version_of(SHARP)
    if sharp:
        found[f"sharp {sharp}, {_IN_FLIGHT} in flight, in memory"] = _sharp
    if sharp and (client := version_of(NODE_STORAGE)):
        found[f"Firebase's way: sharp {sharp}, {NODE_STORAGE} {client}"] = _firebase
    if img2dataset := version_of(IMG2DATASET):
        found[f"img2dataset {img2dataset}, {_PROCESSES} processes"] = _img2dataset
    return found | {"limit": limit}


def section(effort: Effort, say: Say) -> Section:
    """Run all programs over each corpus, in turn; then the case that image servers publish."""
    parts = []
    contenders = _contenders()
    for name, count in _COUNTS[effort].items():
        found: defaultdict[str, list[Measured]] = defaultdict(list)
        with stand_in(corpus(name)) as storage:
            for _ in range(_ROUNDS[effort]):
                for contender, measure in contenders.items():
                    measured = measure(Task(corpus(name), count, NEAR), storage)
                    found[contender].append(measured)
                    say(
                        f"{name}, {contender}: {figure(measured.rate)} images/s, {measured.cpu_milliseconds:.1f} CPU ms"
                    )
        parts.append(_table(name, found))
    about = f"To {SIDE} pixels; storage answers after 40 ms. Medians of {_ROUNDS[effort]} rounds, in turn.\n"
    absent = f"Not installed, so not measured: {'; '.join(missing())}.\n" if missing() else ""
    return Section("\n".join([*parts, about, published.measure(effort, say), absent]))


def _table(name: str, found: dict[str, list[Measured]]) -> str:
    rates = {who: statistics.median(each.rate for each in several) for who, several in found.items()}
    cpu = {who: statistics.median(each.cpu_milliseconds for each in several) for who, several in found.items()}
    ours, our_cpu = next(iter(rates.values())), next(iter(cpu.values()))
    rows = [
        (
            who,
            figure(rate),
            f"{rate / ours:.2f}",
            figure(cpu[who]),
            f"{cpu[who] / our_cpu:.2f}",
            figure(statistics.median(each.peak_bytes for each in found[who]) / MEGABYTE),
        )
        for who, rate in rates.items()
    ]
    return table((name, "images/s", "÷ service", "CPU ms an image", "÷ service", "peak MB"), rows)
