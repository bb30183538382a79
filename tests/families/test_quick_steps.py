"""Steps without what diffusers does around their arithmetic, which are its own to the bit."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from families.schedules import NoiseSchedules
from tests.families.small import NOISE
from tests.families.test_schedules import ALL, schedules

DEMO = Path(__file__).resolve().parents[2] / "demo/checkpoint/scheduler"
QUICK: list[tuple[str, dict[str, Any], list[float | None]]] = [
    ("FlowMatchEulerDiscreteScheduler", {"use_dynamic_shifting": True}, [0.4, 1.9]),
    ("FlowMatchEulerDiscreteScheduler", {"shift": 3.0}, [None]),
    *(
        ("DDIMScheduler", {**NOISE, "prediction_type": kind, "clip_sample": clip, "timestep_spacing": spacing}, [None])
        for kind in ("epsilon", "sample", "v_prediction")
        for clip, spacing in ((False, "leading"), (True, "trailing"))
    ),
    (
        "DDIMScheduler",
        {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing", "prediction_type": "sample"},
        [None],
    ),
    ("DDIMScheduler", {**NOISE, "set_alpha_to_one": False, "steps_offset": 1, "clip_sample": False}, [None]),
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "config", "shifts"), QUICK)
def test_quick_steps_are_diffusers_bit_for_bit(
    tmp_path: Path, name: str, config: dict[str, Any], shifts: list[float | None]
) -> None:
    """Of all numbers of steps, with a mask's hold and an estimate of each."""
    make = schedules(tmp_path, name, **config)
    drawn = torch.Generator().manual_seed(3)
    noise, known = torch.randn(2, 1, 12, 5, generator=drawn).numpy()
    for steps, mu in itertools.product(ALL, shifts):
        sigmas = None if mu is None else list(np.linspace(1.0, 1 / steps, steps))
        quick, plain_ = (make(steps, torch.Generator(), sigmas=sigmas, mu=mu) for _ in range(2))
        assert quick._quick is not None
        plain_._quick = None
        ours = theirs = noise
        for place, timestep in enumerate(quick.timesteps):
            prediction = torch.randn(noise.shape, generator=drawn).numpy()
            ours = quick.step(prediction, timestep, quick.scale(ours, timestep))
            theirs = plain_.step(prediction, timestep, plain_.scale(theirs, timestep))
            if place + 1 == steps and config.get("timestep_spacing") == "trailing":
                theirs = plain_.estimate()  # which is where it is to end, and does not always
            assert np.array_equal(ours, theirs)
            estimates = quick.estimate(), plain_.estimate()
            assert estimates[0] is not None
            assert estimates[1] is not None
            assert np.array_equal(*estimates)
            assert np.array_equal(quick.held(known, noise, place), plain_.held(known, noise, place))


def test_no_noise_is_left_at_the_end_whatever_the_number_of_steps() -> None:
    """A model foretells the picture exactly: diffusers leaves noise in it after 11 steps of the demo's schedule."""
    make = NoiseSchedules(DEMO / "scheduler_config.json", "DDIMScheduler")
    noise, picture = torch.randn(2, 1, 4, 5, generator=torch.Generator().manual_seed(3)).numpy()
    left = {}
    for steps in ALL:
        schedule, diffusers_ = (make(steps, torch.Generator()) for _ in range(2))
        diffusers_._quick = None
        ours = theirs = noise
        for timestep in schedule.timesteps:
            ours = schedule.step(picture, timestep, schedule.scale(ours, timestep))
            theirs = diffusers_.step(picture, timestep, diffusers_.scale(theirs, timestep))
        assert np.array_equal(ours, picture)
        left[steps] = float(np.abs(theirs - picture).max())
    assert left[11] > 0.1
    assert left[10] == 0


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("FlowMatchEulerDiscreteScheduler", {"stochastic_sampling": True}),
        ("FlowMatchHeunDiscreteScheduler", {}),
        ("DDIMScheduler", {**NOISE, "thresholding": True}),
        ("DDIMInverseScheduler", NOISE),
        ("EulerDiscreteScheduler", NOISE),
    ],
)
def test_what_is_not_known_bit_for_bit_is_diffusers_own_to_step(
    tmp_path: Path, name: str, config: dict[str, Any]
) -> None:
    assert schedules(tmp_path, name, **config)(4, torch.Generator())._quick is None
