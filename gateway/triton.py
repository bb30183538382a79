"""Triton over gRPC: an `Edit` goes in, pictures or events come out, or a `PublicError`. Knows nothing of HTTP."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Mapping
from contextlib import aclosing
from types import TracebackType
from typing import Final, Self

import grpc
from tritonclient.grpc import service_pb2, service_pb2_grpc

from gateway.deadline import Deadline
from gateway.errors import PublicError
from gateway.failures import problem_in_band, problem_of
from gateway.offer import Offer, offer_of
from gateway.pictures import SCALES, Event, Finished, Picture, event_of, picture_of, pictures_of
from gateway.tensors import MODEL, Edit, Watch, infer_request, inputs, packed
from gateway.threads import Threads

__all__ = [
    "SCALES", "Edit", "Offer", "Picture", "Triton", "infer_request", "inputs", "offer_of", "packed", "picture_of"
]  # fmt: skip

INFER: Final = "/inference.GRPCInferenceService/ModelInfer"
STREAM_INFER: Final = "/inference.GRPCInferenceService/ModelStreamInfer"
CLIENT_SLACK_SECONDS: Final = 2.0  # Triton is to notice the deadline first, so that its engine stops too.
READY_SECONDS: Final = 2.0
TRACEPARENT: Final = "traceparent"
UNLIMITED: Final = -1
CHANNEL_OPTIONS: Final = [
    ("grpc.max_send_message_length", UNLIMITED),
    ("grpc.max_receive_message_length", UNLIMITED),
    # gRPC would wait up to two minutes before it tries a restarted Triton again.
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.min_reconnect_backoff_ms", 1000),
    ("grpc.max_reconnect_backoff_ms", 1000),
]


def _request_now(
    edit: Edit, deadline: Deadline, request_id: str, trace: Mapping[str, str], watch: Watch | None = None
) -> bytes:
    """`infer_request` with the time that is left when a thread begins with it. Raises `PublicError`."""
    return infer_request(edit, deadline.left(), request_id, watch, trace)


def _metadata(trace: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """What Triton makes spans of its own by: of a trace that is kept, for it does not look whether one is."""
    kept = int(trace.get(TRACEPARENT, "0")[-1], 16) & 1
    return tuple(trace.items()) if kept else ()


async def _events(
    responses: AsyncIterable[service_pb2.ModelStreamInferResponse], response_format: str, n: int
) -> AsyncGenerator[Event]:
    """What the responses to one edit of `n` pictures tell; its last picture, or `PublicError`, once they have ended.

    They are read to their end: Triton loses a request that is cancelled just as it ends.
    """
    rest = set(range(n))
    last: Event | None = None
    problem: PublicError | None = None
    async for response in responses:
        if problem or not rest:
            continue
        if response.error_message:
            problem = problem_in_band(response.error_message)
            continue
        event = event_of(response.infer_response, response_format, n)
        if isinstance(event, Finished):
            rest.discard(event.index)
        if not rest:
            last = event
        elif event is not None:
            yield event
    if problem:
        raise problem
    if last is None:
        raise PublicError("edit_failed", cause="Triton's stream ended before its last picture")
    yield last


class Triton:
    """A client of one Triton target, usable while entered. Cancelling the task that awaits an edit cancels the edit.

    `onward`: the trace that a request made now is a part of, as headers.
    """

    def __init__(self, target: str, threads: Threads, onward: Callable[[], Mapping[str, str]] = dict) -> None:
        self._target, self._threads, self._onward = target, threads, onward

    async def __aenter__(self) -> Self:
        self._channel = grpc.aio.insecure_channel(self._target, options=CHANNEL_OPTIONS)
        self._stub = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)
        # gRPC keeps a call's request for as long as the call; the stub would keep the message beside its bytes.
        self._infer = self._channel.unary_unary(INFER, response_deserializer=service_pb2.ModelInferResponse.FromString)
        self._stream_infer = self._channel.stream_stream(
            STREAM_INFER, response_deserializer=service_pb2.ModelStreamInferResponse.FromString
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._channel.close()

    async def edit(self, edit: Edit, *, deadline: Deadline, request_id: str = "") -> list[Picture]:
        """Run one edit before `deadline`: its `n` pictures. Raises `PublicError`, never with upstream text in it."""
        response_format, n, trace = edit.response_format, edit.n, self._onward()
        async with deadline.kept():
            request = await self._threads.run(_request_now, edit, deadline, request_id, trace)
        del edit  # Its images are large, and copied by now.
        try:
            seconds = deadline.left() + CLIENT_SLACK_SECONDS
            response = await self._infer(request, timeout=seconds, metadata=_metadata(trace))
        except grpc.aio.AioRpcError as error:
            raise problem_of(error.code(), error.details() or "") from None
        return pictures_of(response, response_format, n)

    async def stream(
        self, edit: Edit, watch: Watch, *, deadline: Deadline, request_id: str = ""
    ) -> AsyncGenerator[Event]:
        """Run one edit before `deadline`, and tell what becomes of it as it does, `Begun` first.

        Raises as `edit` does. Closing the generator cancels the edit.
        """
        response_format, n, trace = edit.response_format, edit.n, self._onward()
        async with deadline.kept():
            request = await self._threads.run(_request_now, edit, deadline, request_id, trace, watch)
        del edit
        seconds = deadline.left() + CLIENT_SLACK_SECONDS
        call = self._stream_infer(iter([request]), timeout=seconds, metadata=_metadata(trace))
        del request
        try:
            async with aclosing(_events(call, response_format, n)) as events:
                async for event in events:
                    yield event
        except grpc.aio.AioRpcError as error:
            raise problem_of(error.code(), error.details() or "") from None
        finally:
            call.cancel()

    async def ready(self) -> bool:
        """Whether Triton answers, takes requests, and says that `edit` could run now."""
        request = service_pb2.ModelReadyRequest(name=MODEL)
        try:
            # A Triton that is going says so of itself at once, and of its models only when they are gone.
            server, model = await asyncio.gather(
                self._stub.ServerReady(service_pb2.ServerReadyRequest(), timeout=READY_SECONDS),
                self._stub.ModelReady(request, timeout=READY_SECONDS),
            )
        except grpc.aio.AioRpcError:
            return False
        return bool(server.ready and model.ready)

    async def offer(self) -> Offer:
        """What callers may ask for. Raises `PublicError("unavailable")`."""
        request = service_pb2.ModelConfigRequest(name=MODEL)
        try:
            response = await self._stub.ModelConfig(request, timeout=READY_SECONDS)
        except grpc.aio.AioRpcError:
            raise PublicError("unavailable") from None
        return offer_of(response.config)
