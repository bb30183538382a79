"""The torch modules of FLUX.1 Kontext. Imported by `export`."""

from pathlib import Path

import torch
from diffusers import FluxTransformer2DModel
from transformers import CLIPTextModel, T5EncoderModel

from families.flux_kontext.table import AXES, TOKENS
from families.interface import Tensor
from families.parts import autoencoder_kl, pretrained
from families.parts.samples import sample_latents


def sample(tensor: Tensor, shape: tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
    """Inputs as an edit has them; positions below 64, in all rows the same: the network takes the first's for all."""
    if tensor.name in ("sample_ids", "reference_ids"):
        return torch.randint(0, 64, shape[1:], generator=generator).float().expand(shape).clone()
    if tensor.name == "guidance":
        return torch.rand(shape, generator=generator) * 5
    return sample_latents(tensor, shape, generator)


class _Clip(torch.nn.Module):
    """`input_ids` (rows, tokens) -> pooled text (rows, width)."""

    def __init__(self, checkpoint: Path) -> None:
        super().__init__()
        self.model = pretrained.load(CLIPTextModel, checkpoint / "text_encoder")

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        pooled: torch.Tensor = self.model(input_ids).pooler_output
        return pooled.float()


class _T5(torch.nn.Module):
    """`input_ids` (rows, 512) -> last hidden states (rows, 512, width); padding is attended."""

    def __init__(self, checkpoint: Path) -> None:
        super().__init__()
        self.model = pretrained.load(T5EncoderModel, checkpoint / "text_encoder_2")

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        states: torch.Tensor = self.model(input_ids)[0]
        return states.float()


class _Transformer(torch.nn.Module):
    """Tokens of noise and of the picture, with their positions -> prediction (rows, target, C).

    `sample` (rows, target, C), `references` (rows, reference, C), `timestep` (rows, 1) of [0, 1000], text (rows, 512,
    width), pooled text (rows, width), `sample_ids` (rows, target, 3), `reference_ids` (rows, reference, 3), and where
    the checkpoint reads it `guidance` (rows, 1). The network takes the first row's positions for all rows.
    """

    def __init__(self, checkpoint: Path) -> None:
        super().__init__()
        self.model = pretrained.load(FluxTransformer2DModel, checkpoint / "transformer")
        self.register_buffer("text_ids", torch.zeros(TOKENS, AXES), persistent=False)

    def forward(  # noqa: PLR0917 - the table's inputs
        self,
        sample: torch.Tensor,
        references: torch.Tensor,
        timestep: torch.Tensor,
        text: torch.Tensor,
        pooled: torch.Tensor,
        sample_ids: torch.Tensor,
        reference_ids: torch.Tensor,
        guidance: torch.Tensor | None = None,
    ) -> torch.Tensor:
        dtype = self.model.dtype
        prediction: torch.Tensor = self.model(
            hidden_states=torch.cat([sample, references], dim=1).to(dtype),
            encoder_hidden_states=text.to(dtype),
            pooled_projections=pooled.to(dtype),
            timestep=timestep[:, 0] / 1000,
            img_ids=torch.cat([sample_ids, reference_ids], dim=1)[0],
            txt_ids=self.text_ids.float(),
            guidance=None if guidance is None else guidance[:, 0],
            return_dict=False,
        )[0]
        return prediction[:, : sample.shape[1]].float()


module = pretrained.by_name(
    text_encoder=_Clip,
    text_encoder_2=_T5,
    vae_encoder=autoencoder_kl.PatchEncoder,
    denoiser=_Transformer,
    vae_decoder=autoencoder_kl.PatchDecoder,
)
