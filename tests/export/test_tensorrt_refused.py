"""What the TensorRT engines refuse, each in one clear line."""

from pathlib import Path

import pytest

from backends.gpu import Gpu, find_gpu
from export.engines import Work, load
from export.errors import BadInputError, ExportError
from export.precisions import Precisions
from families.interface import Component, Tensor
from tests.conftest import run_export
from tests.export.simple import SIMPLE, double

TARGETS = ["8.9", "12.0"]

pytest.importorskip("tensorrt_rtx")


def refusal(tmp_path: Path, file: Path, component: Component = SIMPLE) -> str:
    with pytest.raises(ExportError) as caught:
        load("tensorrt_rtx", TARGETS).compile(Work(file, component, "fp16", tmp_path, tmp_path))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "model.plan").exists()
    return str(caught.value)


def test_what_is_not_onnx_is_refused_in_one_line(tmp_path):
    (tmp_path / "m.onnx").write_bytes(b"not a model")
    assert refusal(tmp_path, tmp_path / "m.onnx").startswith("TensorRT for RTX cannot read double")


def test_an_operator_that_it_lacks_is_named(tmp_path):
    assert "NoSuchOperator" in refusal(tmp_path, double(tmp_path / "m.onnx", op="NoSuchOperator"))


def test_other_tensors_than_the_tables_are_refused(tmp_path):
    other = Component(**{**vars(SIMPLE), "outputs": (Tensor("z", "FP32", ("rows", 3, "width")),)})
    assert "other tensors than the table" in refusal(tmp_path, double(tmp_path / "m.onnx"), other)


def test_ranges_that_the_graph_cannot_have_are_refused(tmp_path):
    other = Component(**{**vars(SIMPLE), "inputs": (Tensor("x", "FP32", ("rows", 5, "width")),)})
    assert "cannot compile double" in refusal(tmp_path, double(tmp_path / "m.onnx"), other)


@pytest.mark.parametrize(
    ("kind", "targets", "words"),
    [
        ("tensorrt_rtx", ["9.7"], "--compute-capability 9.7 is not one of 7.5"),
        ("tensorrt_rtx", ["next"], "--compute-capability next"),
        ("openvino", ["8.9"], "belongs to --engine tensorrt_rtx"),
        ("onnx", [], "--engine onnx is unknown"),
    ],
)
def test_wrong_flags_are_named(kind, targets, words):
    with pytest.raises(BadInputError, match=words):
        load(kind, targets)


@pytest.mark.parametrize("own", ["9.0", "10.0"])
def test_a_gpu_that_rtx_does_not_run_on_is_refused_before_anything_is_compiled(own, monkeypatch):
    """As an H100 does: the builder takes it for the current GPU, and the plan does not load there."""
    gpu = Gpu("NVIDIA H100 80GB HBM3", own)
    monkeypatch.setattr("export.engines.tensorrt.find_gpu", lambda: gpu)
    words = rf"does not run on NVIDIA H100 80GB HBM3 \(compute capability {own}\): export with --engine tensorrt"
    with pytest.raises(BadInputError, match=words):
        load("tensorrt_rtx")
    with pytest.raises(BadInputError, match=f"--compute-capability {own} is not one of 7.5"):
        load("tensorrt_rtx", [own])
    elsewhere = load("tensorrt_rtx", ["8.9"])
    assert elsewhere.targets == ("8.9",)
    assert not elsewhere.runs_here()


@pytest.mark.parametrize(
    ("precision", "targets", "instead"),
    [
        ("nvfp4", ["8.9", "12.0"], "wants compute capability 10.0 or later, .* is for 8.9, 12.0: .*fp8 from 8.9"),
        ("nvfp4", [], "wants compute capability 10.0 or later, and the engine is for 7.5, "),
        ("fp8", ["8.6"], "wants compute capability 8.9 or later, and .* for 8.6: name another .bf16 from 8.0, fp16 or"),
        ("w4", ["7.5"], "wants compute capability 8.0 or later, and .* for 7.5: name another .fp16 or fp32 for any"),
        ("bf16", ["7.5", "8.0"], ".* is for 7.5, 8.0: .*, or other GPUs with --compute-capability"),
    ],
)
def test_types_that_a_gpu_lacks_are_refused_before_anything_is_built(precision, targets, instead, monkeypatch):
    monkeypatch.setattr("export.engines.tensorrt.find_gpu", lambda: None)
    engine = load("tensorrt_rtx", targets)
    with pytest.raises(BadInputError, match=f"--precision {precision} of double {instead}") as caught:
        Precisions.parse(f"double={precision}", engine).of([SIMPLE], engine)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("precision", ["nvfp4", "fp8", "w4", "bf16", "fp16"])
def test_types_that_all_gpus_have_are_taken(precision):
    engine = load("tensorrt_rtx", ["12.0", "12.1"])
    assert Precisions.parse(f"double={precision}", engine).of([SIMPLE], engine) == {"double": precision}


def test_tensorrt_asks_for_its_package_and_a_gpu():
    if find_gpu() is not None:
        pytest.skip("this machine has a GPU")
    with pytest.raises(BadInputError, match=r"not installed|shows none"):
        load("tensorrt")


@pytest.mark.slow
def test_a_wrong_precision_ends_the_command_in_one_line(checkpoint, tmp_path):
    done = run_export(checkpoint, tmp_path, "--engine", "tensorrt_rtx", "--precision", "int8")
    assert done.returncode == 2
    known = "fp16, bf16, fp32, fp8, nvfp4, w8, w4"
    assert done.stderr == f"export: --precision for tensorrt_rtx is auto or one of {known}, and not 'int8'\n"
