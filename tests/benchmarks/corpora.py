"""The images that are thumbnailed: like those of a phone, those of a web site, and a mix, all made in code.

A decoder's time depends on how much detail a picture has, and where. So these have the spectrum of photographs
(amplitude falling with frequency), edges, smooth parts, and the fine grain of a sensor, at the usual file sizes. Made
once and kept in a temporary folder.
"""

import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from tests.support.pictures import encoded

_VERSION = 1
"""To be raised with any change to what is made here: an older folder is then left alone."""

_FIELD = 4096
"""Pixels a side of the random field that all pictures are cut from."""

_ORIENTATION = 0x0112
_UPRIGHT, _TURNED = 1, 6


@dataclass(frozen=True, slots=True)
class Corpus:
    """Distinct files, and the order in which a folder repeats them."""

    name: str
    folder: Path
    files: tuple[Path, ...]
    """In the order of a folder's objects, which starts again from the first; some files are in it several times."""

    @property
    def mean_bytes(self) -> float:
        """Bytes of one image."""
        return sum(file.stat().st_size for file in self.files) / len(self.files)


def corpus(name: str) -> Corpus:
    """Return one of the corpora below; it is made if it is not there yet."""
    folder = Path(tempfile.gettempdir()) / f"thumbnail-benchmarks-{os.getuid()}-v{_VERSION}" / name
    if not folder.exists():
        folder.parent.mkdir(mode=0o700, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as half_made:
            made = Path(half_made) / name
            made.mkdir()
            for file_name, data in _MAKERS[name]():
                (made / file_name).write_bytes(data)
            made.rename(folder)
    files = sorted(folder.iterdir())
    if name == "mixed":
        files = _in_shares(files)
    return Corpus(name, folder, tuple(files))


def _phone() -> Iterator[tuple[str, bytes]]:
    """Baseline JPEG of 12 megapixels and 3 to 5 MB, some of them held upright, which EXIF alone says."""
    for seed in range(16):
        picture = _photo((4000, 3000), seed, grain=4.0)
        exif = Image.Exif()
        exif[_ORIENTATION] = _TURNED if seed % 3 == 0 else _UPRIGHT
        yield f"{seed:02}.jpg", encoded(picture, "JPEG", quality=92 + seed % 3, exif=exif)


def _web() -> Iterator[tuple[str, bytes]]:
    """Baseline JPEG of about 2 megapixels and 100 to 300 KB."""
    for seed in range(40):
        yield f"{seed:02}.jpg", _web_jpeg(seed)


def _tiny() -> Iterator[tuple[str, bytes]]:
    """JPEG that take next to no time, for what is measured of everything around them."""
    for seed in range(4):
        yield f"{seed:02}.jpg", encoded(_photo((160, 120), seed), "JPEG", quality=75)


def _published() -> Iterator[tuple[str, bytes]]:
    """Baseline JPEG of the size that other image servers are measured with."""
    for seed in range(8):
        yield f"{seed:02}.jpg", encoded(_photo((2000, 1333), seed + 800), "JPEG", quality=85)


def _empty() -> Iterator[tuple[str, bytes]]:
    """Nothing at all, which is rejected unread: for what is measured of the listing alone."""
    yield "00.jpg", b""


def _mixed() -> Iterator[tuple[str, bytes]]:
    """What is found in a folder that people upload to; `_in_shares` gives each kind its share."""
    for seed in range(4):
        yield f"jpeg-phone-{seed}.jpg", encoded(_photo((4000, 3000), seed + 100, grain=4.0), "JPEG", quality=93)
    for seed in range(26):
        yield f"jpeg-web-{seed:02}.jpg", _web_jpeg(seed + 100)
    for seed in range(5):
        picture = _photo((1600, 1200), seed + 200)
        yield f"jpeg-web-progressive-{seed}.jpg", encoded(picture, "JPEG", quality=80, progressive=True)
    for seed in range(3):
        yield f"png-photo-{seed}.png", encoded(_photo((1280, 960), seed + 300), "PNG")
    for seed in range(3):
        yield f"png-screen-{seed}.png", encoded(_screen((1600, 1000), seed), "PNG")
    for seed in range(3):
        yield f"png-cut-out-{seed}.png", encoded(_cut_out((1000, 1000), seed + 400), "PNG")
    for seed in range(2):
        yield f"png-palette-{seed}.png", encoded(_screen((1200, 800), seed + 50).quantize(64), "PNG")
    for seed in range(4):
        yield f"webp-photo-{seed}.webp", encoded(_photo((1600, 1067), seed + 500), "WEBP", quality=78)
    yield "webp-cut-out.webp", encoded(_cut_out((800, 800), 600), "WEBP", quality=80)
    for seed in range(3):
        yield f"gif-{seed}.gif", encoded(_photo((640, 480), seed + 700, grain=0).quantize(128), "GIF")


def _in_shares(files: list[Path]) -> list[Path]:
    """A hundred places in a fixed, mingled order: 70 JPEG (8 of them a phone's), 18 PNG, 9 WebP, 3 GIF."""
    places: list[Path] = []
    for kind, count in (
        ("jpeg-phone", 8), ("jpeg-web", 62), ("png-photo", 4), ("png-screen", 6), ("png-cut-out", 5),
        ("png-palette", 3), ("webp", 9), ("gif", 3),
    ):  # fmt: skip
        of_kind = [file for file in files if file.name.startswith(kind)]
        places += [of_kind[place % len(of_kind)] for place in range(count)]
    # 37 and 100 share no divisor, so this visits every place once, and neighbours are seldom of one kind.
    return [places[place * 37 % len(places)] for place in range(len(places))]


_MAKERS: dict[str, Callable[[], Iterator[tuple[str, bytes]]]] = {
    "phone": _phone,
    "web": _web,
    "mixed": _mixed,
    "tiny": _tiny,
    "published": _published,
    "empty": _empty,
}


def _web_jpeg(seed: int) -> bytes:
    size = ((1920, 1280), (1600, 1067), (1920, 1080), (1600, 1200))[seed % 4]
    return encoded(_photo(size, seed, grain=0.6), "JPEG", quality=70 + seed % 9)


@cache
def _fields() -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Two random fields, -1 to 1 for the most part, that repeat at their borders: clouds, and what a camera sees.

    The amplitude of natural scenes falls with 1 ÷ frequency (D. J. Field, 1987); that of clouds faster.
    """
    random = np.random.default_rng(20_261_122)
    white = np.fft.rfft2(random.standard_normal((_FIELD, _FIELD), dtype=np.float32))
    frequency = np.hypot(np.fft.fftfreq(_FIELD)[:, None], np.fft.rfftfreq(_FIELD)[None, :]).astype(np.float32)
    frequency[0, 0] = np.inf
    made = []
    for fall in (1.8, 1.05):
        field: NDArray[np.float32] = np.fft.irfft2(white / frequency**fall).astype(np.float32)
        made.append(field / (2.5 * float(field.std())))
    return made[0], made[1]


def _photo(size: tuple[int, int], seed: int, grain: float = 1.0) -> Image.Image:
    """A picture of things before a background, some of it sharp and some of it not.

    Args:
        size: in pixels.
        seed: what makes it differ from the others.
        grain: standard deviation of a sensor's noise, of 255.
    """
    width, height = size
    random = np.random.default_rng(seed)
    clouds, detail = (
        np.roll(field, tuple(random.integers(0, _FIELD, 2)), (0, 1))[:height, :width] for field in _fields()
    )
    things = Image.new("L", size, 40)
    pen = ImageDraw.Draw(things)
    for _ in range(60):
        x, y = random.uniform(-0.1, 1, 2) * (width, height)
        w, h = random.exponential(0.12, 2) * (width, height)
        tone = int(random.integers(0, 255))
        if random.random() < 0.5:
            pen.ellipse((x, y, x + w, y + h), fill=tone)
        else:
            pen.polygon([(x, y), (x + w, y + h * random.random()), (x + w * random.random(), y + h)], fill=tone)
    tones = np.asarray(things, dtype=np.float32) / 127.5 - 1
    # Texture only on some things, and more where they are light: the rest is sky, wall and blur.
    texture = np.clip(tones + clouds, 0.15, 1)
    light = 118 + 52 * tones + 38 * clouds + 130 * detail * texture
    warmth = 26 * np.roll(clouds, width // 3, 1) + 14 * np.roll(tones, 7, 0)
    pixels = np.stack([light + warmth, light, light - 0.8 * warmth], axis=-1)
    if grain:
        pixels += random.standard_normal(pixels.shape, dtype=np.float32) * grain
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def _screen(size: tuple[int, int], seed: int) -> Image.Image:
    """A picture of windows and text, as screenshots are: few colours, hard edges, and a photo."""
    random = np.random.default_rng(seed)
    picture = Image.new("RGB", size, (246, 247, 249))
    pen = ImageDraw.Draw(picture)
    for row in range(0, size[1], 22):
        x = 30
        while x < size[0] * random.uniform(0.3, 0.95):
            word = "".join(chr(letter) for letter in random.integers(97, 123, int(random.integers(2, 10))))
            pen.text((x, row), word, fill=(30, 30, int(random.integers(30, 160))))
            x += int(pen.textlength(word)) + 6
    picture.paste(_photo((size[0] // 3, size[1] // 3), seed), (size[0] // 2, size[1] // 3))
    return picture


def _cut_out(size: tuple[int, int], seed: int) -> Image.Image:
    """A photo with a soft round edge to nothing, as pictures of products are."""
    picture = _photo(size, seed, grain=0)
    picture.putalpha(Image.radial_gradient("L").resize(size).point([min(255, max(0, 700 - 4 * v)) for v in range(256)]))
    return picture
