"""The untrained models start where they should: the autoencoder nearly right, the UNet as the identity."""

import numpy as np
import pytest
import torch

from demo.autoencoder import LATENT_CHANNELS, PatchBasis, build_autoencoder, patch_basis
from demo.data import as_pictures, as_tensor
from demo.denoiser import build_scheduler, build_unet
from demo.edits import blur
from demo.measures import psnr
from demo.text import HIDDEN


@pytest.fixture(scope="module")
def pictures() -> torch.Tensor:
    rng = np.random.default_rng(0)
    return as_tensor([np.clip(blur(rng.random((64, 64, 3)).astype(np.float32), 4.0) * 6 - 2.5, 0, 1) for _ in range(6)])


@pytest.fixture(scope="module")
def basis(pictures: torch.Tensor) -> PatchBasis:
    return patch_basis(pictures)


@torch.no_grad()
def test_encoder_computes_principal_components(pictures: torch.Tensor, basis: PatchBasis) -> None:
    autoencoder = build_autoencoder(basis, pictures)
    latents = autoencoder.encode(pictures).latent_dist.mode()
    assert latents.shape == (6, LATENT_CHANNELS, 8, 8)
    torch.testing.assert_close(latents, basis.latents(pictures), atol=0.02, rtol=0.01)
    decoded = as_pictures(autoencoder.decode(latents).sample)
    assert np.mean([psnr(ours, true) for ours, true in zip(decoded, as_pictures(pictures), strict=True)]) > 20


@torch.no_grad()
def test_unet_starts_as_the_identity() -> None:
    torch.manual_seed(0)
    noisy, latents = torch.randn(2, 2, LATENT_CHANNELS, 12, 16)
    text = torch.randn(2, 77, HIDDEN)
    prediction = build_unet()(torch.cat([noisy, latents], 1), torch.tensor([999, 49]), text).sample
    assert (prediction - latents).abs().max() < 0.2


def test_first_step_is_pure_noise() -> None:
    scheduler = build_scheduler()
    for steps in (1, 4, 20, 50):
        scheduler.set_timesteps(steps)
        assert scheduler.timesteps[0] == 999
        assert scheduler.alphas_cumprod[999] == 0
