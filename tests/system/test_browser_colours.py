"""Thumbnails of files that say their colours by code points, beside what Chromium shows of these files."""

import io
from base64 import b64encode
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import pyvips  # type: ignore[import-untyped]
from PIL import Image

from tests.images.code_points import (
    BT709,
    BT2020,
    DISPLAY_P3,
    GAMMA,
    HLG,
    LINEAR,
    PQ,
    SRGB,
    cicp,
    content_light,
    mastering_display,
)
from tests.images.conformance import (
    Case,
    Difference,
    Pixels,
    cases,
    limits_for,
    look_of_pixels,
    ours,
    png,
    reduced,
    shown,
)
from tests.support.chromium import CHROMIUM, MISSING, chromium

pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason=MISSING)]

PAGE = '<style>body {{margin: 0; background: white}} img {{display: block}}</style><img src="data:{};base64,{}">'

Show = Callable[[bytes, str], Pixels]


@pytest.fixture(scope="module")
def show() -> Iterator[Show]:
    with chromium() as browser:
        page = browser.new_page(viewport={"width": 400, "height": 300})

        def show(data: bytes, media_type: str) -> Pixels:
            """A file's pixels on a white page."""
            page.set_content(PAGE.format(media_type, b64encode(data).decode()))
            page.wait_for_function("document.images[0].complete && document.images[0].naturalWidth > 0")
            return np.asarray(Image.open(io.BytesIO(page.locator("img").screenshot())).convert("RGB"))

        yield show


def lab(pixels: Pixels) -> Any:  # noqa: ANN401 - pyvips has no types
    return pyvips.Image.new_from_array(pixels).copy(interpretation="srgb").colourspace("lab")


def cube() -> Pixels:
    """Colours from all over the cube, 100x20: few enough pixels for a thumbnail to have them all."""
    levels = np.linspace(0, 255, 10).round().astype(np.uint8)
    colours = np.stack(np.meshgrid(levels, levels, levels), -1).reshape(10, 100, 3)
    ramp = np.linspace(0, 255, 1000).round().astype(np.uint8).reshape(10, 100, 1)
    return np.concatenate([colours, ramp.repeat(3, 2)])


@pytest.mark.parametrize("primaries", [BT709, BT2020, DISPLAY_P3])
@pytest.mark.parametrize(
    ("transfer", "chunks"),
    [
        (GAMMA, []),
        (6, []),
        (14, []),
        (15, []),
        (LINEAR, []),
        (SRGB, []),
        (PQ, []),
        (PQ, [content_light(150)]),
        (PQ, [content_light(400)]),
        (PQ, [content_light(4000)]),
        (PQ, [content_light(12_000)]),
        (PQ, [content_light(0), mastering_display(2000)]),
        (HLG, []),
        (HLG, [content_light(400)]),
        (HLG, [mastering_display(4000)]),
    ],
    ids=str,
)
def test_each_colour_of_a_png_is_chromiums(
    show: Show, primaries: int, transfer: int, chunks: list[tuple[bytes, bytes]]
) -> None:
    data = png(cube(), 8, 2, cicp(primaries, transfer), *chunks)
    thumbnail = np.asarray(Image.open(io.BytesIO(ours(data))).convert("RGB"))
    distance = lab(thumbnail).dE00(lab(show(data, "image/png"))).numpy()
    assert distance.mean() <= 0.05
    # Chromium computes in half precision, of which little is left in light many times as bright as white.
    assert np.percentile(distance, 99) <= 0.75


ROWS = [case for case in cases() if case.category == "Colour by code points" and not case.name.startswith("HEIC")]


@pytest.mark.parametrize("case", ROWS, ids=lambda case: case.name)
def test_a_picture_looks_as_in_chromium(show: Show, case: Case) -> None:
    data = case.make()
    thumbnail = ours(data)
    wanted = reduced(look_of_pixels(show(data, "image/png" if case.name.startswith("PNG") else "image/avif")))
    on_white = shown(thumbnail).flatten(background=255).addalpha()
    difference = Difference.between(on_white, wanted)
    assert limits_for(thumbnail).allow(difference), difference
