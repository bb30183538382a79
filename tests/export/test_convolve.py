"""Linear layers of int8 that are convolutions, for processors where these are faster: what an engine makes of them."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import onnx
import pytest
import torch
from diffusers.models.activations import GEGLU
from torch import nn

from backends.processor import HELD
from export.component import bank, graph, layers
from export.component.weights import Weights
from export.engines import Work, load, openvino
from families.interface import Component, Range, Tensor
from families.parts.lora import Factors

pytestmark = pytest.mark.slow
WIDTH = 128
ADAPTERS = [torch.tensor([[1, 0], [0, 0]]).int(), torch.ones(2, 2)]


@pytest.fixture
def least(monkeypatch: pytest.MonkeyPatch) -> None:
    """Exports for AVX2, where layers of this width are convolutions, and no layer stays wide for its error."""
    monkeypatch.setenv(HELD, "AVX2")
    monkeypatch.setattr(openvino, "CONVOLVED", WIDTH)
    monkeypatch.setattr(layers, "WIDE_SHARE", 0.0)


class Products(nn.Module):
    """Linear layers of rows of tokens, and of rows alone: with a bias and without, wide, and one that is not."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.model = nn.ModuleDict({name: nn.Linear(WIDTH, WIDTH, bias=name != "k") for name in ("q", "k", "time")})
        self.model["down"], self.model["up"] = nn.Linear(WIDTH, WIDTH // 2), nn.Linear(WIDTH // 2, WIDTH)

    def forward(self, x: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        """(rows, tokens, n), (rows, n) -> (rows, tokens, n)."""
        made: torch.Tensor = self.model["q"](x).sin() * self.model["k"](x) + self.model["time"](time)[:, None]
        out: torch.Tensor = self.model["up"](self.model["down"](made))
        return out


class Gated(nn.Module):
    """A transformer's own: a layer whose outputs are halved, one half the other's gate, and a layer that takes that."""

    def __init__(self, outputs: int = WIDTH, *, looked_at: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.looked_at = looked_at
        self.model = nn.ModuleDict({"gate": GEGLU(WIDTH // 2, 4 * WIDTH), "down": nn.Linear(4 * WIDTH, outputs)})

    def forward(self, x: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        """(rows, tokens, n), (rows, n) -> (rows, tokens, n). `looked_at`: it has tokens' mean of the middle."""
        made: torch.Tensor = self.model["gate"](x[..., : WIDTH // 2] + time[:, None, : WIDTH // 2])
        out: torch.Tensor = self.model["down"](made)
        return out + made.mean(1, keepdim=True)[..., :WIDTH] if self.looked_at else out


class Parts(nn.Module):
    """A layer of so many parts, of which two are taken, and a layer that takes what becomes of them."""

    def __init__(self, count: int, *, squared: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.count, self.squared = count, squared
        parts = nn.Linear(WIDTH, count * WIDTH, bias=False)
        self.model = nn.ModuleDict({"parts": parts, "down": nn.Linear(WIDTH, WIDTH)})

    def forward(self, x: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        """(rows, tokens, n), (rows, n) -> (rows, tokens, n)."""
        first, gate = self.model["parts"](x + time[:, None]).chunk(self.count, -1)[:2]
        out: torch.Tensor = self.model["down"](first * (gate * gate if self.squared else gate.sigmoid()))
        return out


def work(folder: Path) -> Work:
    x, time = Tensor("x", "FP32", ("rows", "tokens", WIDTH)), Tensor("time", "FP32", ("rows", WIDTH))
    ranges, sizes = {"rows": Range(1, 2, 8), "tokens": Range(1, 5, 64)}, ({"rows": 1, "tokens": 5},) * 3
    one = Component("products", "denoiser", "", (x, time), (replace(x, name="y"),), ranges, sizes, {})
    return Work(folder / "model.onnx", bank.extend(one), "int8", folder, folder)


def samples() -> list[list[torch.Tensor]]:
    return [[torch.randn(2, n, WIDTH), torch.randn(2, WIDTH), *ADAPTERS] for n in (5, 9, 64)]


def factors(inputs: int, outputs: int) -> Factors:
    return Factors(torch.randn(4, inputs) / 9, torch.randn(outputs, 4) / 9, 1.0)


def made(
    module: nn.Module, folder: Path, given: Sequence[list[torch.Tensor]], wide: str = ""
) -> tuple[Counter[str], layers.Narrowed]:
    """Its operators, of which `Copy` are turns of pictures, and what was narrowed: all but the layer `wide`.

    Its engine's outputs are near its own at all of `given`."""
    with torch.no_grad():
        exact = [module(*one) for one in given]
    engine, asked = load("openvino"), work(folder)
    scheme, chosen = engine.scheme("int8"), list[layers.Narrowed]()
    assert scheme is not None

    def choose(weights: Weights) -> layers.Narrowed:
        found = layers.of(weights, scheme, given)
        left = id(module.get_submodule(wide)) if wide else 0
        chosen.append(replace(found, layers={one: how for one, how in found.layers.items() if one != left}))
        return chosen[0]

    graph.write(module, given[0], asked, engine, choose)
    model = onnx.load(asked.onnx)
    onnx.checker.check_model(model)
    engine.compile(asked)
    run = engine.open(asked)
    for sample, expected in zip(given, exact, strict=True):
        named = zip(asked.component.inputs, sample, strict=True)
        found = torch.from_numpy(run({tensor.name: one.numpy() for tensor, one in named})["y"])
        assert 0 < float((found - expected).norm() / expected.norm()) < 5e-2
    used = Counter(node.op_type for node in model.graph.node)
    used["Copy"] = sum(len(node.attribute[0].ints) == 4 for node in model.graph.node if node.op_type == "Transpose")
    return used, chosen[0]


def test_wide_linear_layers_are_convolutions_where_these_are_faster(tmp_path: Path, least: None) -> None:
    adapters = [("oil", {"denoiser": {"q": factors(WIDTH, WIDTH)}}, 1.0)]
    used, chosen = made(bank.build(Products(), "denoiser", adapters), tmp_path, samples())
    assert chosen.slower == ("module.model.up",)
    assert used["Conv"] == len(chosen.layers) == 4
    assert used["QuantizeLinear"] == 3, "q and k share theirs"


@pytest.mark.parametrize(
    ("looked_at", "adapted", "expected"),
    [(False, None, (3, 2)), (True, None, (3, 5)), (False, "gate.proj", (2, 4)), (False, "down", (3, 5))],
)
def test_between_a_gated_layer_and_the_next_nothing_is_copied(
    tmp_path: Path, least: None, *, looked_at: bool, adapted: str | None, expected: tuple[int, int]
) -> None:
    """But where more is taken of it, as an adapter takes a layer's inputs. `expected`: convolutions, copies."""
    shapes = {"gate.proj": (WIDTH // 2, 8 * WIDTH), "down": (4 * WIDTH, WIDTH)}
    adapters = [("oil", {"denoiser": {adapted: factors(*shapes[adapted])}}, 1.0)] if adapted else []
    used, chosen = made(bank.build(Gated(looked_at=looked_at), "denoiser", adapters), tmp_path, samples())
    assert chosen.slower == ()
    assert len(chosen.layers) == 2
    assert (used["Conv"], used["Copy"]) == expected


@pytest.mark.parametrize(("outputs", "expected"), [(WIDTH, (3, 2)), (8 * WIDTH, (2, 3))])
def test_a_wide_layer_behind_a_gated_one_is_a_convolution_of_floats(
    tmp_path: Path, least: None, outputs: int, expected: tuple[int, int]
) -> None:
    """If it has fewer outputs, which are copied instead. `expected`: as above."""
    used, chosen = made(bank.build(Gated(outputs), "denoiser", []), tmp_path, samples(), "module.model.down")
    assert len(chosen.layers) == 1
    assert (used["Conv"], used["Copy"]) == expected


@pytest.mark.parametrize(("count", "squared", "expected"), [(2, False, (3, 2)), (3, False, (2, 4)), (2, True, (3, 5))])
def test_parts_are_halves_if_there_are_no_others(
    tmp_path: Path, least: None, *, count: int, squared: bool, expected: tuple[int, int]
) -> None:
    """And are copied where one is taken twice, which OpenVINO computes wrongly of pictures. `expected`: as above."""
    used, chosen = made(bank.build(Parts(count, squared=squared), "denoiser", []), tmp_path, samples())
    assert len(chosen.layers) == 2
    assert (used["Conv"], used["Copy"]) == expected
