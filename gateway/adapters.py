"""What the field `model` may name: a model, and adapters of it, each with a scale of its own, as in `sdxl/oil:0.7+ink`.

Whether there are such is not known here.
"""

import re
from typing import Final

from gateway.errors import KINDS, PublicError
from gateway.targets import BASE_MODEL, NAME

MOST: Final = 4
MAX_SCALE: Final = 10.0
SCALE: Final = re.compile(r"-?[0-9]{1,9}(\.[0-9]{1,9})?", re.ASCII)
OF: Final = "/"


def split(model: str) -> tuple[str, str]:
    """The name before the first `/`, "" without one, and the rest."""
    name, slash, rest = model.partition(OF)
    return (name, rest) if slash and NAME.fullmatch(name) else ("", model)


def check(model: str) -> None:
    """Raises `PublicError`, naming the part of `model` that is wrong. Empty, and `base` alone, are the base model."""
    name, adapters = split(model)
    if adapters == BASE_MODEL or not (name or adapters):
        return
    if adapters.count("+") >= MOST:  # before they are taken apart: of a whole body's there would be gigabytes
        raise _invalid(f"at most {MOST} adapters in one request")
    parts = [part.partition(":") for part in adapters.split("+")]
    for number, (route, _, _) in enumerate(parts, 1):
        where = f" in part {number} of {len(parts)}" if len(parts) > 1 else ""
        if not route:
            raise _invalid(f"the name of an adapter is missing{where}")
        if not NAME.fullmatch(route):  # not repeated: it may be anything
            message = f"{KINDS['unknown_model'].message} Names have letters, digits, dots, - and _ alone: look{where}."
            raise PublicError("unknown_model", param="model", message=message if where else None)
    routes = [route for route, _, _ in parts]
    for route, colon, scale in parts:
        if route == BASE_MODEL:
            raise _invalid(f"{BASE_MODEL} is the model without adapters, and stands alone")
        if routes.count(route) > 1:
            raise _invalid(f"{route} is there twice; give it one scale instead")
        if colon and not (SCALE.fullmatch(scale) and abs(float(scale)) <= MAX_SCALE):
            raise _invalid(f"the scale of {route} must be a number from -{MAX_SCALE:g} to {MAX_SCALE:g}")


def _invalid(reason: str) -> PublicError:
    return PublicError("parameter_invalid", param="model", message=f"model: {reason}.")
