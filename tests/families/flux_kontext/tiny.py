"""A tiny checkpoint of FLUX.1 Kontext's real classes, and what diffusers makes of it."""

from pathlib import Path
from typing import Any

import torch
from diffusers import FluxKontextPipeline, FluxTransformer2DModel
from PIL import Image
from transformers import CLIPTextModel, T5Config, T5EncoderModel

from families.flux_kontext.table import preferred
from tests.families import small

GUIDANCE = {"as trained": (3.5, 1.0), "less": (1.0, 1.0)}
SAMPLERS: dict[str, dict[str, Any]] = {}
"""None: the pipeline hands its own sigmas and shift to the sampler, which others do not take."""
FLAGS: tuple[str, ...] = ()
MULTIPLE = 8
"""Pixels: sides of a picture that the pipeline takes as they are."""
GPU_PRECISION = "fp16,denoiser=fp32"
"""Random weights so small lose more in bf16, which is what Flux runs in for fp16, than a real checkpoint may."""
MAX_PIXELS = 256 * 256
WIDTH = 32


def build(folder: Path) -> Path:
    """Writes the checkpoint into `folder` (must not exist) and returns it."""
    small.seeded()
    clip, t5 = small.clip_tokenizer(folder / "tokenizer"), small.t5_tokenizer(folder / "tokenizer_2")
    text = T5Config(vocab_size=len(t5), d_model=WIDTH, d_kv=8, d_ff=64, num_layers=2, num_heads=4)
    FluxKontextPipeline(
        scheduler=small.scheduler("FlowMatchEulerDiscreteScheduler", use_dynamic_shifting=True),
        vae=small.autoencoder(shift_factor=0.11, scaling_factor=0.36, use_quant_conv=False, use_post_quant_conv=False),
        text_encoder=CLIPTextModel(small.clip_config(len(clip))),
        tokenizer=clip,
        text_encoder_2=T5EncoderModel(text),
        tokenizer_2=t5,
        transformer=FluxTransformer2DModel(
            in_channels=16,
            num_layers=1,
            num_single_layers=2,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=WIDTH,
            pooled_projection_dim=64,
            guidance_embeds=True,
            axes_dims_rope=(4, 4, 8),
        ),
    ).save_pretrained(folder)
    return folder


def adapters(_checkpoint: Path) -> dict[str, tuple[Path, float]]:
    """None: this family takes no adapters yet."""
    return {}


def reference(checkpoint: Path, picture: Image.Image | None, prompt: str, **asked: Any) -> Any:
    """diffusers' answer as (H, W, 3) uint8: `steps`, `seed`, `guidance` (text, image), `max_pixels` of the export.

    At the size at which the picture is edited, which diffusers is told, and does not find by itself; without a picture
    `size`.
    """
    width, height = (
        asked["size"] if picture is None else preferred(asked.get("max_pixels", MAX_PIXELS), 16).of(*picture.size)
    )
    edited = pipeline(checkpoint)(
        image=picture and picture.resize((width, height), Image.Resampling.LANCZOS),
        prompt=prompt,
        width=width,
        height=height,
        max_area=width * height,
        _auto_resize=False,
        num_inference_steps=asked["steps"],
        guidance_scale=asked["guidance"][0],
        generator=torch.Generator().manual_seed(asked["seed"]),
    )
    return small.pixels(edited.images[0])


def pipeline(checkpoint: Path) -> Any:
    """diffusers' own, in fp32. Whoever changes it puts it back."""
    return small.pipeline(FluxKontextPipeline, checkpoint)
