"""The TensorRT for RTX backend, on a GPU made of main memory."""

import pwd
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from backends.kernel_cache import SETTING, KernelCache, kernel_file
from tests.backends.gpus import CONFIG, Gpus, imported, parameters, request, start


@pytest.fixture
def gpus(monkeypatch, tmp_path):
    monkeypatch.setenv(SETTING, str(tmp_path / "kernels"))
    return Gpus(monkeypatch, "tensorrt_rtx")


@pytest.fixture
def module(backend, gpus):
    with imported("tensorrt_rtx") as module:
        yield module


def test_each_request_gets_its_rows(module, backend, tmp_path):
    model = start(module, tmp_path)
    requests = [request(backend, 1), request(backend, 3), request(backend, 2, size=16)]
    for asked, given in zip(requests, model.execute(requests), strict=True):
        expected = 2 * asked.arrays["x"] + asked.arrays["t"][:, :, None, None]
        assert given.error is None
        assert np.allclose(given.tensors[0].array, expected, atol=1e-6)


def test_buffers_never_move(module, gpus, backend, tmp_path):
    model = start(module, tmp_path)
    before = dict(gpus.engine.context.addresses)
    model.execute([request(backend, 8, size=16), request(backend, 1)])
    assert gpus.engine.context.addresses == before
    assert len(gpus.driver.held) == 3


def test_a_shape_outside_the_profile_is_the_callers_fault(module, backend, tmp_path):
    model = start(module, tmp_path)
    wide, right = model.execute([request(backend, 1, size=17), request(backend, 1)])
    assert wide.error.number == 3
    assert "x of shape (1, 4, 17, 17) is outside the engine's profile" in wide.error.text
    assert right.error is None


def test_bounds_of_the_config_are_held(module, backend, tmp_path):
    model = start(module, tmp_path, **parameters(MAX_DIMS="x:4,8,8"))
    beyond, within = model.execute([request(backend, 1, size=16), request(backend, 1)])
    assert beyond.error.text == "input x is [4, 16, 16], and may be at most [4, 8, 8]"
    assert within.error is None


def test_an_engine_that_fails_is_an_internal_error(module, gpus, backend, tmp_path):
    model = start(module, tmp_path)
    gpus.engine.context.broken = True
    assert model.execute([request(backend, 1)])[0].error.number == 1


def test_parameters_reach_the_runtime(module, gpus, tmp_path):
    start(module, tmp_path, **parameters(CUDA_GRAPHS="no", KERNEL_SPECIALIZATION="eager"))
    assert gpus.engine.config.cuda_graph_strategy == "off"
    assert gpus.engine.config.dynamic_shapes_kernel_specialization_strategy == "eager"


def test_cuda_graphs_are_on_unless_turned_off(module, gpus, tmp_path):
    start(module, tmp_path)
    assert gpus.engine.config.cuda_graph_strategy == "whole"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (parameters(SPEED="fast"), "model denoiser: the tensorrt_rtx backend knows no parameter SPEED"),
        (parameters(CUDA_GRAPHS="maybe"), "CUDA_GRAPHS is 'MAYBE', and must be YES or NO"),
        (
            {"plan": b"of another GPU"},
            "model.plan was not made for this GPU and TensorRT 1.7, or has no room in its memory",
        ),
        ({"input": CONFIG["input"][:1]}, r"the model's input t int64 \[-1, 1\] is not in config.pbtxt"),
        ({"default_model_filename": "other.plan"}, "there is no .*/1/other.plan"),
    ],
)
def test_what_does_not_load_says_why(module, tmp_path, changes, words):
    with pytest.raises(sys.modules["triton_python_backend_utils"].TritonModelException, match=words):
        start(module, tmp_path, **changes)


def test_a_full_gpu_is_named(module, gpus, tmp_path):
    gpus.driver.full = True
    with pytest.raises(Exception, match="cuMemAlloc failed: CUDA_ERROR_OUT_OF_MEMORY"):
        start(module, tmp_path)


def test_a_gpu_that_is_too_full_for_a_context_is_named(module, gpus, tmp_path):
    gpus.engine.full = True
    words = "model denoiser: the engine has no room for one more execution context"
    with pytest.raises(sys.modules["triton_python_backend_utils"].TritonModelException, match=words):
        start(module, tmp_path)


def test_a_missing_package_is_named(module, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "cuda.bindings.driver", None)
    with pytest.raises(Exception, match="model denoiser: the package cuda-bindings is not installed"):
        start(module, tmp_path)


def test_what_was_compiled_is_kept_for_the_next_start(module, gpus, backend, tmp_path):
    model, file = start(module, tmp_path), kernel_file(b"plan")
    assert file.parent == tmp_path / "kernels"
    model.execute([request(backend, 1)])
    model.finalize()
    assert file.read_bytes() == b"kernels of ['(1, 4, 4, 4)']"
    assert [kept.name for kept in file.parent.iterdir()] == [file.name]
    (tmp_path / "again").mkdir()
    again = start(module, tmp_path / "again")
    written = file.stat().st_mtime_ns
    again.finalize()
    assert (file.read_bytes(), file.stat().st_mtime_ns) == (b"kernels of ['(1, 4, 4, 4)']", written)


def test_kernels_of_another_machine_are_not_taken_and_replaced(module, tmp_path):
    file = kernel_file(b"plan")
    file.parent.mkdir()
    file.write_bytes(b"of another GPU")
    start(module, tmp_path).finalize()
    assert file.read_bytes().startswith(b"kernels of")


def test_a_folder_that_cannot_be_written_is_told_and_no_error(module, backend, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(SETTING, str(tmp_path / "file"))
    model = start(module, tmp_path)
    assert model.execute([request(backend, 1)])[0].error is None
    model.finalize()
    (warning,) = sys.modules["triton_python_backend_utils"].Logger.warnings
    assert "compiled kernels are not kept" in warning


def test_containers_of_one_folder_whose_processes_have_the_same_id_keep_theirs_whole(monkeypatch, tmp_path):
    def cache(content):
        kernels = SimpleNamespace(serialize=lambda: content)
        config = SimpleNamespace(create_runtime_cache=lambda: kernels, set_runtime_cache=lambda _cache: True)
        return KernelCache(config, tmp_path / "plan.rtx")

    one, others, replace = cache(b"kernels of one"), [cache(b"kernels of the other")], Path.replace

    def replaced(self, target):
        while others:
            others.pop().save()  # after this one's file was written, and before it has its name
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", replaced)
    one.save()
    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [("plan.rtx", b"kernels of one")]


def test_kernels_lie_in_the_users_own_folder_unless_told(monkeypatch):
    monkeypatch.delenv(SETTING, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert str(kernel_file(b"plan").parent) == "/somewhere/tritouch/kernels"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/one")
    assert str(kernel_file(b"plan").parent) == "/home/one/.cache/tritouch/kernels"


def test_without_a_home_kernels_are_compiled_anew(module, backend, tmp_path, monkeypatch):
    for name in (SETTING, "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", {}.__getitem__)
    assert kernel_file(b"plan") is None
    model = start(module, tmp_path)
    assert model.execute([request(backend, 1)])[0].error is None
    model.finalize()
    monkeypatch.setenv(SETTING, str(tmp_path))
    assert kernel_file(b"plan").parent == tmp_path, "of which none is asked where a folder is named"
