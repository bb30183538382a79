"""A tiny checkpoint of FLUX.2 klein's real classes, and what diffusers makes of it.

The pipeline reads the text encoder's states 9, 18 and 27: so it has 28 layers, narrow ones.
"""

from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKLFlux2, Flux2KleinPipeline, Flux2Transformer2DModel
from PIL import Image
from transformers import Qwen3Config, Qwen3ForCausalLM

from tests import loras
from tests.families import small

GUIDANCE = {"off": (1.0, 1.0), "text": (3.0, 1.0)}
SAMPLERS: dict[str, dict[str, Any]] = {}
"""None: the pipeline hands its own sigmas and shift to the sampler, which others do not take."""
FLAGS: tuple[str, ...] = ()
MULTIPLE = 16
"""Pixels: sides of a picture that the pipeline takes as they are."""
GPU_PRECISION = "fp16"
WIDTH = 16


def transformer() -> Flux2Transformer2DModel:
    return Flux2Transformer2DModel(
        in_channels=16,
        num_layers=1,
        num_single_layers=2,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=3 * WIDTH,
        timestep_guidance_channels=16,
        axes_dims_rope=(4, 4, 4, 4),
        guidance_embeds=False,
    )


def autoencoder() -> AutoencoderKLFlux2:
    made = AutoencoderKLFlux2(
        block_out_channels=(16, 32, 32, 32),
        layers_per_block=1,
        norm_num_groups=8,
        latent_channels=4,
        sample_size=256,
    )
    made.bn.running_mean.normal_(0.0, 0.3)
    made.bn.running_var.uniform_(0.5, 2.0)
    return made


def build(folder: Path) -> Path:
    """Writes the checkpoint into `folder` (must not exist) and returns it."""
    small.seeded()
    tokenizer = small.chat_tokenizer(folder / "tokenizer")
    text = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        intermediate_size=32,
        num_hidden_layers=28,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        max_position_embeddings=1024,
    )
    Flux2KleinPipeline(
        scheduler=small.scheduler("FlowMatchEulerDiscreteScheduler", use_dynamic_shifting=True, base_shift=0.5),
        vae=autoencoder(),
        text_encoder=Qwen3ForCausalLM(text),
        tokenizer=tokenizer,
        transformer=transformer(),
        is_distilled=False,
    ).save_pretrained(folder)
    return folder


def adapters(checkpoint: Path) -> dict[str, tuple[Path, float]]:
    """LoRA files of random weights, in the namings that people have, and their scales by route."""
    folder = small.adapters(checkpoint, write_adapters)
    return {
        "oil": (folder / "oil", 3.0),
        "kohya": (folder / "kohya.safetensors", 4.0),
        "lokr": (folder / "lokr.safetensors", 4.0),
    }


def write_adapters(checkpoint: Path, folder: Path) -> None:
    """One of diffusers' trainers, one of kohya's under the names of klein's authors, and one of LyCORIS."""
    network = Flux2Transformer2DModel.from_pretrained(checkpoint / "transformer")
    layers = ["attn.to_q", "attn.add_v_proj", "attn.to_qkv_mlp_proj", "ff.linear_out", "norm_out.linear"]
    weights = loras.weights(network, layers, 4, seed=1)
    Flux2KleinPipeline.save_lora_weights(folder / "oil", transformer_lora_layers=weights)
    blocks = {
        "double_blocks_0_img_attn_qkv": (96, 32),
        "double_blocks_0_txt_attn_proj": (32, 32),
        "double_blocks_0_img_mlp_0": (192, 32),
        "single_blocks_1_linear1": (288, 32),
        "single_blocks_1_linear2": (32, 128),
    }
    named = {f"lora_unet_{name}": shape for name, shape in blocks.items()}
    loras.save_under(folder / "kohya.safetensors", named, 8, 4.0, seed=2)
    ours = {"transformer_blocks_0_attn_to_v": (32, 32), "single_transformer_blocks_0_attn_to_qkv_mlp_proj": (288, 32)}
    named = {f"lycoris_{name}": shape for name, shape in ours.items()}
    loras.save_lokr(folder / "lokr.safetensors", named, 2, 1.0, seed=3)


def reference(checkpoint: Path, picture: Image.Image | list[Image.Image] | None, prompt: str, **asked: Any) -> Any:
    """diffusers' answer as (H, W, 3) uint8: `steps`, `seed`, `guidance` (text, image), `adapters` (files, scales),
    `negative` (another prompt), `size`, which without a picture must be there."""
    width, height = asked.get("size", (None, None))
    with small.adapted(pipeline(checkpoint), asked.get("adapters", ())) as diffusers:
        edited = diffusers(
            prompt=prompt,
            negative_prompt_embeds=diffusers.encode_prompt(asked["negative"])[0] if "negative" in asked else None,
            image=picture,
            width=width,
            height=height,
            num_inference_steps=asked["steps"],
            guidance_scale=asked["guidance"][0],
            generator=torch.Generator().manual_seed(asked["seed"]),
        )
    return small.pixels(edited.images[0])


def pipeline(checkpoint: Path) -> Any:
    """diffusers' own, in fp32. Whoever changes it puts it back."""
    return small.pipeline(Flux2KleinPipeline, checkpoint)
