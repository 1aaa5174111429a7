"""What a quality means: bytes, colors and looks, format by format."""

import io
from statistics import mean

import numpy as np
import pytest
from PIL import Image, ImageFilter

from service.demo.photos import sample_files
from service.images.encode import encode
from service.images.formats import AVIF, FORMATS, JPEG, WEBP, Format
from tests.support.pictures import encoded, opened, quadrants


def photos(side: int) -> list[Image.Image]:
    """The demo's photos, so small."""
    pictures = [
        Image.open(io.BytesIO(file.read())).convert("RGB")
        for file in sample_files()
        if file.name.endswith(".jpg") and not file.name.startswith("broken/")
    ]
    for picture in pictures:
        picture.thumbnail((side, side))
    return pictures


def made(picture: Image.Image, target: Format, quality: int) -> bytes:
    return encode(picture.copy(), target, quality, was_palette=False)


def error(picture: Image.Image, data: bytes) -> float:
    """How far the colors are off as they are seen from a little way off, in levels of 255."""
    near, shown = (
        np.asarray(each.convert("RGB").filter(ImageFilter.GaussianBlur(1)), dtype=float)
        for each in (picture, opened(data))
    )
    return float(np.sqrt(np.mean((shown - near) ** 2)))


@pytest.mark.parametrize("quality", [30, 50, 80, 90])
@pytest.mark.parametrize("side", [100, 400])
def test_a_jpeg_has_the_bytes_of_one_with_the_usual_tables_and_half_the_colors(side: int, quality: int) -> None:
    usual = [encoded(picture, "JPEG", quality=quality, optimize=True) for picture in photos(side)]
    ours = [made(picture, JPEG, quality) for picture in photos(side)]
    assert sum(map(len, ours)) == pytest.approx(sum(map(len, usual)), rel=0.1)


def test_a_small_jpeg_is_nearer_to_its_picture_than_one_with_half_the_colors() -> None:
    pictures = photos(100)
    usual = [error(picture, encoded(picture, "JPEG", quality=80, optimize=True)) for picture in pictures]
    ours = [error(picture, made(picture, JPEG, 80)) for picture in pictures]
    assert mean(ours) < 0.9 * mean(usual)


def test_a_webp_keeps_more_of_the_colors_than_a_usual_one_of_its_bytes() -> None:
    for side in (100, 200):
        pictures = photos(side)
        usual = [encoded(picture, "WEBP", quality=84) for picture in pictures]
        ours = [made(picture, WEBP, 80) for picture in pictures]
        assert sum(map(len, ours)) < 1.01 * sum(map(len, usual))
        errors, usual_errors = (list(map(color_error, pictures, files)) for files in (ours, usual))
        assert mean(errors) < 0.95 * mean(usual_errors)


def color_error(picture: Image.Image, data: bytes) -> float:
    """How far the colors of single pixels are off, whatever their brightness."""
    meant, shown = (np.asarray(each.convert("YCbCr"), dtype=float)[..., 1:] for each in (picture, opened(data)))
    return float(np.sqrt(np.mean((shown - meant) ** 2)))


def test_an_avif_keeps_more_of_the_colors_than_a_usual_one_of_its_bytes() -> None:
    pictures = photos(100)
    usual = [encoded(picture, "AVIF", quality=66, speed=5, subsampling="4:4:4") for picture in pictures]
    ours = [made(picture, AVIF, 80) for picture in pictures]
    assert sum(map(len, ours)) < 1.01 * sum(map(len, usual))
    errors, usual_errors = (list(map(color_error, pictures, files)) for files in (ours, usual))
    assert mean(errors) < 0.95 * mean(usual_errors)


def test_the_smallest_pictures_are_coded() -> None:
    for size in ((1, 1), (1, 3), (2, 1), (101, 1)):
        for target in (JPEG, WEBP, AVIF):
            assert opened(made(quadrants(*size), target, 80)).size == size


@pytest.mark.parametrize("target", [JPEG, WEBP, AVIF], ids=lambda row: row.name)
def test_more_quality_is_more_bytes_and_less_error(target: Format) -> None:
    (picture, *_) = photos(100)
    files = [made(picture, target, quality) for quality in (1, 5, 10, 25, 50, 65, 80, 88, 95, 100)]
    assert [len(data) for data in files] == sorted({len(data) for data in files})
    errors = [error(picture, data) for data in files]
    assert errors[0] > 2 * errors[-1]


@pytest.mark.parametrize("target", [WEBP, AVIF], ids=lambda row: row.name)
def test_no_format_takes_more_bytes_than_a_jpeg_of_the_same_quality(target: Format) -> None:
    for side in (100, 200):
        sizes = [(len(made(picture, target, 80)), len(made(picture, JPEG, 80))) for picture in photos(side)]
        assert sum(own for own, _ in sizes) < 1.15 * sum(jpeg for _, jpeg in sizes)


def test_grays_and_large_pictures_are_coded_for_what_they_are() -> None:
    small, large = (Image.open(io.BytesIO(made(quadrants(side, side), JPEG, 80))) for side in (300, 400))
    assert (sampling(small), sampling(large)) == ("1x1", "2x2")
    gray = quadrants(100, 100, "L")
    assert made(gray, JPEG, 80) == encoded(gray, "JPEG", quality=80, optimize=True)


def sampling(picture: Image.Image) -> str:
    """How many pixels each way share a color."""
    (_, horizontal, vertical, _), *_ = picture.layer  # type: ignore[attr-defined]
    return f"{horizontal}x{vertical}"


@pytest.mark.parametrize("target", [WEBP, AVIF], ids=lambda row: row.name)
def test_colors_that_nobody_sees_cost_nothing(target: Format) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (100, 100, 4), dtype=np.uint8)
    y, x = np.ogrid[:100, :100]
    inside = (x - 50) ** 2 + (y - 50) ** 2 < 30**2
    noise[..., 3] = np.where(inside, 255, 3)
    noise[inside] = (200, 100, 50, 255)
    plain = noise.copy()
    plain[..., :3] = (200, 100, 50)
    data = made(Image.fromarray(noise, "RGBA"), target, 80)
    assert data == made(Image.fromarray(plain, "RGBA"), target, 80)
    shown = np.asarray(opened(data)).astype(int)
    assert np.abs(shown[inside] - (200, 100, 50, 255)).max() < 20
    assert np.abs(shown[..., 3] - noise[..., 3]).max() < 12


@pytest.mark.parametrize(
    ("target", "usual"),
    [
        (WEBP, {"quality": 83, "method": 5}),
        (AVIF, {"quality": 52, "speed": 5, "subsampling": "4:4:4", "advanced": {"tune": "psnr"}}),
    ],
    ids=["WEBP", "AVIF"],
)
def test_around_a_soft_edge_the_colors_go_on(target: Format, usual: dict[str, object]) -> None:
    before = after = 0
    for photo in photos(400)[:4]:
        mask = Image.radial_gradient("L").resize(photo.size).point(lambda value: max(0, min(255, 1200 - 10 * value)))
        photo.putalpha(mask)
        # Of a picture that was made small, the colors of faint pixels are mostly rounding.
        picture = photo.convert("RGBa").resize((100, 75), Image.Resampling.LANCZOS).convert("RGBA")
        before += len(encoded(picture, target.name, **usual))
        after += len(made(picture, target, 80))
    assert after < 0.98 * before


def test_a_picture_that_nobody_sees_is_coded() -> None:
    for target in (WEBP, AVIF):
        assert opened(made(Image.new("RGBA", (5, 3)), target, 80)).getextrema() == ((0, 0),) * 4


def test_formats_without_loss_have_no_quality() -> None:
    for row in (FORMATS["PNG"], FORMATS["GIF"]):
        assert made(quadrants(50, 40), row, 1) == made(quadrants(50, 40), row, 100)
