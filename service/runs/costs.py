"""Estimate of what a run takes in requests, time and dollars, from nothing but the listing.

List prices in US dollars for us-central1 and Standard storage in a region, as of November 2026, from
cloud.google.com/storage/pricing and cloud.google.com/run/pricing; those pages are what counts. The times were
measured on one processor of 2026.
"""

from collections.abc import Mapping

from pydantic import BaseModel, Field

from service.images.formats import DEFAULT_SECONDS_PER_MIB, FORMATS
from service.settings import Prices

_MEBIBYTE = 1024 * 1024
_LISTING_PAGE = 1000
_BOOKKEEPING_WRITES = 5
"""Of a short run: the plan, the manifest, and the report at its start, on its way and at its end."""
_BOOKKEEPING_READS = 3

_SECONDS_PER_IMAGE = 0.004
"""Processor time for any image, whatever its size: two requests, and the thumbnail itself."""
SECONDS_PER_MIB = {row.media_type: row.seconds_per_mib for row in FORMATS.values()}
"""Processor time to decode a mebibyte, by content type."""
_SECONDS_PER_LISTING = 0.04
"""Duration of one request to storage; it counts for listings, which come one after the other."""


class OfType(BaseModel):
    """The sources of one content type."""

    images: int = 0
    bytes: int = 0


class Estimate(BaseModel):
    """Cost of the same call without `dry_run`: of the whole run, or of one task's chunk of it."""

    media_reads: int = Field(description="One for each image to be made.")
    writes: int = Field(description="One for each of its sizes.")
    bytes_to_read: int
    by_type: dict[str, OfType] = Field(description="The images to be made, by content type.")
    class_a_requests: int = Field(description="Writes, listings, reports.")
    class_b_requests: int = Field(description="Reads.")
    vcpu_seconds: float = Field(description="Processor time.")
    seconds: float = Field(description="How long it takes in one task; with ten tasks, a tenth.")
    dollars: float = Field(description="Requests and processor time; neither the network nor what is stored.")
    prices: Prices = Field(description="That it was computed with. The setting PRICES changes them.")


def estimate(
    by_type: Mapping[str, OfType], *, listed: int, outputs: int, prices: Prices, renamed: int = 0, tasks: int = 1
) -> Estimate:
    """Estimate what `outputs` thumbnails of each source take, if `listed` objects, images or not, have to be listed.

    A renamed image tries a name that is taken, and looks at that name and at its own.
    """
    images = sum(of_type.images for of_type in by_type.values())
    # Once to work, and once to plan if there is something to split.
    listings = -(-listed // _LISTING_PAGE) * (1 if tasks == 1 else 2)
    class_a = (images + renamed) * outputs + listings + _BOOKKEEPING_WRITES
    class_b = images + 2 * renamed * outputs + _BOOKKEEPING_READS
    vcpu_seconds = sum(
        of_type.images * _SECONDS_PER_IMAGE
        + of_type.bytes / _MEBIBYTE * SECONDS_PER_MIB.get(content_type, DEFAULT_SECONDS_PER_MIB)
        for content_type, of_type in by_type.items()
    )
    seconds = vcpu_seconds / prices.vcpu_per_task + listings * _SECONDS_PER_LISTING
    dollars = (
        class_a * prices.class_a_per_10000 / 10_000
        + class_b * prices.class_b_per_10000 / 10_000
        + seconds * (prices.vcpu_per_task * prices.vcpu_second + prices.gib_per_task * prices.gib_second)
    )
    return Estimate(
        media_reads=images,
        writes=images * outputs,
        bytes_to_read=sum(of_type.bytes for of_type in by_type.values()),
        by_type={name: of_type.model_copy() for name, of_type in sorted(by_type.items())},
        class_a_requests=class_a,
        class_b_requests=class_b,
        vcpu_seconds=round(vcpu_seconds, 1),
        seconds=round(seconds, 1),
        dollars=round(dollars, 4),
        prices=prices,
    )
