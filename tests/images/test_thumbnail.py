import io
import itertools
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import pillow_heif
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import ExifTags, Image, ImageCms, ImageSequence, PngImagePlugin, features

from service.errors import CorruptImage, InvalidValue, PictureTooLarge, UnsupportedFormat
from service.images.spec import Box, OutputFormat, Thumbnail, ThumbnailSpec
from service.images.thumbnail import make_thumbnails
from tests.images.conformance import png_chunk
from tests.support.pictures import QUADRANTS, encoded, jpeg, lying, opened, quadrants


@contextmanager
def unbounded(_: int) -> Iterator[None]:
    yield


def made(data: bytes, spec: ThumbnailSpec | None = None) -> Thumbnail:
    (thumbnail,) = make_thumbnails(data, [spec or ThumbnailSpec()], max_pixels=10_000_000, reserve=unbounded)
    return thumbnail


def corners(picture: Image.Image) -> list[tuple[int, int, int]]:
    """The middle pixels of the four quarters, row by row."""
    rgb = picture.convert("RGB")
    found = []
    for y, x in itertools.product((1, 3), (1, 3)):
        pixel = rgb.getpixel((rgb.width * x // 4, rgb.height * y // 4))
        assert isinstance(pixel, tuple)
        found.append((pixel[0], pixel[1], pixel[2]))
    return found


def looks_like_quadrants(picture: Image.Image, tolerance: int = 40) -> bool:
    wanted = corners(quadrants())
    return all(
        abs(a - b) <= tolerance
        for got, want in zip(corners(picture), wanted, strict=True)
        for a, b in zip(got, want, strict=True)
    )


@pytest.mark.parametrize("text", ["100x100", "1x1", "4096x20"])
def test_a_size_reads_what_it_writes(text: str) -> None:
    assert str(Box.parse(text)) == text


@pytest.mark.parametrize("text", ["", "100", "100X100", "0x10", "-1x10", "10x10x10", "10 x 10", "5000x10", "x"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(InvalidValue, match="size"):
        Box.parse(text)


@given(st.integers(1, 70_000), st.integers(1, 70_000))
def test_a_thumbnail_fits_its_box_keeps_its_shape_and_is_never_enlarged(width: int, height: int) -> None:
    small_width, small_height = Box(100, 100).fit(width, height)
    assert 1 <= small_width <= min(100, width)
    assert 1 <= small_height <= min(100, height)
    if width > 100 or height > 100:
        assert max(small_width, small_height) == 100
        assert abs(small_width - width * small_height / height) <= max(1, width / height) + 0.51
    else:
        assert (small_width, small_height) == (width, height)


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((400, 300), (100, 75)),
        ((300, 400), (75, 100)),
        ((50, 40), (50, 40)),
        ((101, 100), (100, 99)),
        ((1, 1), (1, 1)),
        ((10000, 1), (100, 1)),
        ((1, 10000), (1, 100)),
    ],
)
def test_the_size_of_a_thumbnail(size: tuple[int, int], expected: tuple[int, int]) -> None:
    thumbnail = made(encoded(Image.new("RGB", size, "red"), "PNG"))
    assert (thumbnail.width, thumbnail.height) == expected
    assert opened(thumbnail.data).size == expected


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_exif_orientation_stands_upright_in_its_box(image_format: str, orientation: int) -> None:
    picture, exif = lying(quadrants(600, 300), orientation)
    data = encoded(picture, image_format, exif=exif)
    thumbnail = made(data, ThumbnailSpec(Box(100, 40)))
    small = opened(thumbnail.data)
    assert small.size == (80, 40)
    assert looks_like_quadrants(small)


@pytest.mark.parametrize("orientation", [0, 9, 77])
def test_an_absurd_orientation_counts_as_upright(orientation: int) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    assert looks_like_quadrants(opened(made(jpeg(exif=exif.tobytes())).data))


@pytest.mark.parametrize("exif", [b"Exif\0\0MM\0*\xff\xff\xff\xffgarbage", b"Exif\0\0garbage", b"garbage"])
def test_unreadable_exif_counts_as_upright(exif: bytes) -> None:
    assert looks_like_quadrants(opened(made(jpeg(exif=exif)).data))


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "GIF", "WEBP", "AVIF"])
def test_a_format_that_every_browser_shows_is_kept(image_format: str) -> None:
    thumbnail = made(encoded(quadrants(), image_format))
    assert opened(thumbnail.data).format == image_format
    assert thumbnail.format.media_type == f"image/{image_format.lower()}"
    assert thumbnail.new_extension == ""
    assert looks_like_quadrants(opened(thumbnail.data))


@pytest.mark.parametrize("image_format", ["TIFF", "BMP", "PPM", "JPEG2000"])
def test_any_other_format_becomes_jpeg_where_nothing_is_transparent(image_format: str) -> None:
    thumbnail = made(encoded(quadrants(), image_format))
    assert opened(thumbnail.data).format == "JPEG"
    assert (thumbnail.format.media_type, thumbnail.new_extension) == ("image/jpeg", ".jpg")
    assert looks_like_quadrants(opened(thumbnail.data))


def test_any_other_format_becomes_png_where_something_is_transparent() -> None:
    thumbnail = made(encoded(Image.new("RGBA", (200, 200), (255, 0, 0, 128)), "TIFF"))
    small = opened(thumbnail.data)
    assert (small.format, thumbnail.new_extension) == ("PNG", ".png")
    assert small.convert("RGBA").getpixel((50, 50)) == (255, 0, 0, 128)


@pytest.mark.parametrize("wanted", list(OutputFormat)[1:])
@pytest.mark.parametrize("source", ["JPEG", "PNG"])
def test_a_format_can_be_asked_for(source: str, wanted: OutputFormat) -> None:
    thumbnail = made(encoded(quadrants(), source), ThumbnailSpec(format=wanted))
    assert opened(thumbnail.data).format == wanted.upper()
    assert thumbnail.format.media_type == f"image/{wanted}"
    assert bool(thumbnail.new_extension) == (wanted.upper() != source)


def test_transparency_is_laid_on_white_where_the_output_has_none() -> None:
    small = opened(
        made(encoded(Image.new("RGBA", (200, 200), (0, 0, 0, 0)), "PNG"), ThumbnailSpec(format=OutputFormat.JPEG)).data
    )
    assert small.getpixel((50, 50)) == (255, 255, 255)


def test_colour_under_full_transparency_does_not_bleed() -> None:
    picture = Image.new("RGBA", (400, 400), (255, 0, 0, 255))
    picture.paste((0, 255, 0, 0), (0, 0, 400, 203))
    small = opened(made(encoded(picture, "PNG")).data).convert("RGBA")
    for y in range(small.height):
        pixel = small.getpixel((50, y))
        assert isinstance(pixel, tuple)
        if pixel[3] > 8:
            assert pixel[1] < 16


def test_quality_is_for_the_lossy_formats() -> None:
    noise = Image.effect_noise((400, 400), 80).convert("RGB")
    data = encoded(noise, "JPEG")
    low, high = (len(made(data, ThumbnailSpec(quality=quality)).data) for quality in (20, 95))
    assert low * 2 < high


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_nothing_of_the_originals_metadata_is_left(image_format: str) -> None:
    exif = Image.Exif()
    exif[0x010F] = "SECRET camera"
    exif.get_ifd(0x8825)[1] = "N"
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    data = encoded(
        quadrants(),
        image_format,
        exif=exif.tobytes(),
        icc_profile=profile,
        comment=b"SECRET comment",
        xmp=b"SECRET xmp",
    )
    thumbnail = made(data)
    assert b"SECRET" not in thumbnail.data
    small = opened(thumbnail.data)
    assert not small.getexif()
    assert "icc_profile" not in small.info
    assert "comment" not in small.info


def test_an_embedded_profile_is_converted_to_srgb() -> None:
    lab = Image.new("LAB", (200, 200), (128, 180, 128))
    to_rgb = ImageCms.profileToProfile(
        lab, ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), outputMode="RGB"
    )
    assert to_rgb
    gray_world = made(
        encoded(to_rgb, "PNG", icc_profile=ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    )
    pixel = opened(gray_world.data).convert("RGB").getpixel((50, 50))
    expected = to_rgb.getpixel((50, 50))
    assert isinstance(pixel, tuple)
    assert isinstance(expected, tuple)
    assert max(abs(a - b) for a, b in zip(pixel, expected, strict=True)) <= 2


def test_a_broken_profile_is_ignored() -> None:
    assert looks_like_quadrants(opened(made(jpeg(icc_profile=b"no profile at all")).data))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_every_png_mode_is_shrunk_smoothly(mode: str) -> None:
    """A fine checkerboard becomes an even gray; nearest neighbour would leave stripes, or one of the two colours."""
    board = Image.new("L", (400, 400))
    board.putdata([255 * ((x + y) % 2) for y in range(400) for x in range(400)])
    if mode == "I;16":
        source = board.convert("I").point(lambda value: value * 257).convert("I;16")
    else:
        source = board.convert(mode)
    small = opened(made(encoded(source, "PNG")).data).convert("L")
    low, high = small.getextrema()
    assert isinstance(low, int)
    assert isinstance(high, int)
    assert 118 <= low <= high <= 138


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_an_iphone_photo_stands_upright(orientation: int) -> None:
    picture, exif = lying(quadrants(600, 300), orientation)
    buffer = io.BytesIO()
    pillow_heif.from_pillow(picture).save(buffer, exif=exif, quality=90)
    thumbnail = made(buffer.getvalue(), ThumbnailSpec(Box(100, 40)))
    assert (thumbnail.width, thumbnail.height) == (80, 40)
    assert (thumbnail.format.media_type, thumbnail.new_extension) == ("image/jpeg", ".jpg")
    assert looks_like_quadrants(opened(thumbnail.data))


def test_without_the_extra_an_iphone_photo_is_refused_with_its_name() -> None:
    """In a process of its own, in which the package is not to be found."""
    program = (
        "import sys; sys.modules['pillow_heif'] = None\n"
        "from service.images.thumbnail import make_thumbnails, ThumbnailSpec\n"
        "make_thumbnails(b'\\0\\0\\0\\x18ftypheic' + bytes(50), [ThumbnailSpec()], max_pixels=10, reserve=None)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert "UnsupportedFormat" in done.stderr
    assert "extra 'heif'" in done.stderr


def animation(image_format: str, frames: int = 2, size: int = 50, **options: object) -> bytes:
    pictures = [Image.new("RGBA", (size, size), (255, 20 * index % 256, 0, 255)) for index in range(frames)]
    return encoded(pictures[0], image_format, save_all=True, append_images=pictures[1:], duration=100, **options)


def frames_of(thumbnail: Thumbnail) -> list[Image.Image]:
    picture = Image.open(io.BytesIO(thumbnail.data))
    return [frame.convert("RGBA") for frame in ImageSequence.Iterator(picture)]


@pytest.mark.parametrize("animated", [False, True])
def test_where_a_gif_draws_nothing_there_is_nothing(*, animated: bool) -> None:
    data = animation("GIF")
    on_larger_screen = data[:6] + struct.pack("<HH", 100, 100) + data[10:]
    frames = frames_of(made(on_larger_screen, ThumbnailSpec(animated=animated)))
    assert len(frames) == (2 if animated else 1)
    for frame in frames:
        assert frame.size == (100, 100)
        assert frame.getpixel((25, 25))[3] == 255  # type: ignore[index]  # of RGBA
        assert frame.getpixel((75, 75))[3] == 0  # type: ignore[index]


@pytest.mark.parametrize("height", [8, 12])
def test_a_gif_frame_larger_than_its_screen_is_read_though_the_one_before_it_left_some_of_that_empty(
    height: int,
) -> None:
    pictures = [Image.new("RGB", (20, height), colour) for colour in ("red", "blue")]
    data = encoded(pictures[0], "GIF", save_all=True, append_images=pictures[1:], duration=100)
    first = data.index(b"\x2c\0\0\0\0") + 5
    data = data[:6] + struct.pack("<HH", 10, 10) + data[10:first] + struct.pack("<HH", 10, 8) + data[first + 4 :]
    assert len(frames_of(made(data, ThumbnailSpec(animated=True)))) == 2


@pytest.mark.parametrize("animated", [False, True])
def test_where_a_webp_animation_draws_nothing_there_is_nothing_whatever_its_flags_say(*, animated: bool) -> None:
    clear = Image.new("RGBA", (80, 80))
    drawn = clear.copy()
    drawn.paste((0, 0, 255, 255), (0, 0, 40, 40))
    data = bytearray(encoded(drawn, "WEBP", save_all=True, append_images=[clear], duration=100, lossless=True))
    assert data[12:16] == b"VP8X"
    data[20] &= ~0x10
    for frame in frames_of(made(bytes(data), ThumbnailSpec(animated=animated)))[:1]:
        assert frame.getpixel((60, 60))[3] == 0  # type: ignore[index]


@pytest.mark.parametrize(
    ("source", "loop", "target", "expected"),
    [
        ("GIF", None, OutputFormat.WEBP, 1),
        ("GIF", 0, OutputFormat.WEBP, 0),
        ("GIF", 3, OutputFormat.PNG, 4),
        ("GIF", 3, OutputFormat.ORIGINAL, 3),
        ("GIF", None, OutputFormat.ORIGINAL, None),
        ("WEBP", 4, OutputFormat.PNG, 4),
        ("PNG", 1, OutputFormat.WEBP, 1),
    ],
)
def test_an_animation_plays_as_often_as_it_did(
    source: str, loop: int | None, target: OutputFormat, expected: int | None
) -> None:
    data = animation(source, **({} if loop is None else {"loop": loop}))
    thumbnail = made(data, ThumbnailSpec(format=target, animated=True))
    picture = Image.open(io.BytesIO(thumbnail.data))
    assert picture.info.get("loop") == expected
    assert len(frames_of(thumbnail)) == 2


def test_a_long_animation_is_no_flood_of_chunks() -> None:
    assert made(animation("PNG", frames=1500, size=8)).width == 8


def test_a_png_animation_without_a_frame_is_refused() -> None:
    """Its only picture is for viewers without animation, and what follows announces a frame that is not there."""
    control = struct.pack(">IIIIIHHBB", 0, 8, 8, 0, 0, 1, 10, 0, 0)
    data = encoded(Image.new("L", (8, 8)), "PNG")
    parts = [
        data[:33],
        png_chunk(b"acTL", struct.pack(">II", 3, 0)),
        data[33:-12],
        png_chunk(b"fcTL", control),
        data[-12:],
    ]
    with pytest.raises(CorruptImage, match="cannot be decoded"):
        made(b"".join(parts), ThumbnailSpec(animated=True))


def test_frames_that_are_not_kept_do_not_count_as_pixels() -> None:
    data = animation("GIF", frames=12, size=1000)
    assert made(data, ThumbnailSpec(format=OutputFormat.JPEG, animated=True)).format.media_type == "image/jpeg"
    with pytest.raises(PictureTooLarge, match="12 frames"):
        made(data, ThumbnailSpec(animated=True))


def test_a_profile_larger_than_any_is_ignored() -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert looks_like_quadrants(opened(made(encoded(quadrants(), "TIFF", icc_profile=profile + bytes(5_000_000))).data))


def test_several_thumbnails_come_of_one_decoding() -> None:
    specs = [ThumbnailSpec(Box(20, 20)), ThumbnailSpec(Box(100, 50)), ThumbnailSpec(Box(300, 300))]
    thumbnails = make_thumbnails(jpeg(), specs, max_pixels=10_000_000, reserve=unbounded)
    assert [(thumbnail.width, thumbnail.height) for thumbnail in thumbnails] == [(20, 15), (67, 50), (300, 225)]
    assert [thumbnail.spec for thumbnail in thumbnails] == specs
    assert all(looks_like_quadrants(opened(thumbnail.data)) for thumbnail in thumbnails)


def test_too_many_pixels_are_refused_by_the_header_alone() -> None:
    with pytest.raises(PictureTooLarge, match="400,000,000 pixels"):
        made(encoded(Image.new("1", (20_000, 20_000)), "PNG"))


def test_a_large_picture_for_a_slow_decoder_is_refused() -> None:
    with pytest.raises(PictureTooLarge, match="4,000,000 pixels that are decoded of a PPM"):
        made(b"P5 3000 3000 100\n" + bytes(9_000_000))
    with pytest.raises(CorruptImage, match="waste time"):
        made(b"P2 4 4 100\n" + b" " * 1_000_000)


def test_orientation_in_a_png_of_the_old_kind_is_heeded() -> None:
    picture, exif = lying(quadrants(600, 300), 6)
    info = PngImagePlugin.PngInfo()
    info.add_text("Raw profile type exif", f"\nexif\n{len(exif)}\n{exif.hex()}\n", zip=True)
    thumbnail = made(encoded(picture, "PNG", pnginfo=info))
    assert (thumbnail.width, thumbnail.height) == (100, 50)
    assert looks_like_quadrants(opened(thumbnail.data))


@pytest.mark.parametrize("data", [b"just text", b"\0" * 100, b"%PDF-1.7", b"<svg xmlns='http://www.w3.org/2000/svg'/>"])
def test_bytes_of_no_image_are_refused(data: bytes) -> None:
    with pytest.raises(UnsupportedFormat, match="JPEG, PNG"):
        made(data)


def test_a_png_without_picture_data_is_said_to_be_so() -> None:
    data = encoded(Image.new("L", (8, 8)), "PNG")
    header, end = data[: data.index(b"IDAT") - 4], data[data.index(b"IEND") - 4 :]
    with pytest.raises(CorruptImage, match="no picture data"):
        made(header + end)


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP", "AVIF"])
def test_half_a_file_is_refused_and_never_half_a_picture(image_format: str) -> None:
    data = encoded(Image.effect_noise((200, 200), 80).convert("RGB"), image_format)
    with pytest.raises(CorruptImage, match="cannot be decoded"):
        made(data[: len(data) // 2])


def test_the_decoders_that_the_formats_need_are_there() -> None:
    assert all(features.check(feature) for feature in ("jpg", "zlib", "webp", "avif", "jpg_2000", "littlecms2"))


def test_names_of_colours_are_those_of_the_test_picture() -> None:
    assert corners(quadrants()) == [Image.new("RGB", (1, 1), colour).getpixel((0, 0)) for colour in QUADRANTS.values()]


@pytest.mark.parametrize("broken", ["estimate_memory", "reduce_picture", "to_srgb", "encode"])
@pytest.mark.parametrize("defect", [AttributeError, KeyError, TypeError, MemoryError])
def test_a_defect_of_the_service_is_no_corrupt_image(
    monkeypatch: pytest.MonkeyPatch, broken: str, defect: type[Exception]
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise defect("of the service")

    monkeypatch.setattr(f"service.images.thumbnail.{broken}", fail)
    with pytest.raises(defect, match="of the service"):
        made(jpeg())


def test_a_defect_in_an_animation_is_no_corrupt_image(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise TypeError("of the service")

    data = encoded(quadrants(), "GIF", save_all=True, append_images=[quadrants().rotate(90)])
    monkeypatch.setattr("service.images.thumbnail.encode_animation", fail)
    with pytest.raises(TypeError, match="of the service"):
        made(data, ThumbnailSpec(animated=True))


def test_a_gray_tiff_with_associated_alpha_is_read() -> None:
    extra_samples = partial(struct.pack, "<HHII", 338, 3, 1)
    tiff = encoded(Image.new("LA", (8, 8), (60, 128)), "TIFF").replace(extra_samples(2), extra_samples(1))
    assert Image.open(io.BytesIO(tiff)).mode == "La"
    assert opened(made(tiff).data).getpixel((4, 4)) == (119, 119, 119, 128)
