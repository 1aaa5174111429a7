"""Colors to sRGB, at the size of the thumbnail, when it costs next to nothing.

Knows pictures, ICC profiles and code points, and no file formats.
"""

import io
from functools import cache, lru_cache

from PIL import Image, ImageCms, _imagingcms

from service.images.code_points import CodePoints
from service.images.light import show_in_srgb

_MAX_GAMMA_ERROR = 0.1
"""Distance from 1 within which a `gAMA` is taken to mean linear samples.

Other values are ignored, as libvips, ffmpeg and Pillow do: many stand in files of plain sRGB.
"""

_MAX_PROFILE_BYTES = 4 * 1024 * 1024
"""Larger profiles are ignored; those of printing presses have up to two mebibytes."""
_MAX_CACHED_PROFILE_BYTES = 64 * 1024

_D50 = (0.9642, 1.0, 0.8249)
"""The white of all profiles (ICC.1, 7.2.16), as XYZ."""
_WHITE_ERRORS = (0.02, 0.02, 0.04)
"""Most that the sum of a profile's colorants may differ from it. Firefox ignores profiles by the same figures."""
_GRAYS = bytes(range(0, 256, 15))
_MOST_TINT = 64
"""Most difference of two channels of what was gray."""

_COLOR_SPACES = {"RGB": "RGB", "L": "GRAY", "CMYK": "CMYK"}
"""The color space that a profile must have, by Pillow's mode."""


def to_srgb(
    picture: Image.Image, icc_profile: bytes | None, gamma: float | None, code_points: CodePoints | None
) -> Image.Image:
    """Convert a picture in RGB, RGBA, L, CMYK or LAB to sRGB, as RGB, RGBA or L.

    Code points, which only RGB and gray have, win over a profile. One that is broken, makes no sense, or is for another
    color space, is ignored. `gamma` is the `gAMA` of a PNG.
    """
    if picture.mode == "RGBA":
        converted = to_srgb(_drop_alpha(picture), icc_profile, gamma, code_points).convert("RGB")
        converted.putalpha(picture.getchannel("A"))
        return converted
    if code_points:
        picture = show_in_srgb(picture, code_points)
    elif icc_profile:
        picture = _apply_profile(picture, icc_profile)
    elif gamma is not None and abs(gamma - 1) < _MAX_GAMMA_ERROR and picture.mode in {"RGB", "L"}:
        picture = picture.point(_linear_to_srgb() * len(picture.getbands()))
    if picture.mode == "LAB":
        picture = _transform_to_srgb(None, "LAB").apply(picture)
    return picture if picture.mode in {"RGB", "L"} else picture.convert("RGB")


def _drop_alpha(picture: Image.Image) -> Image.Image:
    """Return the colors of an RGBA picture; as L if all are gray, since the profile may be one for gray."""
    red, green, blue, _ = picture.split()
    if red.tobytes() == green.tobytes() == blue.tobytes():
        return red
    return picture.convert("RGB")


@cache
def _linear_to_srgb() -> list[int]:
    """Return the table from linear samples to sRGB (IEC 61966-2-1)."""
    linear = (value / 255 for value in range(256))
    straight_until = 0.0031308
    return [round(255 * (12.92 * x if x <= straight_until else 1.055 * x ** (1 / 2.4) - 0.055)) for x in linear]


def _apply_profile(picture: Image.Image, icc_profile: bytes) -> Image.Image:
    if len(icc_profile) > _MAX_PROFILE_BYTES:
        return picture
    is_cached = len(icc_profile) <= _MAX_CACHED_PROFILE_BYTES
    build = _transform_to_srgb if is_cached else _transform_to_srgb.__wrapped__
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(icc_profile)).profile
        space = profile.xcolor_space.strip()
        if space == "RGB" and picture.mode in {"RGB", "L"}:
            transform = build(icc_profile, "RGB")
            is_sane = _adds_up_to_white(profile) and _keeps_gray(transform)
            return transform.apply(picture.convert("RGB")) if is_sane else picture
        if space != _COLOR_SPACES.get(picture.mode):
            return picture
        converted = build(icc_profile, picture.mode).apply(picture)
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return picture
    return converted.convert("L") if picture.mode == "L" else converted


def _adds_up_to_white(profile: _imagingcms.CmsProfile) -> bool:
    """Return True if the colorants of a profile add up to D50, or if it has none."""
    colorants = (profile.red_colorant, profile.green_colorant, profile.blue_colorant)
    if not all(colorants):
        return True
    white = [sum(values) for values in zip(*(colorant[0] for colorant in colorants if colorant), strict=True)]
    return all(abs(got - wanted) <= most for got, wanted, most in zip(white, _D50, _WHITE_ERRORS, strict=True))


def _keeps_gray(transform: ImageCms.ImageCmsTransform) -> bool:
    """Return True if gray stays so far gray that a tint may be meant, as it is by the profiles of scanners."""
    ramp = Image.frombytes("L", (len(_GRAYS), 1), _GRAYS).convert("RGB")
    red, green, blue = (list(band.tobytes()) for band in transform.apply(ramp).split())
    return all(max(pixel) - min(pixel) <= _MOST_TINT for pixel in zip(red, green, blue, strict=True))


@lru_cache(maxsize=16)
def _transform_to_srgb(icc_profile: bytes | None, mode: str) -> ImageCms.ImageCmsTransform:
    """Build the transform from a profile, or from CIELAB if there is none; this takes longer than applying it."""
    source = io.BytesIO(icc_profile) if icc_profile else ImageCms.createProfile("LAB")
    return ImageCms.buildTransform(
        ImageCms.ImageCmsProfile(source),
        ImageCms.createProfile("sRGB"),
        mode,
        "RGB",
        ImageCms.Intent.PERCEPTUAL,
        # LittleCMS' cache of the last pixel is not safe for threads.
        ImageCms.Flags.BLACKPOINTCOMPENSATION | ImageCms.Flags.NOCACHE,
    )
