"""The mask: what is painted, or given in numbers, arrives as a PNG of the picture's size, transparent where to edit."""

import io
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from tests.playground.fake import BASE, Asked, Fake
from tests.playground.visitor import Visitor, chromium

chromium()


def marked(asked: Asked) -> NDArray[np.bool_]:
    """(H, W): where the mask that was sent says to edit."""
    ((name, content),) = asked.files["mask"]
    picture = Image.open(io.BytesIO(content))
    assert (name, picture.format, picture.mode, picture.size) == ("mask.png", "PNG", "RGBA", asked.picture.size)
    return np.asarray(picture)[:, :, 3] == 0


@pytest.fixture
def masking(visitor: Visitor, halves: Path) -> Visitor:
    """Someone with a picture of 120 x 80 pixels, about to mark what of it may change."""
    visitor.choose(halves)
    visitor.page.get_by_text("Only a part of it").click()
    visitor.page.locator("#canvas").wait_for()
    return visitor


def drag(visitor: Visitor, *places: tuple[float, float]) -> None:
    """Paint along places, each a share of the picture's width and height."""
    box = visitor.page.locator("#canvas").bounding_box()
    assert box
    points = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in places]
    visitor.page.mouse.move(*points[0])
    visitor.page.mouse.down()
    for point in points:
        visitor.page.mouse.move(*point, steps=4)
    visitor.page.mouse.up()


def test_what_is_painted_is_sent(masking: Visitor, fake: Fake) -> None:
    masking.by_label("Brush size").fill("20")
    drag(masking, (0.25, 0.5), (0.75, 0.5))
    masking.button("Eraser").click()
    drag(masking, (0.75, 0.5))
    masking.looked_at("mask")
    masking.ask("make it red")
    masking.result()
    where = marked(fake.api.asked[0])
    assert where[40, 30]
    assert where[40, 60]
    assert where[30, 60], "the brush is 24 pixels wide"
    assert not where[20, 60]
    assert not where[40, 90], "what was erased"
    assert not where[2, 2]


def test_a_rectangle_in_numbers_and_the_whole(masking: Visitor, fake: Fake) -> None:
    for side, value in {"Left": 10, "Top": 20, "Right": 70, "Bottom": 60}.items():
        masking.by_label(side).fill(str(value))
    masking.by_label("Bottom").press("Enter")
    masking.page.get_by_text("25 % of the picture may change").wait_for()
    masking.ask("make it red")
    masking.result()
    expected = np.zeros((80, 120), bool)
    expected[20:60, 10:70] = True
    assert np.array_equal(marked(fake.api.asked[0]), expected)
    assert masking.page.locator("#canvas").is_hidden(), "the result is shown"
    masking.button("Whole picture").click()
    assert masking.page.locator("#canvas").is_visible()
    masking.page.get_by_text("Only a part of it").click()
    masking.result()
    masking.page.get_by_text("Only a part of it").click()
    masking.page.locator("#canvas").wait_for()
    masking.ask("make it red")
    masking.page.locator("#history li").nth(1).wait_for()
    assert marked(fake.api.asked[1]).all()
    masking.button("Clear").click()
    masking.ask("make it red")
    masking.page.locator("#history li").nth(2).wait_for()
    assert "mask" not in fake.api.asked[2].files, "where nothing is marked, all may change"


def test_the_mask_can_be_saved_for_the_copied_command(masking: Visitor, fake: Fake) -> None:
    masking.button("Whole picture").click()
    with masking.page.expect_download() as download:
        masking.button("Save mask").click()
    assert download.value.suggested_filename == "mask.png"
    masking.ask("make it red")
    masking.result()
    masking.button("Copy as curl").click()
    masking.said("Copied")
    assert "-F 'mask=@\"mask.png\"'" in masking.page.evaluate("navigator.clipboard.readText()")
    assert Path(download.value.path()).read_bytes() == fake.api.asked[0].files["mask"][0][1]


def test_an_empty_rectangle_is_told(masking: Visitor) -> None:
    masking.by_label("Right").fill("0")
    masking.button("Mark rectangle").click()
    masking.page.get_by_text("Nothing lies in it").wait_for()


def test_a_large_picture_has_a_mask_of_its_own_size(visitor: Visitor, fake: Fake, tmp_path: Path) -> None:
    """Turned by EXIF, and larger than the canvas that is painted on."""
    file = tmp_path / "turned.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (3000, 1000), "navy").save(file, exif=exif)
    visitor.choose(file)
    visitor.page.get_by_text("Only a part of it").click()
    visitor.button("Whole picture").click()
    visitor.ask("make it red")
    visitor.result()
    assert fake.api.asked[0].picture.size == (1000, 3000)
    assert marked(fake.api.asked[0]).all()


def test_a_model_without_masks_offers_none(visitor: Visitor, fake: Fake, halves: Path) -> None:
    fake.api.models = [BASE | {"masks": False}]
    visitor.page.reload()
    visitor.page.get_by_text("Ready").wait_for()
    visitor.choose(halves)
    assert visitor.page.get_by_text("Only a part of it").is_hidden()
