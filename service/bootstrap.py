"""From settings to a service that is ready: the one place that assembles."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Event

from service.images.spec import ThumbnailSpec
from service.naming import Hour, OutputFolder
from service.runs.costs import Prices
from service.runs.partition import Chunk
from service.runs.request import RunDefaults, RunParameters, RunRequest
from service.runs.runner import Run
from service.selection import Selection
from service.settings import Settings
from service.storage.base import ObjectStore
from service.storage.cloud import CloudStore
from service.telemetry.metrics import OFF, Door, Metrics
from service.telemetry.sdk import meter_provider
from service.thumbnailer import Limits, Output, Thumbnailer

PAGE_IMAGE_READS = 16
"""How many images for people are read at once."""


@dataclass(frozen=True, slots=True)
class Service:
    """What the entry points call."""

    thumbnailer: Thumbnailer
    defaults: RunDefaults
    images: ThreadPoolExecutor
    """The one bound on images in flight in this process, whoever asks for them."""
    concurrency: int
    prices: Prices
    stopping: Event
    """Set once the process was told to end."""
    settings: Settings

    @property
    def output_bucket(self) -> str:
        """The name of the bucket that thumbnails, plans and reports go to."""
        return self.thumbnailer.outputs[0].folder.bucket

    def run(self, request: RunRequest, default_hour: Hour | None = None, door: Door = Door.RUN) -> Run:
        """Make a run of a request.

        Raises:
            InvalidValue, OutsideFence: see `RunParameters.of`.
        """
        order = RunParameters.of(request, self.defaults, default_hour)
        return Run(order, self.thumbnailer, self.images, self.concurrency, self.prices, door)

    def close(self) -> None:
        """Take nothing more, and do not wait for what hangs; send the last metrics."""
        told_to_end = self.stopping.is_set()
        self.stopping.set()
        self.images.shutdown(wait=False, cancel_futures=True)
        self.thumbnailer.metrics.close(hurry=told_to_end)
        self.thumbnailer.store.close()


def build(settings: Settings, store: ObjectStore | None = None, stopping: Event | None = None) -> Service:
    """Assemble the service.

    Args:
        settings: checked ones.
        store: instead of Cloud Storage.
        stopping: set once the process was told to end.

    Raises:
        CredentialsMissing: there are none for Cloud Storage.
    """
    sizes = settings.thumbnail_sizes
    outputs = [
        Output(
            ThumbnailSpec(box, settings.output_format, settings.output_quality, settings.animated),
            OutputFolder(
                settings.destination_bucket,
                settings.input_folder,
                settings.output_layout,
                f"{box}/" if len(sizes) > 1 else "",
            ),
        )
        for box in sizes
    ]
    thumbnailer = Thumbnailer(
        # Two connections more than images: for listings.
        store or CloudStore(settings.concurrency + 2 + (PAGE_IMAGE_READS if settings.pages else 0)),
        Selection(settings.input_folder, settings.destination_bucket, by_content=settings.image_detection == "content"),
        outputs,
        Limits(settings.max_source_bytes, settings.max_image_pixels, settings.memory_budget),
        cache_control=settings.cache_control,
        metrics=Metrics(meter_provider()) if settings.metrics else OFF,
    )
    return Service(
        thumbnailer,
        RunDefaults(
            settings.input_folder,
            Chunk(settings.cloud_run_task_index, settings.cloud_run_task_count),
            settings.cloud_run_execution,
            settings.cloud_run_task_attempt,
            thumbnailer.shape,
        ),
        ThreadPoolExecutor(settings.concurrency, "image"),
        settings.concurrency,
        settings.prices,
        stopping or Event(),
        settings,
    )
