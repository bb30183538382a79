"""Noise schedules of diffusers' classes: what can be stepped, in which numbers of steps, and estimates."""

import json
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch

from families.errors import BadCheckpointError
from families.schedules import NoiseSchedules, Schedule
from tests.families.small import NOISE
from tests.families.test_denoising import STEPPABLE

COSINE = {"beta_schedule": "squaredcos_cap_v2"}
KARRAS = {"use_karras_sigmas": True}
ALL = range(1, 51)


def schedules(folder: Path, name: str, **config: Any) -> NoiseSchedules:
    file = folder / "scheduler_config.json"
    file.write_text(json.dumps(config))
    return NoiseSchedules(file, name)


def plain(_steps: int) -> Mapping[str, Any]:
    return {}


def test_a_scheduler_whose_package_is_missing_is_named_with_it(tmp_path: Path) -> None:
    with pytest.raises(BadCheckpointError, match="DPMSolverSDEScheduler requires the torchsde library") as error:
        schedules(tmp_path, "DPMSolverSDEScheduler")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "name", ["RePaintScheduler", "VQDiffusionScheduler", "NoSuchScheduler", "UNet2DConditionModel"]
)
def test_a_scheduler_that_cannot_be_stepped_is_refused_by_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(BadCheckpointError, match=name):
        schedules(tmp_path, name).working(ALL, 20, plain)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "config", "failing"),
    [
        ("EulerAncestralDiscreteScheduler", NOISE, []),
        ("PNDMScheduler", NOISE, [1, 2, 3]),
        ("EulerAncestralDiscreteScheduler", COSINE, [4]),
    ],
    ids=["all", "the first three", "one in the middle"],
)
def test_every_number_of_steps_is_tried(tmp_path: Path, name: str, config: dict[str, Any], failing: list[int]) -> None:
    working = schedules(tmp_path, name, **config).working(ALL, 20, plain)
    assert [steps for steps in ALL if steps not in working] == failing


@pytest.mark.slow
def test_numbers_of_steps_whose_timesteps_are_not_finite_are_found(tmp_path: Path) -> None:
    """Which ones depends on the processor, whose logarithms differ in their last digit: 2 to 9, or to 10."""
    scheduler = diffusers.KDPM2AncestralDiscreteScheduler(**COSINE)
    failing = []
    for steps in ALL:
        scheduler.set_timesteps(steps)
        if not bool(torch.isfinite(scheduler.timesteps).all()):
            failing.append(steps)
    working = schedules(tmp_path, "KDPM2AncestralDiscreteScheduler", **COSINE).working(ALL, 20, plain)
    assert len(failing) > 3
    assert [steps for steps in ALL if steps not in working] == failing


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "DEISMultistepScheduler",
        "DPMSolverSinglestepScheduler",
        "UniPCMultistepScheduler",
        "SASolverScheduler",
        "KDPM2DiscreteScheduler",
        "KDPM2AncestralDiscreteScheduler",
    ],
)
def test_a_sampler_whose_default_number_fails_is_refused_with_the_reason(tmp_path: Path, name: str) -> None:
    with pytest.raises(BadCheckpointError, match=f"{name} cannot be stepped edit by edit in 20 steps, the default: .+"):
        schedules(tmp_path, name, **COSINE, **KARRAS).working(ALL, 20, plain)


def test_schedules_of_two_edits_share_nothing(tmp_path: Path) -> None:
    make = schedules(tmp_path, "DPMSolverMultistepScheduler", **NOISE)
    first, second = make(5, torch.Generator()), make(9, torch.Generator())
    ones = np.ones((1, 4, 2, 2), np.float32)
    first.step(ones, first.timesteps[0], ones)
    assert (len(first.timesteps), len(second.timesteps)) == (5, 9)
    assert first.numbers == [float(timestep) for timestep in first.timesteps]
    assert second._scheduler.step_index is None


def flow_loop(scheduler: Any, steps: int, mu: float, latents: torch.Tensor) -> torch.Tensor:
    """The loop of diffusers' FLUX pipelines, with a denoiser that needs no weights."""
    sigmas = np.linspace(1.0, 1 / steps, steps)
    scheduler.set_timesteps(sigmas=sigmas, mu=mu)
    scheduler.set_begin_index(0)
    for timestep in scheduler.timesteps:
        latents = scheduler.step(velocity(latents, timestep), timestep, latents, return_dict=False)[0]
    return latents


def velocity(latents: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
    return 0.3 * latents + timestep / 1000


def step(schedule: Schedule, prediction: torch.Tensor, timestep: torch.Tensor, latents: torch.Tensor) -> torch.Tensor:
    """Denoisers of these tests are written in torch, as diffusers' own arithmetic is."""
    return torch.from_numpy(schedule.step(prediction.numpy(), timestep, latents.numpy()))


def scale(schedule: Schedule, latents: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
    return torch.from_numpy(schedule.scale(latents.numpy(), timestep))


def walk(schedule: Schedule, latents: torch.Tensor) -> torch.Tensor:
    latents = latents * schedule.initial_sigma
    for timestep in schedule.timesteps:
        latents = step(schedule, velocity(scale(schedule, latents, timestep), timestep), timestep, latents)
    return latents


@pytest.mark.parametrize("steps", [1, 4, 28])
def test_flow_matching_equals_diffusers_loop(tmp_path: Path, steps: int) -> None:
    config = {"use_dynamic_shifting": True, "base_shift": 0.5, "max_shift": 1.15}
    make = schedules(tmp_path, "FlowMatchEulerDiscreteScheduler", **config)
    noise = torch.randn(1, 12, 4, generator=torch.Generator().manual_seed(3))
    sigmas = list(np.linspace(1.0, 1 / steps, steps))
    ours = walk(make(steps, torch.Generator(), sigmas=sigmas, mu=0.8), noise)
    theirs = flow_loop(diffusers.FlowMatchEulerDiscreteScheduler(**config), steps, 0.8, noise)
    assert torch.equal(ours, theirs)


def test_flow_matching_is_tried_with_the_familys_sigmas_and_shift(tmp_path: Path) -> None:
    make = schedules(tmp_path, "FlowMatchEulerDiscreteScheduler", use_dynamic_shifting=True)
    assert make.working(ALL, 4, lambda n: {"sigmas": list(np.linspace(1, 1 / n, n)), "mu": 0.8}) == list(ALL)
    with pytest.raises(BadCheckpointError, match="mu"):
        make.working(ALL, 4, plain)


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("EulerDiscreteScheduler", NOISE),
        ("EulerDiscreteScheduler", {**NOISE, "prediction_type": "v_prediction"}),
        ("DPMSolverMultistepScheduler", NOISE),
        ("DPMSolverMultistepScheduler", {**NOISE, "prediction_type": "v_prediction"}),
        ("PNDMScheduler", {**NOISE, "skip_prk_steps": True}),
        ("LMSDiscreteScheduler", NOISE),
        ("HeunDiscreteScheduler", NOISE),
        ("UniPCMultistepScheduler", {**NOISE, "prediction_type": "sample"}),
        ("DDIMScheduler", {**NOISE, "clip_sample": False}),
        ("EDMEulerScheduler", {}),
        ("FlowMatchEulerDiscreteScheduler", {}),
    ],
    ids=lambda value: value if isinstance(value, str) else value.get("prediction_type", ""),
)
def test_the_estimate_is_the_picture_that_a_knowing_denoiser_means(
    tmp_path: Path, name: str, config: dict[str, Any]
) -> None:
    """A denoiser that knows the answer: whatever the sampler, every estimate on the way is that answer."""
    schedule = schedules(tmp_path, name, **config)(6, torch.Generator().manual_seed(0))
    answer = torch.randn(1, 4, 3, 5, generator=torch.Generator().manual_seed(1))
    scheduler, kind = schedule._scheduler, schedule._scheduler.config.get("prediction_type", "flow")
    latents = torch.randn(answer.shape, generator=torch.Generator().manual_seed(2)) * schedule.initial_sigma
    assert schedule.estimate() is None
    for timestep in schedule.timesteps:
        scaled = scale(schedule, latents, timestep)
        if name.startswith("EDM"):
            sigma = scheduler.sigmas[scheduler.step_index]
            prediction = (answer - scheduler.precondition_outputs(latents, torch.zeros_like(latents), sigma)) / (
                sigma * scheduler.config.sigma_data / (sigma**2 + scheduler.config.sigma_data**2) ** 0.5
            )
        elif kind == "flow":
            prediction = (latents - answer) / schedule._sigma(schedule._index())
        else:
            prediction = knowing(scheduler, kind, scaled, answer, timestep)
        latents = step(schedule, prediction, timestep, latents)
        estimate = schedule.estimate()
        assert estimate is not None
        torch.testing.assert_close(torch.from_numpy(estimate), answer, rtol=2e-2, atol=2e-2)


def knowing(
    scheduler: Any, kind: str, scaled: torch.Tensor, answer: torch.Tensor, timestep: torch.Tensor
) -> torch.Tensor:
    """The noise, velocity or picture by which `scaled` differs from `answer`."""
    signal = float(np.interp(float(timestep), range(1000), scheduler.alphas_cumprod))
    noise = (scaled - signal**0.5 * answer) / (1 - signal) ** 0.5
    return {
        "epsilon": noise,
        "v_prediction": signal**0.5 * noise - (1 - signal) ** 0.5 * answer,
        "sample": answer,
    }[kind]


DETERMINISTIC = sorted({*STEPPABLE, "DEISMultistepScheduler", "EDMEulerScheduler", "FlowMatchHeunDiscreteScheduler"})
ADDING_NOISE = {"DDPMScheduler", "EulerAncestralDiscreteScheduler", "LCMScheduler"}
FLOWS = {"FlowMatchEulerDiscreteScheduler", "FlowMatchHeunDiscreteScheduler"}


def told(scheduler: Any, latents: torch.Tensor, scaled: torch.Tensor, answer: torch.Tensor, timestep: Any) -> Any:
    """The prediction of a denoiser that knows the answer."""
    name = type(scheduler).__name__
    if name.startswith("EDM"):
        sigma, data = scheduler.sigmas[scheduler.step_index], scheduler.config.sigma_data
        skipped = scheduler.precondition_outputs(latents, torch.zeros_like(latents), sigma)
        return (answer - skipped) / (sigma * data / (sigma**2 + data**2) ** 0.5)
    if name.startswith("FlowMatch"):
        return (latents - answer) / (float(timestep) / 1000)
    return knowing(scheduler, "epsilon", scaled, answer, timestep)


def begun(schedule: Schedule, known: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    """What a step before the first would have left."""
    return held(schedule, known, noise, -1)


def held(schedule: Schedule, known: torch.Tensor, noise: torch.Tensor, place: int) -> torch.Tensor:
    return torch.from_numpy(schedule.held(known.numpy(), noise.numpy(), place))


@pytest.mark.parametrize("name", sorted({*DETERMINISTIC, *FLOWS} - ADDING_NOISE))
@pytest.mark.parametrize("steps", [4, 7])
def test_what_is_held_is_where_a_knowing_denoiser_leads(tmp_path: Path, name: str, steps: int) -> None:
    """Whatever the sampler keeps of the steps before, and between two timesteps, too."""
    config = {} if name.startswith(("EDM", "Flow")) else {**NOISE, **({"clip_sample": False} if "DDIM" in name else {})}
    schedule = schedules(tmp_path, name, **config)(steps, torch.Generator())
    known, noise = torch.randn(2, 1, 4, 3, 5, generator=torch.Generator().manual_seed(1))
    latents = begun(schedule, known, noise)
    for place, timestep in enumerate(schedule.timesteps[:-1]):
        scaled = scale(schedule, latents, timestep)
        prediction = told(schedule._scheduler, latents, scaled, known, timestep)
        latents = step(schedule, prediction, timestep, latents)
        size = float(latents.abs().max())
        torch.testing.assert_close(held(schedule, known, noise, place) / size, latents / size, rtol=0, atol=5e-3)
    assert torch.equal(held(schedule, known, noise, len(schedule.timesteps) - 1), known)


@pytest.mark.parametrize("name", sorted(ADDING_NOISE | {"KDPM2AncestralDiscreteScheduler", "SASolverScheduler"}))
def test_what_is_held_has_as_much_noise_as_what_is_stepped(tmp_path: Path, name: str) -> None:
    schedule = schedules(tmp_path, name, **NOISE)(6, torch.Generator().manual_seed(0))
    known, noise = torch.zeros(1, 4, 64, 64), torch.randn(1, 4, 64, 64, generator=torch.Generator().manual_seed(1))
    latents = begun(schedule, known, noise)
    for place, timestep in enumerate(schedule.timesteps[:-1]):
        scaled = scale(schedule, latents, timestep)
        prediction = told(schedule._scheduler, latents, scaled, known, timestep)
        latents = step(schedule, prediction, timestep, latents)
        noised = held(schedule, known, noise, place)
        assert float(noised.std()) == pytest.approx(float(latents.std()), rel=0.05), place
        latents = noised


@pytest.mark.parametrize("dynamic", [{"use_dynamic_shifting": True, "max_shift": 0.9, "shift_terminal": 0.02}, {}])
def test_a_shift_is_the_same_whatever_the_pictures_size(tmp_path: Path, dynamic: dict[str, Any]) -> None:
    """That of Lightning's LoRAs of Qwen-Image-Edit: 3, which their scheduler's configuration has by its logarithm."""
    sigmas = np.linspace(1.0, 1 / 4, 4)
    flow = schedules(tmp_path, "FlowMatchEulerDiscreteScheduler", **dynamic)
    for mu in (0.5, 1.4):
        made = flow.shifted(3.0)(4, torch.Generator(), sigmas=sigmas, mu=mu)
        expected = 3.0 * sigmas / (1 + 2.0 * sigmas)
        np.testing.assert_allclose(made.timesteps.numpy(), 1000 * expected, rtol=1e-6)
    assert flow.shifted(0.0) is flow
    assert flow.shifted(3.0).working([1, 4, 50], 4, lambda count: {"sigmas": np.linspace(1, 1 / count, count), "mu": 1})


@pytest.mark.usefixtures("cycles_stay")
@pytest.mark.parametrize("name", ["DDIMScheduler", "FlowMatchEulerDiscreteScheduler", "EulerDiscreteScheduler"])
def test_all_of_a_schedule_goes_with_it(tmp_path: Path, name: str) -> None:
    schedule = schedules(tmp_path, name)(4, torch.Generator())
    prediction = np.zeros((1, 4, 2, 2), np.float32)
    schedule.step(schedule.scale(prediction, schedule.timesteps[0]), schedule.timesteps[0], prediction)
    assert schedule.estimate() is not None
    kept = weakref.ref(schedule), weakref.ref(prediction)
    del schedule, prediction
    assert [one() for one in kept] == [None, None]
