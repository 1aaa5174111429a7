"""The report of a run: its counts, and the images that have no thumbnail.

Counts alone: knows nothing of how an image is made or of storage.
"""

import time
from enum import StrEnum
from threading import Lock
from typing import TYPE_CHECKING, TypeVar

from pydantic import BaseModel, Field

from service.bootstrap import Service
from service.errors import ServiceError, TooExpensive
from service.naming import CREATED
from service.outcome import Outcome, Result
from service.runs.costs import Cost, cost_of
from service.runs.estimate import Estimate, Images, estimate, pages
from service.runs.record import Count
from service.runs.request import RunParameters
from service.storage.addresses import ObjectLocation
from service.storage.metering import Meter, Usage, listings

if TYPE_CHECKING:
    from service.runs.plan import Plan

LIST_LIMIT = 100
"""Rejections, failures and renamed thumbnails that a report names at most; the counts are always whole."""


class State(StrEnum):
    """The state of a task."""

    PLANNING = "planning"
    WORKING = "working"
    WHOLE = "whole"
    """It came to its end, and nothing is left that a retry could mend."""
    UNFINISHED = "unfinished"
    """It ended, and left something."""


class Problem(BaseModel):
    """Why an image has no thumbnail, or why a run ended early."""

    source: str
    code: str
    reason: str


class Renamed(BaseModel):
    """A thumbnail under another name than its source's, because another source holds that."""

    source: str
    thumbnail: str


class PassedOver(BaseModel):
    """An object that is no image."""

    source: str
    reason: str


class RunIdentity(BaseModel):
    """The run, its input and its output."""

    run_id: str
    input_folder: str
    output_folder: str
    timestamp: str
    task_index: int
    task_count: int
    dry_run: bool
    elapsed_seconds: float


class Counts(BaseModel):
    """Progress of a run: `assigned = created + skipped + rejected + failed`."""

    discovered: Count = Field(0, description="Images in the folder.")
    assigned: Count = Field(0, description="Those in this task's chunk.")
    created: Count = Field(0, description="In a dry run: those that would be.")
    skipped: Count = Field(0, description="An up-to-date thumbnail is there.")
    rejected: Count = Field(0, description="Will never work.")
    failed: Count = Field(0, description="May work later.")
    renamed: Count = Field(
        0, description="Of those made, the ones with a suffix to the name; in a dry run, as far as the listing shows."
    )
    damaged: Count = Field(
        0, description="Of those created or skipped, the ones whose file ends too early, shown as far as it goes."
    )
    passed_over: Count = Field(0, description="Objects in the folder that are no images.")
    left_out: Count = Field(0, description="Images that INCLUDE, EXCLUDE, STORAGE_CLASSES or `since` leave out.")
    bytes_read: Count = 0
    bytes_written: Count = 0

    def __add__(self, other: "Counts") -> "Counts":
        # Unchecked: a sum may be larger than what one report may hold.
        return Counts.model_construct(
            **{name: getattr(self, name) + getattr(other, name) for name in Counts.model_fields}
        )


class RunReport(Counts, RunIdentity):
    """The answer of a run."""

    rejections: list[Problem] = Field([], description=f"The first {LIST_LIMIT}.")
    failures: list[Problem] = Field([], description=f"The first {LIST_LIMIT}.")
    renames: list[Renamed] = Field([], description=f"The first {LIST_LIMIT}.")
    not_images: list[PassedOver] = Field([], description=f"The first {LIST_LIMIT} that were passed over.")
    error: Problem | None = Field(None, description="Why the run ended early, if it did.")
    cost: Cost = Field(Cost(), description="Of what this call has asked of storage, and of its time.")
    estimate: Estimate | None = Field(None, description="Of a dry run.")

    @property
    def whole(self) -> bool:
        """Nothing is left that a retry could mend."""
        return not self.failed and self.error is None

    @property
    def is_too_expensive(self) -> bool:
        """It was stopped at its limit of dollars: a retry with the same limit is useless."""
        return self.error is not None and self.error.code == TooExpensive.code


GROWING_FIELDS = frozenset({"rejections", "failures", "renames", "not_images"})
"""The fields of a report that grow with the run."""


class Report:
    """Counts what becomes of each image, from any thread; `snapshot` at any time."""

    def __init__(self, params: RunParameters, service: Service) -> None:
        """Start at nothing."""
        self.params = params
        self.plan: Plan | None = None
        self.attempt = params.attempt
        """Number of earlier attempts at this task, retries of callers included."""
        self.listed = 0
        """Objects that were listed, images or not."""
        self.listed_all = False
        """All images of the chunk were listed."""
        self.ended = False
        self.to_make = Images()
        """Images that a dry run would make."""
        self.meter = Meter()
        """Counts the operations of the run; see `metered`."""
        self._settings = service.settings
        self._metrics = service.metrics
        self._started = time.monotonic()
        self._lock = Lock()
        self._so_far = RunReport(
            run_id=params.run_id,
            input_folder=str(params.folder),
            output_folder="",
            timestamp="",
            task_index=params.chunk.index,
            task_count=params.chunk.count,
            dry_run=params.dry_run,
            elapsed_seconds=0,
        )
        self._planning = Usage()
        """The operations by which the images of all tasks were split."""

    @property
    def task_total(self) -> int | None:
        """Images of the task's chunk; None if that is not known yet."""
        if self.plan and self.plan.sizes:
            return self.plan.sizes[self.params.chunk.index] or None
        return self._so_far.discovered if self.listed_all else None

    @property
    def cost(self) -> Cost:
        """What the task has asked of storage so far, and its time."""
        return cost_of(self.meter.usage, self._seconds, self._settings.prices)

    @property
    def _seconds(self) -> float:
        return time.monotonic() - self._started

    @property
    def state(self) -> State:
        """The state of the task."""
        if not self.ended:
            return State.WORKING if self.plan else State.PLANNING
        return State.WHOLE if self._so_far.whole else State.UNFINISHED

    def begin_chunk(self, plan: "Plan", *, was_planned: bool) -> None:
        """Note the plan, and whether this task has found it or made it."""
        self.plan = plan
        if not was_planned and self.params.chunk.count > 1:
            self._planning = self.meter.usage

    def discover(self) -> None:
        """Count an image that was listed."""
        with self._lock:
            self._so_far.discovered += 1

    def pass_over(self, source: ObjectLocation, reason: str) -> None:
        """Count an object that is no image."""
        with self._lock:
            self._so_far.passed_over += 1
            _append(self._so_far.not_images, PassedOver(source=str(source), reason=reason))

    def leave_out(self) -> None:
        """Count an image that is not asked for."""
        with self._lock:
            self._so_far.left_out += 1

    def add(self, outcome: Outcome) -> None:
        """Count an image that has ended. Nothing else counts them."""
        source, so_far = str(outcome.source), self._so_far
        if not self.params.dry_run:
            self._metrics.image(self.params.door, outcome.result)
        if outcome.result is Result.IGNORED:
            # It was taken for an image when it was listed, and its first bytes say otherwise.
            with self._lock:
                so_far.discovered -= 1
            self.pass_over(outcome.source, outcome.reason)
            return
        with self._lock:
            so_far.assigned += 1
            so_far.bytes_read += outcome.bytes_read
            so_far.bytes_written += outcome.bytes_written
            so_far.damaged += outcome.is_damaged
            if outcome.renamed:
                so_far.renamed += 1
                for thumbnail in outcome.renamed:
                    _append(so_far.renames, Renamed(source=source, thumbnail=str(thumbnail)))
            if outcome.result is Result.CREATED:
                so_far.created += 1
            elif outcome.result is Result.SKIPPED:
                so_far.skipped += 1
            elif outcome.result is Result.REJECTED:
                so_far.rejected += 1
                _append(so_far.rejections, Problem(source=source, code=outcome.code, reason=outcome.reason))
            else:
                so_far.failed += 1
                _append(so_far.failures, Problem(source=source, code=outcome.code, reason=outcome.reason))

    def end_early(self, error: ServiceError) -> None:
        """Note why the run cannot go on."""
        with self._lock:
            self._so_far.error = Problem(source=str(self.params.folder), code=error.code, reason=str(error))

    def snapshot(self) -> RunReport:
        """Return the report as of now."""
        with self._lock:
            # What is in the lists is never changed.
            report = self._so_far.model_copy(
                update={name: list(getattr(self._so_far, name)) for name in GROWING_FIELDS}
            )
            if self.params.dry_run:
                report.estimate = self._estimate(report.renamed)
        plan = self.plan
        hour = plan.hour if plan else self.params.hour
        report.timestamp = str(hour or CREATED)
        report.output_folder = f"gs://{self._settings.destination_bucket}/{f'{hour}/' if hour else ''}"
        report.elapsed_seconds = round(self._seconds, 3)
        report.cost = self.cost
        if plan and plan.total is not None:
            in_folder = plan.total - plan.sizes[self.params.chunk.index] + report.discovered
            report.discovered = in_folder if self.listed_all else max(in_folder, plan.total)
        return report

    def _estimate(self, renamed: int) -> Estimate:
        """Estimate what the images that were counted take; what finds them is asked by a dry run, too."""
        shared = self.params.chunk.count > 1
        # Of the listing that plans, each task counts as much as it lists itself.
        asked = self.meter.usage - self._planning + listings(pages(self.listed) if shared else 0)
        return estimate(self.to_make, asked, self._settings, renamed=renamed, shared=shared)


_Item = TypeVar("_Item")


def _append(items: list[_Item], item: _Item) -> None:
    if len(items) < LIST_LIMIT:
        items.append(item)
