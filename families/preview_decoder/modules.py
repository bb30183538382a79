"""The preview decoder's torch module. Imported by `export`."""

from pathlib import Path

import torch
from diffusers import AutoencoderTiny

from families.parts import pretrained
from families.parts.samples import sample_latents as sample  # noqa: F401 - of what modules offer
from families.preview_decoder import NAME


class _Decoder(torch.nn.Module):
    """`latents` (1, C, h, w) in the noise schedule's scale -> `pixels` (1, 3, H, W), about [-1, 1]."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.model = pretrained.load(AutoencoderTiny, folder)

    def forward(self, latents: torch.Tensor) -> torch.Tensor:
        config = self.model.config
        own = latents / config.scaling_factor + config.shift_factor
        pixels: torch.Tensor = self.model.decode(own.to(self.model.dtype), return_dict=False)[0]
        return pixels.float()


module = pretrained.by_name(**{NAME: _Decoder})
