"""What lies beside the pixels never costs a picture, and what lacks pixels is never one."""

import io
import os
import struct
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from families.errors import IMAGE_TOO_LARGE, IMAGE_UNREADABLE, InvalidEditError
from families.picture import DecodingLimits, decode, own_size
from families.sizes import WorkingSize
from tests.families.images import files
from tests.families.images.files import RGB, chunk

LIMITS = DecodingLimits()
CASES = int(os.environ.get("GENERATED_CASES", "100"))
PIXELS = np.random.default_rng(5).integers(0, 256, (24, 32, 3)).astype(np.uint16)
LINEAR = files.rgb_profile(((0.43607, 0.22249, 0.01392), (0.38515, 0.71687, 0.09708), (0.14307, 0.06061, 0.71410)), 1.0)
EXIF_OF_A_TURN = b"II*\0\x08\0\0\0\1\0\x12\1\3\0\1\0\0\0\6\0\0\0\0\0\0\0"
"""Orientation 6."""


def seen(file: bytes) -> Any:
    return np.asarray(decode(file, LIMITS))


def saved(picture: Image.Image, kind: str, **options: Any) -> bytes:
    out = io.BytesIO()
    picture.save(out, kind, **options)
    return out.getvalue()


def smooth(mode: str = "RGB", size: tuple[int, int] = (96, 72)) -> Image.Image:
    y, x = np.mgrid[: size[1], : size[0]]
    return Image.fromarray(np.stack([x * 2, y * 3, x + y], -1).astype(np.uint8)).convert(mode)


BESIDE: dict[str, bytes] = {
    "compressed text of 2 MiB": chunk(b"zTXt", b"workflow\0\0" + zlib.compress(bytes(2 << 20))),
    "international text of 2 MiB": chunk(b"iTXt", b"workflow\0\1\0\0\0" + zlib.compress(bytes(2 << 20))),
    "text of 2 MiB": chunk(b"tEXt", b"workflow\0" + bytes(2 << 20)),
    "a hundred texts of 1 MiB": chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(1 << 20))) * 100,
    "XMP of 2 MiB": chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(bytes(2 << 20))),
    "text of an unknown compression": chunk(b"zTXt", b"a\0\7abc"),
    "a profile of an unknown compression": chunk(b"iCCP", b"a\0\7abc"),
    "a profile of 20 MiB": files.iccp(LINEAR + bytes(20 << 20)),
    "a profile without compression": chunk(b"iCCP", b"a"),
    "an unknown chunk": chunk(b"prVt", b"abc"),
    "a name that is none": chunk(b"a\0\1b", b"abc"),
    "EXIF of nothing": chunk(b"eXIf", b""),
    "EXIF as text of nothing": chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(b"\nexif\n 2\nzz\n")),
    "an animation's frames out of order": chunk(b"acTL", struct.pack(">II", 2, 0)) + chunk(b"fcTL", bytes(26)) * 2,
    **{
        f"a short {name.decode()}": chunk(name, b"\0")
        for name in (b"pHYs", b"gAMA", b"cHRM", b"acTL", b"fcTL", b"tRNS")
    },
    **{
        f"an empty {name.decode()}": chunk(name, b"") for name in (b"sRGB", b"cICP", b"tIME", b"bKGD", b"hIST", b"iCCP")
    },
    **{
        f"a wrong checksum of {name.decode()}": chunk(name, content, checksum=1)
        for name, content in {
            b"gAMA": struct.pack(">I", 100_000),
            b"cICP": bytes([1, 8, 0, 1]),
            b"tRNS": PIXELS[0, 0].astype(">u2").tobytes(),
            b"tEXt": b"a\0b",
            b"pHYs": bytes(9),
            b"eXIf": EXIF_OF_A_TURN,
        }.items()
    },
}


@pytest.mark.parametrize("what", BESIDE)
def test_a_png_is_its_pixels(what: str) -> None:
    assert (seen(files.png(PIXELS, 8, RGB, BESIDE[what])) == PIXELS).all()
    assert (seen(files.png(PIXELS, 8, RGB, after=BESIDE[what])) == PIXELS).all()


def test_a_profile_of_a_wrong_checksum_is_used_where_it_is_whole() -> None:
    right, wrong = (
        files.png(PIXELS, 8, RGB, files.iccp(LINEAR)),
        files.png(PIXELS, 8, RGB, files.iccp(LINEAR, checksum=1)),
    )
    assert (seen(wrong) == seen(right)).all()
    assert (seen(right) != PIXELS).any()


def test_where_a_png_says_how_it_is_turned() -> None:
    as_text = b"\nexif\n%8d\n" % len(EXIF_OF_A_TURN) + EXIF_OF_A_TURN.hex().encode() + b"\n"
    xmp = b'<x:xmpmeta tiff:Orientation="6"/>'
    for beside in (
        chunk(b"eXIf", EXIF_OF_A_TURN),
        chunk(b"tEXt", b"Raw profile type exif\0" + as_text),
        chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(as_text)),
        chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp),
        chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(xmp)),
    ):
        for file in (files.png(PIXELS, 8, RGB, beside), files.png(PIXELS, 8, RGB, after=beside)):
            assert (seen(file) == np.rot90(PIXELS, -1)).all()


@pytest.mark.parametrize(
    "file",
    [
        files.SIGNATURE,
        files.SIGNATURE + files.header(4, 4, 8, RGB),
        files.SIGNATURE + files.header(4, 4, 8, RGB) + chunk(b"IEND", b""),
        files.SIGNATURE + chunk(b"IHDR", b"\0\0\0\4") + chunk(b"IDAT", b""),
        files.png(PIXELS, 8, RGB)[: len(files.png(PIXELS, 8, RGB)) // 2],
        files.png(PIXELS, 8, RGB).replace(files.header(32, 24, 8, RGB), files.header(32, 25, 8, RGB)),
        files.png(PIXELS[::8, ::8], 8, RGB).replace(files.header(4, 3, 8, RGB), files.header(32, 24, 8, RGB, True)),
        files.png(PIXELS, 8, RGB).replace(files.header(32, 24, 8, RGB), files.header(32, 24, 4, RGB)),
        files.png(PIXELS, 8, RGB).replace(files.header(32, 24, 8, RGB)[-4:], b"\0\0\0\0"),
        files.png(PIXELS[..., :1] // 16, 4, files.PALETTE, chunk(b"PLTE", bytes(48), checksum=1)),
        files.SIGNATURE + chunk(b"teXt", b"") * 100_001 + files.png(PIXELS, 8, RGB)[8:],
    ],
    ids=lambda file: f"{len(file)} bytes",
)
def test_what_is_no_png(file: bytes) -> None:
    refused(file)


def refused(file: bytes, code: str = IMAGE_UNREADABLE) -> None:
    with pytest.raises(InvalidEditError) as error:
        decode(file, LIMITS)
    assert error.value.code == code


JPEGS: dict[str, Callable[[], bytes]] = {
    "baseline": lambda: saved(smooth(), "JPEG", quality=90),
    "of whole colours": lambda: saved(smooth(), "JPEG", quality=95, subsampling=0),
    "progressive": lambda: saved(smooth(), "JPEG", progressive=True),
    "grey": lambda: saved(smooth("L"), "JPEG"),
    "CMYK": lambda: saved(smooth("CMYK"), "JPEG"),
    "restarting": lambda: saved(smooth(), "JPEG", restart_marker_rows=1),
}


@pytest.mark.parametrize("kind", JPEGS)
def test_a_jpeg_may_lack_its_end_and_no_more(kind: str) -> None:
    whole = JPEGS[kind]()
    assert whole.endswith(b"\xff\xd9")
    for short in (whole[:-2], whole[:-1], whole[:-2] + bytes(10)):
        assert (seen(short) == seen(whole)).all()
    for cut in (*range(3, 80), *range(80, len(whole), 97)):
        refused(whole[:-cut])


def test_a_jpeg_cut_between_its_scans_lacks_pixels() -> None:
    whole = JPEGS["progressive"]()
    scans = [at for at in range(len(whole)) if whole[at : at + 2] == b"\xff\xda"]
    assert len(scans) > 5
    tables = [whole.rfind(b"\xff\xc4", 0, at) for at in scans[1:]]
    for cut in (*scans[1:], *tables):
        refused(whole[:cut])


def segment(marker: int, content: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content


@pytest.mark.parametrize(
    "beside",
    [
        segment(0xE0, b"JFIF\0"),
        segment(0xE1, b"Exif\0\0nonsense"),
        segment(0xE2, b"ICC_PROFILE\0"),
        segment(0xE2, b"ICC_PROFILE\0\1"),
        segment(0xE2, b"ICC_PROFILE\0\1\2half"),
        segment(0xE2, b"MPF\0II*\0"),
        segment(0xED, b"Photoshop 3.0\0" + b"8BIM\4\4"),
        segment(0xED, b"Photoshop 3.0\0" + b"8BIM\3\xed\0\0\0\0\0\1"),
        segment(0xEE, b"Adobe"),
        segment(0xFE, b""),
    ],
    ids=lambda beside: beside[:20].hex(),
)
def test_a_jpeg_is_its_pixels(beside: bytes) -> None:
    whole = JPEGS["baseline"]()
    for junk in (b"", b"junk", b"\xff" * 9):
        assert (seen(whole[:2] + beside + junk + whole[2:]) == seen(whole)).all()
        assert (seen(whole[:20] + junk + beside + whole[20:]) == seen(whole)).all()


def test_a_jpegs_profile_in_parts_of_any_order() -> None:
    whole = JPEGS["baseline"]()
    pieces = (LINEAR[:100], LINEAR[100:200], LINEAR[200:])
    parts = [segment(0xE2, b"ICC_PROFILE\0" + bytes([at, 3]) + piece) for at, piece in enumerate(pieces, 1)]
    mixed = whole[:2] + parts[2] + parts[0] + parts[1] + whole[2:]
    assert (seen(mixed) == seen(saved(smooth(), "JPEG", quality=90, icc_profile=LINEAR))).all()
    assert (seen(mixed) != seen(whole)).any()
    assert (seen(whole[:2] + parts[2] + parts[0] + whole[2:]) == seen(whole)).all()


def test_a_jpeg_of_fill_bytes_alone_is_read_once() -> None:
    refused(b"\xff\xd8" + b"\xff" * 10_000_000)
    with pytest.raises(InvalidEditError):
        own_size(b"\xff\xd8" + b"\xff" * 10_000_000)


def test_a_jpeg_of_too_many_scans_is_refused() -> None:
    whole = JPEGS["progressive"]()
    last = whole[whole.rfind(b"\xff\xda") : -2]
    refused(whole[:-2] + last * 100 + whole[-2:])


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
@pytest.mark.parametrize("lossless", [False, True])
def test_a_webp_is_its_pixels(mode: str, lossless: bool) -> None:
    plain = saved(smooth(mode), "WEBP", lossless=lossless)
    noted = saved(smooth(mode), "WEBP", lossless=lossless, exif=EXIF_OF_A_TURN, xmp=b"<x/>", icc_profile=b"nonsense")
    turned = np.rot90(seen(plain), -1)
    assert (seen(noted) == turned).all()
    assert (seen(noted[:-10]) == turned).all(), "cut in what follows the pixels"
    for cut in range(2, len(plain) - 12, 7):
        refused(plain[:-cut])


def test_the_first_frame_of_an_animation() -> None:
    frames = [smooth(), Image.new("RGB", (96, 72), "red")]
    for kind, options in (("WEBP", {"lossless": True}), ("PNG", {})):
        file = saved(frames[0], kind, save_all=True, append_images=frames[1:], **options)
        assert (seen(file) == np.asarray(frames[0])).all()


def test_whatever_is_done_to_a_file_it_is_a_picture_or_refused() -> None:
    rng = np.random.default_rng(11)
    text = PngImagePlugin.PngInfo()
    text.add_text("a", "b" * 50, zip=True)
    whole = [
        saved(smooth(), "PNG", icc_profile=LINEAR, exif=EXIF_OF_A_TURN, pnginfo=text),
        saved(smooth("P"), "PNG", transparency=bytes(range(100))),
        files.png(np.concatenate([PIXELS, PIXELS[..., :1]], -1) * 257, 16, files.RGB_ALPHA, files.gama(1.0)),
        saved(smooth(), "WEBP", icc_profile=LINEAR, exif=EXIF_OF_A_TURN),
        saved(smooth(), "WEBP", save_all=True, append_images=[smooth("L").convert("RGB")]),
        *(saved(smooth(), "JPEG", icc_profile=LINEAR, exif=EXIF_OF_A_TURN, progressive=on) for on in (False, True)),
    ]
    rule = WorkingSize(64 * 64, 8, 16, 128)
    pictures = 0
    for at in range(CASES * 10):
        file = bytearray(whole[at % len(whole)])
        for place in rng.integers(0, min(len(file), 700 if at % 2 else len(file)), rng.integers(1, 6)).tolist():
            file[place] = rng.integers(0, 256) if at % 3 else file[place] ^ (1 << rng.integers(0, 8))
        try:
            picture = decode(bytes(file), DecodingLimits(max_pixels=1_000_000), rule)
            assert (picture.mode, picture.size) == ("RGB", rule.of(*own_size(bytes(file))))
            pictures += 1
        except InvalidEditError as error:
            assert error.code in (IMAGE_UNREADABLE, IMAGE_TOO_LARGE)  # noqa: PT017
    assert pictures > CASES


@pytest.mark.parametrize(
    ("raised", "code"),
    [(MemoryError, IMAGE_TOO_LARGE), (RecursionError, IMAGE_UNREADABLE), (KeyError, IMAGE_UNREADABLE)],
)
def test_nothing_else_leaves(monkeypatch: pytest.MonkeyPatch, raised: type[Exception], code: str) -> None:
    def fail(*_: object, **__: object) -> None:
        raise raised("words of its own")

    file = files.png(PIXELS, 8, RGB)
    monkeypatch.setattr(Image, "open", fail)
    with pytest.raises(InvalidEditError) as error:
        decode(file, LIMITS)
    assert error.value.code == code
    assert "words of its own" not in str(error.value)
