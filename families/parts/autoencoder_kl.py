"""AutoencoderKL as two components: a picture's latents, and the picture of latents."""

from pathlib import Path

import torch
from diffusers import AutoencoderKL

from families.parts import pretrained


class Encoder(torch.nn.Module):
    """`pixels` (1, 3, H, W) in [-1, 1] -> mode of the latents' distribution (1, C, h, w), not scaled."""

    def __init__(self, checkpoint: Path, dtype: torch.dtype) -> None:
        super().__init__()
        self.model = pretrained.load(AutoencoderKL, checkpoint / "vae", dtype)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        moments: torch.Tensor = self.model.encode(pixels.to(self.model.dtype), return_dict=False)[0].parameters
        return moments[:, : moments.shape[1] // 2].float()  # the means; the variances come after them


class Decoder(torch.nn.Module):
    """`latents` (1, C, h, w) in the noise schedule's scale -> `pixels` (1, 3, H, W), about [-1, 1]."""

    def __init__(self, checkpoint: Path, dtype: torch.dtype) -> None:
        super().__init__()
        self.model = pretrained.load(AutoencoderKL, checkpoint / "vae", dtype)

    def forward(self, latents: torch.Tensor) -> torch.Tensor:
        pixels: torch.Tensor = self.model.decode(self.unscaled(latents).to(self.model.dtype), return_dict=False)[0]
        return pixels.float()

    def unscaled(self, latents: torch.Tensor) -> torch.Tensor:
        """Latents in the autoencoder's own scale."""
        plain: torch.Tensor = latents / self.model.config.scaling_factor
        return plain
