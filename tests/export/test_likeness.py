"""How like pictures are, beside scikit-image, and the floor."""

import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from export.errors import ExportError
from export.likeness import Likeness, psnr, ssim

RANDOM = np.random.default_rng(0)
PICTURE = RANDOM.integers(0, 256, (48, 64, 3), np.uint8)


def noisy(by: float) -> "np.ndarray[tuple[int, ...], np.dtype[np.uint8]]":
    return np.clip(PICTURE + RANDOM.normal(0, by, PICTURE.shape), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("by", [1.0, 5.0, 40.0])
def test_equals_scikit_image(by: float) -> None:
    other = noisy(by)
    assert psnr(other, PICTURE) == pytest.approx(peak_signal_noise_ratio(PICTURE, other, data_range=255))
    named = {"channel_axis": 2, "data_range": 255, "gaussian_weights": True, "use_sample_covariance": False}
    whole = structural_similarity(PICTURE, other, full=True, **named)[1]
    assert ssim(other, PICTURE) == pytest.approx(float(whole.mean()), abs=1e-6)


def test_equal_pictures_are_as_like_as_can_be() -> None:
    assert (psnr(PICTURE, PICTURE), ssim(PICTURE, PICTURE)) == (99.0, 1.0)


def test_one_picture_below_the_floor_is_refused_with_what_to_do() -> None:
    Likeness.of([noisy(2)], [PICTURE]).require()
    with pytest.raises(ExportError, match=r"the floor is 30 dB and 0\.9; .* or give --accept-quality"):
        Likeness.of([noisy(2), noisy(30)], [PICTURE, PICTURE]).require()
    with pytest.raises(ExportError, match="as far from fp32 as PSNR 40"):
        Likeness((40.0,), (0.5,)).require()
