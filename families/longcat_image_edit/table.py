"""The tensor table of LongCat-Image-Edit, its defaults and bounds. All sizes come from the checkpoint's configs."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from families.interface import DENOISER, ROWS, Component, Defaults, Limits, Range, Tensor
from families.longcat_image_edit import prompts
from families.parts import qwen_vl_components
from families.parts.configs import fields_of, read_configs, require
from families.parts.packing import PATCH
from families.parts.picture_axes import TEXT, PictureAxes, token_tensors
from families.parts.qwen_vl import Sight
from families.parts.qwen_vl_components import Views, vl_components
from families.parts.trained import AREA, LEAST_SIDE, LONGEST_ASPECT, PRECISIONS, ROWS_OF_EDIT
from families.parts.vae_components import vae_components
from families.sizes import AreaSize, Size

FILES = ("tokenizer", "scheduler/scheduler_config.json")
OPTIONS: Mapping[str, str] = {}
PROCESSOR = "text_processor"
"""The checkpoint's sub-folder of what prepares pictures for Qwen2.5-VL."""
MULTIPLE = 16
"""Pixels: sides that the pipeline enlarges pictures to, rounded up."""
PROMPT_TOKENS = 512
"""Of every prompt: the rest is padding, which the transformer attends to."""
AXES = 3
"""A token's position: text or which picture, row, column."""


def components(checkpoint: Path, limits: Limits) -> tuple[Component, ...]:
    """The five engines. Raises BadCheckpointError where configs are missing, unreadable or do not fit together."""
    sizes = _Sizes.read(checkpoint)
    axes, views = PictureAxes(_rule(limits).largest, sizes.factor), sizes.views(limits)
    read = prompts.AROUND_PICTURE + views.most_tokens + PROMPT_TOKENS + 1  # and one of padding
    words = len(prompts.BEGIN.split())  # no tokenizer makes less of a text than its words, nor more than its bytes
    most = len(prompts.BEGIN.encode()) + read
    vision, text_encoder = vl_components(views, sizes.language, Range(words, most // 2, most), 1, PRECISIONS)
    pictures, places, prediction = token_tensors(sizes.channels, AXES)
    encoder, decoder = vae_components(axes, sizes.channels, PRECISIONS)
    tokens = axes.tokens(ROWS_OF_EDIT, limits.max_batch, 1)
    text = sizes.text(limits)
    denoiser = Component(
        name=DENOISER,
        role="denoiser",
        weights="transformer",
        inputs=(
            *pictures,
            Tensor("timestep", "FP32", (ROWS, 1)),
            Tensor("encoder_hidden_states", "FP32", (ROWS, TEXT, sizes.width)),
            *places,
        ),
        outputs=(prediction,),
        ranges={**tokens["ranges"], TEXT: text},
        shapes=tuple(
            {**shape, TEXT: length}
            for shape, length in zip(tokens["shapes"], (text.min, text.min + 1, text.opt), strict=True)
        ),
        precisions=PRECISIONS,
        adapts=True,
    )
    return vision, text_encoder, encoder, denoiser, decoder


def settings(checkpoint: Path, limits: Limits) -> Defaults:
    """The pipeline's own. However few rows a call may have, one edit fits in it."""
    sizes, rule = _Sizes.read(checkpoint), _rule(limits)
    axes = PictureAxes(rule.largest, sizes.factor)
    return Defaults(
        num_inference_steps=50,
        guidance_scale=4.5,
        image_guidance_scale=1.0,
        max_images=1,
        rows=ROWS_OF_EDIT,
        max_tokens=max(limits.max_batch, ROWS_OF_EDIT) * (sizes.text(limits).max + 2 * axes.max_latents),
        size_rule=rule.to_json().decode(),
        negative_prompt=True,
        max_pixels=max(limits.max_pixels, rule.largest),
        own={
            "channels": sizes.channels,
            "factor": sizes.factor,
            "image_pad": sizes.image_pad,
            "sight": asdict(sizes.sight),
        },
    )


def require_files(checkpoint: Path, _limits: Limits) -> None:
    """Raises BadCheckpointError where the tokenizer does not make what the text encoder takes of a prompt."""
    from families.parts import vl_tokenizer  # noqa: PLC0415 - seconds, and not for every reader of a table

    sizes, folder = _Sizes.read(checkpoint), checkpoint / "tokenizer"
    vl_tokenizer.require_usable(folder, sizes.vocabulary, sizes.image_pad)
    require(folder, (vl_tokenizer.load(folder).pad_token_id is None, "has no token of padding"))


def half(size: Size) -> Size:
    """At which Qwen2.5-VL looks at a picture that is edited at `size`."""
    return size[0] // 2, size[1] // 2


def _rule(limits: Limits) -> AreaSize:
    """Of pictures that are made and seen; the area can be halved twice, so that halves follow a rule, too."""
    area = min(limits.max_pixels, AREA) // 4 * 4
    return AreaSize.up_to(area, MULTIPLE, LEAST_SIDE, LONGEST_ASPECT, up=True)


@dataclass(frozen=True)
class _Sizes:
    """The numbers that the table is made from."""

    language: Mapping[str, Any]
    """The config of Qwen2.5-VL."""
    vocabulary: int
    width: int
    image_pad: int
    sight: Sight
    channels: int
    """Of a token: of a patch of latents."""
    factor: int
    """Pixels along one side of a token."""

    def views(self, limits: Limits) -> Views:
        """Of what Qwen2.5-VL looks at."""
        rule = _rule(limits)
        sides = MULTIPLE // 2, rule.min_side // 2, rule.max_side // 2
        return Views(self.sight, AreaSize(rule.area // 4, *sides, up=True), PROCESSOR)

    def text(self, limits: Limits) -> Range:
        """Tokens of text that the transformer is given, the picture's among them."""
        views = self.views(limits)
        rows, columns = self.sight.grid(self.sight.of(*views.rule.square))
        fixed = prompts.AROUND_PICTURE + PROMPT_TOKENS
        return Range(fixed + 1, fixed + rows * columns, fixed + views.most_tokens)

    @classmethod
    def read(cls, checkpoint: Path) -> "_Sizes":
        language, transformer, vae = read_configs(checkpoint, "text_encoder", "transformer", "vae")
        with fields_of(checkpoint):
            model = qwen_vl_components.Sizes.read(language)
            sizes = cls(
                language=language,
                vocabulary=model.vocabulary,
                width=model.width,
                image_pad=model.image_pad,
                sight=Sight.read(checkpoint / PROCESSOR),
                channels=int(transformer["in_channels"]),
                factor=2 ** (len(vae["block_out_channels"]) - 1) * PATCH,
            )
            context, latents = int(transformer["joint_attention_dim"]), int(vae["latent_channels"]) * PATCH**2
        require(
            checkpoint,
            (context != sizes.width, f"its transformer reads text of width {context}, not {sizes.width}"),
            (latents != sizes.channels, f"its transformer takes {sizes.channels} channels, its autoencoder {latents}"),
        )
        return sizes
