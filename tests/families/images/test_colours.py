"""What a picture's numbers mean, beside the same worked out here from the definitions."""

import io
import struct
from itertools import product
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageCms

from families.picture import DecodingLimits, decode
from tests.families.images import files
from tests.families.images.files import ADOBE_RGB, GREY, GREY_ALPHA, PALETTE, RGB, RGB_ALPHA

LIMITS = DecodingLimits()
SIZE = (9, 21)
DEPTHS = {GREY: (1, 2, 4, 8, 16), RGB: (8, 16), PALETTE: (1, 2, 4, 8), GREY_ALPHA: (8, 16), RGB_ALPHA: (8, 16)}
KINDS = [(kind, depth) for kind, depths in DEPTHS.items() for depth in depths]
XYZ_D50_TO_SRGB = np.array([[3.1338561, -1.6168667, -0.4906146], [-0.9787684, 1.9161415, 0.0334540],
                            [0.0719453, -0.2289914, 1.4052427]])  # fmt: skip
"""Bruce Lindbloom's, adapted by Bradford."""
XYZ_D65_TO_SRGB = np.array([[3.2404542, -1.5371385, -0.4985314], [-0.9692660, 1.8760108, 0.0415560],
                            [0.0556434, -0.2040259, 1.0572252]])  # fmt: skip

Array = NDArray[Any]


def seen(file: bytes) -> NDArray[np.int64]:
    return np.asarray(decode(file, LIMITS)).astype(np.int64)


def encoded(light: Array) -> Array:
    """sRGB's levels of light in [0, 1]."""
    light = np.clip(light, 0, 1)
    return 255 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)


def meant(signal: Array, meaning: str) -> Array:
    """Levels of RGB signals in [0, 1]."""
    if meaning == "profile":
        return encoded(signal**1.5 @ np.array(ADOBE_RGB) @ XYZ_D50_TO_SRGB.T)
    return {
        "nothing": lambda: 255 * signal,
        "grey": lambda: encoded(signal**1.5),
        "gamma": lambda: encoded(signal**1.25),
    }[meaning]()


@pytest.mark.parametrize("meaning", ["nothing", "profile", "gamma"])
@pytest.mark.parametrize("transparent", [False, True])
@pytest.mark.parametrize(("kind", "depth"), KINDS)
def test_every_png(kind: int, depth: int, transparent: bool, meaning: str) -> None:
    rng = np.random.default_rng(depth)
    samples = rng.integers(0, 2**depth, (*SIZE, files.CHANNELS[kind])).astype(np.uint16)
    palette = rng.integers(0, 256, (2**depth, 3)).astype(np.uint8) if kind == PALETTE else np.zeros((0, 3), np.uint8)
    beside = [files.chunk(b"PLTE", palette.tobytes())] if kind == PALETTE else []
    alpha = np.ones((*SIZE, 1))
    most = 2**depth - 1
    if kind in (GREY_ALPHA, RGB_ALPHA):
        alpha = samples[..., -1:] / most
    elif transparent and kind == PALETTE:
        entries = rng.integers(0, 256, 2**depth - 1).astype(np.uint8)
        beside.append(files.chunk(b"tRNS", entries.tobytes()))
        alpha = np.append(entries, 255)[samples] / 255
    elif transparent:
        samples[2:4, 3:9] = samples[0, 0]
        beside.append(files.chunk(b"tRNS", samples[0, 0].astype(">u2").tobytes()))
        alpha = (samples != samples[0, 0]).any(-1, keepdims=True)
    greys = kind in (GREY, GREY_ALPHA)
    signal = palette[samples[..., 0]] / 255 if kind == PALETTE else samples[..., : 1 if greys else 3] / most
    if meaning == "profile":
        beside.insert(0, files.iccp(files.grey_profile(1.5) if greys else files.rgb_profile(ADOBE_RGB, 1.5)))
    elif meaning == "gamma":
        beside.insert(0, files.gama(0.8))
    levels = meant(np.broadcast_to(signal, (*SIZE, 3)), "grey" if greys and meaning == "profile" else meaning)
    expected = levels * alpha + 255 * (1 - alpha)
    assert np.abs(seen(files.png(samples, depth, kind, *beside)) - expected).max() <= 1.02


def colour(*rgb: int) -> NDArray[np.uint16]:
    return np.full((4, 5, 3), rgb, np.uint16)


def of(*rgb: int, beside: tuple[bytes, ...]) -> tuple[int, ...]:
    """What becomes of an 8-bit colour."""
    return tuple(seen(files.png(colour(*rgb), 8, RGB, *beside))[2, 3].tolist())


LINEAR_SRGB = ((0.43607, 0.22249, 0.01392), (0.38515, 0.71687, 0.09708), (0.14307, 0.06061, 0.71410))
SRGB_CHROMATICITIES = (0.3127, 0.3290, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06)
P3_CHROMATICITIES = (0.3127, 0.3290, 0.68, 0.32, 0.265, 0.69, 0.15, 0.06)


@pytest.mark.parametrize(
    ("profile", "given", "expected"),
    [
        (files.rgb_profile(LINEAR_SRGB, 1.0, "GIMP built-in Linear sRGB"), (55, 55, 55), (128, 128, 128)),
        (files.rgb_profile(LINEAR_SRGB, 1.8, "sRGB-elle-V2-g18.icc"), (100, 100, 100), (119, 119, 119)),
        (files.rgb_profile(ADOBE_RGB, 2.19921875, "AdobeRGB-like (not sRGB)"), (60, 200, 60), (0, 201, 37)),
        (files.rgb_profile(LINEAR_SRGB, 1.0, "wide", padding=1_200_000), (55, 55, 55), (128, 128, 128)),
    ],
    ids=["linear", "gamma 1.8", "wide", "of more than 1 MiB"],
)
def test_a_profile_is_what_it_does_and_not_what_it_is_called(
    profile: bytes, given: tuple[int, int, int], expected: tuple[int, int, int]
) -> None:
    assert np.abs(np.subtract(of(*given, beside=(files.iccp(profile),)), expected)).max() <= 1


def every_colour() -> Image.Image:
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    lattice = np.stack(np.meshgrid(*[np.arange(0, 256, 5, np.uint8)] * 3), -1).reshape(-1, 3)[: 52 * 52 * 52]
    ramp = np.stack([levels.reshape(-1)] * 3, -1)
    return Image.fromarray(np.concatenate([lattice, ramp])[None])


@pytest.mark.parametrize("entries", [0, 26, 42, 256, 1024, 4096])
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_srgb_by_any_profile_does_not_move_by_a_level(kind: str, entries: int) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    if entries:
        signal = np.linspace(0, 1, entries)
        light = np.where(signal <= 0.04045, signal / 12.92, ((signal + 0.055) / 1.055) ** 2.4)
        curve = b"curv" + struct.pack(">4xI", entries) + (light * 65535).round().astype(">u2").tobytes()
        profile = files.rgb_profile(LINEAR_SRGB, 1.0, "by another name", curve=curve)
    options: dict[str, Any] = {"lossless": True} if kind == "WEBP" else {}
    plain, tagged = io.BytesIO(), io.BytesIO()
    every_colour().resize((211, 16), 0).save(plain, kind, **options)
    every_colour().resize((211, 16), 0).save(tagged, kind, icc_profile=profile, **options)
    assert (seen(tagged.getvalue()) == seen(plain.getvalue())).all()
    if kind != "JPEG":
        assert (seen(tagged.getvalue()) == np.asarray(every_colour().resize((211, 16), 0))).all()


def test_greys_of_a_tiny_difference_in_the_dark_keep_it_at_16_bits() -> None:
    samples = np.arange(0, 2560, 20, dtype=np.uint16).reshape(8, 16, 1)
    expected = encoded(samples / 65535)
    assert len(np.unique(expected.round())) > 50
    for kind, channels in ((GREY, 1), (RGB, 3)):
        file = files.png(np.repeat(samples, channels, -1), 16, kind, files.gama(1.0))
        assert np.abs(seen(file) - expected).max() <= 0.55


@pytest.mark.parametrize("kind", ["grey", "RGB"])
def test_a_picture_of_greys_takes_either_kind_of_profile(kind: str) -> None:
    profile = files.grey_profile(1.0) if kind == "grey" else files.rgb_profile(LINEAR_SRGB, 1.0)
    greys = np.full((4, 4, 1), 55, np.uint16)
    assert np.abs(seen(files.png(greys, 8, GREY, files.iccp(profile))) - 128).max() <= 1
    palette = files.chunk(b"PLTE", bytes([0, 0, 0, 55, 55, 55]))
    assert np.abs(seen(files.png(greys // 55, 1, PALETTE, files.iccp(profile), palette)) - 128).max() <= 1
    jpeg = io.BytesIO()
    Image.new("L", (8, 8), 55).save(jpeg, "JPEG", icc_profile=profile)
    assert np.abs(seen(jpeg.getvalue()) - 128).max() <= 1


def test_a_grey_profile_does_not_fit_colours() -> None:
    assert of(60, 200, 60, beside=(files.iccp(files.grey_profile(1.0)),)) == (60, 200, 60)


def test_primaries_without_a_profile() -> None:
    x, y = np.array(P3_CHROMATICITIES).reshape(4, 2).T
    columns = np.array([x / y, np.ones(4), (1 - x - y) / y])
    to_xyz = columns[:, 1:] * np.linalg.solve(columns[:, 1:], columns[:, 0])
    for rgb in ((200, 120, 90), (100, 180, 100), (70, 80, 160)):
        light = np.where(np.array(rgb) / 255 <= 0.04045, 0, ((np.array(rgb) / 255 + 0.055) / 1.055) ** 2.4)
        expected = encoded(XYZ_D65_TO_SRGB @ to_xyz @ light)
        for beside in (files.chrm(*P3_CHROMATICITIES), files.chunk(b"cICP", bytes([12, 13, 0, 1]))):
            assert np.abs(of(*rgb, beside=(beside,)) - expected).max() <= 1
        assert of(*rgb, beside=(files.gama(0.45455), files.chrm(*SRGB_CHROMATICITIES))) == rgb
        assert of(*rgb, beside=(files.chunk(b"cICP", bytes([1, 13, 0, 1])),)) == rgb
    other_white = (0.3457, 0.3585, *P3_CHROMATICITIES[2:])
    assert of(255, 255, 255, beside=(files.gama(1.0), files.chrm(*other_white))) == (255, 255, 255)


LINEAR, PQ, HLG = 8, 16, 18


@pytest.mark.parametrize(
    ("transfer", "full", "level", "expected"),
    [
        (LINEAR, 1, 55, 128),
        (LINEAR, 0, 16, 0),
        (LINEAR, 0, 235, 255),
        (LINEAR, 0, 63, 128),
        (1, 1, 128, 140),
        (4, 1, 128, 129),
        (PQ, 1, 148, 255),
        (PQ, 1, 255, 255),
        (PQ, 1, 0, 0),
        (PQ, 1, 100, 107),
        (HLG, 1, 191, 255),
        (HLG, 1, 0, 0),
    ],
)
def test_transfers_of_cicp(transfer: int, full: int, level: int, expected: int) -> None:
    """Of PQ and HLG, 203 nits are white: the signals 0.58 and 0.75 (ITU-R BT.2408)."""
    grey = of(level, level, level, beside=(files.chunk(b"cICP", bytes([9, transfer, 0, full])),))
    assert np.abs(np.subtract(grey, expected)).max() <= 2


def test_what_says_more_goes_first() -> None:
    chunks = [
        (files.chunk(b"cICP", bytes([1, LINEAR, 0, 1])), 128),
        (files.iccp(files.rgb_profile(LINEAR_SRGB, 1.8)), 71),
        (files.chunk(b"sRGB", b"\0"), 55),
        (files.gama(0.7), 94),
    ]
    for first, (_, expected) in enumerate(chunks):
        shuffled = tuple(chunk for chunk, _ in chunks[first:])[::-1]
        assert np.abs(np.subtract(of(55, 55, 55, beside=shuffled), expected)).max() <= 1, first
    assert of(55, 55, 55, beside=()) == (55, 55, 55)


@pytest.mark.parametrize(
    "chunk",
    [
        files.chunk(b"gAMA", bytes(4)),
        files.chunk(b"gAMA", b"\xff\xff\xff\xff"),
        files.chunk(b"gAMA", struct.pack(">I", 1)),
        files.chrm(0, 0, 0, 0, 0, 0, 0, 0),
        files.chrm(0.3127, 0.3290, 0.64, 0.33, 0.64, 0.33, 0.15, 0.06),
        files.chrm(0.3127, 0.0001, 0.64, 0.33, 0.3, 0.6, 0.15, 0.06),
        files.chunk(b"cHRM", b"\xff" * 32),
        files.chunk(b"cICP", bytes([2, 2, 0, 1])),
        files.chunk(b"cICP", bytes([9, 16, 9, 1])),
        files.chunk(b"cICP", b"\1"),
        files.iccp(b""),
        files.iccp(b"nonsense" * 100),
        files.iccp(files.rgb_profile(ADOBE_RGB, 1.0)[:200]),
        files.chunk(b"iCCP", b"no end"),
        files.chunk(b"iCCP", b"a\0\0" + b"\xff" * 100),
    ],
    ids=lambda chunk: f"{chunk[4:8].decode()} {chunk[8:24].hex()}",
)
def test_what_means_no_colours_is_passed_over(chunk: bytes) -> None:
    assert of(55, 155, 205, beside=(chunk,)) == (55, 155, 205)
    if chunk[4:8] != b"gAMA":
        next_one = of(55, 55, 55, beside=(chunk, files.gama(1.0)))
        assert np.abs(np.subtract(next_one, 128)).max() <= 1


def test_sixteen_bits_of_transparency() -> None:
    for alpha, level in product((1, 100, 255, 256, 32768, 65534), (0, 1000, 65535)):
        expected = 255 - (255 - level / 257) * alpha / 65535
        for kind, samples in ((GREY_ALPHA, (level, alpha)), (RGB_ALPHA, (level, level, level, alpha))):
            assert (
                np.abs(seen(files.png(np.full((2, 3, len(samples)), samples, np.uint16), 16, kind)) - expected).max()
                <= 0.51
            )


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "depth"), KINDS)
def test_interlacing_changes_nothing(kind: int, depth: int) -> None:
    beside = (
        (files.gama(0.8), files.chunk(b"PLTE", bytes(range(3)) * 2**depth)) if kind == PALETTE else (files.gama(0.8),)
    )
    for size in ((1, 1), (3, 2), (9, 21), (16, 8)):
        samples = np.random.default_rng(1).integers(0, 2**depth, (*size, files.CHANNELS[kind])).astype(np.uint16)
        interlaced, plain = (files.png(samples, depth, kind, *beside, interlaced=on) for on in (True, False))
        assert (seen(interlaced) == seen(plain)).all()
