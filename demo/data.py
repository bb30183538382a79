"""Random crops of the training pictures. The same seed gives the same crops; knows nothing of models."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from demo.edits import Picture
from demo.scenes import Scenes

SCENE_SHARE = 0.2


class Crops:
    """Draws crops from `folder/train` and scenes from `folder/scenery`, both written by `demo.photos`."""

    def __init__(self, folder: Path) -> None:
        self.photos = [Image.open(path).convert("RGB") for path in sorted((folder / "train").glob("*.png"))]
        self.scenes = Scenes(folder / "scenery")

    def draw(self, rng: np.random.Generator, height: int, width: int) -> Picture:
        """One crop, (height, width, 3) in [0, 1]: any zoom that does not enlarge, half mirrored, some recoloured."""
        photo = self.photos[rng.integers(len(self.photos))]
        if rng.random() < SCENE_SHARE:
            photo = self.scenes.draw(rng, max(height, width), photo)
        largest = min(photo.width / width, photo.height / height)
        zoom = largest if largest <= 1 else rng.uniform(max(1.0, 0.4 * largest), largest)
        left = rng.uniform(0, photo.width - zoom * width)
        top = rng.uniform(0, photo.height - zoom * height)
        box = (left, top, min(left + zoom * width, photo.width), min(top + zoom * height, photo.height))
        crop = photo.resize((width, height), Image.Resampling.BILINEAR, box=box, reducing_gap=2.0)
        picture = np.asarray(crop, dtype=np.float32) / 255
        if rng.random() < 0.5:
            picture = picture[:, ::-1]
        if rng.random() < 0.3:
            picture = np.clip(picture ** rng.uniform(0.7, 1.4) * rng.uniform(0.8, 1.15, 3), 0, 1)
        return np.ascontiguousarray(picture, dtype=np.float32)


def as_tensor(pictures: list[Picture]) -> Tensor:
    """Pictures in [0, 1] as (N, 3, H, W) in [-1, 1]."""
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).contiguous() * 2 - 1


def as_pictures(pixels: Tensor) -> list[Picture]:
    """The reverse of `as_tensor`, clipped."""
    pictures = (pixels.detach().float() / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1).numpy()
    return list(pictures)
