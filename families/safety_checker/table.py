"""The safety checker's engine, and what else is known of it: no torch."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from families.errors import BadCheckpointError
from families.interface import Component, Range, Tensor
from families.parts.configs import fields_of, read_json, require
from families.safety_checker import CONCEPTS, NAME, PIXELS, SPECIAL
from families.safety_checker.picture import Preparation

CLASS = "StableDiffusionSafetyChecker"
PROCESSOR = "feature_extractor/preprocessor_config.json"
BICUBIC = 3
"""In Pillow's numbering."""
RESCALE = 1 / 255
LARGEST_SIDE = 4096
FARTHEST = 1e6
"""Of means from 0, and of deviations and their inverses."""
PICTURES, MOST_PICTURES = "pictures", 4
"""Of one call, which by an edit has one."""
SPECIAL_CONCEPTS, CONCEPT_COUNT = 3, 17


def component(checkpoint: Path) -> Component:
    """The engine. Its `weights` are an absolute path, for they are of another checkpoint.

    Raises BadCheckpointError where `checkpoint` has no such checker, or one whose pictures have another size.
    """
    side = _side(checkpoint)
    return Component(
        name=NAME,
        role="encoder",
        weights=str((checkpoint / NAME).resolve()),
        inputs=(Tensor(PIXELS, "FP32", (PICTURES, 3, side, side)),),
        outputs=(
            Tensor(SPECIAL, "FP32", (PICTURES, SPECIAL_CONCEPTS)),
            Tensor(CONCEPTS, "FP32", (PICTURES, CONCEPT_COUNT)),
        ),
        ranges={PICTURES: Range(1, 1, MOST_PICTURES)},
        shapes=({PICTURES: 1}, {PICTURES: 2}, {PICTURES: MOST_PICTURES}),
        precisions=("fp32",),  # thresholds lie thousandths apart
    )


def preparation(checkpoint: Path) -> Preparation:
    """How pictures are prepared. Raises BadCheckpointError for a processor that does more, or less, or otherwise."""
    file = checkpoint / PROCESSOR
    given = read_json(file)
    with fields_of(file):
        steps = [given[f"do_{step}"] is True for step in ("resize", "center_crop", "normalize")]
        shortest, sides = _edge(given["size"], "shortest_edge"), _sides(given["crop_size"])
        levels = [tuple(float(level) for level in given[name]) for name in ("image_mean", "image_std")]
        usual = all(steps) and int(given["resample"]) == BICUBIC and given.get("do_rescale", True) is True
        rescale = float(given.get("rescale_factor", RESCALE))
    crop = sides[0]
    require(file, (sides != (crop, crop), f"crop_size is {sides[0]} x {sides[1]}, and must be a square"))
    if not usual or [len(level) for level in levels] != [3, 3] or not 0 < crop <= shortest:
        raise BadCheckpointError(f"{file} is not CLIP's: scale bicubically, cut a square from the middle, normalise")
    mean, deviation = levels
    require(
        file,
        (shortest > LARGEST_SIDE, f"size is {shortest}, and may be {LARGEST_SIDE} at most"),
        (not math.isclose(rescale, RESCALE, rel_tol=1e-6), f"rescale_factor is {rescale:g}, and must be 1/255"),
        (not all(abs(level) <= FARTHEST for level in mean), "image_mean is not three finite numbers"),
        (
            not all(1 / FARTHEST <= level <= FARTHEST for level in deviation),
            "image_std is not three finite numbers above 0",
        ),
    )
    return Preparation(shortest, crop, mean, deviation)


def _edge(given: Any, name: str) -> int:
    return int(given[name] if isinstance(given, Mapping) else given)


def _sides(given: Any) -> tuple[int, int]:
    return _edge(given, "width"), _edge(given, "height")


def _side(checkpoint: Path) -> int:
    config, crop = read_json(checkpoint / NAME / "config.json"), preparation(checkpoint).crop
    vision = config.get("vision_config")
    if not isinstance(vision, dict):
        raise BadCheckpointError(f"{checkpoint / NAME / 'config.json'}: vision_config is no JSON object")
    with fields_of(checkpoint / NAME):
        kinds, side = config["architectures"], int(vision.get("image_size", 224))
    if kinds != [CLASS]:
        raise BadCheckpointError(f"{checkpoint / NAME} is a {kinds}, and not a {CLASS}")
    if crop != side:
        raise BadCheckpointError(f"{checkpoint}: its pictures are cut to {crop} pixels, its checker takes {side}")
    return side
