"""What comes before a task's first image: its plan, if there is one, and the first page of its listing."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice

import structlog

from service.bootstrap import Service
from service.errors import BucketNotFound, RetryLater, ServiceError, StorageRefused
from service.runs.ahead import begin
from service.runs.existing import hour_is_empty
from service.runs.lease import Lease
from service.runs.plan import Plan, read_plan
from service.runs.report import Report
from service.runs.reporter import previous_report
from service.runs.request import RunParameters
from service.runs.task_report import Attempt, TaskReport
from service.storage.addresses import ALL_NAMES, NameRange
from service.storage.base import Page, StoredObject

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
    """The listing of the task's range, which has begun; None if the plan has to say first which range that is."""
    first_page: Page | None = None
    """Of the folder, if this task is to make the plan of many."""


def preflight(params: RunParameters, service: Service, report: Report) -> Start | None:
    """Read the plan and the first page of the listing, so that a mistake shows before an answer has begun.

    The listing begins as soon as the task's range of names is known; that of a run's one task is, without a plan.
    Return None if storage does not do its part; the report says so.

    Raises:
        BucketNotFound: the bucket of the input does not exist.
        InvalidValue: the run was planned with something else than is asked for now.
    """
    open_listing = partial(_open_listing, params, service)
    listing = begin(service.executor, open_listing) if params.chunk.count == 1 else None
    plan = previous = lease = None
    try:
        if plan := read_plan(params, service):
            listing = listing or begin(service.executor, partial(open_listing, plan.names(params.chunk)))
            # A task that finds a plan may have been tried before.
            previous = previous_report(params, service.store)
        elif params.chunk.count > 1 and not params.dry_run:
            lease = Lease(service.store, params.run_folder, params.chunk.index)
            if not lease.acquire():
                return Start(lease=lease)
    except (RetryLater, StorageRefused) as error:
        if isinstance(error, BucketNotFound) and params.run_folder.bucket == params.folder.bucket:
            raise
        end_early(report, error)
        return None
    try:
        if plan is None and params.chunk.count > 1:
            return Start(lease=lease, first_page=service.store.list_page(params.folder))
        objects = (listing or open_listing)()
    except BucketNotFound:
        raise
    except RetryLater as error:
        end_early(report, error)
        return None
    return Start(plan, previous, lease, objects)


def begin_look(params: RunParameters, service: Service, start: Start, attempt: Attempt) -> Callable[[Plan], bool]:
    """Begin to look for thumbnails; return a function that tells, of the plan, if there may be some to look up.

    A run that begins in an empty hour has none, which saves a dry run most of its time. A run of one task looks at its
    hour while it writes its plan.
    """
    if attempt.starts_over or start.plan:
        return lambda _: not attempt.starts_over
    is_empty = partial(hour_is_empty, service.store, service.settings.destination_bucket)
    early = begin(service.executor, partial(is_empty, params.hour)) if params.chunk.count == 1 else None

    def may_have_thumbnails(plan: Plan) -> bool:
        # Another call may have planned the same run meanwhile, for another hour.
        if early and plan.hour == params.hour:
            return not early()
        return not is_empty(plan.hour)

    return may_have_thumbnails


def end_early(report: Report, error: ServiceError) -> None:
    """Note and log why a run cannot go on."""
    log.error("run cannot go on", code=error.code, reason=str(error))
    report.end_early(error)


def _open_listing(params: RunParameters, service: Service, names: NameRange = ALL_NAMES) -> Iterator[StoredObject]:
    """List the folder within a range of names, and wait for the first page."""
    objects = list_range(params, service, names)
    return chain(list(islice(objects, 1)), objects)


def list_range(params: RunParameters, service: Service, names: NameRange) -> Iterator[StoredObject]:
    """List the folder within a range of names; ask nothing if no name can be in it."""
    return iter(()) if names.is_empty else service.store.list_objects(params.folder, names)
