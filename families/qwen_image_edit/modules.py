"""The torch modules of Qwen-Image-Edit. Imported by `export`."""

import torch

from families.interface import Tensor
from families.parts import autoencoder_qwen, pretrained
from families.parts.qwen_vl import sample_places
from families.parts.qwen_vl_components import WEIGHTS
from families.parts.qwen_vl_modules import TextEncoder, VisionEncoder
from families.parts.samples import sample_latents
from families.qwen_image_edit.table import PROCESSOR
from families.qwen_image_edit.transformer import AXES, Transformer


def sample(tensor: Tensor, shape: tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
    """Inputs as an edit has them: places around the middle of a picture, a quarter of each row's tokens padding."""
    if tensor.name == "position_ids":
        return torch.arange(shape[1]).expand(shape).clone()
    if tensor.name == "vision_places":
        return torch.from_numpy(sample_places(shape[1]))
    if tensor.name.endswith("_ids") and tensor.dtype == "FP32":
        places = torch.randint(-32, 32, shape, generator=generator).float()
        places[..., AXES] = (torch.arange(shape[1]) < shape[1] - shape[1] // 4).float()
        return places
    return sample_latents(tensor, shape, generator)


module = pretrained.by_name(
    vision_encoder=lambda checkpoint: VisionEncoder(checkpoint / WEIGHTS, checkpoint / PROCESSOR),
    text_encoder=lambda checkpoint: TextEncoder(checkpoint / WEIGHTS),
    vae_encoder=autoencoder_qwen.Encoder,
    denoiser=Transformer,
    vae_decoder=autoencoder_qwen.Decoder,
)
