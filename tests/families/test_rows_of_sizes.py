"""Rows of one call whose pictures have as many tokens and other sides, beside diffusers' single calls."""

from typing import Any

import pytest
import torch
from diffusers import Flux2Transformer2DModel, FluxTransformer2DModel, LongCatImageTransformer2DModel

from families import load
from families.interface import DENOISER
from families.parts.packing import positions
from families.parts.pretrained import fill
from tests.families import tiny

SIZES = [((4, 6), (3, 4), 900.0), ((6, 4), (2, 6), 31.5), ((2, 12), (12, 1), 500.0)]
"""Of the picture that is made and of the one that is given, and the timestep."""
TEXT = 512
NETWORKS: dict[str, Any] = {
    "flux2_klein": Flux2Transformer2DModel,
    "flux_kontext": FluxTransformer2DModel,
    "longcat_image_edit": LongCatImageTransformer2DModel,
}


def text_ids(axes: int) -> torch.Tensor:
    """As the pipelines lay them out: klein's along its last axis, Kontext's all at 0, LongCat's on a diagonal."""
    ids = torch.zeros(TEXT, axes)
    if axes == 4:
        ids[:, 3] = torch.arange(TEXT)
    return ids


@pytest.mark.parametrize("family", NETWORKS)
def test_rows_of_other_sizes_are_what_diffusers_makes_of_each(family: str) -> None:
    folder = tiny.checkpoint(family)
    network = NETWORKS[family].from_pretrained(folder / "transformer").eval()
    ours = fill(load(family, "modules").module(DENOISER, folder), torch.float32)
    axes, channels = len(network.config.axes_dims_rope), network.config.in_channels
    draw = torch.Generator().manual_seed(3)
    sample, references = (torch.randn(len(SIZES), tokens, channels, generator=draw) for tokens in (24, 12))
    words = torch.randn(len(SIZES), TEXT, network.config.joint_attention_dim, generator=draw)
    times = torch.tensor([[time] for _, _, time in SIZES])
    made, given = (
        torch.cat([torch.from_numpy(positions(*size[place], place, axes)) for size in SIZES]) for place in (0, 1)
    )
    more: dict[str, torch.Tensor] = {}
    places = text_ids(axes)
    if family == "flux_kontext":
        more["pooled_projections"] = torch.randn(len(SIZES), network.config.pooled_projection_dim, generator=draw)
        if network.config.guidance_embeds:
            more["guidance"] = torch.tensor([[1.0], [3.5], [2.0]])
    if family == "longcat_image_edit":
        places[:, 1:] = torch.arange(TEXT)[:, None]
    beside = [more[name] for name in ("pooled_projections",) if name in more]
    guidance = [more["guidance"]] if "guidance" in more else []
    with torch.inference_mode():
        together = ours(sample, references, times, words, *beside, made, given, *guidance)
        for row in range(len(SIZES)):
            one = {name: value[row : row + 1] for name, value in more.items()}
            if guidance:
                one["guidance"] = one["guidance"][:, 0]
            expected = network(
                hidden_states=torch.cat([sample, references], dim=1)[row : row + 1],
                encoder_hidden_states=words[row : row + 1],
                timestep=times[row] / 1000,
                img_ids=torch.cat([made, given], dim=1)[row],
                txt_ids=places,
                return_dict=False,
                **one,
            )[0]
            torch.testing.assert_close(together[row], expected[0, :24], rtol=0, atol=5e-6)
