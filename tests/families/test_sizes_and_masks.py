"""Asked sizes, masks and negative prompts, of every family, beside diffusers; torch stands in the place of engines."""

import io
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from families import PIPELINES, load
from families.errors import InvalidEditError
from families.interface import DENOISER, PREDICTION
from families.masks import feathered
from families.picture import decode
from families.sizes import framed, own_rule
from tests.families import tiny
from tests.families.alone import DECODING, LIMITS, edited, planned, settings_of
from tests.families.test_edit import given
from tests.server.asking import colours, png, psnr

FAMILIES = sorted(set(PIPELINES.values()))
PROMPT, SEED, STEPS, LEAST_DB = "make the sky red", 1234, 4, 45.0

pytestmark = pytest.mark.families
each_family = pytest.mark.parametrize("family", FAMILIES)


def asked(picture: Image.Image, guidance: tuple[float, float], **more: Any) -> Any:
    scales = {"guidance_scale": [guidance[0]], "image_guidance_scale": [guidance[1]]}
    fixed = {"num_inference_steps": [STEPS], "seed": [SEED], "response_format": [b"raw"]}
    return given(**{"image": [png(picture)], "prompt": [PROMPT.encode()], **fixed, **scales, **more})


def theirs(family: str, picture: Image.Image, guidance: tuple[float, float], **more: Any) -> Any:
    fixed: dict[str, Any] = {"steps": STEPS, "seed": SEED, "guidance": guidance}
    return tiny.module(family).reference(tiny.checkpoint(family), picture, PROMPT, **fixed, **more)


def holed(size: tuple[int, int], hole: tuple[int, int, int, int]) -> tuple[bytes, NDArray[np.bool_]]:
    """A mask with one transparent rectangle, and where that is."""
    mask = Image.new("RGBA", size, (0, 0, 0, 255))
    mask.paste((9, 9, 9, 0), hole)
    out = io.BytesIO()
    mask.save(out, "PNG")
    return out.getvalue(), np.asarray(mask)[..., 3] == 0


@each_family
def test_an_asked_aspect_equals_diffusers(family: str) -> None:
    """Beside their references' own sizes, or on one grid with the picture, whole in the asked frame."""
    picture, size, settings = colours(160, 96), (112, 208), settings_of(family, tiny.checkpoint(family))
    working = own_rule(settings.size_rule).of(*size)
    for guidance in tiny.module(family).GUIDANCE.values():
        made = edited(family, asked(picture, guidance, size=working))
        if settings.canvas:
            reference = theirs(family, picture, guidance, size=working)
        else:
            seen = decode(png(picture), DECODING, framed(picture.size, working, working))
            reference = theirs(family, seen, guidance)
        assert psnr(made, reference) >= LEAST_DB, guidance


@each_family
def test_a_negative_prompt_equals_diffusers_or_is_refused(family: str) -> None:
    settings, kit = settings_of(family, tiny.checkpoint(family)), tiny.module(family)
    words = {"negative_prompt": [b"blurred, with birds"]}
    guided = [guidance for guidance in kit.GUIDANCE.values() if guidance[0] > 1]
    picture = colours(128, 128)
    working = own_rule(settings.size_rule).of(*picture.size)
    if not settings.negative_prompt:
        with pytest.raises(InvalidEditError, match="leave it out") as error:
            edited(family, asked(picture, guided[0], **words))
        assert error.value.code == "negative_prompt_unavailable"
        return
    with pytest.raises(InvalidEditError, match="negative_prompt: needs guidance_scale above 1") as error:
        edited(family, asked(picture, (1.0, 1.5), **words))
    assert error.value.code == "parameter_invalid"
    for guidance in guided:
        made = edited(family, asked(picture, guidance, size=working, **words))
        reference, plain = (
            theirs(family, picture, guidance, negative="blurred, with birds"),
            edited(family, asked(picture, guidance, size=working)),
        )
        assert psnr(made, reference) >= max(LEAST_DB, psnr(plain, reference) + 3), "it is seen"


@each_family
@pytest.mark.parametrize("size", [(160, 96), (131, 90), (640, 400)], ids=["of multiples", "odd", "over the budget"])
def test_outside_of_a_mask_nothing_changes(family: str, size: tuple[int, int]) -> None:
    picture, guidance = colours(*size), next(iter(tiny.module(family).GUIDANCE.values()))
    mask, inside = holed(size, (size[0] // 4, size[1] // 5, size[0] // 2, size[1]))
    plain = edited(family, asked(picture, guidance))
    made = edited(family, asked(picture, guidance, mask=[mask]))
    answer = (plain.shape[1], plain.shape[0])
    kept = np.asarray(picture if answer == size else picture.resize(answer, Image.Resampling.LANCZOS))
    if answer != size:
        inside = np.asarray(Image.fromarray(inside).convert("L").resize(answer, Image.Resampling.BOX)) >= 128
    assert (made[~inside] == kept[~inside]).all()
    assert np.abs(made.astype(int) - kept)[feathered(inside) == 5].mean() > 5, "inside it is edited"


@each_family
def test_a_mask_of_everything_is_no_mask(family: str) -> None:
    picture, guidance = colours(131, 90), next(iter(tiny.module(family).GUIDANCE.values()))
    mask, _ = holed(picture.size, (0, 0, *picture.size))
    assert (edited(family, asked(picture, guidance, mask=[mask])) == edited(family, asked(picture, guidance))).all()


@each_family
def test_a_mask_may_have_an_asked_size_of_its_pictures_aspect_alone(family: str) -> None:
    picture, guidance = colours(160, 96), next(iter(tiny.module(family).GUIDANCE.values()))
    mask, _ = holed(picture.size, (40, 30, 90, 80))
    made = edited(family, asked(picture, guidance, mask=[mask], size=(240, 144)))
    assert (made[:40] == np.asarray(picture.resize((240, 144), Image.Resampling.LANCZOS))[:40]).all()
    with pytest.raises(InvalidEditError, match="aspect") as error:
        edited(family, asked(picture, guidance, mask=[mask], size=(144, 144)))
    assert error.value.code == "mask_invalid"


@each_family
def test_outside_of_a_mask_latents_are_the_pictures_at_every_preview_and_the_end(family: str) -> None:
    """What a step begins with is held, too: the rows of a call tell the picture, whatever the sampler."""
    picture, guidance = colours(160, 96), next(iter(tiny.module(family).GUIDANCE.values()))
    mask, _ = holed(picture.size, (0, 0, 80, 96))
    tensors = asked(picture, guidance, mask=[mask])
    _, plan, engines = planned(family, tensors)
    seen, step = [], next(plan.loop)
    try:
        while True:
            step = plan.loop.send(engines(DENOISER, {**plan.constant, **step.inputs})[PREDICTION])
            assert step.preview
            seen.append(step.preview()["latents"])
    except StopIteration as finished:
        result = finished.value["latents"]
    half = result.shape[3] // 2 + 1
    assert len(seen) == STEPS - 1
    for estimate in seen:
        assert (estimate[..., half:] == result[..., half:]).all(), "outside it is known from the first step on"
        assert not (estimate[..., : half - 2] == result[..., : half - 2]).all()


def test_a_distilled_klein_has_no_negative_prompt() -> None:
    family = "flux2_klein"
    settings = settings_of(family, tiny.checkpoint(family))
    distilled = replace(settings, negative_prompt=False, own={**settings.own, "distilled": True})
    with pytest.raises(InvalidEditError, match="leave it out"):
        edited(family, asked(colours(64, 64), (4.0, 1.0), negative_prompt=[b"fog"]), distilled)
    assert load(family, "table").settings(tiny.checkpoint(family), LIMITS).negative_prompt
