"""Rendered pictures that widen the training set: cut-out objects and shapes on gradients or blurred photos."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter

Pixels = npt.NDArray[np.uint8]


class Scenes:
    """Draws scenes from the cut-outs (RGBA PNG files) of one folder."""

    def __init__(self, folder: Path) -> None:
        self.objects = [Image.open(path).convert("RGBA") for path in sorted(folder.glob("*.png"))]

    def draw(self, rng: np.random.Generator, size: int, photo: Image.Image) -> Image.Image:
        """A square scene of `size` pixels; `photo` may serve as its blurred background."""
        if rng.random() < 0.5:
            scene = photo.resize((size, size)).filter(ImageFilter.GaussianBlur(size / 30)).convert("RGB")
        else:
            corners = rng.integers(0, 256, (2, 2, 3), dtype=np.uint8)
            scene = Image.fromarray(corners, "RGB").resize((size, size), Image.Resampling.BICUBIC)
        for _ in range(rng.integers(0, 3)):
            self._draw_shape(rng, scene)
        for _ in range(rng.integers(1, 4)):
            item = self.objects[rng.integers(len(self.objects))]
            scale = size * rng.uniform(0.3, 0.9) / max(item.size)
            item = item.resize((max(1, round(item.width * scale)), max(1, round(item.height * scale))))
            place = (int(rng.integers(-item.width // 3, size)), int(rng.integers(-item.height // 3, size)))
            scene.paste(item, place, item)
        return scene

    @staticmethod
    def _draw_shape(rng: np.random.Generator, scene: Image.Image) -> None:
        draw = ImageDraw.Draw(scene)
        colour = tuple(int(channel) for channel in rng.integers(0, 256, 3))
        left, top = rng.integers(-20, scene.width, 2)
        box = [
            int(left),
            int(top),
            int(left + rng.integers(10, scene.width)),
            int(top + rng.integers(10, scene.height)),
        ]
        [draw.rectangle, draw.ellipse][rng.integers(2)](box, fill=colour)
