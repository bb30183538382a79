"""A real browser, and a server with the page. Without a browser all of this is skipped, unless one is required."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from tests.conftest import ROOT
from tests.playground.fake import Fake
from tests.playground.visitor import Visitor, browsing, visiting

if TYPE_CHECKING:
    from playwright.sync_api import Browser

CAT = ROOT / "demo" / "samples" / "cat.jpg"
COFFEE = ROOT / "demo" / "samples" / "coffee.jpg"


@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    with browsing() as running:
        yield running


@pytest.fixture(scope="session")
def _fake() -> Iterator[Fake]:
    fake = Fake()
    fake.start()
    yield fake
    fake.stop()


@pytest.fixture
def fake(_fake: Fake) -> Iterator[Fake]:
    """The server, with nothing scripted; edits go on by themselves unless the test clears `api.going`."""
    _fake.reset()
    _fake.resume()
    yield _fake
    _fake.resume()


@pytest.fixture
def visitor(browser: "Browser", fake: Fake) -> Iterator[Visitor]:
    """Someone who has just opened the page."""
    with visiting(browser, fake.url) as one:
        yield one


@pytest.fixture(scope="session")
def halves(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A PNG of 120 x 80 pixels: red left, green right."""
    pixels = np.zeros((80, 120, 3), np.uint8)
    pixels[:, :60, 0] = pixels[:, 60:, 1] = 255
    file = tmp_path_factory.mktemp("pictures") / "halves.png"
    Image.fromarray(pixels).save(file)
    return file


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whatever uses a browser is marked so, and takes seconds."""
    here = os.path.dirname(__file__)  # noqa: PTH120
    for item in items:
        if str(item.path).startswith(here):
            item.add_marker(pytest.mark.browser)
            item.add_marker(pytest.mark.slow)
