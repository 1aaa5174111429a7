"""Pictures whose files end too early: rejected, or shown as far as they go, as browsers show them."""

import io
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Any

import numpy as np
import pytest
from PIL import Image

from service.errors import CorruptImage, UnsupportedFormat
from service.images.spec import OutputFormat, Thumbnail, ThumbnailSpec
from tests.images.conformance import (
    MAX_PIXELS,
    QUALITY,
    Pixels,
    cut_out,
    few_bits,
    gif_in_larger_screen,
    gray,
    indexed,
    palette_chunk,
    photo,
    photo_with_alpha,
    pillow,
    png,
    soft_disc,
    unbounded,
    wide,
)
from tests.support.assembly import decoders
from tests.support.pictures import encoded, lying

SHOW = ThumbnailSpec(quality=QUALITY, shows_damaged=True)
REJECT = ThumbnailSpec(quality=QUALITY)


def made(data: bytes, spec: ThumbnailSpec = SHOW) -> Thumbnail:
    (thumbnail,) = decoders().make_thumbnails(data, [spec], max_pixels=MAX_PIXELS, reserve=unbounded)
    return thumbnail


def pixels_of(thumbnail: Thumbnail) -> Pixels:
    """RGBA of a thumbnail."""
    return np.asarray(Image.open(io.BytesIO(thumbnail.data)).convert("RGBA")).astype(int)


def cut(data: bytes, share: float) -> bytes:
    return data[: int(len(data) * share)]


def noisy_photo() -> Pixels:
    """The photo, so that each of its rows takes as many bytes as any other."""
    noise = np.random.default_rng(1).integers(-9, 9, photo().shape)
    return np.asarray((photo() + noise).clip(0, 255).astype(np.uint8))


def _gray_key_png(*, interlaced: bool) -> bytes:
    return png(wide(gray()), 16, 0, (b"tRNS", b"\x12\x34"), interlaced=interlaced)


def _palette_png(*, interlaced: bool) -> bytes:
    picture = indexed(200)
    return png(np.asarray(picture), 8, 3, palette_chunk(picture), interlaced=interlaced)


PNGS: dict[str, Callable[..., bytes]] = {
    "RGB": partial(png, photo(), 8, 2),
    "RGB, 16 bit": partial(png, wide(photo()), 16, 2),
    "gray": partial(png, gray(), 8, 0),
    "gray, 1 bit": partial(png, few_bits(1), 1, 0),
    "gray, 16 bit": partial(png, wide(gray()), 16, 0),
    "gray, 16 bit, with a transparent value": _gray_key_png,
    "palette": _palette_png,
    "gray and alpha": partial(png, cut_out(gray(), soft_disc() | 128), 8, 4),
    "RGBA": partial(png, cut_out(photo(), soft_disc() | 128), 8, 6),
}


@pytest.mark.parametrize("name", PNGS)
def test_of_a_png_the_rows_that_are_there_are_shown_and_the_rest_is_transparent(name: str) -> None:
    data = PNGS[name](interlaced=False)
    whole, part = made(data), made(cut(data, 0.5))
    assert (whole.is_damaged, part.is_damaged) == (False, True)
    assert (part.width, part.height) == (whole.width, whole.height)
    wanted, got = pixels_of(whole), pixels_of(part)
    assert np.abs(got[:20] - wanted[:20]).mean() < 5
    assert got[-20:, :, 3].max() == 0


@pytest.mark.parametrize("share", [0.1, 0.3, 0.6, 0.9])
@pytest.mark.parametrize("name", PNGS)
def test_of_an_interlaced_png_the_passes_that_are_there_are_shown_as_blocks(name: str, share: float) -> None:
    data = PNGS[name](interlaced=True)
    whole, part = made(data), made(cut(data, share))
    assert part.is_damaged
    wanted, got = pixels_of(whole), pixels_of(part)
    assert np.abs(got[..., 3] - wanted[..., 3]).mean() < 16
    if name != "gray, 1 bit":
        assert np.abs(got[..., :3] - wanted[..., :3]).mean() < 28 - 20 * share


def _jpeg(**options: Any) -> bytes:  # noqa: ANN401 - Pillow's
    return encoded(pillow(noisy_photo()), quality=90, **options)


def test_of_a_jpeg_the_rows_that_are_there_are_shown_and_the_rest_is_gray() -> None:
    data = _jpeg()
    whole, part = pixels_of(made(data)), made(cut(data, 0.5))
    got = pixels_of(part)
    assert part.is_damaged
    assert np.abs(got[:20] - whole[:20]).mean() < 3
    assert np.abs(got[-10:, :, :3] - 128).max() < 12


@pytest.mark.parametrize("share", [0.3, 0.5, 0.7, 0.9])
def test_of_a_progressive_jpeg_the_scans_that_are_there_are_shown(share: float) -> None:
    data = _jpeg(progressive=True)
    part = made(cut(data, share))
    assert part.is_damaged
    assert np.abs(pixels_of(part) - pixels_of(made(data))).mean() < 14


def test_a_progressive_jpeg_cut_in_the_tables_between_its_scans_is_shown() -> None:
    data = _jpeg(progressive=True)
    tables = data.index(b"\xff\xc4", data.index(b"\xff\xda"))
    for end in range(tables, tables + 30):
        assert made(data[:end]).is_damaged


@pytest.mark.parametrize("missing", [1, 2, 3, 4, 20])
@pytest.mark.parametrize("options", [{}, {"progressive": True}])
def test_a_jpeg_that_lacks_its_last_bytes_is_never_passed_on_in_silence(missing: int, options: dict[str, bool]) -> None:
    data = _jpeg(**options)
    with pytest.raises(CorruptImage):
        made(data[:-missing], REJECT)
    part = made(data[:-missing])
    assert part.is_damaged
    assert np.abs(pixels_of(part) - pixels_of(made(data))).mean() < 3


def test_a_large_jpeg_is_shown_at_the_scale_that_it_is_decoded_at() -> None:
    data = encoded(pillow(noisy_photo()).resize((1600, 1080)), quality=90)
    part = pixels_of(made(cut(data, 0.5)))
    assert np.abs(part[:20] - pixels_of(made(data))[:20]).mean() < 4
    assert np.abs(part[-10:, :, :3] - 128).max() < 12


@pytest.mark.parametrize("orientation", [3, 6])
def test_a_damaged_picture_stands_upright(orientation: int) -> None:
    lain, exif = lying(pillow(noisy_photo()), orientation)
    part = pixels_of(made(cut(encoded(lain, quality=90, exif=exif), 0.5)))
    whole = pixels_of(made(encoded(pillow(noisy_photo()), quality=90)))
    difference = np.abs(part - whole)
    assert (difference[-20:] if orientation == 3 else difference[:, -20:]).mean() < 8


def _gif(**options: int) -> bytes:
    return encoded(indexed(200), "GIF", **options)


def test_of_a_gif_the_rows_that_are_there_are_shown_and_the_rest_is_transparent() -> None:
    data = _gif(interlace=0)
    whole, part = made(data), made(cut(data, 0.5))
    got = pixels_of(part)
    assert (whole.is_damaged, part.is_damaged) == (False, True)
    assert np.abs(got[:20] - pixels_of(whole)[:20]).mean() < 10
    assert got[-20:, :, 3].max() == 0


def test_of_a_gif_with_a_transparent_colour_the_rest_is_transparent_too() -> None:
    data = encoded(indexed(200), "GIF", interlace=0, transparency=255)
    part = made(cut(data, 0.5))
    assert part.is_damaged
    assert pixels_of(part)[-20:, :, 3].max() == 0


def test_of_an_interlaced_gif_rows_are_repeated_until_others_come() -> None:
    data = _gif(interlace=1)
    part = made(cut(data, 0.4))
    assert part.is_damaged
    got = pixels_of(part)
    assert got[..., 3].min() == 255
    assert np.abs(got - pixels_of(made(data))).mean() < 24


@pytest.mark.parametrize("interlace", [0, 1])
def test_a_gif_smaller_than_its_screen_is_shown_at_its_place(interlace: int) -> None:
    small = encoded(indexed(100).crop((0, 0, 200, 120)), "GIF", interlace=interlace)
    data = gif_in_larger_screen(small, (357, 241), (100, 60))
    whole, part = pixels_of(made(data)), made(cut(data, 0.6))
    assert part.is_damaged
    got = pixels_of(part)
    assert np.abs(got[:26] - whole[:26]).mean() < 20
    assert got[:, :26, 3].max() == 0


def test_a_gif_that_lacks_only_the_mark_of_its_end_is_whole() -> None:
    for spec in (REJECT, SHOW):
        assert not made(_gif()[:-1], spec).is_damaged


def _frames() -> list[Image.Image]:
    noise = np.random.default_rng(2)
    return [pillow(noise.integers(0, 255, (90, 120), np.uint8)) for _ in range(4)]


@pytest.mark.parametrize("image_format", ["GIF", "PNG"])
def test_of_an_animation_the_whole_frames_are_shown(image_format: str) -> None:
    first, *others = _frames()
    data = encoded(first, image_format, save_all=True, append_images=others, duration=100)
    animated = ThumbnailSpec(animated=True, shows_damaged=True)
    for share, count in ((0.1, 1), (0.4, 1), (0.6, 2), (0.9, 3), (1, 4)):
        with pytest.raises(CorruptImage) if share < 1 else nullcontext():
            made(cut(data, share), ThumbnailSpec(animated=True))
        thumbnail = made(cut(data, share), animated)
        assert thumbnail.is_damaged == (share < 1), share
        assert getattr(Image.open(io.BytesIO(thumbnail.data)), "n_frames", 1) == count, share


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "GIF"])
def test_a_file_cut_anywhere_is_whole_or_damaged_or_refused_and_never_half_in_silence(image_format: str) -> None:
    data = encoded(pillow(noisy_photo()[:60, :90]), image_format)
    specs = [SHOW, ThumbnailSpec(format=OutputFormat.JPEG, shows_damaged=True)]
    whole = pixels_of(made(data))
    states = []
    for end in sorted({*range(0, len(data), 97), *range(len(data) - 30, len(data) + 1)}):
        try:
            thumbnail, _ = decoders().make_thumbnails(data[:end], specs, max_pixels=MAX_PIXELS, reserve=unbounded)
        except (CorruptImage, UnsupportedFormat):
            states.append("refused")
            continue
        states.append("damaged" if thumbnail.is_damaged else "whole")
        if not thumbnail.is_damaged:
            assert np.array_equal(pixels_of(thumbnail), whole), end
    assert states == sorted(states, key=["refused", "damaged", "whole"].index)
    assert set(states) == {"refused", "damaged", "whole"}


@pytest.mark.parametrize("image_format", ["TIFF", "WEBP", "AVIF", "BMP", "JPEG2000", "PPM", "ICO"])
def test_of_other_formats_what_is_damaged_is_rejected_before_and_after_a_damaged_picture(image_format: str) -> None:
    data = cut(encoded(pillow(photo()), image_format), 0.6)
    for _ in range(4):
        assert made(cut(_jpeg(), 0.5)).is_damaged
        with pytest.raises(CorruptImage):
            made(data)


@pytest.mark.parametrize("data", [png(photo_with_alpha(), 8, 6), _jpeg(), _gif()], ids=["PNG", "JPEG", "GIF"])
def test_a_file_that_ends_before_its_first_pixel_is_rejected(data: bytes) -> None:
    starts = {
        b"\x89PNG": data.find(b"IDAT") + 8,
        b"GIF8": data.find(b",", 13 + 768) + 14,
        b"\xff\xd8\xff\xe0": data.find(b"\xff\xda"),
    }
    for end in (20, 40, starts[data[:4]]):
        with pytest.raises(CorruptImage):
            made(data[:end])


def test_a_file_that_is_broken_in_the_middle_is_rejected() -> None:
    data = bytearray(png(photo(), 8, 2))
    data[len(data) // 2 : len(data) // 2 + 400] = bytes(400)
    with pytest.raises(CorruptImage):
        made(bytes(data))


def test_a_damaged_picture_in_a_format_without_transparency_is_on_white() -> None:
    part = made(cut(png(photo(), 8, 2), 0.5), ThumbnailSpec(format=OutputFormat.JPEG, shows_damaged=True))
    assert pixels_of(part)[-10:].min() > 245


def test_a_damaged_picture_asks_for_the_memory_that_it_takes() -> None:
    asked: list[int] = []

    def reserve(wanted: int) -> Any:  # noqa: ANN401 - a context manager
        asked.append(wanted)
        return unbounded(wanted)

    data = encoded(pillow(photo()).resize((1785, 1205)), "PNG")
    for file in (data, cut(data, 0.5)):
        decoders().make_thumbnails(file, [SHOW], max_pixels=MAX_PIXELS, reserve=reserve)
    assert asked[1] > asked[0] + 5 * 1785 * 1205


def test_the_spec_of_a_damaged_thumbnail_says_so_and_holds_only_if_such_are_shown() -> None:
    whole, part = made(png(photo(), 8, 2)), made(cut(png(photo(), 8, 2), 0.5))
    assert (whole.spec_text, part.spec_text) == ("100x100 original q95", "100x100 original q95 damaged")
    assert [SHOW.covers(each.spec_text) for each in (whole, part)] == [True, True]
    assert [REJECT.covers(each.spec_text) for each in (whole, part)] == [True, False]
