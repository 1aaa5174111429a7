"""One task of a run: from its plan to the last image of its chunk.

A pipeline that pulls: images are listed as they are worked on, and no memory grows with the folder.
"""

import logging
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from typing import TYPE_CHECKING

import structlog

from service.bootstrap import Service
from service.errors import (
    InternalError,
    InvalidValue,
    RetryLater,
    StorageRefused,
    TooExpensive,
)
from service.outcome import Outcome, Result
from service.process import Stop
from service.runs.ahead import read_ahead
from service.runs.bounded import map_bounded
from service.runs.dry_run import estimate_images
from service.runs.existing import BATCHES_AHEAD, ExistingThumbnails, Work, in_batches, missing
from service.runs.limit import Allowance, check_price, say_what_is_left
from service.runs.manifest import Manifest
from service.runs.plan import Plan, obtain_plan
from service.runs.report import GROWING_FIELDS, Report, State
from service.runs.reporter import Reporter
from service.runs.request import RunParameters
from service.runs.start import Start, begin_look, end_early, list_range
from service.runs.task_report import Attempt
from service.storage.base import StoredObject

if TYPE_CHECKING:
    from concurrent.futures import Future

log = structlog.get_logger()


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
            may_have_thumbnails = begin_look(params, service, start, attempt)
            plan = start.plan or obtain_plan(params, service, start.lease, start.first_page, stop)
            report.begin_chunk(plan, was_planned=start.plan is not None)
            check_price(plan, params)
            looks_up = may_have_thumbnails(plan)
            objects = start.objects or list_range(params, service, plan.names(params.chunk))
            images = list_images(allowance.listed(objects) if allowance else objects, plan, service, report, stop)
            existing = ExistingThumbnails(
                service.store, service.thumbnailer.outputs, plan.hour, stop, attempt.overwrite_before
            )
            batches = in_batches(images)
            if (params.dry_run or looks_up) and not allowance:
                # The next page is listed meanwhile. A run that makes every image has those in flight meanwhile.
                batches = read_ahead(service.executor, batches, stop)
            # With a limit of dollars, one request is counted before the next is made.
            ahead = 0 if allowance else BATCHES_AHEAD
            work_items = missing(batches, existing if looks_up else None, settle, service.executor, ahead=ahead)
            for work, future in _make_thumbnails(service, existing, work_items, report, allowance):
                settle(_outcome_of(work.source, future))
            if manifest:
                manifest.finish()
        except (RetryLater, StorageRefused) as error:
            end_early(report, error)
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
        ShuttingDown: the run is to stop.
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
        # A few images wait for a thread, so that no thread waits for an image.
        limit=service.settings.concurrency * 7 // 6,
        stop=existing.stop,
        grace_seconds=service.shutdown.images,
    )


def _outcome_of(image: StoredObject, future: "Future[Outcome]") -> Outcome:
    """Return how an image ended; an exception is a failure, and is logged."""
    try:
        return future.result(0)
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
    allowance = Allowance.of(service, report, attempt.spent_before, stop)
    if allowance:
        try:
            allowance.check_start(start.objects or ())
        except TooExpensive as error:
            end_early(report, error)
            raise
    return allowance


def _end_refused(report: Report, error: InvalidValue) -> None:
    """Note that the run was stopped at its limit of dollars, or raise the error."""
    if isinstance(error, TooExpensive) and not error.estimate:
        end_early(report, say_what_is_left(error, report))
        return
    # The run costs too much, or its plan is for something else, which a retry does not mend.
    end_early(report, error)
    raise error
