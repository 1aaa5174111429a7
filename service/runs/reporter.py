"""A task's report beside the plan: written early, as the task goes, and at its end, by a thread of its own.

A failed write is logged. The next report makes up for it; a task whose last one is lost is not whole.
"""

import time
from contextvars import copy_context
from datetime import UTC, datetime, timedelta
from threading import Event, Thread
from typing import Self, TypeAlias, TypeVar

import structlog

from service.errors import (
    InternalError,
    InvalidValue,
    ObjectNotFound,
    PermissionMissing,
    RetryLater,
    ServiceError,
    StorageUnavailable,
    TooExpensive,
)
from service.process import Stop
from service.runs.partition import Chunk
from service.runs.record import MAX_RECORD_BYTES, UNREADABLE, problem_of
from service.runs.report import Report, RunReport
from service.runs.request import RunParameters
from service.runs.task_report import Attempt, Summary, TaskReport
from service.storage.addresses import NameRange, ObjectLocation
from service.storage.base import ObjectStore, StoredObject

SUMMARY_KEY = "thumbnail-task"
"""Custom metadata of a report: its figures, so that a listing tells how far a thousand tasks are."""

FIRST_SECONDS = 1.0
"""After so long a task has its first report; a run that ends before that, or soon after, has only its last."""
SPACING_SECONDS = 1.0
"""Between two writes of one object, of which Cloud Storage takes about one a second."""
_SHORTEST_SECONDS = 10.0
_LONGEST_SECONDS = 60.0
_LAST_PAUSES = (0, 1, 3)
"""Seconds before each try to write the last report."""
_LAST_SECONDS = 20.0
"""After so long it is not tried again: storage is down, and the client's own retries were in vain."""
_STALE_AFTER = 3
"""A task that is so many reports late has gone quiet."""

StoredReport: TypeAlias = tuple[StoredObject, Summary]
"""A report's object, and its figures."""

_Key = TypeVar("_Key", int, str)

log = structlog.get_logger()


def report_name(chunk: Chunk) -> str:
    """Return the name of a task's report in the folder of its run."""
    return f"{chunk.stem}.json"


def seconds_between_reports(tasks: int) -> float:
    """Return how often a task reports: the more tasks, the less often. A bucket takes about 1,000 writes a second."""
    return min(max(_SHORTEST_SECONDS, tasks / 100), _LONGEST_SECONDS)


def previous_report(params: RunParameters, store: ObjectStore) -> TaskReport | None:
    """Return the last report of an earlier attempt at this chunk; None if there is none that can be read.

    Raises:
        RetryLater: storage did not say.
    """
    location = params.run_folder / report_name(params.chunk)
    stem = location.name.removesuffix(".json")
    try:
        # A report that could not be replaced has others beside it.
        names = NameRange(f"{stem}.", f"{stem}/")
        latest = max(store.list_objects(params.run_folder, names), key=lambda report: report.created, default=None)
        if latest is None:
            return None
        return TaskReport.model_validate_json(store.read(latest, MAX_RECORD_BYTES))
    except ObjectNotFound:
        return None
    except UNREADABLE as error:
        log.warning("the report of an earlier attempt cannot be read", report=str(location), reason=problem_of(error))
        return None


class _Rate:
    """Images a second between two reports."""

    def __init__(self) -> None:
        self._settled = 0
        self._since = time.monotonic()
        self._rate = 0.0

    def update(self, report: RunReport) -> float:
        """Return the rate up to this report."""
        settled, now = report.assigned - report.failed, time.monotonic()
        if now - self._since >= 1:
            self._rate = (settled - self._settled) / (now - self._since)
            self._settled, self._since = settled, now
        elif not self._settled and report.elapsed_seconds:
            self._rate = settled / report.elapsed_seconds
        return round(self._rate, 1)


class Reporter:
    """Keeps one task's report in storage until the block ends."""

    def __init__(self, report: Report, attempt: Attempt, store: ObjectStore, stop: Stop) -> None:
        """Assemble; ask nothing of the store. Once `stop` is set, tries to write the last report follow at once."""
        self._report = report
        self._stop = stop
        self._attempt = attempt
        self._store = store
        self._location = report.params.run_folder / report_name(report.params.chunk)
        self._interval = seconds_between_reports(report.params.chunk.count)
        self._rate = _Rate()
        self._may_replace = True
        self._is_of_run = True
        """False once the plan says that this run is another's."""
        self._names = 0
        self._last_write = float("-inf")
        self._loss: ServiceError | None = InternalError()
        """Why the last report is not written."""
        self._ended = Event()
        self._thread = Thread(target=copy_context().run, args=(self._write_until_ended,), name="reporter", daemon=True)

    def __enter__(self) -> Self:
        """Begin to write."""
        self._thread.start()
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        """Write the last report; return when that is done or has failed. If it has, the report says so.

        A task that the run's plan refuses writes none: the name is for the report of the run's own task.
        """
        if error and issubclass(error, InvalidValue) and not issubclass(error, TooExpensive):
            self._is_of_run, self._loss = False, None
        self._ended.set()
        self._thread.join()
        if self._loss and not self._report.snapshot().error:
            kind = type(self._loss) if isinstance(self._loss, RetryLater) else StorageUnavailable
            self._report.end_early(kind(f"the task's last report could not be written: {self._loss}"))

    def _write_until_ended(self) -> None:
        pause = FIRST_SECONDS
        while not self._ended.wait(pause):
            # The last report would have to wait for this one.
            if self._ends_soon() and self._ended.wait(SPACING_SECONDS):
                break
            self._write()
            pause = self._interval
        if not self._is_of_run:
            return
        time.sleep(max(0.0, self._last_write + SPACING_SECONDS - time.monotonic()))
        self._loss = self._write_last()

    def _ends_soon(self) -> bool:
        """Return True if the task, as fast as it was so far, ends before its report may be written twice."""
        total, report = self._report.task_total, self._report.snapshot()
        if total is None:
            return False
        return (total - report.assigned) * report.elapsed_seconds < report.assigned * SPACING_SECONDS

    def _write_last(self) -> ServiceError | None:
        """Write a report that no other follows; return why it could not be written."""
        began = time.monotonic()
        error = None
        for pause in _LAST_PAUSES:
            self._stop.wait(pause)
            if not (error := self._write()) or time.monotonic() - began > _LAST_SECONDS:
                break
        return error

    def _current(self) -> TaskReport:
        state, listed_all = self._report.state, self._report.listed_all
        report, now = self._report.snapshot(), datetime.now(UTC)
        return TaskReport(
            **dict(report),
            **dict(self._attempt),
            state=state,
            listed_all=listed_all,
            has_error=report.error is not None,
            updated=now,
            quiet_after=now + timedelta(seconds=_STALE_AFTER * self._interval),
            images_per_second=self._rate.update(report),
        )

    def _write(self) -> ServiceError | None:
        """Write the report as of now; return why it could not be written."""
        try:
            self._keep(self._current())
        except ServiceError as error:
            log.warning("report not written", report=str(self._location), code=error.code, reason=str(error))
            return error
        finally:
            self._last_write = time.monotonic()
        return None

    def _keep(self, report: TaskReport) -> None:
        data = report.model_dump_json(indent=1, exclude_none=True).encode()
        metadata = {SUMMARY_KEY: report.model_dump_json(include={*Summary.model_fields})}
        if self._may_replace:
            try:
                return self._put(self._location, data, metadata, if_generation=None)
            except PermissionMissing:
                # It may create and not replace: each report is an object of its own then, and there are fewer.
                self._may_replace = False
                self._interval = _LONGEST_SECONDS
        self._names += 1
        stem = self._location.name.removesuffix(".json")
        name = f"{stem}.{report.started:%Y%m%dT%H%M%S.%f}Z-{self._names:04}.json"
        return self._put(ObjectLocation(self._location.bucket, name), data, metadata, if_generation=0)

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


def keep_newest(reports: dict[_Key, StoredReport], key: _Key, stored: StoredObject) -> None:
    """Keep a report if it is the newest of its task: those that could not be replaced are all there.

    Raises:
        ValidationError: its figures cannot be read.
    """
    summary = Summary.model_validate_json(stored.metadata.get(SUMMARY_KEY, ""))
    if key not in reports or reports[key][1].updated <= summary.updated:
        reports[key] = (stored, summary)
