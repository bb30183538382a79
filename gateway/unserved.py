"""Fields that callers know from other servers, that would change the picture, and that are not served here.

Whoever sends one expects what he would not get: so it is refused by its name, unless it has a value that asks for what
is done anyway. Fields that are neither here nor in `gateway.schemas` are ignored.
"""

from collections.abc import Collection, Sequence
from typing import Any, Final

from gateway.errors import PublicError

_NOTHING_ELSE: Final = """
aspect_ratio cfg_scale clip_skip complexity control_image controlnet controlnets denoising_strength eta frame_count
frame_duration_ms guidance_rescale height image_url init_image input_fidelity ip_adapter ip_adapter_image lora
lora_scale loras mask mask_image mask_url negative_prompt negative_prompt_2 output_compression prompt_2 resolution
sampler sampler_name scheduler sigmas steps strength style svg timesteps true_cfg_scale width
"""
NEUTRAL: Final[dict[str, tuple[object, ...]]] = {
    "n": (1,),
    "num_images": (1,),
    "num_images_per_prompt": (1,),
    "num_outputs": (1,),
    "batch_size": (1,),
    "size": ("auto",),
    "quality": ("auto",),
    "background": ("auto", "opaque"),
    "stream": (False,),
    "partial_images": (0,),
    "output_format": ("jpeg",),
    **dict.fromkeys(_NOTHING_ELSE.split(), ()),
}
"""Each with the values that are as good as none."""
_OF_PICTURES: Final = frozenset({"image_url"})
"""A name of these that is a picture's own, in OpenAI's JSON."""


def refusal(name: str, served: Sequence[str] = ()) -> PublicError:
    """The error of a field that has another value than those that are `served`, or is not served at all."""
    only = f"only {' or '.join(served)} is served" if served else "is not served"
    return PublicError("unsupported_parameter", param=name, message=f"{name}: {only}.")


def check(fields: Any, *, known: Collection[str]) -> None:
    """Raises `PublicError` for such a field in a JSON body or in one of its images. Null and what is empty are none.

    `known`: names of the body's that are not such fields, for they are served or refused elsewhere.
    """
    if not isinstance(fields, dict):
        return
    pictures = [one for name in ("image", "images") for one in _listed(fields.get(name)) if isinstance(one, dict)]
    for one, its in ((fields, known), *((picture, _OF_PICTURES) for picture in pictures)):
        for name in NEUTRAL:
            if name not in its:
                _check(name, one.get(name))


def _listed(value: object) -> list[object]:
    return value if isinstance(value, list) else [value]


def _check(name: str, value: object) -> None:
    neutral = NEUTRAL[name]
    given = value.strip() if isinstance(value, str) else value
    if given in (None, "", [], {}) or any(type(given) is type(one) and given == one for one in neutral):
        return
    raise refusal(name, [str(one).lower() for one in neutral])
