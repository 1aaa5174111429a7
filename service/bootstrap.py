"""From settings to a service that is ready: the one place that assembles."""

from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from threading import BoundedSemaphore

from service.images.pool import DecoderPool
from service.lookup import Output
from service.memory import count_processors, count_workers, memory_limit
from service.naming import OutputFolder
from service.process import Shutdown, Stop
from service.selection import Selection
from service.settings import Settings
from service.storage.base import ObjectStore
from service.storage.cloud import CloudStore
from service.telemetry.metrics import OFF, Metrics, meter_provider
from service.thumbnailer import Thumbnailer

MAX_OPEN_RUNS = 16
"""Runs that are open at once. The images that they work on have a bound of their own."""
STORAGE_THREADS = 16
"""GET requests that ask storage at once, other than for images."""
PAGE_IMAGE_READS = 16
"""Images for the web pages that are read at once."""


@dataclass(frozen=True, slots=True)
class Service:
    """The assembled parts that the entry points and the runs use."""

    store: ObjectStore
    selection: Selection
    thumbnailer: Thumbnailer
    metrics: Metrics
    decoders: DecoderPool
    executor: Executor
    """The one bound on images in flight in this process, whichever door they came through."""
    run_slots: BoundedSemaphore
    """The bound on runs that are open at once in this process."""
    settings: Settings
    stop: Stop
    """Set once the process was told to end."""
    shutdown: Shutdown

    def close(self) -> None:
        """Stop accepting work, cancel what is queued, send the last metrics. Does not wait for threads that hang."""
        told_to_end = self.stop.is_set()
        self.stop.set()
        self.executor.shutdown(wait=False, cancel_futures=True)
        if told_to_end:
            self.metrics.close(self.shutdown.metrics)
        else:
            self.metrics.close()
        self.store.close()
        self.decoders.close()


def build(
    settings: Settings,
    store: ObjectStore | None = None,
    *,
    stop: Stop | None = None,
    shutdown: Shutdown | None = None,
    metrics: Metrics | None = None,
    decoders: DecoderPool | None = None,
) -> Service:
    """Assemble the service, of Cloud Storage and the usual parts unless others are given.

    Raises:
        CredentialsMissing: there are none for Cloud Storage.
    """
    bucket, several = settings.destination_bucket, len(settings.specs) > 1
    # Each open run lists and reports. A connection that is never needed is never opened.
    connections = settings.concurrency + 2 * MAX_OPEN_RUNS + STORAGE_THREADS + PAGE_IMAGE_READS
    store = store or CloudStore(connections, settings.output_storage_class)
    metrics = metrics or (Metrics(meter_provider()) if settings.metrics else OFF)
    selection = Selection(
        settings.input_folder,
        bucket,
        by_content=settings.image_detection == "content",
        include=settings.include,
        exclude=settings.exclude,
        storage_classes=settings.storage_classes or (),
    )
    outputs = [
        Output(
            spec, OutputFolder(bucket, settings.input_folder, settings.output_layout, f"{spec.box}/" if several else "")
        )
        for spec in settings.specs
    ]
    decoders = decoders or DecoderPool(
        count_workers(memory_limit(), count_processors()),
        settings.memory_budget + settings.max_source_bytes,
        settings.max_decode_seconds,
    )
    thumbnailer = Thumbnailer(store, selection, outputs, settings, metrics, decoders)
    return Service(
        store,
        selection,
        thumbnailer,
        metrics,
        decoders,
        ThreadPoolExecutor(settings.concurrency, "image"),
        BoundedSemaphore(MAX_OPEN_RUNS),
        settings,
        stop or Stop(),
        shutdown or Shutdown(),
    )
