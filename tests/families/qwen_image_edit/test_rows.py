"""Rows of different sizes, pictures, texts and times in one call of the denoiser, beside diffusers' single ones."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import QwenImageTransformer2DModel

from families.parts.pretrained import fill
from families.qwen_image_edit.denoising import _places, _text_places
from families.qwen_image_edit.guidance import Guidance
from families.qwen_image_edit.transformer import Transformer
from tests.families import small
from tests.families.qwen_image_edit import tiny

ROWS = [([(4, 6)], 5, 900.0), ([(5, 3), (2, 4), (7, 1)], 9, 31.5), ([(3, 3), (6, 6)], 3, 500.0)]
"""Sizes of the picture that is made and of those that are given, tokens of text, timestep."""


@pytest.mark.parametrize("zero_cond_t", [False, True])
def test_rows_of_one_call_are_what_diffusers_makes_of_each(tmp_path: Path, zero_cond_t: bool) -> None:
    small.seeded()
    network = tiny.transformer(zero_cond_t=zero_cond_t).eval()
    network.save_pretrained(tmp_path / "transformer")
    ours = fill(Transformer(tmp_path).eval(), torch.float32)
    singles = [_single(network, *row) for row in ROWS]
    rows = [{name: tensor for name, tensor in single.items() if name != "expected"} for single in singles]
    with torch.inference_mode():
        together = ours(*(_joined([row[name] for row in rows]) for name in rows[0]))
    for made, single in zip(together, singles, strict=True):
        torch.testing.assert_close(made[: single["expected"].shape[1]], single["expected"][0], rtol=0, atol=2e-6)


def _single(network: QwenImageTransformer2DModel, sizes: Sequence[tuple[int, int]], text: int, time: float) -> Any:
    """One row's inputs in the table's order, and what diffusers makes of them."""
    generator = torch.Generator().manual_seed(text)
    tokens = [torch.randn(1, height * width, 16, generator=generator) for height, width in sizes]
    words = torch.randn(1, text, tiny.WIDTH, generator=generator)
    with torch.inference_mode():
        expected = network(
            hidden_states=torch.cat(tokens, dim=1),
            encoder_hidden_states=words,
            timestep=torch.tensor([time / 1000]),
            img_shapes=[[(1, *size) for size in sizes]],
            return_dict=False,
        )[0]
    made, *given = (torch.from_numpy(_places(number, *size)) for number, size in enumerate(sizes))
    return {
        "sample": tokens[0],
        "references": torch.cat([torch.empty(1, 0, 16), *tokens[1:]], dim=1),
        "timestep": torch.tensor([[time]]),
        "text": words,
        "sample_ids": made,
        "reference_ids": torch.cat([torch.empty(1, 0, 4), *given], dim=1),
        "text_ids": torch.from_numpy(_text_places(np.array([text]), text, sizes)),
        "expected": expected[:, : tokens[0].shape[1]],
    }


def _joined(rows: Sequence[torch.Tensor]) -> torch.Tensor:
    """Zeros fill up to the longest."""
    longest = max(row.shape[1] for row in rows)
    pad = torch.nn.functional.pad
    return torch.cat([pad(row, (0, 0, 0, longest - row.shape[1])) if row.ndim == 3 else row for row in rows])


def test_guidance_keeps_every_tokens_length() -> None:
    with_text, without = torch.randn(2, 1, 7, 16, generator=torch.Generator().manual_seed(0))
    made = torch.from_numpy(Guidance(4.0).combine(torch.cat([with_text, without]).numpy()))
    torch.testing.assert_close(made.norm(dim=-1), with_text.norm(dim=-1))
    plain = without + 4.0 * (with_text - without)
    torch.testing.assert_close(torch.cosine_similarity(made, plain, dim=-1), torch.ones(1, 7))
    alone = with_text.numpy()
    assert Guidance(1.0).combine(alone) is alone
