"""The same storage calls and the same decoder as the service's, in a plain pool of threads, with nothing around them.

The service's images a second, divided by this program's, tell what its machinery costs. Started as
`python -m tests.benchmarks.minimal`; prints what it did as a line of JSON.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from itertools import islice

from service.images.pool import DecoderPool
from service.images.spec import Thumbnail
from service.images.thumbnail import make_thumbnails
from service.memory import count_processors, count_workers, memory_limit, tune_malloc
from service.settings import load_settings
from service.storage.base import StoredObject
from service.storage.cloud import CloudStore
from tests.benchmarks.processes import own_peak_bytes, usage, wait_for_rest
from tests.benchmarks.standin import BUCKET, FOLDER


@contextmanager
def _free(wanted: int) -> Iterator[None]:
    del wanted
    yield


def main() -> None:
    """Thumbnail the first objects of the folder."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--count", type=int, required=True, help="how many")
    parser.add_argument("--threads", type=int, default=48)
    parser.add_argument("--decode", choices=["workers", "threads"], required=True, help="what decodes")
    options = parser.parse_args()
    settings = load_settings()
    store = CloudStore(options.threads)
    media = store._media
    workers = count_workers(memory_limit(), count_processors())
    specs, most = settings.specs, settings.max_image_pixels
    ending = ExitStack()
    decode: Callable[[bytes], list[Thumbnail]]
    if options.decode == "workers":
        pool = DecoderPool(workers, settings.memory_budget + settings.max_source_bytes, settings.max_decode_seconds)
        ending.callback(pool.close)

        def decode(data: bytes) -> list[Thumbnail]:
            return pool.make_thumbnails(data, specs, max_pixels=most, reserve=_free)
    else:
        tune_malloc(4 * 1024 * 1024)

        def decode(data: bytes) -> list[Thumbnail]:
            return make_thumbnails(data, specs, max_pixels=most, reserve=_free)

    def make_one(source: StoredObject) -> None:
        data = media.read(source)
        for picture in decode(data):
            resource = {
                "name": f"out/{source.location.name.removeprefix(FOLDER)}",
                "contentType": picture.format.media_type,
                "metadata": {"thumbnail-source": str(source.location), "thumbnail-generation": str(source.generation)},
            }
            media.write(BUCKET, resource, picture.data, if_generation=0)

    wait_for_rest(os.getpid())
    used, began = usage(os.getpid()), time.perf_counter()
    with ThreadPoolExecutor(options.threads) as executor:
        sources = islice(store.list_objects(settings.input_folder), options.count)
        for done in [executor.submit(make_one, source) for source in sources]:
            done.result()
    seconds = time.perf_counter() - began
    measured = {
        "seconds": seconds,
        "cpu_seconds": usage(os.getpid()).cpu_seconds - used.cpu_seconds,
        "peak_bytes": own_peak_bytes(),
    }
    sys.stdout.write(f"{json.dumps(measured)}\n")
    sys.stdout.flush()
    # Waits for the workers, so that what they used counts as this program's.
    ending.close()
    os._exit(0)


if __name__ == "__main__":
    main()
