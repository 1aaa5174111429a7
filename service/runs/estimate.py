"""Estimate of what a run takes in requests, time and dollars, from nothing but the listing.

The times were measured on one processor of 2026.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from threading import Lock
from typing import Any

from pydantic import BaseModel, Field

from service.errors import StorageUnavailable
from service.images.formats import DEFAULT_SECONDS_PER_MIB, FORMATS, media_type_of
from service.prices import Prices
from service.runs.costs import ClassEstimate, Cost, PlannedCost, cost_of, rounded
from service.settings import Settings
from service.storage.base import StoredObject
from service.storage.classes import StorageClass, class_named
from service.storage.metering import Operation, Usage, listings

_MEBIBYTE = 1024 * 1024
_LISTING_PAGE = 1000
_FIRST_REPORT_SECONDS = 1.0
_SECONDS_PER_REPORT = 10.0
"""With more than 1,000 tasks it is longer; see `reporter`."""
_LISTINGS_PER_TASK = 1
"""Of one of many tasks: of the lease, or of an earlier report."""

_SECONDS_PER_IMAGE = 0.004
"""Processor time for any image, whatever its size: two requests, and the thumbnail itself."""
SECONDS_PER_MIB = {row.media_type: row.seconds_per_mib for row in FORMATS.values()}
"""Processor time to decode a mebibyte, by content type."""
_SECONDS_PER_LISTING = 0.04
"""Duration of one request to storage. It counts for listings, as if each came after the other."""


class OfType(BaseModel):
    """The sources of one content type."""

    images: int = 0
    bytes: int = 0


class IfAutoclass(BaseModel):
    """The difference that Autoclass makes: no retrieval fee, but images of colder classes move to Standard storage."""

    images: int = Field(description="Images that move to Standard storage, which takes more to keep them.")
    bytes: int
    dollars: float = Field(description="In place of the estimate's.")


class Estimate(PlannedCost):
    """Cost of the same call without `dry_run`: of the whole run, or of one task's chunk of it."""

    media_reads: int = Field(description="One for each image to be made.")
    writes: int = Field(description="One for each of its sizes.")
    bytes_to_read: int
    by_type: dict[str, OfType] = Field(description="The images to be made, by content type.")
    vcpu_seconds: float = Field(description="Processor time.")
    seconds: float = Field(description="How long it takes in one task; with ten tasks, a tenth.")
    if_autoclass: IfAutoclass | None = Field(
        None,
        description="If the bucket has Autoclass, which the service may not ask. Only if images are of colder classes.",
    )
    prices: Prices = Field(description="That it was computed with. The setting PRICES changes them.")

    @property
    def planned(self) -> PlannedCost:
        """The cost alone."""
        return PlannedCost(**{name: getattr(self, name) for name in PlannedCost.model_fields})


class Images:
    """Counts images to be made, by content type and storage class; from any thread."""

    def __init__(self, sums: Mapping[tuple[str, StorageClass], tuple[int, int]] | None = None) -> None:
        """Start at numbers of images and of bytes, or at nothing."""
        self._sums = dict(sums or {})
        self._lock = Lock()

    def add(self, source: StoredObject) -> None:
        """Count an image."""
        key = media_type_of(source.content_type), source.storage_class or StorageClass.STANDARD
        with self._lock:
            images, size = self._sums.get(key, (0, 0))
            self._sums[key] = images + 1, size + source.size

    def add_listed(self, resources: Iterable[Mapping[str, Any]]) -> None:
        """Count the images that resources of a listing describe.

        Raises:
            StorageUnavailable: a field is malformed.
        """
        sizes = defaultdict[tuple[str, str], list[int]](list)
        try:
            for resource in resources:
                key = resource.get("contentType", ""), resource.get("storageClass", "")
                sizes[key].append(int(resource.get("size", 0)))
        except (TypeError, ValueError) as error:
            raise StorageUnavailable(f"a listing of images is malformed: {error!r}") from error
        with self._lock:
            for (content_type, class_name), several in sizes.items():
                key = media_type_of(content_type), class_named(class_name)
                images, size = self._sums.get(key, (0, 0))
                self._sums[key] = images + len(several), size + sum(several)

    @property
    def by_type(self) -> dict[str, OfType]:
        """The sums of each content type."""
        sums: dict[str, OfType] = {}
        for (content_type, _), (images, size) in sorted(self._sums.copy().items()):
            of_type = sums.setdefault(content_type, OfType())
            of_type.images += images
            of_type.bytes += size
        return sums

    @property
    def by_class(self) -> Counter[StorageClass]:
        """The number of images of each class."""
        numbers = Counter[StorageClass]()
        for (_, storage_class), (images, _) in self._sums.copy().items():
            numbers[storage_class] += images
        return numbers

    def usage(self, outputs: int, output_class: StorageClass) -> Usage:
        """Return the operations that making them takes: a read of each, and a write of each output."""
        usage = Usage()
        for (_, storage_class), (images, size) in self._sums.copy().items():
            usage.operations[Operation.READ, storage_class] += images
            usage.operations[Operation.WRITE, output_class] += images * outputs
            usage.bytes_read[storage_class] += size
        return usage


def estimate(
    images: Images, asked: Usage, settings: Settings, *, renamed: int = 0, tasks: int = 1, shared: bool = False
) -> Estimate:
    """Estimate what a run, or one of its chunks, takes.

    Args:
        images: to be made.
        asked: the operations that find them: listings, and looks at what is there.
        settings: the outputs, their class, and the prices.
        renamed: images whose plain name another source holds.
        tasks: whose bookkeeping counts.
        shared: the tasks are some of many, and so have to agree on a plan.
    """
    outputs, output_class, prices = len(settings.specs), settings.output_storage_class, settings.prices
    by_type = images.by_type
    vcpu_seconds = sum(
        of_type.images * _SECONDS_PER_IMAGE
        + of_type.bytes / _MEBIBYTE * SECONDS_PER_MIB.get(content_type, DEFAULT_SECONDS_PER_MIB)
        for content_type, of_type in by_type.items()
    )
    seconds = vcpu_seconds / prices.vcpu_per_task + asked.count(Operation.LIST) * _SECONDS_PER_LISTING
    usage = asked + images.usage(outputs, output_class) + _bookkeeping(tasks, seconds, output_class, shared=shared)
    # The write under the plain name is refused, and not billed; the look at what holds the name is.
    usage.operations[Operation.DESCRIBE, output_class] += renamed * outputs
    cost = cost_of(usage, seconds, prices)
    numbers = images.by_class
    return Estimate(
        class_a_requests=cost.class_a_requests,
        class_b_requests=cost.class_b_requests,
        dollars=cost.dollars,
        by_class={
            each: ClassEstimate(**dict(of_class), images=numbers[each]) for each, of_class in cost.by_class.items()
        },
        media_reads=sum(numbers.values()),
        writes=sum(numbers.values()) * outputs,
        bytes_to_read=sum(of_type.bytes for of_type in by_type.values()),
        by_type=by_type,
        vcpu_seconds=round(vcpu_seconds, 1),
        seconds=round(seconds, 1),
        if_autoclass=_if_autoclass(images, cost, usage, seconds, prices),
        prices=prices,
    )


def planning(listed: int, tasks: int, outputs: int) -> Usage:
    """Return the operations by which many tasks find the images among so many objects.

    One lists them to plan. Each lists its chunk, and at most as often the hour folder, after a look if that is empty.
    """
    chunk_pages = tasks * pages(-(-listed // tasks))
    return listings(pages(listed) + chunk_pages * (1 + outputs) + tasks)


def pages(listed: int) -> int:
    """Return the number of requests that list so many objects."""
    return max(1, -(-listed // _LISTING_PAGE))


def image_dollars(source: StoredObject, settings: Settings) -> float:
    """Return the cost of one image: its read, its retrieval, its writes and its processor time."""
    one = Images()
    one.add(source)
    seconds = _SECONDS_PER_IMAGE + source.size / _MEBIBYTE * SECONDS_PER_MIB.get(
        media_type_of(source.content_type), DEFAULT_SECONDS_PER_MIB
    )
    usage = one.usage(len(settings.specs), settings.output_storage_class)
    return cost_of(usage, seconds / settings.prices.vcpu_per_task, settings.prices).dollars


def _bookkeeping(tasks: int, seconds: float, output_class: StorageClass, *, shared: bool) -> Usage:
    """Return the operations for the plan, and for the manifest and the reports of each task."""
    each = seconds / tasks
    reports = 1 + (each > _FIRST_REPORT_SECONDS) + int(each / _SECONDS_PER_REPORT)
    usage = listings(_LISTINGS_PER_TASK * tasks if shared else 0)
    usage.operations[Operation.WRITE, output_class] += 1 + tasks * (1 + reports)
    if shared:
        usage.operations[Operation.DESCRIBE, output_class] += tasks
        usage.operations[Operation.READ, output_class] += tasks
    return usage


def _if_autoclass(images: Images, cost: Cost, usage: Usage, seconds: float, prices: Prices) -> IfAutoclass | None:
    """Reckon with Autoclass: Standard's prices, and an operation for each image that moves from Coldline or Archive."""
    numbers = images.by_class
    cold = [each for each in StorageClass if each is not StorageClass.STANDARD and numbers[each]]
    if not cold:
        return None
    standard = Usage(Counter(), Counter({StorageClass.STANDARD: usage.bytes_read.total()}))
    for (operation, _), number in usage.operations.items():
        standard.operations[operation, StorageClass.STANDARD] += number
    moves = numbers[StorageClass.COLDLINE] + numbers[StorageClass.ARCHIVE]
    dollars = cost_of(standard, seconds, prices).dollars + moves * prices.class_a(StorageClass.STANDARD)
    return IfAutoclass(
        images=sum(numbers[each] for each in cold),
        bytes=sum(cost.by_class[each].bytes_read for each in cold),
        dollars=rounded(dollars),
    )
