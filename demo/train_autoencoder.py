"""First stage: the autoencoder's decoder learns to undo its fixed encoder, on plain and edited crops."""

from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from PIL import Image
from rich.progress import track
from torch import Tensor

from demo.autoencoder import PatchBasis, build_autoencoder, patch_basis
from demo.data import Crops, as_pictures, as_tensor
from demo.edits import KINDS, Picture, true_edit
from demo.training import Run, halved

BATCH = 16
SIZE = 128
RATE = 2e-3
SAVE_EVERY = 100


def train_autoencoder(photos: Path, state: Path, steps: int) -> None:
    """Train, or carry on with, the decoder; write `state/autoencoder`, the diffusers folder, at each save."""
    crops = Crops(photos)
    basis, model = start_autoencoder(crops, state)
    run = Run(state, "autoencoder", model.decoder, RATE, steps)
    run.resume()
    recent: list[float] = []
    for step in track(range(run.step, steps), "autoencoder"):
        pictures = as_tensor(draw_mixture(crops, np.random.default_rng([1, step])))
        with halved():
            decoded = run.module(basis.latents(pictures))
        error = ((decoded.float() - pictures) ** 2).mean(dim=(1, 2, 3))
        run.update((error + 1e-6).sqrt().mean())
        recent.append(psnr(error))
        if run.step % SAVE_EVERY == 0 or run.step == steps:
            run.record(psnr=float(np.mean(recent)))
            recent.clear()
            run.save()
            write_autoencoder(run, model, state, pictures, decoded)


def start_autoencoder(crops: Crops, state: Path) -> tuple[PatchBasis, AutoencoderKL]:
    """The untrained autoencoder, the same every time; kept in `state/basis.pt` with its patch basis."""
    file = state / "basis.pt"
    if not file.exists():
        torch.manual_seed(0)
        rng = np.random.default_rng(0)
        pictures = as_tensor([edited(crops.draw(rng, 256, 256), rng, 0.4) for _ in range(160)])
        basis = patch_basis(pictures)
        model = build_autoencoder(basis, pictures[:64])
        torch.save({"levels": list(basis.levels), "scales": basis.scales, "model": model.state_dict()}, file)
        model.save_config(state / "basis")
    saved = torch.load(file, weights_only=True)
    model = AutoencoderKL.from_config(AutoencoderKL.load_config(state / "basis"))
    model.load_state_dict(saved["model"])
    first, second, third = saved["levels"]
    return PatchBasis((first, second, third), saved["scales"]), model


def draw_mixture(crops: Crops, rng: np.random.Generator) -> list[Picture]:
    """One batch: half photographs as they are, half edited."""
    return [edited(crops.draw(rng, SIZE, SIZE), rng, 0.5) for _ in range(BATCH)]


def edited(picture: Picture, rng: np.random.Generator, share: float) -> Picture:
    """The picture, or with probability `share` a true edit of it, filters as often as shapes and borders together."""
    if rng.random() >= share:
        return picture
    few = rng.random() < 0.6
    return true_edit(KINDS[rng.integers(16 if few else len(KINDS))], picture)


def psnr(error: Tensor) -> float:
    """Mean PSNR in dB of mean squared errors measured in [-1, 1]."""
    return float((-10 * torch.log10(error.detach() / 4 + 1e-10)).mean())


def write_autoencoder(run: Run, model: AutoencoderKL, state: Path, pictures: Tensor, decoded: Tensor) -> None:
    """Write the averaged weights as a diffusers folder, and a strip of samples: pictures above, decoded below."""
    trained = run.module.state_dict()
    model.decoder.load_state_dict(run.average.state_dict())
    model.save_pretrained(state / "autoencoder")
    model.decoder.load_state_dict(trained)
    rows = [np.concatenate(as_pictures(row), axis=1) for row in (pictures, decoded)]
    Image.fromarray((np.concatenate(rows) * 255).astype(np.uint8)).save(state / "autoencoder.png")
