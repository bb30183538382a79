"""What the kit over all families does not ask of this one: how its prompts are read, padded and bounded, and sizes."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.pipelines.longcat_image import pipeline_longcat_image_edit as theirs

from families import load
from families.errors import BadCheckpointError, InvalidEditError
from families.interface import Limits, Range, Tensors
from families.longcat_image_edit import prompts
from families.longcat_image_edit.conditioning import Conditioner
from families.longcat_image_edit.table import PROMPT_TOKENS, components, half, settings
from families.parts import vl_tokenizer
from families.parts.qwen_vl import Sight
from families.parts.qwen_vl_components import Views
from families.sizes import AreaSize, own_rule
from tests.families import alone, tiny
from tests.families.longcat_image_edit import tiny as kit
from tests.server.asking import colours, png, psnr

FAMILY = "longcat_image_edit"
LEAST_DB = 45.0
PROMPTS = [
    "write 'the red' on \"the red\" sign",
    "\u201cred\u201d and \u2018the red\u2019",
    "the cat's red 'the red'",
    "an unclosed 'red",
    "red",
    "'red'",
]


def given(count: int, prompt: str = "make the sky red", **more: Any) -> Tensors:
    """A request's tensors, of so many pictures."""
    kinds = {"seed": np.uint64, "num_inference_steps": np.int32, "guidance_scale": np.float32, "size": np.int32}
    values = {"image": [png(colours(192, 320))] * count, "prompt": [prompt.encode()], "seed": [7], **more}
    return {
        name: np.array(value, kinds.get(name, np.object_))
        for name, value in ({"num_inference_steps": [3]} | values).items()
    }


def as_theirs(tokenizer: Any, prompt: str) -> list[int]:
    parts = theirs.split_quotation(prompt)
    return [
        token
        for part, quoted in parts
        for piece in (part if quoted else [part])
        for token in tokenizer(piece, add_special_tokens=False)["input_ids"]
    ]


@pytest.mark.parametrize("prompt", PROMPTS)
def test_prompts_are_read_as_diffusers_reads_them(prompt: str) -> None:
    tokenizer = vl_tokenizer.load(tiny.checkpoint(FAMILY) / "tokenizer")
    assert prompts.tokenize(tokenizer, prompt) == as_theirs(tokenizer, prompt)


def test_what_is_quoted_is_read_letter_by_letter_and_apostrophes_quote_nothing() -> None:
    """Of two words with apostrophes diffusers repeats the one in the place of the other."""
    tokenizer = vl_tokenizer.load(tiny.checkpoint(FAMILY) / "tokenizer")
    assert len(prompts.tokenize(tokenizer, "'red'")) == 5 > len(prompts.tokenize(tokenizer, "red"))
    plain = "don't make the cat's fur red"
    assert prompts.tokenize(tokenizer, plain) == vl_tokenizer.tokenize(tokenizer, plain)


@pytest.mark.slow
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("prompt", ["", "make the sky red, and write 'the cat'", "q" * PROMPT_TOKENS])
def test_text_is_encoded_and_padded_as_in_diffusers(prompt: str, side: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A prompt of no tokens, of some, and of all that there may be."""
    checkpoint, picture = tiny.checkpoint(FAMILY), colours(192, 320)
    pipeline = kit.pipeline(checkpoint)
    monkeypatch.setattr(pipeline.tokenizer, "padding_side", side)
    conditioner = Conditioner(checkpoint, alone.settings_of(FAMILY, checkpoint))
    monkeypatch.setattr(conditioner._tokenizer, "padding_side", side)
    edit, _, engines = alone.planned(FAMILY, given(1))
    made = conditioner(replace(edit, prompt=prompt, guidance_scale=1.0), engines)["encoder_hidden_states"]
    edited_at = own_rule(settings(checkpoint, alone.LIMITS).size_rule).of(*picture.size)
    whole = pipeline.image_processor.resize(picture, *edited_at[::-1])
    with torch.inference_mode():
        expected = pipeline._encode_prompt([prompt], pipeline.image_processor.resize(whole, *half(edited_at)[::-1]))
    torch.testing.assert_close(torch.from_numpy(made), expected, rtol=0, atol=2e-5)


@pytest.mark.slow
def test_a_negative_prompt_and_quoted_words_equal_diffusers() -> None:
    asked: dict[str, Any] = {"guidance_scale": [3.0], "negative_prompt": [b"'red' sky"]}
    made = alone.edited(FAMILY, given(1, "write 'the red'", size=(208, 336), **asked), larger())
    expected = kit.reference(
        tiny.checkpoint(FAMILY),
        colours(192, 320),
        "write 'the red'",
        steps=3,
        seed=7,
        guidance=(3.0, 1.0),
        negative="'red' sky",
    )
    assert psnr(made, expected) >= LEAST_DB


def larger() -> Any:
    checkpoint = tiny.checkpoint(FAMILY)
    return replace(alone.settings_of(FAMILY, checkpoint), max_pixels=settings(checkpoint, alone.LIMITS).max_pixels)


def test_what_cannot_be_read_is_refused_in_one_line() -> None:
    for prompt, words in (
        ("q" * 513, "prompt: has 513 tokens, at most 512 are read"),
        ("<|image_pad|>", "prompt: leave"),
    ):
        with pytest.raises(InvalidEditError, match=words):
            alone.planned(FAMILY, given(1, prompt))
    tensors: Tensors = given(1, guidance_scale=[2.0], negative_prompt=[b"q" * 513])
    with pytest.raises(InvalidEditError, match="negative_prompt: has 513 tokens"):
        alone.planned(FAMILY, tensors)
    with pytest.raises(InvalidEditError, match="at most one image"):
        alone.planned(FAMILY, given(2))


@pytest.mark.parametrize("size", [(640, 480), (1000, 700), (333, 999), (1024, 1024), (4000, 1001), (17, 16)])
def test_a_picture_is_edited_at_the_size_that_diffusers_calculates(size: tuple[int, int]) -> None:
    rule = own_rule(settings(tiny.checkpoint(FAMILY), Limits(2048 * 2048, 8)).size_rule)
    assert rule.of(*size) == theirs.calculate_dimensions(1024 * 1024, size[0] / size[1])


@pytest.mark.parametrize(("budget", "multiple", "up"), [(256**2, 16, True), (1024**2, 16, True), (1024**2, 32, False)])
def test_no_picture_is_seen_larger_than_the_engines_take(budget: int, multiple: int, up: bool) -> None:
    """Of every aspect. With `up`, seen at half the size."""
    sight = Sight(14, 2, 3136, 28 * 28 * 16384, (0.5,), (0.5,))
    rule = AreaSize.up_to(budget, multiple, 64, 4, up=up)
    sides = multiple // 2, rule.min_side // 2, rule.max_side // 2
    views = Views(sight, AreaSize(rule.area // 4, *sides, up=True) if up else rule, "")
    bounds, most_tokens = views.pixels()["ranges"]["height"], views.most_tokens
    for step in range(1, 4000):
        size = rule.of(step, 1000)
        seen = sight.of(*(half(size) if up else size))
        rows, columns = sight.grid(seen)
        assert rows * columns <= most_tokens
        assert bounds.min <= min(seen) <= max(seen) <= bounds.max
        assert size[0] * size[1] <= rule.largest


def test_the_denoiser_takes_the_text_of_every_picture() -> None:
    denoiser = next(c for c in components(tiny.checkpoint(FAMILY), alone.LIMITS) if c.role == "denoiser")
    text: Range = denoiser.ranges["text"]
    for size in ((256, 256), (64, 512), (300, 100), (1000, 3)):
        _, plan, _ = alone.planned(FAMILY, given(1, image=[png(colours(*size))]))
        assert text.min <= plan.constant["encoder_hidden_states"].shape[1] <= text.max


@pytest.mark.parametrize(
    ("component", "field", "value", "words"),
    [
        ("transformer", "joint_attention_dim", 8, "reads text of width 8, not 32"),
        ("vae", "latent_channels", 8, "takes 64 channels, its autoencoder 32"),
        ("transformer", "in_channels", None, "lacks or misstates"),
    ],
)
def test_configs_that_do_not_fit_together_are_one_line(
    tmp_path: Path, component: str, field: str, value: Any, words: str
) -> None:
    checkpoint = shutil.copytree(tiny.checkpoint(FAMILY), tmp_path / "changed")
    file = checkpoint / component / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {field: value}))
    with pytest.raises(BadCheckpointError, match=words) as error:
        load(FAMILY, "table").components(checkpoint, Limits(256 * 256, 8))
    assert "\n" not in str(error.value)
