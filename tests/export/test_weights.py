"""Weights while a component is made: where they lie, what they are rounded to, and what they take of memory."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import onnx
import pytest
import safetensors.torch
import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import nn

from export.component import graph, initializers
from export.component.weights import LARGE_BYTES, Large, Weights
from export.engines import Work, load
from families.interface import Component, Range, Tensor
from families.parts import pretrained
from tests.conftest import ROOT

pytestmark = pytest.mark.slow
CPU = torch.device("cpu")


class Stack(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """Layers of one width, one after another."""

    @register_to_config
    def __init__(self, width: int, depth: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(*(nn.Linear(width, width) for _ in range(depth)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = self.layers(x)
        return made


class Wrapped(nn.Module):
    """As a family's module is."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.model = pretrained.load(Stack, folder)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = self.model(x.to(self.model.dtype))
        return made.float()


def stack(folder: Path, width: int, depth: int, dtype: torch.dtype) -> Path:
    """A component's folder, its weights in one file."""
    torch.manual_seed(0)
    weights: dict[str, torch.Tensor] = {}
    for layer in range(depth):
        weights[f"layers.{layer}.weight"] = (torch.randn(width, width) / width**0.5).to(dtype)
        weights[f"layers.{layer}.bias"] = torch.randn(width).to(dtype)
    folder.mkdir()
    safetensors.torch.save_file(weights, folder / "diffusion_pytorch_model.safetensors", {"format": "pt"})
    with torch.device("meta"):
        Stack(width, depth).save_config(folder)
    return folder


def component(width: int) -> Component:
    ends = {"inputs": (Tensor("x", "FP32", ("rows", width)),), "outputs": (Tensor("y", "FP32", ("rows", width)),)}
    sizes = ({"rows": 1}, {"rows": 2}, {"rows": 8})
    return Component("stack", "encoder", "", **ends, ranges={"rows": Range(1, 2, 8)}, shapes=sizes, tolerance={})


def work(folder: Path, width: int, precision: str) -> Work:
    made = folder / "made"
    made.mkdir(exist_ok=True)
    return Work(made / "model.onnx", component(width), precision, made, made)


@pytest.mark.parametrize(
    ("lying", "precision", "kept", "error"),
    [
        (torch.bfloat16, "bf16", "BFLOAT16", 1e-2),
        (torch.bfloat16, "fp32", "BFLOAT16", 1e-5),
        (torch.float16, "fp32", "FLOAT16", 1e-5),
        (torch.float32, "fp32", "FLOAT", 1e-5),
        (torch.float32, "bf16", "FLOAT16", 1e-2),
    ],
)
def test_openvino_keeps_narrow_weights_as_they_lie(
    tmp_path: Path, lying: torch.dtype, precision: str, kept: str, error: float
) -> None:
    width, engine = 128, load("openvino")
    module, asked = Wrapped(stack(tmp_path / "stack", width, 2, lying)), work(tmp_path, width, precision)
    x = torch.randn(2, width)
    expected = pretrained.fill(Wrapped(tmp_path / "stack"), torch.float32)(x)
    graph.write(module, [x], asked, engine)
    model = onnx.load(asked.onnx, load_external_data=False)
    outside = [one for one in model.graph.initializer if one.data_location == onnx.TensorProto.EXTERNAL]
    assert {onnx.TensorProto.DataType.Name(one.data_type) for one in outside} == {kept}
    linked = {entry.value for one in outside for entry in one.external_data if entry.key == "location"}
    assert linked == {"model.onnx.0" if (kept != "FLOAT16" or lying == torch.float16) else "model.onnx.data"}
    engine.compile(asked)
    made = torch.from_numpy(engine.open(asked)({"x": x.numpy()})["y"])
    assert float((made - expected).norm() / expected.norm()) < error
    size = (asked.folder / "model.bin").stat().st_size
    assert size < 2 * width * width * (4 if kept == "FLOAT" else 2) + 8 * width * 4, "nothing is kept wide beside"


def test_a_number_that_is_too_large_for_fp16_is_kept_wide(tmp_path: Path) -> None:
    folder = stack(tmp_path / "stack", 128, 1, torch.float32)
    file = folder / "diffusion_pytorch_model.safetensors"
    weights = safetensors.torch.load_file(file)
    weights["layers.0.weight"][3, 5] = 1e6
    safetensors.torch.save_file(weights, file, {"format": "pt"})
    asked = work(tmp_path, 128, "bf16")
    graph.write(Wrapped(folder), [torch.ones(2, 128)], asked, load("openvino"))
    model = onnx.load(asked.onnx, load_external_data=False)
    large = next(one for one in model.graph.initializer if one.dims[:] == [128, 128])
    assert onnx.TensorProto.DataType.Name(large.data_type) == "FLOAT"


def test_where_no_link_can_be_the_weights_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_names: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr("os.link", refused)
    asked, folder = work(tmp_path, 128, "fp32"), stack(tmp_path / "stack", 128, 2, torch.bfloat16)
    graph.write(Wrapped(folder), [torch.ones(2, 128)], asked, load("openvino"))
    assert sorted(file.name for file in asked.folder.iterdir()) == ["model.onnx", "model.onnx.data"]
    written = onnx.load(asked.onnx)
    here = safetensors.torch.load_file(folder / "diffusion_pytorch_model.safetensors")["layers.1.weight"]
    stored = next(one for one in written.graph.initializer if "layers.1.weight" in one.name)
    assert onnx.numpy_helper.to_array(stored).astype("float32").tolist() == here.float().tolist()


def test_a_link_of_the_hubs_is_followed(tmp_path: Path) -> None:
    folder = stack(tmp_path / "stack", 128, 1, torch.float32)
    file = folder / "diffusion_pytorch_model.safetensors"
    file.rename(tmp_path / "blob")
    file.symlink_to("../blob")
    asked = work(tmp_path, 128, "fp32")
    graph.write(Wrapped(folder), [torch.ones(2, 128)], asked, load("openvino"))
    link = asked.onnx.with_name("model.onnx.0")
    assert not link.is_symlink()
    assert link.samefile(tmp_path / "blob")


def test_torch_computes_with_weights_rounded_as_the_engines(tmp_path: Path) -> None:
    module = Wrapped(stack(tmp_path / "stack", 128, 3, torch.float32))
    x = torch.randn(4, 128)
    rounded = pretrained.fill(pretrained.fill(Wrapped(tmp_path / "stack"), torch.float16), torch.float32)
    weights = Weights(module, torch.float16)
    weights.widen(torch.float32)
    with weights.computing(CPU) as compute:
        assert torch.equal(compute(x)[0], rounded(x))
        assert not module.model.layers[0].weight.any(), "a placeholder, before and after its own forward"


def test_a_large_weight_is_lent_to_its_own_layer_alone(tmp_path: Path) -> None:
    module = Wrapped(stack(tmp_path / "stack", 128, 2, torch.float32))
    seen: list[tuple[bool, bool]] = []
    layers = module.model.layers

    def look(*_given: Any) -> None:
        seen.append(tuple(bool(layer.weight.any()) for layer in layers))

    weights = Weights(module, torch.float32)
    with weights.computing(CPU) as compute:
        for layer in layers:
            layer.register_forward_pre_hook(look)
        compute(torch.ones(1, 128))
    assert seen == [(True, False), (False, True)]
    assert 128 * 128 * 4 >= LARGE_BYTES > 128 * 4, "weights are large here, and biases small"


MEMORY = """
import sys, threading, time, torch
from pathlib import Path
from tests.export.test_weights import CPU, Wrapped, graph, load, work

def anonymous():
    lines = Path("/proc/self/status").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith(("RssAnon", "RssShmem"))) / 1024

def look():
    while True:
        most[0] = max(most[0], anonymous())
        time.sleep(0.005)

folder, precision = Path(sys.argv[1]), sys.argv[2]
engine, asked = load("openvino"), work(folder, 4096, precision)
torch.set_num_threads(1)
most, before = [0.0], anonymous()
threading.Thread(target=look, daemon=True).start()
weights = graph.write(Wrapped(folder / "stack"), [torch.ones(2, 4096)], asked, engine)
engine.compile(asked)
weights.widen(torch.float32)
with weights.computing(CPU) as compute:
    compute(torch.ones(2, 4096))
print(most[0] - before)
"""


def test_weights_do_not_pass_through_memory(tmp_path: Path) -> None:
    """Traced, written for OpenVINO, and compared with torch: all but the engine's own compiling."""
    file = stack(tmp_path / "stack", 4096, 9, torch.bfloat16) / "diffusion_pytorch_model.safetensors"
    size, layer = file.stat().st_size / (1 << 20), 4096 * 4096 * 4 / (1 << 20)
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, str(tmp_path), "fp32"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    grown = float(done.stdout.splitlines()[-1])
    assert size > 280
    assert grown < size / 2 + layer, f"{grown:.0f} MiB more, of {size:.0f} MiB of weights"


def test_a_full_disk_is_told_as_one(tmp_path: Path) -> None:
    large = Large(nn.Linear(1, 1), "weight", torch.ones(1 << 20))
    with pytest.raises(OSError, match="No space left on device"), Path("/dev/full").open("wb") as data:
        initializers._Beside(tmp_path / "model.onnx", data)._write(large, torch.float32)
