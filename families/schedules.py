"""Noise schedules: any scheduler class of diffusers that can be stepped one call at a time.

Built from a checkpoint's own `scheduler_config.json`, so that every checkpoint keeps its sampler. Knows nothing of
denoisers, of guidance or of Triton.
"""

import copy
import inspect
import json
from pathlib import Path
from typing import Any

import diffusers
import torch

from families.errors import BadCheckpointError

PROBE_STEPS = 5
PROBE_SHAPE = (1, 4, 2, 2)


class Schedule:
    """One edit's own scheduler: its timesteps, and one step at a time. Holds state; never shared between edits."""

    def __init__(self, scheduler: Any, steps: int, generator: torch.Generator) -> None:
        self._scheduler = scheduler
        scheduler.set_timesteps(steps)
        self.timesteps: torch.Tensor = scheduler.timesteps  # (calls,); calls > steps for schedulers of higher order
        self.initial_sigma = scheduler.init_noise_sigma
        parameters = inspect.signature(scheduler.step).parameters
        self._options: dict[str, Any] = {"return_dict": False}
        if "eta" in parameters:
            self._options["eta"] = 0.0
        if "generator" in parameters:
            self._options["generator"] = generator

    def scale(self, latents: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        """Latents as the denoiser expects them at this timestep; same shape."""
        scaled: torch.Tensor = self._scheduler.scale_model_input(latents, timestep)
        return scaled

    def step(self, prediction: torch.Tensor, timestep: torch.Tensor, latents: torch.Tensor) -> torch.Tensor:
        """Latents one timestep further; same shape."""
        stepped: torch.Tensor = self._scheduler.step(prediction, timestep, latents, **self._options)[0]
        return stepped


class NoiseSchedules:
    """Makes one `Schedule` per edit from a checkpoint's `scheduler_config.json`.

    `name` is the class that the pipeline's `model_index.json` names, which in diffusers too outweighs the config's own.

    Raises BadCheckpointError, naming the class, when diffusers has no such scheduler or when it cannot be stepped: when
    it needs more than the prediction, the timestep and the latents, or its latents do not stay finite.
    """

    def __init__(self, config_file: Path, name: str) -> None:
        scheduler_class = _scheduler_class(name)
        try:
            self._template = scheduler_class.from_config(json.loads(config_file.read_text("utf-8")))
            self._probe()
        except Exception as error:
            reason = " ".join(str(error).split())
            raise BadCheckpointError(f"the scheduler {name} cannot be stepped edit by edit: {reason}") from error

    def __call__(self, steps: int, generator: torch.Generator) -> Schedule:
        """A fresh schedule of `steps` steps; `generator` feeds samplers that add noise as they go."""
        return Schedule(copy.deepcopy(self._template), steps, generator)

    def _probe(self) -> None:
        schedule = self(PROBE_STEPS, torch.Generator().manual_seed(0))
        latents = torch.ones(PROBE_SHAPE)
        for timestep in schedule.timesteps:
            latents = schedule.step(0.1 * schedule.scale(latents, timestep), timestep, latents)
        if latents.shape != PROBE_SHAPE or not bool(latents.isfinite().all()):
            raise ValueError("its latents change shape or do not stay finite")


def _scheduler_class(name: str) -> Any:
    try:
        scheduler_class = getattr(diffusers, name, None)
        known = hasattr(scheduler_class, "set_timesteps")
    except ImportError as error:  # what diffusers has in the place of a class whose packages are not installed
        raise BadCheckpointError(" ".join(str(error).split())) from error
    if not known:
        raise BadCheckpointError(f"diffusers has no scheduler named {name!r}")
    return scheduler_class
