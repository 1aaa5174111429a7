"""Thumbnails of every kind of file beside an independent reference, and what they must never have in them."""

import io
import struct
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pyvips  # type: ignore[import-untyped]
from PIL import Image, PngImagePlugin

from service.errors import UnsupportedFormat
from service.images.spec import OutputFormat, ThumbnailSpec
from tests.images.conformance import (
    QUALITY,
    Case,
    Difference,
    Pixels,
    cases,
    compared,
    display_p3,
    gray,
    is_right,
    limits_for,
    look_of,
    look_of_pixels,
    main,
    ours,
    photo,
    photo_with_alpha,
    pillow,
    png,
    png_chunk,
    reduced,
    refused_cases,
    shown,
)
from tests.support.pictures import encoded, opened


@pytest.mark.parametrize("case", cases(), ids=lambda case: f"{case.category}: {case.name}")
def test_a_thumbnail_looks_like_the_reference(case: Case) -> None:
    thumbnail = ours(case.make())
    difference = case.difference(thumbnail)
    assert difference is not None, "of another size"
    assert limits_for(thumbnail).allow(difference), difference


@pytest.mark.parametrize(("case", "kind"), [pytest.param(*row, id=row[0].name) for row in refused_cases()])
def test_what_is_whole_and_not_read_is_refused_by_the_name_of_its_kind(case: Case, kind: str) -> None:
    with pytest.raises(UnsupportedFormat, match=kind):
        ours(case.make())


def test_each_case_has_a_name_of_its_own() -> None:
    names = [(case.category, case.name) for case in cases()]
    assert len(names) == len(set(names))


def test_the_comparison_sees_what_people_would_complain_of() -> None:
    """A turned picture, a wrong profile, one channel off, a dark fringe: each is outside of the limits."""
    case = Case("", "", lambda: encoded(pillow(photo()), "PNG"))
    right = reduced(look_of_pixels(photo()))
    assert limits_for(ours(case.make())).allow(Difference.between(right, right))
    wrong = [
        photo()[:, ::-1],
        photo()[..., ::-1],
        255 - photo(),
        (photo() * 0.9).astype(np.uint8),
        np.dstack([photo(), np.where(np.arange(357) < 350, 255, 0)[None].repeat(241, 0)]),
    ]
    for pixels in wrong:
        thumbnail = encoded(pillow(reduced(look_of_pixels(pixels)).numpy()), "PNG")
        assert not is_right(case, thumbnail)


def test_the_table_counts_the_right_ones_and_a_folder_can_be_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    few = [case for case in cases() if case.name in {"JPEG 6", "PNG RGB"}]
    monkeypatch.setattr("tests.images.conformance.cases", lambda: few)
    main([])
    # What threads of other tests log comes in between.
    table = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert table[2:] == [
        "| 8 bits a sample | 1 | 1 | 1 |",
        "| EXIF orientation | 1 | 1 | 0 |",
        "| **all** | 2 | 2 | 1 |",
    ]
    (tmp_path / "right.png").write_bytes(few[0].make())
    (tmp_path / "unread.bmp").write_bytes(encoded(pillow(gray()), "BMP"))
    (tmp_path / "none.txt").write_bytes(b"text")
    assert list(compared(tmp_path)) == [
        "unread.bmp: libvips does not read it",
        "2 others are the same to the eye, or are refused by both",
    ]


# Size and sharpness


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "GIF", "WEBP", "AVIF", "TIFF", "BMP", "PPM", "JPEG2000"])
@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((1, 1), (1, 1)),
        ((99, 100), (99, 100)),
        ((100, 101), (99, 100)),
        ((4000, 1), (100, 1)),
        ((1, 4000), (1, 100)),
        ((1999, 10), (100, 1)),
        ((3, 333), (1, 100)),
    ],
)
def test_nothing_is_enlarged_and_no_side_vanishes(
    image_format: str, size: tuple[int, int], expected: tuple[int, int]
) -> None:
    thumbnail = opened(ours(encoded(Image.new("RGB", size, (10, 200, 90)), image_format)))
    assert thumbnail.size == expected
    middle = thumbnail.convert("RGB").getpixel((expected[0] // 2, expected[1] // 2))
    assert isinstance(middle, tuple)
    assert max(abs(a - b) for a, b in zip(middle, (10, 200, 90), strict=True)) <= 6


@pytest.mark.parametrize("image_format", ["PNG", "GIF", "WEBP", "AVIF", "JPEG"])
def test_a_picture_that_fits_is_passed_on_as_it_is(image_format: str) -> None:
    pixels = photo()[:60, :90]
    small = ours(encoded(pillow(pixels), image_format, quality=QUALITY))
    difference = Difference.between(shown(small), look_of_pixels(pixels))
    assert limits_for(small).allow(difference) or (difference.mean < 2 and image_format != "PNG"), difference


def zone_plate(size: int = 800) -> Pixels:
    """Rings that get finer outwards, up to one pixel wide at the edge."""
    y, x = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
    return np.asarray((127.5 + 127.5 * np.cos(np.pi * size / 4 * (x**2 + y**2))).round().astype(np.uint8))


def stripes(period: int, *, upright: bool, size: int = 700) -> Pixels:
    """Black and white lines."""
    lines = np.where(np.arange(size) % period < period // 2, 0, 255).astype(np.uint8)
    return np.tile(lines if upright else lines[:, None], (size, 1) if upright else (1, size))


def _kinds(pixels: Pixels) -> Iterator[tuple[str, bytes]]:
    picture = pillow(pixels)
    yield "PNG", encoded(picture, "PNG")
    yield "PNG palette", encoded(picture.convert("P"), "PNG")
    yield "PNG 16 bit", png(pixels.astype(np.uint16) * 257, 16, 0)
    yield "PNG RGBA", encoded(picture.convert("RGBA"), "PNG")
    yield "JPEG", encoded(picture, "JPEG", quality=95)
    yield "GIF", encoded(picture, "GIF")
    yield "TIFF CMYK", encoded(picture.convert("CMYK"), "TIFF")


def test_patterns_finer_than_a_thumbnails_pixels_become_as_even_a_gray_as_they_can() -> None:
    for period in (2, 3, 4, 5, 6):
        for upright in (True, False):
            lines = stripes(period, upright=upright)
            for name, data in _kinds(lines):
                reference = reduced(look_of_pixels(lines)).numpy()[8:-8, 8:-8, :3]
                middle = shown(ours(data)).numpy()[8:-8, 8:-8, :3]
                assert abs(middle.mean() - reference.mean()) < 4, (name, period)
                assert middle.std() < reference.std() + 2, (name, period)


def test_rings_that_get_finer_fade_and_make_no_new_rings() -> None:
    """If rings are finer than the thumbnail can show, an aliasing filter shows rings that are not there."""
    pixels = zone_plate()
    reference = reduced(look_of_pixels(pixels)).numpy()[..., 0].astype(float)
    y, x = np.mgrid[-1:1:100j, -1:1:100j]
    too_fine = np.hypot(x, y) > 0.5
    too_fine[:4], too_fine[-4:], too_fine[:, :4], too_fine[:, -4:] = False, False, False, False
    for name, data in _kinds(pixels):
        rings = shown(ours(data)).numpy()[..., 0].astype(float)
        assert rings[too_fine].std() < 1.5 * reference[too_fine].std() + 4, name
        coarse = np.hypot(x, y) < 0.15
        assert rings[coarse].std() > 0.8 * reference[coarse].std(), name


@pytest.mark.parametrize("image_format", ["PNG", "WEBP", "AVIF", "TIFF", "GIF"])
def test_what_is_under_full_transparency_leaves_no_fringe(image_format: str) -> None:
    """White on clear green: on white nothing is seen, on black no green."""
    height, width = 240, 240
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    inside = np.hypot(x, y) < 0.7
    if image_format == "GIF":
        pixels = np.where(inside, 1, 0).astype(np.uint8)
        picture = pillow(pixels)
        picture.putpalette([0, 255, 0, 255, 255, 255])
        data = encoded(picture, "GIF", transparency=0)
    else:
        pixels = np.where(inside[..., None], (255, 255, 255, 255), (0, 255, 0, 0)).astype(np.uint8)
        exact: dict[str, dict[str, Any]] = {
            "WEBP": {"lossless": True, "exact": True},
            "AVIF": {"quality": 100, "subsampling": "4:4:4"},
        }
        data = encoded(pillow(pixels), image_format, **exact.get(image_format, {}))
    small = shown(ours(data))
    on_white, on_black = (small.flatten(background=colour).numpy().astype(int) for colour in (255, 0))
    assert on_white.min() >= 255 - (8 if image_format in {"WEBP", "AVIF"} else 0)
    assert np.abs(on_black - on_black[..., :1]).max() <= (16 if image_format in {"WEBP", "AVIF"} else 0)
    assert on_black[50, 50].min() >= 250
    assert on_black[2, 2].max() <= 2


# Metadata


SECRET = b"SECRET-9f3c"


def _exif() -> bytes:
    exif = Image.Exif()
    exif[0x010E] = SECRET.decode()
    exif[0x8298] = SECRET.decode()
    gps = exif.get_ifd(0x8825)
    gps[1], gps[2] = "N", (52.0, 31.0, 12.0)
    return exif.tobytes()


def _xmp() -> bytes:
    return b"<x:xmpmeta xmlns:x='adobe:ns:meta/'>" + SECRET + b"</x:xmpmeta>"


def _jpeg_segment(marker: int, body: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body


def _told_jpeg() -> bytes:
    data = encoded(pillow(photo()), "JPEG", exif=_exif(), icc_profile=_told_profile(), comment=SECRET, xmp=_xmp())
    iptc = b"\x1c\x02\x78" + struct.pack(">H", len(SECRET)) + SECRET
    resource = b"8BIM\x04\x04\0\0" + struct.pack(">I", len(iptc)) + iptc + b"\0" * (len(iptc) % 2)
    more = (
        _jpeg_segment(0xED, b"Photoshop 3.0\0" + resource) + _jpeg_segment(0xEA, SECRET) + _jpeg_segment(0xFE, SECRET)
    )
    return data[:2] + more + data[2:] + SECRET


def _told_profile() -> bytes:
    profile = display_p3()
    return profile.replace(b"made for a test\0", (SECRET + b"\0").ljust(16))


def _told_png() -> bytes:
    text = PngImagePlugin.PngInfo()
    text.add_text("Comment", SECRET.decode())
    text.add_text("Author", SECRET.decode(), zip=True)
    text.add_itxt("XML:com.adobe.xmp", _xmp().decode())
    text.add(b"tIME", struct.pack(">HBBBBB", 2024, 1, 2, 3, 4, 5))
    data = encoded(pillow(photo()), "PNG", pnginfo=text, exif=_exif(), icc_profile=_told_profile(), dpi=(300, 300))
    end = len(data) - 12
    return data[:end] + png_chunk(b"tEXt", b"Comment\0" + SECRET) + data[end:] + SECRET


def _told_gif() -> bytes:
    data = encoded(pillow(photo()), "GIF", comment=SECRET)
    xmp = b"\x21\xff\x0bXMP DataXMP" + bytes([len(SECRET)]) + SECRET + b"\0"
    return data[:-1] + xmp + data[-1:] + SECRET


def _told(image_format: str) -> bytes:
    lossy = {} if image_format == "TIFF" else {"xmp": _xmp()}
    return encoded(pillow(photo()), image_format, exif=_exif(), icc_profile=_told_profile(), **lossy)


def _jpeg_markers(data: bytes) -> Iterator[int]:
    position = 2
    while data[position + 1] != 0xD9:
        marker, length = data[position + 1], int.from_bytes(data[position + 2 : position + 4])
        yield marker
        position += 2 + length
        if marker == 0xDA:
            while data[position] != 0xFF or data[position + 1] in {0, *range(0xD0, 0xD8)}:
                position += 1
    assert data[position:] == b"\xff\xd9"


def _png_chunks(data: bytes) -> Iterator[bytes]:
    position = 8
    while position < len(data):
        yield data[position + 4 : position + 8]
        position += 12 + int.from_bytes(data[position : position + 4])


def _webp_chunks(data: bytes, position: int = 12) -> Iterator[bytes]:
    assert int.from_bytes(data[4:8], "little") == len(data) - 8
    while position < len(data):
        length = int.from_bytes(data[position + 4 : position + 8], "little")
        yield data[position : position + 4]
        position += 8 + length + length % 2


def _gif_extensions(data: bytes) -> Iterator[bytes]:
    """The label of each extension, and the name of an application's."""
    position = 13 + (3 << (data[10] & 7) + 1 if data[10] & 0x80 else 0)
    while (block := data[position]) != 0x3B:
        if block == 0x21:
            label = data[position + 1 : position + 2]
            yield label + (data[position + 3 : position + 14] if label == b"\xff" else b"")
            position += 2
        else:
            position += 11 + (3 << (data[position + 9] & 7) + 1 if data[position + 9] & 0x80 else 0)
        while data[position]:
            position += 1 + data[position]
        position += 1
    assert position == len(data) - 1


def _has_only_a_picture(data: bytes) -> bool:
    if data[:2] == b"\xff\xd8":
        # The start with JFIF's header of 16 bytes, which has no room for a preview; tables, frame, scans.
        markers = set(_jpeg_markers(data))
        return markers <= {0xE0, 0xDB, 0xC0, 0xC2, 0xC4, 0xDA} and data[4:6] == b"\0\x10"
    if data[:4] == b"\x89PNG":
        return set(_png_chunks(data)) <= {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND", b"acTL", b"fcTL", b"fdAT"}
    if data[:4] == b"RIFF":
        return set(_webp_chunks(data)) <= {b"VP8 ", b"VP8L", b"VP8X", b"ALPH", b"ANIM", b"ANMF"}
    if data[:3] == b"GIF":
        return set(_gif_extensions(data)) <= {b"\xf9", b"\xffNETSCAPE2.0"}
    assert data[4:12] == b"ftypavif"
    return not any(box in data for box in (b"Exif", b"mime", b"prof", b"rICC", b"thmb", b"uri "))


@pytest.mark.parametrize("wanted", list(OutputFormat))
@pytest.mark.parametrize(
    "make",
    [_told_jpeg, _told_png, _told_gif, partial(_told, "WEBP"), partial(_told, "AVIF"), partial(_told, "TIFF")],
    ids=["JPEG", "PNG", "GIF", "WebP", "AVIF", "TIFF"],
)
def test_a_thumbnail_holds_a_picture_and_nothing_else(make: Callable[[], bytes], wanted: OutputFormat) -> None:
    data = make()
    assert SECRET in data
    for animated in (False, True):
        thumbnail = ours(data, ThumbnailSpec(format=wanted, animated=animated))
        assert SECRET not in thumbnail
        assert _has_only_a_picture(thumbnail)


@pytest.mark.parametrize(
    ("wanted", "most"),
    [
        (OutputFormat.JPEG, 3_500),
        (OutputFormat.WEBP, 3_000),
        (OutputFormat.AVIF, 3_500),
        (OutputFormat.PNG, 16_000),
    ],
)
def test_a_thumbnail_is_small(wanted: OutputFormat, most: int) -> None:
    """A photo of 100x67 at the default quality; PNG is allowed two bytes and a half a pixel."""
    assert len(ours(encoded(pillow(photo()), "JPEG"), ThumbnailSpec(format=wanted))) < most


def test_a_drawing_of_few_colours_stays_tiny_as_a_png() -> None:
    pixels = np.zeros((90, 90, 3), np.uint8)
    pixels[20:70, 20:70] = (200, 30, 40)
    assert len(ours(encoded(pillow(pixels), "PNG"))) < 250


# Animations


def _frames(count: int = 5) -> list[Pixels]:
    """A disc that wanders over clear ground, and the last picture but one twice."""
    y, x = np.mgrid[0:180, 0:240]
    frames = []
    for index in range(count - 1):
        inside = np.hypot(x - 50 - 40 * index, y - 60 - 15 * index) < 38
        colour = [(255, 0, 0), (0, 160, 0), (0, 0, 255), (200, 200, 0)][index % 4]
        frames.append(np.where(inside[..., None], (*colour, 255), (0, 0, 0, 0)).astype(np.uint8))
    return [*frames, frames[-1]]


DURATIONS = [40, 120, 500, 70, 260]


def _opaque(frames: list[Pixels]) -> list[Pixels]:
    return [np.where(frame[..., 3:] == 255, frame, (90, 90, 90, 255)).astype(np.uint8) for frame in frames]


def _by_vips(suffix: str, frames: list[Pixels], **options: object) -> bytes:
    height, width = frames[0].shape[:2]
    tall = pyvips.Image.new_from_array(np.vstack(frames)).copy(interpretation="srgb")
    tall.set_type(pyvips.GValue.gint_type, "page-height", height)
    tall.set_type(pyvips.GValue.gint_type, "loop", 3)
    tall.set_type(pyvips.GValue.array_int_type, "delay", DURATIONS)
    assert width == tall.width
    return bytes(tall.write_to_buffer(suffix, **options))


def _by_pillow(image_format: str, frames: list[Pixels], **options: object) -> bytes:
    first, *others = [pillow(frame) for frame in frames]
    return encoded(first, image_format, save_all=True, append_images=others, duration=DURATIONS, loop=3, **options)


def _restored_gif() -> tuple[bytes, list[Pixels]]:
    """Small pictures on a ground that each of them leaves as it was."""
    ground, *others = _opaque(_frames())
    shown_frames = [ground] + [
        np.where((frame[..., :1] == 90) & (frame[..., 2:3] == 90), ground, frame).astype(np.uint8) for frame in others
    ]
    palette = Image.fromarray(np.vstack(shown_frames)[..., :3]).quantize(32)
    body = [
        np.asarray(pillow(frame[..., :3]).quantize(palette=palette, dither=Image.Dither.NONE)) for frame in shown_frames
    ]
    data = b"GIF89a" + struct.pack("<HHBBB", 240, 180, 0xF4, 0, 0)
    data += bytes((palette.getpalette() or [])[:96]).ljust(96, b"\0")
    data += b"\x21\xff\x0bNETSCAPE2.0\x03\x01\x03\0\0"
    for index, (samples, milliseconds) in enumerate(zip(body, DURATIONS, strict=True)):
        rows, columns = np.nonzero(samples != body[0]) if index else (np.array([0, 179]), np.array([0, 239]))
        top, left, bottom, right = rows.min(), columns.min(), rows.max() + 1, columns.max() + 1
        dispose = 3 if index else 1
        data += b"\x21\xf9\x04" + struct.pack("<BHBB", dispose << 2, milliseconds // 10, 0, 0)
        data += b"," + struct.pack("<HHHHB", left, top, right - left, bottom - top, 0)
        data += _gif_codes(samples[top:bottom, left:right].ravel().tolist())
    return data + b";", shown_frames


def _gif_codes(samples: list[int]) -> bytes:
    """LZW that never makes an entry longer than one: its table is cleared before codes would get longer."""
    codes: list[int] = []
    for start in range(0, len(samples), 30):
        codes += [32, *samples[start : start + 30]]
    codes.append(33)
    bits = sum(code << 6 * place for place, code in enumerate(codes))
    body = bits.to_bytes(-(-6 * len(codes) // 8), "little")
    blocks = [body[start : start + 255] for start in range(0, len(body), 255)]
    return b"\x05" + b"".join(bytes([len(block)]) + block for block in blocks) + b"\0"


ANIMATIONS: dict[str, Callable[[], tuple[bytes, list[Pixels]]]] = {
    "GIF, opaque, differences only": lambda: (_by_vips(".gif", _opaque(_frames())), _opaque(_frames())),
    "GIF, transparent": lambda: (_by_vips(".gif", _frames()), _frames()),
    "GIF, back to the background": lambda: (_by_pillow("GIF", _frames(), disposal=2), _frames()),
    "GIF, back to the picture before": _restored_gif,
    "WebP, opaque, differences only": lambda: (
        _by_vips(".webp", _opaque(_frames()), lossless=True, min_size=True),
        _opaque(_frames()),
    ),
    "WebP, transparent": lambda: (_by_vips(".webp", _frames(), lossless=True), _frames()),
    "WebP, lossy": lambda: (_by_vips(".webp", _opaque(_frames()), Q=95), _opaque(_frames())),
    "PNG, opaque": lambda: (_by_pillow("PNG", _opaque(_frames())), _opaque(_frames())),
    "PNG, transparent": lambda: (_by_pillow("PNG", _frames(), disposal=1, blend=0), _frames()),
    "PNG, with a picture beside the frames": lambda: (
        _by_pillow("PNG", [np.full_like(_frames()[0], 255), *_frames()], disposal=1, default_image=True),
        _frames(),
    ),
}
"""Files of frames, by what is odd of them, and the frames as a viewer shows them."""


def _timeline(data: bytes) -> list[tuple[int, Any]]:
    """The frames of a file as people see them, each with the time at which it ends, in milliseconds."""
    timeline, end = [], 0
    if data[:4] != b"\x89PNG":
        tall = pyvips.Image.new_from_buffer(data, "", n=-1)
        height = tall.get("page-height") if "page-height" in tall.get_fields() else tall.height
        delays = tall.get("delay") if "delay" in tall.get_fields() else [0]
        for index in range(tall.height // height):
            frame = tall.crop(0, index * height, tall.width, height).colourspace("srgb")
            end += delays[index]
            timeline.append((end, frame if frame.hasalpha() else frame.addalpha()))
        return timeline
    with Image.open(io.BytesIO(data)) as picture:
        first = 1 if getattr(picture, "default_image", False) else 0
        for index in range(first, getattr(picture, "n_frames", 1)):
            picture.seek(index)
            frame = look_of_pixels(np.asarray(picture.convert("RGBA")))
            end += int(picture.info.get("duration", 0))
            timeline.append((end, frame))
    return timeline


def _repeats(data: bytes) -> object:
    if data[:4] == b"\x89PNG":
        return opened(data).info.get("loop")
    picture = pyvips.Image.new_from_buffer(data, "", n=-1)
    return picture.get("loop") if "loop" in picture.get_fields() else None


@pytest.mark.parametrize("name", ANIMATIONS)
def test_an_animation_keeps_its_frames_its_timing_and_how_often_it_runs(name: str) -> None:
    data, frames = ANIMATIONS[name]()
    thumbnail = ours(data, ThumbnailSpec(animated=True, quality=QUALITY))
    timeline = _timeline(thumbnail)
    assert timeline[-1][0] == sum(DURATIONS)
    assert _repeats(thumbnail) == _repeats(data)
    start = 0
    for frame, duration in zip(frames, DURATIONS, strict=True):
        got = next(picture for end, picture in timeline if end > start)
        difference = Difference.between(got, reduced(look_of_pixels(frame)))
        # A clear pixel of a GIF is wholly clear: the smooth edge of a disc cannot be had.
        assert difference.mean < 2.5, (start, difference)
        assert difference.structure > (0.75 if name.startswith("GIF") else 0.95), (start, difference)
        start += duration


@pytest.mark.parametrize("name", ANIMATIONS)
def test_a_still_of_an_animation_is_its_first_picture(name: str) -> None:
    data, frames = ANIMATIONS[name]()
    thumbnail = ours(data)
    assert len(_timeline(thumbnail)) == 1
    first = np.full_like(frames[0], 255) if "beside" in name else frames[0]
    difference = Difference.between(_timeline(thumbnail)[0][1], reduced(look_of_pixels(first)))
    assert difference.mean < 2.5, difference


@pytest.mark.parametrize("name", ["GIF, transparent", "WebP, transparent", "PNG, transparent"])
@pytest.mark.parametrize("wanted", ["jpeg", "avif", "png", "webp"])
def test_an_animation_becomes_what_is_asked_for_with_frames_where_the_format_has_them(name: str, wanted: str) -> None:
    data, frames = ANIMATIONS[name]()
    thumbnail = ours(data, ThumbnailSpec(format=OutputFormat(wanted), animated=True, quality=QUALITY))
    # Two frames that are the same may become one that stays for longer.
    counts = {len(frames) - 1, len(frames)} if wanted in {"png", "webp"} else {1}
    with Image.open(io.BytesIO(thumbnail)) as picture:
        assert picture.format == wanted.upper()
        assert getattr(picture, "n_frames", 1) in counts
    assert _has_only_a_picture(thumbnail)


def test_the_look_of_a_file_is_the_reference_for_itself() -> None:
    data = encoded(pillow(photo_with_alpha()), "PNG")
    assert Difference.between(reduced(look_of(data)), reduced(look_of_pixels(photo_with_alpha()))).mean < 0.05
