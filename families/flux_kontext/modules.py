"""The torch modules of FLUX.1 Kontext. Imported by `export`."""

from pathlib import Path

import torch
from diffusers import FluxTransformer2DModel
from transformers import CLIPTextModel, T5EncoderModel

from families.flux_kontext.table import AXES, TOKENS
from families.interface import Tensor
from families.parts import autoencoder_kl, pretrained
from families.parts.flux_rows import THETA, attend_by_row, predicted
from families.parts.picture_axes import PLACES
from families.parts.rotary import Rotary
from families.parts.samples import sample_latents


def sample(tensor: Tensor, shape: tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
    """Inputs as an edit has them; positions below 64."""
    if tensor.name in PLACES:
        return torch.randint(0, 64, shape, generator=generator).float()
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
    """Tokens of noise and of the picture, with their places -> prediction (rows, target, C).

    `sample` (rows, target, C), `references` (rows, reference, C), `timestep` (rows, 1) of [0, 1000], text (rows, 512,
    width), pooled text (rows, width), `sample_ids` (rows, target, 3), `reference_ids` (rows, reference, 3), and where
    the checkpoint reads it `guidance` (rows, 1).
    """

    def __init__(self, checkpoint: Path) -> None:
        super().__init__()
        self.model = pretrained.load(FluxTransformer2DModel, checkpoint / "transformer")
        attend_by_row(self.model)
        self.rotary = Rotary(self.model.config.axes_dims_rope, THETA)
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
        model, dtype = self.model, self.model.dtype
        text_ids = self.get_buffer("text_ids").float().expand(sample.shape[0], -1, -1)
        places = self.rotary(torch.cat([text_ids, sample_ids, reference_ids], dim=1))
        numbers = [timestep[:, 0] / 1000, *([] if guidance is None else [guidance[:, 0]])]
        now = model.time_text_embed(*(number.to(dtype) * 1000 for number in numbers), pooled.to(dtype))
        pictures = model.x_embedder(torch.cat([sample, references], dim=1).to(dtype))
        made = predicted(model, model.context_embedder(text.to(dtype)), pictures, now, places)
        return made[:, : sample.shape[1]]


module = pretrained.by_name(
    text_encoder=_Clip,
    text_encoder_2=_T5,
    vae_encoder=autoencoder_kl.PatchEncoder,
    denoiser=_Transformer,
    vae_decoder=autoencoder_kl.PatchDecoder,
)
