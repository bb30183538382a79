"""A tiny checkpoint of InstructPix2Pix's real classes, about 5 MB, and what diffusers makes of it.

It edits nothing sensibly; it exercises every layer, file and shape that a trained checkpoint has.
"""

from pathlib import Path
from typing import Any

import torch
from diffusers import StableDiffusionInstructPix2PixPipeline, UNet2DConditionModel
from PIL import Image
from transformers import CLIPTextModel

from tests import loras
from tests.families import small

GUIDANCE = {"off": (1.0, 1.5), "text": (7.5, 1.0), "text and image": (7.5, 1.5)}
SAMPLERS: dict[str, dict[str, Any]] = {
    "DPMSolverMultistepScheduler": {},
    "PNDMScheduler": {"skip_prk_steps": True},
}
"""Beside the checkpoint's own, and what their configuration says besides."""
FLAGS: tuple[str, ...] = ()
MULTIPLE = 8
"""Pixels: sides of a picture that the pipeline takes as they are."""
GPU_PRECISION = "fp16"
"""For the export."""


def unet(context: int) -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=32,
        in_channels=8,
        out_channels=4,
        block_out_channels=(32, 64, 64),
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        layers_per_block=1,
        norm_num_groups=8,
        attention_head_dim=4,
        cross_attention_dim=context,
    )


def build(folder: Path) -> Path:
    """Writes the checkpoint into `folder` (must not exist) and returns it."""
    small.seeded()
    tokenizer = small.clip_tokenizer(folder / "tokenizer")
    encoder = CLIPTextModel(small.clip_config(len(tokenizer)))
    StableDiffusionInstructPix2PixPipeline(
        vae=small.autoencoder(),
        text_encoder=encoder,
        tokenizer=tokenizer,
        unet=unet(encoder.config.hidden_size),
        scheduler=small.scheduler("EulerAncestralDiscreteScheduler"),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder)
    return folder


def adapters(checkpoint: Path) -> dict[str, tuple[Path, float]]:
    """LoRA files of random weights, in the namings that people have, and their scales by route."""
    folder = small.adapters(checkpoint, loras.write)
    return {"oil": (folder / "oil", 1.0), "ink": (folder / "ink", 0.7), "kohya": (folder / "kohya.safetensors", 1.0)}


def reference(checkpoint: Path, picture: Image.Image, prompt: str, **asked: Any) -> Any:
    """diffusers' answer as (H, W, 3) uint8: `steps`, `seed`, `guidance` (text, image), `adapters` (files and
    scales), `negative` (another prompt)."""
    with small.adapted(pipeline(checkpoint), asked.get("adapters", ())) as diffusers:
        edited = diffusers(
            prompt,
            negative_prompt=asked.get("negative"),
            image=picture,
            num_inference_steps=asked["steps"],
            guidance_scale=asked["guidance"][0],
            image_guidance_scale=asked["guidance"][1],
            generator=torch.Generator().manual_seed(asked["seed"]),
        )
    return small.pixels(edited.images[0])


def pipeline(checkpoint: Path) -> Any:
    """diffusers' own, in fp32. Whoever changes it puts it back."""
    return small.pipeline(StableDiffusionInstructPix2PixPipeline, checkpoint)
