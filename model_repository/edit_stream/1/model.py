"""`edit_stream`: conditions each request, hands it to the in-flight batcher, and renders its pictures as they are done.

Requests become jobs, one for each picture; errors become Triton errors. A caller over gRPC who leaves is seen at every
step. `edit`, whose calls come without that, gives each a ticket, and ends it by a request that names the ticket.
"""

import json
import os
import time
import weakref
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import triton_python_backend_utils as pb_utils

import asked
import tracing
from asked import Asked
from batcher import Batcher
from calls import EditCall, bank_rows, call, denoise_rows, open_channel
from channel import Channel
from families import finishing, load
from families.edit import Edit, read
from families.interface import BANK, DENOISER, PREVIEW, RENDER, Plan, Tensors
from families.picture import DecodingLimits
from families.safety_checker import RULE
from families.safety_checker.decision import require_safe
from families.schedules import NoiseSchedules
from families.settings import Settings, count
from families.step_cache import cached
from intake import STOP_FILE, Intake
from jobs import Job, Request
from metrics import TritonMetrics
from reports import Reports
from responses import Responses, send_error
from rows import Denoiser, JoinedRows
from shared_rows import DEFAULT_IN_PLACE_BYTES, SharedRows
from side_by_side import SideBySide

PIPELINE = Path(__file__).parent / "pipeline"
MAX_JOBS = "TRITOUCH_MAX_JOBS"
DEFAULT_MAX_JOBS = 64
DENOISER_CALLS = "TRITOUCH_DENOISER_CALLS"
DEFAULT_DENOISER_CALLS = 2
IN_PLACE_BYTES = "TRITOUCH_IN_PLACE_BYTES"
WORKERS = 16
"""Threads that condition edits, as many for their calls side by side, that render, and that report: they only wait."""
TICKET, CANCEL = "ticket", "cancel"
"""Parameters of a request: its name, and the name of the one that it ends."""

RENDERED = ("image", "size")
"""What is answered of a rendered picture."""


class TritonPythonModel:
    """Owns the batcher of this server."""

    def initialize(self, _args: dict[str, str]) -> None:
        """Raises when the export's folder is missing or damaged, or, naming the variable, when a setting is wrong."""
        torch.set_num_threads(1)  # its tensors are small; the cores belong to the engines
        self._settings = Settings.read(PIPELINE)
        self._limits = DecodingLimits.from_environment(os.environ)
        self._condition = load(self._settings.family, "conditioning").Conditioner(PIPELINE, self._settings)
        self._plan = load(self._settings.family, "denoising").plan
        self._schedules = NoiseSchedules(PIPELINE / "scheduler" / "scheduler_config.json", self._settings.scheduler)
        self._preview = PREVIEW if PREVIEW in self._settings.outputs else RENDER
        self._callers = ThreadPoolExecutor(WORKERS, "call")
        self._tracing = tracing.start(os.environ)
        metrics = TritonMetrics()
        self._channel = Channel(open_channel, metrics.computed)
        self._side_by_side = SideBySide()
        self._batcher = Batcher(
            self._denoiser(),
            max_rows=self._settings.max_rows,
            max_tokens=self._settings.max_tokens,
            max_jobs=count(os.environ, MAX_JOBS, DEFAULT_MAX_JOBS),
            calls=count(os.environ, DENOISER_CALLS, DEFAULT_DENOISER_CALLS),
            padded=[tensor.name for tensor in BANK],
            side_by_side=self._side_by_side,
            metrics=metrics,
            intake=Intake(os.environ.get(STOP_FILE, "")),
            preparers=ThreadPoolExecutor(WORKERS, "prepare"),
            answerers=ThreadPoolExecutor(WORKERS, "answer"),
        )
        self._reporters = ThreadPoolExecutor(WORKERS, "report")
        self._tickets: weakref.WeakValueDictionary[str, Responses] = weakref.WeakValueDictionary()
        self._batcher.start()

    def _denoiser(self) -> Denoiser:
        in_place_bytes = count(os.environ, IN_PLACE_BYTES, DEFAULT_IN_PLACE_BYTES)
        denoiser: Denoiser = SharedRows(self._channel, JoinedRows(denoise_rows), in_place_bytes, self._side_by_side)
        return self._tracing.denoiser(denoiser) if self._tracing else denoiser

    def execute(self, requests: list[Any]) -> None:
        """Takes requests in and returns at once; answers follow through each request's response sender."""
        for request in requests:
            sender = request.get_response_sender()
            try:
                parameters = json.loads(request.parameters() or "{}")
                if CANCEL in parameters:
                    self._cancel(str(parameters[CANCEL]))
                    sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
                else:
                    taken, jobs = self._taken(request, sender, str(parameters.get(TICKET, "")))
                    if self._tracing:
                        self._tracing.submit(self._batcher.submit, tracing.parent(request, parameters), taken, jobs)
                    else:
                        self._batcher.submit(taken, jobs)
            except Exception as error:  # noqa: BLE001 - a request that cannot begin is answered as one that fails later
                send_error(sender, error)

    def finalize(self) -> None:
        """Fails what is still in flight."""
        self._batcher.stop()
        self._side_by_side.close()
        self._channel.close()
        self._callers.shutdown()
        self._reporters.shutdown()
        if self._tracing:
            self._tracing.close()

    def _cancel(self, ticket: str) -> None:
        """Ends the request of that ticket, if it is in flight."""
        responses = self._tickets.get(ticket)
        if responses is not None:
            responses.cancel()

    def _taken(self, request: Any, sender: Any, ticket: str) -> tuple[Request, Sequence[Job]]:
        wanted, edit = self._read(request)
        outputs = frozenset(request.requested_output_names())
        responses = Responses(sender, numbers(edit), outputs, wanted.pictures, ticketed=bool(ticket))
        if ticket:
            self._tickets[ticket] = responses
        timeout = request.timeout()  # microseconds; 0: none
        taken = Request(
            prepare=lambda: self._prepare(edit, wanted.pictures),
            failed=responses.failed,
            cancelled=responses.cancelled,
            deadline=time.monotonic() + timeout / 1e6 if timeout else float("inf"),
            low=wanted.low_priority,
            conditioned=responses.begun,
        )
        beside = finishing.inputs(edit)  # apart, for what is answered must not keep all of the pictures
        return taken, [self._job(taken, index, wanted, responses, beside) for index in range(wanted.pictures)]

    def _read(self, request: Any) -> tuple[Asked, Edit]:
        """What is asked for. What cannot be edited as it is asked for is counted, as what the batcher refuses is."""
        given = {tensor.name(): tensor.as_numpy().copy() for tensor in request.inputs()}
        try:
            return asked.read(given), read(given, self._settings, self._limits)
        except Exception as error:
            self._batcher.turned_away(error)
            raise

    def _job(self, taken: Request, index: int, wanted: Asked, responses: Responses, beside: Tensors) -> Job:
        def finish(latents: Tensors, foretold: int) -> None:
            responses.picture(index, self._render({**latents, **beside}), foretold)

        def preview(step: int, latents: Tensors) -> None:
            if responses.awaits(index):  # the decoder is not kept from other edits for what would not be sent
                responses.preview(index, step, self._render({**latents, **beside}, self._preview))

        if not (wanted.progress or wanted.previews):
            return Job(taken, finish)
        told = partial(responses.step, index) if wanted.progress else None
        return Job(taken, finish, Reports(self._reporters, wanted.previews, told, preview))

    def _prepare(self, edit: Edit, pictures: int) -> list[Plan]:
        """A plan for each picture; what they share is encoded once."""
        call_type = self._tracing.call if self._tracing else EditCall
        tensors = self._condition(edit, call_type(self._settings, edit.adapters, self._callers))
        edits = [replace(edit, seed=seed) for seed in asked.seeds(edit.seed, pictures)]
        schedules = self._schedules.shifted(edit.shift)
        made: list[Plan] = [self._plan(one, tensors, schedules, self._settings) for one in edits]
        plans = [cached(plan, edit.cache) for plan in made]
        rows = len(next(iter(plans[0].constant.values())))
        banked = bank_rows(self._settings, DENOISER, edit.adapters, rows)
        return [replace(plan, constant={**plan.constant, **banked}) for plan in plans]

    def _render(self, inputs: Tensors, model: str = RENDER) -> Tensors:
        """A picture, which nobody sees where the safety checker refuses it. Raises ModelError, InvalidEditError."""
        safety = self._settings.safety
        if safety:
            inputs = {**inputs, RULE: np.array([safety[RULE].encode()], np.object_)}
        made = call(model, inputs, self._settings.outputs[model])
        if safety:
            require_safe(made, safety)
        return {name: made[name] for name in RENDERED}


def numbers(edit: Edit) -> Tensors:
    """What the edit is done with, as the answer says it."""
    return {
        "num_inference_steps": np.array([edit.num_inference_steps], np.int32),
        "guidance_scale": np.array([edit.guidance_scale], np.float32),
        "image_guidance_scale": np.array([edit.image_guidance_scale], np.float32),
        "cache": np.array([edit.cache.encode()], np.object_),
    }
