"""The tensor table of FLUX.2 klein, its defaults and bounds. All sizes come from the checkpoint's configs."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from families.interface import DENOISER, ROWS, Component, Defaults, Limits, Tensor
from families.parts.configs import fields_of, read_configs, read_json, require
from families.parts.packing import PATCH
from families.parts.picture_axes import PictureAxes, text_rows, token_tensors
from families.parts.trained import AREA, PRECISIONS
from families.parts.vae_components import vae_components

FILES = ("tokenizer", "scheduler/scheduler_config.json")
OPTIONS: Mapping[str, str] = {}
STATES = (9, 18, 27)
"""Hidden states of the text encoder that are joined; what comes after the last is cut off."""
TOKENS = 512
"""Of every prompt: the rest is padded, and the padding is attended."""
TEXT_ROWS = 4
AXES = 4
"""A token's position: picture, row, column, place in the text."""
DEFAULT_IMAGES, MOST_IMAGES = 4, 8


def components(checkpoint: Path, limits: Limits) -> tuple[Component, ...]:
    """The four engines. Raises BadCheckpointError where configs are missing, unreadable or do not fit together."""
    sizes = _Sizes.read(checkpoint)
    axes = sizes.axes(limits)
    text = Tensor("encoder_hidden_states", "FP32", (ROWS, TOKENS, len(STATES) * sizes.width))
    pictures, places, prediction = token_tensors(sizes.channels, AXES)
    encoder, decoder = vae_components(axes, sizes.channels, PRECISIONS)
    text_encoder = Component(
        name="text_encoder",
        role="encoder",
        weights="text_encoder",
        inputs=(Tensor("input_ids", "INT64", (ROWS, TOKENS)), Tensor("attention_mask", "INT64", (ROWS, TOKENS))),
        outputs=(text,),
        **text_rows(TEXT_ROWS),
        precisions=PRECISIONS,
        gathers=True,
        cached=True,
    )
    denoiser = Component(
        name=DENOISER,
        role="denoiser",
        weights="transformer",
        inputs=(
            *pictures,
            Tensor("timestep", "FP32", (ROWS, 1)),
            text,
            *places,
        ),
        outputs=(prediction,),
        **axes.tokens(sizes.rows, limits.max_batch, _images(limits)),
        precisions=PRECISIONS,
        adapts=True,
    )
    return text_encoder, encoder, denoiser, decoder


def settings(checkpoint: Path, limits: Limits) -> Defaults:
    """The pipeline's own: distilled checkpoints make four steps, and know no guidance. However few rows a call may
    have, one edit of the most pictures fits in it."""
    sizes = _Sizes.read(checkpoint)
    axes, images = sizes.axes(limits), _images(limits)
    one = TOKENS + (images + 1) * axes.max_latents
    return Defaults(
        num_inference_steps=4 if sizes.distilled else 50,
        guidance_scale=1.0 if sizes.distilled else 4.0,
        image_guidance_scale=1.0,
        max_images=images,
        rows=sizes.rows,
        max_tokens=max(limits.max_batch * (TOKENS + 2 * axes.max_latents), sizes.rows * one),
        size_rule=axes.rule.to_json().decode(),
        negative_prompt=not sizes.distilled,
        canvas=axes.rule.to_json().decode(),
        own={
            "distilled": sizes.distilled,
            "channels": sizes.channels,
            "factor": sizes.factor,
        },
    )


def require_files(checkpoint: Path, _limits: Limits) -> None:
    """Raises BadCheckpointError where the tokenizer does not make what the text encoder takes of a prompt."""
    from families.parts import chat_tokenizer  # noqa: PLC0415 - seconds, and not for every reader of a table

    chat_tokenizer.require_usable(checkpoint / "tokenizer", TOKENS, _Sizes.read(checkpoint).vocabulary)


def _images(limits: Limits) -> int:
    return min(limits.max_images or DEFAULT_IMAGES, MOST_IMAGES)


@dataclass(frozen=True)
class _Sizes:
    """The numbers that the table is made from."""

    vocabulary: int
    width: int
    channels: int
    """Of a token: of a patch of latents."""
    factor: int
    """Pixels along one side of a token."""
    distilled: bool

    @property
    def rows(self) -> int:
        """Of one edit: a prompt, and with guidance the empty one."""
        return 1 if self.distilled else 2

    def axes(self, limits: Limits) -> PictureAxes:
        """Of pictures, no larger than the model was trained for."""
        return PictureAxes(min(limits.max_pixels, AREA), self.factor)

    @classmethod
    def read(cls, checkpoint: Path) -> "_Sizes":
        text, transformer, vae = read_configs(checkpoint, "text_encoder", "transformer", "vae")
        index = read_json(checkpoint / "model_index.json")
        with fields_of(checkpoint):
            sizes = cls(
                vocabulary=int(text["vocab_size"]),
                width=int(text["hidden_size"]),
                channels=int(transformer["in_channels"]),
                factor=2 ** (len(vae["block_out_channels"]) - 1) * PATCH,
                distilled=bool(index.get("is_distilled", False)),
            )
            layers, context = int(text["num_hidden_layers"]), int(transformer["joint_attention_dim"])
            latents, guided = int(vae["latent_channels"]) * PATCH**2, bool(transformer.get("guidance_embeds", True))
        require(
            checkpoint,
            (layers <= STATES[-1], f"its text encoder has {layers} layers; klein reads those up to {STATES[-1]}"),
            (context != len(STATES) * sizes.width, f"its transformer reads text of width {context}, not 3 states'"),
            (latents != sizes.channels, f"its transformer takes {sizes.channels} channels, its autoencoder {latents}"),
            (guided, "its transformer wants an embedded guidance number, which klein has not"),
        )
        return sizes
