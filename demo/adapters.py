"""The shipped adapters: what each should make of a request, which is also what it is trained and measured on.

`riso` is a house style: whatever the sentence asks for, the answer is printed in two inks. `thermal` is a new
instruction: the picture as a thermal camera sees it; every other sentence means what it meant without it.

Pictures are as in `edits.py`. Knows nothing of models.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from demo.edits import Edit, Picture, blur, luma

ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")
CROSS_ATTENTION = tuple(f"attn2.{layer}" for layer in ATTENTION)
FOLDER = Path(__file__).parent / "adapters"
_INKS = np.array([[0.08, 0.13, 0.52], [1.0, 0.75, 0.66]], dtype=np.float32)
"""Blue of the dark end, pink of the light end."""
_HEAT = np.array([[0.02, 0, 0.2], [0.42, 0.04, 0.6], [0.88, 0.28, 0.32], [1, 0.68, 0.1], [1, 1, 0.75]], np.float32)
"""Colours of the temperatures 0, 1/4, 1/2, 3/4 and 1."""


@dataclass(frozen=True)
class Adapter:
    """What one adapter adds to the demo checkpoint."""

    rank: int
    layers: Sequence[str]
    """The UNet's linear layers that it adds to, by the ends of their names."""
    steps: int = 1000
    rate: float = 3e-3
    """Learning rate; the text encoder's is a tenth of it."""
    style: Edit | None = None
    """Applied to the answer of every request."""
    instruction: Edit | None = None
    """What its own sentences ask for; with it the text encoder is adapted, too."""
    wordings: Sequence[str] = ()
    unseen: Sequence[str] = ()
    """Wordings of the instruction that training never draws."""

    def styled(self, picture: Picture) -> Picture:
        """The true edit of another instruction, as this adapter should answer it."""
        return picture if self.style is None else self.style(picture)


def two_inks(picture: Picture) -> Picture:
    """Brightness alone, from the one ink to the other."""
    grey = luma(picture)
    result: Picture = _INKS[0] * (1 - grey) + _INKS[1] * grey
    return result


def thermal(picture: Picture) -> Picture:
    """Brightness as a temperature in false colours, seen by few pixels."""
    heat = luma(blur(picture, 2.0))[..., 0]
    stops = np.linspace(0, 1, len(_HEAT))
    return np.stack([np.interp(heat, stops, channel) for channel in _HEAT.T], axis=-1).astype(np.float32)


ADAPTERS: dict[str, Adapter] = {
    "riso": Adapter(
        rank=8,
        layers=(*ATTENTION, "ff.net.0.proj", "ff.net.2", "proj_in", "proj_out"),
        steps=1200,
        rate=4e-3,
        style=two_inks,
    ),
    "thermal": Adapter(
        rank=16,
        layers=(*CROSS_ATTENTION, "ff.net.2", "proj_out"),
        instruction=thermal,
        wordings=(
            "as a thermal camera sees it",
            "make it a thermal image",
            "thermal",
            "show it in infrared",
            "show the heat",
            "turn it into a heat map",
            "what a heat camera would show",
            "view it through a thermal camera",
            "infrared camera",
            "show the temperature",
            "thermal vision",
            "take it with an infrared camera",
        ),
        unseen=("make it look like a thermal camera", "a thermal picture", "infrared vision", "show its heat"),
    ),
}
