"""One edit denoised with no neighbours, as the export's rehearsal does it and tests compare with."""

from collections.abc import Callable

from families.interface import Array, Plan, Tensors
from families.step_cache import constant_of


def denoise_alone(plan: Plan, denoiser: Callable[[Tensors], Array]) -> Tensors:
    """Runs one plan to its end with no neighbours: the reference that batching must equal."""
    try:
        step = next(plan.loop)
        while True:
            prediction = denoiser({**constant_of(plan, step), **step.inputs})
            while not (step := plan.loop.send(prediction)).inputs:
                pass
    except StopIteration as finished:
        decoder_inputs: Tensors = finished.value
        return decoder_inputs
