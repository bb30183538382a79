"""One Triton over gRPC: a request goes in, pictures or events come out, or a `PublicError`. Knows nothing of HTTP."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterable, Iterator, Mapping
from contextlib import aclosing, contextmanager, suppress
from types import TracebackType
from typing import Final, Self

import grpc
import structlog
from tritonclient.grpc import service_pb2, service_pb2_grpc

from gateway.deadline import Deadline
from gateway.errors import PublicError
from gateway.failures import problem_in_band, problem_of
from gateway.offer import Offer, offer_of
from gateway.pictures import Event, Finished, Picture, event_of, pictures_of
from gateway.tensors import MODEL, Ask

INFER: Final = "/inference.GRPCInferenceService/ModelInfer"
STREAM_INFER: Final = "/inference.GRPCInferenceService/ModelStreamInfer"
CLIENT_SLACK_SECONDS: Final = 2.0  # Triton is to notice the deadline first, so that its engine stops too.
READY_SECONDS: Final = 1.0
LOOK_SECONDS: Final = 0.5
"""Between two looks at whether it is ready."""
RARELY_SECONDS: Final = 5.0
"""The same of one that has never been ready, which may not be there at all."""
OUT_SECONDS: Final = 1.0
"""How long one is left out that could not do an edit, whatever it says of itself."""
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
    """A client of one Triton, at `address`, usable while entered. Cancelling the task that awaits an edit cancels it.

    `well`: whether it was ready when it was last looked at, and has not failed since. `seen`: whether it ever was.
    """

    def __init__(self, address: str) -> None:
        self._address = address
        self.in_flight = 0
        """Pictures that are being made for this gateway."""
        self.chosen = 0
        """When it was last chosen, as `gateway.spread` counts."""
        self.well = self.seen = False
        self._out_until = 0.0

    async def __aenter__(self) -> Self:
        self._channel = grpc.aio.insecure_channel(self._address, options=CHANNEL_OPTIONS)
        self._stub = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)
        # gRPC keeps a call's request for as long as the call; the stub would keep the message beside its bytes.
        self._infer = self._channel.unary_unary(INFER, response_deserializer=service_pb2.ModelInferResponse.FromString)
        self._stream_infer = self._channel.stream_stream(
            STREAM_INFER, response_deserializer=service_pb2.ModelStreamInferResponse.FromString
        )
        await self.ready()
        self._watching = asyncio.ensure_future(self._watch())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._watching.cancel()
        with suppress(asyncio.CancelledError):
            await self._watching
        await self._channel.close()

    async def edit(self, ask: Ask, deadline: Deadline) -> list[Picture]:
        """Run one edit before `deadline`: its `n` pictures. Raises `PublicError`, never with upstream text in it."""
        with self._counted(ask.n):
            seconds, metadata = deadline.left() + CLIENT_SLACK_SECONDS, _metadata(ask.trace)
            try:
                response = await self._infer(ask.request, timeout=seconds, metadata=metadata)
            except grpc.aio.AioRpcError as error:
                raise problem_of(error.code(), error.details() or "") from None
            return pictures_of(response, ask.response_format, ask.n)

    async def stream(self, ask: Ask, deadline: Deadline) -> AsyncGenerator[Event]:
        """Run one edit before `deadline`, and tell what becomes of it as it does, `Begun` first.

        Raises as `edit` does. Closing the generator cancels the edit.
        """
        with self._counted(ask.n):
            seconds, metadata = deadline.left() + CLIENT_SLACK_SECONDS, _metadata(ask.trace)
            call = self._stream_infer(iter([ask.request]), timeout=seconds, metadata=metadata)
            try:
                async with aclosing(_events(call, ask.response_format, ask.n)) as events:
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
            ready = False
        else:
            ready = bool(server.ready and model.ready)
        self.seen |= ready
        self._now(well=ready and time.monotonic() >= self._out_until)
        return ready

    async def offer(self) -> Offer:
        """What callers may ask for. Raises `PublicError("unavailable")`."""
        request = service_pb2.ModelConfigRequest(name=MODEL)
        try:
            response = await self._stub.ModelConfig(request, timeout=READY_SECONDS)
        except grpc.aio.AioRpcError:
            raise PublicError("unavailable") from None
        return offer_of(response.config)

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS if self.seen else RARELY_SECONDS)
            await self.ready()

    @contextmanager
    def _counted(self, n: int) -> Iterator[None]:
        """Count the pictures of the block, and leave this Triton out for a while if it is not there for them."""
        self.in_flight += n
        try:
            yield
        except PublicError as error:
            if error.code == "unavailable":
                self._out_until = time.monotonic() + OUT_SECONDS
                self._now(well=False)
            raise
        finally:
            self.in_flight -= n

    def _now(self, *, well: bool) -> None:
        """Remember whether it is to be sent edits, and say in the log where that changes."""
        if self.well and not well:
            structlog.get_logger().warning("triton_left_out", triton=self._address)
        elif well and not self.well:
            structlog.get_logger().info("triton_ready", triton=self._address)
        self.well = well
