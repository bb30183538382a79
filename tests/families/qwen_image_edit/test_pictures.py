"""What the kit over all families does not ask of this one: several pictures, both pipelines, prompts of any length."""

import base64
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from diffusers import QwenImageEditPipeline, QwenImageEditPlusPipeline

from families.errors import InvalidEditError
from families.interface import Tensors
from tests.families import alone, tiny
from tests.families.conftest import Served
from tests.families.qwen_image_edit import tiny as kit
from tests.server.asking import colours, png, psnr

FAMILY = "qwen_image_edit"
PROMPT = "make the sky red"
SIZES = [(192, 320), (300, 200), (150, 150)]
LEAST_DB = 45.0
pytestmark = pytest.mark.families


def given(count: int, prompt: str = PROMPT, **more: Any) -> Tensors:
    files = [png(colours(*size)) for size in SIZES[:count]]
    kinds = {"seed": np.uint64, "num_inference_steps": np.int32, "guidance_scale": np.float32, "size": np.int32}
    values = {"image": files, "prompt": [prompt.encode()], "seed": [7], "num_inference_steps": [3], **more}
    return {name: np.array(value, kinds.get(name, np.object_)) for name, value in values.items()}


@pytest.mark.parametrize("served", [FAMILY], indirect=True)
def test_several_pictures_equal_diffusers(served: Served) -> None:
    for count in (2, 3):
        pictures = [colours(*size) for size in SIZES[:count]]
        sent = [{"image": base64.b64encode(png(picture)).decode()} for picture in pictures]
        asked: dict[str, Any] = {"image": sent, "num_inference_steps": 3, "seed": 7, "guidance_scale": 4.0}
        made = served.client.edit(pictures[0], PROMPT, size="192x320", **asked).pixels
        expected = kit.reference(served.checkpoint, pictures, PROMPT, steps=3, seed=7, guidance=(4.0, 1.0))
        assert psnr(made, expected) >= LEAST_DB, count


@pytest.mark.parametrize("served", [FAMILY], indirect=True)
def test_a_prompt_that_is_too_long_is_told_the_bound(served: Served) -> None:
    answer = served.client.edit(colours(64, 64), "q" * 1025)
    assert (answer.status, answer.body["error"]["code"]) == (422, "prompt_invalid")
    assert answer.body["error"]["message"] == "prompt: has 1025 tokens, at most 1024 are read."
    negative = served.client.edit(colours(64, 64), PROMPT, negative_prompt="q" * 1030)
    assert (negative.status, negative.body["error"]["param"]) == (422, "negative_prompt")


@pytest.mark.parametrize("kind", [QwenImageEditPipeline, QwenImageEditPlusPipeline])
def test_both_pipelines_without_the_modulation_of_2511_equal_diffusers(
    kind: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With torch in the place of engines."""
    checkpoint = kit.build(tmp_path / "checkpoint", kind, zero_cond_t=False)
    monkeypatch.setattr(tiny, "checkpoint", lambda _family: checkpoint)
    alone._module.cache_clear()
    made = alone.edited(FAMILY, given(1, guidance_scale=[4.0], size=SIZES[0]))
    alone._module.cache_clear()
    expected = kit.reference(checkpoint, colours(*SIZES[0]), PROMPT, steps=3, seed=7, guidance=(4.0, 1.0))
    assert psnr(made, expected) >= LEAST_DB


def test_one_picture_is_the_most_of_the_first_pipeline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = kit.build(tmp_path / "checkpoint", QwenImageEditPipeline)
    monkeypatch.setattr(tiny, "checkpoint", lambda _family: checkpoint)
    with pytest.raises(InvalidEditError, match="at most one image"):
        alone.planned(FAMILY, given(2))
    with pytest.raises(InvalidEditError, match=r"prompt: leave <\|image_pad\|> out"):
        alone.planned(FAMILY, given(1, f"{PROMPT} <|image_pad|>"))
