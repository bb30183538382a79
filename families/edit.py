"""One edit as it arrives at Triton, checked: every bound of the tensor contract stands here, once.

Knows nothing of Triton, nor of what a family makes of the values.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from families.errors import PARAMETER_INVALID, PROMPT_INVALID, UNKNOWN_MODEL, InvalidEditError

MAX_STEPS = 50
MAX_GUIDANCE = 100.0
MAX_PROMPT_CHARS = 10_000


@dataclass(frozen=True)
class Edit:
    """The inputs of `edit` that `preprocess` reads; `images` are encoded files."""

    images: tuple[bytes, ...]
    prompt: str
    num_inference_steps: int
    guidance_scale: float
    image_guidance_scale: float
    model: str

    def __post_init__(self) -> None:
        """Raises InvalidEditError for a value outside the contract."""
        if not self.prompt.strip() or "\0" in self.prompt or len(self.prompt) > MAX_PROMPT_CHARS:
            raise InvalidEditError(PROMPT_INVALID, f"prompt must be 1 to {MAX_PROMPT_CHARS} characters without NUL")
        if not 1 <= self.num_inference_steps <= MAX_STEPS:
            raise InvalidEditError(PARAMETER_INVALID, f"num_inference_steps must be 1 to {MAX_STEPS}")
        for name in ("guidance_scale", "image_guidance_scale"):
            scale = getattr(self, name)
            if not (math.isfinite(scale) and 0 <= scale <= MAX_GUIDANCE):
                raise InvalidEditError(PARAMETER_INVALID, f"{name} must be 0 to {MAX_GUIDANCE:g}")

    def adapter(self, routes: Sequence[str]) -> int:
        """Index of its adapter among the export's `routes`, counted from 1; 0 for none. Raises InvalidEditError."""
        if not self.model:
            return 0
        if self.model not in routes:
            known = ", ".join(routes) or "none"
            raise InvalidEditError(
                UNKNOWN_MODEL, f"there is no such model; adapters: {known}; empty for the base model"
            )
        return routes.index(self.model) + 1
