"""What edits with an adapter have where callers say nothing: some want few steps, no guidance, and their own shift.

--adapter-defaults lightning=steps:4,guidance:1,shift:3
"""

import math
import re
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

from export.errors import BadInputError
from families.edit import MAX_GUIDANCE, MAX_STEPS

if TYPE_CHECKING:
    from families.schedules import NoiseSchedules

AdapterDefaults = Mapping[str, Mapping[str, float]]
"""Route -> `num_inference_steps`, `guidance_scale`, `shift`: those that are given."""
FLAG = "--adapter-defaults"
NAMES = {"steps": "num_inference_steps", "guidance": "guidance_scale", "shift": "shift"}
SHIFTS = (0.01, 100.0)
BOUNDS = {"steps": (1.0, float(MAX_STEPS)), "guidance": (1.0, MAX_GUIDANCE), "shift": SHIFTS}
NUMBER = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?", re.ASCII)


def parse(arguments: Sequence[str]) -> AdapterDefaults:
    """From the command line. Raises BadInputError, naming what is wrong."""
    made: dict[str, dict[str, float]] = {}
    for argument in arguments:
        route, equals, said = argument.partition("=")
        if not equals or route in made:
            why = "is there twice" if route in made else "must be ROUTE=steps:N,guidance:X,shift:Y"
            raise BadInputError(f"{FLAG} {argument} {why}")
        parts = [_default(argument, part) for part in said.split(",")]
        made[route] = dict(parts)
        if len(made[route]) < len(parts):
            raise BadInputError(f"{FLAG} {argument} has one of {', '.join(NAMES)} twice")
    return made


def _default(argument: str, part: str) -> tuple[str, float]:
    name, _, text = part.partition(":")
    if name not in NAMES:
        raise BadInputError(f"{FLAG} {argument}: {name!r} is none of {', '.join(NAMES)}")
    least, most = BOUNDS[name]
    value = float(text) if NUMBER.fullmatch(text) else math.nan
    if not least <= value <= most or (name == "steps" and value % 1):
        kind = "a whole number" if name == "steps" else "a number"
        raise BadInputError(f"{FLAG} {argument}: {name} must be {kind} from {least:g} to {most:g}")
    return NAMES[name], value


def require(
    given: AdapterDefaults, routes: Collection[str], steps: Collection[int], schedules: "NoiseSchedules"
) -> None:
    """Raises BadInputError for a route that is none, or steps that the sampler cannot make; BadCheckpointError for a
    shift that the schedule has not."""
    for route, own in given.items():
        if route not in routes:
            raise BadInputError(f"{FLAG} {route}: no --adapter has that route")
        if own.get("num_inference_steps", min(steps)) not in steps:
            raise BadInputError(f"{FLAG} {route}: the sampler cannot make {own['num_inference_steps']:g} steps")
        schedules.shifted(own.get("shift", 0.0))
