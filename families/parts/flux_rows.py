"""What the transformers of FLUX's kind have in common, where rows of a call differ in sizes and pictures."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from families.parts.rotary import Places, attended

THETA = 10000.0
"""Of FLUX.1's kind, whose configs do not say it."""


def attend_by_row(model: Any) -> None:
    """Has all blocks of a network take `Places` as their `image_rotary_emb`."""
    for block in model.transformer_blocks:
        block.attn.set_processor(_Joint())
    for block in model.single_transformer_blocks:
        block.attn.set_processor(_Parallel() if hasattr(block.attn, "to_qkv_mlp_proj") else _Joint())


def predicted(model: Any, words: Tensor, pictures: Tensor, now: Tensor, places: Places) -> Tensor:
    """What FLUX.1's kind of network makes of its two streams at a time, all embedded: (rows, tokens of pictures, C)."""
    for block in (*model.transformer_blocks, *model.single_transformer_blocks):
        words, pictures = block(pictures, words, now, places)
    return model.proj_out(model.norm_out(pictures, now)).float()  # type: ignore[no-any-return]


class _Joint:
    """One attention over both streams, words first, or over what is one stream already."""

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,  # noqa: ARG002 - as diffusers calls it
        image_rotary_emb: Any = None,
    ) -> Any:
        query = attn.norm_q(_heads(attn, attn.to_q(hidden_states)))
        key = attn.norm_k(_heads(attn, attn.to_k(hidden_states)))
        value = _heads(attn, attn.to_v(hidden_states))
        if encoder_hidden_states is not None:
            words = _words(attn, encoder_hidden_states)
            query, key, value = (torch.cat(pair, dim=1) for pair in zip(words, (query, key, value), strict=True))
        mixed = attended(query, key, value, image_rotary_emb).flatten(2)
        if encoder_hidden_states is None:
            return mixed
        count = encoder_hidden_states.shape[1]
        return attn.to_out[0](mixed[:, count:]), attn.to_add_out(mixed[:, :count])


def _words(attn: Any, states: Tensor) -> Iterator[Tensor]:
    yield attn.norm_added_q(_heads(attn, attn.add_q_proj(states)))
    yield attn.norm_added_k(_heads(attn, attn.add_k_proj(states)))
    yield _heads(attn, attn.add_v_proj(states))


class _Parallel:
    """Attention beside what follows it, as FLUX.2's single blocks have it."""

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        attention_mask: Tensor | None = None,  # noqa: ARG002 - as diffusers calls it
        image_rotary_emb: Any = None,
    ) -> Tensor:
        made = attn.to_qkv_mlp_proj(hidden_states)
        query, key, value, beside = made.split([attn.inner_dim] * 3 + [attn.mlp_hidden_dim * attn.mlp_mult_factor], -1)
        query, key = attn.norm_q(_heads(attn, query)), attn.norm_k(_heads(attn, key))
        mixed = attended(query, key, _heads(attn, value), image_rotary_emb).flatten(2)
        return attn.to_out(torch.cat([mixed, attn.mlp_act_fn(beside)], dim=-1))  # type: ignore[no-any-return]


def _heads(attn: Any, states: Tensor) -> Tensor:
    """(rows, tokens, width) -> (rows, tokens, heads, channels)."""
    return states.unflatten(-1, (-1, attn.head_dim))  # type: ignore[no-untyped-call, no-any-return]
