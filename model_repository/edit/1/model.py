"""`edit`: conditions each request, hands it to the in-flight batcher, and renders it when its last step is done.

Requests become jobs, errors become Triton errors. Its requests come straight from callers, so that a caller who leaves
is seen at every step.
"""

import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
import triton_python_backend_utils as pb_utils
from numpy.typing import NDArray

from batcher import Batcher
from calls import EditCall, adapter_rows, call, denoise_in_place, denoise_rows
from families import finishing, load
from families.edit import Edit, read
from families.errors import InvalidEditError
from families.interface import BANK, DENOISER, RENDER, Plan, Tensors
from families.safety_checker import RULE
from families.safety_checker.decision import require_safe
from families.schedules import NoiseSchedules
from families.settings import Settings, count
from intake import STOP_FILE, Intake
from jobs import CancelledError, ExpiredError, Job, QueueFullError, StoppingError
from metrics import TritonMetrics
from rows import Denoiser, JoinedRows
from shared_rows import DEFAULT_IN_PLACE_BYTES, SharedRows

PIPELINE = Path(__file__).parent / "pipeline"
MAX_JOBS = "TRITOUCH_MAX_JOBS"
DEFAULT_MAX_JOBS = 64
IN_PLACE_BYTES = "TRITOUCH_IN_PLACE_BYTES"
WORKERS = 16
"""Threads that condition edits, as many for their calls side by side, and as many that render: they only wait."""

ERRORS = {
    QueueFullError: ("queue_full", "UNAVAILABLE"),
    ExpiredError: ("expired", "UNAVAILABLE"),
    CancelledError: ("cancelled", "CANCELLED"),
    StoppingError: ("stopping", "UNAVAILABLE"),
}
FAILED = ("failed", "INTERNAL")
"""Codes and the names of Triton's own; Triton adds `TritonError` to its module only after this one is imported."""

RENDERED = ("image", "size")
"""What is answered of a rendered picture."""


class TritonPythonModel:
    """Owns the batcher of this server."""

    def initialize(self, _args: dict[str, str]) -> None:
        """Raises when the export's folder is missing or damaged, or, naming the variable, when a setting is wrong."""
        torch.set_num_threads(1)  # its tensors are small; the cores belong to the engines
        self._settings = Settings.read(PIPELINE)
        self._condition = load(self._settings.family, "conditioning").Conditioner(PIPELINE, self._settings)
        self._plan = load(self._settings.family, "denoising").plan
        self._schedules = NoiseSchedules(PIPELINE / "scheduler" / "scheduler_config.json", self._settings.scheduler)
        self._callers = ThreadPoolExecutor(WORKERS, "call")
        self._batcher = Batcher(
            self._denoiser(),
            max_rows=self._settings.max_rows,
            max_tokens=self._settings.max_tokens,
            max_jobs=count(os.environ, MAX_JOBS, DEFAULT_MAX_JOBS),
            padded=[tensor.name for tensor in BANK],
            metrics=TritonMetrics(),
            intake=Intake(os.environ.get(STOP_FILE, "")),
            preparers=ThreadPoolExecutor(WORKERS, "prepare"),
            answerers=ThreadPoolExecutor(WORKERS, "answer"),
        )
        self._batcher.start()

    def _denoiser(self) -> Denoiser:
        sent = JoinedRows(denoise_rows)
        if not self._settings.in_place:
            return sent
        return SharedRows(denoise_in_place, sent, count(os.environ, IN_PLACE_BYTES, DEFAULT_IN_PLACE_BYTES))

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
        self._callers.shutdown()

    def _job(self, request: Any, sender: Any) -> Job:
        edit = read({tensor.name(): tensor.as_numpy().copy() for tensor in request.inputs()}, self._settings)
        used = numbers(edit)  # apart, for what is answered must not keep the pictures
        finish = finishing.inputs(edit)
        timeout = request.timeout()  # microseconds; 0: none
        return Job(
            prepare=lambda: self._prepare(edit),
            finish=lambda latents: self._render({**latents, **finish}, used, sender),
            failed=lambda error: send_error(sender, error),
            cancelled=sender.is_cancelled,
            deadline=time.monotonic() + timeout / 1e6 if timeout else float("inf"),
        )

    def _prepare(self, edit: Edit) -> Plan:
        tensors = self._condition(edit, EditCall(self._settings, edit.adapters, self._callers))
        plan: Plan = self._plan(edit, tensors, self._schedules, self._settings)
        if DENOISER not in self._settings.banks:
            return plan
        rows = len(next(iter(plan.constant.values())))
        constant = {**plan.constant, **adapter_rows(edit.adapters, rows)}
        return Plan(plan.key, constant, plan.loop, plan.tokens)

    def _render(self, inputs: Tensors, used: dict[str, NDArray[Any]], sender: Any) -> None:
        """Answers a request with its picture, which nobody sees where the safety checker refuses it."""
        safety = self._settings.safety
        if safety:
            inputs = {**inputs, RULE: np.array([safety[RULE].encode()], np.object_)}
        made = call(RENDER, inputs, self._settings.outputs[RENDER])
        if safety:
            require_safe(made, safety)
        answer = {name: made[name] for name in RENDERED} | used
        send(sender, pb_utils.InferenceResponse([pb_utils.Tensor(name, array) for name, array in answer.items()]))


def numbers(edit: Edit) -> dict[str, NDArray[Any]]:
    """What the edit is done with, as the answer says it."""
    return {
        "num_inference_steps": np.array([edit.num_inference_steps], np.int32),
        "guidance_scale": np.array([edit.guidance_scale], np.float32),
        "image_guidance_scale": np.array([edit.image_guidance_scale], np.float32),
    }


def send(sender: Any, response: Any) -> None:
    """Sends the one and last response of a request."""
    sender.send(response, flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)


def send_error(sender: Any, error: Exception) -> None:
    """Answers with `tritouch:CODE` and the error's own words; the caller's own fault is INVALID_ARG."""
    if isinstance(error, InvalidEditError):
        code, status = error.code, "INVALID_ARG"
    else:
        code, status = ERRORS.get(type(error), FAILED)
    fault = pb_utils.TritonError(f"tritouch:{code} {error}", getattr(pb_utils.TritonError, status))
    send(sender, pb_utils.InferenceResponse([], error=fault))
