"""Triton's `edit` model over gRPC: an `Edit` goes in, a `Picture` comes out, a `PublicError` is raised.

Knows the tensor contract of `edit` and nothing of HTTP.
"""

import io
import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Final, Literal, NamedTuple, Self

import grpc
from tritonclient.grpc import model_config_pb2, service_pb2, service_pb2_grpc

from gateway.deadline import Deadline
from gateway.errors import PublicError
from gateway.failures import problem_of
from gateway.threads import Threads

MODEL: Final = "edit"
SCALES: Final = ("guidance_scale", "image_guidance_scale")
INFER: Final = "/inference.GRPCInferenceService/ModelInfer"
RAW_INPUT_CONTENTS: Final = bytes([7 << 3 | 2])  # the tag of this field in ModelInferRequest: number, kind of content
SLICE: Final = 1 << 20
CLIENT_SLACK_SECONDS: Final = 2.0  # Triton is to notice the deadline first, so that its engine stops too.
READY_SECONDS: Final = 2.0
UNLIMITED: Final = -1
CHANNEL_OPTIONS: Final = [
    ("grpc.max_send_message_length", UNLIMITED),
    ("grpc.max_receive_message_length", UNLIMITED),
    # gRPC would wait up to two minutes before it tries a restarted Triton again.
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.min_reconnect_backoff_ms", 1000),
    ("grpc.max_reconnect_backoff_ms", 1000),
]


@dataclass(frozen=True)
class Edit:
    """One edit, as the contract of `edit` has it; a number of 0 takes the model repository's own default.

    `images`: encoded pictures; without any, a picture is made from text alone, of `size` (width, height), which with
    images is not asked for. `model`: "" for the base.
    """

    images: Sequence[bytes]
    prompt: str
    num_inference_steps: int
    guidance_scale: float
    image_guidance_scale: float
    seed: int
    model: str
    response_format: Literal["raw", "jpeg"]
    size: tuple[int, int] = (0, 0)

    def of(self, images: Sequence[bytes]) -> Self:
        """The same edit of other images."""
        return replace(self, images=images)


@dataclass(frozen=True)
class Picture:
    """The edited picture: a JPEG file, or raw 8-bit RGB rows of `height` x `width` x 3 bytes.

    `used`: what the edit was done with, defaults filled in.
    """

    content: bytes
    width: int
    height: int
    used: Mapping[str, int | float]


@dataclass(frozen=True)
class Offer:
    """What the model repository lets callers ask for, as the export has put it down in the configuration of `edit`."""

    adapters: Sequence[str]
    steps: Sequence[int]
    num_inference_steps: int
    guidance_scale: float
    image_guidance_scale: float
    max_images: int
    generation_size: str
    """Of a picture from text alone for which none is asked, as in `512x512`; "" where there are none."""


class Tensor(NamedTuple):
    """One input tensor: `values` are bytes for BYTES, numbers otherwise, as many as `shape` says."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    values: Sequence[bytes] | Sequence[int] | Sequence[float]


def inputs(edit: Edit) -> list[Tensor]:
    """The input tensors of one request to `edit`, every one of them always present."""
    return [
        Tensor("image", "BYTES", (len(edit.images),), edit.images),
        Tensor("prompt", "BYTES", (1,), [edit.prompt.encode()]),
        Tensor("num_inference_steps", "INT32", (1,), [edit.num_inference_steps]),
        Tensor("guidance_scale", "FP32", (1,), [edit.guidance_scale]),
        Tensor("image_guidance_scale", "FP32", (1,), [edit.image_guidance_scale]),
        Tensor("seed", "UINT64", (1,), [edit.seed]),
        Tensor("model", "BYTES", (1,), [edit.model.encode()]),
        Tensor("response_format", "BYTES", (1,), [edit.response_format.encode()]),
        Tensor("size", "INT32", (2,), edit.size),
    ]


def packed(tensor: Tensor) -> list[bytes]:
    """A tensor's content in Triton's raw form, in pieces: little-endian; BYTES elements with their length before."""
    if tensor.datatype == "BYTES":
        elements = [value for value in tensor.values if isinstance(value, bytes)]
        return [part for value in elements for part in (struct.pack("<I", len(value)), value)]
    code = {"INT32": "i", "FP32": "f", "UINT64": "Q"}[tensor.datatype]
    return [struct.pack(f"<{len(tensor.values)}{code}", *tensor.values)]


def infer_request(edit: Edit, timeout_seconds: float, request_id: str) -> bytes:
    """The serialized `ModelInferRequest` of one edit. `timeout_seconds` goes along as Triton's `timeout`, in µs.

    The tensors' contents are appended to the message by hand, copied once: protobuf would copy them three times, which
    for 50 MiB takes a fifth of a second in which nothing else runs. It is done slice by slice, so that from a thread it
    lets others run in between. Protobuf reads concatenated messages as one.
    """
    request = service_pb2.ModelInferRequest(model_name=MODEL, id=request_id)
    request.parameters["timeout"].int64_param = math.ceil(timeout_seconds * 1_000_000)  # Triton takes 0 for none.
    parts: list[bytes] = []
    for tensor in inputs(edit):
        request.inputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
        content = packed(tensor)
        parts += [RAW_INPUT_CONTENTS, _varint(sum(map(len, content))), *content]
    message = io.BytesIO(request.SerializeToString())
    message.seek(0, io.SEEK_END)
    for part in parts:
        for at in range(0, len(part), SLICE):
            message.write(memoryview(part)[at : at + SLICE])
    return message.getvalue()


def _request_now(edit: Edit, deadline: Deadline, request_id: str) -> bytes:
    """`infer_request` with the time that is left when a thread begins with it. Raises `PublicError`."""
    return infer_request(edit, deadline.left(), request_id)


def _varint(number: int) -> bytes:
    """`number` as protobuf writes lengths: seven bits a byte, the lowest first."""
    groups = []
    while number > 0x7F:
        groups.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*groups, number])


def picture_of(response: service_pb2.ModelInferResponse, response_format: str) -> Picture:
    """The picture in Triton's answer. Raises `PublicError("edit_failed")` when it is not what the contract promises."""
    try:
        raw = dict(zip((output.name for output in response.outputs), response.raw_output_contents, strict=True))
        width, height = struct.unpack("<2i", raw["size"])
        (length,) = struct.unpack_from("<I", raw["image"])
        content = raw["image"][4:]
    except (KeyError, ValueError, struct.error):
        raise PublicError("edit_failed", cause="Triton's answer lacks a tensor of the contract") from None
    right = len(content) == width * height * 3 if response_format == "raw" else content.startswith(b"\xff\xd8\xff")
    if length != len(content) or min(width, height) <= 0 or not right:
        raise PublicError("edit_failed", cause="Triton's answer holds no picture of the size it says")
    return Picture(content, width, height, _used(raw))


def _used(raw: Mapping[str, bytes]) -> dict[str, int | float]:
    """The numbers that the edit was done with. Raises `PublicError("edit_failed")`."""
    try:
        scales = {name: struct.unpack("<f", raw[name])[0] for name in SCALES}
        (steps,) = struct.unpack("<i", raw["num_inference_steps"])
    except (KeyError, struct.error):
        raise PublicError("edit_failed", cause="Triton's answer does not say what the edit was done with") from None
    # A float32 as people write it: 7.5, and 0.1 instead of 0.10000000149.
    return {"num_inference_steps": steps} | {name: float(f"{scale:.6g}") for name, scale in scales.items()}


def offer_of(config: model_config_pb2.ModelConfig) -> Offer:
    """What `edit`'s configuration says. Raises `PublicError("unavailable")` where the export has not said it."""
    said = {name: parameter.string_value for name, parameter in config.parameters.items()}
    try:
        return Offer(
            adapters=[name.strip() for name in said["adapters"].split(",") if name.strip()],
            steps=[int(count) for count in said["steps"].split(",")],
            num_inference_steps=int(said["num_inference_steps"]),
            guidance_scale=float(said["guidance_scale"]),
            image_guidance_scale=float(said["image_guidance_scale"]),
            max_images=int(said["max_images"]),
            generation_size=said["generation_size"],
        )
    except (KeyError, ValueError):
        raise PublicError("unavailable") from None


class Triton:
    """A client of one Triton target, usable while entered. Cancelling the task that awaits `edit` cancels the edit."""

    def __init__(self, target: str, threads: Threads) -> None:
        self._target, self._threads = target, threads

    async def __aenter__(self) -> Self:
        self._channel = grpc.aio.insecure_channel(self._target, options=CHANNEL_OPTIONS)
        self._stub = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)
        # gRPC keeps a call's request for as long as the call; the stub would keep the message beside its bytes.
        self._infer = self._channel.unary_unary(INFER, response_deserializer=service_pb2.ModelInferResponse.FromString)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._channel.close()

    async def edit(self, edit: Edit, *, deadline: Deadline, request_id: str = "") -> Picture:
        """Run one edit before `deadline`. Raises `PublicError`, never with upstream text in it."""
        response_format = edit.response_format
        async with deadline.kept():
            request = await self._threads.run(_request_now, edit, deadline, request_id)
        del edit  # Its images are large, and copied by now.
        try:
            response = await self._infer(request, timeout=deadline.left() + CLIENT_SLACK_SECONDS)
        except grpc.aio.AioRpcError as error:
            raise problem_of(error.code(), error.details() or "") from None
        return picture_of(response, response_format)

    async def ready(self) -> bool:
        """Whether Triton answers and says that `edit` could run now."""
        request = service_pb2.ModelReadyRequest(name=MODEL)
        try:
            response = await self._stub.ModelReady(request, timeout=READY_SECONDS)
        except grpc.aio.AioRpcError:
            return False
        return bool(response.ready)

    async def offer(self) -> Offer:
        """What callers may ask for. Raises `PublicError("unavailable")`."""
        request = service_pb2.ModelConfigRequest(name=MODEL)
        try:
            response = await self._stub.ModelConfig(request, timeout=READY_SECONDS)
        except grpc.aio.AioRpcError:
            raise PublicError("unavailable") from None
        return offer_of(response.config)
