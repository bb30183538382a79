"""What the Python models read of the environment. Knows no setting."""

from collections.abc import Mapping


def count(environment: Mapping[str, str], name: str, default: int) -> int:
    """A variable, where it is set. Raises ValueError, naming it, unless it is a whole number of at least 1."""
    value = environment.get(name, str(default))
    if not value.isdecimal() or int(value) < 1:
        raise ValueError(f"{name} must be a whole number of at least 1, and is {value!r}")
    return int(value)
