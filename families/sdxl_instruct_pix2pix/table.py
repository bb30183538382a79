"""The tensor table of SDXL's InstructPix2Pix, its defaults and bounds. All sizes come from the checkpoint's configs."""

from dataclasses import dataclass
from pathlib import Path

from families.interface import DENOISER, PREDICTION, ROWS, Component, Defaults, Limits, Tensor
from families.parts.configs import fields_of, read_configs, read_json, require
from families.parts.picture_axes import LATENT_HEIGHT, LATENT_WIDTH, PictureAxes, text_rows
from families.parts.vae_components import vae_components

FILES = ("tokenizer", "tokenizer_2", "scheduler/scheduler_config.json")
COSXL = "cosxl_edit"
OPTIONS = {COSXL: "a CosXL edit checkpoint: the picture's latents are scaled, as diffusers' is_cosxl_edit says"}
ROWS_PER_EDIT = 3
TEXT_ROWS = 8
"""Most sentences of one call; a guided edit has two."""
TIME_IDS = 6
"""Height and width of the original, top and left of the crop, height and width of the target: in pixels."""


def components(checkpoint: Path, limits: Limits) -> tuple[Component, ...]:
    """The five engines. Raises BadCheckpointError where configs are missing, unreadable or do not fit together."""
    sizes = _Sizes.read(checkpoint)
    axes = PictureAxes(limits.max_pixels, sizes.factor)
    latents = (sizes.latent_channels, LATENT_HEIGHT, LATENT_WIDTH)
    pooled = Tensor("text_embeds", "FP32", (ROWS, sizes.pooled))
    precisions = ("fp32",) if sizes.vae_upcasts else Component.precisions
    encoder, decoder = vae_components(axes, sizes.latent_channels, precisions)
    denoiser = Component(
        name=DENOISER,
        role="denoiser",
        weights="unet",
        inputs=(
            Tensor("sample", "FP32", (ROWS, 2 * sizes.latent_channels, *latents[1:])),
            Tensor("timestep", "FP32", (ROWS, 1)),
            Tensor("encoder_hidden_states", "FP32", (ROWS, sizes.tokens, sum(sizes.widths))),
            pooled,
            Tensor("time_ids", "FP32", (ROWS, TIME_IDS)),
        ),
        outputs=(Tensor(PREDICTION, "FP32", (ROWS, *latents)),),
        **axes.rows_of_latents(ROWS_PER_EDIT, limits.max_batch),
        adapts=True,
    )
    texts = (_text_encoder("text_encoder", sizes, 1), _text_encoder("text_encoder_2", sizes, 2, pooled))
    return (*texts, encoder, denoiser, decoder)


def settings(checkpoint: Path, limits: Limits) -> Defaults:
    """Steps as Friendli's API has them (diffusers' 100 are beyond it), scales as diffusers' pipeline has them."""
    sizes = _Sizes.read(checkpoint)
    axes = PictureAxes(limits.max_pixels, sizes.factor)
    return Defaults(
        num_inference_steps=20,
        guidance_scale=5.0,
        image_guidance_scale=1.5,
        max_images=1,
        rows=ROWS_PER_EDIT,
        max_tokens=limits.max_batch * axes.max_latents,
        size_rule=axes.rule.to_json().decode(),
        negative_prompt=True,
        own={
            "factor": sizes.factor,
            "latent_scale": sizes.latent_scale,
            "picture_scale": sizes.latent_scale if COSXL in limits.options else 1.0,
            "zero_negative": sizes.zero_negative,
        },
    )


def require_files(checkpoint: Path, _limits: Limits) -> None:
    """Raises BadCheckpointError where a tokenizer does not give what its text encoder takes."""
    from families.parts import clip_tokenizer  # noqa: PLC0415 - seconds, and not for every reader of a table

    sizes = _Sizes.read(checkpoint)
    for name, vocabulary in zip(("tokenizer", "tokenizer_2"), sizes.vocabularies, strict=True):
        clip_tokenizer.require_usable(checkpoint / name, sizes.tokens, vocabulary)


@dataclass(frozen=True)
class _Sizes:
    """The numbers that the table is made from."""

    tokens: int
    vocabularies: tuple[int, int]
    widths: tuple[int, int]
    pooled: int
    latent_channels: int
    factor: int
    """Pixels per latent along one side."""
    latent_scale: float
    vae_upcasts: bool
    zero_negative: bool
    """Whether the empty prompt is zeros instead of its encoding."""

    @classmethod
    def read(cls, checkpoint: Path) -> "_Sizes":
        one, two, unet, vae = read_configs(checkpoint, "text_encoder", "text_encoder_2", "unet", "vae")
        index = read_json(checkpoint / "model_index.json")
        with fields_of(checkpoint):
            sizes = cls(
                tokens=int(one["max_position_embeddings"]),
                vocabularies=(int(one["vocab_size"]), int(two["vocab_size"])),
                widths=(int(one["hidden_size"]), int(two["hidden_size"])),
                pooled=int(two["projection_dim"]),
                latent_channels=int(vae["latent_channels"]),
                factor=2 ** (len(vae["block_out_channels"]) - 1),
                latent_scale=float(vae["scaling_factor"]),
                vae_upcasts=bool(vae.get("force_upcast", True)),
                zero_negative=bool(index.get("force_zeros_for_empty_prompt", True)),
            )
            channels, context = int(unet["in_channels"]), int(unet["cross_attention_dim"])
            beside = int(unet["projection_class_embeddings_input_dim"])
            expected = sizes.pooled + TIME_IDS * int(unet["addition_time_embed_dim"])
        require(
            checkpoint,
            (
                channels != 2 * sizes.latent_channels,
                f"the UNet takes {channels} channels; this kind needs twice the VAE's {sizes.latent_channels}",
            ),
            (
                context != sum(sizes.widths),
                f"the UNet reads text of width {context}, the text encoders give {sum(sizes.widths)}",
            ),
            (
                beside != expected,
                f"the UNet reads {beside} numbers beside the text; pooled text and time ids are {expected}",
            ),
            (two["max_position_embeddings"] != sizes.tokens, "its text encoders take different numbers of tokens"),
        )
        return sizes


def _text_encoder(name: str, sizes: _Sizes, number: int, *more: Tensor) -> Component:
    """A text encoder: its hidden states, and `more`."""
    states = Tensor(f"hidden_states_{number}", "FP32", (ROWS, sizes.tokens, sizes.widths[number - 1]))
    return Component(
        name=name,
        role="encoder",
        weights=name,
        inputs=(Tensor("input_ids", "INT64", (ROWS, sizes.tokens)),),
        outputs=(states, *more),
        **text_rows(TEXT_ROWS),
        gathers=True,
        cached=True,
        adapts=True,
    )
