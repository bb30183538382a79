"""Random inputs that look like those of an edit, for the comparison of engines with torch."""

import torch

from families.interface import PIXELS, Tensor


def sample_latents(tensor: Tensor, shape: tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
    """Token ids below 256, timesteps of [0, 1000), pixels of [-1, 1], unit noise for the rest."""
    if tensor.dtype == "INT64":
        return torch.randint(0, 256, shape, generator=generator)
    uniform = torch.rand(shape, generator=generator)
    if tensor.name == "timestep":
        return uniform * 999
    return uniform * 2 - 1 if tensor.name == PIXELS else torch.randn(shape, generator=generator)
