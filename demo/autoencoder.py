"""The autoencoder: an AutoencoderKL that starts as principal components of patches.

8 x 8 x 3 pixels become LATENT_CHANNELS numbers. The encoder is built, not trained: its strided convolutions compute
the principal components of 2 x 2, then 4 x 4, then 8 x 8 patches, and its residual branches are silent. (Linear
latents make the edits easy to learn, and the training's own encoding cheap.) The decoder starts as the least-squares
inverse that its own upsampling convolutions can express, and is then trained.

Pictures are (N, 3, H, W) in [-1, 1]; latents (N, LATENT_CHANNELS, H / 8, W / 8). Knows nothing of edits or text.
"""

from dataclasses import dataclass
from typing import Any

import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn
from torch.nn import functional

LATENT_CHANNELS = 32
WIDTHS = (16, 32, 64, 96)
GROUPS = 4
ANCHOR = 100.0
"""Height of the constant channels that fix the scale of a group normalisation, see `_linear_output`."""
KEPT = (12, 32, LATENT_CHANNELS)
"""Principal components kept of 2 x 2, 4 x 4 and 8 x 8 patches."""


@dataclass(frozen=True)
class PatchBasis:
    """Orthonormal bases of three levels, and the scale of each latent channel.

    `levels[i]` is (KEPT[i], 4 * KEPT[i - 1]): components of 2 x 2 neighbours of the level below, row-major,
    channels last.
    `scales` is (LATENT_CHANNELS,): a latent times its scale is a principal component of a patch.
    """

    levels: tuple[Tensor, Tensor, Tensor]
    scales: Tensor

    def components(self, pictures: Tensor, levels: int = 3) -> Tensor:
        """Principal components of the pictures' patches, (N, KEPT[levels - 1], H / 2**levels, W / 2**levels)."""
        for basis in self.levels[:levels]:
            kernel = basis.reshape(len(basis), 2, 2, -1).permute(0, 3, 1, 2)
            pictures = functional.conv2d(pictures, kernel, stride=2)
        return pictures

    def latents(self, pictures: Tensor) -> Tensor:
        """What the encoder answers, at a fraction of its cost."""
        return self.components(pictures) / self.scales[:, None, None]


def patch_basis(pictures: Tensor) -> PatchBasis:
    """Principal components (not centred, so that black is not special) of (N, 3, H, W) pictures, level by level."""
    levels: list[Tensor] = []
    deviations = torch.empty(0)
    for kept in KEPT:
        patches = functional.pixel_unshuffle(pictures, 2)  # (N, C * 4, H / 2, W / 2), channel-major
        count, channels, height, width = patches.shape
        patches = (
            patches.reshape(count, channels // 4, 4, height, width)
            .transpose(1, 2)
            .reshape(count, channels, height, width)
        )
        rows = patches.permute(0, 2, 3, 1).reshape(-1, channels)
        values, vectors = torch.linalg.eigh(rows.T.double() @ rows.double() / len(rows))
        basis = vectors.flip(1)[:, :kept].T.float().contiguous()
        deviations = values.flip(0)[:kept].sqrt().float()
        levels.append(basis)
        pictures = torch.einsum("kc,nchw->nkhw", basis, patches)
    return PatchBasis((levels[0], levels[1], levels[2]), 1.6 * deviations.sqrt())


def basis_of(model: Any) -> PatchBasis:
    """The basis that an autoencoder's encoder was built with."""
    encoder, channels, levels = model.encoder, (3, *KEPT), []
    for block, kept, below in zip(encoder.down_blocks, KEPT, channels, strict=False):
        weight = block.downsamplers[0].conv.weight.detach()[:kept, :below, :2, :2]
        levels.append(weight.permute(0, 2, 3, 1).reshape(kept, -1))
    shortcut = encoder.down_blocks[3].resnets[0].conv_shortcut.weight.detach()
    where = _signed_channels(LATENT_CHANNELS, WIDTHS[-1])
    scales = torch.stack([1 / shortcut[positive, latent, 0, 0] for latent, (positive, _) in enumerate(where)])
    return PatchBasis((levels[0], levels[1], levels[2]), scales)


def build_autoencoder(basis: PatchBasis, pictures: Tensor) -> AutoencoderKL:
    """An autoencoder with the exact encoder and the least-squares decoder, fitted to `pictures`."""
    model = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=WIDTHS,
        layers_per_block=1,
        latent_channels=LATENT_CHANNELS,
        norm_num_groups=GROUPS,
        sample_size=256,
        scaling_factor=1.0,
        force_upcast=False,
        use_quant_conv=False,
        use_post_quant_conv=False,
        mid_block_add_attention=False,
    )
    with torch.no_grad():
        for name, module in model.named_modules():
            if name.endswith("conv2"):
                nn.init.zeros_(module.weight)
                nn.init.zeros_(module.bias)
        _set_encoder(model.encoder, basis)
        _set_decoder(model.decoder, basis, pictures)
    return model


def _set_encoder(encoder: Any, basis: PatchBasis) -> None:
    _route(encoder.conv_in, 3)
    for block, level in zip(encoder.down_blocks, basis.levels, strict=False):
        for resnet in block.resnets:
            if resnet.conv_shortcut is not None:
                _route(resnet.conv_shortcut, level.shape[1] // 4)
        convolution = block.downsamplers[0].conv
        _silence(convolution)
        convolution.weight[: len(level), : level.shape[1] // 4, :2, :2] = level.reshape(len(level), 2, 2, -1).permute(
            0, 3, 1, 2
        )
    _route(encoder.down_blocks[3].resnets[0].conv_shortcut, 0)
    where = _signed_channels(LATENT_CHANNELS, WIDTHS[-1])
    shortcut = encoder.down_blocks[3].resnets[0].conv_shortcut
    for latent, (positive, negative) in enumerate(where):
        shortcut.weight[positive, latent, 0, 0] = 1 / basis.scales[latent]
        shortcut.weight[negative, latent, 0, 0] = -1 / basis.scales[latent]
    _silence(encoder.conv_out)
    _linear_output(encoder.conv_norm_out, encoder.conv_out, encoder.mid_block.resnets[-1].conv2, where)
    encoder.conv_out.bias[LATENT_CHANNELS:] = -14.0  # log variance


def _set_decoder(decoder: Any, basis: PatchBasis, pictures: Tensor) -> None:
    latents = basis.latents(pictures)
    decoder.conv_in.weight[:LATENT_CHANNELS] = 0
    decoder.conv_in.bias[:LATENT_CHANNELS] = 0
    for channel in range(LATENT_CHANNELS):
        decoder.conv_in.weight[channel, channel, 1, 1] = 1.0
    signals, carried = latents, LATENT_CHANNELS
    targets = (basis.components(pictures, 2), basis.components(pictures, 1), pictures)
    for level, target in enumerate(targets):
        signals = functional.interpolate(signals, scale_factor=2.0, mode="nearest")
        solution = _least_squares(signals, target)  # (targets, carried, 3, 3)
        if level == 2:
            solution = torch.cat([solution, -solution])
        convolution = decoder.up_blocks[level].upsamplers[0].conv
        convolution.weight[: len(solution)] = 0
        convolution.bias[: len(solution)] = 0
        convolution.weight[: len(solution), :carried] = solution
        signals, carried = functional.conv2d(signals, solution, padding=1), len(solution)
        shortcut = decoder.up_blocks[level + 1].resnets[0].conv_shortcut
        _route(shortcut, carried, silent=False)
    where = [(4 * colour, 4 * colour + 1) for colour in range(3)]
    _silence(shortcut)
    for colour, (positive, negative) in enumerate(where):
        shortcut.weight[positive, colour] = shortcut.weight[negative, colour + 3] = 1.0
    nn.init.normal_(shortcut.weight[12:], std=0.1)
    _linear_output(decoder.conv_norm_out, decoder.conv_out, decoder.up_blocks[3].resnets[-1].conv2, where)


def _linear_output(norm: nn.GroupNorm, output: Any, before: Any, where: list[tuple[int, int]]) -> None:
    """Make normalisation, SiLU and last convolution answer signal i, carried as +s and -s by channels `where[i]`.

    silu(s) - silu(-s) = s, and two constant channels of plus and minus ANCHOR in each group, brought in by the bias of
    the convolution `before`, keep the normalisation's scale the same for every picture.
    """
    size = norm.num_channels // norm.num_groups
    for group in sorted({positive // size for positive, _ in where}):
        anchor = slice(group * size + size - 2, group * size + size)
        before.bias[anchor] = torch.tensor([ANCHOR, -ANCHOR])
        norm.weight[group * size : (group + 1) * size] = ANCHOR * (2 / size) ** 0.5
        norm.weight[anchor] = 0.0
    output.weight[: len(where)] = 0
    output.bias[: len(where)] = 0
    for signal, (positive, negative) in enumerate(where):
        output.weight[signal, positive, 1, 1] = 1.0
        output.weight[signal, negative, 1, 1] = -1.0


def _signed_channels(signals: int, width: int) -> list[tuple[int, int]]:
    """Channels for +s and -s of each signal, spread over the groups, two of each group left for the anchors."""
    size, each = width // GROUPS, -(-signals // GROUPS)
    return [(i // each * size + 2 * (i % each), i // each * size + 2 * (i % each) + 1) for i in range(signals)]


def _least_squares(signals: Tensor, target: Tensor) -> Tensor:
    """The 3 x 3 convolution, (targets, signals, 3, 3), that best turns `signals` into `target`."""
    count = signals.shape[1] * 9
    normal, moment = torch.zeros(count, count).double(), torch.zeros(count, target.shape[1]).double()
    for one, wanted in zip(signals, target, strict=True):
        columns = functional.unfold(one[None], 3, padding=1)[0].double()  # (signals * 9, H * W)
        normal += columns @ columns.T
        moment += columns @ wanted.flatten(1).double().T
    normal += 1e-5 * normal.diagonal().mean() * torch.eye(count)
    solution: Tensor = torch.linalg.solve(normal, moment)
    return solution.T.reshape(-1, signals.shape[1], 3, 3).float()


def _route(convolution: Any, channels: int, silent: bool = True) -> None:
    """Pass the first `channels` on unchanged; leave the rest random unless `silent`."""
    if silent:
        _silence(convolution)
    convolution.weight[:channels] = 0
    convolution.bias[:channels] = 0
    middle = convolution.weight.shape[-1] // 2
    for channel in range(channels):
        convolution.weight[channel, channel, middle, middle] = 1.0


def _silence(convolution: Any) -> None:
    nn.init.zeros_(convolution.weight)
    nn.init.zeros_(convolution.bias)
