"""What the field `model` may name: adapters, each with a scale of its own, as in `oil:0.7+ink`.

Whether there are such is for Triton to say.
"""

import re
from typing import Final

from gateway.errors import KINDS, PublicError

BASE_MODEL: Final = "base"
MOST: Final = 4
MAX_SCALE: Final = 10.0
ROUTE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", re.ASCII)
SCALE: Final = re.compile(r"-?[0-9]{1,9}(\.[0-9]{1,9})?", re.ASCII)


def check(model: str) -> None:
    """Raises `PublicError`, naming the part of `model` that is wrong. Empty, and `base` alone, are the base model."""
    if model in ("", BASE_MODEL):
        return
    parts = [part.partition(":") for part in model.split("+")]
    for number, (route, _, _) in enumerate(parts, 1):
        where = f" in part {number} of {len(parts)}" if len(parts) > 1 else ""
        if not route:
            raise _invalid(f"the name of an adapter is missing{where}")
        if not ROUTE.fullmatch(route):  # not repeated: it may be anything
            message = f"{KINDS['unknown_model'].message} Names have letters, digits, dots, - and _ alone: look{where}."
            raise PublicError("unknown_model", param="model", message=message if where else None)
    routes = [route for route, _, _ in parts]
    if len(parts) > MOST:
        raise _invalid(f"at most {MOST} adapters in one request")
    for route, colon, scale in parts:
        if route == BASE_MODEL:
            raise _invalid(f"{BASE_MODEL} is the model without adapters, and stands alone")
        if routes.count(route) > 1:
            raise _invalid(f"{route} is there twice; give it one scale instead")
        if colon and not (SCALE.fullmatch(scale) and abs(float(scale)) <= MAX_SCALE):
            raise _invalid(f"the scale of {route} must be a number from -{MAX_SCALE:g} to {MAX_SCALE:g}")


def _invalid(reason: str) -> PublicError:
    return PublicError("parameter_invalid", param="model", message=f"model: {reason}.")
