"""The torch modules of LongCat-Image-Edit. Imported by `export`."""

from pathlib import Path

import torch
from diffusers import LongCatImageTransformer2DModel

from families.interface import Tensor
from families.longcat_image_edit.table import PROCESSOR
from families.parts import autoencoder_kl, pretrained
from families.parts.qwen_vl import PADDING, sample_places
from families.parts.qwen_vl_components import WEIGHTS
from families.parts.qwen_vl_modules import TextEncoder, VisionEncoder
from families.parts.samples import sample_latents


def sample(tensor: Tensor, shape: tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
    """Inputs as an edit has them: a text that ends in padding; positions below 64, in all rows the same: the network
    takes the first's for all."""
    if tensor.name == "position_ids":
        return torch.arange(shape[1]).expand(shape).clone()
    if tensor.name == "vision_places":
        places = torch.from_numpy(sample_places(shape[1]))
        places[:, -1] = PADDING
        return places
    if tensor.name in ("sample_ids", "reference_ids"):
        return torch.randint(0, 64, shape[1:], generator=generator).float().expand(shape).clone()
    return sample_latents(tensor, shape, generator)


class _Transformer(torch.nn.Module):
    """Tokens of noise and of the picture, with their positions -> prediction (rows, target, C).

    `sample` (rows, target, C), `references` (rows, reference, C), `timestep` (rows, 1) of [0, 1000], text (rows, text,
    width), `sample_ids` (rows, target, 3), `reference_ids` (rows, reference, 3). Text stands on a diagonal from 0. The
    network takes the first row's positions for all rows.
    """

    def __init__(self, checkpoint: Path) -> None:
        super().__init__()
        self.model = pretrained.load(LongCatImageTransformer2DModel, checkpoint / "transformer")

    def forward(  # noqa: PLR0917 - the table's inputs
        self,
        sample: torch.Tensor,
        references: torch.Tensor,
        timestep: torch.Tensor,
        text: torch.Tensor,
        sample_ids: torch.Tensor,
        reference_ids: torch.Tensor,
    ) -> torch.Tensor:
        dtype, place = self.model.dtype, torch.arange(text.shape[1], device=text.device).float()
        prediction: torch.Tensor = self.model(
            hidden_states=torch.cat([sample, references], dim=1).to(dtype),
            encoder_hidden_states=text.to(dtype),
            timestep=timestep[:, 0] / 1000,
            img_ids=torch.cat([sample_ids, reference_ids], dim=1)[0],
            txt_ids=torch.stack([torch.zeros_like(place), place, place], dim=1),
            return_dict=False,
        )[0]
        return prediction[:, : sample.shape[1]].float()


module = pretrained.by_name(
    vision_encoder=lambda checkpoint: VisionEncoder(checkpoint / WEIGHTS, checkpoint / PROCESSOR),
    text_encoder=lambda checkpoint: TextEncoder(checkpoint / WEIGHTS),
    vae_encoder=autoencoder_kl.PatchEncoder,
    denoiser=_Transformer,
    vae_decoder=autoencoder_kl.PatchDecoder,
)
