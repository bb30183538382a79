"""The bounds of one edit, as `preprocess` enforces them for callers that bypass the gateway."""

from typing import Any

import pytest

from families.edit import Edit
from families.errors import InvalidEditError

GOOD: dict[str, Any] = {
    "images": (b"",),
    "prompt": "make it snow",
    "num_inference_steps": 20,
    "guidance_scale": 0.0,
    "image_guidance_scale": 1.5,
    "model": "",
}


@pytest.mark.parametrize(
    ("field", "value", "code"),
    [
        ("prompt", "", "prompt_invalid"),
        ("prompt", " \n", "prompt_invalid"),
        ("prompt", "a\0b", "prompt_invalid"),
        ("prompt", "x" * 10_001, "prompt_invalid"),
        ("num_inference_steps", 0, "parameter_invalid"),
        ("num_inference_steps", 51, "parameter_invalid"),
        ("guidance_scale", float("nan"), "parameter_invalid"),
        ("guidance_scale", -0.1, "parameter_invalid"),
        ("image_guidance_scale", float("inf"), "parameter_invalid"),
    ],
)
def test_a_value_outside_the_contract_is_refused(field: str, value: Any, code: str) -> None:
    with pytest.raises(InvalidEditError) as error:
        Edit(**{**GOOD, field: value})
    assert error.value.code == code


def test_values_inside_are_taken() -> None:
    assert Edit(**GOOD).prompt == "make it snow"
    Edit(**{**GOOD, "num_inference_steps": 50, "guidance_scale": 7.5, "prompt": "é" * 8000})


def test_adapters_are_counted_from_one_and_unknown_ones_refused() -> None:
    routes = ("ink", "oil")
    assert [Edit(**{**GOOD, "model": model}).adapter(routes) for model in ("", *routes)] == [0, 1, 2]
    for model, known in (("../etc", routes), ("Oil", routes), ("oil", ())):
        with pytest.raises(InvalidEditError, match=r"adapters: (ink, oil|none)") as error:
            Edit(**{**GOOD, "model": model}).adapter(known)
        assert error.value.code == "unknown_model"
