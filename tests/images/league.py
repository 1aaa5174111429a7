"""The kinds of files of `conformance`, through this service, Pillow alone, libvips and sharp: right, wrong or refused.

`python -m tests.images.league` prints the table. sharp takes part if `node` finds it: `NODE_PATH=FOLDER/node_modules`.
"""

import json
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import PIL
import pyvips  # type: ignore[import-untyped]

from tests.images.conformance import BOX, QUALITY, Case, cases, is_right, naive, ours

_SHARP = f"""
const fs = require('fs'), sharp = require('sharp');
const options = {{jpeg: {{quality: {QUALITY}, chromaSubsampling: '4:4:4'}}, webp: {{quality: {QUALITY}}}}};
async function main() {{
  for (const name of fs.readFileSync(0, 'utf8').split('\\n').filter(Boolean)) {{
    try {{
      const data = fs.readFileSync(name), format = (await sharp(data).metadata()).format;
      let picture = sharp(data).autoOrient().resize({BOX}, {BOX}, {{fit: 'inside', withoutEnlargement: true}});
      if (['jpeg', 'png', 'webp', 'gif'].includes(format)) picture = picture.toFormat(format, options[format]);
      else picture = picture.png();
      fs.writeFileSync(name + '.thumbnail', await picture.toBuffer());
    }} catch (error) {{ /* Refused. */ }}
  }}
  console.log(JSON.stringify(sharp.versions));
}}
main();
"""
"""Node program: makes a thumbnail of each file that standard input names, beside it."""
VIPS_VERSION = ".".join(str(pyvips.version(part)) for part in range(3))
_BROWSER_FORMATS = {"jpegload": ".jpg", "pngload": ".png", "webpload": ".webp", "gifload": ".gif"}


def libvips(data: bytes) -> bytes:
    """The thumbnail that `vipsthumbnail` makes, in the format of the source if browsers show it."""
    loader = str(pyvips.Image.new_from_buffer(data, "").get("vips-loader"))
    suffix = _BROWSER_FORMATS.get(loader.removesuffix("_buffer"), ".png")
    picture = pyvips.Image.thumbnail_buffer(data, BOX, height=BOX, size="down", output_profile="srgb")
    return bytes(picture.write_to_buffer(f"{suffix}[Q={QUALITY}]" if suffix in {".jpg", ".webp"} else suffix))


def run_sharp(program: str, files: Sequence[Path]) -> str | None:
    """Run a node program that reads names of files, and return sharp's version; None if it is not installed."""
    node = shutil.which("node")
    if node is None or subprocess.run([node, "-e", "require('sharp')"], check=False, capture_output=True).returncode:
        return None
    names = "\n".join(map(str, files))
    done = subprocess.run([node, "-e", program], input=names, text=True, capture_output=True, check=True)
    return str(json.loads(done.stdout)["sharp"])


def by_sharp(matrix: list[Case]) -> tuple[str, list[bytes | None]] | None:
    """The thumbnails that sharp makes, and its version; None if it is not installed."""
    with TemporaryDirectory() as folder:
        files = [Path(folder) / str(number) for number in range(len(matrix))]
        for file, case in zip(files, matrix, strict=True):
            file.write_bytes(case.make())
        if (version := run_sharp(_SHARP, files)) is None:
            return None
        made = [file.with_name(f"{file.name}.thumbnail") for file in files]
        return version, [file.read_bytes() if file.exists() else None for file in made]


def tried(make: Callable[[bytes], bytes], data: bytes) -> bytes | None:
    """A thumbnail; None if there is none."""
    try:
        return make(data)
    except Exception:  # noqa: BLE001 - whatever it raises, there is no thumbnail
        return None


def league() -> str:
    """Count what each contender makes of each file, in Markdown."""
    matrix = list(cases())
    contenders: dict[str, list[bytes | None]] = {
        "this service": [tried(ours, case.make()) for case in matrix],
        f"Pillow {PIL.__version__} alone": [tried(naive, case.make()) for case in matrix],
        f"libvips {VIPS_VERSION}, as `vipsthumbnail`": [tried(libvips, case.make()) for case in matrix],
    }
    if sharp := by_sharp(matrix):
        contenders[f"sharp {sharp[0]}"] = sharp[1]
    lines = [
        f"{len(matrix)} files, {datetime.now(UTC):%B %Y}",
        "",
        "| contender | right | wrong | refused |",
        "| --- | ---: | ---: | ---: |",
    ]
    for name, thumbnails in contenders.items():
        count = Counter(
            "refused" if thumbnail is None else "right" if tried_right(case, thumbnail) else "wrong"
            for case, thumbnail in zip(matrix, thumbnails, strict=True)
        )
        lines.append(f"| {name} | {count['right']} | {count['wrong']} | {count['refused']} |")
    return "\n".join(lines)


def tried_right(case: Case, thumbnail: bytes) -> bool:
    """Whether a thumbnail is right; one that cannot be decoded is not."""
    try:
        return is_right(case, thumbnail)
    except Exception:  # noqa: BLE001 - another program's file, broken in whatever way
        return False


if __name__ == "__main__":
    sys.stdout.write(f"{league()}\n")
