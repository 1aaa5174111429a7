"""The demo's tour: both doors of the service, the contact sheet, the summary."""

import signal
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from service.demo.commands import print_commands
from service.demo.doors import finalized_event, run_folder
from service.demo.network import LocalWorldError
from service.demo.page_copy import save_page
from service.demo.photos import DemoFile, NoImages, folder_files, sample_files
from service.demo.pubsub import create_push_subscription, relay
from service.demo.storage import address_of, list_objects, upload
from service.demo.terminal import counted, heading, in_parallel, line, printable
from service.demo.world import BUCKET, FOLDER, World, start
from service.web.rendering import format_size

_SHEET_NAME = "contact-sheet.html"


@dataclass(frozen=True, slots=True)
class _Uploaded:
    file: DemoFile
    source: str
    """Its `gs://` address."""
    size: int
    started: float
    """When its upload began, on the monotonic clock."""


def show(folder: Path | None, output: Path, *, keep: bool) -> int:
    """Run the demo.

    Args:
        folder: the user's images; None for the sample photos.
        output: the folder for the contact sheet; made if it is not there.
        keep: write no contact sheet, but link the service's own, and stay until a signal ends the process.

    Returns:
        The exit status: 0, or 1 and the reason on stderr.
    """
    try:
        files, left_out = (sample_files(), 0) if folder is None else folder_files(folder)
        if not keep:
            output.mkdir(parents=True, exist_ok=True)
        heading("Thumbnails for Cloud Storage, on this machine")
        if left_out:
            line(f"  {counted(left_out, 'file')} left out: all that is uploaded is kept in memory")
        with ExitStack() as stack:
            world = start(stack)
            hour = _tour(stack, world, files)
            sheet = f"{world.service.url}/hours/{hour}"
            if keep:
                line(f"\n  Contact sheet: {sheet}")
                print_commands(world)
                while True:
                    signal.pause()
            path = (output / _SHEET_NAME).resolve()
            save_page(sheet, path)
            line(f"\n  Contact sheet: {path}")
    except (LocalWorldError, NoImages, OSError, httpx.HTTPError) as error:
        sys.stderr.write(f"\ndemo: {error}\n")
        return 1
    return 0


def _tour(stack: ExitStack, world: World, files: Sequence[DemoFile]) -> str:
    """Show both doors and return the hour of the thumbnails."""
    there, arriving = files[::2], files[1::2]

    heading("Images that are there already")
    uploaded = _upload(world, there)
    size = format_size(sum(item.size for item in uploaded))
    line(f"  {counted(len(there), 'file')} uploaded before anything listens: {size}")
    first = run_folder(world.service, {})
    line(f"  POST /run: {_counts(first)}, in {_took(first['elapsed_seconds'], first['created'])}")

    if arriving:
        heading("Images that arrive")
        uploaded += _arrive(stack, world, arriving)

    heading("The same run again")
    # Without it, a run after the full hour would make all thumbnails again.
    hour: str = first["timestamp"]
    again = run_folder(world.service, {"timestamp": hour})
    line(f"  POST /run: {_counts(again)}, in {again['elapsed_seconds']:.2f} s")
    line("  Up-to-date thumbnails are skipped, and their images are not read.")

    _summarize(world, uploaded, again)
    return hour


def _upload(
    world: World, files: Sequence[DemoFile], then: Callable[[Mapping[str, Any]], object] = lambda _: None
) -> list[_Uploaded]:
    def put(file: DemoFile) -> _Uploaded:
        started = time.monotonic()
        resource = upload(world.storage, BUCKET, f"{FOLDER}/{file.name}", file.read(), file.content_type)
        then(resource)
        return _Uploaded(file, address_of(resource), int(resource["size"]), started)

    return in_parallel("upload", put, files)


def _arrive(stack: ExitStack, world: World, files: Sequence[DemoFile]) -> list[_Uploaded]:
    """Upload files while the service is told of every object written."""
    started = time.monotonic()
    if world.pubsub:
        create_push_subscription(world.pubsub, stack.enter_context(relay(world.door.deliver)))
        line("  From now on Pub/Sub pushes a notification of every object written to POST /events.")
        uploaded = _upload(world, files)
    else:
        line("  From now on the demo tells POST /events of every object written, as Eventarc would.")
        uploaded = _upload(world, files, lambda resource: world.door.deliver_until_taken(*finalized_event(resource)))
    answers = world.door.wait_for([item.source for item in uploaded])
    seconds = max(answer.at for answer in answers.values()) - started
    wait = statistics.median(answers[item.source].at - item.started for item in uploaded)
    outcomes = [answer.outcome for answer in answers.values()]
    thumbnails = [answer.thumbnail for answer in answers.values() if answer.outcome == "created"]
    line(
        f"  {counted(len(files), 'file')}: {len(thumbnails):,} created, {outcomes.count('rejected'):,} rejected, "
        f"{outcomes.count('ignored'):,} passed over, in {_took(seconds, len(thumbnails))}"
    )
    line(f"  From the start of an upload to its answer: {wait * 1000:,.0f} ms (median)")
    _check_ignored(world, thumbnails)
    line(f'  Thumbnails are objects, too: the {len(thumbnails):,} events about them were answered "ignored". No loop.')
    return uploaded


def _check_ignored(world: World, thumbnails: Sequence[str]) -> None:
    """Wait for the events about our own thumbnails.

    Raises:
        LocalWorldError: one of them was not ignored, so there would be a loop.
    """
    if not world.pubsub:
        wanted = set(thumbnails)
        own = [item for item in list_objects(world.storage, BUCKET) if address_of(item) in wanted]
        in_parallel("events", lambda resource: world.door.deliver_until_taken(*finalized_event(resource)), own)
    for source, answer in world.door.wait_for(thumbnails).items():
        if answer.outcome != "ignored":
            raise LocalWorldError(f"the service took its own thumbnail {source} for a source: {answer.outcome}")


def _summarize(world: World, uploaded: Sequence[_Uploaded], report: Mapping[str, Any]) -> None:
    thumbnails = list_objects(world.storage, BUCKET, f"{report['timestamp']}/")
    heading("Summary")
    line(
        f"  {counted(len(thumbnails), 'thumbnail')} of {format_size(sum(int(item['size']) for item in thumbnails))}, "
        f"for {counted(len(uploaded), 'file')} of {format_size(sum(item.size for item in uploaded))}"
    )
    problems = {item["source"]: f"rejected ({item['code']}): {item['reason']}" for item in report["rejections"]} | {
        item["source"]: f"passed over: {item['reason']}" for item in report["not_images"]
    }
    for item in sorted(uploaded, key=lambda item: item.source in problems):
        if text := problems.get(item.source) or item.file.note:
            line(f"  {printable(item.file.name)}: {printable(text)}")
    if unnamed := report["rejected"] + report["passed_over"] - len(problems):
        line(f"  and {counted(unnamed, 'file')} more without a thumbnail")


def _counts(report: Mapping[str, Any]) -> str:
    return ", ".join(f"{report[key]:,} {key}" for key in ("created", "skipped", "rejected"))


def _took(seconds: float, images: int) -> str:
    return f"{seconds:.2f} s" + (f" ({images / seconds:,.0f} images/s)" if images and seconds else "")
