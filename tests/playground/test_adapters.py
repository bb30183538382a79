"""Adapters that are put on in a real browser, among them one that is called as another model is."""

import pytest

from gateway import adapters
from tests.playground.conftest import CAT
from tests.playground.fake import BASE, Fake
from tests.playground.visitor import Visitor, chromium

chromium()


@pytest.mark.parametrize(
    ("put_on", "asked"),
    [
        (["base/sdxl"], "base/sdxl:1"),
        (["ink", "base/sdxl"], "base/ink:1+sdxl:1"),
        (["base/sdxl", "ink"], "base/sdxl:1+ink:1"),
        (["ink", "oil"], "ink:1+oil:1"),
    ],
)
def test_the_models_name_stands_once(visitor: Visitor, fake: Fake, put_on: list[str], asked: str) -> None:
    ids = ("ink", "base/sdxl", "oil")
    fake.api.models = [BASE, *(BASE | {"id": one, "parent": "base"} for one in ids), BASE | {"id": "sdxl"}]
    visitor.page.reload()
    visitor.choose(CAT)
    for name in put_on:
        visitor.button(name).click()
    visitor.ask("invert it")
    visitor.result()
    assert fake.api.asked[0].texts["model"] == asked
    adapters.check(asked)
