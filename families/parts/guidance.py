"""Classifier-free guidance: on text, and on text and picture (eq. 3 of Brooks et al., "InstructPix2Pix", 2023)."""

from dataclasses import dataclass
from typing import ClassVar, Self

import torch

from families.edit import Edit
from families.errors import PARAMETER_INVALID, InvalidEditError
from families.interface import Array

NEGATIVE_PROMPT = ""
"""Of an edit that has none of its own."""


def _sentences(edit: Edit, on: bool, needed: str, negative: str = NEGATIVE_PROMPT) -> list[str]:
    if edit.negative_prompt and not on:
        raise InvalidEditError(PARAMETER_INVALID, f"negative_prompt: needs {needed}")
    return [edit.prompt, edit.negative_prompt or negative] if on else [edit.prompt]


def repeated(array: Array, rows: int) -> Array:
    """(1, ...) -> (rows, ...), which are all the same memory."""
    if rows == 1:
        return array
    same: Array = torch.from_numpy(array).expand(rows, *array.shape[1:]).numpy()
    return same


@dataclass(frozen=True)
class PictureGuidance:
    """How far a prediction is moved towards the text and towards the picture. `text` 1 turns both off."""

    text: float
    image: float

    @classmethod
    def of(cls, edit: Edit) -> "PictureGuidance":
        """An edit's. As in diffusers, guidance needs text above 1 and image of at least 1."""
        on = edit.guidance_scale > 1.0 and edit.image_guidance_scale >= 1.0
        return cls(edit.guidance_scale, edit.image_guidance_scale) if on else cls(1.0, 1.0)

    @property
    def on(self) -> bool:
        """Whether a negative prompt is needed."""
        return self.text != 1.0

    def sentences(self, edit: Edit) -> list[str]:
        """The prompt, and with guidance the negative one. Raises InvalidEditError for one that would not be used."""
        return _sentences(edit, self.on, "guidance_scale above 1 and image_guidance_scale of at least 1")

    @property
    def rows(self) -> int:
        """Rows of one call. At an image scale of 1 the unconditional prediction cancels out: it is not asked for."""
        if not self.on:
            return 1
        return 2 if self.image == 1.0 else 3

    @property
    def text_rows(self) -> list[int]:
        """Which sentence each row sees: 0 the prompt, 1 the negative one."""
        return [0, 1, 1][: self.rows]

    def pictures(self, latents: Array) -> Array:
        """(1, C, h, w) -> (rows, C, h, w): the third row, where there is one, sees no picture."""
        seen = latents.repeat(self.rows, axis=0)
        seen[2:] = 0.0
        return seen

    def combine(self, prediction: Array) -> Array:
        """(rows, C, h, w), rows in the order (text and picture, picture, neither) -> (1, C, h, w)."""
        if self.rows == 1:
            return prediction
        if self.rows == 2:
            with_text, with_picture = prediction[:1], prediction[1:]
            towards_text: Array = with_picture + self.text * (with_text - with_picture)
            return towards_text
        with_text, with_picture, without = prediction[:1], prediction[1:2], prediction[2:]
        combined: Array = without + self.text * (with_text - with_picture) + self.image * (with_picture - without)
        return combined


@dataclass(frozen=True)
class TextGuidance:
    """Classifier-free guidance on text alone, away from a negative prompt. A `scale` of 1 turns it off."""

    scale: float
    NEGATIVE: ClassVar[str] = NEGATIVE_PROMPT

    @classmethod
    def of(cls, edit: Edit, *, known: bool = True) -> Self:
        """An edit's; off for checkpoints that were distilled into knowing none."""
        return cls(edit.guidance_scale if known and edit.guidance_scale > 1.0 else 1.0)

    @property
    def on(self) -> bool:
        """Whether a negative prompt is needed."""
        return self.scale != 1.0

    def sentences(self, edit: Edit) -> list[str]:
        """The prompt, and with guidance the negative one. Raises InvalidEditError for one that would not be used."""
        return _sentences(edit, self.on, "guidance_scale above 1", self.NEGATIVE)

    @property
    def rows(self) -> int:
        """Rows of one call: the prompt's, and the negative prompt's."""
        return 2 if self.on else 1

    def combine(self, prediction: Array) -> Array:
        """(rows, ...) -> (1, ...)."""
        if not self.on:
            return prediction
        with_text, without = prediction[:1], prediction[1:]
        combined: Array = without + self.scale * (with_text - without)
        return combined
