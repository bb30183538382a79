"""How tests stream: one request to `edit_stream` over gRPC, and its responses as they come."""

import queue
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import tritonclient.grpc as triton_grpc
from numpy.typing import NDArray
from PIL import Image

from embedded.server import Embedded
from tests.server.tensors import grpc_inputs

SECONDS = 120
ATTEMPTS = 20


@dataclass(frozen=True)
class Response:
    """`last`: whether the request ends with it."""

    tensors: dict[str, Any]
    last: bool

    @property
    def step(self) -> tuple[int, int]:
        made, steps = self.tensors["step"].tolist()
        return made, steps

    @property
    def pixels(self) -> NDArray[np.uint8]:
        """(H, W, 3), of a raw picture."""
        width, height = self.tensors["size"]
        return np.frombuffer(self.tensors["image"][0], np.uint8).reshape(height, width, 3)

    @property
    def kind(self) -> str:
        if "image" not in self.tensors:
            return "progress" if "index" in self.tensors else "begun"
        return "preview" if "partial_index" in self.tensors else "picture"


@contextmanager
def stream(server: Embedded, picture: Image.Image, **inputs: Any) -> Iterator[Iterator[Response]]:
    """The responses to one request; whoever leaves the block early closes the stream. Raises its error."""
    arrived: queue.Queue[Any] = queue.Queue()
    ended: list[bool] = []

    def responses() -> Iterator[Response]:
        last = False
        while not last:
            result, error = arrived.get(timeout=SECONDS)
            if error:
                ended.append(True)
                raise error
            message = result.get_response()
            last = message.parameters["triton_final_response"].bool_param
            if last:
                ended.append(True)
            yield Response({output.name: result.as_numpy(output.name) for output in message.outputs}, last)

    with triton_grpc.InferenceServerClient(server.triton_grpc) as triton:
        triton.start_stream(lambda result, error: arrived.put((result, error)))
        triton.async_stream_infer("edit_stream", grpc_inputs(picture, **inputs), enable_empty_final_response=True)
        answered = responses()
        yield answered
        triton.stop_stream(cancel_requests=not ended)


def shown(server: Embedded, picture: Image.Image, previews: int, **inputs: Any) -> list[Response]:
    """All responses of a stream with so many previews of its one picture.

    Asked again where the picture was done before its last preview, which then does not come: on a busy machine.
    """
    for _ in range(ATTEMPTS):
        with stream(server, picture, partial_images=[previews], **inputs) as responses:
            told = list(responses)
        if [response.kind for response in told].count("preview") == previews:
            return told
    raise AssertionError(f"{ATTEMPTS} streams, and none had {previews} previews")
