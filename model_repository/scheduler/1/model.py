"""`scheduler`: hands each request to the in-flight batcher and answers it from there, when its last step is done.

Triton is met only here: requests become jobs, `unet` is called through BLS, errors become Triton errors.
"""

import json
import os
import time
from pathlib import Path
from typing import Any

import torch
import triton_python_backend_utils as pb_utils
from numpy.typing import NDArray

from batcher import Batcher, CancelledError, ExpiredError, Job, QueueFullError
from families import load
from families.plan import Rows
from families.schedules import NoiseSchedules
from metrics import TritonFigures

PIPELINE = Path(__file__).parent / "pipeline"
MAX_JOBS = "TRITOUCH_MAX_JOBS"
DEFAULT_MAX_JOBS = "64"
INPUTS = ("encoder_hidden_states", "image_latents", "guidance")

ERRORS = {
    QueueFullError: ("queue_full", "UNAVAILABLE"),
    ExpiredError: ("expired", "UNAVAILABLE"),
    CancelledError: ("cancelled", "CANCELLED"),
}
FAILED = ("failed", "INTERNAL")
"""Codes and the names of Triton's own; Triton adds `TritonError` to its module only after this one is imported."""


class TritonPythonModel:
    """Owns the batcher of this server."""

    def initialize(self, _args: dict[str, str]) -> None:
        """Raises, naming the class, when the checkpoint's noise schedule cannot be stepped edit by edit."""
        torch.set_num_threads(1)  # its tensors are small; the cores belong to the engines
        settings = json.loads((PIPELINE / "pipeline.json").read_text("utf-8"))
        self._plan = load(settings["family"], "denoising").plan
        self._schedules = NoiseSchedules(PIPELINE / "scheduler" / "scheduler_config.json")
        max_jobs = int(os.environ.get(MAX_JOBS, DEFAULT_MAX_JOBS))
        self._batcher = Batcher(call_unet, settings["max_batch"], max_jobs, TritonFigures())
        self._batcher.start()

    def execute(self, requests: list[Any]) -> None:
        """Takes requests in and returns at once; answers follow through each request's response sender."""
        for request in requests:
            sender = request.get_response_sender()
            try:
                self._batcher.submit(self._job(request, sender))
            except Exception as error:  # noqa: BLE001 - a request that cannot begin is answered like one that failed later
                send_error(sender, error)

    def finalize(self) -> None:
        """Fails what is still in flight."""
        self._batcher.stop()

    def _job(self, request: Any, sender: Any) -> Job:
        tensors = {name: read(request, name) for name in INPUTS}
        steps, seed = int(read(request, "num_inference_steps")[0]), int(read(request, "seed")[0])
        timeout = request.timeout()  # microseconds; 0: none
        return Job(
            plan=self._plan(tensors, steps, seed, self._schedules),
            done=lambda latents: send(sender, pb_utils.InferenceResponse([pb_utils.Tensor("latents", latents)])),
            failed=lambda error: send_error(sender, error),
            cancelled=sender.is_cancelled,
            deadline=time.monotonic() + timeout / 1e6 if timeout else float("inf"),
        )


def read(request: Any, name: str) -> NDArray[Any]:
    """An input of a request, copied: the request's memory is Triton's again after `execute`."""
    array: NDArray[Any] = pb_utils.get_input_tensor_by_name(request, name).as_numpy().copy()
    return array


def call_unet(rows: Rows) -> NDArray[Any]:
    """One BLS call: the engine's inputs, N rows each -> the prediction of N rows, in memory of its own.

    Raises RuntimeError with Triton's words when the engine fails.
    """
    request = pb_utils.InferenceRequest(
        model_name="unet",
        requested_output_names=["prediction"],
        inputs=[pb_utils.Tensor(name, array) for name, array in rows.items()],
        preferred_memory=pb_utils.PreferredMemory(pb_utils.TRITONSERVER_MEMORY_CPU),
    )
    response = request.exec()
    if response.has_error():
        raise RuntimeError(response.error().message())
    prediction: NDArray[Any] = pb_utils.get_output_tensor_by_name(response, "prediction").as_numpy().copy()
    return prediction


def send(sender: Any, response: Any) -> None:
    """Sends the one and last response of a request."""
    sender.send(response, flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)


def send_error(sender: Any, error: Exception) -> None:
    """Answers with `tritouch:CODE` and the error's own words."""
    code, status = ERRORS.get(type(error), FAILED)
    fault = pb_utils.TritonError(f"tritouch:{code} {error}", getattr(pb_utils.TritonError, status))
    send(sender, pb_utils.InferenceResponse([], error=fault))
