"""Files that say their colours by code points (ITU-T H.273), and what they look like, by the standards' formulas."""

import re
import struct

import numpy as np
from numpy.typing import NDArray

Light = NDArray[np.float64]
"""Rows of pixels of three samples: shares of light, or of a signal, from 0 to 1."""

CHROMATICITIES = {
    1: ((0.640, 0.330), (0.300, 0.600), (0.150, 0.060)),
    9: ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046)),
    12: ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060)),
}
"""Of red, green and blue, by code point of the primaries: H.273, table 2. White is D65 for all."""

BT709, BT2020, DISPLAY_P3 = CHROMATICITIES
GAMMA, LINEAR, SRGB, PQ, HLG = 1, 8, 13, 16, 18
GAMMAS = {GAMMA: 2.4, LINEAR: 1.0}
WHITE_NITS = 203
"""Of a sheet of paper in an HDR picture: ITU-R BT.2408, table 1."""


def cicp(primaries: int, transfer: int, *, matrix: int = 0, full_range: int = 1) -> tuple[bytes, bytes]:
    """The chunk of a PNG."""
    return b"cICP", bytes([primaries, transfer, matrix, full_range])


def content_light(nits: float) -> tuple[bytes, bytes]:
    """The chunk of a PNG that says how bright its brightest pixel is."""
    return b"cLLI", struct.pack(">II", round(nits * 10_000), 0)


def mastering_display(nits: float) -> tuple[bytes, bytes]:
    """The chunk of a PNG that says how bright the display was that it was made on."""
    chromaticities = 35_400, 14_600, 8_500, 39_850, 6_550, 2_300, 15_635, 16_450
    return b"mDCV", struct.pack(">8HII", *chromaticities, round(nits * 10_000), 50)


def with_nclx(avif: bytes, primaries: int, transfer: int) -> bytes:
    """An AVIF that is the same but for these code points."""
    changed, count = re.subn(
        rb"(colrnclx).{4}", rb"\1" + struct.pack(">HH", primaries, transfer), avif, flags=re.DOTALL
    )
    assert count == 1
    return changed


def to_xyz(primaries: int) -> Light:
    """The matrix from light of these primaries to CIE XYZ."""
    white = np.array([0.3127 / 0.3290, 1, (1 - 0.3127 - 0.3290) / 0.3290])
    columns = np.array([[x / y, 1, (1 - x - y) / y] for x, y in CHROMATICITIES[primaries]]).T
    return np.asarray(columns * np.linalg.solve(columns, white))


def between(source: int, target: int) -> Light:
    """The matrix from light of one set of primaries to light of another."""
    return np.asarray(np.linalg.solve(to_xyz(target), to_xyz(source)))


def srgb_light(signal: Light) -> Light:
    """IEC 61966-2-1."""
    return np.where(signal <= 0.04045, signal / 12.92, ((signal + 0.055) / 1.055) ** 2.4)


def srgb_signal(light: Light) -> Light:
    """IEC 61966-2-1; what sRGB cannot show becomes what is nearest in each sample."""
    clipped = np.clip(light, 0, 1)
    return np.where(clipped <= 0.0031308, clipped * 12.92, 1.055 * clipped ** (1 / 2.4) - 0.055)


def pq_nits(signal: Light) -> Light:
    """ITU-R BT.2100, table 4: the EOTF."""
    m1, m2, c1, c2, c3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128
    power = signal ** (1 / m2)
    return np.asarray(10_000 * (np.maximum(power - c1, 0) / (c2 - c3 * power)) ** (1 / m1))


def pq_signal(nits: Light) -> Light:
    """ITU-R BT.2100, table 4: the inverse EOTF."""
    m1, m2, c1, c2, c3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128
    power = (nits / 10_000) ** m1
    return np.asarray(((c1 + c2 * power) / (1 + c3 * power)) ** m2)


_HLG_A = 0.17883277
_HLG_B, _HLG_C = 1 - 4 * _HLG_A, 0.5 - _HLG_A * np.log(4 * _HLG_A)


def hlg_scene(signal: Light) -> Light:
    """ITU-R BT.2100, table 5: the inverse OETF."""
    return np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - _HLG_C) / _HLG_A) + _HLG_B) / 12)


def hlg_signal(scene: Light) -> Light:
    """ITU-R BT.2100, table 5: the OETF."""
    low = np.sqrt(3 * np.minimum(scene, 1 / 12))
    high = _HLG_A * np.log(12 * np.maximum(scene, 1 / 12) - _HLG_B) + _HLG_C
    return np.asarray(np.where(scene <= 1 / 12, low, high))


def hlg_nits(signal: Light, primaries: int) -> Light:
    """ITU-R BT.2100, table 5: the EOTF of a display of 1000 cd/m², in light of BT.2020's primaries."""
    scene = hlg_scene(signal) @ between(primaries, BT2020).T
    luminance = np.maximum(scene @ to_xyz(BT2020)[1], 0)
    return np.asarray(1000 * luminance[..., None] ** 0.2 * scene)


def tone_mapped(light: Light, peak_nits: float) -> Light:
    """SMPTE ST 2094-50, annex C, for a display that shows nothing brighter than white (1)."""
    peak = peak_nits / WHITE_NITS
    if peak <= 1:
        return light.copy()
    white = 1 - min(np.log(peak) / np.log(1000 / WHITE_NITS), 1) / 2
    # A quadratic Bézier curve, of which eight points are taken.
    t = np.linspace(0, 1, 8)
    corners = np.array([[1, white], [0.35 + 0.65 / white, 0.35 * white + 0.65], [peak, 1]])
    x, y = (np.stack([(1 - t) ** 2, 2 * t * (1 - t), t**2], -1) @ corners).T
    dx, dy = (np.stack([t - 1, 1 - 2 * t, t], -1) @ corners).T
    gains, slopes = np.log2(y / x), (dy / dx / y - 1 / x) / np.log(2)
    # Between them, cubic Hermite polynomials.
    largest = np.clip(light.max(-1), 1, peak)
    left = np.clip(np.searchsorted(x, largest, side="right") - 1, 0, 6)
    width = x[left + 1] - x[left]
    u = (largest - x[left]) / width
    gain = (2 * u**3 - 3 * u**2 + 1) * gains[left] + (3 * u**2 - 2 * u**3) * gains[left + 1]
    gain += (u**3 - 2 * u**2 + u) * width * slopes[left] + (u**3 - u**2) * width * slopes[left + 1]
    beyond = np.maximum(light.max(-1) / peak, 1)
    return np.asarray(light * (2**gain / beyond)[..., None])


def shown_in_srgb(signal: Light, primaries: int, transfer: int, peak_nits: float = 1000) -> Light:
    """What a picture looks like on an sRGB display."""
    if transfer in {PQ, HLG}:
        nits = hlg_nits(signal, primaries) if transfer == HLG else pq_nits(signal) @ between(primaries, BT2020).T
        return srgb_signal(tone_mapped(nits / WHITE_NITS, peak_nits) @ between(BT2020, BT709).T)
    light = srgb_light(signal) if transfer == SRGB else signal ** GAMMAS[transfer]
    return srgb_signal(light @ between(primaries, BT709).T)


def written(pixels: NDArray[np.uint8], primaries: int, transfer: int, peak_nits: float = 1000) -> NDArray[np.uint8]:
    """An sRGB picture in samples of these code points; the white of an HDR one is as bright as `peak_nits`."""
    light = np.clip(srgb_light(pixels / 255.0) @ between(BT709, primaries).T, 0, 1)
    if transfer == PQ:
        signal = pq_signal(light * peak_nits)
    elif transfer == HLG:
        luminance = np.maximum(light @ to_xyz(primaries)[1], 1e-9)
        signal = hlg_signal(light * luminance[..., None] ** (-0.2 / 1.2))
    else:
        signal = srgb_signal(light) if transfer == SRGB else light ** (1 / GAMMAS[transfer])
    return np.asarray((np.clip(signal, 0, 1) * 255).round().astype(np.uint8))
