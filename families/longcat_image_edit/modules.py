"""The torch modules of LongCat-Image-Edit. Imported by `export`."""

from pathlib import Path

import torch
from diffusers import LongCatImageTransformer2DModel

from families.interface import Tensor
from families.longcat_image_edit.table import PROCESSOR
from families.parts import autoencoder_kl, pretrained
from families.parts.flux_rows import THETA, attend_by_row, predicted
from families.parts.picture_axes import PLACES
from families.parts.qwen_vl import PADDING, sample_places
from families.parts.qwen_vl_components import WEIGHTS
from families.parts.qwen_vl_modules import TextEncoder, VisionEncoder
from families.parts.rotary import Rotary
from families.parts.samples import sample_latents


def sample(tensor: Tensor, shape: tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
    """Inputs as an edit has them: a text that ends in padding; positions below 64."""
    if tensor.name in PLACES:
        return torch.randint(0, 64, shape, generator=generator).float()
    if tensor.name == "position_ids":
        return torch.arange(shape[1]).expand(shape).clone()
    if tensor.name == "vision_places":
        places = torch.from_numpy(sample_places(shape[1]))
        places[:, -1] = PADDING
        return places
    return sample_latents(tensor, shape, generator)


class _Transformer(torch.nn.Module):
    """Tokens of noise and of the picture, with their places -> prediction (rows, target, C).

    `sample` (rows, target, C), `references` (rows, reference, C), `timestep` (rows, 1) of [0, 1000], text (rows, text,
    width), `sample_ids` (rows, target, 3), `reference_ids` (rows, reference, 3). Text stands on a diagonal from 0.
    """

    def __init__(self, checkpoint: Path) -> None:
        super().__init__()
        self.model = pretrained.load(LongCatImageTransformer2DModel, checkpoint / "transformer")
        attend_by_row(self.model)
        self.rotary = Rotary(self.model.config.axes_dims_rope, THETA)

    def forward(  # noqa: PLR0917 - the table's inputs
        self,
        sample: torch.Tensor,
        references: torch.Tensor,
        timestep: torch.Tensor,
        text: torch.Tensor,
        sample_ids: torch.Tensor,
        reference_ids: torch.Tensor,
    ) -> torch.Tensor:
        model, dtype = self.model, self.model.dtype
        place = torch.arange(text.shape[1], device=text.device).float()
        text_ids = torch.stack([torch.zeros_like(place), place, place], dim=1).expand(sample.shape[0], -1, -1)
        places = self.rotary(torch.cat([text_ids, sample_ids, reference_ids], dim=1))
        now = model.time_embed((timestep[:, 0] / 1000).to(dtype) * 1000, dtype)
        pictures = model.x_embedder(torch.cat([sample, references], dim=1).to(dtype))
        made = predicted(model, model.context_embedder(text.to(dtype)), pictures, now, places)
        return made[:, : sample.shape[1]]


module = pretrained.by_name(
    vision_encoder=lambda checkpoint: VisionEncoder(checkpoint / WEIGHTS, checkpoint / PROCESSOR),
    text_encoder=lambda checkpoint: TextEncoder(checkpoint / WEIGHTS),
    vae_encoder=autoencoder_kl.PatchEncoder,
    denoiser=_Transformer,
    vae_decoder=autoencoder_kl.PatchDecoder,
)
