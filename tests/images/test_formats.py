"""Nothing that was known of a format is lost, and a row is all that a new one needs."""

import re
import subprocess
import sys
import tomllib
from itertools import chain
from pathlib import Path

from service.images import formats
from service.images.formats import DEFAULT_SECONDS_PER_MIB, FORMATS, OUTPUT_MEDIA_TYPES, Format
from service.images.pillow import READABLE
from service.images.spec import OutputFormat
from service.runs.estimate import SECONDS_PER_MIB

ROOT = Path(__file__).parents[2]

EXTENSIONS = """
    .apng .avif .bmp .dib .gif .heic .heif .ico .j2c .j2k .jfif .jp2 .jpe .jpeg .jpf .jpg .jpx .mpo .pbm .pgm .png .pnm
    .ppm .qoi .tga .tif .tiff .webp
"""

MEASURED = {
    "image/jpeg": 0.010,
    "image/png": 0.020,
    "image/webp": 0.065,
    "image/gif": 0.010,
    "image/avif": 0.150,
    "image/heic": 0.150,
    "image/tiff": 0.010,
    "image/bmp": 0.004,
}


def run(program: str) -> str:
    """Run a program in a process of its own; return what it prints."""
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT).stdout


def test_each_format_of_the_module_is_in_the_table() -> None:
    assert {id(row) for row in vars(formats).values() if isinstance(row, Format)} == set(map(id, FORMATS.values()))
    assert all(name == row.name for name, row in FORMATS.items())


def test_the_extensions_that_mean_an_image_are_these() -> None:
    listed = list(chain.from_iterable(row.extensions for row in FORMATS.values()))
    assert sorted(listed) == EXTENSIONS.split()
    assert frozenset(listed) == formats.EXTENSIONS


def test_each_format_costs_what_was_measured() -> None:
    assert {**dict.fromkeys(SECONDS_PER_MIB, DEFAULT_SECONDS_PER_MIB), **MEASURED} == SECONDS_PER_MIB
    assert len(SECONDS_PER_MIB) == len(FORMATS), "each has a media type of its own"


def test_thumbnails_are_of_the_types_that_every_browser_shows() -> None:
    assert {"image/jpeg", "image/png", "image/gif", "image/webp", "image/avif"} == OUTPUT_MEDIA_TYPES
    for row in FORMATS.values():
        assert bool(row.output_extension) == all(row.encoding_bytes)
        assert row.output_extension in {"", *row.extensions}


def test_each_format_that_can_be_chosen_for_thumbnails_is_one_that_is_encoded() -> None:
    for chosen in set(OutputFormat) - {OutputFormat.ORIGINAL}:
        assert FORMATS[chosen.upper()].output_extension


def test_each_format_with_a_decoder_is_read() -> None:
    assert tuple(name for name, row in FORMATS.items() if row.plugin) == READABLE
    assert READABLE.index("HEIF") < READABLE.index("AVIF")


def test_each_extra_is_one_of_the_project_and_brings_the_decoder() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for row in FORMATS.values():
        brought = {re.split(r"\W", package.replace("-", "_"))[0] for package in extras.get(row.extra, ["pil"])}
        assert row.plugin.partition(".")[0].lower() in brought | {""}


def test_the_table_is_read_without_pillow() -> None:
    program = "import sys, service.images.formats, service.selection, service.runs.costs; print('PIL' in sys.modules)"
    assert run(program).split() == ["False"]


def test_a_row_is_all_that_a_new_format_needs() -> None:
    """QOI, which is known and refused, is given a decoder; JPEG 2000, which is read, an encoder."""
    program = """
from contextlib import nullcontext
from dataclasses import replace
from service.images import formats
formats.FORMATS["QOI"] = replace(formats.QOI, plugin="PIL.QoiImagePlugin")
formats.FORMATS["JPEG2000"] = replace(formats.JPEG2000, output_extension=".jp2", encoding_bytes=(10, 10))
from PIL import Image
from service.images.spec import ThumbnailSpec
from service.images.thumbnail import make_thumbnails
from tests.support.pictures import encoded
for name in ("QOI", "JPEG2000"):
    data = encoded(Image.new("RGB", (300, 200), "red"), name)
    (made,) = make_thumbnails(data, [ThumbnailSpec()], max_pixels=10**6, reserve=lambda _: nullcontext())
    print(name, made.format.media_type, made.new_extension or "kept", made.width, made.height)
"""
    assert run(program).splitlines() == ["QOI image/jpeg .jpg 100 67", "JPEG2000 image/jp2 kept 100 67"]
