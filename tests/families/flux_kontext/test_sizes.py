"""What FLUX.1 Kontext has and no other: the sizes that it was trained at, and a guidance number that it reads."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from diffusers.pipelines.flux.pipeline_flux_kontext import PREFERRED_KONTEXT_RESOLUTIONS

from families import load
from families.errors import BadCheckpointError
from families.flux_kontext.denoising import noise
from families.flux_kontext.table import preferred
from families.interface import Limits
from families.sizes import size_rule
from tests.families import tiny

FAMILY = "flux_kontext"


def test_the_models_own_sizes_are_those_of_diffusers() -> None:
    assert set(preferred(2048 * 2048, 16).sizes) == set(PREFERRED_KONTEXT_RESOLUTIONS)


@pytest.mark.parametrize("size", [(640, 480), (480, 640), (1000, 1000), (3000, 300), (512, 511), (1, 1)])
def test_a_picture_is_edited_at_the_size_that_diffusers_chooses(size: tuple[int, int]) -> None:
    rule = size_rule(preferred(2048 * 2048, 16).to_json())
    aspect = size[0] / size[1]
    assert rule.of(*size) == min((abs(aspect - w / h), w, h) for w, h in PREFERRED_KONTEXT_RESOLUTIONS)[1:]


@pytest.mark.parametrize("budget", [128 * 128, 256 * 256, 512 * 512, 1024 * 1024])
def test_a_smaller_budget_has_smaller_sizes_of_nearly_the_same_aspects(budget: int) -> None:
    for width, height in preferred(budget, 16).sizes:
        assert width * height <= budget
        assert width % 16 == height % 16 == 0
        assert min(width, height) >= 64
        aspect = width / height
        assert min(abs(aspect - w / h) / aspect for w, h in PREFERRED_KONTEXT_RESOLUTIONS) < 0.15


@pytest.mark.parametrize("budget", [64 * 64, 80 * 64, 95 * 95, 96 * 96])
def test_the_smallest_budgets_hold(budget: int) -> None:
    for width, height in preferred(budget, 16).sizes:
        assert width * height <= budget
        assert min(width, height) >= 64


@pytest.mark.parametrize("tokens", [256, 1024, 4096])
def test_the_shift_is_that_of_diffusers(tokens: int) -> None:
    from diffusers.pipelines.flux.pipeline_flux_kontext import calculate_shift

    assert noise(28, tokens, {})["mu"] == pytest.approx(calculate_shift(tokens), rel=1e-12)
    own = {"base_image_seq_len": 128, "max_image_seq_len": 8192, "base_shift": 0.1, "max_shift": 2.0}
    assert noise(28, tokens, own)["mu"] == pytest.approx(calculate_shift(tokens, 128, 8192, 0.1, 2.0), rel=1e-12)


def changed(folder: Path, component: str, **fields: Any) -> Path:
    shutil.copytree(tiny.checkpoint(FAMILY), folder)
    file = folder / component / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | fields))
    return folder


def test_a_transformer_that_reads_no_guidance_is_given_none(tmp_path: Path) -> None:
    table, limits = load(FAMILY, "table"), Limits(256 * 256, 8)
    for checkpoint, guided in (
        (tiny.checkpoint(FAMILY), True),
        (changed(tmp_path / "plain", "transformer", guidance_embeds=False), False),
    ):
        denoiser = next(c for c in table.components(checkpoint, limits) if c.role == "denoiser")
        assert ("guidance" in [tensor.name for tensor in denoiser.inputs]) == guided
        assert table.settings(checkpoint, limits).own["guided"] == guided


@pytest.mark.parametrize(
    ("component", "field", "value", "words"),
    [
        ("text_encoder_2", "d_model", 8, "reads text of width 32, T5 gives 8"),
        ("text_encoder", "hidden_size", 8, "reads pooled text of width 64, CLIP gives 8"),
        ("vae", "latent_channels", 8, "takes 16 channels, its autoencoder 32"),
        ("transformer", "in_channels", None, "lacks or misstates"),
    ],
)
def test_configs_that_do_not_fit_together_are_one_line(
    tmp_path: Path, component: str, field: str, value: Any, words: str
) -> None:
    checkpoint = changed(tmp_path / "changed", component, **{field: value})
    with pytest.raises(BadCheckpointError, match=words) as error:
        load(FAMILY, "table").components(checkpoint, Limits(256 * 256, 8))
    assert "\n" not in str(error.value)
