"""How large inputs may be: a parameter of `config.pbtxt` that both backends of ours read."""

import pytest

from backends.signature import MAX_DIMS, own_parameters, read_signature
from tests.backends.test_openvino import TENSORS, Recorder, answer, holds, load, parameters, request

BOUNDS = parameters(MAX_DIMS="x:4,4,2")


def test_a_request_beyond_the_bounds_fails_alone(backend):
    within, long, wide = (request(backend) for _ in range(3))
    long.arrays["x"], wide.arrays["x"] = (long.arrays["x"].repeat(n, axis) for n, axis in ((2, 2), (2, 3)))
    engine = Recorder()
    responses = answer(backend, [wide, within, long], engine, **BOUNDS)
    assert engine.calls == [(1, 4, 2, 2), (1, 4, 4, 2)]
    assert holds(within, responses[1])
    assert holds(long, responses[2])
    assert responses[0].error.number == 3
    assert responses[0].error.text == "input x is [4, 2, 4], and may be at most [4, 4, 2]"


def test_rows_are_tritons_to_bound(backend):
    many = request(backend, rows=7)
    assert holds(many, answer(backend, [many], Recorder(), **BOUNDS)[0])


def test_without_a_batch_axis_the_first_is_bounded_too(backend):
    whole = {
        "max_batch_size": 0,
        "input": [{"name": "x", "data_type": "TYPE_FP32", "dims": ["-1", "4", "-1", "-1"]}, TENSORS["input"][1]],
    }
    signature = read_signature({**TENSORS, **whole, **parameters(MAX_DIMS="x:1,4,8,8")})
    signature.require_within({"x": request(backend).arrays["x"]})
    with pytest.raises(ValueError, match=r"input x is \[2, 4, 2, 2\], and may be at most \[1, 4, 8, 8\]"):
        signature.require_within({"x": request(backend, rows=2).arrays["x"]})


def test_a_model_is_loaded_with_its_bounds(backend, toy):
    model = load(backend, toy / "twice", **BOUNDS)
    within, beyond = request(backend), request(backend, size=4)
    responses = model.execute([within, beyond])
    assert holds(within, responses[0])
    assert responses[1].error.number == 3


@pytest.mark.parametrize("said", ["x", "x:4,4", "x:4,4,-1", "z:1", "x:4,4,four", "x:4,4,4;;t"])
def test_bounds_that_are_none_are_named(said):
    with pytest.raises(ValueError, match=f"the parameter {MAX_DIMS} has .*, and must have an input and its dims"):
        read_signature({**TENSORS, **parameters(MAX_DIMS=said)})


def test_the_parameter_is_no_backends_own():
    assert own_parameters(parameters(MAX_DIMS="x:4,4,2", SPEED="fast")) == {"SPEED": "fast"}
    assert own_parameters({}) == {}
