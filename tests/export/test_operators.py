"""torch's operators that ONNX gets a form of ours for: as torch computes them, of any size, and traced once."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import openvino as ov
import pytest
import torch
from torch.nn import functional

from export.component import graph, operators
from export.engines import Work, load
from families.interface import Component, Range, Tensor

pytestmark = pytest.mark.slow
RANGES = {"rows": Range(1, 2, 4), "tokens": Range(0, 3, 8)}
SHAPES = ({"rows": 1, "tokens": 1}, {"rows": 2, "tokens": 3}, {"rows": 4, "tokens": 8}, {"rows": 3, "tokens": 0})
"""The last: of no reference pictures there are no tokens."""
WIDTH = 6
TOKENS = Component(
    name="one",
    role="encoder",
    weights="",
    inputs=(Tensor("x", "FP32", ("rows", "tokens", WIDTH)),),
    outputs=(Tensor("y", "FP32", ("rows", "tokens", "any")),),
    ranges={**RANGES, "any": Range(1, 1, 64)},
    shapes=SHAPES[:3],
    tolerance={},
)
Compute = Callable[..., torch.Tensor]


class Module(torch.nn.Module):
    """Computes `y`, its output, by a function."""

    def __init__(self, compute: Compute) -> None:
        super().__init__()
        self.compute = compute
        self.weight = torch.nn.Parameter(torch.linspace(0.5, 2.0, WIDTH))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.compute(x, self.weight) if self.compute is weighted else self.compute(x)


def weighted(x: torch.Tensor, weight: torch.Tensor | None = None) -> torch.Tensor:
    return functional.rms_norm(x, (WIDTH,), weight, 1e-6)


def turned(x: torch.Tensor) -> torch.Tensor:
    """Heads before tokens, and back, as attention has them."""
    return x.unflatten(-1, (2, -1)).transpose(1, 2).transpose(1, 2).flatten(2)


def changed(x: torch.Tensor) -> torch.Tensor:
    y = x * 2
    y[:, :, 1:].add_(1)
    return y


ONCE: dict[str, Compute] = {
    "converted": lambda x: (x * 3).to(torch.int64).to(torch.float16).to(torch.float32),
    "converted to its own type": lambda x: x.to(torch.float32) + x.to("cpu", torch.float32),
    "converted as another": lambda x: x.to(device="cpu", dtype=torch.float16).float(),
    "converted to no type": lambda x: x.to("cpu") * 2,
    "and": lambda x: ((x > 0) & (x < 1)).float(),
    "and of bits": lambda x: (x.abs() * 9).int() & (x.abs() * 5).int(),
    "and of two types": lambda x: ((x.abs() * 9).int() & (x.abs() * 5).long()).float(),
    "and of bits and a number": lambda x: ((x.abs() * 9).int() & ((x * 0).long().sum() + 5)).float(),
    "one number as an axis": lambda x: x * x.sum().flatten(),
    "dropout of nothing in training": lambda x: functional.dropout(x, 0.0, training=True) * 2,
    "dropout": lambda x: functional.dropout(x, 0.5, training=False) * 2,
    "heads": turned,
    "the first axes as one": lambda x: x.flatten(0, 1)[None],
    "axes of any size as one": lambda x: (x[:, :, None] + x[:, None]).flatten(1, 2),
    "axes before others": lambda x: x.unflatten(-1, (3, 2)).flatten(1, 2),
    "an axis taken apart": lambda x: x.transpose(1, 2).unflatten(1, (2, -1)).flatten(0, 1),
    "an axis of any size taken apart": lambda x: torch.cat((x, x), 1).unflatten(1, (2, -1)).flatten(0, 1),
    "parts as large as another": lambda x: x.flatten(0, 1).unflatten(0, (x.shape[0], x.shape[1])),
    "the last axes turned": lambda x: torch.bmm(x.mT, x)[:, :1],
    "halves": lambda x: torch.cat(x.chunk(2, dim=-1)[::-1], -1),
    "what nothing takes": lambda x: (torch.linalg.qr(x), x * 2)[1],
    "a norm of squares": lambda x: functional.rms_norm(x, (WIDTH,)),
    "a norm of squares in float64": lambda x: functional.rms_norm((x * 1e-4).double(), (WIDTH,)).float(),
    "a norm with weights": weighted,
    "a norm of two axes": lambda x: functional.rms_norm(x.unflatten(-1, (2, 3)), (2, 3), eps=1e-3).flatten(2),
}
ANEW: dict[str, Compute] = {
    "changed in place": changed,
    "one part": lambda x: x.chunk(1, dim=-1)[0] * 2,
    "parts that are fewer than asked for": lambda x: torch.cat(x.chunk(4, dim=-1)[::-1], -1),
    "parts that differ": lambda x: torch.cat(x[:, :, 1:].chunk(2, dim=-1)[::-1], -1),
    "an operator that has no form": lambda x: torch.movedim(x, 2, 1).movedim(1, 2) + torch.special.entr(x),
    "complex numbers": lambda x: torch.view_as_real(torch.view_as_complex(x.unflatten(-1, (3, 2))) * (1 + 2j)).flatten(
        2
    ),
    "one that is made of others": lambda x: torch.hsplit(x.movedim(2, 1), 2)[1],
}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether each graph was taken apart, and so traced once more."""
    seen = list[bool]()
    decomposed = operators.decomposed

    def watched(program: torch.export.ExportedProgram, *rest: object) -> torch.export.ExportedProgram:
        seen.append((made := decomposed(program, *rest)) is not program)  # type: ignore[arg-type]
        return made

    monkeypatch.setattr(operators, "decomposed", watched)
    return seen


def written(compute: Compute, folder: Path, engine: str, precision: str, *targets: str) -> Path:
    work = Work(folder / "model.onnx", TOKENS, precision, folder, folder, lambda _: None)
    module = Module(compute).eval()
    with torch.no_grad():
        graph.write(module, [torch.rand(2, 3, WIDTH)], work, load(engine, targets))
    return work.onnx


@pytest.mark.parametrize("name", [*ONCE, *ANEW])
def test_it_computes_what_torch_does(name: str, tmp_path: Path, asked: list[bool]) -> None:
    compute = {**ONCE, **ANEW}[name]
    run = ov.Core().compile_model(str(written(compute, tmp_path, "openvino", "fp32")), "CPU")
    assert asked == [name in ANEW]
    module = Module(compute).eval()
    for sizes in SHAPES:
        x = torch.randn(sizes["rows"], sizes["tokens"], WIDTH).half().float()  # OpenVINO leaves conversions out
        with torch.no_grad():
            expected = module(x).numpy()
        found = next(iter(run([x.numpy()]).values()))
        assert found.shape == expected.shape
        assert np.allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("kind", ["fp16", "bf16"])
def test_a_norm_is_of_float32_in_narrow_types(kind: str, tmp_path: Path) -> None:
    """Squares of 300 and more are beyond what fp16 holds."""
    pytest.importorskip("tensorrt_rtx")
    file = written(weighted, tmp_path, "tensorrt_rtx", kind, "8.9")
    run = ov.Core().compile_model(str(file), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    x = torch.randn(2, 5, WIDTH) * 1000
    with torch.no_grad():
        expected = weighted(x, Module(weighted).weight)
    assert np.allclose(next(iter(run([x.numpy()]).values())), expected.numpy(), rtol=1e-2, atol=1e-2)


def test_halves_are_tensors_and_no_sequence(tmp_path: Path) -> None:
    made = onnx.load(written(ONCE["halves"], tmp_path, "openvino", "fp32"))
    assert {node.op_type for node in made.graph.node} == {"Split", "Concat"}


def test_a_margin_is_the_convolution_s_own_in_engines_of_gpus(tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx")

    def convolved(x: torch.Tensor) -> torch.Tensor:
        return functional.conv2d(functional.pad(x[:, None], (0, 1, 0, 1)), torch.ones(1, 1, 2, 2))[:, 0]

    made = onnx.load(written(convolved, tmp_path, "tensorrt_rtx", "fp32", "8.9"))
    assert "Pad" not in {node.op_type for node in made.graph.node}
