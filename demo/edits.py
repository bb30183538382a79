"""The true edits: each kind of instruction as a deterministic function of a picture.

Pictures are (H, W, 3), float32, in [0, 1]; every function returns a new one of the same size. Strengths are chosen so
that any two edits of one photograph are well apart. Blur, mosaic, pencil and border are measured in pixels; fog,
vignette and shapes are relative to the picture. Knows nothing of wordings or models.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Picture = npt.NDArray[np.float32]
Edit = Callable[[Picture], Picture]

COLOURS: dict[str, tuple[float, float, float]] = {
    "red": (0.85, 0.1, 0.1),
    "green": (0.1, 0.65, 0.2),
    "blue": (0.1, 0.25, 0.85),
    "yellow": (0.95, 0.85, 0.1),
    "white": (1.0, 1.0, 1.0),
    "black": (0.0, 0.0, 0.0),
}
SHAPES = ("circle", "square", "triangle")
PLACES: dict[str, tuple[float, float]] = {
    "middle": (0.5, 0.5),
    "top left": (0.25, 0.25),
    "top right": (0.25, 0.75),
    "bottom left": (0.75, 0.25),
    "bottom right": (0.75, 0.75),
}
"""Centre of a shape: fraction of the height, fraction of the width."""

SHAPE_RADIUS = 0.19
"""Half of a shape's side, as a fraction of the picture's shorter side."""
BORDER = 16
BLOCK = 8
_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)
_SEPIA = np.array([[0.393, 0.769, 0.189], [0.349, 0.686, 0.168], [0.272, 0.534, 0.131]], dtype=np.float32)


@dataclass(frozen=True)
class Kind:
    """One thing that can be asked for; `colour`, `shape` and `place` are empty where they do not apply."""

    name: str
    colour: str = ""
    shape: str = ""
    place: str = ""

    def __str__(self) -> str:
        return " ".join(part for part in (self.colour, self.shape or self.name, self.place) if part)


def true_edit(kind: Kind, picture: Picture) -> Picture:
    """What the picture should look like once `kind` has been applied."""
    if kind.name == "border":
        return border(picture, kind.colour)
    if kind.name == "shape":
        return shape(picture, kind.colour, kind.shape, kind.place)
    return np.clip(FILTERS[kind.name](picture), 0, 1).astype(np.float32)


def luma(picture: Picture) -> Picture:
    """Brightness of each pixel, (H, W, 1)."""
    return (picture @ _LUMA)[..., None]


def blur(picture: Picture, sigma: float) -> Picture:
    """Gaussian blur, edges repeated."""
    reach = int(3 * sigma + 0.5)
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2).astype(np.float32)
    kernel /= kernel.sum()
    for axis in (0, 1):
        padding = [(0, 0)] * picture.ndim
        padding[axis] = (reach, reach)
        padded = np.pad(picture, padding, mode="edge")
        length = picture.shape[axis]
        picture = sum(w * padded.take(range(i, i + length), axis) for i, w in enumerate(kernel))
    return picture


def saturated(picture: Picture, amount: float) -> Picture:
    """Colourfulness scaled by `amount` around the grey of each pixel."""
    grey = luma(picture)
    return grey + amount * (picture - grey)


def pencil(picture: Picture) -> Picture:
    """Dark strokes where brightness changes, on white paper."""
    grey = luma(blur(picture, 0.8))
    strokes = np.clip((blur(grey, 4.0) - grey) * 5.0 + 0.04, 0, 0.85)
    return np.repeat(1.0 - strokes, 3, axis=2)


def mosaic(picture: Picture) -> Picture:
    """Squares of BLOCK pixels, each of its mean colour."""
    height, width, _ = picture.shape
    padded = np.pad(picture, ((0, -height % BLOCK), (0, -width % BLOCK), (0, 0)), mode="edge")
    rows, columns = padded.shape[0] // BLOCK, padded.shape[1] // BLOCK
    means = padded.reshape(rows, BLOCK, columns, BLOCK, 3).mean(axis=(1, 3))
    result: Picture = means.repeat(BLOCK, 0).repeat(BLOCK, 1)[:height, :width]
    return result


def posterise(picture: Picture) -> Picture:
    """Three levels of brightness, details smoothed away."""
    smooth = blur(picture, 3.0)
    grey = luma(smooth)
    result: Picture = smooth + np.round(grey * 2) / 2 - grey
    return result


def vignette(picture: Picture) -> Picture:
    """Black corners, untouched middle."""
    y, x = _axes(picture)
    distance = np.sqrt((y - 0.5) ** 2 + (x - 0.5) ** 2) / np.sqrt(0.5)
    result: Picture = picture * np.clip(1.65 - 1.75 * distance, 0, 1)[..., None]
    return result


def fog(picture: Picture) -> Picture:
    """Light grey haze, thicker towards the top."""
    y, x = _axes(picture)
    haze = (0.82 - 0.37 * y + 0 * x)[..., None]
    result: Picture = saturated(picture, 0.6) * (1 - haze) + haze * 0.86
    return result


def night(picture: Picture) -> Picture:
    """Dark and blue."""
    return saturated(picture, 0.25) * _array([0.22, 0.3, 0.58]) + _array([0, 0, 0.06])


def border(picture: Picture, colour: str) -> Picture:
    """A frame of BORDER pixels, painted over the edge."""
    framed = np.empty_like(picture)
    framed[:] = COLOURS[colour]
    framed[BORDER:-BORDER, BORDER:-BORDER] = picture[BORDER:-BORDER, BORDER:-BORDER]
    return framed


def shape(picture: Picture, colour: str, form: str, place: str) -> Picture:
    """A filled shape, its edge one pixel soft."""
    height, width, _ = picture.shape
    radius = SHAPE_RADIUS * min(height, width)
    y, x = np.mgrid[:height, :width].astype(np.float32) + 0.5
    y, x = y - PLACES[place][0] * height, x - PLACES[place][1] * width
    if form == "circle":
        outside = np.hypot(y, x) - radius
    elif form == "square":
        outside = np.maximum(abs(y), abs(x)) - 0.9 * radius
    else:
        outside = np.maximum(y - radius, (2 * abs(x) - y - radius) / np.sqrt(5))
    cover = np.clip(0.5 - outside, 0, 1)[..., None].astype(np.float32)
    result: Picture = picture * (1 - cover) + cover * _array(COLOURS[colour])
    return result


FILTERS: dict[str, Edit] = {
    "black and white": lambda picture: np.repeat(luma(picture), 3, axis=2),
    "sepia": lambda picture: picture @ _SEPIA.T,
    "inverted": lambda picture: 1 - picture,
    "brighter": lambda picture: np.sqrt(np.clip(picture, 0, 1)) * 0.9 + 0.1,
    "darker": lambda picture: picture * 0.42,
    "warmer": lambda picture: picture * _array([1.05, 0.92, 0.55]) + _array([0.12, 0.02, 0]),
    "cooler": lambda picture: picture * _array([0.55, 0.9, 1.05]) + _array([0, 0.02, 0.14]),
    "vivid": lambda picture: (saturated(picture, 2.2) - 0.5) * 1.3 + 0.5,
    "faded": lambda picture: saturated(picture, 0.4) * 0.5 + 0.28,
    "blurred": lambda picture: blur(picture, 4.5),
    "pencil sketch": pencil,
    "pixelated": mosaic,
    "posterised": posterise,
    "vignette": vignette,
    "fog": fog,
    "night": night,
}

KINDS: tuple[Kind, ...] = (
    *(Kind(name) for name in FILTERS),
    *(Kind("border", colour) for colour in COLOURS),
    *(Kind("shape", colour, form, place) for colour in COLOURS for form in SHAPES for place in PLACES),
)


def _array(values: Sequence[float]) -> Picture:
    return np.array(values, dtype=np.float32)


def _axes(picture: Picture) -> tuple[Picture, Picture]:
    """Height and width coordinates of the pixels, (H, 1) and (1, W), from 0 to 1."""
    height, width, _ = picture.shape
    return (
        ((np.arange(height, dtype=np.float32) + 0.5) / height)[:, None],
        ((np.arange(width, dtype=np.float32) + 0.5) / width)[None],
    )
