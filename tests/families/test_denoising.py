"""The denoising loop against diffusers' own loop, with a denoiser that no weights are needed for."""

import json
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from families.errors import BadCheckpointError
from families.instruct_pix2pix.denoising import Guidance, plan
from families.plan import Rows, denoise_alone
from families.schedules import NoiseSchedules

NOISE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "num_train_timesteps": 1000}
STEPPABLE = [
    "EulerDiscreteScheduler",
    "EulerAncestralDiscreteScheduler",
    "DDIMScheduler",
    "DDPMScheduler",
    "DPMSolverMultistepScheduler",
    "DPMSolverSinglestepScheduler",
    "PNDMScheduler",
    "LMSDiscreteScheduler",
    "HeunDiscreteScheduler",
    "KDPM2DiscreteScheduler",
    "UniPCMultistepScheduler",
    "LCMScheduler",
]
TEXT = np.random.default_rng(0).normal(size=(2, 5, 3)).astype(np.float32)
PICTURE = np.random.default_rng(1).normal(size=(1, 4, 6, 9)).astype(np.float32)


def schedules(folder: Path, name: str, **config: Any) -> NoiseSchedules:
    file = folder / "scheduler_config.json"
    file.write_text(json.dumps({**NOISE, **config}))
    return NoiseSchedules(file, name)


def denoiser(rows: Rows) -> NDArray[Any]:
    """Depends on every input of its row: sample, picture, timestep, text."""
    sample, picture = rows["sample"][:, :4], rows["sample"][:, 4:]
    text = rows["encoder_hidden_states"].mean(axis=(1, 2))[:, None, None, None]
    result: NDArray[Any] = (
        0.4 * sample + 0.1 * picture + 0.2 * text + rows["timestep"][:, :, None, None] / 5000
    ).astype(np.float32)
    return result


def diffusers_loop(scheduler: Any, steps: int, seed: int, text_scale: float, image_scale: float) -> torch.Tensor:
    """The loop of StableDiffusionInstructPix2PixPipeline.__call__, always with three rows when guided."""
    generator = torch.Generator().manual_seed(seed)
    guided = text_scale > 1 and image_scale >= 1
    picture = torch.from_numpy(PICTURE)
    picture = torch.cat([picture, picture, torch.zeros_like(picture)]) if guided else picture
    text = TEXT[[0, 1, 1]] if guided else TEXT[:1]
    scheduler.set_timesteps(steps)
    latents = torch.randn(PICTURE.shape, generator=generator) * scheduler.init_noise_sigma
    import inspect

    accepted = inspect.signature(scheduler.step).parameters
    options = {k: v for k, v in {"eta": 0.0, "generator": generator}.items() if k in accepted}
    for t in scheduler.timesteps:
        sample = scheduler.scale_model_input(torch.cat([latents] * (3 if guided else 1)), t)
        rows = {
            "sample": torch.cat([sample, picture], 1).numpy(),
            "timestep": np.full((len(sample), 1), float(t), np.float32),
            "encoder_hidden_states": text,
        }
        prediction = torch.from_numpy(denoiser(rows))
        if guided:
            with_text, with_picture, without = prediction.chunk(3)
            prediction = without + text_scale * (with_text - with_picture) + image_scale * (with_picture - without)
        latents = scheduler.step(prediction, t, latents, **options, return_dict=False)[0]
    return latents


def test_a_scheduler_whose_package_is_missing_is_named_with_it(tmp_path: Path) -> None:
    with pytest.raises(BadCheckpointError, match="DPMSolverSDEScheduler requires the torchsde library") as error:
        schedules(tmp_path, "DPMSolverSDEScheduler")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("scales", [(1.0, 1.0), (7.5, 1.0), (7.5, 1.5)], ids=["off", "text", "text and image"])
@pytest.mark.parametrize("name", STEPPABLE)
def test_equals_diffusers(tmp_path: Path, name: str, scales: tuple[float, float]) -> None:
    make = schedules(tmp_path, name)
    tensors = {
        "encoder_hidden_states": TEXT if scales[0] > 1 else TEXT[:1],
        "image_latents": PICTURE,
        "guidance": np.array(scales, np.float32),
    }
    ours = denoise_alone(plan(tensors, 7, 11, make), denoiser)
    theirs = diffusers_loop(getattr(diffusers, name)(**NOISE), 7, 11, *scales)
    np.testing.assert_allclose(ours, theirs.numpy(), rtol=2e-4, atol=2e-4)


def test_rows_by_guidance() -> None:
    assert [Guidance(*scales).rows for scales in ((1.0, 1.0), (7.5, 1.0), (7.5, 1.5))] == [1, 2, 3]


def test_schedules_of_two_edits_share_nothing(tmp_path: Path) -> None:
    make = schedules(tmp_path, "DPMSolverMultistepScheduler")
    first, second = make(5, torch.Generator()), make(9, torch.Generator())
    first.step(torch.ones(1, 4, 2, 2), first.timesteps[0], torch.ones(1, 4, 2, 2))
    assert (len(first.timesteps), len(second.timesteps)) == (5, 9)
    assert second._scheduler.step_index is None


@pytest.mark.parametrize(
    "name", ["RePaintScheduler", "VQDiffusionScheduler", "NoSuchScheduler", "UNet2DConditionModel"]
)
def test_a_scheduler_that_cannot_be_stepped_is_refused_by_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(BadCheckpointError, match=name):
        schedules(tmp_path, name)
