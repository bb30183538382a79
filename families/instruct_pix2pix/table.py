"""The tensor table of InstructPix2Pix, its defaults and bounds.

Widths, context sizes and latent channels come from the checkpoint's configs, so that any checkpoint of the class fits.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from families.interface import (
    DENOISER,
    PREDICTION,
    ROWS,
    Component,
    Defaults,
    Limits,
    Tensor,
)
from families.parts.configs import fields_of, read_configs, require
from families.parts.picture_axes import LATENT_HEIGHT, LATENT_WIDTH, PictureAxes, text_rows
from families.parts.vae_components import vae_components

FILES = ("tokenizer", "scheduler/scheduler_config.json")
OPTIONS: Mapping[str, str] = {}
ROWS_PER_EDIT = 3
TEXT_ROWS = 8
"""Most sentences of one call; a guided edit has two."""


def components(checkpoint: Path, limits: Limits) -> tuple[Component, ...]:
    """The four engines. Raises BadCheckpointError where configs are missing, unreadable or do not fit together."""
    sizes = _Sizes.read(checkpoint)
    axes = PictureAxes(limits.max_pixels, sizes.factor)
    text = Tensor("encoder_hidden_states", "FP32", (ROWS, sizes.tokens, sizes.width))
    latents = (sizes.latent_channels, LATENT_HEIGHT, LATENT_WIDTH)
    encoder, decoder = vae_components(axes, sizes.latent_channels, Component.precisions)
    text_encoder = Component(
        name="text_encoder",
        role="encoder",
        weights="text_encoder",
        inputs=(Tensor("input_ids", "INT64", (ROWS, sizes.tokens)),),
        outputs=(text,),
        **text_rows(TEXT_ROWS),
        gathers=True,
        cached=True,
        adapts=True,
    )
    denoiser = Component(
        name=DENOISER,
        role="denoiser",
        weights="unet",
        inputs=(
            Tensor("sample", "FP32", (ROWS, 2 * sizes.latent_channels, *latents[1:])),
            Tensor("timestep", "FP32", (ROWS, 1)),
            text,
        ),
        outputs=(Tensor(PREDICTION, "FP32", (ROWS, *latents)),),
        **axes.rows_of_latents(ROWS_PER_EDIT, limits.max_batch),
        adapts=True,
    )
    return text_encoder, encoder, denoiser, decoder


def settings(checkpoint: Path, limits: Limits) -> Defaults:
    """Steps as Friendli's API has them, scales as diffusers' pipeline has them."""
    sizes = _Sizes.read(checkpoint)
    axes = PictureAxes(limits.max_pixels, sizes.factor)
    return Defaults(
        num_inference_steps=20,
        guidance_scale=7.5,
        image_guidance_scale=1.5,
        max_images=1,
        rows=ROWS_PER_EDIT,
        max_tokens=limits.max_batch * axes.max_latents,
        size_rule=axes.rule.to_json().decode(),
        negative_prompt=True,
        own={"factor": sizes.factor, "latent_scale": sizes.latent_scale},
    )


def require_files(checkpoint: Path, _limits: Limits) -> None:
    """Raises BadCheckpointError where the tokenizer does not give what the text encoder takes."""
    from families.parts import clip_tokenizer  # noqa: PLC0415 - seconds, and not for every reader of a table

    sizes = _Sizes.read(checkpoint)
    clip_tokenizer.require_usable(checkpoint / "tokenizer", sizes.tokens, sizes.vocabulary)


@dataclass(frozen=True)
class _Sizes:
    """The numbers that the table is made from."""

    tokens: int
    vocabulary: int
    width: int
    latent_channels: int
    factor: int
    """Pixels per latent along one side."""
    latent_scale: float

    @classmethod
    def read(cls, checkpoint: Path) -> "_Sizes":
        text, unet, vae = read_configs(checkpoint, "text_encoder", "unet", "vae")
        with fields_of(checkpoint):
            sizes = cls(
                tokens=int(text["max_position_embeddings"]),
                vocabulary=int(text["vocab_size"]),
                width=int(text["hidden_size"]),
                latent_channels=int(vae["latent_channels"]),
                factor=2 ** (len(vae["block_out_channels"]) - 1),
                latent_scale=float(vae.get("scaling_factor", 0.18215)),
            )
            channels, context = int(unet["in_channels"]), int(unet["cross_attention_dim"])
        require(
            checkpoint,
            (
                channels != 2 * sizes.latent_channels,
                f"the UNet takes {channels} channels; InstructPix2Pix needs twice the VAE's {sizes.latent_channels}",
            ),
            (
                context != sizes.width,
                f"the UNet reads text of width {context}, the text encoder gives {sizes.width}",
            ),
        )
        return sizes
