"""What the tasks of one run agree on: the hour folder, the settings that shape the output, and the chunks' boundaries.

The plan is an object that is written once and never changed. Who makes it is settled with claims, objects that are
created only where none is: whoever has the latest one plans, and the others wait for as long as it keeps coming.
"""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from contextvars import copy_context
from datetime import UTC, datetime, timedelta
from functools import cached_property
from itertools import groupby, islice, pairwise
from typing import Self

import structlog
from pydantic import BaseModel, ConfigDict, ValidationError

from service.errors import InvalidValue, NameTaken, ObjectNotFound, PermissionMissing, ShuttingDown
from service.naming import BOOKKEEPING_FOLDER, Hour
from service.runs.partition import Boundary, Chunk, NameSample, range_between
from service.runs.request import RunParameters
from service.storage.addresses import FolderLocation, NameRange, ObjectLocation
from service.storage.base import ObjectStore, StoredObject

PLAN_NAME = "plan.json"
_MAX_PLAN_BYTES = 64 * 1024 * 1024
"""More than 10,000 boundaries of the longest names that storage allows have."""

LEASE_SECONDS = 30.0
"""How long a claim holds. It is renewed several times within that."""
_POLL_SECONDS = 0.2
_LONGEST_WAIT_SECONDS = 5.0
"""Between two looks for the plan."""

ListImages = Callable[[NameRange], Iterator[StoredObject]]
"""Lists the images of the run's folder that are within a range of names."""

log = structlog.get_logger()


def folder_of_run(bucket: str, run_id: str) -> FolderLocation:
    """Where the plan and the reports of a run are."""
    return FolderLocation(bucket, f"{BOOKKEEPING_FOLDER}{run_id}/")


class Plan(BaseModel):
    """What is the same for all tasks of a run, whenever they start and however often they are tried."""

    model_config = ConfigDict(frozen=True)

    run_id: str
    input_folder: str
    timestamp: str
    task_count: int
    shape: str
    """The settings that shape the output, as text."""
    total: int
    """Images that were found."""
    boundaries: tuple[str, ...]
    """The name that each chunk but the first begins with; names that are there or not."""
    sizes: tuple[int, ...]
    """Images of each chunk when the plan was made."""
    hour_was_empty: bool
    """Whether no thumbnail was in the hour folder yet."""

    @classmethod
    def of(cls, order: RunParameters, total: int, cuts: Sequence[Boundary], *, hour_was_empty: bool) -> Self:
        """Make a plan of the places where the listing is cut."""
        positions = [0, *(cut.position for cut in cuts), total]
        return cls(
            run_id=order.run_id,
            input_folder=str(order.folder),
            timestamp=str(order.hour),
            task_count=order.chunk.count,
            shape=order.shape,
            total=total,
            boundaries=tuple(cut.name for cut in cuts),
            sizes=tuple(after - before for before, after in pairwise(positions)),
            hour_was_empty=hour_was_empty,
        )

    @cached_property
    def hour(self) -> Hour:
        """The hour folder of all its thumbnails."""
        return Hour.parse(self.timestamp, "timestamp")

    def names_of(self, chunk: Chunk) -> NameRange:
        """The names that are a task's."""
        return range_between(self.boundaries, chunk.index)

    def check(self, order: RunParameters) -> None:
        """See that an order is one of this run.

        Raises:
            InvalidValue: it asks for something else than the plan; the run needs an id of its own.
        """
        for field, asked, planned in (
            ("input_folder", str(order.folder), self.input_folder),
            ("task_count", order.chunk.count, self.task_count),
            ("timestamp", str(order.hour) if order.hour_is_given else self.timestamp, self.timestamp),
            ("run_id", order.shape, self.shape),
        ):
            if asked != planned:
                raise InvalidValue(
                    field, asked, f"is not what the run {self.run_id!r} was planned with, {planned!r}; "
                    "another run needs another run_id"
                )  # fmt: skip


class Planner:
    """Comes to the one plan of a run, as one of many tasks that may do so at the same time."""

    def __init__(
        self, order: RunParameters, store: ObjectStore, bucket: str, list_images: ListImages, executor: Executor
    ) -> None:
        """Assemble; nothing is asked of the store.

        Args:
            order: the run.
            store: where the images and the plan are.
            bucket: the one that the plan is in.
            list_images: lists what is to be split.
            executor: for the requests that can go side by side.
        """
        self._order = order
        self._store = store
        self._folder = folder_of_run(bucket, order.run_id)
        self._list_images = list_images
        self._executor = executor
        self._claim = 0
        """The number of the latest claim that is known."""
        self._held_until = 0.0
        """When that ends by itself, on this process's clock; when to renew it, where it is ours."""
        # The same for every attempt at a task: one that is tried again goes on with the claim of the one before.
        self._holder = f"task {order.chunk.index}"

    def planned(self) -> Plan | None:
        """Return the plan, if there is one.

        Raises:
            InvalidValue: it is none of this order's, or cannot be read.
        """
        location = self._at(PLAN_NAME)
        try:
            data = self._store.read(self._store.stat(location), _MAX_PLAN_BYTES)
        except ObjectNotFound:
            return None
        try:
            plan = Plan.model_validate_json(data)
        except ValidationError as error:
            raise InvalidValue(
                "run_id", self._order.run_id, f"has a plan that cannot be read, {location}; another run needs another "
                f"run_id ({error.error_count()} problems, the first: {error.errors()[0]['msg']})"
            ) from error  # fmt: skip
        plan.check(self._order)
        return plan

    def claim(self) -> bool:
        """Be the one who plans; False if somebody else is."""
        location = self._at(f"planning-{self._claim:05}.json")
        if self._create(location, {"task_index": self._order.chunk.index}):
            self._held_until = time.monotonic() + LEASE_SECONDS / 4
            return True
        try:
            holder = self._store.stat(location)
        except ObjectNotFound:  # Somebody has removed it.
            self._held_until = time.monotonic()
            return False
        if holder.metadata.get("holder") == self._holder:
            self._held_until = time.monotonic() + LEASE_SECONDS / 4
            return True
        # Clocks of two machines may differ: no claim is waited for longer than it can hold.
        left = holder.created + timedelta(seconds=LEASE_SECONDS) - datetime.now(UTC)
        self._held_until = time.monotonic() + min(max(0, left.total_seconds()), LEASE_SECONDS)
        return False

    def wait(self, should_stop: Callable[[], bool]) -> Plan | None:
        """Wait for the plan of somebody else; None if that one has given up, and planning is ours now.

        Raises:
            ShuttingDown: it is to stop.
            InvalidValue: see `planned`.
        """
        pause = _POLL_SECONDS
        while True:
            if plan := self.planned():
                return plan
            if time.monotonic() >= self._held_until:
                self._claim += 1
                if self.claim():
                    return None
                continue
            _pause(min(pause, max(0.0, self._held_until - time.monotonic())), should_stop)
            pause = min(pause * 1.5, _LONGEST_WAIT_SECONDS)

    def make(
        self, images: Iterator[StoredObject | None], *, hour_was_empty: bool, should_stop: Callable[[], bool]
    ) -> Plan:
        """Split the folder and write the plan; whoever was first with that has made it.

        Args:
            images: the whole of the folder, with None for what is no image.
            hour_was_empty: whether no thumbnail is in the hour folder.
            should_stop: asked all the time.

        Raises:
            ShuttingDown: it is to stop.
            InvalidValue: see `planned`.
        """
        plan = self.split(images, hour_was_empty=hour_was_empty, should_stop=should_stop)
        if self._create(self._at(PLAN_NAME), plan.model_dump(), {"total": plan.total, "tasks": plan.task_count}):
            log.info("run planned", run_id=plan.run_id, total=plan.total, task_count=plan.task_count)
            return plan
        return self.planned() or plan

    def split(
        self, images: Iterator[StoredObject | None], *, hour_was_empty: bool, should_stop: Callable[[], bool]
    ) -> Plan:
        """Split the folder, and write nothing but the claims that say that it is being split."""
        sample = NameSample()
        for found in images:
            if should_stop():
                raise ShuttingDown("the run was stopped while it was planned")
            self._renew()
            if found is not None:
                sample.add(found.location.name)
        cuts = self._exact(sample.cuts(self._order.chunk.count), should_stop)
        return Plan.of(self._order, sample.total, cuts, hour_was_empty=hour_was_empty)

    def _renew(self) -> None:
        if self._held_until and time.monotonic() >= self._held_until:
            self._claim += 1
            self.claim()

    def _exact(self, cuts: list[Boundary], should_stop: Callable[[], bool]) -> list[Boundary]:
        """Look up the names of those cuts that lie between two names that were kept: one listing for each such pair."""
        exact: list[Boundary] = []
        groups = [list(group) for _, group in groupby(cuts, lambda cut: (cut.name, cut.limit))]

        def look_up(group: list[Boundary]) -> list[Boundary]:
            if should_stop():
                raise ShuttingDown("the run was stopped while it was planned")
            if not any(cut.skip for cut in group):
                return group
            names = [
                found.location.name
                for found in islice(self._list_images(NameRange(group[0].name, group[0].limit)), group[-1].skip + 1)
            ]
            # What was deleted meanwhile may have left fewer.
            last = group[-1].limit or group[0].name
            return [Boundary(cut.position, names[cut.skip] if cut.skip < len(names) else last) for cut in group]

        context = copy_context()
        try:
            looked_up = self._executor.map(lambda group: context.copy().run(look_up, group), groups)
        except RuntimeError:  # The executor was shut down: the process is about to end.
            raise ShuttingDown("the process ended while the run was planned") from None
        for group in looked_up:
            self._renew()
            # What came and went meanwhile may not turn the order round.
            exact += [Boundary(cut.position, max(cut.name, exact[-1].name if exact else "")) for cut in group]
        return exact

    def _at(self, name: str) -> ObjectLocation:
        return ObjectLocation(self._folder.bucket, self._folder.prefix + name)

    def _create(self, location: ObjectLocation, content: object, described: dict[str, int] | None = None) -> bool:
        """Write an object where none is; False if there is one."""
        metadata = {"holder": self._holder} | {key: str(value) for key, value in (described or {}).items()}
        try:
            self._store.write(
                location,
                json.dumps(content, indent=1).encode(),
                content_type="application/json",
                cache_control=None,
                metadata=metadata,
                if_generation=0,
            )
        except NameTaken:
            return False
        except PermissionMissing:
            # Without the right to replace, storage may say "forbidden" of a name that is taken.
            try:
                self._store.stat(location)
            except ObjectNotFound:
                pass
            else:
                return False
            raise
        return True


def _pause(seconds: float, should_stop: Callable[[], bool]) -> None:
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        if should_stop():
            raise ShuttingDown("the run was stopped before it was planned")
        time.sleep(min(left, _POLL_SECONDS))
