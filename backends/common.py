"""What Python-based Triton backends share: requests read and held to the config, merged and split.

Knows Triton's requests and numpy arrays. Does not know what runs the model: that is a callable from arrays by
input name to arrays by output name. With ``max_batch_size`` above 0 every array has the batch as its first axis.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import triton_python_backend_utils as pb_utils

from backends.in_place import PARAMETER, Memories
from backends.signature import ANY, Array, Signature, TensorSpec

Arrays = dict[str, Array]
Infer = Callable[[Mapping[str, Array]], Arrays]
"""Runs the model once. What it returns may be overwritten by its next call."""

_MESSAGE_LENGTH = 800


@dataclass(frozen=True)
class _Job:
    index: int
    request: pb_utils.InferenceRequest
    inputs: Arrays
    room: Array | None
    """Where the only output goes, if it is not sent."""

    @property
    def rows(self) -> int:
        return int(next(iter(self.inputs.values())).shape[0])

    @property
    def key(self) -> tuple[tuple[int, ...], ...]:
        return tuple(array.shape[1:] for array in self.inputs.values())


def answer(
    requests: Sequence[pb_utils.InferenceRequest], signature: Signature, infer: Infer, memories: Memories
) -> list[pb_utils.InferenceResponse]:
    """Run every request, those of one shape in one call, and answer each for itself.

    `memories`: those of this model's callers.

    A request that fails, alone or in company, fails alone: a merged call that failed is repeated one by one.
    """
    answers: dict[int, pb_utils.InferenceResponse] = {}
    groups: dict[object, list[_Job]] = {}
    for index, request in enumerate(requests):
        try:
            job = _Job(index, request, *_read_inputs(request, signature, memories))
        except Exception as error:  # noqa: BLE001 - whatever is wrong with one request stays its own
            answers[index] = _failure(error)
            continue
        groups.setdefault(job.key if signature.batched else index, []).append(job)
    for number, group in enumerate(groups.values(), 1):
        # Responses are copied out when `answer` has returned: the next call must not have overwritten them.
        answers.update(_run_group(group, signature, infer, keep=number < len(groups), waited=number > 1))
    return [answers[index] for index in range(len(requests))]


def _read_inputs(
    request: pb_utils.InferenceRequest, signature: Signature, memories: Memories
) -> tuple[Arrays, Array | None]:
    """What was sent and what is read in place, and the room for the answer."""
    tensors = {tensor.name(): tensor.as_numpy() for tensor in request.inputs()}
    said, room = json.loads(request.parameters() or "{}").get(PARAMETER), None
    if said is not None:
        found, room = memories.read(said)
        for spec in signature.inputs:
            if spec.name in found and not _accepts_array(spec, found[spec.name]):
                raise ValueError(f"{spec} is {found[spec.name].dtype} {list(found[spec.name].shape)} in memory")
        tensors |= found
    missing = [spec.name for spec in signature.inputs if spec.name not in tensors]
    if missing:
        raise ValueError(f"input {missing[0]} is missing")
    arrays = {spec.name: tensors[spec.name] for spec in signature.inputs}
    if signature.batched and len({array.shape[0] for array in arrays.values()}) > 1:
        raise ValueError("the inputs differ in their number of rows")
    signature.require_within(arrays)
    return arrays, room


def _accepts_array(spec: TensorSpec, array: Array) -> bool:
    """Whether the config lets it through: Triton has not seen it."""
    return (
        array.dtype == spec.dtype
        and len(array.shape) == len(spec.shape)
        and all(size in {ANY, given} for size, given in zip(spec.shape, array.shape, strict=True))
    )


def _run_group(
    jobs: list[_Job], signature: Signature, infer: Infer, *, keep: bool, waited: bool
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
    if job.room is not None:
        (output,) = outputs.values()
        if (job.room.shape, job.room.dtype) != (output.shape, output.dtype):
            return _failure(ValueError(f"the answer is {output.dtype} {list(output.shape)}, and its room is not"))
        job.room[...] = output
        return pb_utils.InferenceResponse([])
    wanted = set(job.request.requested_output_names())
    tensors = [
        pb_utils.Tensor(spec.name, outputs[spec.name].copy() if keep else outputs[spec.name])
        for spec in signature.outputs
        if spec.name in wanted
    ]
    return pb_utils.InferenceResponse(tensors)


def _failure(error: Exception) -> pb_utils.InferenceResponse:
    code = pb_utils.TritonError.INVALID_ARG if isinstance(error, ValueError) else pb_utils.TritonError.INTERNAL
    # Engines explain themselves over many lines; a status message is one.
    message = " ".join(str(error).split())[:_MESSAGE_LENGTH]
    return pb_utils.InferenceResponse(error=pb_utils.TritonError(message, code))


def _cancelled() -> pb_utils.InferenceResponse:
    return pb_utils.InferenceResponse(error=pb_utils.TritonError("cancelled", pb_utils.TritonError.CANCELLED))
