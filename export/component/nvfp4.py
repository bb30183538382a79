"""NVFP4: numbers of E2M1 in blocks of 16 that share a scale of E4M3, and one float32 scale of the whole tensor.

number x block's scale x tensor's scale, as NVIDIA's TensorRT documents it ("Working with Quantized Types"). E2M1 has 0,
0.5, 1, 1.5, 2, 3, 4 and 6, and their negatives. Knows torch alone.
"""

import torch
from torch import Tensor

BLOCK = 16
"""Numbers of the last axis that share a scale."""
MOST, MOST_SCALE = 6.0, 448.0
"""Largest numbers: of E2M1, of E4M3."""
LEAST_SCALE = 2.0**-9
"""E4M3's least number above 0: a block of zeros has a scale, too."""


def tensor_scale(most: Tensor) -> Tensor:
    """The float32 scale of a tensor whose largest absolute number is `most`: so its blocks' scales are within E4M3."""
    return most.float().clamp(min=1e-12) / (MOST * MOST_SCALE)


def blocks(x: Tensor) -> Tensor:
    """(..., n) -> (..., n / BLOCK, BLOCK), float32."""
    return x.float().reshape(*x.shape[:-1], -1, BLOCK)


def block_scales(x: Tensor, scale: Tensor) -> Tensor:
    """The scales (..., blocks, 1) in E4M3 of `blocks` x, in units of the tensor's `scale`."""
    wanted = x.abs().amax(-1, keepdim=True) / (MOST * scale)
    return wanted.clamp(LEAST_SCALE, MOST_SCALE).to(torch.float8_e4m3fn)


def numbers(x: Tensor, scales: Tensor) -> Tensor:
    """What E2M1 has nearest to x / scales, ties to the even mantissa, as float32."""
    wanted = (x / scales).clamp(-MOST, MOST)
    size = wanted.abs()
    step = torch.where(size < 2, 0.5, torch.where(size < 4, 1.0, 2.0))
    return (wanted / step).round() * step


def narrow(x: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """(..., n) -> numbers (..., blocks, BLOCK) and their scales (..., blocks, 1), the tensor's among them, float32."""
    divided = blocks(x)
    scales = block_scales(divided, scale).float() * scale
    return numbers(divided, scales), scales


def rounded(x: Tensor, scale: Tensor) -> Tensor:
    """x (..., n) as it is computed with, where `scale` is the tensor's: float32."""
    narrowed, scales = narrow(x, scale)
    return (narrowed * scales).flatten(-2)
