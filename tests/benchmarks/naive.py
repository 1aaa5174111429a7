"""What one writes first: list, then for each object download, `thumbnail`, upload; all with the defaults.

Started as `python -m tests.benchmarks.naive`; prints what it did as a line of JSON.
"""

import argparse
import io
import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import PurePosixPath

from google.cloud import storage
from PIL import Image

from tests.benchmarks.processes import own_peak_bytes
from tests.benchmarks.standin import BUCKET, FOLDER


def make_one(bucket: storage.Bucket, blob: storage.Blob) -> None:
    """Thumbnail one object."""
    picture = Image.open(io.BytesIO(blob.download_as_bytes()))
    image_format = picture.format
    picture.thumbnail((100, 100))
    buffer = io.BytesIO()
    picture.save(buffer, image_format)
    bucket.blob(f"out/{PurePosixPath(blob.name).name}").upload_from_string(
        buffer.getvalue(), content_type=blob.content_type
    )


def main() -> None:
    """Thumbnail the first objects of the folder, one after the other or in threads."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--count", type=int, required=True, help="how many")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    client = storage.Client()
    bucket = client.bucket(BUCKET)
    began, began_cpu = time.perf_counter(), time.process_time()
    blobs = islice(client.list_blobs(BUCKET, prefix=FOLDER), options.count)
    if options.threads == 1:
        for blob in blobs:
            make_one(bucket, blob)
    else:
        with ThreadPoolExecutor(options.threads) as executor:
            for done in [executor.submit(make_one, bucket, blob) for blob in blobs]:
                done.result()
    measured = {
        "seconds": time.perf_counter() - began,
        "cpu_seconds": time.process_time() - began_cpu,
        "peak_bytes": own_peak_bytes(),
    }
    sys.stdout.write(f"{json.dumps(measured)}\n")


if __name__ == "__main__":
    main()
