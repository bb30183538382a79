"""The request as Triton reads it: what is put together by hand must be what protobuf would write."""

import asyncio
import threading

import pytest
from tritonclient.grpc import service_pb2

from gateway.deadline import Deadline
from gateway.errors import PublicError
from gateway.metrics import Metrics
from gateway.models import Models
from gateway.pictures import Picture
from gateway.tensors import Ask, Edit, infer_request, inputs, packed
from gateway.threads import Threads
from tests.gateway.asking import PNG
from tests.gateway.fake_triton import FakeTriton
from tests.gateway.serving import Loop


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


def test_a_request_that_is_sent_again_has_the_time_that_is_left() -> None:
    edit = Edit([PNG], "x", 20, 0, 1.5, 1, "", "jpeg")
    first = Ask(infer_request(edit, 1.5, "id"), "jpeg", 1)
    expected = service_pb2.ModelInferRequest.FromString(first.request)
    expected.parameters["timeout"].int64_param = 250_000
    assert service_pb2.ModelInferRequest.FromString(first.renewed(0.25).request) == expected


async def _edited_after(busy: float, deadline: float, triton: FakeTriton) -> Picture:
    """An edit whose one work thread is busy for so long once it waits."""
    threads, over = Threads(1), threading.Event()
    async with Models({"base": [triton.address]}, threads, Metrics()) as client:
        other = asyncio.ensure_future(threads.run(over.wait))
        await asyncio.sleep(0)
        edit = Edit([PNG], "x", 20, 0, 1.5, 1, "", "jpeg")
        edited = asyncio.ensure_future(client.edit(edit, deadline=Deadline(deadline)))
        await asyncio.wait({edited}, timeout=busy)
        over.set()
        await other
        return await edited


def test_the_time_left_is_taken_when_the_request_is_made(loop: Loop, triton: FakeTriton) -> None:
    loop.run(_edited_after(0.2, 60, triton))
    assert triton.requests[0].parameters["timeout"].int64_param <= 59_800_000


def test_expired_work_never_reaches_triton(loop: Loop, triton: FakeTriton) -> None:
    with pytest.raises(PublicError, match="deadline_exceeded"):
        loop.run(_edited_after(60, 0.1, triton))
    assert not triton.requests
