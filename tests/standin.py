"""A stand-in checkpoint: the real InstructPix2Pix classes at small widths, random weights from a fixed seed.

It edits nothing sensibly; it exercises every layer, file and shape that a trained checkpoint has. Written in diffusers
format, about 10 MB, so `StableDiffusionInstructPix2PixPipeline.from_pretrained` and the export read it like any other.
"""

import json
import sys
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    StableDiffusionInstructPix2PixPipeline,
    UNet2DConditionModel,
)
from diffusers import schedulers as diffusers_schedulers
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from bench.full_size import NOISE

SEED = 2026


def byte_alphabet() -> list[str]:
    """The 256 printable stand-ins of byte-level BPE, in byte order (GPT-2's `bytes_to_unicode`)."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    spare = iter(range(256, 512))
    return [chr(byte) if byte in printable else chr(next(spare)) for byte in range(256)]


def tokenizer(folder: Path) -> CLIPTokenizer:
    """Writes CLIP's two tokenizer files with a small vocabulary that takes any text, and reads them back."""
    folder.mkdir(parents=True)
    alphabet = byte_alphabet()
    merges = ["t h", "th e</w>", "r e", "re d</w>"]
    tokens = [*alphabet, *(f"{symbol}</w>" for symbol in alphabet), *(merge.replace(" ", "") for merge in merges)]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(tokens)}), "utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n", "utf-8")
    return CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=77)


def text_encoder(vocabulary: int) -> CLIPTextModel:
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=vocabulary,
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=77,
            bos_token_id=vocabulary - 2,
            eos_token_id=vocabulary - 1,
            pad_token_id=vocabulary - 1,
        )
    )


def unet(context: int) -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=32,
        in_channels=8,
        out_channels=4,
        block_out_channels=(32, 64, 64, 64),
        layers_per_block=1,
        norm_num_groups=8,
        attention_head_dim=4,
        cross_attention_dim=context,
    )


def vae() -> AutoencoderKL:
    return AutoencoderKL(
        block_out_channels=(16, 32, 32, 32),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=1,
        norm_num_groups=8,
        latent_channels=4,
        sample_size=256,
    )


def build(folder: Path, scheduler: str = "EulerAncestralDiscreteScheduler", **scheduler_config: Any) -> Path:
    """Writes the checkpoint into `folder` (must not exist) and returns it."""
    torch.manual_seed(SEED)
    tokens = tokenizer(folder / "tokenizer")
    encoder = text_encoder(len(tokens))
    sampler = getattr(diffusers_schedulers, scheduler)
    known = sampler.__init__.__wrapped__.__code__.co_varnames if hasattr(sampler.__init__, "__wrapped__") else ()
    config = {k: v for k, v in NOISE.items() if k in known} | scheduler_config
    pipeline = StableDiffusionInstructPix2PixPipeline(
        vae=vae(),
        text_encoder=encoder,
        tokenizer=tokens,
        unet=unet(encoder.config.hidden_size),
        scheduler=sampler(**config),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(folder)
    return folder


if __name__ == "__main__":
    print(build(Path(sys.argv[1])))  # noqa: T201
