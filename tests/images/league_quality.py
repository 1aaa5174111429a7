"""How near to the picture a thumbnail is for its bytes: this service beside sharp, libvips and Pillow alone.

`uv run --dev --with ssimulacra2 python -m tests.images.league_quality` prints the table; `--photos FOLDER` takes the
photos there instead of the demo's. Each contender codes a photo with its own defaults. This service codes it with the
highest `OUTPUT_QUALITY` that takes no more bytes. SSIMULACRA2 compares both with the photo, made small in floating
point. sharp takes part if `node` finds it (`NODE_PATH`), else libvips with sharp's defaults does.
"""

import argparse
import io
import sys
from bisect import bisect_right
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache, partial
from importlib.metadata import version
from itertools import product
from pathlib import Path
from statistics import mean
from tempfile import TemporaryDirectory

import PIL
import pyvips  # type: ignore[import-untyped]
from PIL import Image, ImageCms, ImageOps
from ssimulacra2 import compute_ssimulacra2  # type: ignore[import-not-found]

from service.demo.photos import sample_files
from service.images.spec import Box, OutputFormat, ThumbnailSpec
from service.images.thumbnail import make_thumbnails
from tests.images.conformance import MAX_PIXELS, unbounded
from tests.images.league import VIPS_VERSION, run_sharp
from tests.support.pictures import encoded

_SIDES = (100, 200, 400)
_FORMATS = (OutputFormat.JPEG, OutputFormat.WEBP, OutputFormat.AVIF)
_Kind = tuple[OutputFormat, int]
"""Format and longest side of a thumbnail."""
_KINDS: Sequence[_Kind] = tuple(product(_FORMATS, _SIDES))

_SHARP = """
const fs = require('fs'), sharp = require('sharp');
async function main() {
  for (const name of fs.readFileSync(0, 'utf8').split('\\n').filter(Boolean))
    for (const side of [100, 200, 400])
      for (const format of ['jpeg', 'webp', 'avif'])
        await sharp(name).autoOrient().resize(side, side, {fit: 'inside', withoutEnlargement: true})
          .toFormat(format).toFile(`${name}.${side}.${format}`);
  console.log(JSON.stringify(sharp.versions));
}
main();
"""
"""Node program: makes the thumbnails of each file that standard input names, beside it."""
_SHARP_DEFAULTS = {
    OutputFormat.JPEG: ",Q=80,optimize_coding=true",
    OutputFormat.WEBP: ",Q=80,effort=4",
    OutputFormat.AVIF: ",Q=50,effort=4,bitdepth=8,subsample_mode=off",
}
"""In libvips' words."""


def our_thumbnail(data: bytes, kind: _Kind, quality: int) -> bytes:
    """The thumbnail that this service makes."""
    image_format, side = kind
    spec = ThumbnailSpec(Box(side, side), image_format, quality)
    (thumbnail,) = make_thumbnails(data, [spec], max_pixels=MAX_PIXELS, reserve=unbounded)
    return thumbnail.data


def by_libvips(data: bytes, kind: _Kind, options: str = "") -> bytes:
    """The thumbnail that `vipsthumbnail` makes, without metadata."""
    image_format, side = kind
    picture = pyvips.Image.thumbnail_buffer(data, side, height=side, size="down", output_profile="srgb")
    return bytes(picture.write_to_buffer(f".{image_format}[keep=none{options}]"))


def by_pillow(data: bytes, kind: _Kind) -> bytes:
    """The thumbnail that Pillow makes of an upright picture in sRGB."""
    image_format, side = kind
    picture = in_srgb(data)
    picture.thumbnail((side, side))
    return encoded(picture, image_format.upper())


def in_srgb(data: bytes) -> Image.Image:
    """The picture, upright, in sRGB."""
    picture = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    rgb = picture.convert("RGB")
    rgb.info.clear()
    if not (profile := picture.info.get("icc_profile")):
        return rgb
    converted = ImageCms.profileToProfile(rgb, io.BytesIO(profile), ImageCms.createProfile("sRGB"))
    if converted is None:
        raise ValueError("a photo's profile cannot be converted; leave this photo out")
    return converted


def reference(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    """The picture made small in floating point."""
    bands = (band.convert("F").resize(size, Image.Resampling.LANCZOS) for band in picture.split())
    return Image.merge("RGB", [band.point(lambda value: value * 1 + 0.5).convert("L") for band in bands])


def score(picture: Image.Image, thumbnail: bytes) -> float:
    """How near a thumbnail is to the picture by SSIMULACRA2: 100 if it is the same."""
    shown = Image.open(io.BytesIO(thumbnail)).convert("RGB")
    files = [io.BytesIO(encoded(each, "PNG")) for each in (reference(picture, shown.size), shown)]
    return float(compute_ssimulacra2(*files))


@dataclass(frozen=True, slots=True)
class Result:
    """A photo as a contender codes it, and as this service does in no more bytes."""

    their_score: float
    our_score: float


def results(data: bytes, theirs: dict[_Kind, list[bytes]]) -> dict[_Kind, list[Result]]:
    """Compare the thumbnails of a photo by each contender with this service's."""
    picture = in_srgb(data)
    found: dict[_Kind, list[Result]] = {}
    for kind, thumbnails in theirs.items():
        ours = cache(partial(our_thumbnail, data, kind))
        found[kind] = []
        for thumbnail in thumbnails:
            fitting = bisect_right(range(1, 101), len(thumbnail), key=lambda quality: len(ours(quality)))
            found[kind].append(Result(score(picture, thumbnail), score(picture, ours(max(1, fitting)))))
    return found


def contenders(photos: Sequence[bytes]) -> tuple[list[str], list[dict[_Kind, list[bytes]]]]:
    """The names of the contenders, and of each photo and kind the thumbnail that each of them makes."""
    with TemporaryDirectory() as folder:
        files = [Path(folder, str(number)) for number in range(len(photos))]
        for file, data in zip(files, photos, strict=True):
            file.write_bytes(data)
        version_of_sharp = run_sharp(_SHARP, files)
        made = [
            {
                (image_format, side): [
                    Path(f"{file}.{side}.{image_format}").read_bytes()
                    if version_of_sharp
                    else by_libvips(data, (image_format, side), _SHARP_DEFAULTS[image_format]),
                    by_libvips(data, (image_format, side)),
                    by_pillow(data, (image_format, side)),
                ]
                for image_format, side in _KINDS
            }
            for file, data in zip(files, photos, strict=True)
        ]
    sharp = f"sharp {version_of_sharp}" if version_of_sharp else f"libvips {VIPS_VERSION} with sharp's defaults"
    return [sharp, f"libvips {VIPS_VERSION}, as `vipsthumbnail`", f"Pillow {PIL.__version__} alone"], made


def league(photos: Sequence[bytes]) -> str:
    """Compare the scores of each contender with this service's, in Markdown."""
    names, theirs = contenders(photos)
    with ProcessPoolExecutor() as processes:
        compared = list(processes.map(results, photos, theirs))
    lines = [
        f"{len(photos)} photos, ssimulacra2 {version('ssimulacra2')}, {datetime.now(UTC):%B %Y}",
        "",
        f"| | {' | '.join(names)} |",
        f"| --- |{' ---: |' * len(names)}",
    ]
    for image_format, side in _KINDS:
        columns = zip(*(photo[image_format, side] for photo in compared), strict=True)
        cells = [
            f"{mean(each.their_score for each in column):.1f} → {mean(each.our_score for each in column):.1f}, "
            f"{sum(each.our_score > each.their_score for each in column)}"
            for column in columns
        ]
        name = {OutputFormat.WEBP: "WebP"}.get(image_format, image_format.upper())
        lines.append(f"| {name}, {side} pixels | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Read the command line and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, help="a folder with photos; nothing else is in it")
    folder = parser.parse_args().photos
    if folder:
        photos = [path.read_bytes() for path in sorted(folder.iterdir())]
    else:
        files = (file for file in sample_files() if file.name.endswith(".jpg") and not file.name.startswith("broken/"))
        photos = [file.read() for file in files]
    if not photos:
        raise SystemExit(f"{folder} has no files. Give a folder with photos, or none for those of the demo.")
    sys.stdout.write(f"{league(photos)}\n")


if __name__ == "__main__":
    main()
