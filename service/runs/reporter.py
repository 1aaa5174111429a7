"""What a task leaves beside the plan: its report, early, as it goes, and at its end.

Nothing here fails a run. A report that storage does not take is worth a line in the log, and the next one follows.
"""

import time
from collections.abc import Callable
from contextvars import copy_context
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from threading import Event, Thread

import structlog
from pydantic import BaseModel, Field, ValidationError

from service.errors import ObjectNotFound, PermissionMissing, ServiceError
from service.runs.partition import Chunk
from service.runs.report import Counts, RunReport
from service.storage.addresses import FolderLocation, NameRange, ObjectLocation
from service.storage.base import ObjectStore

SUMMARY_KEY = "thumbnail-task"
"""Custom metadata of a report: the figures in it, so that a listing tells how far a thousand tasks are."""

FIRST_SECONDS = 1.0
"""After so long a task has its first report; a run that ends before that has only its last."""
SPACING_SECONDS = 1.0
"""Between two writes of one object, of which Cloud Storage takes about one a second."""
_SHORTEST_SECONDS = 10.0
_LONGEST_SECONDS = 60.0
_QUIET_AFTER = 3
"""A task that is so many reports late has gone quiet."""
_MAX_REPORT_BYTES = 16 * 1024 * 1024
_ATTEMPTS_KEPT = 20

log = structlog.get_logger()


class State(StrEnum):
    """What a task is at."""

    PLANNING = "planning"
    WORKING = "working"
    WHOLE = "whole"
    """It came to its end, and nothing is left that a retry could mend."""
    UNFINISHED = "unfinished"
    """It ended, and left something."""


class Summary(Counts):
    """The figures of a task's report."""

    state: State
    attempt: int = Field(description="0 for the first.")
    started: datetime
    updated: datetime
    quiet_after: datetime = Field(description="A task that is at work has written again by then.")
    images_per_second: float = Field(description="Since the report before.")
    has_error: bool


class Attempt(BaseModel):
    """How an earlier attempt at the same chunk ended, as far as its last report says."""

    attempt: int
    state: State
    started: datetime
    updated: datetime
    created: int
    skipped: int
    rejected: int
    failed: int
    bytes_read: int
    bytes_written: int


class TaskReport(RunReport):
    """A task's report as it is stored."""

    state: State
    attempt: int
    started: datetime
    updated: datetime
    quiet_after: datetime
    images_per_second: float
    position: str | None = Field(None, description="The image that was taken last; all before it were taken, too.")
    making_since: datetime | None = Field(None, description="Where it makes again what is there: what is older.")
    limits: str = Field("", description="The settings that an image may be rejected for.")
    rejected_generations: dict[str, int] = Field({}, description="Of the sources in `rejections`.")
    earlier: list[Attempt] = Field([], description=f"The latest {_ATTEMPTS_KEPT} attempts before this one.")

    def history(self) -> list[Attempt]:
        """All attempts up to this one, for the next one's `earlier`."""
        return [*self.earlier, Attempt.model_validate(self.model_dump(include={*Attempt.model_fields}))][
            -_ATTEMPTS_KEPT:
        ]

    def summary(self) -> Summary:
        """Its figures alone."""
        return Summary(has_error=self.error is not None, **self.model_dump(include={*Summary.model_fields}))


def report_name(chunk: Chunk) -> str:
    """The name of a task's report in the folder of its run."""
    return f"task-{chunk.index:05}-of-{chunk.count:05}.json"


def seconds_between_reports(tasks: int) -> float:
    """How often a task reports: rarely where many do, since a bucket takes about a thousand writes a second."""
    return min(max(_SHORTEST_SECONDS, tasks / 100), _LONGEST_SECONDS)


class Journal:
    """Keeps one task's report in storage, from a thread of its own."""

    def __init__(self, store: ObjectStore, folder: FolderLocation, chunk: Chunk) -> None:
        """Assemble; nothing is asked of the store.

        Args:
            store: where reports go.
            folder: of the run.
            chunk: whose report.
        """
        self._store = store
        self._folder = folder
        self._location = ObjectLocation(folder.bucket, folder.prefix + report_name(chunk))
        self._stem = self._location.name.removesuffix(".json")
        self._interval = seconds_between_reports(chunk.count)
        self._may_replace = True
        self._names = 0
        self._last_write = float("-inf")
        self._ended = Event()
        self._thread: Thread | None = None
        self._started = datetime.now(UTC)
        self._settled = 0
        self._settled_at = time.monotonic()
        self._rate = 0.0

    def earlier(self) -> TaskReport | None:
        """Return what an earlier attempt at this chunk reported last; None where there is nothing to go by.

        Raises:
            RetryLater: storage did not say.
        """
        try:
            latest = self._store.stat(self._location)
            # Where it could not be replaced, there are others beside it.
            names = NameRange(f"{self._stem}.", f"{self._stem}/")
            latest = max(self._store.list_objects(self._folder, names), key=lambda found: found.created, default=latest)
            return TaskReport.model_validate_json(self._store.read(latest, _MAX_REPORT_BYTES))
        except ObjectNotFound:
            return None
        except ValidationError as error:
            log.warning(
                "the report of an earlier attempt cannot be read", report=str(self._location), reason=str(error)
            )
            return None

    def stamped(self, report: RunReport, state: State, **more: object) -> TaskReport:
        """Make a report one of this task, as of now."""
        now = datetime.now(UTC)
        settled, moment = report.assigned - report.failed, time.monotonic()
        if moment - self._settled_at >= 1:
            self._rate = (settled - self._settled) / (moment - self._settled_at)
            self._settled, self._settled_at = settled, moment
        elif not self._settled and report.elapsed_seconds:
            self._rate = settled / report.elapsed_seconds
        return TaskReport(
            **dict(report),
            state=state,
            started=self._started,
            updated=now,
            quiet_after=now + timedelta(seconds=_QUIET_AFTER * self._interval),
            images_per_second=round(self._rate, 1),
            **more,
        )

    def begin(self, current: Callable[[], TaskReport]) -> None:
        """Write reports from now on, whatever `current` says at the time."""

        def keep() -> None:
            pause = FIRST_SECONDS
            while not self._ended.wait(pause):
                self._write(current())
                pause = self._interval
            time.sleep(max(0.0, self._last_write + SPACING_SECONDS - time.monotonic()))
            self._write(current())

        self._thread = Thread(target=copy_context().run, args=(keep,), name="journal", daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Write the last report, and return when that is done or has failed."""
        self._ended.set()
        if self._thread:
            self._thread.join()

    def _write(self, report: TaskReport) -> None:
        data = report.model_dump_json(indent=1, exclude_none=True).encode()
        metadata = {SUMMARY_KEY: report.summary().model_dump_json()}
        try:
            if self._may_replace:
                try:
                    return self._put(self._location, data, metadata, if_generation=None)
                except PermissionMissing:
                    # It may create and not replace: each report is an object of its own then, and there are fewer.
                    self._may_replace = False
                    self._interval = _LONGEST_SECONDS
            self._names += 1
            name = f"{self._stem}.{report.started:%Y%m%dT%H%M%S.%f}Z-{self._names:04}.json"
            return self._put(ObjectLocation(self._location.bucket, name), data, metadata, if_generation=0)
        except ServiceError as error:
            log.warning("report not written", report=str(self._location), code=error.code, reason=str(error))
        finally:
            self._last_write = time.monotonic()

    def _put(
        self, location: ObjectLocation, data: bytes, metadata: dict[str, str], *, if_generation: int | None
    ) -> None:
        self._store.write(
            location,
            data,
            content_type="application/json",
            cache_control="no-store",
            metadata=metadata,
            if_generation=if_generation,
        )
