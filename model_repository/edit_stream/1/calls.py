"""Calls to the models that an edit needs, through BLS. With `model` and `metrics`, all that meets Triton here."""

import os
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils
from numpy.typing import NDArray

from channel import ModelError, fault
from families.images.sources import pixels_held
from families.interface import ADAPTER, ADAPTER_SCALE, DENOISER, PREDICTION, PREPROCESS, REFERENCE, VIEW, Tensors
from families.settings import Settings

LARGE_PIXELS = 1 << 23
"""A picture of which so many are in memory while it is decoded takes a second rather than a moment."""
LARGE_AT_ONCE = min(2, len(os.sched_getaffinity(0)))
"""Large pictures that `preprocess` is given at once: fewer than it has instances, so that one is free for others, and
so few that their memory is bounded."""

Adapters = tuple[tuple[int, float], ...]
"""An edit's: index into the bank, counted from 1, and scale."""
NONE: Adapters = ((0, 0.0),)


class EditCall:
    """Implements `families.interface.Call` for one edit: its adapters go along wherever the engine has a bank."""

    _large = threading.BoundedSemaphore(LARGE_AT_ONCE)

    def __init__(self, settings: Settings, adapters: Adapters, workers: ThreadPoolExecutor) -> None:
        self._settings, self._adapters, self._workers = settings, adapters, workers

    def __call__(self, model: str, inputs: Tensors) -> Tensors:
        """All outputs of the model. Raises ModelError, InvalidEditError."""
        rows = len(next(iter(inputs.values())))
        inputs = {**inputs, **bank_rows(self._settings, model, self._adapters, rows)}
        outputs = self._settings.outputs[model]
        if model in (REFERENCE, VIEW, PREPROCESS):
            return self._of_picture(model, inputs, outputs)
        made = call(model, inputs, outputs)
        return made if made.keys() >= set(outputs) else self._anew(model, inputs, outputs)

    def _anew(self, model: str, inputs: Tensors, outputs: Sequence[str]) -> Tensors:
        """Without Triton's response cache, which remembers a failure as an answer of nothing: with every row twice."""
        rows = len(next(iter(inputs.values())))
        made = call(model, {name: np.concatenate([array, array]) for name, array in inputs.items()}, outputs)
        if not made.keys() >= set(outputs):
            raise ModelError(f"{model} answered nothing")
        return {name: array[:rows] for name, array in made.items()}

    def _of_picture(self, model: str, inputs: Tensors, outputs: Sequence[str]) -> Tensors:
        if sum(pixels_held(image) for image in inputs["image"]) < LARGE_PIXELS:
            return call(model, inputs, outputs)
        with self._large:
            return call(model, inputs, outputs)

    def together(self, *calls: tuple[str, Tensors]) -> Sequence[Tensors]:
        """Several calls side by side: one from this thread, the others from threads of their own."""
        begun = [self._workers.submit(self, model, inputs) for model, inputs in calls[1:]]
        first = self(*calls[0])
        return [first, *(one.result() for one in begun)]


def bank_rows(settings: Settings, model: str, adapters: Adapters, rows: int) -> dict[str, NDArray[Any]]:
    """The inputs of a model's bank in a call whose rows are all of one edit; none where it has no bank.

    (rows, K) each: K is the number of those of the edit's adapters that change the model, and at least 1.
    """
    if model not in settings.banks:
        return {}
    own = [(index, scale) for index, scale in adapters if index in settings.banks[model]]
    chosen, scales = zip(*(own or NONE), strict=True)
    return {
        ADAPTER.name: np.tile(np.array(chosen, np.int32), (rows, 1)),
        ADAPTER_SCALE.name: np.tile(np.array(scales, np.float32), (rows, 1)),
    }


def denoise_rows(rows: Tensors) -> NDArray[Any]:
    """One forward pass of the denoiser: its inputs, N rows each -> the prediction of N rows. Raises ModelError."""
    return call(DENOISER, rows, (PREDICTION,))[PREDICTION]


def open_channel(some: Tensors, parameters: Mapping[str, str]) -> None:
    """Has the denoiser's process come to the socket that the parameters name. Raises ModelError."""
    call(DENOISER, some, (), parameters)


def call(
    model: str, inputs: Tensors, outputs: Sequence[str], parameters: Mapping[str, str] | None = None
) -> dict[str, NDArray[Any]]:
    """One BLS call. The arrays returned, those of `outputs` that there are, have memory of their own.

    Raises ModelError, InvalidEditError.
    """
    request = pb_utils.InferenceRequest(
        model_name=model,
        requested_output_names=list(outputs),
        inputs=[pb_utils.Tensor(name, array) for name, array in inputs.items()],
        preferred_memory=pb_utils.PreferredMemory(pb_utils.TRITONSERVER_MEMORY_CPU),
        parameters=dict(parameters or {}),
    )
    response = request.exec()
    if response.has_error():
        raise fault(response.error().message())
    found = {name: pb_utils.get_output_tensor_by_name(response, name) for name in outputs}
    return {name: tensor.as_numpy().copy() for name, tensor in found.items() if tensor is not None}
