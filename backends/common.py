"""What Python-based Triton backends share: requests read and held to the config, merged and split.

Knows Triton's requests and numpy arrays. Does not know what runs the model: that is a callable from arrays by
input name to arrays by output name. With ``max_batch_size`` above 0 every array has the batch as its first axis.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import triton_python_backend_utils as pb_utils

from backends.channel import PARAMETER, Channels, one_line
from backends.signature import Array, Signature

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Arrays = dict[str, Array]


@dataclass(frozen=True)
class _Job:
    index: int
    request: pb_utils.InferenceRequest
    inputs: Arrays

    @property
    def rows(self) -> int:
        return int(next(iter(self.inputs.values())).shape[0])

    @property
    def key(self) -> tuple[tuple[int, ...], ...]:
        return tuple(array.shape[1:] for array in self.inputs.values())


def answer(
    requests: Sequence[pb_utils.InferenceRequest], signature: Signature, channels: Channels
) -> list[pb_utils.InferenceResponse]:
    """Run every request, those of one shape in one call, and answer each for itself; or open the channel it asks for.

    A request that fails, alone or in company, fails alone: a merged call that failed is repeated one by one.
    """
    answers: dict[int, pb_utils.InferenceResponse] = {}
    groups: dict[object, list[_Job]] = {}
    for index, request in enumerate(requests):
        try:
            name = json.loads(request.parameters() or "{}").get(PARAMETER)
            if name is not None:
                channels.open(str(name))
                answers[index] = pb_utils.InferenceResponse([])
                continue
            job = _Job(index, request, _read_inputs(request, signature))
        except Exception as error:  # noqa: BLE001 - whatever is wrong with one request stays its own
            answers[index] = _failure(error)
            continue
        groups.setdefault(job.key if signature.batched else index, []).append(job)
    for number, group in enumerate(groups.values(), 1):
        # Responses are copied out when `answer` has returned: the next call must not have overwritten them.
        answers.update(_run_group(group, signature, channels.infer, keep=number < len(groups), waited=number > 1))
    return [answers[index] for index in range(len(requests))]


def _read_inputs(request: pb_utils.InferenceRequest, signature: Signature) -> Arrays:
    tensors = {tensor.name(): tensor.as_numpy() for tensor in request.inputs()}
    signature.require_whole(tensors)
    return {spec.name: tensors[spec.name] for spec in signature.inputs}


def _run_group(
    jobs: list[_Job], signature: Signature, infer: Callable[[Arrays], Arrays], *, keep: bool, waited: bool
) -> dict[int, pb_utils.InferenceResponse]:
    # Asking costs a round trip to Triton, which has itself dropped what was cancelled before this batch was made.
    cancelled = [job for job in jobs if waited and job.request.is_cancelled()]
    answers = {job.index: _cancelled() for job in cancelled}
    jobs = [job for job in jobs if job.index not in answers]
    if not jobs:
        return answers
    try:
        merged = jobs[0].inputs if len(jobs) == 1 else _merge(jobs)
        outputs = infer(merged)
        pieces = [outputs] if len(jobs) == 1 else _split(outputs, [job.rows for job in jobs])
    except Exception as error:  # noqa: BLE001 - whatever an engine raises must reach its caller, and not end the model
        if len(jobs) == 1:
            return {**answers, jobs[0].index: _failure(error)}
        for job in jobs:
            answers.update(_run_group([job], signature, infer, keep=True, waited=True))
        return answers
    return answers | {
        job.index: _success(job, piece, signature, keep=keep) for job, piece in zip(jobs, pieces, strict=True)
    }


def _merge(jobs: Sequence[_Job]) -> Arrays:
    return {name: np.concatenate([job.inputs[name] for job in jobs]) for name in jobs[0].inputs}


def _split(outputs: Arrays, rows: Sequence[int]) -> list[Arrays]:
    """Each job's rows of each output, as views.

    Raises:
        ValueError: an output does not have one row for each row that went in.
    """
    for name, array in outputs.items():
        if array.ndim == 0 or array.shape[0] != sum(rows):
            raise ValueError(f"output {name} has shape {array.shape} for {sum(rows)} rows")
    ends = np.cumsum(rows)[:-1]
    parts = {name: np.split(array, ends) for name, array in outputs.items()}
    return [{name: part[place] for name, part in parts.items()} for place in range(len(rows))]


def _success(job: _Job, outputs: Arrays, signature: Signature, *, keep: bool) -> pb_utils.InferenceResponse:
    wanted = set(job.request.requested_output_names())
    tensors = [
        pb_utils.Tensor(spec.name, outputs[spec.name].copy() if keep else outputs[spec.name])
        for spec in signature.outputs
        if spec.name in wanted
    ]
    return pb_utils.InferenceResponse(tensors)


def _failure(error: Exception) -> pb_utils.InferenceResponse:
    code = pb_utils.TritonError.INVALID_ARG if isinstance(error, ValueError) else pb_utils.TritonError.INTERNAL
    return pb_utils.InferenceResponse(error=pb_utils.TritonError(one_line(error), code))


def _cancelled() -> pb_utils.InferenceResponse:
    return pb_utils.InferenceResponse(error=pb_utils.TritonError("cancelled", pb_utils.TritonError.CANCELLED))
