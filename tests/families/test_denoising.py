"""The denoising loop against diffusers' own loop, with a denoiser that no weights are needed for."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from families.alone import denoise_alone
from families.edit import Edit
from families.instruct_pix2pix.denoising import plan
from families.interface import Loop, Tensors
from families.parts.guidance import PictureGuidance
from families.schedules import NoiseSchedules
from tests.families.small import NOISE
from tests.families.test_edit import SETTINGS

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
TRIED = [pytest.param(name, marks=pytest.mark.slow if name == "KDPM2DiscreteScheduler" else ()) for name in STEPPABLE]
"""As tests are given them. That one takes as long as all of the others, for it looks each step's sigma up among all."""
TEXT = np.random.default_rng(0).normal(size=(2, 5, 3)).astype(np.float32)
PICTURE = np.random.default_rng(1).normal(size=(1, 4, 6, 9)).astype(np.float32)


def schedules(folder: Path, name: str, **config: Any) -> NoiseSchedules:
    file = folder / "scheduler_config.json"
    file.write_text(json.dumps({**NOISE, **config}))
    return NoiseSchedules(file, name)


def edit(scales: tuple[float, float], steps: int = 7) -> Edit:
    size = (72, 48)
    return Edit((b"",), "p", steps, *scales, 11, (), "raw", size=size, working=size, own=size)


def tensors(scales: tuple[float, float]) -> Tensors:
    return {"encoder_hidden_states": TEXT if scales[0] > 1 else TEXT[:1], "image_latents": PICTURE}


def denoiser(rows: Tensors) -> NDArray[Any]:
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


@pytest.mark.parametrize("scales", [(1.0, 1.0), (7.5, 1.0), (7.5, 1.5)], ids=["off", "text", "text and image"])
@pytest.mark.parametrize("name", TRIED)
def test_equals_diffusers(tmp_path: Path, name: str, scales: tuple[float, float]) -> None:
    make = schedules(tmp_path, name)
    ours = denoise_alone(plan(edit(scales), tensors(scales), make, SETTINGS), denoiser)["latents"]
    theirs = diffusers_loop(getattr(diffusers, name).from_config(NOISE), 7, 11, *scales)
    np.testing.assert_allclose(ours, theirs.numpy(), rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize("name", [*TRIED, "FlowMatchEulerDiscreteScheduler"])
@pytest.mark.parametrize("scales", [(7.5, 1.5), (1.0, 1.0)])
def test_predictions_may_be_overwritten(tmp_path: Path, name: str, scales: tuple[float, float]) -> None:
    previews: list[list[NDArray[Any]]] = [[], []]
    results = []
    for overwritten, seen in zip((False, True), previews, strict=True):
        made, room = plan(edit(scales), tensors(scales), schedules(tmp_path, name), SETTINGS), dict[str, NDArray[Any]]()
        loop = shown(made.loop, seen)

        def predict(rows: Tensors, room: dict[str, NDArray[Any]] = room, again: bool = overwritten) -> NDArray[Any]:
            found = denoiser(rows)
            np.copyto(room.setdefault("prediction", found), found)
            return room["prediction"] if again else found.copy()

        results.append(denoise_alone(replace(made, loop=loop), predict)["latents"])
        room["prediction"][...] = np.nan
    assert np.array_equal(*results)
    assert np.array_equal(*previews)


def shown(loop: Loop, previews: list[NDArray[Any]]) -> Loop:
    """The same loop, whose previews are looked at as they come."""
    step = next(loop)
    try:
        while True:
            step = loop.send((yield step))
            assert step.preview is not None
            previews.append(step.preview()["latents"])
    except StopIteration as finished:
        result: Tensors = finished.value
        return result


def test_rows_by_guidance() -> None:
    assert [PictureGuidance(*scales).rows for scales in ((1.0, 1.0), (7.5, 1.0), (7.5, 1.5))] == [1, 2, 3]


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ((7.5, 1.5), (7.5, 1.5)),
        ((7.5, 1.0), (7.5, 1.0)),
        ((7.5, 0.9), (1.0, 1.0)),
        ((1.0, 1.5), (1.0, 1.0)),
        ((0.4, 1.5), (1.0, 1.0)),
    ],
)
def test_guidance_needs_text_above_one_and_a_picture_of_at_least_one(
    asked: tuple[float, float], expected: tuple[float, float]
) -> None:
    guidance = PictureGuidance.of(edit(asked))
    assert (guidance.text, guidance.image) == expected


def test_a_preview_is_the_estimate_of_the_step_before(tmp_path: Path) -> None:
    off = (1.0, 1.0)
    made = plan(edit(off, steps=4), tensors(off), schedules(tmp_path, "EulerDiscreteScheduler"), SETTINGS)
    step = next(made.loop)
    assert step.preview is None, "nothing is known before the first call"
    seen = []
    for _ in range(3):
        step = made.loop.send(denoiser({**made.constant, **step.inputs}))
        assert step.preview is not None
        seen.append(step.preview()["latents"])
    with pytest.raises(StopIteration) as finished:
        made.loop.send(denoiser({**made.constant, **step.inputs}))
    result = finished.value.value["latents"]
    assert all(estimate.shape == result.shape for estimate in seen)
    distances = [float(np.abs(estimate - result).mean()) for estimate in seen]
    assert distances == sorted(distances, reverse=True), "each is nearer to what comes out"
