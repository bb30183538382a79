"""Qwen2.5-VL as two components: what it sees of one picture, and the states of a text with pictures in it.

Rewritten where transformers' own cannot be traced for all sizes: windows are masks, not a split; a picture's places
are inputs, not looked for. Equal to it (`tests/families/test_qwen_vl.py`). Knows no family.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Qwen2_5_VLForConditionalGeneration
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import apply_rotary_pos_emb_vision

from families.parts import pretrained
from families.parts.qwen_vl import PADDING, Sight


class VisionEncoder(nn.Module):
    """`pixels` (1, 3, H, W) in [-1, 1], sides as `Sight.of` gives -> `vision_states` (1, tokens, width), row by row.

    Patches stand in the order of the tokens that they become, not of windows as in transformers: attention does not
    depend on it, and the windows are told by the mask.
    """

    def __init__(self, weights: Path, processor: Path) -> None:
        super().__init__()
        self.model = _whole(weights).model.visual
        self.model.patch_embed.proj = _Patches(self.model.patch_embed.proj)
        self._sight, config = Sight.read(processor), self.model.config
        self._window = config.window_size // config.patch_size
        self._full = frozenset(config.fullatt_block_indexes)
        self.mean, self.deviation = (
            nn.Buffer(torch.tensor(values).view(1, -1, 1, 1), persistent=False)
            for values in (self._sight.mean, self._sight.deviation)
        )

    def forward(self, pixels: Tensor) -> Tensor:
        normal = ((pixels + 1) / 2 - self.mean) / self.deviation
        states = self.model.patch_embed.proj(self._ordered(normal).to(self.model.dtype))
        rows, columns = self._places(pixels)
        turned = self.model.rotary_pos_emb(states, torch.stack([rows, columns], dim=1))
        across = pixels.shape[3] // self._sight.patch // self._window + 1
        window = rows // self._window * across + columns // self._window
        same = (window[:, None] == window[None, :])[None, None]  # (1, 1, patches, patches)
        for place, block in enumerate(self.model.blocks):
            mask = None if place in self._full else same
            states = states + _attended(block.attn, block.norm1(states), turned, mask)
            states = states + block.mlp(block.norm2(states))
        merged: Tensor = self.model.merger(states)
        return merged[None].float()

    def _ordered(self, picture: Tensor) -> Tensor:
        """(1, C, H, W) -> (patches, C * p * p), those of a token one after another."""
        patch, merge, (_, channels, height, width) = self._sight.patch, self._sight.merge, picture.shape
        unit = patch * merge
        parts = picture.reshape(channels, height // unit, merge, patch, width // unit, merge, patch)
        return parts.permute(1, 4, 2, 5, 0, 3, 6).reshape(-1, channels * patch * patch)

    def _places(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """The row and the column of each patch, int64 (patches,), in their order."""
        merge, unit = self._sight.merge, self._sight.unit
        height, width = pixels.shape[2] // unit, pixels.shape[3] // unit
        down, across = (torch.arange(count, device=pixels.device) for count in (height, width))
        within = torch.arange(merge, device=pixels.device)
        shape = (height, width, merge, merge)
        rows = (down[:, None, None, None] * merge + within[:, None]).expand(shape).reshape(-1)
        columns = (across[:, None, None] * merge + within).expand(shape).reshape(-1)
        return rows, columns


class TextEncoder(nn.Module):
    """The states after the last layer and its norm, (1, T, width).

    `input_ids` (1, T), `position_ids` (3, T) and `vision_places` (1, T) int64 as `lay_out` gives them, `vision_states`
    (1, V, width) of all pictures, at least one token. A token sees itself and those before it, so that what follows
    changes none; those whose place is PADDING are seen by none.
    """

    def __init__(self, weights: Path) -> None:
        super().__init__()
        self.model = _whole(weights).model.language_model

    def forward(self, input_ids: Tensor, position_ids: Tensor, vision_places: Tensor, vision_states: Tensor) -> Tensor:
        words = self.model.embed_tokens(input_ids)
        seen = vision_states.to(words.dtype)[0].index_select(0, vision_places[0].clamp(min=0))[None]
        states = torch.where(vision_places[:, :, None] >= 0, seen, words)
        place = torch.arange(states.shape[1], device=states.device)
        before = ((place[None, :] <= place[:, None]) & (vision_places != PADDING))[None, None]  # (1, 1, T, T)
        encoded: Tensor = self.model(
            inputs_embeds=states,
            position_ids=position_ids[:, None],
            attention_mask={"full_attention": before},
            use_cache=False,
        ).last_hidden_state
        return encoded.float()


class _Patches(nn.Module):
    """The convolution over patches, and over two equal pictures in time, as the linear layer that it is.

    torch's export gets a convolution in 3-D without a bias wrong.
    """

    def __init__(self, convolution: nn.Conv3d) -> None:
        super().__init__()
        self.weight = convolution.weight  # (width, C, times, p, p)

    def forward(self, patches: Tensor) -> Tensor:
        """(patches, C * p * p) -> (patches, width)."""
        _, channels, times, *_ = self.weight.shape
        twice = patches.reshape(patches.shape[0], channels, 1, -1).expand(-1, -1, times, -1)
        return nn.functional.linear(twice.flatten(1), self.weight.flatten(1))


def _attended(attention: Any, states: Tensor, turned: tuple[Tensor, Tensor], mask: Tensor | None) -> Tensor:
    """(patches, width) -> the same; `mask` (1, 1, patches, patches) is where one sees another, None everywhere."""
    count = states.shape[0]
    query, key, value = attention.qkv(states).reshape(count, 3, attention.num_heads, -1).unbind(1)
    query, key = apply_rotary_pos_emb_vision(query, key, *turned)
    query, key, value = (tensor.transpose(0, 1)[None] for tensor in (query, key, value))  # (1, heads, patches, ...)
    seen = nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=attention.scaling)
    projected: Tensor = attention.proj(seen[0].transpose(0, 1).reshape(count, -1))
    return projected


def _whole(weights: Path) -> Any:
    """All of the model on the meta device; what is not kept of it costs nothing."""
    return pretrained.load(Qwen2_5_VLForConditionalGeneration, weights)
