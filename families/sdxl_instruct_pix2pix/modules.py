"""The torch modules of SDXL's InstructPix2Pix. Imported by `export`."""

from pathlib import Path

import torch
from diffusers import UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTextModelWithProjection

from families.interface import Tensor
from families.parts import autoencoder_kl, pretrained
from families.parts.samples import sample_latents


def sample(tensor: Tensor, shape: tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
    """Inputs as an edit has them; time ids are pixels of [0, 1024)."""
    if tensor.name == "time_ids":
        return torch.rand(shape, generator=generator) * 1024
    return sample_latents(tensor, shape, generator)


class _TextEncoder(torch.nn.Module):
    """`input_ids` (rows, tokens) -> hidden states before the last layer (rows, tokens, width)."""

    def __init__(self, checkpoint: Path) -> None:
        super().__init__()
        self.model = pretrained.load(CLIPTextModel, checkpoint / "text_encoder")

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        states: torch.Tensor = self.model(input_ids, output_hidden_states=True).hidden_states[-2]
        return states.float()


class _TextEncoder2(torch.nn.Module):
    """`input_ids` (rows, tokens) -> the same states, and the projected pooled text (rows, pooled)."""

    def __init__(self, checkpoint: Path) -> None:
        super().__init__()
        whole = pretrained.load(CLIPTextModelWithProjection, checkpoint / "text_encoder_2")
        self.model, self.projection = whole.text_model, whole.text_projection

    def forward(self, input_ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        encoded = self.model(input_ids=input_ids, output_hidden_states=True)
        return encoded.hidden_states[-2].float(), self.projection(encoded.pooler_output).float()


class _Unet(torch.nn.Module):
    """`sample` (rows, 2C, h, w), `timestep` (rows, 1), text (rows, tokens, widths), `text_embeds` (rows, pooled),
    `time_ids` (rows, 6) -> prediction (rows, C, h, w)."""

    def __init__(self, checkpoint: Path) -> None:
        super().__init__()
        self.model = pretrained.load(UNet2DConditionModel, checkpoint / "unet")

    def forward(
        self,
        sample: torch.Tensor,
        timestep: torch.Tensor,
        text: torch.Tensor,
        text_embeds: torch.Tensor,
        time_ids: torch.Tensor,
    ) -> torch.Tensor:
        # In float32: the network joins them with sines that are, and narrows what comes of it. Joined in two types, the
        # ONNX file would have a Concat that no engine takes.
        dtype, beside = self.model.dtype, {"text_embeds": text_embeds, "time_ids": time_ids}
        prediction: torch.Tensor = self.model(
            sample.to(dtype), timestep[:, 0], text.to(dtype), added_cond_kwargs=beside, return_dict=False
        )[0]
        return prediction.float()


class _Decoder(autoencoder_kl.Decoder):
    """As the autoencoder's own, for one whose latents are also shifted."""

    def unscaled(self, latents: torch.Tensor) -> torch.Tensor:
        mean, std = self.model.config.latents_mean, self.model.config.latents_std
        plain = super().unscaled(latents)
        if mean is None or std is None:
            return plain
        by_channel = (1, len(mean), 1, 1)
        return plain * torch.tensor(std).view(by_channel) + torch.tensor(mean).view(by_channel)


module = pretrained.by_name(
    text_encoder=_TextEncoder,
    text_encoder_2=_TextEncoder2,
    vae_encoder=autoencoder_kl.Encoder,
    denoiser=_Unet,
    vae_decoder=_Decoder,
)
