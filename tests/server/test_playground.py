"""The playground before the real Triton: the page that the gateway serves, in a real browser, edits a picture."""

from pathlib import Path

import pytest
from PIL import Image

from embedded.server import Embedded
from tests.conftest import ROOT
from tests.playground.visitor import browsing, chromium, visiting

chromium()

CAT = ROOT / "demo" / "samples" / "cat.jpg"


@pytest.mark.browser
def test_a_picture_is_edited_by_the_page(server: Embedded, tmp_path: Path) -> None:
    """With a style, a mask and steps that are seen; by the keyboard alone, once the picture is chosen."""
    with browsing() as browser, visiting(browser, server.http_url) as visitor:
        visitor.page.get_by_text("Ready").wait_for()
        visitor.page.evaluate(
            """() => {
              window.seen = [];
              const steps = document.getElementById("steps");
              new MutationObserver(() => window.seen.push(steps.textContent)).observe(steps, { childList: true });
            }"""
        )
        visitor.choose(CAT)
        visitor.button("oil").press("Enter")
        visitor.page.get_by_text("Only a part of it").press("Enter")
        visitor.by_label("Right").fill("128")
        visitor.button("Mark rectangle").press("Enter")
        visitor.page.get_by_text("More settings").press("Enter")
        visitor.by_label("Steps").fill("8")
        visitor.ask("make it red")
        visitor.page.locator("#error:not([hidden]), #stage[data-state=done]").wait_for()
        assert visitor.page.locator("#error").text_content() == ""
        visitor.result()
        assert visitor.page.evaluate("window.seen.some((text) => /^Step [1-8] of 8$/.test(text))")
        with visitor.page.expect_download() as download:
            visitor.page.get_by_role("link", name="Download").press("Enter")
        with Image.open(download.value.path()) as edited, Image.open(CAT) as picture:
            assert edited.size == picture.size
            half = (128, 0, 256, 256)
            assert edited.convert("RGB").crop(half).tobytes() == picture.convert("RGB").crop(half).tobytes()
            assert edited.convert("RGB").tobytes() != picture.convert("RGB").tobytes()
        visitor.looked_at("real")
