"""Layers of fewer bits: what an engine makes of them, beside torch, and which ones stay as they are."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import safetensors.torch
import torch
from torch import nn

from export.component import graph, layers
from export.component.layers import Layer, input_scale, narrow_weight
from export.component.schemes import SCHEMES
from export.component.weights import Weights
from export.engines import load
from families.interface import Tensor
from families.parts import pretrained
from tests.export.test_weights import Wrapped, stack, work

pytestmark = pytest.mark.slow
WIDTH = 128


@pytest.mark.parametrize(
    ("precision", "kind", "bytes_a_weight", "error"),
    [("int8", "INT8", 1, 3e-2), ("w8", "INT8", 1, 2e-2), ("w4", "INT4", 0.5, 0.2)],
)
def test_an_engine_of_fewer_bits_is_near_and_as_small(
    tmp_path: Path, precision: str, kind: str, bytes_a_weight: float, error: float
) -> None:
    engine, asked = load("openvino"), work(tmp_path, WIDTH, precision)
    module = Wrapped(stack(tmp_path / "stack", WIDTH, 2, torch.bfloat16))
    samples = [[torch.randn(2, WIDTH, generator=torch.Generator().manual_seed(n))] for n in range(4)]
    exact = pretrained.fill(Wrapped(tmp_path / "stack"), torch.float32)
    scheme = SCHEMES[precision]
    graph.write(module, samples[0], asked, engine, lambda weights: layers.of(weights, scheme, samples))
    model = onnx.load(asked.onnx, load_external_data=False)
    large = {
        onnx.TensorProto.DataType.Name(t.data_type) for t in model.graph.initializer if np.prod(t.dims) == WIDTH**2
    }
    assert large == {kind}
    assert any(node.op_type == "QuantizeLinear" for node in model.graph.node) == scheme.activations
    engine.compile(asked)
    run = engine.open(asked)
    for (x,) in samples:
        made, expected = torch.from_numpy(run({"x": x.numpy()})["y"]), exact(x)
        assert 0 < float((made - expected).norm() / expected.norm()) < error
    size = (asked.folder / "model.bin").stat().st_size
    assert size < 2 * WIDTH**2 * bytes_a_weight + 2 * 4 * WIDTH * (1 + WIDTH // layers.BLOCK) + 1024


def test_the_layer_that_narrowing_hurts_most_stays_wide(tmp_path: Path) -> None:
    folder = stack(tmp_path / "stack", WIDTH, 24, torch.float32)
    file = folder / "diffusion_pytorch_model.safetensors"
    weights = safetensors.torch.load_file(file)
    weights["layers.7.weight"][:, 3] = 300 * weights["layers.7.weight"].abs().amax()  # all others share its steps
    weights["layers.6.weight"][3], weights["layers.6.bias"][3] = 0.0, 0.0
    safetensors.torch.save_file(weights, file, {"format": "pt"})
    module = Weights(Wrapped(folder), torch.float32)
    chosen = layers.of(module, SCHEMES["int8"], [[torch.randn(2, WIDTH)] for _ in range(3)])
    assert chosen.wide == ("model.layers.7",)
    assert len(chosen.layers) == 23
    assert len(layers.of(module, SCHEMES["w8"], ()).layers) == 24, "weights alone need no samples"


@pytest.mark.parametrize("precision", ["int8", "w4", "w8", "fp8"])
@pytest.mark.parametrize("shape", [(8, 128), (8, 16, 3, 3), (8, 100)])
def test_a_narrow_weight_is_near_the_weight(precision: str, shape: tuple[int, ...]) -> None:
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(1)) * torch.logspace(-3, 3, 8).view(
        8, *[1] * (len(shape) - 1)
    )
    numbers, scales = narrow_weight(weight, SCHEMES[precision])
    again = (numbers.float() * scales).reshape(shape)
    rows = (again - weight).flatten(1).norm(dim=1) / weight.flatten(1).norm(dim=1)
    assert float(rows.max()) < {"w4": 0.2, "fp8": 0.04}.get(precision, 0.01)
    assert SCHEMES[precision].bits == (4 if precision == "w4" else 8)


@pytest.mark.parametrize("pixels", [1, 3])
def test_four_bits_are_of_convolutions_too(tmp_path: Path, pixels: int) -> None:
    """Of as many channels as divide into blocks, which are linear layers' alone."""
    torch.manual_seed(0)
    channels, folders = layers.BLOCK, work(tmp_path, WIDTH, "w4")
    module, x = nn.Sequential(nn.Conv2d(channels, channels, pixels)), torch.randn(2, channels, 4, 4)
    given, made = (Tensor(name, "FP32", ("rows", channels, *sides)) for name, *sides in (("x", 4, 4), ("y", "h", "w")))
    asked = replace(folders, component=replace(folders.component, inputs=(given,), outputs=(made,)))
    with torch.no_grad():
        expected = module(x)
    engine = load("openvino")
    graph.write(module, [x], asked, engine)
    engine.compile(asked)
    found = torch.from_numpy(engine.open(asked)({"x": x.numpy()})["y"])
    assert 0 < float((found - expected).norm() / expected.norm()) < 0.2


@pytest.mark.parametrize(("low", "high"), [(-0.278, 6.0), (0.5, 2.0), (-3.0, -1.0), (0.0, 0.0)])
def test_the_numbers_of_an_input_reach_over_its_range_and_have_zero(low: float, high: float) -> None:
    step, zero = input_scale(Layer(SCHEMES["int8"], low, high))
    assert 0 <= zero <= 255
    assert -zero * step <= min(low, 0) + step
    assert (255 - zero) * step >= max(high, 0) - step
