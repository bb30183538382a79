"""The UNet and its noise schedule.

The edits are functions of picture and sentence, so the noise only has to be overcome: the schedule is almost all
noise, the UNet predicts the sample itself, and before training its prediction is the picture's own latents.

Latents are (N, LATENT_CHANNELS, H / 8, W / 8), as in `autoencoder.py`. Knows nothing of edits or text.
"""

from typing import Any

import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from torch import nn

from demo.autoencoder import ANCHOR, LATENT_CHANNELS
from demo.text import HIDDEN

WIDTHS = (128, 128, 160)
GROUPS = 8


def build_scheduler() -> DDIMScheduler:
    """Pure noise at the first of any number of steps, and a last step that still sees little else."""
    return DDIMScheduler(
        num_train_timesteps=1000,
        beta_start=0.15,
        beta_end=0.0001,
        beta_schedule="linear",
        clip_sample=False,
        set_alpha_to_one=True,
        prediction_type="sample",
        timestep_spacing="trailing",
        rescale_betas_zero_snr=True,
    )


def build_unet() -> UNet2DConditionModel:
    """Noisy latents and the picture's latents in, edited latents out."""
    unet = UNet2DConditionModel(
        sample_size=32,
        in_channels=2 * LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        only_cross_attention=(True, False, False),
        block_out_channels=WIDTHS,
        layers_per_block=1,
        norm_num_groups=GROUPS,
        cross_attention_dim=HIDDEN,
        attention_head_dim=4,  # diffusers' name for the number of heads
        use_linear_projection=True,
    )
    with torch.no_grad():
        _start_as_identity(unet)
    return unet


def _start_as_identity(unet: Any) -> None:
    """Carry the picture's latents, as +s and -s, from `conv_in` over the outermost skip to `conv_out`.

    See `autoencoder._linear_output` for the constant channels; everything else keeps its random start.
    """
    where = _signed_channels()
    for latent, (positive, negative) in enumerate(where):
        unet.conv_in.weight[[positive, negative]] = 0
        unet.conv_in.bias[[positive, negative]] = 0
        unet.conv_in.weight[positive, LATENT_CHANNELS + latent, 1, 1] = 1
        unet.conv_in.weight[negative, LATENT_CHANNELS + latent, 1, 1] = -1

    last = unet.up_blocks[-1]
    signed = [channel for pair in where for channel in pair]
    shortcut, hidden = last.resnets[-1].conv_shortcut, WIDTHS[0]  # input: hidden channels, then the skip's
    shortcut.weight[signed] = 0
    shortcut.bias[signed] = 0
    for channel in signed:
        shortcut.weight[channel, hidden + channel] = 1
    for silent in (last.resnets[-1].conv2, last.attentions[-1].proj_out):
        nn.init.zeros_(silent.weight)
        nn.init.zeros_(silent.bias)

    size = WIDTHS[0] // GROUPS
    anchors = [group * size + size - 2 for group in range(GROUPS)]
    unet.conv_norm_out.weight[:] = ANCHOR * (2 / size) ** 0.5
    for anchor in anchors:
        last.attentions[-1].proj_out.bias[anchor : anchor + 2] = torch.tensor([ANCHOR, -ANCHOR])
        unet.conv_norm_out.weight[anchor : anchor + 2] = 0
    unet.conv_out.weight[:] = 0
    unet.conv_out.bias[:] = 0
    for latent, (positive, negative) in enumerate(where):
        unet.conv_out.weight[latent, positive, 1, 1] = 1
        unet.conv_out.weight[latent, negative, 1, 1] = -1


def _signed_channels() -> list[tuple[int, int]]:
    """Channels for +s and -s of each latent, the same number in each group, two of each group left for the anchors."""
    size, each = WIDTHS[0] // GROUPS, LATENT_CHANNELS // GROUPS
    return [(i // each * size + 2 * (i % each), i // each * size + 2 * (i % each) + 1) for i in range(LATENT_CHANNELS)]
