"""The denoiser of Qwen-Image-Edit, rewritten where diffusers' own takes what is the same for all rows of a call.

Every token has its place and whether it is there at all, so that rows may differ in sizes, pictures and text; what a
2511 checkpoint gives tokens of pictures, the modulation of no noise, is chosen token by token.
"""

from pathlib import Path
from typing import Any, NamedTuple

import torch
from diffusers import QwenImageTransformer2DModel
from torch import Tensor, nn

from families.parts import pretrained
from families.parts.rotary import Places, Rotary, attended

THETA = 10000.0
AXES = 3
"""Of a place: picture, row, column. One more says whether the token is there."""


class Around(NamedTuple):
    """What all blocks of a call see. `now`: the embedded time of each row, (rows, width); `clean`: that of no noise,
    None where tokens of pictures are modulated as all others; `given`: which tokens are of pictures, (rows, tokens, 1).
    """

    now: Tensor
    clean: Tensor | None
    given: Tensor
    places: Places


class Transformer(nn.Module):
    """Tokens of noise and of pictures, with their places -> prediction (rows, target, C).

    `sample` (rows, target, C), `references` (rows, reference, C), `timestep` (rows, 1) of [0, 1000], text (rows, text,
    width); `sample_ids`, `reference_ids`, `text_ids` (rows, tokens, 4): picture, row, column, and 1 for a token that
    is there, 0 for padding, whose prediction means nothing.
    """

    def __init__(self, checkpoint: Path) -> None:
        super().__init__()
        self.model = pretrained.load(QwenImageTransformer2DModel, checkpoint / "transformer")
        self.rotary = Rotary(self.model.config.axes_dims_rope, THETA)

    def forward(  # noqa: PLR0917 - the table's inputs
        self,
        sample: Tensor,
        references: Tensor,
        timestep: Tensor,
        text: Tensor,
        sample_ids: Tensor,
        reference_ids: Tensor,
        text_ids: Tensor,
    ) -> Tensor:
        model, dtype = self.model, self.model.dtype
        pictures = model.img_in(torch.cat([sample, references], dim=1).to(dtype))
        words = model.txt_in(model.txt_norm(text.to(dtype)))
        given = torch.cat([torch.zeros_like(sample_ids[..., :1]), torch.ones_like(reference_ids[..., :1])], dim=1) > 0
        times = timestep[:, 0] / 1000
        around = Around(
            model.time_text_embed(times, pictures),
            model.time_text_embed(times * 0, pictures) if model.zero_cond_t else None,
            given,
            self._places(torch.cat([text_ids, sample_ids, reference_ids], dim=1)),
        )
        for block in model.transformer_blocks:
            words, pictures = _block(block, words, pictures, around)
        made = model.proj_out(model.norm_out(pictures[:, : sample.shape[1]], around.now))
        return made.float()  # type: ignore[no-any-return]

    def _places(self, ids: Tensor) -> Places:
        places: Places = self.rotary(ids)
        return places._replace(there=(ids[..., AXES] > 0)[:, None, None])


def _block(block: Any, words: Tensor, pictures: Tensor, around: Around) -> tuple[Tensor, Tensor]:
    """One block of two streams, as `QwenImageTransformerBlock`."""
    of_pictures = _chosen(block.img_mod, around)
    of_words = block.txt_mod(around.now)[:, None].chunk(6, dim=-1)
    seen, read = _attended(
        block.attn,
        _modulated(block.img_norm1(pictures), *of_pictures[:2]),
        _modulated(block.txt_norm1(words), *of_words[:2]),
        around,
    )
    pictures, words = pictures + of_pictures[2] * seen, words + of_words[2] * read
    seen = block.img_mlp(_modulated(block.img_norm2(pictures), *of_pictures[3:5]))
    read = block.txt_mlp(_modulated(block.txt_norm2(words), *of_words[3:5]))
    return words + of_words[5] * read, pictures + of_pictures[5] * seen


def _chosen(modulation: nn.Module, around: Around) -> list[Tensor]:
    """Shift, scale and gate of attention, and of what follows it: each (rows, 1 or tokens, width)."""
    noisy = modulation(around.now)[:, None].chunk(6, dim=-1)
    if around.clean is None:
        return list(noisy)
    clean = modulation(around.clean)[:, None].chunk(6, dim=-1)
    return [torch.where(around.given, *pair) for pair in zip(clean, noisy, strict=True)]


def _modulated(states: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    return states * (1 + scale) + shift


def _attended(attention: Any, pictures: Tensor, words: Tensor, around: Around) -> tuple[Tensor, Tensor]:
    """Both streams in one sequence, words first."""
    of_pictures = [attention.norm_q(_heads(attention, attention.to_q(pictures)))]
    of_pictures += [attention.norm_k(_heads(attention, attention.to_k(pictures)))]
    of_pictures += [_heads(attention, attention.to_v(pictures))]
    of_words = [attention.norm_added_q(_heads(attention, attention.add_q_proj(words)))]
    of_words += [attention.norm_added_k(_heads(attention, attention.add_k_proj(words)))]
    of_words += [_heads(attention, attention.add_v_proj(words))]
    query, key, value = (torch.cat(pair, dim=1) for pair in zip(of_words, of_pictures, strict=True))
    joined, count = attended(query, key, value, around.places).flatten(2), words.shape[1]
    return attention.to_out[0](joined[:, count:]), attention.to_add_out(joined[:, :count])


def _heads(attention: Any, states: Tensor) -> Tensor:
    """(rows, tokens, width) -> (rows, tokens, heads, channels)."""
    return states.reshape(states.shape[0], states.shape[1], attention.heads, -1)
