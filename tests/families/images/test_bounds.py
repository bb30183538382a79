"""How large a picture may be, what is said of one that is larger, and what the largest take."""

import functools
import io
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from families.errors import IMAGE_TOO_LARGE, InvalidEditError
from families.images.sources import pixels_held
from families.picture import DecodingLimits, decode, own_size, scale
from families.sizes import WorkingSize
from tests.conftest import ROOT
from tests.families.images import files
from tests.families.images.files import GREY, RGB, RGB_ALPHA

LIMITS = DecodingLimits()
RULE = WorkingSize(max_pixels=512 * 512, multiple=8, min_side=64, max_side=1024)
PHONE = (8192, 6144)
LARGEST_PHONE = (16_384, 12_288)
MIB = 1 << 20


def saved(picture: Image.Image, kind: str = "JPEG", **options: Any) -> bytes:
    out = io.BytesIO()
    picture.save(out, kind, **options)
    return out.getvalue()


@functools.cache
def photo(width: int, height: int) -> Image.Image:
    y, x = np.mgrid[:height, :width].astype(np.float32)
    waves = [np.sin(x / 23 + y / 71), np.cos(x / 131 - y / 17), np.sin(x * y / 90_000)]
    return Image.fromarray(np.clip(np.stack(waves, -1) * 100 + 128, 0, 255).astype(np.uint8))


@pytest.mark.parametrize(
    ("file", "words"),
    [
        (files.blank(50_000_000, 1, 8, GREY), "an image's longer side may have at most 65535 pixels"),
        (files.blank(25_000_000, 2, 8, GREY), "an image's longer side may have at most 65535 pixels"),
        (files.blank(2, 100_000, 8, GREY), "an image's longer side may have at most 65535 pixels"),
        (files.blank(60_000, 50, 1, GREY), "an image's longer side may be at most 1000 times its shorter one"),
        (files.blank(20, 60_000, 1, GREY), "an image's longer side may be at most 1000 times its shorter one"),
        (files.blank(8192, 6145, 1, GREY), "an image of this kind may have at most 50331648 pixels"),
        (files.grey_jpeg(16_384, 12_296), "an image of this kind may have at most 201326592 pixels"),
        (files.grey_jpeg(65_500, 65_500)[:5_000], "an image of this kind may have at most 201326592 pixels"),
    ],
    ids=["1 high", "2 high", "2 wide", "flat", "thin", "a row too many", "a JPEG's rows too many", "the largest JPEG"],
)
def test_what_is_too_large_is_told_the_limit(file: bytes, words: str) -> None:
    for rule in (None, RULE):
        with pytest.raises(InvalidEditError) as error:
            decode(file, LIMITS, rule)
        assert (error.value.code, str(error.value)) == (IMAGE_TOO_LARGE, words)


def test_what_takes_memory_for_all_of_its_pixels_is_bounded_as_other_formats() -> None:
    limits = DecodingLimits(max_pixels=64 * 64)
    for options in ({"progressive": True}, {"progressive": True, "subsampling": 0}):
        decode(saved(photo(64, 64), **options), limits)
        with pytest.raises(InvalidEditError, match="at most 4096 pixels"):
            decode(saved(photo(72, 64), **options), limits)
    assert decode(saved(photo(128, 128)), limits).size == (64, 64)
    assert decode(saved(photo(128, 128)), limits, RULE).size == (128, 128)


def test_a_jpeg_is_reduced_for_its_size_whatever_the_rule() -> None:
    limits, large = DecodingLimits(max_pixels=64 * 64), WorkingSize(4096 * 4096, 8, 64, 4096)
    assert decode(saved(photo(128, 128)), limits, large).size == (128, 128)
    assert decode(saved(photo(128, 128)), limits).size == (64, 64)
    whole = saved(photo(64, 64))
    assert (np.asarray(decode(whole, limits, large)) == np.asarray(Image.open(io.BytesIO(whole)))).all()


@pytest.mark.parametrize("size", [(65_500, 66), (66, 65_500), (8160, 6144), PHONE, (12_000, 9_000), LARGEST_PHONE])
def test_a_jpeg_of_any_camera(size: tuple[int, int]) -> None:
    picture = decode(files.grey_jpeg(*size), LIMITS, RULE)
    assert picture.size == RULE.of(*size)
    assert own_size(files.grey_jpeg(*size)) == size
    assert picture.getextrema() == ((128, 128),) * 3


@pytest.mark.slow
@pytest.mark.parametrize("orientation", [1, 6, 8])
@pytest.mark.parametrize("size", [(2111, 1511), (1100, 1503), (4001, 270), (515, 515)])
def test_reduced_decoding_is_hardly_seen(size: tuple[int, int], orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = saved(photo(*size), quality=90, exif=exif)
    whole, reduced = scale(decode(file, LIMITS), RULE), decode(file, LIMITS, RULE)
    assert reduced.size == whole.size
    wrong = np.asarray(reduced).astype(np.float32) - np.asarray(whole)
    assert 10 * np.log10(255**2 / max((wrong**2).mean(), 1e-9)) > 40


def peak(file: Path) -> tuple[int, float]:
    """Bytes that a process of its own takes at most for a picture, above what it has before; and its level of red."""
    code = """
import re, sys
from pathlib import Path
from families.picture import DecodingLimits, decode, to_tensor
from families.sizes import WorkingSize
most = lambda: int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
content = Path(sys.argv[1]).read_bytes()
before = most()
picture = decode(content, DecodingLimits(), WorkingSize(512 * 512, 8, 64, 1024))
to_tensor(picture)
print(most() - before, picture.getpixel((9, 9))[0])
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(file)],
        cwd=ROOT,
        env={**os.environ},
        capture_output=True,
        text=True,
        check=True,
    )
    kibibytes, level = done.stdout.split()
    return int(kibibytes) * 1024, float(level)


LARGE: dict[str, tuple[Any, int, int]] = {
    "JPEG of 200 megapixels": (lambda: files.grey_jpeg(*LARGEST_PHONE), 128, 64),
    "progressive JPEG": (lambda: saved(Image.new("RGB", PHONE, "red"), progressive=True, subsampling=0), 254, 400),
    "grey PNG": (lambda: files.blank(*PHONE, 8, GREY), 0, 400),
    "PNG": (lambda: files.blank(*PHONE, 8, RGB), 0, 300),
    "PNG with alpha of 16 bits": (lambda: files.blank(*PHONE, 16, RGB_ALPHA), 255, 800),
    "WebP": (lambda: saved(Image.new("RGB", PHONE, "red"), "WEBP", lossless=True, quality=0, method=0), 255, 900),
}
"""A file, a level of red, and the most MiB that it may take."""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak is read from Linux")
@pytest.mark.parametrize("what", LARGE)
def test_what_the_largest_take(what: str, tmp_path: Path) -> None:
    make, level, most = LARGE[what]
    file = tmp_path / "large"
    file.write_bytes(make())
    taken, seen = peak(file)
    assert seen == level
    assert taken < most * MIB


def test_decoding_loads_no_torch() -> None:
    wanted = "sorted({'torch', 'scipy', 'diffusers'} & set(sys.modules))"
    code = f"import sys, families.interface, families.picture; print({wanted})"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize("size", [(640, 480), (37, 41)])
def test_the_work_of_a_file_is_told_by_its_header(size: tuple[int, int]) -> None:
    pixels = size[0] * size[1]
    picture = photo(*size)
    clear = picture.convert("RGBA")
    clear.putalpha(9)
    for file in (
        saved(picture, "PNG"),
        saved(picture, progressive=True),
        saved(picture, "WEBP"),
        saved(picture, "WEBP", lossless=True),
        saved(clear, "WEBP"),
    ):
        assert pixels_held(file) == pixels
        assert pixels_held(file[:10]) == 0
    assert pixels_held(saved(picture)) == pixels // 16
    assert pixels_held(b"nothing") == 0
