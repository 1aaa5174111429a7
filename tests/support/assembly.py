"""The one place that assembles a service, and a task of a run, for tests that start no process."""

import atexit
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import replace
from functools import cache
from typing import Any

from service.bootstrap import Service, build
from service.images.pool import DecoderPool
from service.naming import Hour
from service.process import Stop
from service.runs.report import Report, RunReport
from service.runs.request import RunParameters, RunRequest
from service.runs.runner import run_task
from service.runs.start import Start, preflight
from service.settings import Settings
from service.storage.base import ObjectStore
from service.storage.metering import metered
from service.telemetry.metrics import Door, Metrics
from service.thumbnailer import Thumbnailer

HOUR = Hour("20251203T15Z")


class SharedPool(DecoderPool):
    """Worker processes that outlive the services that use them."""

    def close(self) -> None:
        pass


@cache
def decoders() -> DecoderPool:
    """Return the worker processes that all tests of this process share."""
    pool = SharedPool(2, 1024 * 1024 * 1024, 60)
    atexit.register(DecoderPool.close, pool)
    return pool


def make_service(
    store: ObjectStore,
    executor: Executor | None = None,
    metrics: Metrics | None = None,
    **settings: Any,  # noqa: ANN401 - whatever a setting is
) -> Service:
    """Assemble a service over a store; `gs://photos/in` is its folder unless the settings say otherwise."""
    defaults = {
        "input_folder": "gs://photos/in",
        "concurrency": 4,
        "max_source_bytes": 1_000_000,
        "max_image_pixels": 10_000_000,
        "memory_budget": 100_000_000,
    }
    service = build(Settings.model_validate(defaults | settings), store, metrics=metrics, decoders=decoders())
    return replace(service, executor=executor) if executor else service


def make_thumbnailer(store: ObjectStore, **settings: Any) -> Thumbnailer:  # noqa: ANN401 - whatever a setting is
    """Assemble what makes one image."""
    return make_service(store, **settings).thumbnailer


class StopWhen(Stop):
    """Set whenever a condition holds."""

    def __init__(self, condition: Callable[[], bool]) -> None:
        super().__init__()
        self._condition = condition

    def is_set(self) -> bool:
        return self._condition()


class Task:
    """One task of a run, step by step."""

    def __init__(
        self, service: Service, request: RunRequest | None = None, hour: Hour = HOUR, door: Door = Door.RUN
    ) -> None:
        self.service = service
        self.params = RunParameters.of(request or RunRequest(), service.settings, hour, door)
        self.counts = Report(self.params, service)
        self.start: Start | None = None

    def open(self) -> None:
        with metered(self.counts.meter):
            self.start = preflight(self.params, self.service, self.counts)

    def work(self, should_stop: Callable[[], bool] = lambda: False) -> None:
        if self.start:
            with metered(self.counts.meter):
                run_task(self.params, self.service, self.start, self.counts, StopWhen(should_stop))

    def report(self) -> RunReport:
        return self.counts.snapshot()


def make_task(
    store: ObjectStore,
    executor: Executor,
    request: RunRequest | None = None,
    **settings: Any,  # noqa: ANN401 - whatever a setting is
) -> Task:
    """Assemble a task over a store; its run has this task alone unless the request says otherwise."""
    return Task(make_service(store, executor, **settings), request)


def finished(task: Task) -> RunReport:
    """Run a task to its end."""
    task.open()
    task.work()
    report = task.report()
    assert report.assigned == report.created + report.skipped + report.rejected + report.failed
    return report
