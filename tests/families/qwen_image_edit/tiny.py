"""A tiny checkpoint of Qwen-Image-Edit's real classes, and what diffusers makes of it.

diffusers' pipelines load no processor where there is no torchvision, and do not hand on which tokens are pictures,
without which transformers 5 gives all of them places on one axis. Both are mended here, and nothing else.
"""

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from diffusers import (
    AutoencoderKLQwenImage,
    FlowMatchEulerDiscreteScheduler,
    QwenImageEditPipeline,
    QwenImageEditPlusPipeline,
    QwenImageTransformer2DModel,
)
from diffusers.pipelines.qwenimage import pipeline_qwenimage_edit, pipeline_qwenimage_edit_plus
from PIL import Image
from transformers import AutoTokenizer
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from families.parts.configs import read_json
from families.parts.qwen_vl import IMAGE_PAD
from families.qwen_image_edit.table import PROCESSOR, SEVERAL
from families.sizes import AreaSize
from tests import loras
from tests.families import small

GUIDANCE = {"text": (4.0, 1.0), "off": (1.0, 1.0)}
SAMPLERS: dict[str, dict[str, Any]] = {}
"""None: the pipeline hands its own sigmas and shift to the sampler, which others do not take."""
FLAGS: tuple[str, ...] = ()
MULTIPLE = 16
GPU_PRECISION = "bf16"
MAX_PIXELS = 256 * 256
"""Of the kit's exports."""
LOOKED_AT = 128 * 128
WIDTH = 32


def build(folder: Path, kind: Any = QwenImageEditPlusPipeline, *, zero_cond_t: bool = True) -> Path:
    """Writes the checkpoint into `folder` (must not exist) and returns it."""
    small.seeded()
    tokenizer = small.vl_tokenizer(folder / "tokenizer")
    Qwen2VLImageProcessorPil().save_pretrained(folder / PROCESSOR)
    scheduler = FlowMatchEulerDiscreteScheduler(
        use_dynamic_shifting=True, base_shift=0.5, max_shift=0.9, max_image_seq_len=8192, shift_terminal=0.02
    )
    parts = {
        "scheduler": scheduler,
        "vae": autoencoder(),
        "text_encoder": small.qwen_vl(len(tokenizer), tokenizer.convert_tokens_to_ids(IMAGE_PAD), WIDTH),
        "tokenizer": tokenizer,
        "transformer": transformer(zero_cond_t=zero_cond_t),
    }
    made = kind(**parts, processor=None)
    made.save_pretrained(folder)
    return folder


def transformer(*, zero_cond_t: bool) -> QwenImageTransformer2DModel:
    return QwenImageTransformer2DModel(
        in_channels=16,
        out_channels=4,
        num_layers=2,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=WIDTH,
        axes_dims_rope=(4, 6, 6),
        zero_cond_t=zero_cond_t,
    )


def autoencoder() -> AutoencoderKLQwenImage:
    return AutoencoderKLQwenImage(
        base_dim=8,
        z_dim=4,
        num_res_blocks=1,
        latents_mean=[-0.7, 0.1, 0.3, -0.2],
        latents_std=[2.8, 1.4, 0.9, 1.7],
    )


def adapters(checkpoint: Path) -> dict[str, tuple[Path, float]]:
    """LoRA files of random weights, in the namings that people have, and their scales by route."""
    folder = small.adapters(checkpoint, write_adapters)
    return {"oil": (folder / "oil", 1.0), "kohya": (folder / "kohya.safetensors", 3.0)}


def write_adapters(checkpoint: Path, folder: Path) -> None:
    """One of diffusers' trainers, and one with names as Lightning's files have them: bare, with an alpha each."""
    network = QwenImageTransformer2DModel.from_pretrained(checkpoint / "transformer")
    layers = ["attn.to_q", "attn.add_v_proj", "img_mlp.net.2", "img_mod.1", "txt_mod.1"]
    weights = loras.weights(network, layers, 4, seed=1)
    QwenImageEditPlusPipeline.save_lora_weights(folder / "oil", transformer_lora_layers=weights)
    named = {
        "transformer_blocks.0.attn.to_out.0": (32, 32),
        "transformer_blocks.1.attn.to_k": (32, 32),
        "transformer_blocks.1.img_mlp.net.0.proj": (128, 32),
        "transformer_blocks.0.txt_mlp.net.2": (32, 128),
    }
    loras.save_under(folder / "kohya.safetensors", named, 8, 4.0, seed=3)


def reference(checkpoint: Path, picture: Image.Image | list[Image.Image], prompt: str, **asked: Any) -> Any:
    """diffusers' answer as (H, W, 3) uint8: `steps`, `seed`, `guidance` (text, image), `adapters` (files, scales),
    `negative` (another prompt), `size`: where it is not that which the first picture is edited at."""
    pictures = picture if isinstance(picture, list) else [picture]
    rule = AreaSize.up_to(MAX_PIXELS, 32, 64, 4)
    width, height = asked.get("size", rule.of(*pictures[0].size))
    with small.adapted(pipeline(checkpoint), asked.get("adapters", ())) as diffusers, _small_areas():
        edited = diffusers(
            prompt=prompt,
            negative_prompt=asked.get("negative", " "),
            image=pictures if isinstance(diffusers, QwenImageEditPlusPipeline) else pictures[0],
            width=width,
            height=height,
            num_inference_steps=asked["steps"],
            true_cfg_scale=asked["guidance"][0],
            generator=torch.Generator().manual_seed(asked["seed"]),
        )
    return small.pixels(edited.images[0])


@contextmanager
def _small_areas() -> Iterator[None]:
    """The pipelines at the area of the kit's exports; what they look at in little keeps its own."""
    plus, one = pipeline_qwenimage_edit_plus, pipeline_qwenimage_edit
    whole = one.calculate_dimensions
    with (
        mock.patch.object(plus, "VAE_IMAGE_SIZE", MAX_PIXELS),
        mock.patch.object(one, "calculate_dimensions", lambda _area, ratio: whole(MAX_PIXELS, ratio)),
    ):
        yield


@functools.cache
def pipeline(checkpoint: Path) -> Any:
    """diffusers' own, in fp32. Whoever changes it puts it back."""
    several = read_json(checkpoint / "model_index.json")["_class_name"] == SEVERAL
    tokenizer = AutoTokenizer.from_pretrained(checkpoint / "tokenizer")
    loaded = (QwenImageEditPlusPipeline if several else QwenImageEditPipeline)(
        scheduler=FlowMatchEulerDiscreteScheduler.from_pretrained(checkpoint / "scheduler"),
        vae=AutoencoderKLQwenImage.from_pretrained(checkpoint / "vae"),
        text_encoder=small.mended_qwen_vl(checkpoint / "text_encoder"),
        tokenizer=tokenizer,
        processor=small.Processor(checkpoint / PROCESSOR, tokenizer),
        transformer=QwenImageTransformer2DModel.from_pretrained(checkpoint / "transformer"),
    )
    loaded.set_progress_bar_config(disable=True)
    return loaded
