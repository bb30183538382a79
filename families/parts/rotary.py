"""Where the tokens of each row stand, and attention that turns them by it.

diffusers' transformers take the first row's places for all rows of a call: here each row has its own.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn


class Places(NamedTuple):
    """Of all tokens of a call: `cosine` and `sine` of what each pair of channels is turned by, (rows, tokens, 1,
    channels / 2), and which of them are there, (rows, 1, 1, tokens): None for all, which is the faster attention."""

    cosine: Tensor
    sine: Tensor
    there: Tensor | None = None


class Rotary(nn.Module):
    """`ids` (rows, tokens, axes or more): a place on each axis -> Places.

    `channels`: of a head, by axis. Pairs of them turn by the place times frequencies that fall from 1 to 1 / `theta`.
    """

    def __init__(self, channels: Sequence[int], theta: float) -> None:
        super().__init__()
        self._axes = len(channels)
        for axis, count in enumerate(channels):
            frequencies = 1.0 / torch.pow(theta, torch.arange(0, count, 2).float().div(count))
            self.register_buffer(f"frequencies_{axis}", frequencies, persistent=False)

    def forward(self, ids: Tensor) -> Places:
        angles = [ids[..., axis, None] * self.get_buffer(f"frequencies_{axis}") for axis in range(self._axes)]
        turned = torch.cat(angles, dim=2)[:, :, None]
        return Places(turned.cos(), turned.sin())


def attended(query: Tensor, key: Tensor, value: Tensor, places: Places) -> Tensor:
    """What each token sees of those that are there. All (rows, tokens, heads, channels)."""
    query, key = (_turned(states, places) for states in (query, key))
    query, key, value = (states.transpose(1, 2) for states in (query, key, value))
    mixed = nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=places.there)
    return mixed.transpose(1, 2)


def _turned(states: Tensor, places: Places) -> Tensor:
    """Each pair of channels turned by its angle, in float32."""
    one, other = states.float().unflatten(-1, (-1, 2)).unbind(-1)  # type: ignore[no-untyped-call]
    turned = torch.stack([one * places.cosine - other * places.sine, one * places.sine + other * places.cosine], dim=-1)
    return turned.flatten(3).to(states.dtype)
