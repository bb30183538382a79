"""A gRPC server that answers `edit` as Triton does and computes nothing, in a process of its own or beside others.

python -m bench.stub_triton          listens on a free port, prints it, and serves until it is ended
"""

import asyncio
import io
import random
import struct
from typing import Any

import grpc
from PIL import Image
from tritonclient.grpc import service_pb2, service_pb2_grpc

SIDE = 64


def picture(side: int = SIDE) -> bytes:
    """A small JPEG file."""
    file = io.BytesIO()
    Image.radial_gradient("L").resize((side, side)).convert("RGB").save(file, "JPEG")
    return file.getvalue()


def answer(content: bytes, side: int) -> Any:
    """What `edit` answers: the square picture's file, its size, and the numbers that it was made with."""
    made = service_pb2.ModelInferResponse(model_name="edit")
    for name, datatype, shape, raw in (
        ("image", "BYTES", 1, struct.pack("<I", len(content)) + content),
        ("size", "INT32", 2, struct.pack("<2i", side, side)),
        ("num_inference_steps", "INT32", 1, struct.pack("<i", 20)),
        ("guidance_scale", "FP32", 1, struct.pack("<f", 7.5)),
        ("image_guidance_scale", "FP32", 1, struct.pack("<f", 1.5)),
    ):
        made.outputs.add(name=name, datatype=datatype, shape=[shape])
        made.raw_output_contents.append(raw)
    return made


class StubTriton(service_pb2_grpc.GRPCInferenceServiceServicer):  # type: ignore[misc]
    """Does `slots` edits at once, each in `seconds` times a number of exponential distribution; 0 at once.

    `answered`: what it answers; None for a small picture.
    """

    def __init__(self, slots: int = 1 << 20, seconds: float = 0.0, answered: Any = None) -> None:
        self._slots, self._seconds = asyncio.Semaphore(slots), seconds
        self._random = random.Random(7)  # noqa: S311 - it guards nothing
        self.answered = answered or answer(picture(), SIDE)

    async def ModelInfer(self, request: Any, context: Any) -> Any:  # noqa: N802, ARG002
        if self._seconds:
            async with self._slots:
                await asyncio.sleep(self._seconds * self._random.expovariate(1))
        return self.answered

    async def ServerReady(self, request: Any, context: Any) -> Any:  # noqa: N802, ARG002
        return service_pb2.ServerReadyResponse(ready=True)

    async def ModelReady(self, request: Any, context: Any) -> Any:  # noqa: N802, ARG002
        return service_pb2.ModelReadyResponse(ready=True)

    async def start(self) -> int:
        """Listen on a free port, and return it."""
        options = [("grpc.max_receive_message_length", -1), ("grpc.so_reuseport", 0)]
        self._server = grpc.aio.server(options=options)
        service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(self, self._server)
        port = self._server.add_insecure_port("127.0.0.1:0")
        await self._server.start()
        return int(port)

    async def stop(self) -> None:
        """End at once, and fail what is in flight."""
        await self._server.stop(None)


async def main() -> None:
    """Serves until the process is ended."""
    triton = StubTriton()
    print(await triton.start(), flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
