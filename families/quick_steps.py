"""Steps of noise schedules without what diffusers does around their arithmetic, which takes longer than that.

Bit for bit what diffusers' classes compute, of numbers that those look up at each step: flow matching by Euler, and
DDIM without noise. Any other class, or option, is diffusers' own to step.
"""

from collections.abc import Callable
from typing import Any

import diffusers
import torch

QuickStep = Callable[[int, torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor | None]]
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
    differences = list(torch.diff(scheduler.sigmas))
    rooms: dict[int, torch.Tensor] = {}

    def step(place: int, prediction: torch.Tensor, latents: torch.Tensor) -> tuple[torch.Tensor, None]:
        # Two tensors in turns: new ones are memory that the system must hand out, which takes longer than to compute.
        room = rooms.setdefault(place % 2, torch.empty_like(latents))
        return torch.mul(prediction, differences[place], out=room).add_(latents), None

    return step


def _ddim(scheduler: Any) -> QuickStep:
    config, times = scheduler.config, scheduler.timesteps
    kept = scheduler.alphas_cumprod[times]
    before = times - config.num_train_timesteps // scheduler.num_inference_steps
    kept_before = torch.where(before >= 0, scheduler.alphas_cumprod[before.clamp(min=0)], scheduler.final_alpha_cumprod)
    numbers = [torch.sqrt(number).unbind() for number in (kept, 1 - kept, kept_before, 1 - kept_before)]
    rows = list(zip(*numbers, strict=True))

    def step(place: int, prediction: torch.Tensor, latents: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        signal, noise, next_signal, next_noise = rows[place]
        if config.prediction_type == "epsilon":
            clean, error = (latents - noise * prediction) / signal, prediction
        elif config.prediction_type == "sample":
            clean, error = prediction, (latents - signal * prediction) / noise
        else:
            clean, error = signal * latents - noise * prediction, signal * prediction + noise * latents
        if config.clip_sample:
            clean = clean.clamp(-config.clip_sample_range, config.clip_sample_range)
        return next_signal * clean + next_noise * error, clean

    return step
