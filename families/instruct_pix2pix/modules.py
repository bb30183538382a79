"""The torch modules of InstructPix2Pix. Imported by `export`."""

from pathlib import Path

import torch
from diffusers import UNet2DConditionModel
from transformers import CLIPTextModel

from families.interface import Tensor
from families.parts import autoencoder_kl, pretrained
from families.parts.samples import sample_latents


def sample(tensor: Tensor, shape: tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
    """Inputs as an edit has them."""
    return sample_latents(tensor, shape, generator)


class _TextEncoder(torch.nn.Module):
    """`input_ids` (rows, tokens) -> last hidden states (rows, tokens, width)."""

    def __init__(self, checkpoint: Path) -> None:
        super().__init__()
        self.model = pretrained.load(CLIPTextModel, checkpoint / "text_encoder")

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        states: torch.Tensor = self.model(input_ids)[0]
        return states.float()


class _Unet(torch.nn.Module):
    """`sample` (rows, 2C, h, w), `timestep` (rows, 1), text (rows, tokens, width) -> prediction (rows, C, h, w)."""

    def __init__(self, checkpoint: Path) -> None:
        super().__init__()
        self.model = pretrained.load(UNet2DConditionModel, checkpoint / "unet")

    def forward(self, sample: torch.Tensor, timestep: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
        sample, text = sample.to(self.model.dtype), text.to(self.model.dtype)
        prediction: torch.Tensor = self.model(sample, timestep[:, 0], text, return_dict=False)[0]
        return prediction.float()


module = pretrained.by_name(
    text_encoder=_TextEncoder,
    vae_encoder=autoencoder_kl.Encoder,
    denoiser=_Unet,
    vae_decoder=autoencoder_kl.Decoder,
)
