"""Noise schedules: any scheduler class of diffusers that can be stepped one call at a time.

Built from a checkpoint's own `scheduler_config.json`, so that every checkpoint keeps its sampler: those that add noise
to latents, and flow matching. Knows nothing of denoisers, of guidance or of Triton.
"""

import copy
import inspect
import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import diffusers
import numpy as np
import torch

from families.errors import BadCheckpointError
from families.interface import Array
from families.quick_steps import quick_step

PROBE_SHAPE = (1, 4, 2, 2)


class _Step(NamedTuple):
    """Of what an estimate is made; `own` is the scheduler's, if it gives one. `sigma`: its index."""

    prediction: Array
    timestep: torch.Tensor
    latents: Array
    scaled: Array
    sigma: int
    own: Array | None


class Schedule:
    """One edit's own scheduler: its timesteps, and one step at a time. Holds state; never shared between edits."""

    def __init__(
        self, scheduler: Any, steps: int, generator: torch.Generator, sigmas: Sequence[float] | None, mu: float | None
    ) -> None:
        self._scheduler = scheduler
        given = {"sigmas": sigmas, "mu": mu}
        scheduler.set_timesteps(steps, **{name: value for name, value in given.items() if value is not None})
        self.timesteps: torch.Tensor = scheduler.timesteps  # (calls,); calls > steps for schedulers of higher order
        self.numbers: list[float] = self.timesteps.double().tolist()  # the same
        self.initial_sigma = float(getattr(scheduler, "init_noise_sigma", 1.0))  # flow matching has none
        parameters = inspect.signature(scheduler.step).parameters
        self._options: dict[str, Any] = {}
        if "eta" in parameters:
            self._options["eta"] = 0.0
        if "generator" in parameters:
            self._options["generator"] = generator
        self._quick, self._place = quick_step(scheduler), 0
        self._scales = self._quick is None and hasattr(scheduler, "scale_model_input")  # flow matching and DDIM do not
        self._scaled: Array = np.empty(0, np.float32)
        self._last: _Step | None = None

    def scale(self, latents: Array, timestep: torch.Tensor) -> Array:
        """Latents as the denoiser expects them at this timestep; same shape. Called before each step."""
        self._scaled = latents
        if self._scales:
            self._scaled = self._scheduler.scale_model_input(torch.from_numpy(latents), timestep).numpy()
        return self._scaled

    def step(self, prediction: Array, timestep: torch.Tensor, latents: Array) -> Array:
        """Latents one timestep further; same shape. They are overwritten by the step after the next.

        The prediction may be overwritten once its estimate is no longer wanted: samplers that keep it are given a copy.
        """
        index, scaled = self._index(), self._scaled
        result, own = self._stepped(prediction, timestep, latents)
        self._last = _Step(prediction, timestep, latents, scaled, index, own)
        return result

    def _stepped(self, prediction: Array, timestep: torch.Tensor, latents: Array) -> tuple[Array, Array | None]:
        place, self._place = self._place, self._place + 1
        if self._quick is not None:
            with np.errstate(all="ignore"):  # as torch, which goes on with what is not finite
                return self._quick(place, prediction, latents)
        given = torch.from_numpy(prediction.copy()), timestep, torch.from_numpy(latents)
        stepped = self._scheduler.step(*given, **self._options)
        estimate = getattr(stepped, "pred_original_sample", None)
        return stepped.prev_sample.numpy(), None if estimate is None else estimate.numpy()

    def held(self, known: Array, noise: Array, place: int) -> Array:
        """`known`, clean latents, with unit `noise` as the step at `place` leaves it: that of the next timestep, none
        after the last. All of one shape, that of the latents that are stepped."""
        if place + 1 == len(self.timesteps):
            return known
        held: Array = self._noised(torch.from_numpy(known), torch.from_numpy(noise), place).numpy()
        return held

    def _noised(self, known: torch.Tensor, noise: torch.Tensor, place: int) -> torch.Tensor:
        scheduler, following = self._scheduler, self.timesteps[place + 1 : place + 2]
        if hasattr(scheduler, "sigmas_interpol") and not scheduler.state_in_first_order:
            # Between two timesteps, of which `add_noise` knows nothing: it scales latents by 1 / sqrt(sigma^2 + 1).
            between: torch.Tensor = scheduler.scale_model_input(torch.ones(()), following[0]) ** -2 - 1
            return known + between.sqrt() * noise
        if hasattr(scheduler, "scale_noise"):
            flowed: torch.Tensor = scheduler.scale_noise(known, following, noise)
            return flowed
        added: torch.Tensor = scheduler.add_noise(known, noise, following)
        return added

    def estimate(self) -> Array | None:
        """What the last step's latents would be without noise, as the model has it; None where that is not known."""
        if self._last is None:
            return None
        return self._denoised(self._last) if self._last.own is None else self._last.own

    def _index(self) -> int:
        """Of the next step, among the sigmas."""
        return self._place if self._quick is not None else getattr(self._scheduler, "step_index", None) or 0

    def _sigma(self, index: int) -> float | None:
        sigmas = getattr(self._scheduler, "sigmas", None)
        return None if sigmas is None else float(sigmas[index])

    def _denoised(self, step: _Step) -> Array | None:
        """The estimate of a scheduler that does not give its own.

        Flow matching: x0 = x - sigma * v. Else by the share of signal at the timestep (DDIM, eq. 12 of Song et al.
        2020, and for velocity Salimans and Ho 2022), of latents scaled to unit variance, as the denoiser sees them.
        """
        prediction, timestep, latents, scaled, index, _ = step
        sigma, config = self._sigma(index), self._scheduler.config
        kind = config.get("prediction_type", "flow_prediction")
        if kind == "flow_prediction" or config.get("use_flow_sigmas"):
            return None if sigma is None else latents - sigma * prediction
        if kind == "sample":
            return prediction
        cumulative = getattr(self._scheduler, "alphas_cumprod", None)
        if cumulative is None or kind not in ("epsilon", "v_prediction"):
            return None
        signal = float(cumulative[min(round(float(timestep)), len(cumulative) - 1)])
        keep, noise = signal**0.5, (1 - signal) ** 0.5
        denoised: Array = (
            (scaled - noise * prediction) / keep if kind == "epsilon" else keep * scaled - noise * prediction
        )
        return denoised


class NoiseSchedules:
    """Makes one `Schedule` per edit from a checkpoint's `scheduler_config.json`.

    `name` is the class that the pipeline's `model_index.json` names, which in diffusers too outweighs the config's own.
    Raises BadCheckpointError, naming the class, when diffusers has no such scheduler or cannot make it.
    """

    def __init__(self, config_file: Path, name: str) -> None:
        self._name, scheduler_class = name, _scheduler_class(name)
        self._mu: float | None = None  # in the place of what the family says
        try:
            self._template = scheduler_class.from_config(json.loads(config_file.read_text("utf-8")))
            self.config: Mapping[str, Any] = self._template.config
        except Exception as error:
            raise self._refused(error) from error

    def __call__(
        self, steps: int, generator: torch.Generator, *, sigmas: Sequence[float] | None = None, mu: float | None = None
    ) -> Schedule:
        """A fresh schedule of `steps` steps; `generator` feeds samplers that add noise as they go.

        `sigmas` and `mu` are the family's (`Denoising.noise`): flow matching shifts its noise by the picture's size.
        """
        return Schedule(copy.deepcopy(self._template), steps, generator, sigmas, mu if self._mu is None else self._mu)

    def shifted(self, shift: float) -> "NoiseSchedules":
        """The same, by which sigmas are shifted alike whatever the picture's size: sigma becomes shift * sigma / (1 +
        (shift - 1) * sigma). 0: as they are. Raises BadCheckpointError for schedules that are not shifted."""
        if not shift:
            return self
        if "shift" not in self.config:
            raise BadCheckpointError(f"the scheduler {self._name} has no shift: leave --shift out")
        made = copy.copy(self)
        exponent = shift if self.config.get("time_shift_type") == "linear" else math.log(shift)
        made._mu = exponent if self.config.get("use_dynamic_shifting") else None
        own = {name: value for name, value in self.config.items() if not name.startswith("_")}
        made._template = type(self._template).from_config({**own, "shift": shift, "shift_terminal": None})
        return made

    def working(self, counts: Sequence[int], default: int, noise: Callable[[int], Mapping[str, Any]]) -> list[int]:
        """Those of `counts` that can be stepped: latents keep their shape and stay finite.

        `noise` gives what a schedule of so many steps is made with. Raises BadCheckpointError, naming the class and the
        reason, where `default` is not among them.
        """
        found = []
        for steps in counts:
            try:
                self._probe(steps, noise(steps))
                found.append(steps)
            except Exception as error:
                if steps == default:
                    raise self._refused(error, f" in {default} steps, the default") from error
        return found

    def _probe(self, steps: int, noise: Mapping[str, Any]) -> None:
        schedule = self(steps, torch.Generator().manual_seed(0), **noise)
        latents: Array = np.ones(PROBE_SHAPE, np.float32)
        for timestep in schedule.timesteps:
            latents = schedule.step(0.1 * schedule.scale(latents, timestep), timestep, latents)
        if latents.shape != PROBE_SHAPE or not bool(np.isfinite(latents).all()):
            raise ValueError("its latents change shape or do not stay finite")

    def _refused(self, error: Exception, when: str = "") -> BadCheckpointError:
        reason = " ".join(str(error).split()) or type(error).__name__
        return BadCheckpointError(f"the scheduler {self._name} cannot be stepped edit by edit{when}: {reason}")


def _scheduler_class(name: str) -> Any:
    try:
        scheduler_class = getattr(diffusers, name, None)
        known = hasattr(scheduler_class, "set_timesteps")
    except ImportError as error:  # what diffusers has in the place of a class whose packages are not installed
        raise BadCheckpointError(" ".join(str(error).split())) from error
    if not known:
        raise BadCheckpointError(f"diffusers has no scheduler named {name!r}")
    return scheduler_class
