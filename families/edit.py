"""One edit as it arrives at Triton, validated once: every bound of the tensor contract stands here, and no other place.

Knows nothing of Triton's API, nor of what a family makes of the values.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from families.errors import (
    GENERATIONS_UNAVAILABLE,
    MASK_INVALID,
    NEGATIVE_PROMPT_UNAVAILABLE,
    PARAMETER_INVALID,
    PROMPT_INVALID,
    SIZE_UNAVAILABLE,
    STEPS_UNAVAILABLE,
    TOO_MANY_IMAGES,
    UNKNOWN_MODEL,
    InvalidEditError,
)
from families.interface import MOST_ADAPTERS, Tensors
from families.masks import require_fitting
from families.picture import JPEG_MAX_SIDE, RESPONSE_FORMATS, DecodingLimits, own_size
from families.settings import Settings
from families.sizes import Size, WorkingSize, own_rule, require_within, same_aspect, within
from families.step_cache import CACHES, OFF

MAX_STEPS = 50
MAX_GUIDANCE = 100.0
MAX_PROMPT_CHARS = 10_000
MAX_ADAPTER_SCALE = 10.0
DECODING = DecodingLimits()
ADAPTER_SCALE = re.compile(r"-?[0-9]{1,9}(\.[0-9]{1,9})?", re.ASCII)
"""As it stands behind a route: `oil:0.7`."""


@dataclass(frozen=True)
class Edit:
    """One edit, every default filled in. `images`: encoded files. `adapters`: each counted from 1, with its scale.

    Sizes are (width, height) in pixels. `size`: the answer's. `working`: at which the family makes it. `own`: of the
    first image, upright; without images a picture is made from text alone, and it is None. `mask`: a PNG as large as
    the first image, which changes where its alpha is 0; "" for everywhere. `negative_prompt`: "" for the family's own.
    `guidance_scale`: up to 1 is off. `image_guidance_scale`: how closely the picture is kept, where a family has it.
    `shift`: of the noise schedule, 0 for the checkpoint's own. `cache`: one of `families.step_cache.CACHES`.
    """

    images: tuple[bytes, ...]
    prompt: str
    num_inference_steps: int
    guidance_scale: float
    image_guidance_scale: float
    seed: int
    adapters: tuple[tuple[int, float], ...]
    response_format: str
    size: Size
    working: Size
    own: Size | None = None
    mask: bytes = b""
    negative_prompt: str = ""
    shift: float = 0.0
    cache: str = OFF


def read(given: Tensors, settings: Settings, limits: DecodingLimits = DECODING) -> Edit:
    """The edit in the inputs of a request. What is absent or 0 takes the default of `settings`. `limits`: by which its
    pictures are going to be decoded.

    Raises InvalidEditError for a value outside the contract.
    """
    missing = next((name for name in ("image", "prompt", "seed") if name not in given or not given[name].ndim), None)
    if missing:
        raise InvalidEditError(PARAMETER_INVALID, f"the input {missing} is missing")
    images = tuple(given["image"].tolist())
    if len(images) > settings.max_images:
        most = "one image" if settings.max_images == 1 else f"{settings.max_images} images"
        raise InvalidEditError(TOO_MANY_IMAGES, f"this model edits at most {most}")
    sizes = _sizes(given, images, settings)
    adapters = _adapters(_text(given, "model", PARAMETER_INVALID), settings.adapters)
    own = _own_defaults(adapters, settings)
    return Edit(
        images=images,
        prompt=_prompt(given),
        num_inference_steps=_steps(given, settings, int(own.get("num_inference_steps", settings.num_inference_steps))),
        guidance_scale=_scale(given, "guidance_scale", own.get("guidance_scale", settings.guidance_scale)),
        image_guidance_scale=_scale(given, "image_guidance_scale", settings.image_guidance_scale),
        seed=int(given["seed"][0]),
        adapters=adapters,
        response_format=_response_format(given, **sizes),
        **sizes,
        mask=_mask(given, limits, **sizes),
        negative_prompt=_negative_prompt(given, settings),
        shift=own.get("shift", settings.shift),
        cache=_cache(given, settings),
    )


def _prompt(given: Tensors) -> str:
    prompt = _text(given, "prompt", PROMPT_INVALID)
    if not prompt.strip() or "\0" in prompt or len(prompt) > MAX_PROMPT_CHARS:
        raise InvalidEditError(PROMPT_INVALID, f"prompt must be 1 to {MAX_PROMPT_CHARS} characters without NUL")
    return prompt


def _negative_prompt(given: Tensors, settings: Settings) -> str:
    prompt = _text(given, "negative_prompt", PROMPT_INVALID)
    if "\0" in prompt or len(prompt) > MAX_PROMPT_CHARS:
        message = f"negative_prompt must be at most {MAX_PROMPT_CHARS} characters without NUL"
        raise InvalidEditError(PROMPT_INVALID, message)
    if prompt and not settings.negative_prompt:
        raise InvalidEditError(NEGATIVE_PROMPT_UNAVAILABLE, "this model takes no negative prompt: leave it out")
    return prompt


def _response_format(given: Tensors, size: Size, **_: Any) -> str:
    response_format = _text(given, "response_format", PARAMETER_INVALID) or RESPONSE_FORMATS[0]
    if response_format not in RESPONSE_FORMATS:
        raise InvalidEditError(PARAMETER_INVALID, f"response_format must be one of {', '.join(RESPONSE_FORMATS)}")
    if response_format == "jpeg" and max(size) > JPEG_MAX_SIDE:
        raise InvalidEditError(SIZE_UNAVAILABLE, f"a jpeg has at most {JPEG_MAX_SIDE} pixels a side")
    return response_format


def _cache(given: Tensors, settings: Settings) -> str:
    cache = _text(given, "cache", PARAMETER_INVALID) or settings.cache
    if cache not in CACHES:
        raise InvalidEditError(PARAMETER_INVALID, f"cache must be {' or '.join(CACHES)}")
    return cache


def _mask(
    given: Tensors,
    limits: DecodingLimits,
    size: Size,
    working: Size,  # noqa: ARG001
    own: Size | None = None,
) -> bytes:
    """The mask, which fits to the picture; b"" for none."""
    mask = bytes(given["mask"][0]) if "mask" in given else b""
    if not mask:
        return mask
    if own is None:
        raise InvalidEditError(MASK_INVALID, "a mask needs an image")
    require_fitting(mask, own, limits)
    if not same_aspect(size, own):
        raise InvalidEditError(MASK_INVALID, "with a mask, size must have the picture's aspect")
    return mask


def _steps(given: Tensors, settings: Settings, default: int) -> int:
    asked = int(given["num_inference_steps"][0]) if "num_inference_steps" in given else 0
    steps = asked or default
    if not 1 <= steps <= MAX_STEPS:
        raise InvalidEditError(PARAMETER_INVALID, f"num_inference_steps must be 1 to {MAX_STEPS}")
    if steps not in settings.steps:
        nearest = min(settings.steps, key=lambda known: (abs(known - steps), known))
        message = f"this model's sampler cannot make {steps} steps; the nearest number that works is {nearest}"
        raise InvalidEditError(STEPS_UNAVAILABLE, message)
    return steps


def _scale(given: Tensors, name: str, default: float) -> float:
    scale = float(given[name][0]) if name in given else 0.0
    if not (math.isfinite(scale) and 0 <= scale <= MAX_GUIDANCE):
        raise InvalidEditError(PARAMETER_INVALID, f"{name} must be 0 to {MAX_GUIDANCE:g}")
    return scale or default


def canvas(settings: Settings) -> WorkingSize | None:
    """The size rule of pictures from text alone; None where there are none."""
    rule = own_rule(settings.canvas) if settings.canvas else None
    return rule if isinstance(rule, WorkingSize) else None


def _sizes(given: Tensors, images: tuple[bytes, ...], settings: Settings) -> dict[str, Any]:
    """The three sizes of an edit, or of a picture from text alone, the largest square unless a size is asked for."""
    width, height = given["size"].tolist() if "size" in given else (0, 0)
    asked = (width, height) if (width, height) != (0, 0) else None
    if images:
        return _of_picture(asked, own_size(images[0]), settings)
    rule = canvas(settings)
    if rule is None:
        message = "this model makes no pictures from text alone: send at least one image"
        raise InvalidEditError(GENERATIONS_UNAVAILABLE, message)
    if asked is not None:
        require_within(asked, settings.max_pixels, rule.longest_aspect)
    size = asked or rule.square
    return {"size": size, "working": rule.of(*size)}


def _of_picture(asked: Size | None, own: Size, settings: Settings) -> dict[str, Any]:
    """Of an edit of a picture of `own` size."""
    rule, usual = own_rule(settings.size_rule), within(own, settings.max_pixels)
    if asked is None or asked == usual:
        return {"size": usual, "working": rule.of(*own), "own": own}
    require_within(asked, settings.max_pixels, None if same_aspect(asked, own) else rule.longest_aspect)
    return {"size": asked, "working": rule.of(*asked), "own": own}


def _adapters(model: str, routes: tuple[str, ...]) -> tuple[tuple[int, float], ...]:
    """What `oil:0.7+ink` names, in the order of the bank: what an edit is does not depend on the order of its parts."""
    parts = model.split("+") if model else []
    if len(parts) > MOST_ADAPTERS:
        raise InvalidEditError(PARAMETER_INVALID, f"model names {len(parts)} adapters; at most {MOST_ADAPTERS}")
    adapters = dict(_adapter(part, routes) for part in parts)
    if len(adapters) < len(parts):
        raise InvalidEditError(PARAMETER_INVALID, "model names an adapter twice: give it one scale instead")
    return tuple(sorted(adapters.items()))


def _own_defaults(adapters: tuple[tuple[int, float], ...], settings: Settings) -> Mapping[str, float]:
    """Those of the first of the edit's adapters that has any."""
    routes = (settings.adapters[place - 1] for place, _ in adapters)
    return next((settings.adapter_defaults[route] for route in routes if route in settings.adapter_defaults), {})


def _adapter(part: str, routes: tuple[str, ...]) -> tuple[int, float]:
    route, colon, text = part.partition(":")
    if route not in routes:
        known = f"adapters: {', '.join(routes) or 'none'}; empty for the base model"
        raise InvalidEditError(UNKNOWN_MODEL, f"there is no such model: no adapter is called {route[:64]!r}; {known}")
    if colon and not (ADAPTER_SCALE.fullmatch(text) and abs(float(text)) <= MAX_ADAPTER_SCALE):
        message = f"the scale of adapter {route} must be a number from -{MAX_ADAPTER_SCALE:g} to {MAX_ADAPTER_SCALE:g}"
        raise InvalidEditError(PARAMETER_INVALID, message)
    return routes.index(route) + 1, float(text) if colon else 1.0


def _text(given: Tensors, name: str, code: str) -> str:
    """A BYTES [1] input as text, "" where it is absent. Raises InvalidEditError with `code` when it is not UTF-8."""
    try:
        return bytes(given[name][0]).decode() if name in given else ""
    except UnicodeDecodeError as error:
        raise InvalidEditError(code, f"{name} is not UTF-8") from error
