"""Decoding, the size rule, and the way to tensors and back."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageOps

from families.errors import InvalidEditError
from families.picture import DecodingLimits, decode, from_tensor, own_size, scale, to_jpeg, to_tensor
from families.sizes import Framed, WorkingSize
from tests.families import cmyk

LIMITS = DecodingLimits()
RULE = WorkingSize(max_pixels=512 * 512, multiple=8, min_side=64, max_side=1024)


def encoded(picture: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    out = io.BytesIO()
    picture.save(out, kind, **options)
    return out.getvalue()


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((512, 512), (512, 512)),
        ((256, 256), (256, 256)),
        ((250, 131), (248, 128)),
        ((252, 132), (256, 136)),
        ((1024, 1024), (512, 512)),
        ((4000, 3000), (592, 440)),
        ((3000, 4000), (440, 592)),
        ((10_000, 1_000), (1024, 104)),
        ((100_000, 10), (1024, 64)),
        ((16, 16), (64, 64)),
        ((20, 40), (64, 128)),
        ((1, 1), (64, 64)),
    ],
)
def test_working_size(size: tuple[int, int], expected: tuple[int, int]) -> None:
    assert RULE.of(*size) == expected


def test_working_size_keeps_every_bound() -> None:
    rng = np.random.default_rng(1)
    for width, height in rng.integers(1, 9000, (2000, 2)).tolist():
        w, h = RULE.of(width, height)
        assert w % 8 == h % 8 == 0
        assert w * h <= RULE.max_pixels
        assert 64 <= min(w, h) <= max(w, h) <= 1024
        if min(width, height) >= 64 and max(width, height) <= 1024 and width * height <= RULE.max_pixels:
            assert abs(w - width) <= 8
            assert abs(h - height) <= 8


def test_exif_orientation_is_applied() -> None:
    picture = Image.new("RGB", (40, 20), "red")
    picture.paste("blue", (0, 0, 20, 20))
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate by 90 degrees clockwise
    upright = decode(encoded(picture, "JPEG", exif=exif, quality=100), LIMITS)
    assert upright.size == (20, 40)
    assert upright.getpixel((10, 5))[2] > 200  # type: ignore[index]


@pytest.mark.parametrize("orientation", range(1, 10))
def test_every_orientation_is_turned_upright_as_pillow_does(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels = np.random.default_rng(1).integers(0, 255, (6, 9, 3), np.uint8)
    file = encoded(Image.fromarray(pixels), exif=exif)
    expected = ImageOps.exif_transpose(Image.open(io.BytesIO(file)))
    assert (np.asarray(decode(file, LIMITS)) == np.asarray(expected)).all()
    assert own_size(file) == expected.size, "the header alone tells it"


def test_a_broken_exif_block_is_passed_over() -> None:
    picture = Image.new("RGB", (40, 20), "red")
    upright = decode(encoded(picture, "JPEG", exif=b"Exif\0\0garbage", dpi=(72, 72)), LIMITS)
    assert upright.size == (40, 20)


def test_transparency_lies_over_white_and_sixteen_bits_are_scaled() -> None:
    clear = decode(encoded(Image.new("RGBA", (8, 8), (255, 0, 0, 0))), LIMITS)
    assert clear.getpixel((0, 0)) == (255, 255, 255)
    grey = Image.fromarray(np.full((8, 8), 0x8080, np.uint16))
    assert decode(encoded(grey), LIMITS).getpixel((0, 0)) == (128, 128, 128)


def test_colours_are_what_the_embedded_profile_means() -> None:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    picture = Image.new("RGB", (8, 8), (200, 100, 50))
    assert decode(encoded(picture, icc_profile=srgb), LIMITS).getpixel((0, 0)) == (200, 100, 50)
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    assert decode(encoded(picture, icc_profile=lab), LIMITS).getpixel((0, 0)) == (200, 100, 50), "it does not fit RGB"
    assert decode(encoded(picture, icc_profile=b"nonsense"), LIMITS).getpixel((0, 0)) == (200, 100, 50)


def test_cmyk_is_what_its_profile_means() -> None:
    cyan = Image.new("CMYK", (16, 16), (255, 0, 0, 0))
    with_profile = decode(encoded(cyan, "JPEG", quality=100, icc_profile=cmyk.profile()), LIMITS)
    assert with_profile.getpixel((8, 8)) == cmyk.OTHER_CYAN_RGB
    assert decode(encoded(cyan, "JPEG", quality=100), LIMITS).getpixel((8, 8)) == (0, 255, 255)
    paper = Image.new("CMYK", (16, 16), (0, 0, 0, 0))
    blank = decode(encoded(paper, "JPEG", quality=100, icc_profile=cmyk.profile()), LIMITS)
    assert blank.getpixel((8, 8)) == (255, 255, 255)


def test_cmyk_and_palettes() -> None:
    red = decode(encoded(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG", quality=100), LIMITS)
    assert red.mode == "RGB"
    assert red.getpixel((4, 4))[0] > 240  # type: ignore[index]
    palette = Image.new("RGB", (8, 8), "lime").convert("P")
    assert decode(encoded(palette), LIMITS).getpixel((0, 0)) == (0, 255, 0)
    assert decode(encoded(palette, transparency=palette.getpixel((0, 0))), LIMITS).getpixel((0, 0)) == (255, 255, 255)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_truncated_files_are_unreadable_in_the_same_words(kind: str) -> None:
    whole = encoded(Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)), kind)
    for part in (b"", b"hello", whole[: len(whole) // 2], whole[:20]):
        with pytest.raises(InvalidEditError, match=r"^the image is not a readable JPEG, PNG or WebP$") as error:
            decode(part, LIMITS)
        assert error.value.code == "image_unreadable"
    for part in (b"", b"hello", whole[:20]):
        with pytest.raises(InvalidEditError, match=r"^the image is not a readable JPEG, PNG or WebP$"):
            own_size(part)


def test_other_formats_are_not_decoded() -> None:
    for kind in ("GIF", "BMP", "TIFF", "PPM"):
        with pytest.raises(InvalidEditError, match="readable"):
            decode(encoded(Image.new("RGB", (8, 8)), kind), LIMITS)


def test_limits_on_bytes_and_pixels() -> None:
    file = encoded(Image.new("RGB", (100, 100)))
    for limits in (DecodingLimits(max_bytes=len(file) - 1), DecodingLimits(max_pixels=9999)):
        with pytest.raises(InvalidEditError, match="at most") as error:
            decode(file, limits)
        assert error.value.code == "image_too_large"
    assert decode(file, DecodingLimits(len(file), 10_000)).size == (100, 100)
    assert DecodingLimits.from_environment({"TRITOUCH_MAX_IMAGE_PIXELS": "7"}).max_pixels == 7


def header(width: int, height: int) -> bytes:
    """A PNG of that size up to where its pixels begin."""
    start = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + start + struct.pack(">I", zlib.crc32(start)) + b"\0\0\0\1IDAT"


@pytest.mark.parametrize("sides", [(0, 5), (5, 0)])
def test_a_header_without_pixels_is_unreadable(sides: tuple[int, int]) -> None:
    with pytest.raises(InvalidEditError, match="readable"):
        own_size(header(*sides))


def test_a_picture_stands_in_the_middle_of_its_frame_between_mirrors() -> None:
    pixels = np.random.default_rng(2).integers(0, 255, (3, 4, 3), np.uint8)
    file = encoded(Image.fromarray(pixels))
    seen = np.asarray(decode(file, LIMITS, Framed((4, 3), (4, 13))))
    assert (seen == pixels[[1, 2, 2, 1, 0, 0, 1, 2, 2, 1, 0, 0, 1]]).all(), "mirrored as often as it takes"


def test_the_limit_on_pixels_is_the_only_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for side in (8_000, 14_000, 60_000):  # above this module's limit, Pillow's own, and any
        with pytest.raises(InvalidEditError, match="at most 50331648 pixels") as error:
            decode(header(side, side), LIMITS)
        assert error.value.code == "image_too_large"
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 4)
    file = encoded(Image.new("RGB", (3, 3)))
    assert decode(file, DecodingLimits(max_pixels=9)).size == (3, 3)
    assert Image.MAX_IMAGE_PIXELS == 4, "it is as it was"


@pytest.mark.parametrize("name", ["TRITOUCH_MAX_IMAGE_BYTES", "TRITOUCH_MAX_IMAGE_PIXELS"])
@pytest.mark.parametrize("value", ["0", "abc", "-1", "1.5"])
def test_a_wrong_limit_is_named(name: str, value: str) -> None:
    with pytest.raises(ValueError, match=f"^{name} must be a whole number of at least 1, and is '"):
        DecodingLimits.from_environment({name: value})


def test_every_level_survives_the_way_to_a_tensor_and_back() -> None:
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    picture = Image.fromarray(np.stack([levels, levels.T, levels[::-1]], -1))
    tensor = to_tensor(picture)
    assert tensor.shape == (1, 3, 16, 16)
    assert tensor.dtype == np.float32
    assert (tensor.min(), tensor.max()) == (-1.0, 1.0)
    assert (from_tensor(tensor) == np.asarray(picture)).all()
    assert (from_tensor(tensor * 3)[0, 0] == [0, 0, 255]).all(), "values beyond the range are clipped"


def test_jpeg_carries_no_metadata_and_a_picture_in_budget_is_untouched() -> None:
    rgb = np.full((16, 24, 3), 200, np.uint8)
    picture = Image.open(io.BytesIO(to_jpeg(rgb)))
    assert (picture.format, picture.size) == ("JPEG", (24, 16))
    assert "exif" not in picture.info
    same = Image.new("RGB", (256, 128))
    assert scale(same, RULE) is same
