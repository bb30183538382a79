"""A bank of adapters in a torch module: each row is computed with its own, and what does not fit is refused."""

import pytest
import torch
from torch import nn

from export.component import bank
from export.errors import BadInputError
from families.parts.lora import Factors


class Network(nn.Module):
    """Something with the layers that LoRA files name."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.linear, self.narrow = nn.Linear(6, 4), nn.Conv2d(4, 5, 1)
        self.wide, self.norm = nn.Conv2d(5, 5, 3, padding=1), nn.GroupNorm(1, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(rows, n, 6) -> (rows, 5, n, 1)."""
        lines: torch.Tensor = self.linear(x)
        out: torch.Tensor = self.norm(self.wide(self.narrow(lines.mT[..., None])))
        return out


class Module(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.model = Network()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.model(x)
        return result


def factors(out: int, width: int, rank: int, scale: float = 1.0, kernel: tuple[int, ...] = ()) -> Factors:
    generator = torch.Generator().manual_seed(rank)
    down = torch.randn(rank, width, *kernel, generator=generator)
    return Factors(down, torch.randn(out, rank, *((1,) * len(kernel)), generator=generator), scale)


@pytest.mark.parametrize(
    ("layer", "own", "words"),
    [
        ("nowhere", factors(4, 6, 2), "denoiser has no such layers: nowhere"),
        ("linear", factors(4, 7, 2), "denoiser has layers of other shapes: linear"),
        ("linear", factors(5, 6, 2), "denoiser has layers of other shapes: linear"),
        ("linear", Factors(torch.ones(2, 6), torch.ones(2, 4), 1.0), "denoiser has layers of other shapes: linear"),
        ("linear", Factors(torch.ones(6, 6), torch.ones(6, 4), 1.0), "denoiser has layers of other shapes: linear"),
        ("linear", Factors(torch.ones(2, 3, 2, 1), torch.ones(4, 2), 1.0), "layers of other shapes: linear"),
        ("narrow", Factors(torch.ones(1, 2, 2, 1), torch.ones(5, 1, 1, 1), 1.0), "layers of other shapes: narrow"),
        ("narrow", factors(5, 4, 2, kernel=(3, 3)), "denoiser has layers of other shapes: narrow"),
        ("wide", factors(5, 5, 2, kernel=(3, 3)), "beyond linear layers and 1 x 1 convolutions: wide"),
        ("norm", factors(5, 5, 2), "beyond linear layers and 1 x 1 convolutions: norm"),
        ("linear", Factors(torch.full((2, 6), torch.nan), torch.ones(4, 2), 1.0), "not finite numbers: linear"),
        ("linear", factors(4, 6, 2, scale=float("inf")), "not finite numbers: linear"),
    ],
)
def test_what_does_not_fit_is_refused_by_route_and_layer(layer: str, own: Factors, words: str) -> None:
    with pytest.raises(BadInputError, match=f"adapter oil: .*{words}"):
        bank.build(Module(), "denoiser", [("oil", {"denoiser": {layer: own}}, 1.0)])


ROWS = [[(2, 1.0)], [(0, 1.0)], [(1, 0.5), (2, -1.0)], [(3, 1.0), (2, 0.0)], [(2, 2.0), (1, 1.0), (0, 3.0)]]
"""Index and scale of each row's adapters."""


def test_each_row_is_computed_with_its_own_adapters() -> None:
    loras = [
        {"denoiser": {"linear": factors(4, 6, 2, scale=0.5)}},
        {"denoiser": {"linear": factors(4, 6, 3), "narrow": factors(5, 4, 1, kernel=(1, 1))}},
        {"text_encoder": {"elsewhere": factors(1, 1, 1)}},
    ]
    scales = [1.0, -2.0, 1.0]
    adapters = [(str(i), lora, scale) for i, (lora, scale) in enumerate(zip(loras, scales, strict=True))]
    banked = bank.build(Module(), "denoiser", adapters)
    x, most = torch.randn(5, 7, 6), max(map(len, ROWS))
    chosen = torch.tensor([row + [(0, 0.0)] * (most - len(row)) for row in ROWS])
    ours = banked(x, chosen[..., 0].int(), chosen[..., 1])
    for row, own in enumerate(ROWS):
        merged = Module()
        for index, scale in own:
            for layer, parts in (loras[index - 1].get("denoiser", {}) if index else {}).items():
                weight: torch.Tensor = getattr(merged.model, layer).weight.data
                product = parts.up.flatten(1) @ parts.down.flatten(1)
                weight += scale * scales[index - 1] * parts.scale * product.view_as(weight)
        torch.testing.assert_close(ours[row], merged(x[row : row + 1])[0], rtol=1e-4, atol=1e-5)
