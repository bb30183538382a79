"""LoRA files for SDXL's InstructPix2Pix: its UNet and both text encoders. Imported by `export`."""

from pathlib import Path
from types import SimpleNamespace

from diffusers.loaders import StableDiffusionXLLoraLoaderMixin

from families.interface import DENOISER
from families.parts.configs import read_config
from families.parts.lora import Layers, Lora
from families.parts.lora_files import UNET, LoraReader
from families.parts.lora_weights import WRAPPED

NETWORKS = {UNET: DENOISER, "text_encoder": "text_encoder", "text_encoder_2": "text_encoder_2"}
PREFIXES = ("unet.", "text_encoder.", "text_encoder_2.", "lora_unet_", "lora_te1_", "lora_te2_", WRAPPED)


def read_lora(file: Path, checkpoint: Path, layers: Layers) -> Lora:
    """A LoRA file's factors by component. Raises BadCheckpointError.

    Files of SDXL's first code number the UNet's blocks through; diffusers needs its depth to tell them apart.
    """
    depth = SimpleNamespace(layers_per_block=read_config(checkpoint / "unet").get("layers_per_block", 2))
    return LoraReader(StableDiffusionXLLoraLoaderMixin, NETWORKS, {"unet_config": depth}).read(file, layers)
