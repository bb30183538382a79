"""What the Python models know: the export, from the file that it leaves, and the environment."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from families.step_cache import OFF

FILE = "settings.json"


@dataclass(frozen=True)
class Settings:
    """What `edit_stream` must know of an export."""

    family: str
    scheduler: str
    """Class of the noise schedule."""
    steps: tuple[int, ...]
    """Numbers of steps with which the schedule works, ascending."""
    num_inference_steps: int
    guidance_scale: float
    image_guidance_scale: float
    max_images: int
    max_pixels: int
    """Of the largest answer."""
    size_rule: str
    """By which a picture's working size follows from its own, as JSON."""
    canvas: str
    """The size rule of pictures from text alone, as JSON; "" where there are none."""
    negative_prompt: bool
    """Whether an edit may have one of its own."""
    max_rows: int
    """Most rows of one denoiser call."""
    max_tokens: int
    """Most rows x tokens of one denoiser call."""
    adapters: tuple[str, ...]
    """Routes, in the bank's order."""
    banks: Mapping[str, tuple[int, ...]]
    """Components with a bank of adapters: those that change the component, by their places in the bank, from 1."""
    outputs: Mapping[str, tuple[str, ...]]
    """Of every model that `edit_stream` calls."""
    own: Mapping[str, Any]
    """The family's."""
    shift: float = 0.0
    """Of the noise schedule, whatever the picture's size; 0 for the checkpoint's own."""
    adapter_defaults: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """By route, what takes the place of `num_inference_steps`, `guidance_scale` and `shift` above."""
    safety: Mapping[str, Any] | None = None
    """How the safety checker's pictures are prepared, and its thresholds, by the names of its tensors; None without."""
    cache: str = OFF
    """One of `families.step_cache.CACHES`, of edits that name none."""

    @classmethod
    def read(cls, folder: Path) -> "Settings":
        """Those kept in an export's folder. Raises OSError, ValueError or TypeError for another file."""
        return cls.of(json.loads((folder / FILE).read_text("utf-8")))

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> "Settings":
        """From what `json` gives."""
        lists = {name: tuple(content[name]) for name in ("steps", "adapters")}
        tables = {
            name: {model: tuple(entries) for model, entries in dict(content[name]).items()}
            for name in ("banks", "outputs")
        }
        return cls(**{**content, **lists, **tables})

    def text(self) -> str:
        """The file's content."""
        return json.dumps(asdict(self), indent=1) + "\n"


def count(environment: Mapping[str, str], name: str, default: int) -> int:
    """A variable that is set and not empty. Raises ValueError, naming it, unless it is a whole number of at least 1."""
    value = environment.get(name) or str(default)
    if not value.isdecimal() or int(value) < 1:
        raise ValueError(f"{name} must be a whole number of at least 1, and is {value!r}")
    return int(value)
