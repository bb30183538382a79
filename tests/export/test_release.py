"""What an export says of itself to callers: its defaults, and the pictures that it makes from text alone."""

import shutil
from pathlib import Path

import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from export import configs, release
from export.adapters import Bank
from export.checkpoint import find
from export.run import Options
from export.store import HAND_WRITTEN, SOURCE
from families import load
from families.interface import Limits
from gateway.offer import Offer, offer_of
from tests.conftest import ROOT
from tests.families import tiny

NONE = Bank((), (), {})
CONTRACT = (ROOT / "model_repository" / "edit" / "contract.pbtxt").read_text("utf-8")


def offer(checkpoint: Path, options: Options) -> Offer:
    """As the gateway reads it from `edit`'s configuration."""
    found = find(str(checkpoint), None)
    table = load(found.family, "table")
    settings = release.settings(found, table, table.components(checkpoint, options.limits), NONE, options)
    return offer_of(text_format.Parse(configs.edit(CONTRACT, settings), model_config_pb2.ModelConfig()))


@pytest.mark.parametrize(("given", "told"), [(None, 50), (4, 4), (17, 17)])
def test_default_steps_are_the_familys_unless_given(given: int | None, told: int) -> None:
    options = Options(Limits(256 * 256, 8), default_steps=given)
    assert offer(tiny.checkpoint("flux2_klein"), options).num_inference_steps == told


@pytest.mark.parametrize(("given", "told"), [({}, "off"), ({"cache": "balanced"}, "balanced")])
def test_steps_are_cached_where_callers_say_nothing_only_if_the_export_says_so(
    given: dict[str, str], told: str
) -> None:
    assert offer(tiny.checkpoint("flux2_klein"), Options(Limits(256 * 256, 8), **given)).cache == told  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("family", "max_pixels", "told"),
    [
        ("flux2_klein", 512 * 512, "512x512"),
        ("flux2_klein", 500 * 500, "496x496"),
        ("flux2_klein", 1024 * 1024, "1024x1024"),
        ("flux2_klein", 2048 * 2048, "1024x1024"),
        ("flux_kontext", 512 * 512, "512x512"),
        ("flux_kontext", 2048 * 2048, "1024x1024"),
        ("instruct_pix2pix", 512 * 512, ""),
        ("sdxl_instruct_pix2pix", 512 * 512, ""),
    ],
)
def test_a_picture_from_text_alone_is_the_largest_square(family: str, max_pixels: int, told: str) -> None:
    assert offer(tiny.checkpoint(family), Options(Limits(max_pixels, 8))).generation_size == told


def digest(checkpoint: Path) -> str:
    found, options = find(str(checkpoint), None), Options(Limits(256 * 256, 8))
    table = load(found.family, "table")
    components = table.components(checkpoint, options.limits)
    settings = release.settings(found, table, components, NONE, options)
    return release.compose(found, table, components, settings, {}).digest


def test_a_release_is_another_where_edit_says_something_else(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As after an update: the same digest would leave what the version before had written."""
    before = digest(checkpoint)
    assert digest(checkpoint) == before
    monkeypatch.setattr(configs, "edit", lambda *_: "# of a later version")
    assert digest(checkpoint) != before


@pytest.mark.parametrize("installed", ["there", "gone"])
def test_a_release_is_the_same_whatever_the_checkout_itself_serves(
    installed: str, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for model in HAND_WRITTEN:
        shutil.copytree(SOURCE / model, tmp_path / model, symlinks=True, ignore=shutil.ignore_patterns(".tritouch"))
    monkeypatch.setattr(release, "SOURCE", tmp_path)
    (tmp_path / "edit" / "config.pbtxt").unlink(missing_ok=True)
    before = digest(checkpoint)
    (tmp_path / "served").write_text(installed)
    (tmp_path / "edit" / "config.pbtxt").symlink_to("../served" if installed == "there" else "nowhere")
    assert digest(checkpoint) == before
