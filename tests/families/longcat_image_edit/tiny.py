"""A tiny checkpoint of LongCat-Image-Edit's real classes, and what diffusers makes of it.

diffusers' pipeline loads no processor where there is no torchvision, and does not hand on which tokens are pictures,
without which transformers 5 gives all of them places on one axis. Both are mended here, and nothing else.
"""

import functools
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import safetensors.torch
import torch
from diffusers import (
    AutoencoderKL,
    FlowMatchEulerDiscreteScheduler,
    LongCatImageEditPipeline,
    LongCatImageTransformer2DModel,
)
from diffusers.pipelines.longcat_image import pipeline_longcat_image_edit
from PIL import Image
from transformers import AutoTokenizer
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from families.longcat_image_edit.table import PROCESSOR
from families.parts.qwen_vl import IMAGE_PAD
from tests import loras
from tests.families import small

GUIDANCE = {"text": (4.5, 1.0), "off": (1.0, 1.0)}
SAMPLERS: dict[str, dict[str, Any]] = {}
"""None: the pipeline hands its own sigmas and shift to the sampler, which others do not take."""
FLAGS: tuple[str, ...] = ()
MULTIPLE = 16
GPU_PRECISION = "bf16"
MAX_PIXELS = 256 * 256
"""Of the kit's exports."""
WIDTH = 32


def build(folder: Path) -> Path:
    """Writes the checkpoint into `folder` (must not exist) and returns it."""
    small.seeded()
    tokenizer = small.vl_tokenizer(folder / "tokenizer")
    Qwen2VLImageProcessorPil().save_pretrained(folder / PROCESSOR)
    made = LongCatImageEditPipeline(
        scheduler=small.scheduler("FlowMatchEulerDiscreteScheduler", use_dynamic_shifting=True),
        vae=small.autoencoder(
            shift_factor=0.11, scaling_factor=0.36, use_quant_conv=False, use_post_quant_conv=False, latent_channels=16
        ),
        text_encoder=small.qwen_vl(len(tokenizer), tokenizer.convert_tokens_to_ids(IMAGE_PAD), WIDTH),
        tokenizer=tokenizer,
        transformer=LongCatImageTransformer2DModel(
            in_channels=64,
            num_layers=1,
            num_single_layers=2,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=WIDTH,
            pooled_projection_dim=WIDTH,
            axes_dims_rope=[4, 4, 8],
        ),
        text_processor=small.Processor(folder / PROCESSOR),
    )
    made.register_modules(text_processor=None)
    made.save_pretrained(folder)
    return folder


def adapters(checkpoint: Path) -> dict[str, tuple[Path, float]]:
    """LoRA files of random weights, in the namings that people have, and their scales by route."""
    folder = small.adapters(checkpoint, write_adapters)
    return {"oil": (folder / "oil.safetensors", 1.0), "single": (folder / "single.safetensors", 2.0)}


def write_adapters(checkpoint: Path, folder: Path) -> None:
    """Two as diffusers' models save them: of blocks of two streams, and of one."""
    folder.mkdir()
    for seed, (name, layers) in enumerate(
        {
            "oil": ["attn.to_q", "attn.add_v_proj", "ff.net.2", "norm1.linear", "x_embedder"],
            "single": ["proj_mlp", "single_transformer_blocks.1.proj_out", "time_embed.timestep_embedder.linear_1"],
        }.items()
    ):
        network = LongCatImageTransformer2DModel.from_pretrained(checkpoint / "transformer")
        weights = loras.weights(network, layers, 4, seed=seed)
        named = {f"transformer.{layer}": tensor for layer, tensor in weights.items()}
        safetensors.torch.save_file(named, folder / f"{name}.safetensors")


def reference(checkpoint: Path, picture: Image.Image, prompt: str, **asked: Any) -> Any:
    """diffusers' answer as (H, W, 3) uint8: `steps`, `seed`, `guidance` (text, image), `adapters` (files, scales),
    `negative` (another prompt)."""
    with _adapted(pipeline(checkpoint), asked.get("adapters", ())) as diffusers, small_area():
        edited = diffusers(
            picture,
            prompt,
            negative_prompt=asked.get("negative"),
            num_inference_steps=asked["steps"],
            guidance_scale=asked["guidance"][0],
            generator=torch.Generator().manual_seed(asked["seed"]),
        )
    return small.pixels(edited.images[0])


@contextmanager
def small_area() -> Iterator[None]:
    """The pipeline at the area of the kit's exports."""
    whole = pipeline_longcat_image_edit.calculate_dimensions
    with mock.patch.object(
        pipeline_longcat_image_edit, "calculate_dimensions", lambda _area, ratio: whole(MAX_PIXELS, ratio)
    ):
        yield


@contextmanager
def _adapted(diffusers: Any, adapters: Sequence[tuple[Path, float]]) -> Iterator[Any]:
    """The pipeline, which itself loads none, with LoRA files in its transformer until the block ends."""
    names = [f"adapter_{place}" for place in range(len(adapters))]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # peft warns of every adapter beside another
        for name, (file, _) in zip(names, adapters, strict=True):
            diffusers.transformer.load_lora_adapter(safetensors.torch.load_file(file), adapter_name=name)
    if adapters:
        diffusers.transformer.set_adapters(names, [scale for _, scale in adapters])
    yield diffusers
    if adapters:
        diffusers.transformer.unload_lora()


@functools.cache
def pipeline(checkpoint: Path) -> Any:
    """diffusers' own, in fp32. Whoever changes it puts it back."""
    loaded = LongCatImageEditPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler.from_pretrained(checkpoint / "scheduler"),
        vae=AutoencoderKL.from_pretrained(checkpoint / "vae"),
        text_encoder=small.mended_qwen_vl(checkpoint / "text_encoder"),
        tokenizer=AutoTokenizer.from_pretrained(checkpoint / "tokenizer"),
        transformer=LongCatImageTransformer2DModel.from_pretrained(checkpoint / "transformer"),
        text_processor=small.Processor(checkpoint / PROCESSOR),
    )
    loaded.set_progress_bar_config(disable=True)
    return loaded
