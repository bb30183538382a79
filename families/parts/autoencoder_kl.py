"""AutoencoderKL as two components: a picture's latents, and the picture of latents; as they are, or in patches."""

from pathlib import Path
from typing import Any, ClassVar

import torch
from diffusers import AutoencoderKL

from families.parts import pretrained
from families.parts.packing import PATCH


class Encoder(torch.nn.Module):
    """`pixels` (1, 3, H, W) in [-1, 1] -> mode of the latents' distribution (1, C, h, w), not scaled."""

    network: ClassVar[Any] = AutoencoderKL

    def __init__(self, checkpoint: Path) -> None:
        super().__init__()
        self.model = pretrained.load(self.network, checkpoint / "vae")

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        moments: torch.Tensor = self.model.encode(pixels.to(self.model.dtype), return_dict=False)[0].parameters
        means = moments[:, : moments.shape[1] // 2]  # the variances come after them
        return self.scaled(means).float()

    def scaled(self, means: torch.Tensor) -> torch.Tensor:
        """Latents as the denoiser takes them."""
        return means


class Decoder(torch.nn.Module):
    """`latents` (1, C, h, w) in the noise schedule's scale -> `pixels` (1, 3, H, W), about [-1, 1]."""

    network: ClassVar[Any] = AutoencoderKL

    def __init__(self, checkpoint: Path) -> None:
        super().__init__()
        self.model = pretrained.load(self.network, checkpoint / "vae")

    def forward(self, latents: torch.Tensor) -> torch.Tensor:
        pixels: torch.Tensor = self.model.decode(self.unscaled(latents).to(self.model.dtype), return_dict=False)[0]
        return pixels.float()

    def unscaled(self, latents: torch.Tensor) -> torch.Tensor:
        """Latents in the autoencoder's own scale."""
        plain: torch.Tensor = latents / self.model.config.scaling_factor
        return plain


class PatchEncoder(Encoder):
    """`pixels` (1, 3, H, W) in [-1, 1] -> patches of the mode, shifted and scaled, (1, C, h, w)."""

    def scaled(self, means: torch.Tensor) -> torch.Tensor:
        """Patches, scaled."""
        config = self.model.config
        return torch.nn.functional.pixel_unshuffle((means - config.shift_factor) * config.scaling_factor, PATCH)


class PatchDecoder(Decoder):
    """`latents` (1, C, h, w), scaled patches -> `pixels` (1, 3, H, W), about [-1, 1]."""

    def unscaled(self, latents: torch.Tensor) -> torch.Tensor:
        """Latents of scaled patches."""
        config = self.model.config
        plain = torch.nn.functional.pixel_shuffle(latents, PATCH)
        unscaled: torch.Tensor = plain / config.scaling_factor + config.shift_factor
        return unscaled
