"""Who asks Triton itself for edits over gRPC, by `edit` and by `edit_stream`."""

import io
import queue
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import islice
from types import ModuleType, TracebackType
from typing import Any

import numpy as np
import tritonclient.grpc as triton_grpc
from tritonclient.utils import triton_to_np_dtype

from bench import edits
from embedded.server import Embedded
from gateway import tensors

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

    def edit(self, side: int, steps: int, watch: tensors.Watch | None = None, **changed: Any) -> Inputs:
        """The inputs of an edit of one row a step; `changed` are fields of `gateway.tensors.Edit`."""
        (one,) = islice(edits.series(side, steps, 1.0), 1)
        file = io.BytesIO()
        one.picture.save(file, "JPEG", quality=95)
        asked = tensors.Edit([file.getvalue()], one.prompt, steps, one.guidance, 0.0, one.seed, "", "jpeg")
        wanted = tensors.inputs(replace(asked, **changed), watch)
        return [infer_input(tensor.name, tensor.datatype, tensor.values) for tensor in wanted]

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


def infer_input(name: str, datatype: str, values: Sequence[Any], client: ModuleType = triton_grpc) -> Any:
    """One input of a request; `client` is tritonclient.grpc or tritonclient.http."""
    array = np.array(values, triton_to_np_dtype(datatype))
    tensor = client.InferInput(name, list(array.shape), datatype)
    tensor.set_data_from_numpy(array)
    return tensor
