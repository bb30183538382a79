"""Edits through the page, in a real browser: what it sends, and what is seen of what comes back."""

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from tests.playground.conftest import CAT, COFFEE
from tests.playground.fake import BASE, Fake
from tests.playground.visitor import PHONE, Visitor, chromium, visiting

if TYPE_CHECKING:
    from playwright.sync_api import Browser

chromium()

RED, GREEN = (255, 0, 0), (0, 255, 0)
CYAN, MAGENTA = (0, 255, 255), (255, 0, 255)  # their negatives


def test_a_picture_is_edited(visitor: Visitor, fake: Fake, halves: Path) -> None:
    visitor.choose(halves)
    visitor.focused("prompt")
    visitor.ask("invert it")
    visitor.result()
    assert visitor.shows(CYAN, MAGENTA)
    (asked,) = fake.api.asked
    assert asked.texts == {
        "prompt": "invert it", "output_format": "png", "stream": "true", "progress": "true", "partial_images": "2"
    }  # fmt: skip
    assert asked.files == {"image": [("halves.png", halves.read_bytes())]}
    assert asked.key == ""
    visitor.said("The edited picture is there")
    assert visitor.by_label("Seed").input_value() == "41"


def test_steps_and_previews_are_seen_as_they_come(visitor: Visitor, fake: Fake) -> None:
    fake.api.going.clear()
    visitor.choose(CAT)
    visitor.ask("invert it")
    preview = visitor.page.get_by_role("img", name="Preview of the edited picture")
    preview.wait_for()
    assert visitor.page.locator("#steps").text_content() == f"Step 2 of {4}"
    assert visitor.page.get_by_role("progressbar", name="Progress of the edit").evaluate("it => it.value") == 0.5
    visitor.said("Step 2 of 4")
    assert visitor.page.locator("#actions").is_hidden()
    visitor.looked_at("running")
    visitor.button("Cancel").focus()
    fake.resume()
    visitor.result()
    assert preview.count() == 0
    visitor.page.locator("#running").wait_for(state="hidden")
    visitor.focused("slider")
    visitor.looked_at("done")


def test_the_slider_shows_before_and_after_by_keys(visitor: Visitor, halves: Path) -> None:
    visitor.choose(halves)
    visitor.ask("invert it")
    visitor.result()
    slider = visitor.page.get_by_role("slider", name="Before and after")
    slider.press("End")
    assert visitor.shows(RED, GREEN)
    assert slider.get_attribute("aria-valuetext") == "all before"
    slider.press("Home")
    assert visitor.shows(CYAN, MAGENTA)
    for _ in range(4):
        slider.press("PageUp")
    assert visitor.shows(RED, MAGENTA)
    assert slider.get_attribute("aria-valuetext") == "40 percent before"
    visitor.looked_at("slider")


@pytest.mark.parametrize("how", ["button", "escape"])
def test_an_edit_is_cancelled(visitor: Visitor, fake: Fake, how: str) -> None:
    fake.api.going.clear()
    visitor.choose(CAT)
    visitor.ask("invert it")
    visitor.page.get_by_text("Step 2 of 4").first.wait_for()
    if how == "button":
        visitor.button("Cancel").press("Enter")
    else:
        visitor.page.keyboard.press("Escape")
    assert fake.api.left.wait(120), "the server saw that the page left"
    visitor.button("Cancel").wait_for(state="hidden")
    visitor.said("Cancelled")
    visitor.focused("prompt")
    fake.resume()
    visitor.ask("again")
    visitor.result()


def test_a_picture_may_go_while_it_is_edited(visitor: Visitor, fake: Fake) -> None:
    fake.api.going.clear()
    visitor.choose(CAT)
    visitor.ask("invert it")
    visitor.page.get_by_text("Step 2 of 4").first.wait_for()
    visitor.button("Remove cat.jpg").click()
    visitor.button("Cancel").click()
    visitor.button("Try with a sample").wait_for()


def test_several_pictures_go_to_a_model_that_takes_them(visitor: Visitor, fake: Fake) -> None:
    fake.api.models = [BASE | {"max_images": 2}]
    visitor.page.reload()
    visitor.page.get_by_text("Pictures (up to 2)").wait_for()
    visitor.choose(CAT, COFFEE)
    visitor.looked_at("two-pictures")
    visitor.ask("put the cup beside the cat")
    visitor.result()
    assert fake.api.asked[0].files == {"image[]": [("cat.jpg", CAT.read_bytes()), ("coffee.jpg", COFFEE.read_bytes())]}
    visitor.button("Remove cat.jpg").click()
    visitor.ask("colder")
    visitor.result()
    assert fake.api.asked[1].files == {"image": [("coffee.jpg", COFFEE.read_bytes())]}


def test_several_pictures_come_of_one_edit(visitor: Visitor, fake: Fake) -> None:
    visitor.choose(CAT)
    visitor.page.get_by_text("More settings").click()
    visitor.by_label("Pictures to make").fill("3")
    visitor.ask("invert it")
    visitor.page.locator("#history li").nth(2).wait_for()
    visitor.page.locator("#running").wait_for(state="hidden")
    assert fake.api.asked[0].texts["n"] == "3"
    assert visitor.page.locator("#history [aria-current=true]").count() == 1
    assert visitor.page.locator("#after").evaluate("it => it.naturalWidth") == 256


def test_settings_are_sent_and_a_seed_is_kept(visitor: Visitor, fake: Fake) -> None:
    fake.api.models = [
        BASE,
        BASE | {"id": "oil", "parent": "base"},
        BASE | {"id": "ink", "parent": "base"},
        BASE | {"id": "sdxl"},
        BASE | {"id": "sdxl/oil", "parent": "sdxl"},
    ]
    visitor.page.reload()
    visitor.choose(CAT)
    visitor.button("ink").click()
    visitor.button("oil").click()
    visitor.by_label("How much ink").fill("0.5")
    visitor.page.get_by_text("More settings").click()
    values = {"Steps": "3", "Follow the words": "6.5", "Keep the picture": "1.2", "Width": "300", "Height": "200"}
    for label, value in values.items():
        visitor.by_label(label).fill(value)
    visitor.by_label("What to avoid").fill("frames")
    visitor.by_label("Step caching").select_option("Balanced")
    visitor.by_label("Seed").fill("18446744073709551615")
    visitor.looked_at("settings")
    visitor.ask("make it night")
    visitor.result()
    sent = fake.api.asked[0].texts
    assert {name: sent[name] for name in sorted(sent.keys() - {"stream", "progress", "partial_images"})} == {
        "cache": "balanced", "guidance_scale": "6.5", "image_guidance_scale": "1.2", "model": "ink:0.5+oil:1",
        "negative_prompt": "frames",
        "num_inference_steps": "3", "output_format": "png", "prompt": "make it night", "seed": "18446744073709551615",
        "size": "300x200",
    }  # fmt: skip
    assert visitor.by_label("Seed").input_value() == "18446744073709551615", "no digit is lost"
    visitor.button("Copy as Python").click()
    visitor.said("Copied")
    copied = visitor.page.evaluate("navigator.clipboard.readText()")
    assert '"seed": 18446744073709551615' in copied
    assert '"cache": "balanced"' in copied
    visitor.button("ink").click()
    visitor.button("Keep seed").click()
    visitor.ask("again")
    visitor.page.locator("#history li").nth(1).wait_for()
    assert fake.api.asked[1].texts["model"] == "oil:1"
    assert "seed" not in fake.api.asked[1].texts


def test_step_caching_is_chosen_by_keys_and_kept_with_its_edit(visitor: Visitor, fake: Fake) -> None:
    fake.api.models = [BASE | {"cache": "balanced"}]
    visitor.page.reload()
    visitor.choose(CAT)
    visitor.page.get_by_text("More settings").click()
    control = visitor.by_label("Step caching")
    assert control.evaluate("it => it.selectedOptions[0].text") == "The model's own: balanced"
    control.press("ArrowDown")
    assert control.input_value() == "off"
    visitor.looked_at("caching")
    visitor.ask("make it night")
    visitor.result()
    control.press("ArrowUp")
    visitor.ask("make it day")
    visitor.page.locator("#history li").nth(1).wait_for()
    assert [asked.texts.get("cache") for asked in fake.api.asked] == ["off", None]
    visitor.button("Show: make it night").click()
    visitor.button("Copy as curl").click()
    visitor.button("Copied").wait_for()
    assert "'cache=off'" in visitor.page.evaluate("navigator.clipboard.readText()")


def test_step_caching_is_not_offered_where_the_server_does_not_tell_of_it(visitor: Visitor, fake: Fake) -> None:
    fake.api.models = [{name: value for name, value in BASE.items() if name != "cache"}]
    visitor.page.reload()
    visitor.choose(CAT)
    visitor.page.get_by_text("More settings").click()
    visitor.by_label("Steps").wait_for()
    assert visitor.by_label("Step caching").is_hidden()
    visitor.ask("make it night")
    visitor.result()
    assert "cache" not in fake.api.asked[0].texts


def test_history_and_a_result_as_the_next_input(visitor: Visitor, fake: Fake, halves: Path) -> None:
    visitor.choose(halves)
    visitor.ask("invert it")
    visitor.result()
    visitor.button("Use as input").click()
    visitor.ask("invert it back")
    visitor.page.locator("#history li").nth(1).wait_for()
    visitor.result()
    assert visitor.shows(RED)
    assert np.array_equal(fake.api.asked[1].picture.getpixel((0, 0)), CYAN)
    visitor.button("Show: invert it").click()
    assert visitor.shows(CYAN)
    visitor.looked_at("history")
    with visitor.page.expect_download() as download:
        visitor.page.get_by_role("link", name="Download").click()
    assert download.value.suggested_filename == "edited-41.png"
    assert Image.open(download.value.path()).getpixel((0, 0)) == CYAN


@pytest.mark.parametrize("language", ["curl", "Python"])
def test_the_copied_command_makes_the_same_edit(
    visitor: Visitor, fake: Fake, halves: Path, tmp_path: Path, language: str
) -> None:
    odd = tmp_path / 'it\'s "a; picture", 1.png'
    odd.write_bytes(halves.read_bytes())
    visitor.choose(odd)
    visitor.page.get_by_text("More settings").click()
    visitor.by_label("Steps").fill("3")
    visitor.by_label("Step caching").select_option("Balanced")
    visitor.ask("@make it 'night' \\ \"now\" $HOME")
    visitor.result()
    visitor.button(f"Copy as {language}").click()
    visitor.said("Copied")
    text = visitor.page.evaluate("navigator.clipboard.readText()")
    command = [sys.executable, "-c", text] if language == "Python" else ["bash", "-euo", "pipefail", "-c", text]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    by_page, again = fake.api.asked
    told = by_page.texts.keys() - {"stream", "progress", "partial_images", "output_format"}
    assert {name: again.texts[name] for name in again.texts.keys() - {"output_format"}} == {
        "seed": "41", **{name: by_page.texts[name] for name in told}
    }  # fmt: skip
    assert again.files == by_page.files
    assert Image.open(tmp_path / "edited.png").getpixel((0, 0)) == CYAN


def test_a_picture_is_dropped_pasted_or_the_sample(visitor: Visitor, fake: Fake) -> None:
    give = """kind => {
      const data = new DataTransfer(), canvas = new OffscreenCanvas(8, 8);
      canvas.getContext("2d").fillRect(0, 0, 8, 8);
      return canvas.convertToBlob().then((blob) => {
        data.items.add(new File([blob], kind + ".png", { type: "image/png" }));
        const event = kind === "drop" ? new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true })
          : new ClipboardEvent("paste", { clipboardData: data, bubbles: true });
        document.body.dispatchEvent(event);
      });
    }"""
    for kind in ("drop", "paste"):
        visitor.page.evaluate(give, kind)
        visitor.page.get_by_role("img", name=f"{kind}.png", exact=True).wait_for()
    visitor.button("Remove paste.png").click()
    visitor.looked_at("empty")
    visitor.try_sample()
    visitor.ask("invert it")
    visitor.result()
    assert fake.api.asked[0].files == {"image": [("cat.jpg", CAT.read_bytes())]}


def test_a_phone_shows_one_column(browser: "Browser", fake: Fake) -> None:
    fake.api.models = [
        BASE,
        *(BASE | {"id": name, "parent": "base"} for name in ("riso", "thermal", "a-style-of-a-very-long-name")),
    ]
    with visiting(browser, fake.url, PHONE) as visitor:
        visitor.looked_at("phone-empty")
        visitor.choose(CAT)
        visitor.button("riso").click()
        visitor.page.get_by_text("More settings").click()
        visitor.page.get_by_text("Only a part of it").click()
        assert visitor.page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
        visitor.looked_at("phone-open")
        visitor.page.get_by_text("More settings").click()
        visitor.page.get_by_text("Only a part of it").click()
        visitor.ask("invert it")
        box = visitor.result().bounding_box()
        assert box
        assert box["width"] > 0.85 * PHONE["width"], "the picture takes the width"
        assert visitor.page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
        visitor.looked_at("phone-done")
