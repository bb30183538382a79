"""A real gRPC server with Triton's inference service, whose two models do what a test tells them to."""

import asyncio
import io
import struct
import threading
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
from PIL import Image
from tritonclient.grpc import model_config_pb2, service_pb2, service_pb2_grpc

Behaviour = Callable[[Any, Any], Awaitable[Any]]
StreamBehaviour = Callable[[Any, Any], AsyncIterator[Any]]

WIDTH, HEIGHT = 16, 8
USED = {"num_inference_steps": 12, "guidance_scale": 7.1, "image_guidance_scale": 1.5}
"""What every edit was done with."""
OFFER = {
    "adapters": "",
    "steps": "4,8,12",
    "num_inference_steps": "12",
    "guidance_scale": "7.1",
    "image_guidance_scale": "1.5",
    "max_images": "2",
    "generation_size": "512x512",
    "max_pixels": "262144",
    "negative_prompt": "true",
    "cache": "off",
}
"""What the export says in `edit`'s configuration."""
CACHE, FORETOLD = "balanced", 3
"""How steps of every edit were cached; so many of the first picture were foretold, of each other one more."""
TOKENS = (77, 32, 16)
"""Of text, of the references, of the picture."""
DATATYPES = {"INT32": "i", "FP32": "f"}
RAW = bytes(i % 256 for i in range(WIDTH * HEIGHT * 3))


def jpeg() -> bytes:
    """A JPEG file of WIDTH x HEIGHT."""
    file = io.BytesIO()
    Image.frombytes("RGB", (WIDTH, HEIGHT), RAW).save(file, "JPEG")
    return file.getvalue()


JPEG = jpeg()


def element(raw: bytes) -> bytes:
    """The single element of a BYTES tensor's raw content."""
    return raw[4:]


def tensors(request: Any) -> dict[str, bytes]:
    """Raw content by input name."""
    return dict(zip((one.name for one in request.inputs), request.raw_input_contents, strict=True))


def number(request: Any, name: str, default: int = 0) -> int:
    """An INT32 input of one element."""
    content = tensors(request).get(name)
    return struct.unpack("<i", content)[0] if content else default


def outputs(pictures: list[bytes], numbers: dict[str, tuple[str, list[Any]]]) -> Any:
    """A response with these pictures, if any, and these numbers: by name, their datatype and they."""
    answer = service_pb2.ModelInferResponse(model_name="edit", model_version="1")
    if pictures:
        answer.outputs.add(name="image", datatype="BYTES", shape=[len(pictures)])
        answer.raw_output_contents.append(b"".join(struct.pack("<I", len(one)) + one for one in pictures))
    for name, (datatype, values) in numbers.items():
        answer.outputs.add(name=name, datatype=datatype, shape=[len(values)])
        answer.raw_output_contents.append(struct.pack(f"<{len(values)}{DATATYPES[datatype]}", *values))
    if "tokens" in numbers:
        answer.outputs.add(name="cache", datatype="BYTES", shape=[1])
        answer.raw_output_contents.append(struct.pack("<I", len(CACHE)) + CACHE.encode())
    return answer


def used() -> dict[str, tuple[str, list[Any]]]:
    """The numbers that every edit was done with."""
    return {name: ("INT32" if isinstance(value, int) else "FP32", [value]) for name, value in USED.items()}


def response(content: bytes, width: int = WIDTH, height: int = HEIGHT, n: int = 1) -> Any:
    """An answer of `edit`: the same picture `n` times."""
    numbers = {"size": ("INT32", [width, height]), **used(), "tokens": ("INT32", [*TOKENS])}
    numbers["foretold"] = ("INT32", [FORETOLD + place for place in range(n)])
    return outputs([content] * n, numbers)


def content_of(request: Any) -> bytes:
    """The picture in the format that is asked for."""
    return RAW if element(tensors(request)["response_format"]) == b"raw" else JPEG


def begun(steps: int = USED["num_inference_steps"]) -> Any:
    """The first response of `edit_stream`."""
    return outputs([], {"step": ("INT32", [0, steps]), **used()})


def progress(step: int, index: int = 0, steps: int = USED["num_inference_steps"]) -> Any:
    return outputs([], {"step": ("INT32", [step, steps]), "index": ("INT32", [index])})


def preview(request: Any, number: int, index: int = 0, step: int = 1) -> Any:
    numbers = {"size": [WIDTH, HEIGHT], "step": [step, 12], "index": [index], "partial_index": [number]}
    return outputs([content_of(request)], {name: ("INT32", values) for name, values in numbers.items()})


def finished(request: Any, index: int = 0) -> Any:
    numbers = {"size": [WIDTH, HEIGHT], "step": [12, 12], "index": [index], "tokens": [*TOKENS]}
    numbers["foretold"] = [FORETOLD + index]
    return outputs([content_of(request)], {name: ("INT32", values) for name, values in numbers.items()} | used())


async def at_once(request: Any, context: Any) -> Any:
    """Answer in the format that is asked for."""
    return response(content_of(request), n=number(request, "n", 1))


async def told(request: Any, context: Any) -> AsyncIterator[Any]:
    """Tell all that is asked for, as fast as it goes."""
    yield begun()
    for step in range(1, 4):
        for index in range(number(request, "n", 1)):
            if tensors(request).get("progress") == b"\x01":
                yield progress(step, index)
            if step <= number(request, "partial_images"):
                yield preview(request, step - 1, index, step)
    for index in range(number(request, "n", 1)):
        yield finished(request, index)


def telling(*parts: Any, then: StreamBehaviour | None = None) -> StreamBehaviour:
    """Tell these responses, functions of the request among them, wait for events among them, and go on as `then`."""

    async def behave(request: Any, context: Any) -> AsyncIterator[Any]:
        for part in parts:
            if isinstance(part, threading.Event):
                while not part.is_set():
                    await asyncio.sleep(0.01)
            else:
                yield part(request) if callable(part) else part
        if then is not None:
            async for more in then(request, context):
                yield more

    return behave


def breaking(status: grpc.StatusCode, details: str) -> StreamBehaviour:
    """Fail in band, as Triton does; with its status where the call itself breaks."""

    async def behave(request: Any, context: Any) -> AsyncIterator[Any]:
        if ("triton_grpc_error", "true") in context.invocation_metadata():
            raise AssertionError("the real one crashes of it")
        if details:
            yield details
        else:
            await context.abort(status, details)

    return behave


def after(seconds: float) -> Behaviour:
    """Answer, but only after a while."""

    async def behave(request: Any, context: Any) -> Any:
        await asyncio.sleep(seconds)
        return await at_once(request, context)

    return behave


def when(released: threading.Event) -> Behaviour:
    """Answer, but not before this is set."""

    async def behave(request: Any, context: Any) -> Any:
        while not released.is_set():
            await asyncio.sleep(0.01)
        return await at_once(request, context)

    return behave


def failing(status: grpc.StatusCode, details: str) -> Behaviour:
    """Fail as told."""

    async def behave(request: Any, context: Any) -> Any:
        await context.abort(status, details)

    return behave


def answering(answer: Any) -> Behaviour:
    """Give this answer, right or wrong."""

    async def behave(request: Any, context: Any) -> Any:
        return answer

    return behave


class FakeTriton(service_pb2_grpc.GRPCInferenceServiceServicer):
    """What a test scripts (`behave`, `tell`, `is_ready`, `offer`) and what it then looks at."""

    def __init__(self) -> None:
        self.reset()

    @property
    def active(self) -> int:
        """Requests of this test that are being worked on."""
        return self._counts["active"]

    @property
    def cancelled(self) -> int:
        """Requests of this test that were cancelled."""
        return self._counts["cancelled"]

    def reset(self) -> None:
        self.behave: Behaviour = at_once
        self.tell: StreamBehaviour = told
        self.is_ready = True
        self.offer = dict(OFFER)
        self.requests: list[Any] = []
        self._counts: Counter[str] = Counter()  # what an earlier test left is counted in its own
        self.timeouts: list[float] = []
        self.metadata: list[dict[str, str]] = []

    async def ModelInfer(self, request: Any, context: Any) -> Any:  # noqa: N802
        self.requests.append(request)
        self.timeouts.append(context.time_remaining())
        self.metadata.append(dict(context.invocation_metadata()))
        counts = self._counts
        counts["active"] += 1
        try:
            return await self.behave(request, context)
        except asyncio.CancelledError:
            counts["cancelled"] += 1
            raise
        finally:
            counts["active"] -= 1

    async def ModelStreamInfer(self, requests: Any, context: Any) -> AsyncIterator[Any]:  # noqa: N802
        """Each request in its turn; a text stands for a failure in band. What is closed early counts as cancelled."""
        counts, done = self._counts, False
        counts["active"] += 1
        try:
            async for request in requests:
                assert request.model_name == "edit_stream"
                self.requests.append(request)
                self.timeouts.append(context.time_remaining())
                self.metadata.append(dict(context.invocation_metadata()))
                async for one in self.tell(request, context):
                    failed = {"error_message": one} if isinstance(one, str) else {"infer_response": one}
                    yield service_pb2.ModelStreamInferResponse(**failed)
            done = True
        except grpc.aio.AbortError:
            done = True
            raise
        finally:
            counts["active"] -= 1
            counts["cancelled"] += not done

    async def ServerReady(self, request: Any, context: Any) -> Any:  # noqa: N802
        return service_pb2.ServerReadyResponse(ready=self.is_ready)

    async def ModelReady(self, request: Any, context: Any) -> Any:  # noqa: N802
        return service_pb2.ModelReadyResponse(ready=self.is_ready and request.name == "edit")

    async def ModelConfig(self, request: Any, context: Any) -> Any:  # noqa: N802
        config = model_config_pb2.ModelConfig(name=request.name)
        for name, value in self.offer.items() if request.name == "edit" else ():
            config.parameters[name].string_value = value
        return service_pb2.ModelConfigResponse(config=config)

    async def start(self, address: str = "127.0.0.1:0") -> None:
        """Listen at `address`: a socket's path for who is to come back there, for a port may be another's by then."""
        unlimited = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
        self._server = grpc.aio.server(options=[*unlimited, ("grpc.so_reuseport", 0)])
        service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(self, self._server)
        port = self._server.add_insecure_port(address)
        self.address = address if address.startswith("unix:") else f"127.0.0.1:{port}"
        await self._server.start()

    async def stop(self) -> None:
        """Stop at once, failing what is in flight."""
        await self._server.stop(None)
