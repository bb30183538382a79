"""Third stage: UNet and text encoder learn the edits, in the latents of the first stage."""

from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMScheduler
from diffusers.models.attention_processor import AttnProcessor
from PIL import Image
from torch import Tensor, nn

from demo.autoencoder import PatchBasis
from demo.data import Crops, as_pictures
from demo.denoiser import build_scheduler, build_unet
from demo.pairs import Batch, Pairs
from demo.text import build_tokenizer
from demo.train_autoencoder import start_autoencoder
from demo.train_text import train_text
from demo.training import Run, halved
from demo.wordings import vocabulary

RATE = 5e-4
SAVE_EVERY = 100


class Denoiser(nn.Module):
    """UNet and text encoder as one module, so that they share an optimiser."""

    def __init__(self, unet: nn.Module, text_encoder: nn.Module) -> None:
        super().__init__()
        self.unet, self.text_encoder = unet, text_encoder

    def forward(self, latents: Tensor, timesteps: Tensor, tokens: Tensor) -> Tensor:
        """Predict the edited latents, (N, C, h, w), from noisy and picture latents (N, 2 C, h, w)."""
        embeddings = self.text_encoder(tokens)[0]
        prediction: Tensor = self.unet(latents, timesteps, encoder_hidden_states=embeddings).sample
        return prediction


def train_denoiser(photos: Path, state: Path, text_steps: int, steps: int) -> None:
    """Train, or carry on with, the denoiser; `state/denoiser.pt` holds it."""
    basis, _ = start_autoencoder(Crops(photos), state)
    tokenizer = build_tokenizer(vocabulary(), state / "tokenizer")
    text_encoder = train_text(state, tokenizer, text_steps).requires_grad_(True)
    torch.manual_seed(1)
    unet = build_unet()
    unet.set_attn_processor(AttnProcessor())  # a fused kernel's backward pass is slower on CPUs
    run = Run(state, "denoiser", Denoiser(unet, text_encoder), RATE, steps, slow="text_encoder")
    run.resume()
    run.module.train()
    scheduler = build_scheduler()
    pairs = Pairs(photos, tokenizer, steps)
    last: tuple[Batch, Tensor] | None = None

    def loss_at(step: int) -> Tensor:
        nonlocal last
        batch = pairs[step]
        prediction, loss = predict(run.module, batch, basis, scheduler, step)
        last = batch, prediction
        return loss

    def saved() -> None:
        if last:
            write_samples(state, *last)

    run.train(loss_at, SAVE_EVERY, saved)


def predict(
    module: nn.Module, batch: Batch, basis: PatchBasis, scheduler: DDIMScheduler, step: int
) -> tuple[Tensor, Tensor]:
    """One prediction and its loss: root mean square error in pixels' measure, averaged over the batch.

    The root makes a decibel of an easy edit worth as much as a decibel of a hard one, roughly.
    """
    pictures, tokens, edited = batch
    generator = torch.Generator().manual_seed(step)
    source, target = basis.latents(pictures), basis.latents(edited)
    timesteps = draw_timesteps(len(pictures), generator)
    noise = torch.randn(target.shape, generator=generator)
    noisy = scheduler.add_noise(target, noise, timesteps)
    with halved():
        prediction = module(torch.cat([noisy, source], dim=1), timesteps, tokens).float()
    error = ((prediction - target) ** 2 * basis.scales[:, None, None] ** 2).sum(dim=1).mean(dim=(1, 2))
    return prediction, (error / (8 * 8 * 3) + 1e-5).sqrt().mean()


def draw_timesteps(count: int, generator: torch.Generator) -> Tensor:
    """Mostly anywhere; a quarter at the end, which makes the picture; a tenth at pure noise."""
    timesteps = torch.randint(0, 1000, (count,), generator=generator)
    chance = torch.rand(count, generator=generator)
    timesteps = torch.where(chance < 0.25, timesteps // 10, timesteps)
    return torch.where(chance > 0.9, 999, timesteps)


def write_samples(state: Path, batch: Batch, prediction: Tensor) -> None:
    """The last batch as a strip of samples: pictures, predictions, true edits."""
    if not (state / "autoencoder").exists():
        return
    autoencoder = AutoencoderKL.from_pretrained(state / "autoencoder")
    with torch.no_grad():
        decoded = autoencoder.decode(prediction[:8]).sample
    rows = [np.concatenate(as_pictures(row[:8]), axis=1) for row in (batch[0], decoded, batch[2])]
    Image.fromarray((np.concatenate(rows) * 255).astype(np.uint8)).save(state / "denoiser.png")
