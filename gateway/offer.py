"""What the model repository lets callers ask for, as the export has put it down in the configuration of `edit`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import orjson
from tritonclient.grpc import model_config_pb2

from gateway.errors import PublicError


@dataclass(frozen=True)
class Offer:
    """The adapters, the defaults and the bounds of an edit."""

    adapters: Sequence[str]
    steps: Sequence[int]
    num_inference_steps: int
    guidance_scale: float
    image_guidance_scale: float
    max_images: int
    generation_size: str
    """Of a picture from text alone for which none is asked, as in `512x512`; "" where there are none."""
    max_pixels: int | None
    """The most of an answer; None where the repository was exported before it was told."""
    negative_prompt: bool
    cache: str | None
    """Of steps, where none is asked for; None where the repository was exported before it was told."""
    adapter_defaults: Mapping[str, Mapping[str, float]]
    """What an adapter's edits have in place of the model's `num_inference_steps` and `guidance_scale`, by its name."""


def offer_of(config: model_config_pb2.ModelConfig) -> Offer:
    """What `edit`'s configuration says. Raises `PublicError("unavailable")` where the export has not said it."""
    said = {name: parameter.string_value for name, parameter in config.parameters.items()}
    try:
        return Offer(
            adapters=[name.strip() for name in said["adapters"].split(",") if name.strip()],
            steps=[int(count) for count in said["steps"].split(",")],
            num_inference_steps=int(said["num_inference_steps"]),
            guidance_scale=float(said["guidance_scale"]),
            image_guidance_scale=float(said["image_guidance_scale"]),
            max_images=int(said["max_images"]),
            generation_size=said["generation_size"],
            max_pixels=int(said["max_pixels"]) if "max_pixels" in said else None,
            negative_prompt=said.get("negative_prompt") == "true",
            cache=said.get("cache"),
            adapter_defaults=_adapter_defaults(said.get("adapter_defaults", "{}")),
        )
    except (KeyError, ValueError):
        raise PublicError("unavailable") from None


def _adapter_defaults(said: str) -> Mapping[str, Mapping[str, float]]:
    """Of what callers may ask for: an adapter's shift is its own affair. Raises ValueError."""
    kinds = {"num_inference_steps": int, "guidance_scale": float}
    read: Mapping[str, Mapping[str, float]] = orjson.loads(said)
    return {
        name: {asked: kind(own[asked]) for asked, kind in kinds.items() if asked in own} for name, own in read.items()
    }
