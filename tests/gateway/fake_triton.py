"""A real gRPC server with Triton's inference service, whose one model does what a test tells it to."""

import asyncio
import io
import struct
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
from PIL import Image
from tritonclient.grpc import model_config_pb2, service_pb2, service_pb2_grpc

Behaviour = Callable[[Any, Any], Awaitable[Any]]

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
}
"""What the export says in `edit`'s configuration."""
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


def response(content: bytes, width: int = WIDTH, height: int = HEIGHT) -> Any:
    """An answer of `edit`."""
    answer = service_pb2.ModelInferResponse(model_name="edit", model_version="1")
    answer.outputs.add(name="image", datatype="BYTES", shape=[1])
    answer.outputs.add(name="size", datatype="INT32", shape=[2])
    answer.raw_output_contents.extend(
        [struct.pack("<I", len(content)) + content, struct.pack("<2i", width, height)],
    )
    for (name, used), (datatype, code) in zip(
        USED.items(), (("INT32", "i"), ("FP32", "f"), ("FP32", "f")), strict=True
    ):
        answer.outputs.add(name=name, datatype=datatype, shape=[1])
        answer.raw_output_contents.append(struct.pack(f"<{code}", used))
    return answer


async def at_once(request: Any, context: Any) -> Any:
    """Answer in the format that is asked for."""
    return response(RAW if element(tensors(request)["response_format"]) == b"raw" else JPEG)


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
    """What a test scripts (`behave`, `is_ready`, `offer`) and what it then looks at."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.behave: Behaviour = at_once
        self.is_ready = True
        self.offer = dict(OFFER)
        self.requests: list[Any] = []
        self.active = 0
        self.cancelled = 0
        self.timeouts: list[float] = []

    async def ModelInfer(self, request: Any, context: Any) -> Any:  # noqa: N802
        self.requests.append(request)
        self.timeouts.append(context.time_remaining())
        self.active += 1
        try:
            return await self.behave(request, context)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.active -= 1

    async def ServerReady(self, request: Any, context: Any) -> Any:  # noqa: N802
        return service_pb2.ServerReadyResponse(ready=self.is_ready)

    async def ModelReady(self, request: Any, context: Any) -> Any:  # noqa: N802
        return service_pb2.ModelReadyResponse(ready=self.is_ready and request.name == "edit")

    async def ModelConfig(self, request: Any, context: Any) -> Any:  # noqa: N802
        config = model_config_pb2.ModelConfig(name=request.name)
        for name, value in self.offer.items() if request.name == "edit" else ():
            config.parameters[name].string_value = value
        return service_pb2.ModelConfigResponse(config=config)

    async def start(self, port: int = 0) -> int:
        """Listen, and return the port."""
        unlimited = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
        self._server = grpc.aio.server(options=[*unlimited, ("grpc.so_reuseport", 0)])
        service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(self, self._server)
        self.port = self._server.add_insecure_port(f"127.0.0.1:{port}")
        await self._server.start()
        return self.port

    async def stop(self) -> None:
        """Stop at once, failing what is in flight."""
        await self._server.stop(None)
