"""What `bench gpu` measures of `backends.plan` computes what the module does, on a GPU made of main memory."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from backends.plan import Options, Plan
from bench.counted_driver import Copied, Counted, MainMemory
from bench.torch_plan import DRIVER, stand_in
from families.interface import Component, Range, Tensor

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
    monkeypatch.setitem(sys.modules, DRIVER, MainMemory())
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


def test_only_what_has_changed_is_copied_and_every_copy_is_counted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    counts = tmp_path / "copied"
    assert Copied.read(counts) == (0, 0, 0, 0)
    monkeypatch.setitem(sys.modules, DRIVER, Counted(MainMemory(), counts))
    plan = Plan(stand_in(computed, COMPONENT, "cpu"), Path(os.devnull), Options())
    x, t = np.ones((2, 4, 8), np.float32), np.zeros((2, 1), np.int64)
    plan.infer({"x": x, "t": t})
    answered = 2 * 2 * 8 * 4 + 2 * 4
    assert Copied.read(counts) == (2, x.nbytes + t.nbytes, 2, answered)
    plan.infer({"x": x, "t": t.copy()})
    assert Copied.read(counts) == (3, x.nbytes + 2 * t.nbytes, 4, 2 * answered)
