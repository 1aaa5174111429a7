"""The progress of runs, read back from the plans and reports that their tasks keep in storage.

A run of ten thousand tasks is ten listings, since each report carries its figures as metadata. Reports themselves are
read only for rejections and failures, and only so many.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from itertools import islice
from typing import TypeVar

from pydantic import BaseModel, Field, ValidationError

from service.errors import InvalidValue, ObjectNotFound, SourceTooLarge
from service.naming import BOOKKEEPING_FOLDER, number_in
from service.runs.costs import Cost, PlannedCost, rounded
from service.runs.plan import PLAN_NAME, Plan, load_plan
from service.runs.record import MAX_RECORD_BYTES, UNREADABLE, problem_of
from service.runs.report import LIST_LIMIT, Counts, Problem, State
from service.runs.reporter import StoredReport, keep_newest
from service.runs.request import folder_of_run
from service.runs.task_report import Summary, TaskReport
from service.settings import MAX_TASKS
from service.storage.addresses import FolderLocation, NameRange
from service.storage.base import ObjectStore, StoredObject

_REPORTS_READ = 20
"""Tasks of one run whose reports are read for rejections and failures."""
_READERS = 8

_Item = TypeVar("_Item")


class QuietTask(BaseModel):
    """A task that is at work by its last report, and has not reported when it should have."""

    task_index: int
    last_report: datetime


class Tasks(BaseModel):
    """Number of tasks in each state."""

    not_started: int = 0
    running: int = 0
    quiet: int = 0
    whole: int = 0
    unfinished: int = Field(0, description="They ended and left something; a retry does the rest.")
    unreadable: int = Field(0, description="Their report cannot be read; `failures` says why.")


class RunStatus(BaseModel):
    """Progress of a run, over all of its tasks."""

    run_id: str
    state: str = Field(description="planning, running, whole or unfinished.")
    input_folder: str | None = None
    output_folder: str | None = None
    timestamp: str | None = None
    task_count: int | None = None
    planned: datetime | None = None
    updated: datetime | None = Field(None, description="When a task last reported.")
    total: int | None = Field(None, description="Images to thumbnail, as far as is known.")
    done: int = Field(0, description="Images that were made, found up to date, or rejected.")
    created: int = Field(0, description="By all attempts of all tasks.")
    skipped: int = Field(0, description="Up to date already, and not made by an earlier attempt of this run.")
    rejected: int = 0
    failed: int = 0
    renamed: int = 0
    damaged: int = Field(0, description="Of those created or skipped, the ones whose file ends too early.")
    passed_over: int = 0
    bytes_read: int = 0
    bytes_written: int = 0
    cost: Cost = Field(Cost(), description="So far, of all attempts of all tasks.")
    expected_dollars: float | None = Field(None, description="Of the whole run: so far, and what is left.")
    estimate: PlannedCost | None = Field(
        None, description="When a run of many tasks was planned: at most, with all images."
    )
    images_per_second: float = Field(0.0, description="Of the tasks at work, each since its report before.")
    seconds_left: float | None = Field(None, description="At that rate; none where nobody is at work.")
    attempts: int = Field(0, description="How often tasks were started, retries and all.")
    tasks: Tasks = Tasks()
    not_started: list[int] = Field([], description=f"Task indexes, the first {LIST_LIMIT}.")
    quiet: list[QuietTask] = Field([], description=f"The first {LIST_LIMIT}.")
    unfinished: list[int] = Field([], description=f"Task indexes, the first {LIST_LIMIT}.")
    rejections: list[Problem] = Field([], description=f"The first {LIST_LIMIT}.")
    failures: list[Problem] = Field(
        [], description=f"The first {LIST_LIMIT}, why tasks ended early, and which reports cannot be read."
    )


def run_status(store: ObjectStore, bucket: str, run_id: str) -> RunStatus:
    """Sum up what the tasks of a run have reported.

    Args:
        store: where plans and reports are.
        bucket: the one.
        run_id: which run.

    Raises:
        ObjectNotFound: there is nothing of such a run.
        InvalidValue: its plan cannot be read.
        RetryLater: storage did not say.
    """
    folder = folder_of_run(bucket, run_id)
    plan_object: StoredObject | None = None
    latest: dict[int, StoredReport] = {}
    unreadable: dict[int, Problem] = {}
    # Manifests, of which there may be one a task, come before the plan and are not listed.
    objects = list(store.list_objects(folder, NameRange(folder.prefix + PLAN_NAME)))
    if not objects:
        raise ObjectNotFound(f"there is no run {run_id!r} in {FolderLocation(bucket, BOOKKEEPING_FOLDER)}")
    for stored in objects:
        name = stored.location.name.removeprefix(folder.prefix)
        if name == PLAN_NAME:
            plan_object = stored
        elif (index := _task_index(name)) is not None:
            try:
                keep_newest(latest, index, stored)
            except ValidationError as error:
                unreadable[index] = _unreadable(stored, error)
    status = RunStatus(run_id=run_id, state="planning")
    summaries = [summary for _, summary in latest.values()]
    _add_up(status, summaries)
    if plan_object:
        _add_plan(status, plan_object, load_plan(store, plan_object, run_id), summaries)
    _sort_tasks(status, latest, unreadable)
    _judge(status)
    status.expected_dollars = _expected_dollars(status)
    _add_problems(status, store, latest)
    return status


def _add_up(status: RunStatus, summaries: Sequence[Summary]) -> None:
    made = sum((summary.made_before + summary for summary in summaries), Counts())
    now = sum(summaries, Counts())
    for field in ("created", "renamed", "bytes_read", "bytes_written"):
        setattr(status, field, getattr(made, field))
    status.cost = sum((summary.cost_before + summary.cost for summary in summaries), Cost())
    for field in ("rejected", "failed", "damaged", "passed_over"):
        setattr(status, field, getattr(now, field))
    for summary in summaries:
        status.skipped += max(0, summary.skipped - summary.made_before.created)
        status.done += summary.done
        status.attempts += summary.attempt + 1
    status.updated = max((summary.updated for summary in summaries), default=None)


def _add_plan(status: RunStatus, stored: StoredObject, plan: Plan, summaries: Sequence[Summary]) -> None:
    status.input_folder = plan.input_folder
    status.timestamp = plan.timestamp
    status.output_folder = f"gs://{stored.location.bucket}/{f'{plan.hour}/' if plan.hour else ''}"
    status.task_count = plan.task_count
    status.planned = stored.created
    status.estimate = plan.cost
    listed = [summary.discovered for summary in summaries if summary.listed_all]
    planned = plan.total or 0
    # A task that has listed its chunk knows how many images it found more, or fewer, than were planned.
    total = planned + sum(discovered - planned for discovered in listed)
    if len(listed) == plan.task_count:
        # Earlier attempts may have been done with images that were deleted since.
        status.total, status.done = total, min(status.done, total)
    elif plan.total is not None:
        status.total = max(total, status.done)


def _expected_dollars(status: RunStatus) -> float | None:
    """Return what the whole run costs: what it has cost, and what is planned or, without a plan, usual for the rest."""
    if not (status.total and status.done):
        return None
    so_far, further = status.cost.by_class, max(0.0, status.total / status.done - 1)
    asked = sum(of_class.dollars for of_class in so_far.values())
    rest = asked * further
    if status.estimate and further:
        planned = status.estimate.by_class
        rest = sum(
            max(0.0, of_class.dollars - (so_far[each].dollars if each in so_far else 0.0))
            for each, of_class in planned.items()
        )
        # An estimate of all images counts those that turn out to be up to date.
        if sum(of_class.images for of_class in planned.values()) == status.total:
            rest *= 1 - status.skipped / max(status.done, status.skipped)
    return rounded(status.cost.dollars + rest + max(0.0, status.cost.dollars - asked) * further)


def _sort_tasks(status: RunStatus, latest: Mapping[int, StoredReport], unreadable: Mapping[int, Problem]) -> None:
    now = datetime.now(UTC)
    for index in range(status.task_count or max([*latest, *unreadable], default=-1) + 1):
        if index not in latest and index in unreadable:
            status.tasks.unreadable += 1
            _up_to_limit(status.failures, [unreadable[index]])
            continue
        if index not in latest:
            status.tasks.not_started += 1
            _up_to_limit(status.not_started, [index])
            continue
        _, summary = latest[index]
        if summary.state is State.WHOLE:
            status.tasks.whole += 1
        elif summary.state is State.UNFINISHED:
            status.tasks.unfinished += 1
            _up_to_limit(status.unfinished, [index])
        elif summary.quiet_after < now:
            status.tasks.quiet += 1
            _up_to_limit(status.quiet, [QuietTask(task_index=index, last_report=summary.updated)])
        else:
            status.tasks.running += 1
            status.images_per_second += summary.images_per_second
    status.images_per_second = round(status.images_per_second, 1)


def _judge(status: RunStatus) -> None:
    """Set the state of the run by those of its tasks."""
    tasks = status.tasks
    ended_or_gone = tasks.unfinished or tasks.quiet or tasks.unreadable
    if status.task_count is None:
        # Planning, unless the task that was to plan has ended or gone quiet.
        status.state = "unfinished" if ended_or_gone and not tasks.running else "planning"
    elif tasks.whole == status.task_count:
        status.state = "whole"
    elif tasks.running or (tasks.not_started and not ended_or_gone):
        status.state = "running"
        if status.images_per_second and status.total is not None:
            status.seconds_left = round(max(0, status.total - status.done) / status.images_per_second, 1)
    else:
        status.state = "unfinished"


def _add_problems(status: RunStatus, store: ObjectStore, latest: dict[int, StoredReport]) -> None:
    telling = (
        item for _, (item, summary) in sorted(latest.items()) if summary.rejected or summary.failed or summary.has_error
    )

    def read(item: StoredObject) -> tuple[list[Problem], list[Problem]]:
        try:
            report = TaskReport.model_validate_json(store.read(item, MAX_RECORD_BYTES))
        except ObjectNotFound:
            return [], []  # It was replaced meanwhile; the next look has it.
        except UNREADABLE as error:
            return [], [_unreadable(item, error)]
        return report.rejections, [*([report.error] if report.error else []), *report.failures]

    with ThreadPoolExecutor(_READERS, "status") as readers:
        for rejections, failures in readers.map(read, islice(telling, _REPORTS_READ)):
            _up_to_limit(status.rejections, rejections)
            _up_to_limit(status.failures, failures)


def _unreadable(report: StoredObject, error: ValidationError | SourceTooLarge) -> Problem:
    reason = f"the report cannot be read: {problem_of(error)}"
    return Problem(source=str(report.location), code=InvalidValue.code, reason=reason)


def _up_to_limit(into: list[_Item], more: Sequence[_Item]) -> None:
    into += more[: LIST_LIMIT - len(into)]


def _task_index(name: str) -> int | None:
    """Return the index of the task whose report has a name; None if it is no report's."""
    task, _, rest = name.partition("-of-")
    index = number_in(task.removeprefix("task-")) if rest.endswith(".json") else None
    return index if index is not None and index < MAX_TASKS else None
