"""The tensor table of InstructPix2Pix and its torch modules. Imported by `export`.

Widths, context sizes and latent channels come from the checkpoint's configs, so that any checkpoint of the class fits.
"""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors import SafetensorError
from transformers import CLIPTextModel

from families.errors import BadCheckpointError
from families.instruct_pix2pix import tokenizer
from families.instruct_pix2pix.lora import LORA_LEADS, read_lora  # noqa: F401 - of what a family's components offer
from families.tensors import ROWS, Component, Limits, Range, Tensor

FILES = ("tokenizer", "scheduler/scheduler_config.json")
ROWS_PER_EDIT = 3
DENOISER = "unet"
CONDITIONING = (
    Tensor("input_ids", "INT64", (ROWS, "tokens")),
    Tensor("pixels", "FP32", (1, 3, "height", "width")),
    Tensor("guidance", "FP32", (2,)),
    Tensor("adapter", "INT32", (ROWS, 1)),
)
MIN_SIDE = 64
"""Pixels. Below it the UNet's lowest resolution would vanish."""
LONGEST_ASPECT = 4
"""A picture of the whole pixel budget may be this many times as long as it is wide."""
TEXT_ROWS = 8
"""Most sentences of one call; a guided edit has two."""
VAE_ROWS = 1
"""One picture a call: it keeps a processor busy by itself, and the engine's scratch memory grows with every row."""

TOLERANCE = {"fp32": 1e-4, "fp16": 2e-2, "bf16": 5e-2}


def table(checkpoint: Path, limits: Limits) -> tuple[Component, ...]:
    """The four engines. Raises BadCheckpointError where configs are missing, unreadable or do not fit together."""
    sizes = _Sizes.read(checkpoint, limits)
    text = Tensor("encoder_hidden_states", "FP32", (sizes.tokens, sizes.width))
    latents = (sizes.latent_channels, "latent_height", "latent_width")
    picture = (3, "height", "width")
    return (
        Component(
            name="text_encoder",
            weights="text_encoder",
            inputs=(Tensor("input_ids", "INT64", (sizes.tokens,)),),
            outputs=(text,),
            ranges={ROWS: Range(1, 2, TEXT_ROWS)},
            shapes=({ROWS: 1}, {ROWS: 2}, {ROWS: TEXT_ROWS}),
            tolerance=TOLERANCE,
            batches=True,
            cached=True,
            adapts=True,
        ),
        Component(
            name="vae_encoder",
            weights="vae",
            inputs=(Tensor("pixels", "FP32", picture),),
            outputs=(Tensor("image_latents", "FP32", latents),),
            **sizes.pixels(VAE_ROWS),
            tolerance=TOLERANCE,
            batches=False,
        ),
        Component(
            name="unet",
            weights="unet",
            inputs=(
                Tensor("sample", "FP32", (2 * sizes.latent_channels, *latents[1:])),
                Tensor("timestep", "FP32", (1,)),
                text,
            ),
            outputs=(Tensor("prediction", "FP32", latents),),
            **sizes.latents(limits.max_batch),
            tolerance=TOLERANCE,
            batches=False,
            adapts=True,
        ),
        Component(
            name="vae_decoder",
            weights="vae",
            inputs=(Tensor("latents", "FP32", latents),),
            outputs=(Tensor("pixels", "FP32", picture),),
            **sizes.latents(VAE_ROWS),
            tolerance=TOLERANCE,
            batches=False,
        ),
    )


def picture(checkpoint: Path, limits: Limits) -> Mapping[str, int]:
    """What `families.picture.WorkingSize` is made from, in pixels."""
    sizes = _Sizes.read(checkpoint, limits)
    return {
        "max_pixels": limits.max_pixels,
        "multiple": sizes.factor,
        "min_side": MIN_SIDE,
        "max_side": sizes.max_side,
    }


def require_files(checkpoint: Path, limits: Limits) -> None:
    """Raises BadCheckpointError where the tokenizer does not give what the text encoder takes."""
    sizes = _Sizes.read(checkpoint, limits)
    tokenizer.require_usable(checkpoint / "tokenizer", sizes.tokens, sizes.vocabulary)


def module(component: str, checkpoint: Path) -> torch.nn.Module:
    """The component in fp32, from safetensors, never pickles. In a narrower type it still takes and gives float32."""
    return _MODULES[component](checkpoint).eval().requires_grad_(False)


def sample(tensor: Tensor, shape: tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
    """Inputs as an edit has them: token ids, timesteps of [0, 1000), pixels of [-1, 1], unit noise for the rest."""
    if tensor.name == "input_ids":
        return torch.randint(0, 256, shape, generator=generator)
    uniform = torch.rand(shape, generator=generator)
    if tensor.name == "timestep":
        return uniform * 999
    return uniform * 2 - 1 if tensor.name == "pixels" else torch.randn(shape, generator=generator)


@dataclass(frozen=True)
class _Sizes:
    """The numbers that the table is made from."""

    tokens: int
    vocabulary: int
    width: int
    latent_channels: int
    factor: int
    """Pixels per latent along one side."""
    max_pixels: int

    @classmethod
    def read(cls, checkpoint: Path, limits: Limits) -> "_Sizes":
        text, unet, vae = (read_config(checkpoint / name) for name in ("text_encoder", "unet", "vae"))
        try:
            sizes = cls(
                tokens=int(text["max_position_embeddings"]),
                vocabulary=int(text["vocab_size"]),
                width=int(text["hidden_size"]),
                latent_channels=int(vae["latent_channels"]),
                factor=2 ** (len(vae["block_out_channels"]) - 1),
                max_pixels=limits.max_pixels,
            )
            channels, context = int(unet["in_channels"]), int(unet["cross_attention_dim"])
        except (KeyError, TypeError, ValueError) as error:
            raise BadCheckpointError(f"{checkpoint}: a config lacks or misstates {error}") from error
        if channels != 2 * sizes.latent_channels:
            message = (
                f"the UNet takes {channels} channels; InstructPix2Pix needs twice the VAE's {sizes.latent_channels}"
            )
            raise BadCheckpointError(f"{checkpoint}: {message}")
        if context != sizes.width:
            message = f"the UNet reads text of width {context}, the text encoder gives {sizes.width}"
            raise BadCheckpointError(f"{checkpoint}: {message}")
        return sizes

    @property
    def side(self) -> int:
        """Pixels a side of the square that fills the budget."""
        return math.isqrt(self.max_pixels) // self.factor * self.factor

    @property
    def max_side(self) -> int:
        return math.isqrt(self.max_pixels * LONGEST_ASPECT) // self.factor * self.factor

    def pixels(self, rows: int) -> dict[str, Any]:
        """Ranges and check shapes of a component whose input is a picture."""
        return self._axes(rows, "height", "width", 1)

    def latents(self, rows: int) -> dict[str, Any]:
        """Ranges and check shapes of a component whose input is latents."""
        return self._axes(rows, "latent_height", "latent_width", self.factor)

    def _axes(self, rows: int, height: str, width: str, unit: int) -> dict[str, Any]:
        """Check shapes: the smallest; a rectangle whose sides halve to odd numbers; the longest strip of the budget."""
        side = Range(MIN_SIDE // unit, self.side // unit, self.max_side // unit)
        odd = MIN_SIDE + self.factor
        strip = self.max_pixels // self.max_side // self.factor * self.factor
        shapes = ((1, MIN_SIDE, MIN_SIDE), (min(2, rows), odd, 2 * odd - self.factor), (rows, strip, self.max_side))
        return {
            "ranges": {ROWS: Range(1, min(ROWS_PER_EDIT, rows), rows), height: side, width: side},
            "shapes": tuple({ROWS: n, height: h // unit, width: w // unit} for n, h, w in shapes),
        }


def read_config(folder: Path) -> dict[str, Any]:
    """A component's `config.json`. Raises BadCheckpointError, naming the file, when it is missing or not JSON."""
    file = folder / "config.json"
    try:
        config = json.loads(file.read_text("utf-8"))
    except FileNotFoundError as error:
        raise BadCheckpointError(f"{file} is missing") from error
    except (OSError, ValueError) as error:
        raise BadCheckpointError(f"{file} cannot be read: {error}") from error
    if not isinstance(config, dict):
        raise BadCheckpointError(f"{file} is not a JSON object")
    return config


class _TextEncoder(torch.nn.Module):
    """`input_ids` (rows, tokens) -> last hidden states (rows, tokens, width)."""

    def __init__(self, checkpoint: Path) -> None:
        super().__init__()
        self.model = _pretrained(CLIPTextModel, checkpoint / "text_encoder")

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        states: torch.Tensor = self.model(input_ids)[0]
        return states.float()


class _VaeEncoder(torch.nn.Module):
    """`pixels` (rows, 3, H, W) in [-1, 1] -> mode of the latents' distribution (rows, C, h, w), not scaled."""

    def __init__(self, checkpoint: Path) -> None:
        super().__init__()
        self.model = _pretrained(AutoencoderKL, checkpoint / "vae")

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        moments: torch.Tensor = self.model.encode(pixels.to(self.model.dtype), return_dict=False)[0].parameters
        return moments[:, : moments.shape[1] // 2].float()  # the means; the variances come after them


class _Unet(torch.nn.Module):
    """`sample` (rows, 2C, h, w), `timestep` (rows, 1), text (rows, tokens, width) -> prediction (rows, C, h, w)."""

    def __init__(self, checkpoint: Path) -> None:
        super().__init__()
        self.model = _pretrained(UNet2DConditionModel, checkpoint / "unet")

    def forward(self, sample: torch.Tensor, timestep: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
        sample, text = sample.to(self.model.dtype), text.to(self.model.dtype)
        prediction: torch.Tensor = self.model(sample, timestep[:, 0], text, return_dict=False)[0]
        return prediction.float()


class _VaeDecoder(torch.nn.Module):
    """`latents` (rows, C, h, w) in the noise schedule's scale -> `pixels` (rows, 3, H, W), about [-1, 1]."""

    def __init__(self, checkpoint: Path) -> None:
        super().__init__()
        self.model = _pretrained(AutoencoderKL, checkpoint / "vae")

    def forward(self, latents: torch.Tensor) -> torch.Tensor:
        unscaled = (latents / self.model.config.scaling_factor).to(self.model.dtype)
        pixels: torch.Tensor = self.model.decode(unscaled, return_dict=False)[0]
        return pixels.float()


def _pretrained(model: Any, folder: Path) -> Any:
    """The model with every one of its weights from the checkpoint. Raises BadCheckpointError where they do not fit."""
    options = {"use_safetensors": True, "local_files_only": True, "output_loading_info": True}
    try:
        loaded, info = model.from_pretrained(folder, torch_dtype=torch.float32, **options)
    except (OSError, RuntimeError, ValueError, SafetensorError) as error:
        raise BadCheckpointError(f"{folder}: the weights do not fit: {str(error).splitlines()[0]}") from error
    absent = sorted(info["missing_keys"])
    if absent:
        raise BadCheckpointError(f"{folder}: the weights do not fit: {absent[0]} is missing ({len(absent)} in all)")
    return loaded


_MODULES: Mapping[str, Callable[[Path], torch.nn.Module]] = {
    "text_encoder": _TextEncoder,
    "vae_encoder": _VaeEncoder,
    "unet": _Unet,
    "vae_decoder": _VaeDecoder,
}
