"""Header to decoded picture, as viewers show it: a still, or the frames of an animation."""

import itertools
from collections.abc import Iterator

from PIL import ExifTags, Image
from PIL.ImageFile import ImageFile
from PIL.TiffImagePlugin import TiffImageFile

from service.images.formats import GIF, JPEG
from service.images.header import SEPARATE_PLANES, Header
from service.images.pillow import Reading, read_instead
from service.images.scans import SCALE_OF_DC


def decode(header: Header, at_least: tuple[int, int], reading: Reading, *, all_frames: bool) -> Iterator[Image.Image]:
    """Yield the first picture, or all frames of an animation, as viewers show them.

    A JPEG is decoded at the smallest scale that is no smaller than asked, and of a progressive one no more is read than
    that needs. The picture that a PNG has for viewers without animation is none of its frames.
    """
    picture = header.picture
    first = 1 if all_frames and getattr(picture, "default_image", False) else 0
    undrawn = None if header.format is not GIF or fills_screen(picture) else Image.new("L", picture.size, 255)
    for index in itertools.count(first) if all_frames else [0]:
        with reading():
            try:
                if index:
                    picture.seek(index)
            except EOFError:
                if index == first:
                    raise
                return
            if header.format is JPEG:
                # Of a HEIC, this would choose a preview, which `find_preview` does.
                picture.draft(None, at_least)
                if header.dc_scans and picture.decoderconfig[0] == SCALE_OF_DC:
                    read_instead(picture, header.dc_scans)
            if isinstance(picture, TiffImageFile):
                _widen_planes(picture)
            drawn = [tile.extents for tile in picture.tile]
            picture.load()
        frame: Image.Image = picture
        if undrawn is not None and drawn:
            # A frame beyond the screen makes Pillow's picture larger.
            undrawn = undrawn.crop((0, 0, *picture.size))
            undrawn.paste(0, drawn[0])
            if undrawn.getbbox():
                # Viewers show nothing there, Pillow the palette's first entry.
                frame = picture.convert("RGBA")
                frame.paste((0, 0, 0, 0), mask=undrawn)
        yield frame


def fills_screen(gif: ImageFile) -> bool:
    """Return True if the frame to be decoded next leaves nothing of a GIF's screen empty."""
    return all(tile.extents in {None, (0, 0, *gif.size)} for tile in gif.tile)


def _widen_planes(picture: TiffImageFile) -> None:
    """Read uncompressed planes of 16-bit samples as such; Pillow would take each half of a sample for one of 8 bits."""
    tags = picture.tag_v2
    is_planar = tags.get(ExifTags.Base.PlanarConfiguration) == SEPARATE_PLANES
    if not is_planar or set(tags.get(ExifTags.Base.BitsPerSample, (8,))) != {16}:
        return
    suffix = ";16B" if tags.prefix == b"MM" else ";16L"
    picture.tile = [
        tile._replace(args=(tile.args[0] + suffix, *tile.args[1:]))
        if tile.codec_name == "raw" and isinstance(tile.args, tuple) and len(tile.args[0]) == 1
        else tile
        for tile in picture.tile
    ]
