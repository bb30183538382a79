"""Masks of every kind of PNG, what is refused, which latents they let change, and what is composed with them."""

import io
import itertools
from typing import Any

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageOps

from families import masks
from families.errors import InvalidEditError
from families.masks import Grid, composed, feathered, free, require_fitting
from families.picture import DecodingLimits, decode
from tests.families.images import files
from tests.server.asking import colours, png

LIMITS = DecodingLimits()
INSIDE = np.zeros((12, 16), bool)
INSIDE[3:9, 5:14] = True
ALPHA = np.where(INSIDE, 0, 255).astype(np.uint8)


def saved(picture: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    out = io.BytesIO()
    picture.save(out, kind, **options)
    return out.getvalue()


def painted(mode: str) -> Image.Image:
    picture = Image.fromarray(np.full((*INSIDE.shape, 3), 90, np.uint8)).convert(mode)
    picture.putalpha(Image.fromarray(ALPHA))
    return picture


def sixteen(least: int) -> bytes:
    """RGBA of 16 bits whose opaque part is hardly so."""
    samples = np.full((*INSIDE.shape, 4), 30_000, np.uint16)
    samples[..., 3] = np.where(INSIDE, 0, least)
    return files.png(samples, 16, files.RGB_ALPHA)


def keyed() -> Image.Image:
    return Image.fromarray(np.where(INSIDE[..., None], [1, 2, 3], [1, 2, 4]).astype(np.uint8))


KINDS = {
    "RGBA": saved(painted("RGB")),
    "grey and alpha": saved(painted("L")),
    "a palette": saved(Image.fromarray(INSIDE.astype(np.uint8)).convert("P"), transparency=b"\xff\0"),
    "a colour that is transparent": saved(keyed(), transparency=(1, 2, 3)),
    "16 bits": sixteen(65_535),
    "16 bits, hardly opaque": sixteen(1),
    "half opaque outside": saved(Image.merge("RGBA", [*painted("RGB").split()[:3], Image.fromarray(ALPHA // 2)])),
}


def hollow(width: int, height: int) -> bytes:
    """A PNG with alpha that says how large it is, and has no pixel."""
    head = files.header(width, height, 8, files.RGB_ALPHA)
    return files.SIGNATURE + head + files.chunk(b"IDAT", b"") + files.chunk(b"IEND", b"")


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_wholly_transparent_may_change(kind: str) -> None:
    require_fitting(KINDS[kind], (16, 12), LIMITS)
    assert (free(KINDS[kind], LIMITS) == INSIDE).all()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_mask_is_turned_as_its_file_says(orientation: int) -> None:
    """As one is that was painted on a photo, and kept what the camera had noted."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    mask = saved(painted("RGB"), exif=exif)
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(mask)))
    require_fitting(mask, upright.size, LIMITS)
    assert (free(mask, LIMITS) == (np.asarray(upright)[..., 3] == 0)).all()


@pytest.mark.parametrize(
    ("mask", "words"),
    [
        (saved(Image.new("RGB", (16, 12))), "the mask is not a PNG with an alpha channel"),
        (saved(Image.new("L", (16, 12))), "the mask is not a PNG with an alpha channel"),
        (saved(painted("RGB"), "WEBP", lossless=True), "the mask is not a PNG with an alpha channel"),
        (b"no picture", "the mask is not a PNG with an alpha channel"),
        (KINDS["RGBA"][:20], "the mask is not a PNG with an alpha channel"),
        (saved(painted("RGB").resize((16, 13))), "the mask must be as large as the first image: 16 x 12"),
    ],
    ids=["RGB", "grey", "WebP", "none", "cut", "another size"],
)
def test_a_mask_that_does_not_fit_is_refused_by_its_header(mask: bytes, words: str) -> None:
    with pytest.raises(InvalidEditError) as error:
        require_fitting(mask, (16, 12), LIMITS)
    assert (error.value.code, str(error.value)) == ("mask_invalid", words)


@pytest.mark.parametrize(
    ("mask", "words"),
    [
        (saved(Image.new("RGBA", (16, 12), (0, 0, 0, 1))), "the mask has no transparent pixel"),
        (KINDS["RGBA"][:-30], "the mask is broken"),
        (hollow(10_001, 6_000), "the mask has more pixels than a PNG may have: give one half as wide and high"),
    ],
    ids=["opaque", "cut", "huge"],
)
def test_a_mask_that_says_nothing_is_refused_when_it_is_read(mask: bytes, words: str) -> None:
    with pytest.raises(InvalidEditError, match=words) as error:
        free(mask, LIMITS)
    assert error.value.code == "mask_invalid"


def test_a_picture_that_is_larger_than_a_png_may_be_has_a_mask_half_as_large() -> None:
    require_fitting(hollow(5_001, 3_000), (10_001, 6_000), LIMITS)
    with pytest.raises(InvalidEditError, match="10001 x 6000 or 5001 x 3000"):
        require_fitting(hollow(5_000, 3_000), (10_001, 6_000), LIMITS)
    jpeg = files.grey_jpeg(32, 24)
    made = composed(np.zeros((24, 32, 3), np.uint8), jpeg, KINDS["RGBA"], DecodingLimits(max_pixels=32 * 24 // 2))
    inside = np.repeat(np.repeat(INSIDE, 2, axis=0), 2, axis=1)
    assert (made[~inside] == np.asarray(decode(jpeg, LIMITS))[~inside]).all()
    assert (made[feathered(inside) == masks.FEATHER + 1] == 0).all()


def test_what_too_large_a_mask_is_told_to_be_is_taken_whatever_the_limit() -> None:
    own, limits = (32, 24), DecodingLimits(max_pixels=32 * 24 // 2)
    require_fitting(hollow(*own), own, limits)
    with pytest.raises(InvalidEditError, match="give one half as wide and high"):
        free(hollow(*own), limits)
    require_fitting(KINDS["RGBA"], own, limits)
    assert (free(KINDS["RGBA"], limits) == INSIDE).all()
    with pytest.raises(InvalidEditError, match=r"as large as the first image: 32 x 24$"):
        require_fitting(KINDS["RGBA"], own, DecodingLimits(max_pixels=32 * 24))


@pytest.mark.parametrize("grid", [(4, 3), (5, 4), (16, 12), (7, 5), (32, 24), (1, 1)])
def test_a_latent_changes_if_any_of_its_pixels_may(grid: tuple[int, int]) -> None:
    made = Grid(grid).of(INSIDE)
    width, height = grid
    assert made.shape == (1, 1, height, width)
    for row in range(height):
        for column in range(width):
            rows = [y for y in range(12) if y < (row + 1) * 12 / height and y + 1 > row * 12 / height]
            columns = [x for x in range(16) if x < (column + 1) * 16 / width and x + 1 > column * 16 / width]
            assert made[0, 0, row, column] == INSIDE[np.ix_(rows, columns)].any()


def test_the_rule_of_a_mask_is_none_of_a_picture() -> None:
    assert Grid.read(Grid((4, 3)).to_json()) == Grid((4, 3))
    assert Grid.read(b'{"sizes": [[64, 64]]}') is None


def test_an_edit_comes_in_over_four_pixels_inside_and_the_pictures_edge_is_no_edge() -> None:
    inside = np.zeros((3, 20), bool)
    inside[:, 6:] = True
    assert (feathered(inside) == [0] * 6 + [1, 2, 3, 4] + [5] * 10).all()
    corner = np.ones((12, 12), bool)
    corner[0, 0] = False
    assert (np.diagonal(feathered(corner)) == [0, 1, 2, 3, 4, *[5] * 7]).all()


def test_outside_is_the_original_and_deep_inside_the_edit() -> None:
    picture, edited = colours(40, 30), np.full((30, 40, 3), 7, np.uint8)
    mask = Image.new("RGBA", (40, 30), (0, 0, 0, 255))
    mask.paste((0, 0, 0, 0), (20, 0, 40, 30))
    made, original = composed(edited, png(picture), png(mask), LIMITS), np.asarray(picture)
    assert (made[:, :20] == original[:, :20]).all()
    assert (made[:, 24:] == 7).all()
    steps = made[:, 20:24].astype(int) - original[:, 20:24]
    wanted = (7 - original[:, 20:24].astype(int)) * np.array([1, 2, 3, 4])[None, :, None] / 5
    assert np.abs(steps - wanted).max() <= 0.5
    halved = composed(edited[:15, :20], png(picture), png(mask), LIMITS)
    assert (halved[:, :10] == np.asarray(picture.resize((20, 15), Image.Resampling.LANCZOS))[:, :10]).all()
    assert (halved[:, 14:] == 7).all()


def test_what_a_request_keeps_is_decoded_once_for_all_its_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[bytes] = []
    monkeypatch.setattr(masks, "decode", lambda *given: decoded.append(given[0]) or decode(*given))
    originals = [saved(Image.new("RGB", (16, 12), colour)) for colour in ("red", "green")]
    mask, edited = KINDS["RGBA"], [np.full((12, 16, 3), level, np.uint8) for level in (0, 90, 200)]
    for original, level in itertools.product(originals, edited):
        made = composed(level, original, mask, LIMITS)
        kept = np.asarray(Image.open(io.BytesIO(original)))
        assert (made[~INSIDE] == kept[~INSIDE]).all()
        assert (made[feathered(INSIDE) == masks.FEATHER + 1] == level[0, 0]).all()
    assert decoded == originals
