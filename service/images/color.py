"""Colours to sRGB, at thumbnail size, where it costs nothing."""

import functools
import io

from PIL import Image, ImageCms

_BLACK_POINT_COMPENSATION = 0x2000
_NO_CACHE = 0x0040
"""The engine's cache of the last pixel is not made for threads."""

_LINEAR_WITHIN = 0.1
"""How near to 1 a `gAMA` is believed, which says that samples are linear: many another stands in a file of plain sRGB,
and libvips, ffmpeg and Pillow heed none."""

_MAX_PROFILE_BYTES = 4 * 1024 * 1024
"""The largest profiles, of printing presses, have two mebibytes."""
_KEPT_PROFILE_BYTES = 64 * 1024

_SPACE_OF_MODE = {"RGB": "RGB", "L": "GRAY", "CMYK": "CMYK"}


def to_srgb(picture: Image.Image, icc_profile: bytes | None, gamma: float | None) -> Image.Image:
    """Convert from the embedded profile; one that is broken, or of another kind of colours, is ignored.

    Args:
        picture: RGB, RGBA, L, CMYK or LAB.
        icc_profile: of the source.
        gamma: the `gAMA` of a PNG that says nothing better of its colours.

    Returns:
        RGB, RGBA or L.
    """
    alpha = picture.getchannel("A") if picture.mode == "RGBA" else None
    colours = _without_alpha(picture) if alpha else picture
    if icc_profile:
        colours = _from_profile(colours, icc_profile)
    elif gamma is not None and abs(gamma - 1) < _LINEAR_WITHIN and colours.mode in {"RGB", "L"}:
        colours = colours.point(_from_linear() * len(colours.getbands()))
    if colours.mode == "LAB":
        colours = _apply(_transform_from(None, "LAB"), colours)
    if colours.mode not in {"RGB", "L"}:
        colours = colours.convert("RGB")
    if alpha:
        colours = colours.convert("RGB")
        colours.putalpha(alpha)
    return colours


def _without_alpha(picture: Image.Image) -> Image.Image:
    """The colours of an RGBA picture; L where they are all gray, for which there are profiles of another kind."""
    red, green, blue, _ = picture.split()
    if red.tobytes() == green.tobytes() == blue.tobytes():
        return red
    return picture.convert("RGB")


@functools.cache
def _from_linear() -> list[int]:
    """The table from linear samples to sRGB (IEC 61966-2-1)."""
    linear = (value / 255 for value in range(256))
    straight_until = 0.0031308
    return [round(255 * (12.92 * x if x <= straight_until else 1.055 * x ** (1 / 2.4) - 0.055)) for x in linear]


def _from_profile(picture: Image.Image, icc_profile: bytes) -> Image.Image:
    if len(icc_profile) > _MAX_PROFILE_BYTES:
        return picture
    try:
        space = ImageCms.ImageCmsProfile(io.BytesIO(icc_profile)).profile.xcolor_space.strip()
        if picture.mode == "L" and space == "RGB":
            return _apply(_transform_from(icc_profile, "RGB"), picture.convert("RGB"))
        if space != _SPACE_OF_MODE.get(picture.mode):
            return picture
        converted = _apply(_transform_from(icc_profile, picture.mode), picture)
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return picture
    return converted.convert("L") if picture.mode == "L" else converted


def _transform_from(icc_profile: bytes | None, mode: str) -> ImageCms.ImageCmsTransform:
    """From a profile, or from CIELAB, to sRGB. Making one takes longer than using it: small ones are kept."""
    is_small = len(icc_profile or b"") <= _KEPT_PROFILE_BYTES
    return _kept_transform(icc_profile, mode) if is_small else _new_transform(icc_profile, mode)


def _new_transform(icc_profile: bytes | None, mode: str) -> ImageCms.ImageCmsTransform:
    source = io.BytesIO(icc_profile) if icc_profile else ImageCms.createProfile("LAB")
    return ImageCms.buildTransform(
        ImageCms.ImageCmsProfile(source),
        ImageCms.createProfile("sRGB"),
        mode,
        "RGB",
        ImageCms.Intent.PERCEPTUAL,
        ImageCms.Flags(_BLACK_POINT_COMPENSATION | _NO_CACHE),
    )


_kept_transform = functools.lru_cache(maxsize=16)(_new_transform)


def _apply(transform: ImageCms.ImageCmsTransform, picture: Image.Image) -> Image.Image:
    converted = ImageCms.applyTransform(picture, transform)
    if converted is None:
        raise ValueError("the picture was converted in place")
    return converted
