"""What `bench gpu` measures of `backends.plan` computes what the module does, on a GPU made of main memory."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from backends.plan import Options, Plan
from bench.torch_plan import stand_in
from families.interface import Component, Range, Tensor
from tests.backends.test_tensorrt_rtx import Driver

COMPONENT = Component(
    name="denoiser",
    role="denoiser",
    weights="unet",
    inputs=(Tensor("x", "FP32", ("rows", 4, "width")), Tensor("t", "INT64", ("rows", 1))),
    outputs=(Tensor("y", "FP32", ("rows", 2, "width")), Tensor("sum", "FP32", ("rows", 1))),
    ranges={"rows": Range(1, 2, 8), "width": Range(4, 8, 16)},
    shapes=(),
)


def computed(x: torch.Tensor, t: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return (x[:, :2] * 2 + t[:, :, None]).half(), x.sum((1, 2))[:, None]


def test_a_plan_by_torch_gives_what_the_module_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cuda.bindings.driver", Driver())
    plan = Plan(stand_in(computed, COMPONENT, "cpu"), Path(os.devnull), Options(cuda_graphs=True))
    assert [tensor.largest for tensor in plan.inputs] == [(8, 4, 16), (8, 1)]
    assert [tensor.shape for tensor in plan.outputs] == [(-1, 2, -1), (-1, 1)]
    for rows, width in ((1, 4), (8, 16), (3, 5)):
        x = np.random.default_rng(rows).normal(size=(rows, 4, width)).astype(np.float32)
        t = np.full((rows, 1), rows, np.int64)
        y, total = (tensor.numpy() for tensor in computed(torch.from_numpy(x), torch.from_numpy(t)))
        made = plan.infer({"x": x, "t": t})
        assert np.array_equal(made["y"], y.astype(np.float32))
        assert np.array_equal(made["sum"], total)
    with pytest.raises(ValueError, match="outside the engine's profile"):
        plan.infer({"x": np.zeros((9, 4, 4), np.float32), "t": np.zeros((9, 1), np.int64)})
