"""What goes to Triton: an `Edit` as the tensors of `edit` and `edit_stream`, and as bytes.

Knows nothing of calls, and nothing of what comes back.
"""

import io
import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Final, Literal, NamedTuple, Self

from tritonclient.grpc import service_pb2

MODEL: Final = "edit"
STREAM_MODEL: Final = "edit_stream"
RAW_INPUT_CONTENTS: Final = bytes([7 << 3 | 2])  # the tag of this field in ModelInferRequest: number, kind of content
SLICE: Final = 1 << 20
LEAST: Final = 2.0**-126
"""The least normal number of FP32."""
_CODES: Final = {"INT32": "i", "FP32": "f", "UINT64": "Q", "BOOL": "?"}


@dataclass(frozen=True)
class Edit:
    """One edit, as the contract of `edit` has it; a number of 0 takes the model repository's own default.

    `images`: encoded pictures; without any, a picture is made from text alone. `model`: as the request has
    it, or for Triton its adapters alone; "" for the base. `size`: width
    and height of the answer, zeros for the rule of `auto`. `mask`: a PNG, empty for none. `negative_prompt`: "" for
    the family's own. `n`: 1 to 10 pictures, of seeds seed, seed + 1, ... `cache`: of steps, "" for the repository's.
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
    mask: bytes = b""
    negative_prompt: str = ""
    n: int = 1
    low_priority: bool = False
    cache: str = ""

    def of(self, images: Sequence[bytes], mask: bytes = b"") -> Self:
        """The same edit of other images, and another mask."""
        return replace(self, images=images, mask=mask)

    def seed_of(self, index: int) -> int:
        """The seed of one of its pictures, from 0."""
        return (self.seed + index) % 2**64


@dataclass(frozen=True)
class Watch:
    """What is to be told while an edit runs: each step, and up to 3 previews of each picture."""

    progress: bool = False
    partial_images: int = 0


@dataclass(frozen=True)
class Ask:
    """One edit as Triton is asked for it: the serialized request, and what is needed to read the answer.

    `trace`: the trace that it is a part of, as headers.
    """

    request: bytes
    response_format: str
    n: int
    trace: Mapping[str, str] = field(default_factory=dict)

    def renewed(self, timeout_seconds: float) -> Self:
        """The same with another `timeout`: of an entry that a message has twice, protobuf reads the last."""
        return replace(self, request=self.request + _timed(service_pb2.ModelInferRequest(), timeout_seconds))


class Tensor(NamedTuple):
    """One input tensor: `values` are bytes for BYTES, numbers otherwise, as many as `shape` says."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    values: Sequence[bytes] | Sequence[int] | Sequence[float]


def inputs(edit: Edit, watch: Watch | None = None) -> list[Tensor]:
    """The input tensors of one request: to `edit`, or with `watch` to `edit_stream`.

    Up to `size` they are always there, and of the others those that say something.
    """
    asked = watch or Watch()
    more = [
        Tensor("mask", "BYTES", (1,), [edit.mask]),
        Tensor("negative_prompt", "BYTES", (1,), [edit.negative_prompt.encode()]),
        Tensor("n", "INT32", (1,), [edit.n]),
        Tensor("low_priority", "BOOL", (1,), [edit.low_priority]),
        Tensor("cache", "BYTES", (1,), [edit.cache.encode()]),
        Tensor("progress", "BOOL", (1,), [asked.progress]),
        Tensor("partial_images", "INT32", (1,), [asked.partial_images]),
    ]
    return [
        Tensor("image", "BYTES", (len(edit.images),), edit.images),
        Tensor("prompt", "BYTES", (1,), [edit.prompt.encode()]),
        Tensor("num_inference_steps", "INT32", (1,), [edit.num_inference_steps]),
        Tensor("guidance_scale", "FP32", (1,), [_float32(edit.guidance_scale)]),
        Tensor("image_guidance_scale", "FP32", (1,), [_float32(edit.image_guidance_scale)]),
        Tensor("seed", "UINT64", (1,), [edit.seed]),
        Tensor("model", "BYTES", (1,), [edit.model.encode()]),
        Tensor("response_format", "BYTES", (1,), [edit.response_format.encode()]),
        Tensor("size", "INT32", (2,), edit.size),
        *(tensor for tensor in more if tensor.values[0] and (tensor.name, tensor.values[0]) != ("n", 1)),
    ]


def _float32(scale: float) -> float:
    """As FP32 has it, but for one so small that it would be 0 there, which stands for the repository's own."""
    return max(scale, LEAST) if scale > 0 else 0.0


def packed(tensor: Tensor) -> list[bytes]:
    """A tensor's content in Triton's raw form, in pieces: little-endian; BYTES elements with their length before."""
    if tensor.datatype == "BYTES":
        elements = [value for value in tensor.values if isinstance(value, bytes)]
        return [part for value in elements for part in (struct.pack("<I", len(value)), value)]
    return [struct.pack(f"<{len(tensor.values)}{_CODES[tensor.datatype]}", *tensor.values)]


def infer_request(
    edit: Edit,
    timeout_seconds: float,
    request_id: str,
    watch: Watch | None = None,
    trace: Mapping[str, str] = MappingProxyType({}),
) -> bytes:
    """The serialized `ModelInferRequest` of one edit: to `edit` or, with `watch`, to `edit_stream`.

    `timeout_seconds` goes along as Triton's `timeout`, in µs. The tensors' contents are appended to the message by
    hand, copied once: protobuf would copy them three times, which for 50 MiB takes a fifth of a second in which nothing
    else runs. It is done slice by slice, so that from a thread it lets others run in between. Protobuf reads
    concatenated messages as one.
    """
    request = service_pb2.ModelInferRequest(model_name=STREAM_MODEL if watch else MODEL, id=request_id)
    for name, value in trace.items():
        request.parameters[name].string_param = value
    parts: list[bytes] = []
    for tensor in inputs(edit, watch):
        request.inputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
        content = packed(tensor)
        parts += [RAW_INPUT_CONTENTS, _varint(sum(map(len, content))), *content]
    message = io.BytesIO(_timed(request, timeout_seconds))
    message.seek(0, io.SEEK_END)
    for part in parts:
        for at in range(0, len(part), SLICE):
            message.write(memoryview(part)[at : at + SLICE])
    return message.getvalue()


def _timed(request: service_pb2.ModelInferRequest, seconds: float) -> bytes:
    """`request` as bytes, with what it may take."""
    request.parameters["timeout"].int64_param = math.ceil(seconds * 1_000_000)  # Triton takes 0 for none.
    return bytes(request.SerializeToString())


def _varint(number: int) -> bytes:
    """`number` as protobuf writes lengths: seven bits a byte, the lowest first."""
    groups = []
    while number > 0x7F:
        groups.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*groups, number])
