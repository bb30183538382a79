"""NVFP4: the arithmetic, what lies in the ONNX file, what checks it without a GPU, and the plan of it."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto

from export.adapters import Bank
from export.checkpoint import find
from export.component import graph, layers, narrow, nvfp4
from export.component.build import Builder, Make
from export.component.layers import Narrowed, narrow_weight
from export.component.schemes import SCHEMES
from export.component.weights import Weights
from export.engines import Work, load, reference
from families import load as load_family
from families.interface import DENOISER, Component, Limits, Tensor
from tests.export.simple import SIMPLE
from tests.families import tiny

pytest.importorskip("tensorrt_rtx")
pytestmark = pytest.mark.slow
NVFP4, WIDTH, DEPTH = SCHEMES["nvfp4"], 1024, 4
KINDS = {TensorProto.FLOAT4E2M1: "nvfp4", TensorProto.FLOAT8E4M3FN: "fp8"}


class Mixed(torch.nn.Module):
    """A convolution, and products of 4, 3 and 2 axes, and of inputs that do not divide into blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = torch.nn.Conv2d(3, 512, 3, padding=1)
        self.pictures, self.tokens, self.flat = (torch.nn.Linear(512, 512) for _ in range(3))
        self.odd = torch.nn.Linear(520, 512)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(rows, 3, 8, width) -> (rows, 512)."""
        dtype = self.tokens.weight.dtype
        made = self.convolution(x.to(dtype)).permute(0, 2, 3, 1)  # (rows, 8, width, 512)
        made = self.tokens(self.pictures(made.mean(1, keepdim=True)).squeeze(1))  # (rows, width, 512)
        made = self.flat(made.reshape(-1, 512)).view_as(made)
        odd: torch.Tensor = self.odd(torch.nn.functional.pad(made, (0, 8)))
        return odd.mean(1).float()


def mixed() -> Component:
    ends = {"inputs": (Tensor("x", "FP32", ("rows", 3, 8, "width")),), "outputs": (Tensor("y", "FP32", ("rows", 512)),)}
    return replace(SIMPLE, name="mixed", **ends)


def write(
    folder: Path, module: torch.nn.Module, component: Component, samples: Sequence[torch.Tensor]
) -> tuple[Work, Narrowed]:
    """For TensorRT for RTX in NVFP4, and which layers that took."""
    asked, chosen = Work(folder / "model.onnx", component, "nvfp4", folder, folder), list[Narrowed]()

    def choose(weights: Weights) -> Narrowed:
        chosen.append(layers.of(weights, NVFP4, [[one] for one in samples]))
        return chosen[0]

    graph.write(module, [samples[0]], asked, load("tensorrt_rtx", ["12.0"]), choose)
    return asked, chosen[0]


def linear() -> torch.nn.Sequential:
    """The same at every call."""
    torch.manual_seed(1)
    return torch.nn.Sequential(*(torch.nn.Linear(WIDTH, WIDTH) for _ in range(DEPTH)))


class Floats(torch.nn.Module):
    """`inner` in its own type, with float32 outside."""

    def __init__(self, inner: torch.nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = self.inner(x.to(next(self.inner.parameters()).dtype))
        return made.float()


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Work:
    """The layers of `linear`, one after another, in NVFP4."""
    inputs, outputs = (((Tensor(name, "FP32", ("rows", "width", WIDTH)),)) for name in "xy")
    component = replace(SIMPLE, name="tokens", inputs=inputs, outputs=outputs)
    return write(tmp_path_factory.mktemp("written"), Floats(linear()), component, [torch.randn(2, 6, WIDTH)])[0]


def test_numbers_are_rounded_as_e2m1_is() -> None:
    """Beside another's rounding, halfway cases among them."""
    x = torch.cat([torch.arange(-8, 8, 1 / 64), torch.randn(4096) * 2])
    ours = nvfp4.numbers(x, torch.ones(()))
    theirs = x.numpy().clip(-6, 6).astype(ml_dtypes.float4_e2m1fn).astype(np.float32)
    assert np.array_equal(ours.numpy(), theirs)
    assert sorted(set(ours.abs().tolist())) == [0, 0.5, 1, 1.5, 2, 3, 4, 6]


def test_what_is_rounded_is_near_whatever_its_size() -> None:
    x = torch.randn(4, 64, generator=torch.Generator().manual_seed(1)) * torch.tensor([1e-2, 1.0, 30.0, 0.0])[:, None]
    rounded = nvfp4.rounded(x, nvfp4.tensor_scale(x.abs().amax()))
    rows = (rounded - x).norm(dim=1) / x.norm(dim=1).clamp(min=1e-9)
    assert float(rows.max()) < 0.15
    assert not rounded[3].any(), "a block of zeros stays one"
    outside = nvfp4.rounded(10 * x, nvfp4.tensor_scale(x.abs().amax()))
    assert float(outside.abs().max()) == pytest.approx(float(x.abs().max())), "as far as was calibrated"


def test_the_file_holds_what_torch_emulates_bit_for_bit(written: Work) -> None:
    lying = {one.name: one for one in onnx.load(written.onnx).graph.initializer}
    for place, layer in enumerate(linear()):
        parts = [lying[f"module.inner.{place}.weight.{what}"] for what in ("narrow", "scales", "scale")]
        kinds = [TensorProto.FLOAT4E2M1, TensorProto.FLOAT8E4M3FN, TensorProto.FLOAT]
        assert [one.data_type for one in parts] == kinds
        assert len(parts[0].raw_data) == WIDTH * WIDTH // 2
        dequantised = by_hand(parts[0].raw_data, parts[1].raw_data, onnx.numpy_helper.to_array(parts[2]))
        weight = layer.weight.detach()
        values, steps = narrow_weight(weight, NVFP4)
        assert np.array_equal(dequantised, (values * steps).flatten(1).numpy())
        assert float(np.linalg.norm(dequantised - weight.numpy()) / np.linalg.norm(weight.numpy())) < 0.12


def by_hand(numbers: bytes, scales: bytes, scale: NDArray[Any]) -> NDArray[np.float32]:
    """What the bits mean, by the formats' own definitions: (out, in)."""
    pairs = np.frombuffer(numbers, np.uint8)
    codes = np.stack([pairs & 15, pairs >> 4], 1).reshape(WIDTH, -1, nvfp4.BLOCK)  # the lower half comes first
    e2m1 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6], np.float32)[codes & 7] * np.where(codes & 8, -1, 1).astype(np.float32)
    bits = np.frombuffer(scales, np.uint8).astype(np.int32)
    exponent, fraction = bits >> 3, (bits & 7) / 8
    e4m3 = np.where(exponent > 0, (1 + fraction) * 2.0 ** (exponent - 7), fraction * 2.0**-6).astype(np.float32)
    steps = e4m3.reshape(WIDTH, -1, 1) * scale.astype(np.float32)
    found: NDArray[np.float32] = (e2m1 * steps).reshape(WIDTH, -1)
    return found


def test_each_layer_takes_what_it_can(tmp_path: Path) -> None:
    torch.manual_seed(1)
    module = Mixed()
    asked, chosen = write(tmp_path, module, mixed(), [torch.randn(2, 3, 8, 6) for _ in range(2)])
    taken = {name: chosen.layers[id(one)].scheme.weights for name, one in module.named_children()}
    assert taken == {"convolution": "fp8", "pictures": "fp8", "odd": "fp8", "tokens": "nvfp4", "flat": "nvfp4"}
    assert chosen.counts() == {"fp8": 3, "nvfp4": 2, "wide": 0}
    numbers = onnx.load(asked.onnx, load_external_data=False).graph.initializer
    lying = {one.name.split(".")[-3]: KINDS[one.data_type] for one in numbers if one.name.endswith("weight.narrow")}
    assert lying == taken
    load("tensorrt_rtx", ["12.0"]).compile(asked)
    assert (tmp_path / "model.plan").exists()


def test_weights_lie_in_the_plan_in_four_bits(written: Work) -> None:
    numbers = DEPTH * WIDTH**2
    load("tensorrt_rtx", ["12.0"]).compile(written)
    size = (written.folder / "model.plan").stat().st_size
    assert numbers * 9 / 16 < size < numbers, "4 bits with their scales and all code are fewer than 8 bits alone"


def test_openvino_computes_as_torch_emulates(tmp_path: Path) -> None:
    """What rounds inputs is TensorRT's operator; what the check reads instead is held to torch."""
    x = torch.randn(4, 8, 64, generator=torch.Generator().manual_seed(3)) * torch.logspace(-4, 1, 32).view(4, 8, 1)
    scale = nvfp4.tensor_scale(x.abs().amax())
    file = tmp_path / "m.onnx"
    onnx.save(rounding(float(scale)), file)
    made = torch.from_numpy(reference.open_onnx(file, SIMPLE)({"x": x.numpy()})["y"])
    expected = nvfp4.rounded(x, scale)
    assert float((expected - x).norm() / x.norm()) > 0.05
    assert float((made - expected).norm() / expected.norm()) < 5e-3, "one number in thousands may be at a boundary"
    assert [node.domain for node in onnx.load(file).graph.node].count(narrow.DOMAIN) == 1, "the file stays as it is"


def rounding(scale: float) -> onnx.ModelProto:
    """x (rows, 8, 64) as it is computed with in NVFP4, float32."""
    helper = onnx.helper
    attributes = {"axis": -1, "block_size": nvfp4.BLOCK, "scale_type": TensorProto.FLOAT8E4M3FN}
    nodes = [
        helper.make_node(narrow.DYNAMIC, ["x", "scale"], ["numbers", "scales"], domain=narrow.DOMAIN, **attributes),
        helper.make_node("DequantizeLinear", ["scales", "scale"], ["of_blocks"]),
        helper.make_node("DequantizeLinear", ["numbers", "of_blocks"], ["wide"], axis=-1, block_size=nvfp4.BLOCK),
        helper.make_node("Identity", ["wide"], ["y"]),
    ]
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 8, 64]) for name in "xy"]
    constant = helper.make_tensor("scale", TensorProto.FLOAT, [], [scale])
    opsets = [helper.make_opsetid("", narrow.FLOAT4_OPSET), helper.make_opsetid(narrow.DOMAIN, 1)]
    whole = helper.make_graph(nodes, "g", ports[:1], ports[1:], [constant])
    return helper.make_model(whole, ir_version=narrow.FLOAT4_IR_VERSION, opset_imports=opsets)


class Silent:
    """A bar of nobody's."""

    def __call__(self, stage: str) -> None:
        """A stage begins."""

    def part(self, done: float) -> None:
        """Of a stage."""


@pytest.mark.long
@pytest.mark.parametrize(("family", "kinds"), [("instruct_pix2pix", {"nvfp4", "fp8"}), ("flux2_klein", {"nvfp4"})])
def test_a_familys_denoiser_compiles_and_is_near(family: str, kinds: set[str], tmp_path: Path) -> None:
    """Calibrated on noise, since edits take minutes."""
    found = find(str(tiny.checkpoint(family)), None)
    modules = load_family(family, "modules")
    table = load_family(family, "table").components(found.path, Limits(128 * 128, 3))
    component = next(one for one in table if one.name == DENOISER)
    (tmp_path / DENOISER).mkdir()
    generator, sizes = torch.Generator().manual_seed(1), component.shapes[0]
    inputs = {one.name: modules.sample(one, one.shape(sizes), generator).numpy() for one in component.inputs}
    np.savez(tmp_path / DENOISER / "0000.npz", **inputs)
    (made := tmp_path / "made").mkdir()
    builder = Builder(found, modules, load("tensorrt_rtx", ["12.0"]), Bank((), (), {}), tmp_path, tmp_path)
    builder.build(Make(component, "nvfp4", ""), made, Silent())
    record = json.loads((made / "component.json").read_text())
    assert {kind for kind, count in record["layers"].items() if count} - {"wide"} == kinds
    assert 0 < record["error"] <= record["tolerance"] == 0.4
    assert [file.name for file in (made / "1").iterdir()] == ["model.plan"]
    assert not list(made.glob("*.onnx*")), "nor what the check read"
