"""What the demo does, step by step: both doors, the contact sheet, the summary."""

import json
import signal
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypeVar

import httpx

from service.demo.console import Console
from service.demo.deliveries import Answer, finalized_event, relay
from service.demo.emulators import (
    LocalWorldError,
    address_of,
    create_push_subscription,
    download,
    list_objects,
    local_client,
    log_end,
    upload,
)
from service.demo.findings import (
    EventStep,
    Findings,
    RunStep,
    Uploaded,
    card,
    contact_sheet,
    counted,
    print_summary,
    rate,
    source_of,
)
from service.demo.keep import print_invitation
from service.demo.photos import DemoFile, NoImages, folder_files, sample_files
from service.demo.sheet import Card, render, size_text
from service.demo.world import BUCKET, FOLDER, TOPIC, World, start

SHEET_NAME = "contact-sheet.html"

_CONNECTIONS = 8
_STALL_SECONDS = 30
"""How long no answer to an event may come before the demo gives up."""

_Item = TypeVar("_Item")
_Made = TypeVar("_Made")


def show(folder: Path | None, output: Path, *, keep: bool) -> int:
    """Run the demo.

    Args:
        folder: with the user's images; None for the sample photos.
        output: the folder for the contact sheet; made where it is not there.
        keep: stay afterwards, until a signal ends the process.

    Returns:
        The exit status: 0 where everything went as it should, else 1 and the reason on stderr.
    """
    console = Console()
    try:
        files, left_out = (sample_files(), 0) if folder is None else folder_files(folder)
        output.mkdir(parents=True, exist_ok=True)
        console.heading("Thumbnails for Cloud Storage, on this machine")
        if left_out:
            console.line(f"  {counted(left_out, 'file')} left out: all that is uploaded is kept in memory")
        with ExitStack() as stack:
            world = start(stack, console)
            _tour(stack, world, files, output)
            if keep:
                print_invitation(world)
                while True:
                    signal.pause()
    except (LocalWorldError, NoImages, OSError, httpx.HTTPError) as error:
        console.progress_ended()
        sys.stderr.write(f"\ndemo: {error}\n")
        return 1
    return 0


def _tour(stack: ExitStack, world: World, files: Sequence[DemoFile], output: Path) -> None:
    console = world.console
    there, arriving = files[::2], files[1::2]

    console.heading("Images that are there already")
    uploaded = _upload(world, there)
    size = size_text(sum(item.size for item in uploaded))
    console.line(f"  {counted(len(there), 'file')} uploaded before anything listens: {size}")
    first = _run(world, {})
    created = first.report["created"]
    console.line(f"  POST /run: {_counts(first)}, in {_took(first.seconds, created)}")

    events = None
    if arriving:
        console.heading("Images that arrive")
        new, events = _arrive(stack, world, arriving)
        uploaded += new

    console.heading("The same run again")
    again = _run(world, {"timestamp": first.report["timestamp"]})
    console.line(f"  POST /run: {_counts(again)}, in {again.seconds:.2f} s")
    console.line("  What has an up-to-date thumbnail is skipped unread.")

    findings = Findings(uploaded, first, events, again)
    sheet = contact_sheet(findings, _cards(world, findings))
    path = (output / SHEET_NAME).resolve()
    path.write_text(render(sheet), encoding="utf-8")
    print_summary(console, sheet, path)


def _arrive(stack: ExitStack, world: World, files: Sequence[DemoFile]) -> tuple[list[Uploaded], EventStep]:
    """Upload files while the service is told of each object written."""
    console = world.console
    if world.pubsub:
        create_push_subscription(world.pubsub, topic=TOPIC, push_url=stack.enter_context(relay(world.door)))
        console.line("  From now on Pub/Sub pushes a notification of every object written to POST /events.")
    else:
        console.line("  From now on the demo tells POST /events of every object written, as Eventarc would.")
    started = time.monotonic()
    uploaded = _upload(world, files, then=None if world.pubsub else lambda resource: _deliver(world, resource))
    answers = _answers(world, [item.source for item in uploaded])
    seconds = max(answer.at for answer in answers.values()) - started
    waits = [answers[item.source].at - item.started for item in uploaded]
    thumbnails = [answer.thumbnail for answer in answers.values() if answer.outcome == "created"]
    step = EventStep(answers, _ignored(world, thumbnails), seconds, statistics.median(waits))
    console.line(
        f"  {counted(len(files), 'file')}: {len(thumbnails):,} created, {step.count('rejected'):,} rejected, "
        f"{step.count('ignored'):,} passed over, in {_took(seconds, len(thumbnails))}"
    )
    console.line(f"  From the start of an upload to its answer: {step.median_seconds * 1000:,.0f} ms (median)")
    console.line(
        f'  Thumbnails are objects, too: the {step.ignored:,} events about them were answered "ignored". No loop.'
    )
    return uploaded, step


def _ignored(world: World, thumbnails: Sequence[str]) -> int:
    """Count the events about our own thumbnails.

    Raises:
        LocalWorldError: one of them was not ignored, so there would be a loop.
    """
    if not world.pubsub:
        wanted = set(thumbnails)
        own = [found for found in list_objects(world.storage, BUCKET) if address_of(found) in wanted]
        _in_parallel(world.console, "events", lambda resource: _deliver(world, resource), own)
    answers = _answers(world, thumbnails)
    for answer in answers.values():
        if answer.outcome != "ignored":
            raise LocalWorldError(f"the service took its own thumbnail {answer.source} for a source: {answer.outcome}")
    return len(answers)


def _deliver(world: World, resource: Mapping[str, Any]) -> None:
    world.door.deliver(*finalized_event(resource))


def _answers(world: World, sources: Sequence[str]) -> dict[str, Answer]:
    """Wait for what the service answers to the events about these objects.

    Raises:
        LocalWorldError: for long, no further answer came.
    """
    before, quiet_since = -1, time.monotonic()
    while (answered := world.door.wait_for_more(sources, 0.5)) < len(sources):
        world.console.progress("events", answered, len(sources))
        if answered > before:
            before, quiet_since = answered, time.monotonic()
        elif time.monotonic() - quiet_since > _STALL_SECONDS:
            raise LocalWorldError(
                f"{answered:,} of {len(sources):,} events were answered and then none for {_STALL_SECONDS} s; "
                f"{world.door.refusals:,} deliveries were refused. {_end_of_log(world)}"
            )
    world.console.progress_ended()
    answers = world.door.answers()
    return {source: answers[source] for source in sources}


def _upload(
    world: World, files: Sequence[DemoFile], then: Callable[[Mapping[str, Any]], None] | None = None
) -> list[Uploaded]:
    def put(file: DemoFile) -> Uploaded:
        started = time.monotonic()
        resource = upload(world.storage, BUCKET, f"{FOLDER}/{file.name}", file.read(), file.content_type)
        if then:
            then(resource)
        return Uploaded(file, resource, started)

    return _in_parallel(world.console, "upload", put, files)


def _cards(world: World, findings: Findings) -> list[Card]:
    of_source = {item.source: item for item in findings.uploaded}
    thumbnails = [found for found in list_objects(world.storage, BUCKET) if source_of(found) in of_source]

    def fetch(found: Mapping[str, Any]) -> Card:
        data = download(world.storage, BUCKET, found["name"])
        return card(of_source[source_of(found)], found, data, findings.events)

    return _in_parallel(world.console, "download", fetch, thumbnails)


def _in_parallel(
    console: Console, what: str, function: Callable[[_Item], _Made], items: Sequence[_Item]
) -> list[_Made]:
    results: list[_Made] = []
    pool = ThreadPoolExecutor(_CONNECTIONS)
    try:
        for result in pool.map(function, items):
            results.append(result)
            console.progress(what, len(results), len(items))
    finally:
        pool.shutdown(cancel_futures=True)
    console.progress_ended()
    return results


def _run(world: World, body: Mapping[str, object]) -> RunStep:
    """Call `/run` and show its progress.

    Raises:
        LocalWorldError: it answered with an error, or left something undone.
    """
    url = f"{world.service.url}/run"
    started = time.monotonic()
    report: dict[str, Any] = {}
    accept = {"Accept": "application/x-ndjson"}
    with local_client() as client, client.stream("POST", url, json=body, headers=accept) as answer:
        if not answer.is_success:
            problem = answer.read().decode(errors="replace")
            raise LocalWorldError(f"POST /run answered HTTP {answer.status_code}: {problem}. {_end_of_log(world)}")
        for line in answer.iter_lines():
            said = json.loads(line)
            if progress := said.get("progress"):
                done = sum(progress[key] for key in ("created", "skipped", "rejected", "failed"))
                world.console.progress("POST /run", done, max(progress["discovered"], done))
            else:
                report = said
    seconds = time.monotonic() - started
    world.console.progress_ended()
    if not report:
        raise LocalWorldError(f"POST /run ended without a report. {_end_of_log(world)}")
    if report["failed"] or report.get("error"):
        problem = json.dumps(report.get("error") or report["failures"][:1])
        raise LocalWorldError(
            f"POST /run left {counted(report['failed'], 'image')} undone: {problem}. {_end_of_log(world)}"
        )
    return RunStep(report, seconds)


def _end_of_log(world: World) -> str:
    return f"The end of the service's log:\n{log_end(world.service.log)}"


def _counts(step: RunStep) -> str:
    return ", ".join(f"{step.report[key]:,} {key}" for key in ("created", "skipped", "rejected"))


def _took(seconds: float, images: int) -> str:
    return " ".join([f"{seconds:.2f} s", *(f"({text})" for text in [rate(images, seconds)] if text)])
