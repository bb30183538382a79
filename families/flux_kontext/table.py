"""The tensor table of FLUX.1 Kontext, its defaults and bounds. All sizes come from the checkpoint's configs."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from families.interface import DENOISER, ROWS, Component, Defaults, Limits, Tensor
from families.parts.configs import fields_of, read_configs, require
from families.parts.packing import PATCH
from families.parts.picture_axes import MIN_SIDE, PictureAxes, text_rows, token_tensors
from families.parts.trained import PRECISIONS
from families.parts.vae_components import vae_components
from families.sizes import PreferredSizes

FILES = ("tokenizer", "tokenizer_2", "scheduler/scheduler_config.json")
OPTIONS: Mapping[str, str] = {}
TOKENS = 512
"""Of every prompt in the second encoder: the rest is padded, and the padding is attended."""
TEXT_ROWS = 4
AXES = 3
"""A token's position: picture, row, column."""
SHORT_SIDES = (672, 688, 720, 752, 800, 832, 880, 944, 1024)
LONG_SIDES = (1568, 1504, 1456, 1392, 1328, 1248, 1184, 1104, 1024)
"""The sizes that it was trained at, in pixels, either way: diffusers' PREFERRED_KONTEXT_RESOLUTIONS."""


def components(checkpoint: Path, limits: Limits) -> tuple[Component, ...]:
    """The five engines. Raises BadCheckpointError where configs are missing, unreadable or do not fit together."""
    sizes = _Sizes.read(checkpoint)
    axes = sizes.axes(limits)
    pooled = Tensor("pooled_projections", "FP32", (ROWS, sizes.pooled))
    text = Tensor("encoder_hidden_states", "FP32", (ROWS, TOKENS, sizes.width))
    pictures, places, prediction = token_tensors(sizes.channels, AXES)
    encoder, decoder = vae_components(axes, sizes.channels, PRECISIONS)
    texts = (
        _text_encoder("text_encoder", sizes.clip_tokens, pooled),
        _text_encoder("text_encoder_2", TOKENS, text),
    )
    guidance = (Tensor("guidance", "FP32", (ROWS, 1)),) if sizes.guided else ()
    denoiser = Component(
        name=DENOISER,
        role="denoiser",
        weights="transformer",
        inputs=(
            *pictures,
            Tensor("timestep", "FP32", (ROWS, 1)),
            text,
            pooled,
            *places,
            *guidance,
        ),
        outputs=(prediction,),
        **axes.tokens(1, limits.max_batch, 1),
        precisions=PRECISIONS,
        adapts=True,
    )
    return (*texts, encoder, denoiser, decoder)


def settings(checkpoint: Path, limits: Limits) -> Defaults:
    """Steps and guidance as the model's authors have them; the guidance is a number that the model reads."""
    sizes = _Sizes.read(checkpoint)
    axes = sizes.axes(limits)
    return Defaults(
        num_inference_steps=28,
        guidance_scale=3.5,
        image_guidance_scale=1.0,
        max_images=1,
        rows=1,
        max_tokens=limits.max_batch * (TOKENS + 2 * axes.max_latents),
        size_rule=preferred(limits.max_pixels, sizes.factor).to_json().decode(),
        canvas=axes.rule.to_json().decode(),
        own={
            "guided": sizes.guided,
            "channels": sizes.channels,
            "factor": sizes.factor,
        },
    )


def preferred(max_pixels: int, multiple: int) -> PreferredSizes:
    """The model's sizes, both ways; smaller ones of nearly their aspects where the budget does not hold them."""
    sides = [*zip(SHORT_SIDES, LONG_SIDES, strict=True), *zip(LONG_SIDES, SHORT_SIDES, strict=True)]
    return PreferredSizes(tuple(sorted({_within(*size, max_pixels, multiple) for size in sides})))


def _within(width: int, height: int, max_pixels: int, multiple: int) -> tuple[int, int]:
    scale = min(1.0, math.sqrt(max_pixels / (width * height)))
    down = [max(MIN_SIDE, int(side * scale) // multiple * multiple) for side in (width, height)]
    longest = max_pixels // min(down) // multiple * multiple  # where the other side is the least that there is
    return min(down[0], longest), min(down[1], longest)


def require_files(checkpoint: Path, _limits: Limits) -> None:
    """Raises BadCheckpointError where a tokenizer does not give what its text encoder takes."""
    from families.parts import clip_tokenizer, t5_tokenizer  # noqa: PLC0415 - seconds, and not for every reader

    sizes = _Sizes.read(checkpoint)
    clip_tokenizer.require_usable(checkpoint / "tokenizer", sizes.clip_tokens, sizes.vocabularies[0])
    t5_tokenizer.require_usable(checkpoint / "tokenizer_2", TOKENS, sizes.vocabularies[1])


@dataclass(frozen=True)
class _Sizes:
    """The numbers that the table is made from."""

    clip_tokens: int
    vocabularies: tuple[int, int]
    pooled: int
    width: int
    channels: int
    """Of a token: of a patch of latents."""
    factor: int
    """Pixels along one side of a token."""
    guided: bool
    """Whether the transformer reads a guidance number."""

    def axes(self, limits: Limits) -> PictureAxes:
        """Of pictures, no larger than the model was trained for."""
        largest = max(short * long for short, long in zip(SHORT_SIDES, LONG_SIDES, strict=True))
        return PictureAxes(min(limits.max_pixels, largest), self.factor)

    @classmethod
    def read(cls, checkpoint: Path) -> "_Sizes":
        one, two, transformer, vae = read_configs(checkpoint, "text_encoder", "text_encoder_2", "transformer", "vae")
        with fields_of(checkpoint):
            sizes = cls(
                clip_tokens=int(one["max_position_embeddings"]),
                vocabularies=(int(one["vocab_size"]), int(two["vocab_size"])),
                pooled=int(one["hidden_size"]),
                width=int(two["d_model"]),
                channels=int(transformer["in_channels"]),
                factor=2 ** (len(vae["block_out_channels"]) - 1) * PATCH,
                guided=bool(transformer.get("guidance_embeds", False)),
            )
            context, pooled = int(transformer["joint_attention_dim"]), int(transformer["pooled_projection_dim"])
            latents = int(vae["latent_channels"]) * PATCH**2
        require(
            checkpoint,
            (context != sizes.width, f"its transformer reads text of width {context}, T5 gives {sizes.width}"),
            (pooled != sizes.pooled, f"its transformer reads pooled text of width {pooled}, CLIP gives {sizes.pooled}"),
            (latents != sizes.channels, f"its transformer takes {sizes.channels} channels, its autoencoder {latents}"),
        )
        return sizes


def _text_encoder(name: str, tokens: int, output: Tensor) -> Component:
    return Component(
        name=name,
        role="encoder",
        weights=name,
        inputs=(Tensor("input_ids", "INT64", (ROWS, tokens)),),
        outputs=(output,),
        **text_rows(TEXT_ROWS),
        precisions=PRECISIONS,
        gathers=True,
        cached=True,
        adapts=True,
    )
