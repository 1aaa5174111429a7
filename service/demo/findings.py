"""What came of the demo's steps: values, and the contact sheet and the summary that are made of them."""

import io
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from service.demo.console import Console, printable
from service.demo.deliveries import Answer
from service.demo.emulators import address_of
from service.demo.photos import DemoFile
from service.demo.sheet import Card, NotMade, Sheet, Timing, size_text
from service.naming import SOURCE_KEY


@dataclass(frozen=True, slots=True)
class Uploaded:
    """A file that is an object now."""

    file: DemoFile
    resource: Mapping[str, Any]
    """The object, as the JSON API describes it."""
    started: float
    """When its upload began, on the monotonic clock."""

    @property
    def source(self) -> str:
        """Its `gs://` address."""
        return address_of(self.resource)

    @property
    def size(self) -> int:
        """Its bytes."""
        return int(self.resource["size"])


@dataclass(frozen=True, slots=True)
class RunStep:
    """One call of `/run`."""

    report: Mapping[str, Any]
    seconds: float


@dataclass(frozen=True, slots=True)
class EventStep:
    """The events about a number of uploads, and about what they led to."""

    answers: Mapping[str, Answer]
    """About the uploaded files, by source."""
    ignored: int
    """How many thumbnails' own events were ignored: all of them."""
    seconds: float
    median_seconds: float
    """From the start of an upload to the answer."""

    def count(self, outcome: str) -> int:
        """How many files ended so."""
        return sum(answer.outcome == outcome for answer in self.answers.values())


@dataclass(frozen=True, slots=True)
class Findings:
    """All steps."""

    uploaded: Sequence[Uploaded]
    first: RunStep
    events: EventStep | None
    again: RunStep


def source_of(found: Mapping[str, Any]) -> str:
    """Return the `gs://` address that an object is a thumbnail of; empty for any other object."""
    source: str = found.get("metadata", {}).get(SOURCE_KEY, "")
    return source


def card(item: Uploaded, thumbnail: Mapping[str, Any], data: bytes, events: EventStep | None) -> Card:
    """Describe a thumbnail for the contact sheet.

    Args:
        item: what it was made of.
        thumbnail: its object resource.
        data: its bytes.
        events: what was made by events; the rest was made by a run.
    """
    with Image.open(io.BytesIO(data)) as picture:
        width, height = picture.size
    answer = events.answers.get(item.source) if events else None
    return Card(
        name=thumbnail["name"].partition("/")[2],
        source=item.file.name,
        data=data,
        content_type=thumbnail["contentType"],
        width=width,
        height=height,
        source_bytes=item.size,
        door="by an event" if answer and answer.outcome == "created" else "by a run",
        note=item.file.note,
    )


def contact_sheet(findings: Findings, cards: Sequence[Card]) -> Sheet:
    """Put all that was found on one sheet."""
    rejected = _rejected(findings)
    passed_over = _passed_over(findings)
    shown = {card.source for card in cards}
    figures = [
        (f"{len(cards):,}", "thumbnails"),
        (f"{findings.again.report['rejected']:,}", "rejected"),
        (f"{findings.again.report['passed_over']:,}", "passed over"),
        (size_text(sum(item.size for item in findings.uploaded if item.file.name in shown)), "of images"),
        (size_text(sum(len(card.data) for card in cards)), "of thumbnails"),
    ]
    if findings.events:
        figures.append((f"{findings.events.ignored:,}", "own thumbnails ignored: no loop"))
    return Sheet(
        title="Contact sheet",
        subtitle=f"{findings.first.report['input_folder']} to {findings.first.report['output_folder']}",
        figures=figures,
        timings=list(_timings(findings)),
        cards=cards,
        rejected=rejected,
        passed_over=passed_over,
    )


def print_summary(console: Console, sheet: Sheet, path: Path) -> None:
    """Print what is on a sheet, without the pictures, and where it is."""
    console.heading("Summary")
    console.line("  " + ", ".join(f"{number} {what}" for number, what in sheet.figures))
    for timing in sheet.timings:
        console.line(f"  {timing.step:<16} {timing.seconds:6.2f} s  {timing.rate:>13}  {timing.result}")
    for item in sheet.rejected:
        console.line(f"  rejected: {printable(item.source)} ({item.code}): {printable(item.reason)}")
    for item in sheet.passed_over:
        console.line(f"  passed over: {printable(item.source)}: {printable(item.reason)}")
    console.line(f"\n  Contact sheet: {path}")


def rate(images: int, seconds: float) -> str:
    """Images a second, for people; empty where there is nothing to count."""
    return f"{images / seconds:,.0f} images/s" if images and seconds else ""


def counted(count: int, noun: str) -> str:
    """`1 file`, `2 files`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def _rejected(findings: Findings) -> list[NotMade]:
    """What either door said of the files that will never work; a report names the first hundred."""
    reports = [findings.first.report, findings.again.report]
    said = {
        problem["source"]: (problem["code"], problem["reason"])
        for report in reports
        for problem in report["rejections"]
    }
    answers: Collection[Answer] = findings.events.answers.values() if findings.events else ()
    said |= {answer.source: (answer.code, answer.reason) for answer in answers if answer.outcome == "rejected"}
    return [
        NotMade(item.file.name, *said[item.source], item.file.note) for item in findings.uploaded if item.source in said
    ]


def _passed_over(findings: Findings) -> list[NotMade]:
    """What the service takes for no image; its report names the first hundred."""
    said = {passed["source"]: passed["reason"] for passed in findings.again.report["not_images"]}
    return [
        NotMade(item.file.name, "", said[item.source], item.file.note)
        for item in findings.uploaded
        if item.source in said
    ]


def _timings(findings: Findings) -> Iterable[Timing]:
    first, events, again = findings.first, findings.events, findings.again
    created = first.report["created"]
    result = f"{counted(created, 'thumbnail')} of what was there already"
    yield Timing("POST /run", result, first.seconds, rate(created, first.seconds))
    if events:
        created = events.count("created")
        wait = f"{events.median_seconds * 1000:,.0f} ms from upload to answer"
        result = f"{counted(created, 'thumbnail')} of what arrived; {wait}"
        yield Timing("POST /events", result, events.seconds, rate(created, events.seconds))
    result = f"{again.report['skipped']:,} up to date, {again.report['created']:,} made again"
    yield Timing("POST /run again", result, again.seconds)
