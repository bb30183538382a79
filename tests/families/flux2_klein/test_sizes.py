"""The size at which klein's pictures are edited, beside its pipeline's: the table of docs/families.md."""

import re

import pytest
from diffusers.pipelines.flux2.image_processor import Flux2ImageProcessor
from PIL import Image

from families import load
from families.interface import Limits
from families.sizes import size_rule
from tests.conftest import ROOT
from tests.families import tiny

AREA, MULTIPLE = 1024 * 1024, 16
SECTION = (ROOT / "docs" / "families.md").read_text("utf-8").split("## Sizes of FLUX.2 klein")[1].split("\n## ")[0]
TABLE = re.findall(r"^\| (\d+ x \d+) \| (\d+ x \d+) \| (.+) \|$", SECTION, re.MULTILINE)

Size = tuple[int, int]


def size(text: str) -> Size:
    width, height = map(int, text.split(" x "))
    return width, height


def ours(given: Size, budget: int = AREA) -> Size:
    settings = load("flux2_klein", "table").settings(tiny.checkpoint("flux2_klein"), Limits(budget, 8))
    return size_rule(settings.size_rule.encode()).of(*given)


def theirs(given: Size) -> Size:
    """As `Flux2KleinPipeline.__call__` prepares a picture, by its own image processor. Raises ValueError."""
    processor = Flux2ImageProcessor(vae_scale_factor=MULTIPLE)
    picture = processor.check_image_input(Image.new("RGB", given))
    if given[0] * given[1] > AREA:
        picture = processor._resize_to_target_area(picture, AREA)
    width, height = (side // MULTIPLE * MULTIPLE for side in picture.size)
    tensor = processor.preprocess(picture, height=height, width=width, resize_mode="crop")
    return tensor.shape[3], tensor.shape[2]


def test_there_is_a_table() -> None:
    assert len(TABLE) >= 6


@pytest.mark.parametrize(("given", "edited", "pipeline"), TABLE, ids=[row[0] for row in TABLE])
def test_the_table_is_what_is_done(given: str, edited: str, pipeline: str) -> None:
    assert ours(size(given)) == size(edited)
    if pipeline == "refused":
        with pytest.raises(ValueError, match="too"):
            theirs(size(given))
    else:
        assert theirs(size(given)) == size(pipeline)


def test_sizes_of_multiples_are_edited_as_they_are() -> None:
    rule = load("flux2_klein", "table").settings(tiny.checkpoint("flux2_klein"), Limits(AREA, 8)).size_rule
    sides = range(64, 2048 + 1, MULTIPLE)
    within = [(width, height) for width in sides for height in sides if width * height <= AREA]
    assert all(size_rule(rule.encode()).of(*given) == given for given in within[::7])


@pytest.mark.parametrize("given", [(1000, 700), (999, 1001), (4000, 3000), (333, 77), (1031, 1017)])
def test_a_side_changes_by_half_a_multiple_at_the_most(given: Size) -> None:
    scale = min(1.0, (AREA / (given[0] * given[1])) ** 0.5)
    for before, after in zip(given, ours(given), strict=True):
        assert abs(before * scale - after) <= MULTIPLE // 2 or after < before * scale < after + MULTIPLE


@pytest.mark.parametrize("images", [1, 4, 8])
@pytest.mark.parametrize("rows", [2, 3, 12])
def test_an_edit_of_the_most_pictures_fits_in_a_call_of_any_rows(rows: int, images: int) -> None:
    table, limits = load("flux2_klein", "table"), Limits(AREA, rows, images)
    checkpoint = tiny.checkpoint("flux2_klein")
    made = table.settings(checkpoint, limits)
    width, height = size_rule(made.size_rule.encode()).square
    assert made.rows * (table.TOKENS + (images + 1) * (width // MULTIPLE) * (height // MULTIPLE)) <= made.max_tokens


def test_a_smaller_budget_scales_further() -> None:
    assert ours((768, 512), 512 * 512) == (624, 416)
