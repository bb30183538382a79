"""Steps of noise schedules without what diffusers does around their arithmetic, which takes longer than that.

In numpy, of which a processor that has done other things meanwhile must fetch less again than of torch. They are bit
for bit what diffusers' classes compute, of numbers that those look up at each step: flow matching by Euler, and DDIM
without noise, but for where that ends (`_ddim`). Any other class, or option, is diffusers' own to step.
"""

from collections.abc import Callable
from typing import Any

import diffusers
import numpy as np
import torch

from families.interface import Array

QuickStep = Callable[[int, Array, Array], tuple[Array, Array | None]]
"""At a place in the schedule, from a prediction and latents of one shape: the latents one timestep further, and the
denoised estimate where the class has its own. The latents are overwritten by the step after the next."""


def quick_step(scheduler: Any) -> QuickStep | None:
    """Of a scheduler of diffusers that has its timesteps; None where it is not such a class."""
    config = scheduler.config
    if type(scheduler) is diffusers.FlowMatchEulerDiscreteScheduler and not config.stochastic_sampling:
        return _flow(scheduler)
    if type(scheduler) is diffusers.DDIMScheduler and not config.thresholding:
        return _ddim(scheduler)
    return None


def _flow(scheduler: Any) -> QuickStep:
    differences = list(torch.diff(scheduler.sigmas).numpy())
    rooms: list[Array] = []

    def step(place: int, prediction: Array, latents: Array) -> tuple[Array, None]:
        # Two arrays in turns: new ones are memory that the system must hand out, which takes longer than to compute.
        if len(rooms) < 2:
            rooms.append(np.empty_like(latents))
        room = rooms[place % 2]
        np.multiply(prediction, differences[place], out=room)
        return np.add(room, latents, out=room), None

    return step


def _ddim(scheduler: Any) -> QuickStep:
    """Spaced from the end, the last step ends where all noise is gone, whatever their number.

    diffusers has it end a timestep earlier where that number does not divide those of training well (11 of 1000), with
    the first timestep's noise left: hardly any of most schedules, and 0.39 of the demo's.
    """
    config, times = scheduler.config, scheduler.timesteps
    kept = scheduler.alphas_cumprod[times]
    before = times - config.num_train_timesteps // scheduler.num_inference_steps
    if config.timestep_spacing == "trailing":
        before[-1] = -1
    kept_before = torch.where(before >= 0, scheduler.alphas_cumprod[before.clamp(min=0)], scheduler.final_alpha_cumprod)
    numbers = [torch.sqrt(number).unbind() for number in (kept, 1 - kept, kept_before, 1 - kept_before)]
    rows = [[number.numpy()[()] for number in row] for row in zip(*numbers, strict=True)]

    def step(place: int, prediction: Array, latents: Array) -> tuple[Array, Array]:
        signal, noise, next_signal, next_noise = rows[place]
        if config.prediction_type == "epsilon":
            clean, error = (latents - noise * prediction) / signal, prediction
        elif config.prediction_type == "sample":
            clean, error = prediction, (latents - signal * prediction) / noise
        else:
            clean, error = signal * latents - noise * prediction, signal * prediction + noise * latents
        if config.clip_sample:
            clean = clean.clip(-config.clip_sample_range, config.clip_sample_range)
        return next_signal * clean + next_noise * error, clean

    return step
