"""The bounds of one edit, and its defaults, as `edit` has them for the gateway and for callers that bypass it."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from families.edit import Edit, read
from families.errors import InvalidEditError
from families.interface import Tensors
from families.picture import DecodingLimits
from families.settings import Settings
from families.sizes import WorkingSize
from tests.server.asking import colours, png

SETTINGS = Settings(
    family="instruct_pix2pix",
    scheduler="PNDMScheduler",
    steps=tuple(range(4, 51)),
    num_inference_steps=12,
    guidance_scale=7.5,
    image_guidance_scale=1.5,
    max_images=2,
    max_pixels=512 * 512,
    size_rule=WorkingSize(512 * 512, 8, 64, 1024).to_json().decode(),
    canvas=WorkingSize(512 * 512, 16, 64, 1024).to_json().decode(),
    negative_prompt=True,
    max_rows=12,
    max_tokens=4096,
    adapters=("ink", "oil"),
    banks={},
    outputs={"denoiser": ("prediction",)},
    own={},
)
KINDS = {
    "num_inference_steps": np.int32,
    "guidance_scale": np.float32,
    "image_guidance_scale": np.float32,
    "seed": np.uint64,
    "size": np.int32,
}
ONE, TWO = png(colours(250, 131)), png(colours(64, 64))
HOLE = png(Image.new("RGBA", (250, 131)))
LEAST: dict[str, list[Any]] = {"image": [ONE], "prompt": [b"make it snow"], "seed": [7]}


def given(**changed: Any) -> Tensors:
    """A request's tensors: no more than it must have, and what is named."""
    return {name: np.array(value, KINDS.get(name, np.object_)) for name, value in {**LEAST, **changed}.items()}


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"prompt": [b""]}, "prompt_invalid"),
        ({"prompt": [b" \n"]}, "prompt_invalid"),
        ({"prompt": [b"a\0b"]}, "prompt_invalid"),
        ({"prompt": [b"x" * 10_001]}, "prompt_invalid"),
        ({"prompt": [b"\xff\xfe"]}, "prompt_invalid"),
        ({"num_inference_steps": [-1]}, "parameter_invalid"),
        ({"num_inference_steps": [51]}, "parameter_invalid"),
        ({"num_inference_steps": [3]}, "steps_unavailable"),
        ({"guidance_scale": [float("nan")]}, "parameter_invalid"),
        ({"guidance_scale": [-0.1]}, "parameter_invalid"),
        ({"image_guidance_scale": [float("inf")]}, "parameter_invalid"),
        ({"response_format": [b"gif"]}, "parameter_invalid"),
        ({"model": [b"\xff"]}, "parameter_invalid"),
        ({"model": [b"../etc"]}, "unknown_model"),
        ({"model": [b"Oil"]}, "unknown_model"),
        ({"model": [b"oil+nope"]}, "unknown_model"),
        ({"model": [b"oil+"]}, "unknown_model"),
        ({"model": [b"oil+oil:2"]}, "parameter_invalid"),
        ({"model": [b"oil:10.1"]}, "parameter_invalid"),
        ({"model": [b"oil:"]}, "parameter_invalid"),
        ({"model": [b"oil:nan"]}, "parameter_invalid"),
        ({"model": [b"oil:1e3"]}, "parameter_invalid"),
        ({"model": [b"oil+ink+oil+ink+oil"]}, "parameter_invalid"),
        ({"image": [b"x"] * 3}, "too_many_images"),
        ({"image": [b"x"]}, "image_unreadable"),
        ({"size": [512, 513]}, "size_unavailable"),
        ({"size": [1031, 64]}, "size_unavailable"),
        ({"size": [64, 0]}, "size_unavailable"),
        ({"image": [], "size": [512, 513]}, "size_unavailable"),
        ({"negative_prompt": [b"a\0b"]}, "prompt_invalid"),
        ({"negative_prompt": [b"x" * 10_001]}, "prompt_invalid"),
        ({"cache": [b"on"]}, "parameter_invalid"),
        ({"cache": [b"\xff"]}, "parameter_invalid"),
        ({"mask": [ONE]}, "mask_invalid"),
        ({"mask": [HOLE], "image": [TWO]}, "mask_invalid"),
        ({"mask": [HOLE], "size": [131, 250]}, "mask_invalid"),
        ({"mask": [HOLE], "image": []}, "mask_invalid"),
        ({"image": [], "size": [1040, 64]}, "size_unavailable"),
        ({"image": [], "size": [0, 64]}, "size_unavailable"),
        ({"image": [], "size": [-64, -64]}, "size_unavailable"),
        ({"image": [], "size": [2**31 - 1, 2**31 - 1]}, "size_unavailable"),
    ],
)
def test_a_value_outside_the_contract_is_refused(changed: dict[str, Any], code: str) -> None:
    with pytest.raises(InvalidEditError) as error:
        read(given(**changed), SETTINGS)
    assert error.value.code == code


@pytest.mark.parametrize("name", ["image", "prompt", "seed"])
def test_an_input_that_must_be_there_is_named(name: str) -> None:
    tensors = {key: value for key, value in given().items() if key != name}
    with pytest.raises(InvalidEditError, match=f"the input {name} is missing"):
        read(tensors, SETTINGS)


def test_what_is_absent_or_zero_takes_the_exports_default() -> None:
    zeros = given(num_inference_steps=[0], guidance_scale=[0], image_guidance_scale=[0], model=[b""])
    expected = Edit((ONE,), "make it snow", 12, 7.5, 1.5, 7, (), "jpeg", (250, 131), (248, 128), (250, 131))
    assert read(given(), SETTINGS) == read(zeros, SETTINGS) == expected


def test_steps_are_cached_as_the_request_says_or_else_the_export() -> None:
    balanced = replace(SETTINGS, cache="balanced")
    assert [read(given(), settings).cache for settings in (SETTINGS, balanced)] == ["off", "balanced"]
    assert read(given(cache=[b"balanced"]), SETTINGS).cache == "balanced"
    assert [read(given(cache=[cache]), balanced).cache for cache in (b"off", b"")] == ["off", "balanced"]


def test_values_inside_are_taken_as_they_are() -> None:
    asked = given(
        image=[TWO, ONE],
        num_inference_steps=[50],
        guidance_scale=[0.5],
        image_guidance_scale=[100],
        seed=[2**64 - 1],
        model=[b"oil:-2.5+ink"],
        response_format=[b"raw"],
        prompt=["é".encode() * 8000],
        negative_prompt=[b"fog"],
    )
    adapters = ((1, 1.0), (2, -2.5))
    own = (64, 64)
    expected = Edit((TWO, ONE), "é" * 8000, 50, 0.5, 100.0, 2**64 - 1, adapters, "raw", own, own, own, b"", "fog")
    assert read(asked, SETTINGS) == expected


@pytest.mark.parametrize(
    ("asked", "made", "worked_at"),
    [
        ({}, (512, 512), (512, 512)),
        ({"size": [0, 0]}, (512, 512), (512, 512)),
        ({"size": [512, 512]}, (512, 512), (512, 512)),
        ({"size": [1024, 256]}, (1024, 256), (1024, 256)),
        ({"size": [64, 1024]}, (64, 1024), (64, 1024)),
        ({"size": [500, 301]}, (500, 301), (496, 304)),
        ({"size": [16, 16]}, (16, 16), (64, 64)),
    ],
)
def test_a_picture_from_text_alone_has_the_asked_size_or_the_largest_square(
    asked: dict[str, Any], made: tuple[int, int], worked_at: tuple[int, int]
) -> None:
    edit = read(given(image=[], **asked), SETTINGS)
    assert (edit.images, edit.size, edit.working, edit.own) == ((), made, worked_at, None)


@pytest.mark.parametrize(
    ("own", "asked", "made", "worked_at"),
    [
        ((250, 131), (0, 0), (250, 131), (248, 128)),
        ((1920, 1080), (0, 0), (682, 384), (680, 384)),
        ((20, 10), (0, 0), (20, 10), (128, 64)),
        ((250, 131), (500, 262), (500, 262), (504, 264)),
        ((250, 131), (131, 250), (131, 250), (128, 248)),
        ((2000, 40), (2000, 40), (2000, 40), (1024, 64)),
    ],
    ids=["its own", "within the budget", "tiny", "twice as large", "on its side", "as thin as the picture"],
)
def test_an_edit_has_the_asked_size_or_its_pictures(
    own: tuple[int, int], asked: tuple[int, int], made: tuple[int, int], worked_at: tuple[int, int]
) -> None:
    edit = read(given(image=[png(colours(*own))], size=asked), SETTINGS)
    assert (edit.size, edit.working, edit.own) == (made, worked_at, own)


def test_a_size_that_is_not_served_is_told_the_bound() -> None:
    for size, words in (((512, 513), "at most 262144 pixels"), ((2000, 64), "at most 16 times the shorter one")):
        for image in ([ONE], []):
            with pytest.raises(InvalidEditError, match=words):
                read(given(image=image, size=size), SETTINGS)


def test_a_jpeg_is_no_longer_than_libjpeg_makes_them() -> None:
    large = replace(SETTINGS, max_pixels=10_000_000)
    strip = png(Image.new("RGB", (65_501, 66)))
    with pytest.raises(InvalidEditError, match="a jpeg has at most 65500 pixels a side") as error:
        read(given(image=[strip]), large)
    assert error.value.code == "size_unavailable"
    assert read(given(image=[strip], response_format=[b"raw"]), large).size == (65_501, 66)


def test_text_alone_is_refused_by_a_model_that_needs_a_picture() -> None:
    with pytest.raises(InvalidEditError, match="send at least one image") as error:
        read(given(image=[], prompt=[b" "]), replace(SETTINGS, canvas=""))
    assert error.value.code == "generations_unavailable"


@pytest.mark.parametrize(("asked", "nearest"), [(1, 4), (3, 4)])
def test_a_number_of_steps_that_the_sampler_cannot_make_names_the_nearest(asked: int, nearest: int) -> None:
    with pytest.raises(InvalidEditError, match=f"cannot make {asked} steps; .* works is {nearest}"):
        read(given(num_inference_steps=[asked]), SETTINGS)


def test_an_unknown_model_names_the_adapters() -> None:
    with pytest.raises(InvalidEditError, match="is called 'nope'; adapters: ink, oil; empty for the base model"):
        read(given(model=[b"oil:0.5+nope"]), SETTINGS)


def test_a_mask_goes_with_any_size_of_its_pictures_aspect() -> None:
    for size in ((0, 0), (250, 131), (500, 262), (125, 66)):
        assert read(given(mask=[HOLE], size=size), SETTINGS).mask == HOLE
    assert read(given(mask=[b""]), SETTINGS) == read(given(), SETTINGS)


def test_a_mask_may_be_half_as_large_as_a_picture_beyond_the_limit_of_who_decodes_it() -> None:
    half = png(Image.new("RGBA", (125, 66)))
    assert read(given(mask=[half]), SETTINGS, DecodingLimits(max_pixels=250 * 131 - 1)).mask == half
    with pytest.raises(InvalidEditError, match=r"the mask must be as large as the first image: 250 x 131$"):
        read(given(mask=[half]), SETTINGS, DecodingLimits(max_pixels=250 * 131))


def test_the_order_of_adapters_makes_no_other_edit() -> None:
    assert read(given(model=[b"oil:0.5+ink"]), SETTINGS) == read(given(model=[b"ink:1+oil:0.50"]), SETTINGS)


def test_settings_come_back_from_their_file_as_they_were() -> None:
    import json

    assert Settings.of(json.loads(SETTINGS.text())) == SETTINGS
    banked = replace(SETTINGS, banks={"denoiser": (1, 3), "text_encoder": (2,)})
    assert Settings.of(json.loads(banked.text())) == banked


def test_an_adapters_own_defaults_take_the_place_of_the_repositorys() -> None:
    own = {"ink": {"num_inference_steps": 4, "guidance_scale": 1.0, "shift": 3.0}}
    settings = replace(SETTINGS, shift=2.0, adapter_defaults=own)
    for model in (b"ink", b"oil+ink:0.5"):
        edit = read(given(model=[model]), settings)
        assert (edit.num_inference_steps, edit.guidance_scale, edit.shift) == (4, 1.0, 3.0)
    said = read(given(model=[b"ink"], num_inference_steps=[9], guidance_scale=[2.0]), settings)
    assert (said.num_inference_steps, said.guidance_scale, said.shift) == (9, 2.0, 3.0)
    for model in (b"", b"oil"):
        edit = read(given(model=[model]), settings)
        assert (edit.num_inference_steps, edit.guidance_scale, edit.shift) == (12, 7.5, 2.0)
