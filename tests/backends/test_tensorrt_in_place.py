"""Our backend of TensorRT, on a GPU made of main memory: what that of RTX does not show, CUDA graphs above all."""

import os
import sys
import weakref

import numpy as np
import pytest

from backends.launches import GRAPHS_AT_MOST
from tests.backends.gpus import Context, Gpus, imported, parameters, request, start


@pytest.fixture
def gpus(monkeypatch):
    return Gpus(monkeypatch, "tensorrt")


@pytest.fixture
def module(backend, gpus):
    with imported("tensorrt_in_place") as module:
        yield module


def right(asked, given):
    """Whether the answer is that of this very request."""
    expected = 2 * asked.arrays["x"] + asked.arrays["t"][:, :, None, None]
    return given.error is None and np.allclose(given.tensors[0].array, expected, atol=1e-6)


def answered(model, *requests):
    """Each in a call of its own."""
    assert all(right(asked, *model.execute([asked])) for asked in requests)


def test_shapes_that_come_again_are_launched_as_graphs_each_its_own(module, gpus, backend, tmp_path):
    model = start(module, tmp_path)
    for turn in range(4):
        answered(model, request(backend, 1), request(backend, 3), request(backend, 3, size=16))
        assert len(gpus.driver.graphs) == (3 if turn else 0)
    assert gpus.driver.launched == [1, 2, 3] * 3
    assert gpus.driver.capturing is None


def test_contexts_work_in_one_memory_and_on_the_same_buffers(module, gpus, backend, tmp_path):
    model = start(module, tmp_path)
    answered(model, request(backend, 1), request(backend, 2))
    assert len({context.memory for context in gpus.engine.contexts}) == 1
    assert gpus.engine.context.memory[1] == gpus.engine.device_memory_size_v2
    assert len({tuple(context.addresses.items()) for context in gpus.engine.contexts}) == 1
    assert len(gpus.driver.held) == 4, "three tensors, and what contexts work in"


def test_only_so_many_are_kept_and_the_oldest_goes(module, gpus, backend, tmp_path):
    model = start(module, tmp_path)
    sizes = [(rows, size) for rows in range(1, 9) for size in range(2, 9)]
    assert len(sizes) > GRAPHS_AT_MOST
    for rows, size in sizes:
        answered(model, request(backend, rows, size), request(backend, rows, size))
    assert len(gpus.driver.graphs) == GRAPHS_AT_MOST
    assert max(gpus.driver.graphs) == len(sizes)
    answered(model, request(backend, *sizes[0]), request(backend, *sizes[-1]))
    assert gpus.driver.launched[-1] == len(sizes)


@pytest.mark.parametrize("by", ["TensorRT", "TensorRT, raising", "CUDA", "CUDA, from the start", "no room"])
def test_what_cannot_be_captured_runs_without(module, gpus, backend, tmp_path, by):
    model = start(module, tmp_path)
    gpus.driver.full_of_graphs = by == "no room"
    gpus.driver.invalidates, gpus.driver.captures = by == "CUDA", by != "CUDA, from the start"
    gpus.engine.capturable, gpus.engine.raises = not by.startswith("TensorRT"), by.endswith("raising")
    for _ in range(4):
        answered(model, request(backend, 1))
    assert not gpus.driver.graphs
    assert not gpus.driver.launched
    assert gpus.driver.capturing is None


def test_a_graph_that_cannot_be_launched_goes_and_the_call_runs_without(module, gpus, backend, tmp_path):
    model = start(module, tmp_path)
    answered(model, *[request(backend, rows) for rows in (1, 2, 1)])
    gpus.driver.launches = False
    for _ in range(3):
        answered(model, request(backend, 1), request(backend, 2))
    assert not gpus.driver.graphs


def test_graphs_can_be_turned_off(module, gpus, backend, tmp_path):
    model = start(module, tmp_path, **parameters(CUDA_GRAPHS="no"))
    for _ in range(3):
        answered(model, request(backend, 1), request(backend, 2))
    assert not gpus.driver.launched
    assert len(gpus.engine.contexts) == 1


def test_a_shape_outside_the_profile_makes_no_context(module, gpus, backend, tmp_path):
    model = start(module, tmp_path)
    before = len(gpus.engine.contexts)
    (wide,) = model.execute([request(backend, 1, size=17)])
    assert "x of shape (1, 4, 17, 17) is outside the engine's profile" in wide.error.text
    assert len(gpus.engine.contexts) == before
    answered(model, request(backend, 1))


def test_no_room_for_one_more_context_is_an_error_of_that_call_alone(module, gpus, backend, tmp_path):
    model = start(module, tmp_path)
    answered(model, request(backend, 1))
    gpus.engine.full = True
    (failed,) = model.execute([request(backend, 2)])
    assert "no room for one more execution context" in failed.error.text
    answered(model, request(backend, 1))


def test_a_new_context_takes_the_room_of_the_oldest(module, gpus, backend, tmp_path, monkeypatch):
    alive = weakref.WeakSet()

    def create(_how):
        context = Context(gpus.engine) if len(alive) < 3 else None
        alive.update([context] if context else [])
        return context

    monkeypatch.setattr(gpus.engine, "create_execution_context", create)
    model = start(module, tmp_path)
    for rows in (1, 2, 3, 4, 5):
        answered(model, *[request(backend, rows)] * 3)
        assert len(alive) <= 3
        assert len(gpus.driver.graphs) <= 3
    before = len(gpus.driver.launched)
    answered(model, *[request(backend, rows) for rows in (3, 4, 5)])
    assert len(gpus.driver.launched) == before + 3, "those used last have theirs"


@pytest.mark.parametrize("by", ["CUDA", "TensorRT"])
def test_a_gpu_that_is_lost_ends_the_process_and_says_why(module, gpus, backend, tmp_path, capfd, *, by):
    """By whom it is seen: TensorRT says only that it did not run."""
    model = start(module, tmp_path)
    answered(model, request(backend, 1))
    gpus.driver.lost = True
    gpus.engine.context.broken = by == "TensorRT"
    if (process := os.fork()) == 0:
        model.execute([request(backend, 1)])
        os._exit(0)  # it went on
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 1
    said = "model denoiser: cuStreamSynchronize failed: CUDA_ERROR_ILLEGAL_ADDRESS: the GPU is lost to this process"
    assert said in capfd.readouterr().err


def test_what_only_rtx_has_is_unknown_to_it(module, tmp_path):
    words = "model denoiser: the tensorrt_in_place backend knows no parameter KERNEL_SPECIALIZATION"
    with pytest.raises(sys.modules["triton_python_backend_utils"].TritonModelException, match=words):
        start(module, tmp_path, **parameters(KERNEL_SPECIALIZATION="EAGER"))


def test_an_answer_is_written_to_where_it_is_wanted(module, gpus, backend, tmp_path):
    plan, asked = start(module, tmp_path)._plan, request(backend, 2)
    given, wanted = asked.arrays, []

    def place(dtype, shape):
        wanted.append(np.full(shape, np.nan, dtype))
        return wanted[-1]

    for _ in range(3):  # by itself, captured, launched
        made = plan.infer(given, place)["y"]
        assert made is wanted[-1]
        assert np.allclose(made, 2 * given["x"] + given["t"][:, :, None, None], atol=1e-6)
