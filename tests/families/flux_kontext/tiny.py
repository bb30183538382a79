"""A tiny checkpoint of FLUX.1 Kontext's real classes, and what diffusers makes of it."""

from pathlib import Path
from typing import Any

import torch
from diffusers import FluxKontextPipeline, FluxTransformer2DModel
from PIL import Image
from transformers import CLIPTextModel, T5Config, T5EncoderModel

from families.flux_kontext.table import preferred
from tests import loras
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


def adapters(checkpoint: Path) -> dict[str, tuple[Path, float]]:
    """LoRA files of random weights, in the namings that people have, and their scales by route."""
    folder = small.adapters(checkpoint, write_adapters)
    return {"oil": (folder / "oil", 0.8), "kohya": (folder / "kohya.safetensors", 3.0)}


def write_adapters(checkpoint: Path, folder: Path) -> None:
    """One of diffusers' trainers, of the first text encoder too, and one of kohya's under the names of the authors."""
    network = FluxTransformer2DModel.from_pretrained(checkpoint / "transformer")
    layers = ["attn.to_q", "attn.add_v_proj", "ff.net.2", "proj_mlp", "norm1.linear"]
    FluxKontextPipeline.save_lora_weights(
        folder / "oil",
        transformer_lora_layers=loras.weights(network, layers, 4, seed=1),
        text_encoder_lora_layers=loras.of_text_encoder(checkpoint, loras.TEXT, 4, seed=2),
    )
    named = {
        "lora_unet_double_blocks_0_img_attn_qkv": (96, 32),
        "lora_unet_double_blocks_0_txt_mod_lin": (192, 32),
        "lora_unet_double_blocks_0_img_mlp_0": (128, 32),
        "lora_unet_single_blocks_1_linear2": (32, 160),
        "lora_te1_text_model_encoder_layers_0_mlp_fc1": (128, 64),
    }
    loras.save_under(folder / "kohya.safetensors", named, 8, 4.0, seed=3)


def reference(checkpoint: Path, picture: Image.Image | None, prompt: str, **asked: Any) -> Any:
    """diffusers' answer as (H, W, 3) uint8: `steps`, `seed`, `guidance` (text, image), `max_pixels` of the export,
    `adapters` (files and scales).

    The picture has the size at which it is edited, which diffusers is told, and does not find by itself; what is made
    has that, too, or `size`, which without a picture must be there.
    """
    rule = preferred(asked.get("max_pixels", MAX_PIXELS), 16)
    picture = picture and picture.resize(rule.of(*picture.size), Image.Resampling.LANCZOS)
    width, height = asked["size"] if picture is None else asked.get("size", picture.size)
    with small.adapted(pipeline(checkpoint), asked.get("adapters", ())) as diffusers:
        edited = diffusers(
            image=picture,
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
