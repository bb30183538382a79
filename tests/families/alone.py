"""A whole edit without Triton: the family's conditioning, loop and finishing, with torch in the place of engines."""

import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray

from families import finishing, load
from families.alone import denoise_alone
from families.edit import Edit, read
from families.interface import (
    DENOISER,
    MASK,
    PIXELS,
    PREPROCESS,
    REFERENCE,
    VIEW,
    VISION_ENCODER,
    Limits,
    Tensors,
)
from families.masks import Grid, free
from families.parts.pretrained import fill
from families.picture import DecodingLimits, decode, from_tensor, to_tensor
from families.schedules import NoiseSchedules
from families.settings import Settings
from families.sizes import size_rule
from tests.families import tiny

LIMITS = Limits(256 * 256, 8)
DECODING = DecodingLimits()


def limits_of(kit: str) -> Limits:
    """`LIMITS`, and the option that the kit is named by, if it is no family."""
    return replace(LIMITS, options=frozenset({kit} & tiny.VARIANTS.keys()))


def settings_of(kit: str, checkpoint: Path) -> Settings:
    """As the export would write them, for four steps without guidance."""
    defaults = load(tiny.family(kit), "table").settings(checkpoint, limits_of(kit))
    index = json.loads((checkpoint / "model_index.json").read_text())
    return Settings(
        family=tiny.family(kit),
        scheduler=index["scheduler"][1],
        steps=tuple(range(1, 51)),
        num_inference_steps=4,
        guidance_scale=1.0,
        image_guidance_scale=defaults.image_guidance_scale,
        max_images=defaults.max_images,
        max_pixels=defaults.max_pixels or LIMITS.max_pixels,
        size_rule=defaults.size_rule,
        canvas=defaults.canvas,
        negative_prompt=defaults.negative_prompt,
        max_rows=LIMITS.max_batch,
        max_tokens=defaults.max_tokens,
        adapters=(),
        banks={},
        outputs={},
        own=json.loads(json.dumps(dict(defaults.own))),
    )


class Engines:
    """Torch modules under the names of engines, as `Call` has them; pictures and masks are prepared here."""

    def __init__(self, kit: str) -> None:
        self._kit, self._checkpoint = kit, tiny.checkpoint(kit)
        components = load(tiny.family(kit), "table").components(self._checkpoint, LIMITS)
        self._components = {component.name: component for component in components}
        self.decoder = next(c.name for c in components if c.role == "decoder")
        of_pictures = [c.name for c in components if [t.name for t in c.inputs] == [PIXELS]]
        self._encoder = next(name for name in of_pictures if name != VISION_ENCODER)

    def __call__(self, model: str, inputs: Tensors) -> Tensors:
        if model == PREPROCESS:
            grid = Grid.read(inputs["size_rule"][0])
            assert grid
            return {MASK: grid.of(free(inputs["image"][0], DECODING))}
        if model in (REFERENCE, VIEW):
            picture = decode(inputs["image"][0], DECODING, size_rule(inputs["size_rule"][0]))
            model, inputs = VISION_ENCODER if model == VIEW else self._encoder, {PIXELS: to_tensor(picture)}
        component = self._components[model]
        with torch.inference_mode():
            made = _module(self._kit, model)(*(torch.from_numpy(inputs[t.name]) for t in component.inputs))
        made = [made] if isinstance(made, torch.Tensor) else made
        return {tensor.name: array.numpy() for tensor, array in zip(component.outputs, made, strict=True)}

    def together(self, *calls: tuple[str, Tensors]) -> list[Tensors]:
        return [self(model, inputs) for model, inputs in calls]


@cache
def _module(kit: str, model: str) -> Any:
    return fill(load(tiny.family(kit), "modules").module(model, tiny.checkpoint(kit)), torch.float32)


def planned(kit: str, given: Tensors, settings: Settings | None = None) -> tuple[Edit, Any, Engines]:
    """The edit, its plan, and what its denoiser's calls go to."""
    checkpoint, engines, family = tiny.checkpoint(kit), Engines(kit), tiny.family(kit)
    settings = settings or settings_of(kit, checkpoint)
    edit = read(given, settings)
    tensors = load(family, "conditioning").Conditioner(checkpoint, settings)(edit, engines)
    schedules = NoiseSchedules(checkpoint / "scheduler" / "scheduler_config.json", settings.scheduler)
    return edit, load(family, "denoising").plan(edit, tensors, schedules.shifted(edit.shift), settings), engines


def edited(kit: str, given: Tensors, settings: Settings | None = None) -> NDArray[Any]:
    """The picture, (H, W, 3) uint8, of a request's tensors."""
    edit, plan, engines = planned(kit, given, settings)
    latents = denoise_alone(plan, lambda inputs: next(iter(engines(DENOISER, inputs).values())))
    pixels = engines(engines.decoder, latents)[PIXELS]
    return finishing.finished(from_tensor(pixels), finishing.inputs(edit), DECODING)
