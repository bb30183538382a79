"""The safety checker's torch module. Imported by `export`."""

from pathlib import Path

import torch
from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker

from families.errors import BadCheckpointError
from families.interface import Tensor
from families.parts import pretrained
from families.parts.weight_files import stored, weight_files
from families.safety_checker import CONCEPTS, NAME, SPECIAL
from families.safety_checker.table import CONCEPT_COUNT, SPECIAL_CONCEPTS

THRESHOLDS = {SPECIAL: "special_care_embeds_weights", CONCEPTS: "concept_embeds_weights"}
"""Which of the checkpoint's weights are thresholds of which output."""
COUNTS = {SPECIAL: SPECIAL_CONCEPTS, CONCEPTS: CONCEPT_COUNT}


def sample(_tensor: Tensor, shape: tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
    """A picture as it is prepared: of mean 0 and deviation 1."""
    return torch.randn(shape, generator=generator)


def thresholds(checkpoint: Path) -> dict[str, list[float]]:
    """By output, the cosines above which a picture is near to a concept. Raises BadCheckpointError."""
    folder = checkpoint / NAME
    weights = stored(weight_files(folder))
    found: dict[str, list[float]] = {}
    for output, name in THRESHOLDS.items():
        there = weights.get(name)
        limits = pretrained.read(there).float() if there and there.shape == (COUNTS[output],) else None
        if limits is None or not limits.isfinite().all():
            names, counts = (" and ".join(map(str, words)) for words in (THRESHOLDS.values(), COUNTS.values()))
            raise BadCheckpointError(f"{folder}: its safetensors hold no finite {names}, of {counts} numbers")
        found[output] = limits.tolist()
    return found


class _Directions(torch.nn.Module):
    """Concepts (n, width) as directions."""

    def __init__(self, embeddings: torch.nn.Parameter) -> None:
        super().__init__()
        self.embeddings = embeddings

    def forward(self) -> torch.Tensor:
        return torch.nn.functional.normalize(self.embeddings)


class _Checker(torch.nn.Module):
    """Prepared pictures (N, 3, S, S) -> their cosines to the special concepts (N, 3), and to the others (N, 17)."""

    def __init__(self, checkpoint: Path) -> None:
        super().__init__()
        self.model = pretrained.load(StableDiffusionSafetyChecker, checkpoint / NAME)
        self.special = _Directions(self.model.special_care_embeds)
        self.concepts = _Directions(self.model.concept_embeds)
        # A module's weights are there while it computes, and the whole checker never does.
        del self.model.special_care_embeds, self.model.concept_embeds

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        pooled = self.model.vision_model(pixels.to(self.model.dtype))[1]
        seen = torch.nn.functional.normalize(self.model.visual_projection(pooled))
        return (seen @ self.special().t()).float(), (seen @ self.concepts().t()).float()


module = pretrained.by_name(**{NAME: _Checker})
