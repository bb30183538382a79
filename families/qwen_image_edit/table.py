"""The tensor table of Qwen-Image-Edit, its defaults and bounds. All sizes come from the checkpoint's configs."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from families.interface import DENOISER, ROWS, Component, Defaults, Limits, Range, Tensor
from families.parts import qwen_vl_components
from families.parts.configs import fields_of, read_configs, read_json, require
from families.parts.packing import PATCH
from families.parts.picture_axes import TEXT, PictureAxes, token_tensors
from families.parts.qwen_vl import Sight
from families.parts.qwen_vl_components import Views, vl_components
from families.parts.trained import AREA, LEAST_SIDE, LONGEST_ASPECT, PRECISIONS, ROWS_OF_EDIT
from families.parts.vae_components import vae_components
from families.qwen_image_edit import prompts
from families.sizes import AreaSize

FILES = ("tokenizer", "scheduler/scheduler_config.json")
OPTIONS: Mapping[str, str] = {}
PROCESSOR = "processor"
"""The checkpoint's sub-folder of what prepares pictures for Qwen2.5-VL."""
SEVERAL = "QwenImageEditPlusPipeline"
"""The class of checkpoints that take several pictures, numbered, and look at each in little."""
MULTIPLE = 32
"""Pixels: sides that the pipelines scale pictures to."""
LOOKED_AT = 384 * 384
"""Pixels of what Qwen2.5-VL looks at where there may be several pictures."""
PROMPT_TOKENS = 1024
"""Of a prompt, at most: the pipelines' own number, which they do not hold prompts to."""
TEXT_STEP = 64
"""Texts are padded to multiples of it, so that edits whose prompts are about as long share calls."""
PLACES = 4
"""A token's picture, row and column, and whether it is there."""
DEFAULT_IMAGES = 3


def components(checkpoint: Path, limits: Limits) -> tuple[Component, ...]:
    """The five engines. Raises BadCheckpointError where configs are missing, unreadable or do not fit together."""
    sizes = _Sizes.read(checkpoint)
    axes, images = sizes.axes(limits), sizes.images(limits)
    most = sizes.most_text(limits)
    vision, text_encoder = vl_components(
        sizes.views(limits), sizes.language, Range(prompts.DROPPED + 1, most // 2, most), images, PRECISIONS
    )
    pictures, places, prediction = token_tensors(sizes.channels, PLACES)
    encoder, decoder = vae_components(axes, sizes.channels, PRECISIONS)
    padded = Range(TEXT_STEP, 4 * TEXT_STEP, -(-most // TEXT_STEP) * TEXT_STEP, TEXT_STEP)
    tokens = axes.tokens(ROWS_OF_EDIT, limits.max_batch, images)
    lengths = (padded.min, 2 * padded.min, padded.opt)
    denoiser = Component(
        name=DENOISER,
        role="denoiser",
        weights="transformer",
        inputs=(
            *pictures,
            Tensor("timestep", "FP32", (ROWS, 1)),
            Tensor("encoder_hidden_states", "FP32", (ROWS, TEXT, sizes.width)),
            *places,
            Tensor("text_ids", "FP32", (ROWS, TEXT, PLACES)),
        ),
        outputs=(prediction,),
        ranges={**tokens["ranges"], TEXT: padded},
        shapes=tuple({**shape, TEXT: length} for shape, length in zip(tokens["shapes"], lengths, strict=True)),
        precisions=PRECISIONS,
        adapts=True,
    )
    return vision, text_encoder, encoder, denoiser, decoder


def settings(checkpoint: Path, limits: Limits) -> Defaults:
    """The pipelines' own. However few rows a call may have, one edit of the most pictures fits in it."""
    sizes = _Sizes.read(checkpoint)
    axes, images = sizes.axes(limits), sizes.images(limits)
    one = -(-sizes.most_text(limits) // TEXT_STEP) * TEXT_STEP + (images + 1) * axes.max_latents
    return Defaults(
        num_inference_steps=50,
        guidance_scale=4.0,
        image_guidance_scale=1.0,
        max_images=images,
        rows=ROWS_OF_EDIT,
        max_tokens=max(limits.max_batch * (PROMPT_TOKENS + 2 * axes.max_latents), ROWS_OF_EDIT * one),
        size_rule=sizes.rule(limits).to_json().decode(),
        negative_prompt=True,
        max_pixels=max(limits.max_pixels, sizes.rule(limits).largest),
        own={
            "channels": sizes.channels,
            "factor": sizes.factor,
            "image_pad": sizes.image_pad,
            "several": sizes.several,
            "sight": asdict(sizes.sight),
            "looked_at": sizes.views(limits).rule.to_json().decode(),
        },
    )


def require_files(checkpoint: Path, _limits: Limits) -> None:
    """Raises BadCheckpointError where the tokenizer does not make what the text encoder takes of a prompt."""
    from families.parts import vl_tokenizer  # noqa: PLC0415 - seconds, and not for every reader of a table

    sizes = _Sizes.read(checkpoint)
    vl_tokenizer.require_usable(checkpoint / "tokenizer", sizes.vocabulary, sizes.image_pad)


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
    several: bool

    def rule(self, limits: Limits) -> AreaSize:
        """Of pictures that are made and seen."""
        return AreaSize.up_to(min(limits.max_pixels, AREA), MULTIPLE, LEAST_SIDE, LONGEST_ASPECT)

    def axes(self, limits: Limits) -> PictureAxes:
        """Of pictures, the largest of which the rule gives."""
        return PictureAxes(self.rule(limits).largest, self.factor)

    def views(self, limits: Limits) -> Views:
        """Of what Qwen2.5-VL looks at: in little, or a single picture as it is edited."""
        little = AreaSize.up_to(LOOKED_AT, MULTIPLE, LEAST_SIDE, LONGEST_ASPECT)
        return Views(self.sight, little if self.several else self.rule(limits), PROCESSOR)

    def images(self, limits: Limits) -> int:
        """Most of one edit."""
        most = DEFAULT_IMAGES if self.several else 1
        return min(limits.max_images or most, most)

    def most_text(self, limits: Limits) -> int:
        """Tokens of the longest text: no tokenizer makes more of one than it has bytes."""
        images = self.images(limits)
        around = len(prompts.text("", images, numbered=self.several).encode())
        return around + images * self.views(limits).most_tokens + PROMPT_TOKENS

    @classmethod
    def read(cls, checkpoint: Path) -> "_Sizes":
        language, transformer, vae = read_configs(checkpoint, "text_encoder", "transformer", "vae")
        index = read_json(checkpoint / "model_index.json")
        with fields_of(checkpoint):
            model = qwen_vl_components.Sizes.read(language)
            sizes = cls(
                language=language,
                vocabulary=model.vocabulary,
                width=model.width,
                image_pad=model.image_pad,
                sight=Sight.read(checkpoint / PROCESSOR),
                channels=int(transformer["in_channels"]),
                factor=2 ** len(vae["temperal_downsample"]) * PATCH,
                several=index["_class_name"] == SEVERAL,
            )
            context, latents = int(transformer["joint_attention_dim"]), int(vae["z_dim"]) * PATCH**2
        unknown = [name for name in UNSERVED if transformer.get(name)]
        require(
            checkpoint,
            (context != sizes.width, f"its transformer reads text of width {context}, not {sizes.width}"),
            (latents != sizes.channels, f"its transformer takes {sizes.channels} channels, its autoencoder {latents}"),
            (bool(unknown), f"its transformer has {', '.join(unknown)}, which edits of pictures have not"),
        )
        return sizes


UNSERVED = ("guidance_embeds", "use_additional_t_cond", "use_layer3d_rope")
"""Of the transformer's config: what other models of the class have."""
