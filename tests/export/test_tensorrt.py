"""TensorRT engines with no GPU: all four components compiled by TensorRT for RTX, and what is refused."""

import json
import shutil
import sys
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from google.protobuf import text_format
from onnx import TensorProto
from tritonclient.grpc.model_config_pb2 import ModelConfig, ModelInstanceGroup

from backends.compatibility import MODULES
from backends.gpu import Gpu
from export.component import bank, graph
from export.component import config as engine_config
from export.engines import Serving, Work, load, reference
from export.engines.tensorrt import TensorRt
from export.errors import BadInputError
from export.tiles import tiled
from families import load as load_family
from families.interface import Component, Limits, Tensor
from families.parts.guidance import PictureGuidance
from families.parts.lora import Factors
from tests.conftest import SHARED, TARGETS, run_export
from tests.edit.harness import Harness, plan
from tests.export.simple import SIMPLE, double

GUIDANCES = [PictureGuidance(1.0, 1.0), PictureGuidance(7.5, 1.0), PictureGuidance(7.5, 1.5)]
COMPONENTS = ["text_encoder", "vae_encoder", "denoiser", "vae_decoder"]
pytest.importorskip("tensorrt_rtx")


@pytest.fixture(scope="session")
def table(checkpoint: Path) -> dict[str, Component]:
    table = load_family("instruct_pix2pix", "table")
    return {c.name: c for c in table.components(checkpoint, Limits(256 * 256, 8))}


def record(repository: Path, component: str) -> dict:
    return json.loads((repository / component / "component.json").read_text())


def config(text: str) -> ModelConfig:
    """Text as Triton parses it; an unknown field is an error."""
    return text_format.Parse(text, ModelConfig())


def compile_simple(folder: Path, file: Path, targets: list[str] = TARGETS, **work) -> Path:
    load("tensorrt_rtx", targets).compile(Work(file, SIMPLE, "fp16", folder, folder, **work))
    return folder / "model.plan"


@pytest.mark.parametrize("component", COMPONENTS)
def test_a_component_compiles_for_two_compute_capabilities(rtx_repository, component):
    made = record(rtx_repository, component)
    assert made["engine"] == "tensorrt_rtx"
    assert made["precision"] == "fp16"
    assert made["versions"]["compute_capability"].split() == TARGETS
    assert made["versions"]["tensorrt_rtx"]
    assert made["error"] <= made["tolerance"]
    assert made["checked_in"] == reference.NAME
    assert (rtx_repository / component / "1" / "model.plan").stat().st_size == made["bytes"]
    assert [file.name for file in (rtx_repository / component / "1").iterdir()] == ["model.plan"]
    assert record(rtx_repository, component)["fingerprint"] in (rtx_repository / component).resolve().name


@pytest.fixture
def tensorrt(monkeypatch: pytest.MonkeyPatch) -> TensorRt:
    """TensorRT on a machine with an L4, played by TensorRT for RTX, whose Python API is the same."""
    monkeypatch.setitem(sys.modules, MODULES["tensorrt"], sys.modules["tensorrt_rtx"])
    monkeypatch.setattr("export.engines.tensorrt.find_gpu", lambda: Gpu("NVIDIA L4", "8.9"))
    engine = load("tensorrt")
    monkeypatch.setattr(engine, "_set_targets", lambda config: TensorRt("tensorrt_rtx", ["8.9"])._set_targets(config))
    return engine


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_tensorrt_keeps_its_timings_and_says_what_it_compiled_for(tensorrt, tmp_path):
    for _ in range(2):
        tensorrt.compile(Work(double(tmp_path / "m.onnx"), SIMPLE, "fp16", tmp_path, tmp_path))
    assert len(list(tmp_path.glob("tensorrt-*-8.9.timings"))) == 1
    assert (tmp_path / "model.plan").exists()
    assert tensorrt.versions()["compute_capability"] == "8.9"
    assert tensorrt.versions()["gpu"] == "NVIDIA L4"
    assert tensorrt.runs_here()
    assert tensorrt.native()[0] == "fp16"


def test_tritons_own_backend_serves_all_of_tensorrts_but_the_denoiser_and_tiles(tensorrt, table, checkpoint):
    own = {name: tensorrt.serving(component, "fp16") for name, component in table.items()}
    theirs = Serving("tensorrt", "KIND_GPU", warm_up=True, cuda_graphs=True)
    ours = Serving("tensorrt_in_place", "KIND_GPU", {"CUDA_GRAPHS": "YES"}, warm_up=True, ours=True)
    assert own == {name: ours if name == "denoiser" else theirs for name in table}
    small = load_family("instruct_pix2pix", "table").components(checkpoint, Limits(128 * 128, 8))
    for component in tiled(list(table.values()), small):
        assert tensorrt.serving(component, "fp16") == (ours if component.whole else own[component.name])


@pytest.mark.usefixtures("tensorrt")
def test_tensorrt_compiles_for_no_other_gpu():
    with pytest.raises(BadInputError, match=r"NVIDIA L4 \(compute capability 8.9\)"):
        load("tensorrt", ["9.0"])


def test_rtx_compiles_for_the_gpu_it_sees_and_for_all_where_it_sees_none(monkeypatch):
    for own in ("7.5", "8.9", "12.1", "13.0"):
        gpu = Gpu("NVIDIA L4", own)
        monkeypatch.setattr("export.engines.tensorrt.find_gpu", lambda gpu=gpu: gpu)
        assert load("tensorrt_rtx").versions()["compute_capability"] == own
    monkeypatch.setattr("export.engines.tensorrt.find_gpu", lambda: None)
    assert load("tensorrt_rtx").versions()["compute_capability"].split()[:2] == ["7.5", "8.0"]


@pytest.mark.parametrize("name", COMPONENTS)
def test_the_profile_is_the_tables_ranges(table, name):
    import tensorrt_rtx as trt

    from export.engines.tensorrt import profile
    from export.engines.trt_watch import BuildLog

    component = table[name]
    filled = profile(trt.Builder(BuildLog.of(trt).logger).create_optimization_profile(), component)
    for tensor in component.inputs:
        for end, shape in zip(("min", "opt", "max"), filled.get_shape(tensor.name), strict=True):
            assert tuple(shape) == tensor.shape(component.sizes(end))


@pytest.mark.parametrize("name", COMPONENTS)
def test_the_config_serves_on_the_gpu_and_warms_up(rtx_repository, table, name):
    written = config((rtx_repository / name / "config.pbtxt").read_text())
    assert written.backend == "tensorrt_rtx"
    assert written.instance_group[0].kind == ModelInstanceGroup.KIND_GPU
    batched = table[name].batched
    assert written.max_batch_size == (table[name].ranges["rows"].max if batched else 0)
    assert written.HasField("dynamic_batching") == (name == "text_encoder")
    assert written.response_cache.enable == (name == "text_encoder")
    for request in written.model_warmup:
        assert 1 <= request.batch_size <= max(1, written.max_batch_size)
        for tensor in table[name].inputs:
            assert len(request.inputs[tensor.name].dims) == len(tensor.axes) - batched


@pytest.mark.parametrize("second", GUIDANCES)
@pytest.mark.parametrize("first", GUIDANCES)
def test_two_edits_however_guided_run_on_cuda_graphs(table, first, second):
    harness = Harness()
    for name, guidance in (("first", first), ("second", second)):
        harness.submit(name, plan(0.0, 2, rows=guidance.rows))
        harness.turns(1)
    harness.turns(1)
    sent = {rows for rows, _edits in harness.metrics.calls}
    assert (
        sent == {first.rows, first.rows + second.rows, second.rows} <= set(engine_config.short_calls(table["denoiser"]))
    )


def test_cuda_graphs_are_captured_for_the_batchers_short_calls(table):
    serving = Serving("tensorrt", "KIND_GPU", warm_up=True, cuda_graphs=True)
    written = config(engine_config.write(table["denoiser"], serving))
    specs = written.optimization.cuda.graph_spec if written.optimization.cuda.graphs else []
    assert [spec.batch_size for spec in specs] == [1, 2, 3, 4, 5, 6]
    assert [warm.batch_size for warm in written.model_warmup] == [1, 2, 3, 4, 5, 6, 8]
    assert not any(spec.HasField("graph_lower_bound") for spec in specs), "rows are never padded"
    assert list(specs[0].input["sample"].dim) == [8, 32, 32]
    assert list(specs[0].input["timestep"].dim) == [1]


def test_the_text_encoder_is_cached_on_openvino_too(table):
    serving = Serving("openvino", "KIND_CPU")
    cached = {name: config(engine_config.write(c, serving)).response_cache.enable for name, c in table.items()}
    assert cached == {name: name == "text_encoder" for name in COMPONENTS}


@pytest.mark.slow
@pytest.mark.parametrize(("precision", "beside"), [("fp16", ["m.onnx.data"]), ("fp32", ["m.onnx.0", "m.onnx.data"])])
def test_weights_beside_the_onnx_file_are_found(checkpoint, table, tmp_path, precision, beside):
    component, inputs = table["text_encoder"], [torch.zeros(2, 77, dtype=torch.int64)]
    module, engine = (
        load_family("instruct_pix2pix", "modules").module(component.name, checkpoint),
        load("tensorrt_rtx", TARGETS[:1]),
    )
    work = Work(tmp_path / "m.onnx", component, precision, tmp_path, tmp_path)
    graph.write(module, inputs, work, engine)
    assert sorted(file.name for file in tmp_path.glob("m.onnx.*")) == beside
    engine.compile(work)
    assert (tmp_path / "model.plan").exists()


@pytest.mark.slow
def test_a_bank_of_adapters_compiles(tmp_path):
    lora = {SIMPLE.name: {"0": Factors(torch.zeros(2, 8), torch.zeros(8, 2), 1.0)}}
    module = torch.nn.Sequential(OrderedDict(model=torch.nn.Sequential(torch.nn.Linear(8, 8))))
    tokens = {"inputs": (Tensor("x", "FP32", ("rows", "width", 8)),)}
    tokens["outputs"] = (Tensor("y", "FP32", ("rows", "width", 8)),)
    component = bank.extend(Component(**vars(SIMPLE) | tokens))
    inputs = [torch.zeros(2, 6, 8), torch.zeros(2, 2, dtype=torch.int32), torch.zeros(2, 2)]
    engine = load("tensorrt_rtx", TARGETS[:1])
    work = Work(tmp_path / "m.onnx", component, "fp32", tmp_path, tmp_path)
    graph.write(bank.build(module, SIMPLE.name, [("a", lora, 1.0)]), inputs, work, engine)
    engine.compile(work)
    assert (tmp_path / "model.plan").exists()


def test_the_bar_moves_while_it_compiles(tmp_path):
    steps: list[float] = []
    assert compile_simple(tmp_path, double(tmp_path / "m.onnx"), advance=steps.append).exists()
    assert steps
    assert all(0 < step <= 1 for step in steps)


def test_an_interrupt_ends_the_build(tmp_path):
    def interrupt(_done: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compile_simple(tmp_path, double(tmp_path / "m.onnx"), advance=interrupt)
    assert not (tmp_path / "model.plan").exists()


def test_a_compute_capability_has_its_own_code(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    for folder, targets in ((one, TARGETS[:1]), (two, TARGETS)):
        folder.mkdir()
        compile_simple(folder, double(folder / "m.onnx"), targets)
    assert (two / "model.plan").read_bytes() != (one / "model.plan").read_bytes()


@pytest.mark.parametrize("dtype", [TensorProto.FLOAT16, TensorProto.BFLOAT16])
def test_narrow_graphs_run_where_there_is_no_gpu(tmp_path, dtype):
    run = reference.open_onnx(double(tmp_path / "m.onnx", dtype=dtype), SIMPLE)
    x = np.arange(12, dtype=np.float32).reshape(1, 3, 4)
    assert np.array_equal(run({"x": x})["y"], 2 * x)


def test_an_export_is_up_to_date_the_second_time(rtx_repository, checkpoint, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(rtx_repository, copy, symlinks=True)
    shared = SHARED["rtx_repository"]
    done = run_export(checkpoint, copy, *shared.flags, routes=shared.routes)
    assert done.stderr.count("up to date") == len(COMPONENTS), done.stderr
