"""Write the checkpoint: `python -m demo.checkpoint_writer --state DIR` puts the averages into `demo/checkpoint`."""

import argparse
import json
from pathlib import Path

import torch
from diffusers import AutoencoderKL, StableDiffusionInstructPix2PixPipeline
from transformers import CLIPTokenizer

from demo.denoiser import build_scheduler, build_unet
from demo.text import LENGTH, build_text_encoder

CHECKPOINT = Path(__file__).parent / "checkpoint"


def main() -> None:
    """Assemble and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--state", type=Path, required=True, help="folder that demo.train was given")
    parser.add_argument("--checkpoint", type=Path, default=CHECKPOINT)
    arguments = parser.parse_args()
    write_checkpoint(arguments.state, arguments.checkpoint)


def write_checkpoint(state: Path, folder: Path) -> None:
    """Write what `StableDiffusionInstructPix2PixPipeline.from_pretrained` reads, in float16."""
    weights = torch.load(state / "denoiser.pt", weights_only=True)["average"]
    tokenizer = CLIPTokenizer.from_pretrained(state / "tokenizer", model_max_length=LENGTH)
    unet, text_encoder = build_unet(), build_text_encoder(tokenizer)
    unet.load_state_dict(_part(weights, "unet."))
    text_encoder.load_state_dict(_part(weights, "text_encoder."))
    pipeline = StableDiffusionInstructPix2PixPipeline(
        vae=AutoencoderKL.from_pretrained(state / "autoencoder"),
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=build_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.to(torch.float16).save_pretrained(folder)
    config = folder / "vae" / "config.json"
    kept = {name: value for name, value in json.loads(config.read_text()).items() if name != "_name_or_path"}
    config.write_text(json.dumps(kept, indent=2, sort_keys=True) + "\n")
    write_vocabulary(folder / "tokenizer")


def write_vocabulary(folder: Path) -> None:
    """Write `vocab.json` and `merges.txt`, for older readers, from the `tokenizer.json` that newer ones write alone."""
    model = json.loads((folder / "tokenizer.json").read_text())["model"]
    merges = "".join(" ".join(merge) + "\n" for merge in model["merges"])
    (folder / "vocab.json").write_text(json.dumps(model["vocab"], ensure_ascii=False) + "\n")
    (folder / "merges.txt").write_text("#version: 0.2\n" + merges)


def _part(weights: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}


if __name__ == "__main__":
    main()
