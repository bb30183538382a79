"""LoRA files for InstructPix2Pix: its UNet and its text encoder. Imported by `export`."""

from pathlib import Path

from diffusers.loaders import StableDiffusionLoraLoaderMixin

from families.interface import DENOISER
from families.parts.lora import Layers, Lora
from families.parts.lora_files import UNET, LoraReader
from families.parts.lora_weights import WRAPPED

PREFIXES = ("unet.", "text_encoder.", "lora_unet_", "lora_te_", "lora_te1_", WRAPPED)
READER = LoraReader(StableDiffusionLoraLoaderMixin, {UNET: DENOISER, "text_encoder": "text_encoder"})


def read_lora(file: Path, _checkpoint: Path, layers: Layers) -> Lora:
    """A LoRA file's factors by component. Raises BadCheckpointError."""
    return READER.read(file, layers)
