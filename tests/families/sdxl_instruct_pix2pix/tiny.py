"""A tiny checkpoint of SDXL InstructPix2Pix's real classes, and what diffusers makes of it."""

from pathlib import Path
from typing import Any

import torch
from diffusers import StableDiffusionXLInstructPix2PixPipeline, UNet2DConditionModel
from PIL import Image
from transformers import CLIPTextModel, CLIPTextModelWithProjection

from tests import loras
from tests.families import small

GUIDANCE = {"off": (1.0, 1.5), "text": (5.0, 1.0), "text and image": (5.0, 1.5)}
SAMPLERS: dict[str, dict[str, Any]] = {"DPMSolverMultistepScheduler": {}, "EDMEulerScheduler": {}}
FLAGS: tuple[str, ...] = ()
MULTIPLE = 8
"""Pixels: sides of a picture that the pipeline takes as they are."""
GPU_PRECISION = "fp16"
POOLED, TIME_WIDTH = 48, 8


def unet(context: int) -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=16,
        in_channels=8,
        out_channels=4,
        block_out_channels=(32, 64),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        transformer_layers_per_block=(1, 2),
        norm_num_groups=8,
        attention_head_dim=(2, 4),
        use_linear_projection=True,
        cross_attention_dim=context,
        addition_embed_type="text_time",
        addition_time_embed_dim=TIME_WIDTH,
        projection_class_embeddings_input_dim=POOLED + 6 * TIME_WIDTH,
    )


def build(folder: Path) -> Path:
    """Writes the checkpoint into `folder` (must not exist) and returns it."""
    small.seeded()
    tokenizers = [
        small.clip_tokenizer(folder / name, pad_token=pad)
        for name, pad in (("tokenizer", "<|endoftext|>"), ("tokenizer_2", "!"))
    ]
    vocabulary = len(tokenizers[0])
    second = small.clip_config(
        vocabulary, hidden_size=32, num_hidden_layers=3, projection_dim=POOLED, hidden_act="gelu"
    )
    StableDiffusionXLInstructPix2PixPipeline(
        vae=small.autoencoder(),
        text_encoder=CLIPTextModel(small.clip_config(vocabulary)),
        text_encoder_2=CLIPTextModelWithProjection(second),
        tokenizer=tokenizers[0],
        tokenizer_2=tokenizers[1],
        unet=unet(64 + 32),
        scheduler=small.scheduler("EulerDiscreteScheduler"),
    ).save_pretrained(folder)
    return folder


def adapters(checkpoint: Path) -> dict[str, tuple[Path, float]]:
    """LoRA files of random weights, in the namings that people have, and their scales by route."""
    folder = small.adapters(checkpoint, write_adapters)
    return {"oil": (folder / "oil", 1.0), "ink": (folder / "ink", 0.7), "kohya": (folder / "kohya.safetensors", 1.0)}


def write_adapters(checkpoint: Path, folder: Path) -> None:
    """One of the UNet, one of both text encoders, and one of all three in kohya's naming."""
    network = UNet2DConditionModel.from_pretrained(checkpoint / "unet")
    texts = [
        kind.from_pretrained(checkpoint / name)
        for kind, name in ((CLIPTextModel, "text_encoder"), (CLIPTextModelWithProjection, "text_encoder_2"))
    ]
    unet_layers = loras.weights(network, loras.ATTENTION, 4, seed=1)
    text_layers = [loras.weights(model, loras.TEXT, 8, seed=2 + i) for i, model in enumerate(texts)]
    save = StableDiffusionXLInstructPix2PixPipeline.save_lora_weights
    save(folder / "oil", unet_lora_layers=unet_layers)
    save(folder / "ink", text_encoder_lora_layers=text_layers[0], text_encoder_2_lora_layers=text_layers[1])
    peft = {f"unet.{name}": tensor for name, tensor in unet_layers.items()}
    peft |= {f"text_encoder.text_model.{name}": tensor for name, tensor in text_layers[0].items()}
    peft |= {f"text_encoder_2.{name}": tensor for name, tensor in text_layers[1].items()}
    loras.save_as_kohya(folder / "kohya.safetensors", peft, alpha=4.0)


def reference(checkpoint: Path, picture: Image.Image, prompt: str, **asked: Any) -> Any:
    """diffusers' answer as (H, W, 3) uint8: `steps`, `seed`, `guidance` (text, image), `adapters` (files and
    scales), `negative` (another prompt)."""
    with small.adapted(pipeline(checkpoint), asked.get("adapters", ())) as diffusers:
        edited = diffusers(
            prompt,
            negative_prompt=asked.get("negative"),
            image=picture,
            height=picture.height,
            width=picture.width,
            num_inference_steps=asked["steps"],
            guidance_scale=asked["guidance"][0],
            image_guidance_scale=asked["guidance"][1],
            generator=torch.Generator().manual_seed(asked["seed"]),
        )
    return small.pixels(edited.images[0])


def pipeline(checkpoint: Path) -> Any:
    """diffusers' own, in fp32. Whoever changes it puts it back."""
    return small.pipeline(StableDiffusionXLInstructPix2PixPipeline, checkpoint)
