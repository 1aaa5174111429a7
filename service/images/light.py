"""Colors that are said by code points to sRGB, as Chromium shows them on a display that is not HDR.

Samples become light of BT.2020's primaries; HDR is tone mapped there; and the light becomes sRGB. All is computed in
floating point, strip by strip. Knows no file formats.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import cache, lru_cache
from itertools import pairwise
from math import exp, log, log2
from typing import Any

from PIL import Image, ImageMath

from service.images.code_points import BT709, BT2020, DISPLAY_P3, GAMMA, HLG, LINEAR, PQ, SRGB, CodePoints

_STRIP_PIXELS = 16_384
"""For which about 25 planes of floating point are held at once."""

_Plane = Any
"""One of the three planes of a strip: an operand of `ImageMath`, which has no type to name."""
_Matrix = Sequence[Sequence[float]]

# From the chromaticities in H.273, table 2.
_TO_BT2020: Mapping[int, _Matrix] = {
    BT709: ((0.6274039, 0.3292830, 0.0433131), (0.0690973, 0.9195404, 0.0113623), (0.0163914, 0.0880133, 0.8955953)),
    BT2020: ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    DISPLAY_P3: (
        (0.7538330, 0.1985974, 0.0475696),
        (0.0457438, 0.9417772, 0.0124789),
        (-0.0012103, 0.0176017, 0.9836086),
    ),
}
_TO_BT709: _Matrix = (
    (1.6604910, -0.5876411, -0.0728499),
    (-0.1245505, 1.1328999, -0.0083494),
    (-0.0181508, -0.1005789, 1.1187297),
)
_LUMINANCE = ((0.2627002, 0.6779981, 0.0593017),)

_WHITE_NITS = 203
"""Of a sheet of paper in HDR (ITU-R BT.2408, table 1): 1, in light."""
_HLG_PEAK = 1000 / _WHITE_NITS
"""Brightest light of the display that HLG is meant for (ITU-R BT.2100, table 5)."""
_HLG_SYSTEM_GAMMA = 1.2

_KNEE_SMOOTHNESS = 0.65
_CURVE_POINTS = 8
"""Constants of the curve in SMPTE ST 2094-50, annex C, of which Skia (`SkHdrAgtm.cpp`) is a public text."""


def show_in_srgb(picture: Image.Image, said: CodePoints) -> Image.Image:
    """Convert a picture in RGB or L."""
    if (said.primaries, said.transfer) == (BT709, SRGB):
        return picture
    shown = Image.new(picture.mode, picture.size)
    rows = max(1, _STRIP_PIXELS // picture.width)
    for top in range(0, picture.height, rows):
        strip = picture.crop((0, top, picture.width, min(top + rows, picture.height)))
        shown.paste(_show_strip(strip.convert("RGB"), said).convert(picture.mode), (0, top))
    return shown


def _show_strip(strip: Image.Image, said: CodePoints) -> Image.Image:
    to_light = _light_of_samples(said.transfer)
    red, green, blue = (band.point(to_light, "F") for band in strip.split())

    def shown(operands: dict[str, Any]) -> list[_Plane]:
        least, most = operands["min"], operands["max"]
        planes = _mix(_TO_BT2020[said.primaries], [operands["red"], operands["green"], operands["blue"]])
        if said.transfer == HLG:
            (scene,) = _mix(_LUMINANCE, planes)
            gain = most(scene, 0.0) ** (_HLG_SYSTEM_GAMMA - 1) * _HLG_PEAK
            planes = [plane * gain for plane in planes]
        if said.transfer in {PQ, HLG} and said.peak_nits > _WHITE_NITS:
            brightest = most(most(planes[0], planes[1]), planes[2])
            gain = _tone_map(brightest, said.peak_nits / _WHITE_NITS, least, most)
            planes = [plane * gain for plane in planes]
        return [_encode(plane, least, most) for plane in _mix(_TO_BT709, planes)]

    planes = ImageMath.lambda_eval(shown, red=red, green=green, blue=blue)
    return Image.merge("RGB", [plane.im.convert("L") for plane in planes])


@cache
def _light_of_samples(transfer: int) -> list[float]:
    """Return the table from samples of 8 bits to light; for HLG, that of the scene."""
    functions: Mapping[int, Callable[[float], float]] = {
        GAMMA: lambda signal: signal**2.4,
        LINEAR: lambda signal: signal,
        SRGB: _light_of_srgb,
        PQ: _light_of_pq,
        HLG: _scene_of_hlg,
    }
    return [functions[transfer](sample / 255) for sample in range(256)]


def _light_of_srgb(signal: float) -> float:
    """Return what IEC 61966-2-1 says."""
    straight_until = 0.04045
    return float(signal / 12.92 if signal <= straight_until else ((signal + 0.055) / 1.055) ** 2.4)


def _light_of_pq(signal: float) -> float:
    """Return the EOTF of ITU-R BT.2100, table 4."""
    power = signal ** (32 / 2523)
    share = (max(power - 3424 / 4096, 0) / (2413 / 128 - 2392 / 128 * power)) ** (16384 / 2610)
    return float(share * 10_000 / _WHITE_NITS)


def _scene_of_hlg(signal: float) -> float:
    """Return the inverse OETF of ITU-R BT.2100, table 5."""
    square_until, a = 0.5, 0.17883277
    return signal**2 / 3 if signal <= square_until else (exp((signal - 0.5) / a + log(4 * a)) + 1 - 4 * a) / 12


def _mix(matrix: _Matrix, planes: Sequence[_Plane]) -> list[_Plane]:
    return [sum(weight * plane for weight, plane in zip(row, planes, strict=True)) for row in matrix]


def _tone_map(brightest: _Plane, peak: float, least: _Plane, most: _Plane) -> _Plane:
    """Return by how much light is to be multiplied whose brightest part and whose picture's peak, over 1, are given.

    This is the reference white tone mapping operator of SMPTE ST 2094-50, annex C, to a display without headroom, as
    Chromium computes it. Up to white, all is multiplied alike. From there to the peak, which becomes the display's
    white, the logarithm of the gain is a cubic spline.
    """
    points = _gain_curve(peak)
    gain: _Plane = points[0][1]
    for (x0, y0, slope0), (x1, y1, slope1) in pairwise(points):
        width = x1 - x0
        part = (least(most(brightest, x0), x1) - x0) * (1 / width)
        rise, start, end = y1 - y0, slope0 * width, slope1 * width
        # A segment adds nothing before it begins, and no more once it has ended.
        gain = ((part * (start + end - 2 * rise) + (3 * rise - 2 * start - end)) * part + start) * part + gain
    return 2.0**gain * (peak / most(brightest, peak))


@lru_cache(maxsize=16)
def _gain_curve(peak: float) -> list[tuple[float, float, float]]:
    """Return light, logarithm of the gain, and its slope there, at eight points of a quadratic Bézier curve."""
    white = 1 - min(log2(peak) / log2(1000 / _WHITE_NITS), 1) / 2
    middle_x = 1 - _KNEE_SMOOTHNESS + _KNEE_SMOOTHNESS / white
    middle_y = (1 - _KNEE_SMOOTHNESS) * white + _KNEE_SMOOTHNESS
    points = []
    for step in range(_CURVE_POINTS):
        t = step / (_CURVE_POINTS - 1)
        x = 1 + t * (2 * (middle_x - 1) + t * (1 - 2 * middle_x + peak))
        y = white + t * (2 * (middle_y - white) + t * (white - 2 * middle_y + 1))
        slope = (middle_y - white + t * (white - 2 * middle_y + 1)) / (middle_x - 1 + t * (1 - 2 * middle_x + peak))
        points.append((x, log2(y / x), (x * slope - y) / (log(2) * x * y)))
    return points


def _encode(light: _Plane, least: _Plane, most: _Plane) -> _Plane:
    """Return the samples of 8 bits, IEC 61966-2-1; what is outside of sRGB is clipped when they become integers."""
    straight_until = 0.0031308
    straight = least(light, straight_until) * 12.92
    curved = most(light, straight_until) ** (1 / 2.4) * 1.055
    return (straight + curved - 1.055 * straight_until ** (1 / 2.4)) * 255.0 + 0.5
