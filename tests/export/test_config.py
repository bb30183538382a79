"""`config.pbtxt` of engines: what our backends are told that Triton has no words for."""

import itertools
from collections.abc import Mapping

import pytest
from google.protobuf import json_format, text_format
from tritonclient.grpc import model_config_pb2

from backends.signature import MAX_DIMS, WARM_UP, read_shapes, read_signature
from export.component import bank, config
from export.engines import Serving
from families import PIPELINES, load
from families.interface import MOST_ADAPTERS, Component, Limits
from tests.families import tiny


def written(component: Component, serving: Serving) -> model_config_pb2.ModelConfig:
    return text_format.Parse(config.write(component, serving), model_config_pb2.ModelConfig())


def bounds(component: Component) -> Mapping[str, tuple[int, ...]]:
    """As a backend of ours reads them."""
    made = written(component, Serving("openvino", "KIND_CPU", ours=True))
    said = json_format.MessageToDict(made, preserving_proto_field_name=True)
    said = {
        "max_batch_size": 0,
        **said,
        "parameters": {MAX_DIMS: {"string_value": made.parameters[MAX_DIMS].string_value}},
    }
    kinds = {"TYPE_BOOL": "TYPE_INT32"}  # which these backends do not carry, and does not matter here
    for side in ("input", "output"):
        said[side] = [{**entry, "data_type": kinds.get(entry["data_type"], entry["data_type"])} for entry in said[side]]
    return read_signature(said).most


@pytest.mark.parametrize("family", sorted(set(PIPELINES.values())))
def test_every_open_axis_is_bounded_where_the_backend_is_ours(family: str) -> None:
    for component in load(family, "table").components(tiny.checkpoint(family), Limits(256 * 256, 8)):
        extended = bank.extend(component) if component.adapts else component
        most, largest = bounds(extended), extended.sizes("max")
        for tensor in extended.inputs:
            own = tensor.axes[1:] if component.batched else tensor.axes
            named = any(isinstance(axis, str) for axis in own)
            assert most.get(tensor.name) == (tensor.shape(largest)[-len(own) :] if named else None), tensor
        if component.adapts:
            assert most["adapter"] == most["adapter_scale"] == (MOST_ADAPTERS,)


@pytest.mark.parametrize("family", sorted(set(PIPELINES.values())))
def test_first_calls_are_within_what_the_engine_was_made_for_and_end_with_the_usual_one(family: str) -> None:
    for component in load(family, "table").components(tiny.checkpoint(family), Limits(256 * 256, 8)):
        extended = bank.extend(component) if component.adapts else component
        said = written(extended, Serving("openvino", "KIND_CPU", warms_up=True)).parameters[WARM_UP].string_value
        axes = {tensor.name: len(tensor.axes) for tensor in extended.inputs}
        calls = [read_shapes(WARM_UP, call, axes) for call in said.split("|")]
        least, usual, most = (extended.sizes(end) for end in ("min", "opt", "max"))
        assert calls[-1] == {tensor.name: tensor.shape(usual) for tensor in extended.inputs}
        assert len(calls) == len({str(call) for call in calls})
        for call, tensor in itertools.product(calls, extended.inputs):
            bounds = zip(tensor.shape(least), call[tensor.name], tensor.shape(most), strict=True)
            assert all(low <= size <= high for low, size, high in bounds)


def test_tritons_own_backend_is_told_nothing_that_it_does_not_know() -> None:
    components = load("instruct_pix2pix", "table").components(tiny.checkpoint("instruct_pix2pix"), Limits(256 * 256, 8))
    assert not any(written(component, Serving("tensorrt", "KIND_GPU")).parameters for component in components)
