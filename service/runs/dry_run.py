"""The price of images that were not read: for a dry run, and for the planner of a run that may cost only so much."""

from collections.abc import Callable, Iterable, Iterator
from threading import Lock
from typing import TYPE_CHECKING

from service.bootstrap import Service
from service.naming import Hour
from service.outcome import Outcome, Result, StoredThumbnail
from service.process import Stop
from service.runs.ahead import read_ahead
from service.runs.bounded import map_bounded
from service.runs.costs import PlannedCost
from service.runs.estimate import Images, estimate, pages
from service.runs.existing import BATCH, ExistingThumbnails, Work, hour_is_empty, in_batches, missing
from service.runs.request import RunParameters
from service.storage.addresses import ObjectLocation
from service.storage.base import StoredObject
from service.storage.metering import Meter, listings, metered

if TYPE_CHECKING:
    from concurrent.futures import Future


def estimate_images(
    service: Service,
    existing: ExistingThumbnails,
    work_items: Iterable[Work],
    to_make: Images,
    settle: Callable[[Outcome], None],
) -> Iterator[tuple[Work, "Future[Outcome]"]]:
    """Decide what would become of images, and count those that would be made.

    Images of which storage has to be asked are yielded, each with its future; the others are settled at once.
    """
    thumbnailer, hour, made_since = service.thumbnailer, existing.hour, existing.made_since
    names, lock = set[ObjectLocation](), Lock()
    """Thumbnails that would be made of the images at hand."""

    def decide(work: Work) -> Outcome:
        if outcome := thumbnailer.decide(work.source, hour, looks_first=work.looks_first, made_since=made_since):
            return outcome
        to_make.add(work.source)
        source, folder = work.source.location, existing.outputs[0].folder
        image_hour = hour or Hour.of(work.source.created)
        name = folder.thumbnail(source, image_hour, "", distinct=False)
        with lock:
            if len(names) >= BATCH:
                names.clear()
            is_taken = name in names
            names.add(name)
        if not is_taken:
            return Outcome(Result.CREATED, source)
        variant = StoredThumbnail(folder.thumbnail(source, image_hour, "", distinct=True), 0, 0, 0, renamed=True)
        return Outcome(Result.CREATED, source, thumbnails=(variant,))

    def to_be_asked() -> Iterator[Work]:
        """Decide the images of which nothing has to be asked; yield the others."""
        for work in work_items:
            # Nothing else asks, since nothing goes through the executor.
            existing.stop.raise_if_set("the run was stopped before its last image")
            if work.looks_first or service.selection.needs_sniffing(work.source):
                yield work
            else:
                settle(decide(work))

    return map_bounded(
        service.executor,
        decide,
        to_be_asked(),
        limit=service.settings.concurrency,
        stop=existing.stop,
        grace_seconds=service.shutdown.images,
    )


def price_run(
    params: RunParameters, service: Service, stop: Stop, *, keep_alive: Callable[[], object] = lambda: None
) -> PlannedCost:
    """Price a new run of many tasks: of the images of the folder, those whose thumbnails are missing.

    `keep_alive` is called for each object.

    Raises:
        RetryLater: storage did not say, or the run is to stop.
    """
    meter, to_make, listed, renamed = Meter(), Images(), 0, 0

    def sources() -> Iterator[StoredObject]:
        nonlocal listed
        for stored in service.store.list_objects(params.folder):
            keep_alive()
            listed += 1
            if service.selection.is_source(stored, params.since):
                yield stored

    def settle(outcome: Outcome) -> None:
        nonlocal renamed
        renamed += bool(outcome.renamed) and outcome.result is Result.CREATED

    with metered(meter):
        existing = ExistingThumbnails(service.store, service.thumbnailer.outputs, params.hour, stop)
        bucket = service.settings.destination_bucket
        looks_up = not params.overwrite and not hour_is_empty(service.store, bucket, params.hour)
        batches = read_ahead(service.executor, in_batches(sources()), stop)
        work_items = missing(batches, existing if looks_up else None, settle, service.executor)
        for _, future in estimate_images(service, existing, work_items, to_make, settle):
            keep_alive()
            settle(future.result())
    tasks = params.chunk.count
    # Each task lists its chunk once more, after a look if the hour folder is empty.
    asked = meter.usage + listings(tasks * pages(-(-listed // tasks)) + tasks)
    return estimate(to_make, asked, service.settings, renamed=renamed, tasks=tasks, shared=True).planned
