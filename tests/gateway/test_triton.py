"""The request as Triton reads it: what is put together by hand must be what protobuf would write."""

import pytest
from tritonclient.grpc import service_pb2

from gateway.triton import Edit, infer_request, inputs, packed


@pytest.mark.parametrize("sizes", [(0,), (1, 127), (128, 16_383), (16_384, 3_000_000)])
def test_the_request_by_hand(sizes: tuple[int, ...]) -> None:
    edit = Edit([bytes(size) for size in sizes], "눈", 20, 0.5, 1.5, 2**64 - 1, "a", "raw")
    request = service_pb2.ModelInferRequest.FromString(infer_request(edit, 1.5, "id"))
    assert (request.model_name, request.id) == ("edit", "id")
    assert request.parameters["timeout"].int64_param == 1_500_000
    for given, tensor, content in zip(request.inputs, inputs(edit), request.raw_input_contents, strict=True):
        assert (given.name, given.datatype, tuple(given.shape)) == tensor[:3]
        assert len(tensor.values) == tensor.shape[0]
        assert content == b"".join(packed(tensor))
    again = service_pb2.ModelInferRequest.FromString(request.SerializeToString())
    assert again == request
