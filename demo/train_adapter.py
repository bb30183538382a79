"""Train an adapter of the demo checkpoint: `python -m demo.train_adapter NAME --photos DIR --state DIR`.

Low-rank additions (LoRA) to the linear layers of the UNet's transformers, and of the text encoder's where the adapter
has words to learn; the checkpoint itself is not changed. Resumed from where it was stopped; at every save
`demo/adapters/NAME.safetensors` is written, which `load_lora_weights` of the diffusers pipeline reads.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import StableDiffusionInstructPix2PixPipeline
from diffusers.models.attention_processor import AttnProcessor
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from transformers import CLIPTokenizer

from demo.adapters import ADAPTERS, FOLDER, Adapter
from demo.autoencoder import basis_of
from demo.checkpoint_writer import CHECKPOINT
from demo.edits import Picture
from demo.pairs import Pairs
from demo.train_denoiser import Denoiser, predict
from demo.training import Run
from demo.wordings import disturbed

SAVE_EVERY = 50
OWN_SHARE = 0.5
"""How often an adapter's own instruction is drawn; the rest keeps the other instructions as they are."""
TEXT_LAYERS = ("q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2")


class AdaptedPairs(Pairs):
    """Batches as of the base training, with the edits that the adapter should make."""

    def __init__(self, photos: Path, tokenizer: CLIPTokenizer, steps: int, adapter: Adapter) -> None:
        super().__init__(photos, tokenizer, steps)
        self.adapter = adapter

    def ask(self, rng: np.random.Generator, picture: Picture) -> tuple[str, Picture]:
        """A sentence, and the picture edited as the adapter should."""
        if self.adapter.instruction and rng.random() < OWN_SHARE:
            text = self.adapter.wordings[rng.integers(len(self.adapter.wordings))]
            return disturbed(text, rng), self.adapter.instruction(picture)
        text, edited = super().ask(rng, picture)
        return text, self.adapter.styled(edited)


def main() -> None:
    """Train one adapter."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=ADAPTERS)
    parser.add_argument("--photos", type=Path, required=True, help="folder written by demo.photos")
    parser.add_argument("--state", type=Path, required=True, help="where the training state and log go")
    parser.add_argument("--checkpoint", type=Path, default=CHECKPOINT)
    parser.add_argument("--adapters", type=Path, default=FOLDER, help="folder to write to")
    parser.add_argument("--steps", type=int, help="default: the adapter's own")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    arguments.state.mkdir(parents=True, exist_ok=True)
    train_adapter(arguments)


def train_adapter(arguments: argparse.Namespace) -> None:
    """Train, or carry on with, the adapter; `state/NAME.pt` holds it."""
    adapter = ADAPTERS[arguments.name]
    steps = arguments.steps or adapter.steps
    pipeline = StableDiffusionInstructPix2PixPipeline.from_pretrained(arguments.checkpoint, dtype=torch.float32)
    module = adapted(pipeline, adapter)
    run = Run(arguments.state, arguments.name, module, adapter.rate, steps, slow="text_encoder")
    run.resume()
    basis = basis_of(pipeline.vae)
    pairs = AdaptedPairs(arguments.photos, pipeline.tokenizer, steps, adapter)
    run.train(
        lambda step: predict(run.module, pairs[step], basis, pipeline.scheduler, step)[1],
        SAVE_EVERY,
        lambda: write_adapter(run.average, arguments.adapters / f"{arguments.name}.safetensors"),
    )


def adapted(pipeline: Any, adapter: Adapter) -> Denoiser:
    """The pipeline's UNet and text encoder, with additions of the adapter's rank as all that can be trained."""
    torch.manual_seed(4)
    module = Denoiser(pipeline.unet, pipeline.text_encoder).requires_grad_(False).train()
    pipeline.unet.set_attn_processor(AttnProcessor())  # a fused kernel's backward pass is slower on CPUs
    pipeline.unet.add_adapter(_config(adapter, adapter.layers))
    if adapter.instruction:
        pipeline.text_encoder.add_adapter(_config(adapter, TEXT_LAYERS))
    return module


def write_adapter(module: Any, file: Path) -> None:
    """Write the additions in float16, in diffusers' form."""
    layers = {
        f"{name}_lora_layers": {key: value.half() for key, value in get_peft_model_state_dict(part).items()}
        for name, part in (("unet", module.unet), ("text_encoder", module.text_encoder))
        if getattr(part, "peft_config", None)
    }
    StableDiffusionInstructPix2PixPipeline.save_lora_weights(file.parent, weight_name=file.name, **layers)


def _config(adapter: Adapter, layers: Sequence[str]) -> LoraConfig:
    return LoraConfig(r=adapter.rank, lora_alpha=adapter.rank, target_modules=list(layers))


if __name__ == "__main__":
    main()
