"""Someone who uses the page in a real browser: opens it, finds things by their labels, and has axe look at it."""

import os
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.gateway.asking import until

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page

REQUIRED = "TRITOUCH_REQUIRE_BROWSER"
SHOTS = "TRITOUCH_SCREENSHOTS"
"""Folder that gets a PNG of each state that a test names; none: none are made."""
NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-component-update", "--disable-sync"]
WIDE = {"width": 1280, "height": 860}
PHONE = {"width": 390, "height": 844}
TIMEOUT_MS = 120_000


def chromium() -> str:
    """The browser's path. Where there is none, skips the module that asks, or fails it where one is required."""
    path = next(filter(None, map(shutil.which, NAMES)), None)
    missing = "playwright" if find_spec("playwright") is None else "" if path else "chromium"
    if missing and os.environ.get(REQUIRED):
        pytest.fail(f"{REQUIRED} is set, and {missing} is not installed")
    if missing or path is None:
        pytest.skip(f"needs {missing}", allow_module_level=True)
    return path


@contextmanager
def browsing() -> Iterator["Browser"]:
    """A browser without a window. Others' event loops cannot run in this thread meanwhile."""
    path = chromium()
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS, timeout=TIMEOUT_MS)
        yield browser
        browser.close()


@cache
def _axe() -> str:
    import axe_playwright_python

    return (Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text("utf-8")


class Visitor:
    """One page, opened at `url`; what goes wrong in it is in `faults`, and every request's address in `requests`."""

    def __init__(self, page: "Page", url: str) -> None:
        self.page, self.url = page, url
        self.faults: list[str] = []
        self.requests: list[str] = []
        page.set_default_timeout(TIMEOUT_MS)
        page.on("pageerror", lambda error: self.faults.append(str(error)))
        page.on("console", self._heard)
        page.on("request", lambda request: self.requests.append(request.url))
        page.goto(url)

    def _heard(self, message: Any) -> None:
        if message.type == "error" and "Failed to load resource" not in message.text:
            self.faults.append(message.text)

    def by_label(self, label: str) -> "Locator":
        return self.page.get_by_label(label, exact=True)

    def button(self, name: str) -> "Locator":
        return self.page.get_by_role("button", name=name, exact=True)

    def choose(self, *files: Path) -> None:
        """Choose pictures, as by the browser's own dialogue; they are there when this returns."""
        self.page.locator("#files").set_input_files(files)
        self.page.locator("#pictures li").nth(len(files) - 1).wait_for()

    def try_sample(self) -> None:
        """Choose the picture that the page offers, which it fetches; it is there when this returns."""
        self.button("Try with a sample").click()
        self.page.get_by_role("img", name="cat.jpg", exact=True).wait_for()

    def ask(self, prompt: str) -> None:
        """Type what to change, and press Enter."""
        self.by_label("What to change").fill(prompt)
        self.by_label("What to change").press("Enter")

    def result(self) -> "Locator":
        """The edited picture, once it is there and the edit is over: another may begin."""
        found = self.page.get_by_role("img", name="Edited picture", exact=True)
        found.wait_for()
        self.page.locator("#running").wait_for(state="hidden")
        return found

    def said(self, text: str) -> None:
        """Wait until this is what the page last said to those who hear it."""
        self.page.locator("#live").filter(has_text=re.compile(f"^{re.escape(text)}$")).wait_for(state="attached")

    def focused(self, name: str) -> None:
        """Wait until the focus is on the element with this id."""
        self.page.locator(f"#{name}:focus").wait_for(state="attached")

    def shows(
        self, *colours: tuple[int, int, int], at: Sequence[tuple[float, float]] = ((0.25, 0.3), (0.75, 0.3))
    ) -> bool:
        """Whether these colours come to be seen at these places."""
        return until(lambda: all(self.pixel(*place) == colour for place, colour in zip(at, colours, strict=False)))

    def pixel(self, x: float, y: float) -> tuple[int, int, int]:
        """The colour that is seen at a place of the large picture, given as shares of its width and height."""
        import io

        from PIL import Image

        box = self.page.locator("#frame").bounding_box()
        assert box
        shot = Image.open(io.BytesIO(self.page.screenshot())).convert("RGB")
        red, green, blue = shot.getpixel((int(box["x"] + x * box["width"]), int(box["y"] + y * box["height"])))
        return red, green, blue

    def looked_at(self, state: str) -> None:
        """Have axe look at the page as it is, and at its dark colours. Screenshots are kept where they are wanted."""
        if not self.page.evaluate("'axe' in window"):
            self.page.evaluate(_axe())
        for scheme, rules in {"dark": ["color-contrast"], "light": None}.items():
            self.page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
            if folder := os.environ.get(SHOTS):
                self.page.screenshot(path=Path(folder) / f"{state}-{scheme}.png", full_page=True)
            found = self.page.evaluate(
                "async (rules) => (await axe.run(rules ? { runOnly: rules } : {})).violations", rules
            )
            wrong = {one["id"]: [node["html"] for node in one["nodes"]] for one in found}
            assert wrong == {}, f"{state}, {scheme}"


@contextmanager
def visiting(browser: "Browser", url: str, size: dict[str, int] | None = None) -> Iterator[Visitor]:
    """A visit of one's own, with nothing kept from others. At its end nothing may have gone wrong in the page.

    The page's policy forbids what is not its own, axe as well: so axe is run by the debugger, which no policy binds.
    """
    context = browser.new_context(
        viewport=size or WIDE, reduced_motion="reduce", permissions=["clipboard-read", "clipboard-write"]
    )
    with context:
        visitor = Visitor(context.new_page(), url)
        yield visitor
        assert visitor.faults == []
        assert [one for one in visitor.requests if not one.startswith((url, "blob:" + url, "data:"))] == []
