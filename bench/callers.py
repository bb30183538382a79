"""Who asks Triton itself for edits over gRPC, by `edit` and by `edit_stream`."""

import io
import queue
from collections.abc import Callable, Sequence
from itertools import islice
from types import TracebackType
from typing import Any

import numpy as np
import tritonclient.grpc as triton_grpc

from bench import edits
from embedded.server import Embedded

KINDS: dict[str, tuple[str, Any]] = {
    "image": ("BYTES", np.object_),
    "prompt": ("BYTES", np.object_),
    "num_inference_steps": ("INT32", np.int32),
    "guidance_scale": ("FP32", np.float32),
    "seed": ("UINT64", np.uint64),
    "n": ("INT32", np.int32),
    "progress": ("BOOL", np.bool_),
}
Inputs = Sequence[Any]


class Caller:
    """One connection with one stream, open for as long as the block is."""

    def __init__(self, server: Embedded) -> None:
        self._triton = triton_grpc.InferenceServerClient(server.triton_grpc)
        self._responses: queue.Queue[Any] = queue.Queue()

    def __enter__(self) -> "Caller":
        self._triton.start_stream(lambda result, error: self._responses.put((result, error)))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._triton.stop_stream(cancel_requests=kind is not None)
        self._triton.close()

    def edit(self, side: int, steps: int, **changed: Any) -> Inputs:
        """The inputs of an edit of one row a step; `changed` are values of tensors of KINDS."""
        (one,) = islice(edits.series(side, steps, 1.0), 1)
        file = io.BytesIO()
        one.picture.save(file, "JPEG", quality=95)
        values: dict[str, Any] = {
            "image": [file.getvalue()],
            "prompt": [one.prompt.encode()],
            "num_inference_steps": [steps],
            "guidance_scale": [one.guidance],
            "seed": [one.seed],
        } | changed
        return [_tensor(name, value) for name, value in values.items()]

    def unary(self, inputs: Inputs) -> None:
        """One edit by `edit`. Raises InferenceServerException."""
        self._triton.infer("edit", inputs)

    def streamed(self, inputs: Inputs) -> None:
        """The same by `edit_stream`, until its last response. Raises InferenceServerException."""
        self._triton.async_stream_infer("edit_stream", inputs, enable_empty_final_response=True)
        last = False
        while not last:
            result, error = self._responses.get(timeout=edits.TIMEOUT_SECONDS)
            if error:
                raise error
            last = result.get_response().parameters["triton_final_response"].bool_param

    def begun(self, inputs: Inputs, done: Callable[..., None] = lambda **_: None) -> Any:
        """An edit by `edit`; `cancel` of what is returned ends it. `done` is called with `result` and `error`
        on a thread of gRPC's."""
        return self._triton.async_infer("edit", inputs, done)


def _tensor(name: str, value: Any) -> Any:
    kind, dtype = KINDS[name]
    array = np.array(value, dtype)
    tensor = triton_grpc.InferInput(name, list(array.shape), kind)
    tensor.set_data_from_numpy(array)
    return tensor
