"""The plan of a run: the hour folder, the settings that shape the output, and the boundaries of the chunks.

The tasks of a run agree on one plan, an object that is created if absent and never changed. The holder of the `Lease`
makes it, and the others wait.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from itertools import groupby, islice, pairwise
from typing import Any, Self

import structlog
from pydantic import AwareDatetime, ConfigDict, Field, model_validator

from service.bootstrap import Service
from service.errors import InvalidValue, NameTaken, ObjectNotFound
from service.naming import CREATED, RUN, Hour
from service.process import Stop
from service.runs.bounded import map_bounded
from service.runs.costs import PlannedCost
from service.runs.dry_run import price_run
from service.runs.estimate import Images, estimate, planning
from service.runs.lease import Lease, create, tries
from service.runs.parallel_listing import list_in_parallel
from service.runs.partition import Boundary, Chunk, NameSample, range_between
from service.runs.record import MAX_RECORD_BYTES, UNREADABLE, Count, Record, problem_of
from service.runs.request import RunParameters
from service.settings import MAX_TASKS
from service.storage.addresses import NameRange
from service.storage.base import ObjectStore, Page, StoredObject, refused

PLAN_NAME = "plan.json"
"""More than 10,000 boundaries of the longest names that storage allows have."""

_POLL_SECONDS = 0.2
_LONGEST_POLL_SECONDS = 5.0
"""Between two looks for another task's plan."""

log = structlog.get_logger()


class Plan(Record):
    """The facts that are the same for all tasks of a run, whenever they start and however often they are tried."""

    model_config = ConfigDict(frozen=True, validate_by_name=True, serialize_by_alias=True)

    run_id: str
    input_folder: str
    timestamp: str
    since: AwareDatetime | None = None
    since_as_given: str | None = None
    task_count: int = Field(ge=1, le=MAX_TASKS)
    output_fingerprint: str = Field(alias="shape")
    total: Count | None = None
    """Images that were found; None for a run of one task, which has nothing to split and lists nothing to plan."""
    boundaries: tuple[str, ...] = ()
    """The name that each chunk but the first begins with; names that are there or not."""
    sizes: tuple[Count, ...] = ()
    """Images of each chunk when the plan was made; none for a run of one task."""
    cost: PlannedCost | None = None
    """What the run may cost; None for a run of one task."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        """See that the plan is one that `of` could have made."""
        _ = self.hour
        if self.total is None:
            fits = self.task_count == 1 and not self.boundaries and not self.sizes
        else:
            fits = len(self.boundaries) + 1 == len(self.sizes) == self.task_count and sum(self.sizes) == self.total
        if not fits or any(after < before for before, after in pairwise(self.boundaries)):
            raise ValueError("its chunks are not those of task_count tasks and total images")
        return self

    @classmethod
    def of(
        cls,
        params: RunParameters,
        total: int | None = None,
        boundaries: Sequence[Boundary] = (),
        cost: PlannedCost | None = None,
    ) -> Self:
        """Make the plan of a run whose folder has `total` images, if they were counted, split at the boundaries."""
        positions = [] if total is None else [0, *(boundary.position for boundary in boundaries), total]
        return cls(
            run_id=params.run_id,
            input_folder=str(params.folder),
            timestamp=str(params.hour or CREATED),
            since=params.since,
            since_as_given=params.since_as_given,
            task_count=params.chunk.count,
            output_fingerprint=params.output_fingerprint,
            total=total,
            boundaries=tuple(boundary.name for boundary in boundaries),
            sizes=tuple(after - before for before, after in pairwise(positions)),
            cost=cost,
        )

    @cached_property
    def hour(self) -> Hour | None:
        """The hour folder of all thumbnails of the run; None: of each image the hour in which it was created."""
        return None if self.timestamp == CREATED else Hour.parse(self.timestamp, "timestamp")

    def names(self, chunk: Chunk) -> NameRange:
        """Return the range of names that a task has."""
        return range_between(self.boundaries, chunk.index)

    def check(self, params: RunParameters) -> None:
        """Compare with the parameters of a task.

        Raises:
            InvalidValue: they ask for something else than the plan; the run needs an id of its own.
        """
        if params.hour_is_given:
            timestamp = str(params.hour or CREATED)
        elif params.run_hour_is_given and self.timestamp == CREATED:
            timestamp = RUN
        else:
            timestamp = self.timestamp
        for field, asked, planned in (
            ("input_folder", str(params.folder), self.input_folder),
            ("task_count", params.chunk.count, self.task_count),
            ("timestamp", timestamp, self.timestamp),
            # An age means another moment for each task; the plan's is the one.
            ("since", params.since_as_given or "", self.since_as_given or ""),
            ("run_id", params.output_fingerprint, self.output_fingerprint),
        ):
            if asked != planned:
                raise InvalidValue(
                    field, asked, f"is not what the run {self.run_id!r} was planned with, {planned!r}; "
                    "another run needs another run_id"
                )  # fmt: skip


def read_plan(params: RunParameters, service: Service) -> Plan | None:
    """Return the plan of a run, if it has one.

    Raises:
        InvalidValue: it is a plan for something else, or cannot be read.
    """
    try:
        plan = load_plan(service.store, service.store.stat(params.run_folder / PLAN_NAME), params.run_id)
    except ObjectNotFound:
        return None
    plan.check(params)
    return plan


def load_plan(store: ObjectStore, stored: StoredObject, run_id: str) -> Plan:
    """Read the plan of a run.

    Raises:
        InvalidValue: it cannot be read.
        ObjectNotFound: it is gone.
    """
    try:
        return Plan.model_validate_json(store.read(stored, MAX_RECORD_BYTES))
    except UNREADABLE as error:
        raise InvalidValue(
            "run_id", run_id, f"has a plan that cannot be read, {stored.location}: {problem_of(error)}; "
            "another run needs another run_id"
        ) from error  # fmt: skip


def obtain_plan(
    params: RunParameters, service: Service, lease: Lease | None, first_page: Page | None, stop: Stop
) -> Plan:
    """Make the plan of a run that had none, or wait for the task that makes it.

    A run of many tasks has a lease. `first_page` is that of the folder; None if another task holds the lease.

    Raises:
        ShuttingDown: the run is to stop.
        InvalidValue: see `read_plan`.
    """
    if params.chunk.count == 1:
        plan = Plan.of(params)
    else:
        if first_page is None and lease and (plan_of_another := _wait(params, service, lease, stop)):
            return plan_of_another
        plan = split(params, service, first_page, lease, stop)
        if params.limit and plan.cost and plan.cost.dollars > params.limit.dollars:
            # It is less if thumbnails are there.
            cost = price_run(params, service, stop, keep_alive=_renewal(lease))
            plan = plan.model_copy(update={"cost": cost})
    return plan if params.dry_run else _agree(plan, params, service, stop)


def split(params: RunParameters, service: Service, first_page: Page | None, lease: Lease | None, stop: Stop) -> Plan:
    """Split the folder into chunks; write nothing but the renewals of the lease.

    The folder is listed from its first page on, which may have been listed already.

    Raises:
        ShuttingDown: the run is to stop.
    """

    def sources_of(page: Page) -> Sequence[Mapping[str, Any]]:
        return service.selection.sources_of(page, params.since)

    sample, images, listed = NameSample(), Images(), 0
    for part in list_in_parallel(params.folder, first_page, sources_of, service, stop, keep_alive=_renewal(lease)):
        listed += part.objects
        sample.add([source["name"] for source in part.selected], part.range_start)
        images.add_listed(part.selected)
    tasks, settings = params.chunk.count, service.settings
    boundaries = _exact(sample.boundaries(tasks), params, service, lease, stop)
    asked = planning(listed, tasks, len(settings.specs))
    cost = estimate(images, asked, settings, tasks=tasks, shared=True).planned
    return Plan.of(params, sample.total, boundaries, cost)


def _renewal(lease: Lease | None) -> Callable[[], object]:
    """Return what keeps the lease, if there is one."""
    return lease.renew if lease else lambda: None


def _agree(plan: Plan, params: RunParameters, service: Service, stop: Stop) -> Plan:
    """Create the plan's object; return the plan of whichever task was first with that.

    Raises:
        StorageUnavailable: storage says again and again that the name is taken, and it holds nothing.
    """
    metadata = {"tasks": str(plan.task_count)}
    if plan.total is not None:
        metadata["total"] = str(plan.total)
    for _ in tries(stop.wait):
        try:
            create(service.store, params.run_folder / PLAN_NAME, plan.model_dump(mode="json"), metadata)
        except NameTaken as error:
            if plan_of_another := read_plan(params, service):
                return plan_of_another
            refusal = error
        else:
            log.info("run planned", run_id=plan.run_id, total=plan.total, task_count=plan.task_count)
            return plan
    raise refused(refusal) from refusal


def _wait(params: RunParameters, service: Service, lease: Lease, stop: Stop) -> Plan | None:
    """Wait for the plan of the lease's holder; return None if the lease is this task's now."""
    pause = _POLL_SECONDS
    while True:
        if plan := read_plan(params, service):
            return plan
        if not lease.seconds_left:
            if lease.acquire():
                return None
            continue
        stop.wait(min(pause, lease.seconds_left))
        stop.raise_if_set("the run was stopped before it was planned")
        pause = min(pause * 1.5, _LONGEST_POLL_SECONDS)


def _exact(
    boundaries: list[Boundary], params: RunParameters, service: Service, lease: Lease | None, stop: Stop
) -> list[Boundary]:
    """Look up the names of boundaries between two names that were kept: one listing for each such pair."""

    def look_up(group: list[Boundary]) -> list[Boundary]:
        stop.raise_if_set("the run was stopped while it was planned")
        if not any(boundary.skip for boundary in group):
            return group
        listed = service.store.list_objects(params.folder, NameRange(group[0].name, group[0].limit))
        sources = (stored.location.name for stored in listed if service.selection.is_source(stored, params.since))
        names = list(islice(sources, group[-1].skip + 1))
        # Objects that were deleted meanwhile may have left fewer.
        last = group[-1].limit or group[0].name
        return [
            Boundary(boundary.position, names[boundary.skip] if boundary.skip < len(names) else last)
            for boundary in group
        ]

    groups = [list(group) for _, group in groupby(boundaries, lambda boundary: (boundary.name, boundary.limit))]
    found: dict[int, list[Boundary]] = {}
    # Bounded: images and events share the executor.
    limit, grace = service.settings.concurrency, service.shutdown.images
    for group, looked_up in map_bounded(service.executor, look_up, groups, limit=limit, stop=stop, grace_seconds=grace):
        found[group[0].position] = looked_up.result()
        if lease:
            lease.renew()
    exact: list[Boundary] = []
    for group in (found[group[0].position] for group in groups):
        # Objects that came and went meanwhile may not turn the order round.
        exact += [Boundary(each.position, max(each.name, exact[-1].name if exact else "")) for each in group]
    return exact
