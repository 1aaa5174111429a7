"""Which preview inside of a HEIC is decoded in place of the photo."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from PIL import Image, ImageCms, ImageOps

from service.errors import PictureTooLarge
from service.images.pool import DecoderPool
from service.images.spec import Box, Thumbnail, ThumbnailSpec
from service.images.thumbnail import make_thumbnails
from tests.images.conformance import display_p3
from tests.images.test_thumbnail import looks_like_quadrants
from tests.support.assembly import decoders
from tests.support.heic import cropped, deep_heic, heic, with_broken_preview
from tests.support.pictures import lying, opened, quadrants

PHOTO = quadrants(1200, 800)
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
MEBIBYTE = 1024 * 1024


class Memory:
    """Grants all that is asked for, and holds one reservation at a time."""

    def __init__(self) -> None:
        self.asked: list[int] = []
        self._is_held = False

    @contextmanager
    def reserve(self, wanted: int) -> Iterator[None]:
        assert not self._is_held
        self.asked.append(wanted)
        self._is_held = True
        yield
        self._is_held = False


def made(data: bytes, *boxes: str, memory: Memory | None = None, pool: DecoderPool | None = None) -> list[Thumbnail]:
    specs = [ThumbnailSpec(Box.parse(box)) for box in boxes or ["100x100"]]
    make = pool.make_thumbnails if pool else make_thumbnails
    return make(data, specs, max_pixels=10_000_000, reserve=(memory or Memory()).reserve)


def stored(picture: Image.Image, orientation: int = 1, profile: bytes | None = None) -> Image.Image:
    """The picture as a file with this orientation and profile holds it."""
    turned, exif = lying(picture.copy(), orientation)
    turned.info["exif"] = exif
    if profile:
        turned.info["icc_profile"] = profile
    return turned


FAITHFUL: dict[str, Callable[[], bytes]] = {
    "as the encoder makes it": lambda: heic(PHOTO, thumbnails=[400]),
    "just large enough": lambda: heic(PHOTO, quadrants(200, 134)),
    "of the same shape but for rounding": lambda: heic(quadrants(1200, 799), quadrants(398, 264)),
    "turned as the photo is": lambda: heic(stored(PHOTO, 6), stored(quadrants(300, 200), 6)),
    "mirrored as the photo is": lambda: heic(stored(PHOTO, 5), stored(quadrants(300, 200), 5)),
    "with the profile of the photo": lambda: heic(stored(PHOTO, 1, SRGB), stored(quadrants(300, 200), 1, SRGB)),
    "without a profile beside a photo with one": lambda: heic(stored(PHOTO, 1, SRGB), thumbnails=[400]),
    "transparent as the photo is": lambda: heic(quadrants(1200, 800, "RGBA"), thumbnails=[400]),
    "the second of two": lambda: heic(PHOTO, thumbnails=[100, 400]),
}

UNFAITHFUL: dict[str, Callable[[], bytes]] = {
    "not there": lambda: heic(PHOTO),
    "padded": lambda: heic(PHOTO, ImageOps.pad(PHOTO, (320, 240))),
    "too small": lambda: heic(PHOTO, quadrants(198, 132)),
    "as large as the photo": lambda: heic(quadrants(300, 200), quadrants(300, 200)),
    "not turned as the photo is": lambda: heic(stored(PHOTO, 6), quadrants(200, 300)),
    "upside down beside the photo": lambda: heic(stored(PHOTO, 3), quadrants(300, 200)),
    "not mirrored as the photo is": lambda: heic(stored(PHOTO, 5), stored(quadrants(300, 200), 6)),
    "of another profile": lambda: heic(stored(PHOTO, 1, SRGB), stored(quadrants(300, 200), 1, display_p3())),
    "with a profile beside a photo without one": lambda: heic(
        PHOTO, stored(quadrants(300, 200), 1, display_p3()), save_nclx_profile=False
    ),
    "opaque beside a transparent photo": lambda: heic(quadrants(1200, 800, "RGBA"), quadrants(300, 200)),
    "gray beside a photo in colour": lambda: heic(PHOTO, quadrants(300, 200, "L")),
    "of a photo that is cropped": lambda: cropped(heic(quadrants(1201, 801), thumbnails=[400])),
    "of a photo of 10 bits": lambda: deep_heic(PHOTO, thumbnails=[400]),
    "broken": lambda: with_broken_preview(PHOTO, quadrants(300, 200)),
}


@pytest.mark.parametrize("kind", FAITHFUL)
def test_a_preview_is_decoded_in_place_of_the_photo_if_it_is_faithful(kind: str) -> None:
    memory = Memory()
    (thumbnail,) = made(FAITHFUL[kind](), memory=memory)
    assert thumbnail.from_preview
    assert max(thumbnail.width, thumbnail.height) == 100
    assert looks_like_quadrants(opened(thumbnail.data))
    (asked,) = memory.asked
    assert asked < 6 * MEBIBYTE


@pytest.mark.parametrize("kind", UNFAITHFUL)
def test_the_photo_is_decoded_if_its_preview_is(kind: str) -> None:
    (thumbnail,) = made(UNFAITHFUL[kind]())
    assert not thumbnail.from_preview
    assert max(thumbnail.width, thumbnail.height) == 100
    assert looks_like_quadrants(opened(thumbnail.data))


def test_the_largest_of_several_thumbnails_decides() -> None:
    data = heic(PHOTO, thumbnails=[400])
    assert [each.from_preview for each in made(data, "40x40", "200x200")] == [True, True]
    assert [each.from_preview for each in made(data, "40x40", "201x201")] == [False, False]


def test_the_smallest_preview_that_is_large_enough_is_decoded() -> None:
    of_three, of_one = Memory(), Memory()
    made(heic(PHOTO, thumbnails=[1000, 400, 800]), memory=of_three)
    made(heic(PHOTO, thumbnails=[400]), memory=of_one)
    assert of_three.asked == of_one.asked
    assert of_one.asked[0] < 6 * MEBIBYTE


def test_a_preview_that_shows_something_else_is_not_told_from_a_faithful_one() -> None:
    (thumbnail,) = made(heic(PHOTO, Image.new("RGB", (300, 200), "gray")))
    assert thumbnail.from_preview
    assert not looks_like_quadrants(opened(thumbnail.data))


def test_a_photo_with_too_many_pixels_is_refused_whatever_its_preview_has() -> None:
    data = heic(PHOTO, thumbnails=[400])
    with pytest.raises(PictureTooLarge, match="960,000 pixels"):
        make_thumbnails(data, [ThumbnailSpec()], max_pixels=900_000, reserve=Memory().reserve)


def test_no_memory_of_a_broken_preview_is_held_while_the_photo_waits_for_its_own() -> None:
    data = with_broken_preview(PHOTO, quadrants(900, 600))
    for pool in (None, decoders()):
        memory = Memory()
        (thumbnail,) = made(data, memory=memory, pool=pool)
        assert not thumbnail.from_preview
        assert looks_like_quadrants(opened(thumbnail.data))
        assert len(memory.asked) == 2
        assert 8 * MEBIBYTE < memory.asked[0] < memory.asked[1]


@pytest.mark.parametrize("kind", ["as the encoder makes it", "turned as the photo is"])
def test_a_worker_decodes_a_preview_without_asking_for_memory(kind: str) -> None:
    memory = Memory()
    data = FAITHFUL[kind]()
    thumbnails = made(data, memory=memory, pool=decoders())
    assert thumbnails == made(data)
    assert thumbnails[0].from_preview
    assert memory.asked == []
