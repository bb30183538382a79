"""What Triton's processes read of the environment, judged by whoever starts them."""

import re

import pytest

from backends import kernel_cache, processor, warm_up
from embedded.errors import EmbeddedError
from embedded.server import serve
from embedded.settings import load_settings
from embedded.triton_settings import NUMBERS, judged
from families.settings import count
from tests.conftest import ROOT

CACHE = "TRITOUCH_TRITON_CACHE_BYTES"
UNJUDGED = {"TRITOUCH_STOP_FILE", kernel_cache.SETTING, processor.HELD}
"""Set by the supervisor alone; a folder, without which a start takes longer; judged by the export."""


def test_all_that_the_models_read_is_in_the_table() -> None:
    sources = [path for room in ("model_repository", "families", "backends") for path in (ROOT / room).rglob("*.py")]
    own = [path for path in sources if not any(part.startswith(".") for part in path.relative_to(ROOT).parts)]
    named = {name for path in own for name in re.findall(r'"(TRITOUCH_[A-Z_]+)"', path.read_text("utf-8"))}
    assert named - UNJUDGED == {name for name in NUMBERS if not name.startswith("TRITOUCH_TRITON_")}


@pytest.mark.parametrize("name", NUMBERS)
def test_what_is_allowed_is_taken_by_who_reads_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for end in (NUMBERS[name].least, NUMBERS[name].most):
        assert judged({name: str(end)}) == {name: end}
        if name == warm_up.SECONDS:
            monkeypatch.setenv(name, str(end))
            assert warm_up.seconds() == end
        elif not name.startswith("TRITOUCH_TRITON_"):
            assert count({name: str(end)}, name, 0) == end
    assert judged({name: ""}) == {}


def test_a_cache_is_none_or_large_enough_for_triton() -> None:
    assert judged({CACHE: "0"}) == {CACHE: 0}
    with pytest.raises(ValueError, match=f"^{CACHE} is '1', and must be 0, or a whole number from 1024 to "):
        judged({CACHE: "1"})


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("value", ["-1", "soon", "nan", "inf", "1e999", "9" * 30, "9" * 5000, "\u0663", "1\n2"])
def test_what_is_wrong_is_one_line_that_says_what_is_allowed(name: str, value: str) -> None:
    with pytest.raises(ValueError, match=rf"^{name} is '") as told:
        judged({name: value})
    assert str(told.value) == f"{name} is {value[:64]!r}, and must be {NUMBERS[name].allowed}"


def test_nothing_is_started_with_a_wrong_one(monkeypatch: pytest.MonkeyPatch) -> None:
    said = r"^TRITOUCH_MAX_JOBS is '0', and must be a whole number from 1 to 1000000$"
    with pytest.raises(EmbeddedError, match=said), serve(env={"TRITOUCH_MAX_JOBS": "0"}):
        pass
    monkeypatch.setenv(CACHE, "-1")
    with pytest.raises(
        EmbeddedError, match=f"^{CACHE} is '-1', and must be 0, or a whole number from 1024 to "
    ) as told:
        load_settings()
    assert told.value.exit_code == 2
