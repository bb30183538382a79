"""Qwen-Image's autoencoder of videos as two components of pictures: one frame, whose latents are normalised patches.

A frame that has none before it meets zeros there, so that of each causal convolution in time only the last tap counts.
"""

from pathlib import Path

import torch
from diffusers import AutoencoderKLQwenImage
from diffusers.models.autoencoders.autoencoder_kl_qwenimage import QwenImageCausalConv3d, QwenImageUpsample
from torch import Tensor, nn

from families.parts import pretrained

PATCH = 2
"""Latents along one side of a token."""


class _Autoencoder(nn.Module):
    """The network, and the statistics of its latents, (1, C, 1, 1)."""

    def __init__(self, checkpoint: Path) -> None:
        super().__init__()
        self.model = pretrained.load(AutoencoderKLQwenImage, checkpoint / "vae")
        for module in list(self.model.modules()):
            if isinstance(module, QwenImageUpsample) and module.mode == "nearest-exact":
                # Twice as large both take the same pixels, and this one is one operation of a graph.
                module.mode = "nearest"
            for name, child in list(module.named_children()):
                if isinstance(child, QwenImageCausalConv3d):
                    setattr(module, name, _LastTap(child))
        config = self.model.config
        self.mean, self.deviation = (
            nn.Buffer(torch.tensor(values, dtype=torch.float32).view(1, -1, 1, 1), persistent=False)
            for values in (config.latents_mean, config.latents_std)
        )


class Encoder(_Autoencoder):
    """`pixels` (1, 3, H, W) in [-1, 1] -> the mode's patches, normalised, (1, 4 C, h, w)."""

    def forward(self, pixels: Tensor) -> Tensor:
        moments = self.model.quant_conv(self.model.encoder(pixels.to(self.model.dtype)[:, :, None]))
        means = moments[:, : self.model.config.z_dim, 0].float()
        return nn.functional.pixel_unshuffle((means - self.mean) / self.deviation, PATCH)


class Decoder(_Autoencoder):
    """`latents` (1, 4 C, h, w), normalised patches -> `pixels` (1, 3, H, W), about [-1, 1]."""

    def forward(self, latents: Tensor) -> Tensor:
        plain = nn.functional.pixel_shuffle(latents, PATCH) * self.deviation + self.mean
        frame = self.model.post_quant_conv(plain.to(self.model.dtype)[:, :, None])
        pixels: Tensor = self.model.decoder(frame)
        return pixels[:, :, 0].float()


class _LastTap(nn.Module):
    """What a causal convolution in time does to one frame, (1, C, 1, H, W) -> (1, C', 1, H', W')."""

    def __init__(self, convolution: QwenImageCausalConv3d) -> None:
        super().__init__()
        self.weight, self.bias = convolution.weight, convolution.bias  # (C', C, times, p, p), (C')
        self._stride = convolution.stride[1:]
        across, _, down, *_ = convolution._padding
        self._padding = (down, across)

    def forward(self, frame: Tensor) -> Tensor:
        tap = self.weight[:, :, -1]
        return nn.functional.conv2d(frame[:, :, 0], tap, self.bias, self._stride, self._padding)[:, :, None]
