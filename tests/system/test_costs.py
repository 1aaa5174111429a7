"""What a dry run says before, what storage was asked, and what the report says after: by storage class."""

import re
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from service.storage.addresses import ObjectLocation
from service.storage.classes import StorageClass
from service.storage.cloud import CloudStore
from tests.conftest import Serve
from tests.support.pictures import jpeg
from tests.support.proxy import Proxy

PAGE = (Path(__file__).resolve().parents[2] / ".readme" / "operating.md").read_text()
PICTURES = {each: jpeg(60 + 40 * number, 60) for number, each in enumerate(StorageClass)}
SAME_NAMES = 20
"""Images of one class whose file names are those of images of another."""


class Bill:
    """The operations that storage has served, by class, as a bill has them."""

    def __init__(self) -> None:
        self.class_a: Counter[str] = Counter()
        self.class_b: Counter[str] = Counter()
        self.bytes_read: Counter[str] = Counter()

    def served(self, kind: str, name: str, size: int) -> None:
        operation = kind.removeprefix("bookkeeping ")
        folder = name.split("/")[1] if name.startswith("in/") and operation == "read" else ""
        storage_class = folder or StorageClass.STANDARD
        if operation in {"list", "write"}:
            self.class_a[storage_class] += 1
        else:
            assert operation in {"read", "stat"}
            self.class_b[storage_class] += 1
        if operation == "read":
            self.bytes_read[storage_class] += size

    def rows(self) -> dict[str, tuple[int, int, int]]:
        return {each: (self.class_a[each], self.class_b[each], self.bytes_read[each]) for each in StorageClass}


def rows(cost: dict[str, Any]) -> dict[str, tuple[int, int, int]]:
    fields = ("class_a_requests", "class_b_requests", "bytes_read")
    return {name: tuple(of_class[field] for field in fields) for name, of_class in cost["by_class"].items()}


def fill(emulator: str, bucket: str, each: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", emulator)
    for storage_class, data in PICTURES.items():
        with closing(CloudStore(8, storage_class)) as store, ThreadPoolExecutor(8) as threads:

            def write(number: int, name: str = storage_class, store: CloudStore = store, data: bytes = data) -> None:
                same = number < SAME_NAMES and name in {StorageClass.ARCHIVE, StorageClass.COLDLINE}
                store.write(
                    ObjectLocation(bucket, f"in/{name}/{'same' if same else name}-{number:04}.jpg"),
                    data,
                    content_type="image/jpeg",
                    cache_control=None,
                    metadata={},
                    if_generation=0,
                )

            list(threads.map(write, range(each)))


@pytest.mark.parametrize("timestamp", ["20251203T15Z", "created"])
@pytest.mark.parametrize("each", [100, pytest.param(500, marks=[pytest.mark.slow, pytest.mark.timeout(300)])])
def test_the_estimate_the_requests_and_the_report_agree_in_each_class(
    emulator: str,
    bucket: str,
    proxy: Proxy,
    serve: Serve,
    monkeypatch: pytest.MonkeyPatch,
    each: int,
    timestamp: str,
) -> None:
    fill(emulator, bucket, each, monkeypatch)
    client, _ = serve()
    estimate = client.post("/run", json={"dry_run": True, "timestamp": timestamp}, timeout=200).json()["estimate"]
    bill = Bill()
    proxy.served = bill.served
    report = client.post("/run", json={"timestamp": timestamp}, timeout=200).json()
    assert (report["created"], report["renamed"]) == (4 * each, SAME_NAMES)
    counted = bill.rows()
    assert rows(report["cost"]) == counted
    estimated = rows(estimate)
    text = table(each, estimate, counted, report["cost"])
    if each == 500 and timestamp != "created":
        documented = re.search(r"^\| storage class \| images .*?\n\n", PAGE, re.MULTILINE | re.DOTALL)
        assert documented
        # A slow machine writes more reports.
        for line, measured in zip(documented[0].splitlines(), text.splitlines(), strict=False):
            numbers, now = (re.findall(r"\d[\d,.]*", text.replace(", ", " ")) for text in (line, measured))
            for number, other in zip(numbers, now, strict=True):
                assert float(number.replace(",", "")) == pytest.approx(float(other.replace(",", "")), rel=0.02)
    for storage_class in StorageClass:
        assert estimate["by_class"][storage_class]["images"] == each
        assert estimated[storage_class] == pytest.approx(counted[storage_class], rel=0.02), storage_class
        assert estimate["by_class"][storage_class]["dollars"] == pytest.approx(
            report["cost"]["by_class"][storage_class]["dollars"], rel=0.02
        )


def test_an_estimate_of_images_that_are_there_counts_what_finds_them(
    emulator: str, bucket: str, proxy: Proxy, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(emulator, bucket, 30, monkeypatch)
    client, _ = serve()
    for timestamp in ("20251203T15Z", "created"):
        client.post("/run", json={"timestamp": timestamp})
        asked = {"timestamp": timestamp, "run_id": f"again-{timestamp}"}
        estimate = client.post("/run", json=asked | {"dry_run": True}).json()["estimate"]
        bill = Bill()
        proxy.served = bill.served
        report = client.post("/run", json=asked).json()
        assert report["skipped"] == 120
        assert rows(report["cost"]) == {name: row for name, row in bill.rows().items() if any(row)}
        estimated, counted = rows(estimate), rows(report["cost"])
        assert estimated.keys() == counted.keys()
        for name, row in counted.items():
            # A slow machine writes more reports.
            assert estimated[name] == pytest.approx(row, abs=2)
        assert estimate["media_reads"] == 0


def table(each: int, estimate: dict[str, Any], counted: dict[str, tuple[int, int, int]], cost: dict[str, Any]) -> str:
    lines = [
        "| storage class | images | estimated: A, B, bytes | counted: A, B, bytes | estimate, $ | report, $ |",
        "| --- | --: | --: | --: | --: | --: |",
    ]
    for storage_class in StorageClass:
        of_class = estimate["by_class"][storage_class]
        told, done = (
            ", ".join(f"{number:,}" for number in row)
            for row in (rows(estimate)[storage_class], counted[storage_class])
        )
        dollars = cost["by_class"][storage_class]["dollars"]
        lines.append(f"| `{storage_class}` | {each} | {told} | {done} | {of_class['dollars']:.6f} | {dollars:.6f} |")
    return "\n".join(lines) + "\n"
