"""What one event cannot do without: decoding, shrinking, encoding, and two calls of storage, each by itself.

Started as `python -m tests.benchmarks.parts`; prints the median milliseconds of each as a line of JSON.
"""

import argparse
import io
import json
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from itertools import islice
from pathlib import PurePosixPath

from service.images.spec import ThumbnailSpec
from service.images.thumbnail import make_thumbnails
from service.storage.addresses import FolderLocation, ObjectLocation
from service.storage.cloud import CloudStore
from tests.benchmarks.limit import with_pillow
from tests.benchmarks.standin import BUCKET, FOLDER

_QUALITY = 80
_MOST_BYTES = 64 * 1024 * 1024
_MOST_PIXELS = 100_000_000
_LABELS = {"thumbnail-source": "gs://bench/in/0000000.jpg", "thumbnail-spec": "100x100 original q80"}
"""As many as the service writes, or nearly."""
_WARM = 5
"""How many are done before the clock counts."""


def encoded(data: bytes) -> bytes:
    """Decode, shrink and encode a JPEG with the least that Pillow can do."""
    buffer = io.BytesIO()
    with_pillow(data).save(buffer, "JPEG", quality=_QUALITY)
    return buffer.getvalue()


def by_the_service(data: bytes) -> bytes:
    """Do it as the service does, for comparison."""
    (made,) = make_thumbnails(
        data, [ThumbnailSpec(quality=_QUALITY)], max_pixels=_MOST_PIXELS, reserve=lambda _: nullcontext()
    )
    return made.data


def main() -> None:
    """Do all of it for the first objects of the folder."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--count", type=int, required=True, help="objects to read and to write")
    options = parser.parse_args()
    store = CloudStore(2)
    times: defaultdict[str, list[float]] = defaultdict(list)

    @contextmanager
    def timed(what: str) -> Iterator[None]:
        began = time.perf_counter()
        yield
        times[what].append((time.perf_counter() - began) * 1000)

    for found in islice(store.list_objects(FolderLocation(BUCKET, FOLDER)), options.count + _WARM):
        with timed("read"):
            data = store.read(found, _MOST_BYTES)
        with timed("pixels"):
            made = encoded(data)
        with timed("pixels by the service"):
            by_the_service(data)
        target = ObjectLocation(BUCKET, f"out/{PurePosixPath(found.location.name).name}")
        with timed("write"):
            store.write(target, made, content_type="image/jpeg", cache_control=None, metadata=_LABELS, if_generation=0)
    medians = {what: statistics.median(several[_WARM:]) for what, several in times.items()}
    sys.stdout.write(f"{json.dumps(medians)}\n")


if __name__ == "__main__":
    main()
