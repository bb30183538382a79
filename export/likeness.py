"""How like two pictures of one size are, (H, W, 3) uint8, and how like those of narrowed engines must be."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from export.errors import ExportError

LEAST_PSNR, LEAST_SSIM = 30.0, 0.9
"""Of the held-out edit that is least like the exact one. dB; 1 is equal."""
MOST_PSNR = 99.0
"""Of equal pictures."""
SIGMA = 1.5
"""Pixels: the window of Wang, Bovik, Sheikh, Simoncelli, "Image quality assessment" (2004)."""
C1, C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2

Picture = NDArray[np.uint8]


@dataclass(frozen=True)
class Likeness:
    """By held-out edit: PSNR in dB, and SSIM."""

    psnr: tuple[float, ...]
    ssim: tuple[float, ...]

    @classmethod
    def of(cls, ours: Sequence[Picture], exact: Sequence[Picture]) -> "Likeness":
        """Of pairs of pictures."""
        pairs = list(zip(ours, exact, strict=True))
        return cls(tuple(psnr(*pair) for pair in pairs), tuple(ssim(*pair) for pair in pairs))

    def require(self) -> None:
        """Raises ExportError below the floor."""
        if min(self.psnr) < LEAST_PSNR or min(self.ssim) < LEAST_SSIM:
            floor = f"the floor is {LEAST_PSNR:g} dB and {LEAST_SSIM:g}"
            raise ExportError(
                f"edits come out as far from fp32 as {self}; {floor}; name fewer components with a narrow --precision, "
                "or give --accept-quality; nothing was installed"
            )

    def __str__(self) -> str:
        psnr, ssim = ((min(values), max(values)) for values in (self.psnr, self.ssim))
        return f"PSNR {psnr[0]:.1f} to {psnr[1]:.1f} dB, SSIM {ssim[0]:.3f} to {ssim[1]:.3f}"


def psnr(ours: Picture, exact: Picture) -> float:
    """Peak signal to noise ratio in dB."""
    error = float(np.mean((ours.astype(np.float64) - exact) ** 2))
    return min(MOST_PSNR, 10 * math.log10(255**2 / error)) if error else MOST_PSNR


def ssim(ours: Picture, exact: Picture) -> float:
    """Structural similarity, the mean over pixels and colours."""
    a, b = ours.astype(np.float64), exact.astype(np.float64)

    def smooth(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(gaussian_filter(values, (SIGMA, SIGMA, 0), truncate=3.5))

    mean_a, mean_b = smooth(a), smooth(b)
    covariance = smooth(a * b) - mean_a * mean_b
    variances = smooth(a * a) - mean_a**2 + smooth(b * b) - mean_b**2
    likeness = (2 * mean_a * mean_b + C1) * (2 * covariance + C2)
    return float(np.mean(likeness / ((mean_a**2 + mean_b**2 + C1) * (variances + C2))))
