"""The comparison with torch: what it costs is counted beforehand, and bounded."""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from export.component import check, cost
from export.component.check import Comparison, bounded
from families import load
from families.interface import Component, Limits, Range, Tensor
from families.parts.pretrained import fill
from tests.families import small, tiny

COMPONENT = Component(
    name="attention",
    role="denoiser",
    weights="",
    inputs=(Tensor("x", "FP32", ("rows", "width", 8)),),
    outputs=(Tensor("y", "FP32", ("rows", "width", 8)), Tensor("z", "FP32", ("rows", 8))),
    ranges={"rows": Range(1, 3, 8), "width": Range(4, 64, 256, step=4)},
    shapes=({"rows": 8, "width": 4}, {"rows": 2, "width": 12}, {"rows": 1, "width": 256}),
    tolerance={"fp32": 1e-4},
)


class Attention(nn.Module):
    """Every token sees every other: the cost grows with the square of their number."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.linear = nn.Linear(8, 8)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        seen = nn.functional.scaled_dot_product_attention(x[:, None], x[:, None], x[:, None])[:, 0]
        y = self.linear(seen)
        return y, y.mean(dim=1)


def inputs(sizes: Mapping[str, int]) -> Sequence[torch.Tensor]:
    return [torch.ones(tensor.shape(sizes)) for tensor in COMPONENT.inputs]


def test_the_cost_is_counted_without_computing() -> None:
    rows, width = 1, 256
    price = cost.of(Attention(), inputs({"rows": rows, "width": width}))
    products = 2 * rows * width * width * 8
    assert price.flop == 2 * products + 2 * rows * width * 8 * 8
    assert price.bytes >= 2 * rows * width * width * 4, "the scores before and after softmax"
    huge = cost.of(Attention(), [torch.ones(1, 1, 8).expand(4, 200_000, 8)])
    assert huge.flop > 1e12, "more than any test would wait for"


def test_small_models_are_compared_at_all_of_the_tables_shapes() -> None:
    compared = list(bounded(Attention(), COMPONENT, inputs, "cpu"))
    assert [comparison.sizes for comparison in compared] == list(COMPONENT.shapes)
    assert str(compared[0]) == "8 x 4"


@pytest.mark.parametrize(("bound", "value"), [("ARITHMETIC", {"cpu": 1e6}), ("MEMORY", 60_000)])
def test_what_is_too_large_is_made_smaller_and_said(bound: str, value: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, bound, value)
    compared = list(bounded(Attention(), COMPONENT, inputs, "cpu"))
    assert [comparison.sizes for comparison in compared[:2]] == list(COMPONENT.shapes[:2])
    width = compared[2].sizes["width"]
    assert 4 < width < 256
    assert width % 4 == 0, "a size that the table has"
    assert str(compared[2]) == f"1 x {width} of 1 x 256"


def test_where_even_the_smallest_is_too_much_the_bound_gives_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "ARITHMETIC", {"cpu": 1.0})
    compared = list(bounded(Attention(), COMPONENT, inputs, "cpu"))
    assert [comparison.sizes for comparison in compared] == [{"rows": 1, "width": 4}] * 3


def test_every_output_is_compared() -> None:
    module = Attention().requires_grad_(False)
    given = [torch.randn(2, 4, 8)]
    y, z = (tensor.numpy() for tensor in module(*given))
    errors = [
        check.against_torch(lambda _inputs, wrong=wrong: {"y": y, "z": z * wrong}, module, COMPONENT, given)
        for wrong in (1.0, 1.5, np.nan)
    ]
    assert errors[0] < 1e-6
    assert errors[1] == pytest.approx(0.5, rel=1e-3)
    assert errors[2] == np.inf


def test_a_comparison_says_what_it_was_and_what_it_would_have_been() -> None:
    sizes = OrderedDict(rows=1, height=32)
    assert str(Comparison(sizes, sizes)) == "1 x 32"
    assert str(Comparison(sizes, sizes | {"height": 64})) == "1 x 32 of 1 x 64"


@pytest.mark.slow
def test_an_autoencoder_that_halves_twice_only_fits_into_the_memory_of_its_check(tmp_path: Path) -> None:
    """Twelve rows of its largest picture, a stride of four, wanted 51 GB."""
    kind = small.autoencoder()
    changed = {"block_out_channels": (16, 32, 32)} | {
        f"{side}_block_types": kind.config[f"{side}_block_types"][:3] for side in ("down", "up")
    }
    torch.manual_seed(0)
    type(kind)(**{**kind.config, **changed}).save_pretrained(tmp_path / "vae")
    checkpoint = tiny.checkpoint("instruct_pix2pix")
    for name in ("text_encoder", "unet"):
        (tmp_path / name).symlink_to(checkpoint / name)
    family, modules = load("instruct_pix2pix", "table"), load("instruct_pix2pix", "modules")
    limits = Limits(512 * 512, 12)
    components = {c.name: c for c in family.components(tmp_path, limits)}
    for name in ("vae_encoder", "vae_decoder", "denoiser"):
        component, generator = components[name], torch.Generator()
        module = fill(modules.module(name, tmp_path), torch.float32)

        def sample(
            sizes: Mapping[str, int], component: Component = component, generator: torch.Generator = generator
        ) -> Sequence[torch.Tensor]:
            return [modules.sample(tensor, tensor.shape(sizes), generator) for tensor in component.inputs]

        for comparison in bounded(module, component, sample, "cpu"):
            assert cost.of(module, sample(comparison.sizes)).bytes <= check.MEMORY, (name, str(comparison))


def test_sizes_of_pictures_stay_multiples() -> None:
    wide = replace(COMPONENT, ranges={**COMPONENT.ranges, "width": Range(64, 512, 1024, step=8)})
    assert check._smaller({"rows": 1, "width": 1024}, wide) == {"rows": 1, "width": 544}
    assert check._smaller({"rows": 3, "width": 64}, wide) == {"rows": 1, "width": 64}
