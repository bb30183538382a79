"""A picture as the safety checker sees it: scaled, cropped and normalised as transformers' `CLIPImageProcessor` does.

Without transformers, whose import costs a process more than this model's work.
"""

import json
from dataclasses import asdict, dataclass

import numpy as np
from PIL import Image

from families.interface import Array


@dataclass(frozen=True)
class Preparation:
    """`shortest`: pixels of the scaled picture's shorter side. `crop`: of the square that is cut from its middle.

    `mean`, `deviation`: of levels from 0 to 1, by channel.
    """

    shortest: int
    crop: int
    mean: tuple[float, ...]
    deviation: tuple[float, ...]

    def to_json(self) -> str:
        """The input `safety_rule`."""
        return json.dumps(asdict(self))

    @classmethod
    def of(cls, text: str | bytes) -> "Preparation":
        """From the input `safety_rule`."""
        content = json.loads(text)
        return cls(content["shortest"], content["crop"], tuple(content["mean"]), tuple(content["deviation"]))

    def __call__(self, rgb: Array) -> Array:
        """(H, W, 3) uint8 -> (1, 3, crop, crop) float32."""
        picture = Image.fromarray(rgb)
        width, height = picture.size
        long = self.shortest * max(width, height) // min(width, height)
        size = (self.shortest, long) if width <= height else (long, self.shortest)
        scaled = picture.resize(size, Image.Resampling.BICUBIC)
        left, top = ((side - self.crop) // 2 for side in size)
        cut = np.asarray(scaled.crop((left, top, left + self.crop, top + self.crop)), np.float32) / 255
        normal = (cut - np.array(self.mean, np.float32)) / np.array(self.deviation, np.float32)
        return np.ascontiguousarray(normal.transpose(2, 0, 1)[None])
