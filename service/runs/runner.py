"""One task of a run: from its plan to the last image of its chunk.

A pipeline that pulls: images are listed as they are worked on, and no memory grows with the folder.
"""

import logging
from collections.abc import Iterable, Iterator
from concurrent.futures import CancelledError, Future
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import chain, islice

import structlog

from service.bootstrap import Service
from service.errors import (
    BucketNotFound,
    InternalError,
    InvalidValue,
    RetryLater,
    ServiceError,
    ShuttingDown,
    StorageRefused,
    TooExpensive,
)
from service.outcome import Outcome, Result
from service.process import Stop
from service.runs.bounded import map_bounded
from service.runs.existing import ExistingThumbnails, Work, missing
from service.runs.lease import Lease
from service.runs.limit import Allowance, check_price, say_what_is_left
from service.runs.manifest import Manifest
from service.runs.plan import Plan, obtain_plan, read_plan
from service.runs.price import estimate_images
from service.runs.report import GROWING_FIELDS, Report, State
from service.runs.reporter import Reporter, previous_report
from service.runs.request import RunParameters
from service.runs.task_report import Attempt, TaskReport
from service.storage.addresses import ALL_NAMES, NameRange
from service.storage.base import StoredObject

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Start:
    """The findings of `preflight`, and the listing that it has begun."""

    plan: Plan | None = None
    previous: TaskReport | None = None
    """The last report of an earlier attempt at this task."""
    lease: Lease | None = None
    """Of a run of many tasks that has no plan yet."""
    objects: Iterator[StoredObject] | None = None
    """A listing that has begun: of the task's range, or of the folder if there is no plan; None without the lease."""


def preflight(params: RunParameters, service: Service, report: Report) -> Start | None:
    """Read the plan and the first page of the listing, so that a mistake shows before an answer has begun.

    Return None if storage does not do its part; the report says so.

    Raises:
        BucketNotFound: the bucket of the input does not exist.
        InvalidValue: the run was planned with something else than is asked for now.
    """
    plan = previous = lease = None
    try:
        if plan := read_plan(params, service):
            # A task that finds a plan may have been tried before.
            previous = previous_report(params, service.store)
        elif params.chunk.count > 1 and not params.dry_run:
            lease = Lease(service.store, params.run_folder, params.chunk.index)
            if not lease.acquire():
                return Start(lease=lease)
    except (RetryLater, StorageRefused) as error:
        if isinstance(error, BucketNotFound) and params.run_folder.bucket == params.folder.bucket:
            raise
        _end_early(report, error)
        return None
    objects = _list_range(params, service, plan.names(params.chunk) if plan else ALL_NAMES)
    try:
        first = list(islice(objects, 1))
    except BucketNotFound:
        raise
    except RetryLater as error:
        _end_early(report, error)
        return None
    return Start(plan, previous, lease, chain(first, objects))


def run_task(params: RunParameters, service: Service, start: Start, report: Report, stop: Stop) -> None:
    """Thumbnail all images of the task's chunk; return when none is in flight any more.

    The report counts, and says why the run ended early, if it did. Once `stop` is set, no further image is taken, and
    images in flight get `Shutdown.images` seconds.

    Raises:
        InvalidValue: another task has meanwhile planned the run with something else than is asked for.
        TooExpensive: the run costs more than it may; no image was read.
    """
    attempt = Attempt.after(start.previous, params)
    report.attempt = attempt.attempt
    manifest = None if params.dry_run else Manifest(params, service.store)

    def settle(outcome: Outcome) -> None:
        report.add(outcome)
        if manifest:
            manifest.add(outcome)

    allowance = _open_allowance(service, start, report, attempt, stop)
    with nullcontext() if params.dry_run else Reporter(report, attempt, service.store, stop):
        try:
            plan = start.plan or obtain_plan(params, service, start.lease, start.objects, stop)
            report.begin_chunk(plan, was_planned=start.plan is not None)
            check_price(plan, params, service, stop)
            objects = _objects_of_chunk(params, service, start, plan)
            images = list_images(allowance.listed(objects) if allowance else objects, plan, service, report, stop)
            existing = ExistingThumbnails(
                service.store, service.thumbnailer.outputs, plan.hour, stop, attempt.overwrite_before
            )
            # A run that begins in an empty hour has nothing to look up, which saves a dry run most of its time.
            looks_up = not attempt.starts_over and (start.plan or not existing.is_empty())
            work_items = missing(images, existing if looks_up else None, settle)
            for work, future in _make_thumbnails(service, existing, work_items, report, allowance):
                settle(_outcome_of(work.source, future))
            if manifest:
                manifest.finish()
        except (RetryLater, StorageRefused) as error:
            _end_early(report, error)
        except InvalidValue as error:
            _end_refused(report, error)
        except BaseException:
            report.end_early(InternalError())
            raise
        finally:
            report.ended = True
    log_summary(report)


def list_images(
    objects: Iterable[StoredObject], plan: Plan, service: Service, report: Report, stop: Stop
) -> Iterator[StoredObject]:
    """Yield the images that are asked for among listed objects, and count them; count the other objects.

    Raises:
        ShuttingDown: the run is to stop. An image that was yielded is still taken, or counts as failed.
    """
    for stored in objects:
        report.listed += 1
        if service.selection.is_source(stored, plan.since):
            report.discover()
            yield stored
            continue
        if service.selection.exclusion_reason(stored) is None:
            if reason := service.selection.non_image_reason(stored):
                report.pass_over(stored.location, reason)
            else:
                report.leave_out()
        stop.raise_if_set("the run was stopped before its last image")
    report.listed_all = True


def log_summary(report: Report) -> None:
    """Log one line with all counts, once the run is over."""
    snapshot = report.snapshot()
    log.log(
        logging.INFO if snapshot.whole else logging.WARNING,
        "run ended",
        outcome=State.WHOLE if snapshot.whole else State.UNFINISHED,
        attempt=report.attempt,
        **snapshot.model_dump(mode="json", exclude={*GROWING_FIELDS}, exclude_none=True),
    )
    if snapshot.left_out and not snapshot.discovered and not report.params.since:
        log.warning("INCLUDE, EXCLUDE and STORAGE_CLASSES leave out every image", left_out=snapshot.left_out)


def _objects_of_chunk(params: RunParameters, service: Service, start: Start, plan: Plan) -> Iterator[StoredObject]:
    """List the task's range of names, or go on with the listing that has begun if it is that range."""
    if start.objects and (start.plan or params.chunk.count == 1):
        return start.objects
    return _list_range(params, service, plan.names(params.chunk))


def _list_range(params: RunParameters, service: Service, names: NameRange) -> Iterator[StoredObject]:
    """List the folder within a range of names; ask nothing if no name can be in it."""
    return iter(()) if names.is_empty else service.store.list_objects(params.folder, names)


def _make_thumbnails(
    service: Service,
    existing: ExistingThumbnails,
    work_items: Iterator[Work],
    report: Report,
    allowance: Allowance | None,
) -> Iterator[tuple[Work, "Future[Outcome]"]]:
    params = report.params
    if params.dry_run:
        return estimate_images(service, existing, work_items, report.to_make, report.add)
    thumbnailer, hour, made_since = service.thumbnailer, existing.hour, existing.made_since

    def process(work: Work) -> Outcome:
        with allowance.processing(work) if allowance else nullcontext():
            return thumbnailer.process(
                work.source, hour, looks_first=work.looks_first, overwrite=params.overwrite, made_since=made_since
            )

    return map_bounded(
        service.executor,
        process,
        allowance.admit(work_items) if allowance else work_items,
        limit=service.settings.concurrency,
        stop=existing.stop,
        grace_seconds=service.shutdown.images,
    )


def _outcome_of(image: StoredObject, future: "Future[Outcome]") -> Outcome:
    """Return how an image ended; an exception is a failure, and is logged."""
    try:
        return future.result(0)
    except CancelledError:
        return Outcome.failed(image.location, ShuttingDown("the process ended before this image's turn"))
    except RetryLater as error:
        log.warning(
            "image failed", source=str(image.location), outcome=Result.FAILED, code=error.code, reason=str(error)
        )
        return Outcome.failed(image.location, error)
    except Exception:  # the outermost edge of a worker thread
        log.exception("image failed by a defect", source=str(image.location), outcome=Result.FAILED)
        return Outcome.failed(image.location, InternalError())


def _open_allowance(service: Service, start: Start, report: Report, attempt: Attempt, stop: Stop) -> Allowance | None:
    """Return the dollars that a run may spend, if they suffice to begin it and to end it; None if there is no limit."""
    # A run that was whole begins anew.
    goes_on = start.previous is not None and start.previous.state is not State.WHOLE
    allowance = Allowance.of(service, report, attempt.cost_before.dollars if goes_on else 0.0, stop)
    if allowance:
        try:
            allowance.check_start(start.objects or ())
        except TooExpensive as error:
            _end_early(report, error)
            raise
    return allowance


def _end_refused(report: Report, error: InvalidValue) -> None:
    """Note that the run was stopped at its limit of dollars, or raise the error."""
    if isinstance(error, TooExpensive) and not error.estimate:
        _end_early(report, say_what_is_left(error, report))
        return
    # The run costs too much, or its plan is for something else, which a retry does not mend.
    _end_early(report, error)
    raise error


def _end_early(report: Report, error: ServiceError) -> None:
    log.error("run cannot go on", code=error.code, reason=str(error))
    report.end_early(error)
