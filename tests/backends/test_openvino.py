"""The OpenVINO backend without Triton: parameters, checks at load, merging and splitting."""

import json
from pathlib import Path

import numpy as np
import pytest

from backends.signature import read_signature
from channel import Channel
from rows import JoinedRows, Part
from shared_rows import SharedRows

TENSORS = {
    "max_batch_size": 8,
    "input": [
        {"name": "x", "data_type": "TYPE_FP32", "dims": ["4", "-1", "-1"]},
        {"name": "t", "data_type": "TYPE_INT64", "dims": ["1"]},
    ],
    "output": [{"name": "y", "data_type": "TYPE_FP32", "dims": ["4", "-1", "-1"]}],
}


def parameters(**values):
    return {"parameters": {name: {"string_value": value} for name, value in values.items()}}


class Recorder:
    """An engine that computes ``2 x + t`` into one buffer that it uses again and again."""

    def __init__(self, poison=None):
        self.calls = []
        self.poison = poison
        self.buffer = np.empty(100000, np.float32)

    def __call__(self, inputs):
        x, t = inputs["x"], inputs["t"]
        self.calls.append(x.shape)
        if self.poison is not None and (t == self.poison).any():
            raise RuntimeError("Check failed\n at node  7")
        view = self.buffer[: x.size].reshape(x.shape)
        view[...] = 2 * x + t[:, :, None, None]
        return {"y": view}


def request(backend, rows=1, size=2, t=0, **options):
    x = np.random.default_rng(t).normal(size=(rows, 4, size, size)).astype(np.float32)
    return backend.request({"x": x, "t": np.full((rows, 1), t)}, **options)


def holds(one, response):
    """Whether ``response`` is the right answer to ``one``."""
    x, t = one.arrays["x"], one.arrays["t"]
    return response.error is None and np.allclose(response.tensors[0].array, 2 * x + t[:, :, None, None], atol=1e-5)


def answer(backend, requests, engine, **changes):
    signature = read_signature({**TENSORS, **changes})
    return backend.common.answer(requests, signature, backend.common.Channels(signature, engine))


def test_requests_of_one_shape_run_in_one_call_and_each_gets_its_rows(backend):
    requests = [request(backend, rows=rows, t=rows) for rows in (1, 3, 2)]
    engine = Recorder()
    responses = answer(backend, requests, engine)
    assert engine.calls == [(6, 4, 2, 2)]
    assert all(map(holds, requests, responses))


def test_shapes_run_one_after_another_and_do_not_overwrite_each_other(backend):
    requests = [request(backend, size=size, t=number) for number, size in enumerate((2, 4, 2, 6, 4))]
    engine = Recorder()
    responses = answer(backend, requests, engine)
    assert engine.calls == [(2, 4, 2, 2), (2, 4, 4, 4), (1, 4, 6, 6)]
    assert all(map(holds, requests, responses))


def test_a_single_request_is_not_copied(backend):
    one = request(backend)
    seen = []
    engine = Recorder()
    responses = answer(backend, [one], lambda inputs: seen.append(inputs["x"]) or engine(inputs))
    assert seen[0] is one.arrays["x"]
    assert responses[0].tensors[0].array.base is engine.buffer


def test_without_a_batch_axis_nothing_is_merged(backend):
    requests = [request(backend, t=t) for t in range(3)]
    engine = Recorder()
    responses = answer(backend, requests, engine, max_batch_size=0)
    assert len(engine.calls) == 3
    assert all(map(holds, requests, responses))


def test_one_bad_request_fails_alone(backend):
    requests = [request(backend, t=t) for t in range(4)]
    responses = answer(backend, requests, Recorder(poison=2))
    assert [holds(*pair) for pair in zip(requests, responses, strict=True)] == [True, True, False, True]
    assert (responses[2].error.text, responses[2].error.number) == ("Check failed at node 7", 1)


def test_a_missing_or_uneven_input_fails_alone(backend):
    good, missing, uneven = (request(backend) for _ in range(3))
    del missing.arrays["t"]
    uneven.arrays["t"] = np.zeros((3, 1), np.int64)
    responses = answer(backend, [missing, good, uneven], Recorder())
    assert holds(good, responses[1])
    assert responses[0].error.text == "input t is missing"
    assert "number of rows" in responses[2].error.text
    assert {responses[0].error.number, responses[2].error.number} == {3}


def test_an_output_without_the_rows_is_an_error_and_not_shared_out(backend):
    requests = [request(backend, t=t) for t in range(2)]
    responses = answer(backend, requests, lambda _inputs: {"y": np.zeros((1, 4, 2, 2), np.float32)})
    # One by one, the single row is each one's own.
    assert [len(response.tensors) for response in responses] == [1, 1]


def test_what_was_cancelled_while_another_shape_ran_is_not_run(backend):
    first, late = request(backend, size=2), request(backend, size=4, cancelled=True)
    engine = Recorder()
    responses = answer(backend, [first, late], engine)
    assert engine.calls == [(1, 4, 2, 2)]
    assert holds(first, responses[0])
    assert responses[1].error.number == 7


def test_only_the_outputs_asked_for_are_sent(backend):
    assert answer(backend, [request(backend, wanted=())], Recorder())[0].tensors == []


def test_fp32_stays_fp32_unless_asked_otherwise(backend):
    read = backend.openvino.read_options
    assert read({}).properties == {"INFERENCE_PRECISION_HINT": "f32"}
    assert read(parameters(HINT_BF16="YES")).properties == {"INFERENCE_PRECISION_HINT": "bf16"}
    assert read(parameters(INFERENCE_PRECISION="bf16")).properties == {"INFERENCE_PRECISION_HINT": "bf16"}


def test_the_parameters_of_the_cpp_backend(backend):
    options = backend.openvino.read_options(
        parameters(
            NUM_STREAMS="auto",
            INFERENCE_NUM_THREADS="2",
            PERFORMANCE_HINT="latency",
            TARGET_DEVICE="GPU",
            CPU_EXTENSION_PATH="/x.so",
            RESHAPE_IO_LAYERS="yes",
            SKIP_OV_DYNAMIC_BATCHSIZE="YES",
        )
    )
    assert (options.device, options.extension, options.reshape) == ("GPU", "/x.so", True)
    assert options.properties == {
        "INFERENCE_PRECISION_HINT": "f32",
        "NUM_STREAMS": "AUTO",
        "INFERENCE_NUM_THREADS": "2",
        "PERFORMANCE_HINT": "LATENCY",
    }


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"NUM_STREAM": "1"}, "knows no parameter NUM_STREAM"),
        ({"NUM_STREAMS": "some"}, "parameter NUM_STREAMS is 'some', and must be a number"),
        ({"HINT_BF16": "NO"}, "must be YES"),
        ({"PERFORMANCE_HINT": "FAST"}, "must be LATENCY or THROUGHPUT"),
        ({"ENABLE_BATCH_PADDING": "YES"}, "does not pad"),
        ({"HINT_BF16": "YES", "INFERENCE_PRECISION": "f32"}, "contradict"),
    ],
)
def test_a_wrong_parameter_is_named(backend, values, message):
    with pytest.raises(ValueError, match=message):
        backend.openvino.read_options(parameters(**values))


def load(backend, folder, **changes):
    config = {**TENSORS, "default_model_filename": "", **changes}
    arguments = {"model_config": json.dumps(config), "model_repository": str(folder), "model_version": "1"}
    model = backend.openvino.TritonPythonModel()
    model.initialize({**arguments, "model_name": "twice"})
    return model


def test_a_model_loads_and_answers(backend, toy):
    model = load(backend, toy / "twice")
    requests = [request(backend, size=size, t=size) for size in (2, 4, 2)]
    assert all(map(holds, requests, model.execute(requests)))


def test_calls_over_a_channel_are_computed(backend, toy):
    model = load(backend, toy / "twice")
    some = request(backend)

    def open_(_some, parameters):
        some.said = json.dumps(parameters)
        (response,) = model.execute([some])
        assert response.error is None

    seconds: list[float] = []
    channel = Channel(open_, seconds.append)
    rows = SharedRows(channel, JoinedRows(lambda _: pytest.fail("it was sent")))
    for step in range(3):
        asked = [request(backend, rows=count, size=8, t=count + step) for count in (1, 2)]
        parts = [Part(len(one.arrays["x"]), "8", len(one.arrays["x"]), {}, dict(one.arrays)) for one in asked]
        for one, found in zip(asked, rows(parts), strict=True):
            assert np.allclose(found, 2 * one.arrays["x"] + one.arrays["t"][:, :, None, None], atol=1e-5)
    assert holds(some, model.execute([request(backend)])[0])
    assert len(seconds) == 3
    channel.close()


def test_a_call_that_failed_leaves_later_ones_of_its_shapes_be(backend, toy):
    engine = load(backend, toy / "twice")._channels
    good = request(backend, rows=2)
    for rows in (3, 0):
        with pytest.raises(RuntimeError):
            engine.infer({"x": good.arrays["x"], "t": np.zeros((rows, 1), np.int64)})
        x, t = good.arrays["x"], good.arrays["t"]
        assert np.array_equal(engine.infer({"x": x, "t": t})["y"], 2 * x + t[:, :, None, None])


def test_an_array_that_lies_scattered_is_read_as_it_is(backend, toy):
    engine = load(backend, toy / "twice")._engine
    wide = np.random.default_rng(1).normal(size=(1, 4, 300, 600)).astype(np.float32)
    for left in range(0, 300, 50):
        x = wide[..., left : left + 300]
        assert np.array_equal(engine.infer({"x": x, "t": np.zeros((1, 1), np.int64)})["y"], 2 * x)


@pytest.mark.parametrize("name", ["", "/etc/passwd", "tritouch-" + "0" * 32, "tritouch-" + "0" * 32 + "\n", 7, []])
def test_a_channel_that_leads_nowhere_fails_its_own_request_alone(backend, name):
    good, bad = request(backend), request(backend)
    bad.said = json.dumps({"channel": name})
    responses = answer(backend, [bad, good], Recorder())
    assert holds(good, responses[1])
    assert responses[0].error.number == 3
    assert responses[0].error.text.startswith("the parameter channel is of no use")


def tensor(name, kind, *dims):
    return {"name": name, "data_type": kind, "dims": list(dims)}


X, T = TENSORS["input"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"input": [X]}, "the model's input t int64 .* is not in config"),
        ({"input": [X, T, tensor("z", "TYPE_FP32", 1)]}, "input z .* is not in the model"),
        ({"input": [X, tensor("t", "TYPE_INT32", 1)]}, "input t int32 .* is t int64"),
        ({"input": [X, tensor("t", "TYPE_INT64", -1)]}, r"input t int64 \[-1, -1\] .* is t int64 \[-1, 1\]"),
        ({"input": [tensor("x", "TYPE_FP32", 4, -1), T]}, "input x float32"),
        ({"input": [tensor("x", "TYPE_STRING", 4), T]}, "x is TYPE_STRING; supported are"),
        ({"output": [tensor("y", "TYPE_FP16", 4, -1, -1)]}, "output y float16 .* is y float32"),
        ({"output": [tensor("w", "TYPE_FP32", 4)]}, "output w .* is not in the model"),
        ({"default_model_filename": "other.xml"}, "there is no .*other.xml"),
    ],
)
def test_a_config_that_does_not_fit_the_model_is_a_load_error(backend, toy, changes, message):
    with pytest.raises(Exception, match=message) as raised:
        load(backend, toy / "twice", **changes)
    assert type(raised.value).__name__ == "TritonModelException"


def test_reshaping_fixes_an_open_model_to_the_config(backend, toy: Path):
    fixed = [tensor("x", "TYPE_FP32", 4, 2, 2), T]
    model = load(backend, toy / "twice", input=fixed, **parameters(RESHAPE_IO_LAYERS="YES"))
    one = request(backend, size=2)
    assert holds(one, model.execute([one])[0])
