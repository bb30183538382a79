"""`edit`: conditions each request, hands it to the in-flight batcher, and renders it when its last step is done.

Triton is met only here and in `metrics`: requests become jobs; `condition`, `unet` and `render` are called through BLS;
errors become Triton errors. Its requests come straight from callers, so that a caller who leaves is seen at every step.
"""

import json
import os
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
import triton_python_backend_utils as pb_utils
from numpy.typing import NDArray

from batcher import Batcher
from families import load
from families.errors import INVALID_EDIT
from families.plan import Plan, Rows
from families.schedules import NoiseSchedules
from families.settings import count
from jobs import CancelledError, ExpiredError, Job, QueueFullError
from metrics import TritonFigures

PIPELINE = Path(__file__).parent / "pipeline"
MAX_JOBS = "TRITOUCH_MAX_JOBS"
DEFAULT_MAX_JOBS = 64
WORKERS = 16
"""Threads that wait for `condition`, and as many that wait for `render`: they only wait."""

CONDITION_INPUTS = ("image", "prompt", "num_inference_steps", "guidance_scale", "image_guidance_scale", "model")
CONDITION_OUTPUTS = ("encoder_hidden_states", "image_latents", "guidance")

Tensors = Mapping[str, NDArray[Any]]

ERRORS = {
    QueueFullError: ("queue_full", "UNAVAILABLE"),
    ExpiredError: ("expired", "UNAVAILABLE"),
    CancelledError: ("cancelled", "CANCELLED"),
}
FAILED = ("failed", "INTERNAL")
"""Codes and the names of Triton's own; Triton adds `TritonError` to its module only after this one is imported."""


class ModelError(Exception):
    """A model called through BLS has failed. The message is its own; its Triton code does not come through BLS."""


class TritonPythonModel:
    """Owns the batcher of this server."""

    def initialize(self, _args: dict[str, str]) -> None:
        """Raises, naming the class, when the checkpoint's noise schedule cannot be stepped edit by edit.

        Raises ValueError, naming the variable, when a setting is wrong.
        """
        torch.set_num_threads(1)  # its tensors are small; the cores belong to the engines
        settings = json.loads((PIPELINE / "pipeline.json").read_text("utf-8"))
        # What the denoiser takes beside its first inputs: the edit's adapter, where it has a bank of them.
        self._conditions = (*CONDITION_OUTPUTS, *(["adapter"] if "unet" in settings["banks"] else []))
        self._plan = load(settings["family"], "denoising").plan
        self._schedules = NoiseSchedules(PIPELINE / "scheduler" / "scheduler_config.json", settings["scheduler"])
        self._batcher = Batcher(
            denoise_rows,
            max_rows=settings["max_batch"],
            max_jobs=count(os.environ, MAX_JOBS, DEFAULT_MAX_JOBS),
            figures=TritonFigures(),
            preparers=ThreadPoolExecutor(WORKERS, "prepare"),
            answerers=ThreadPoolExecutor(WORKERS, "answer"),
        )
        self._batcher.start()

    def execute(self, requests: list[Any]) -> None:
        """Takes requests in and returns at once; answers follow through each request's response sender."""
        for request in requests:
            sender = request.get_response_sender()
            try:
                self._batcher.submit(self._job(request, sender))
            except Exception as error:  # noqa: BLE001 - a request that cannot begin is answered as one that fails later
                send_error(sender, error)

    def finalize(self) -> None:
        """Fails what is still in flight."""
        self._batcher.stop()

    def _job(self, request: Any, sender: Any) -> Job:
        given = {tensor.name(): tensor.as_numpy().copy() for tensor in request.inputs()}
        response_format = given["response_format"]  # apart, for what is answered must not keep the pictures
        timeout = request.timeout()  # microseconds; 0: none
        return Job(
            prepare=lambda: self._prepare(given),
            finish=lambda latents: render(latents, response_format, sender),
            failed=lambda error: send_error(sender, error),
            cancelled=sender.is_cancelled,
            deadline=time.monotonic() + timeout / 1e6 if timeout else float("inf"),
        )

    def _prepare(self, given: Tensors) -> Plan:
        inputs = {name: given[name] for name in (*CONDITION_INPUTS, "response_format")}
        tensors = call("condition", inputs, self._conditions)
        steps, seed = int(given["num_inference_steps"][0]), int(given["seed"][0])
        plan: Plan = self._plan(tensors, steps, seed, self._schedules)
        return plan


def denoise_rows(rows: Rows) -> NDArray[Any]:
    """One forward pass of the engine: its inputs, N rows each -> the prediction of N rows."""
    return call("unet", rows, ("prediction",))["prediction"]


def render(latents: NDArray[Any], response_format: NDArray[Any], sender: Any) -> None:
    """Answers a request with its picture."""
    answer = call("render", {"latents": latents, "response_format": response_format}, ("image", "size"))
    send(sender, pb_utils.InferenceResponse([pb_utils.Tensor(name, array) for name, array in answer.items()]))


def call(model: str, inputs: Tensors, outputs: tuple[str, ...]) -> dict[str, NDArray[Any]]:
    """One BLS call. The arrays returned have memory of their own. Raises ModelError."""
    request = pb_utils.InferenceRequest(
        model_name=model,
        requested_output_names=list(outputs),
        inputs=[pb_utils.Tensor(name, array) for name, array in inputs.items()],
        preferred_memory=pb_utils.PreferredMemory(pb_utils.TRITONSERVER_MEMORY_CPU),
    )
    response = request.exec()
    if response.has_error():
        raise ModelError(response.error().message())
    return {name: pb_utils.get_output_tensor_by_name(response, name).as_numpy().copy() for name in outputs}


def send(sender: Any, response: Any) -> None:
    """Sends the one and last response of a request."""
    sender.send(response, flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)


def send_error(sender: Any, error: Exception) -> None:
    """Answers with `tritouch:CODE` and the error's own words; the caller's own fault is INVALID_ARG."""
    invalid = INVALID_EDIT.search(str(error))
    if invalid:
        fault = pb_utils.TritonError(invalid[0], pb_utils.TritonError.INVALID_ARG)
    else:
        code, status = ERRORS.get(type(error), FAILED)
        fault = pb_utils.TritonError(f"tritouch:{code} {error}", getattr(pb_utils.TritonError, status))
    send(sender, pb_utils.InferenceResponse([], error=fault))
