"""Reads the JSON configs of a checkpoint's components. Imports no torch."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from families.errors import BadCheckpointError


def read_config(folder: Path) -> dict[str, Any]:
    """A component's `config.json`. Raises BadCheckpointError."""
    return read_json(folder / "config.json")


def read_json(file: Path) -> dict[str, Any]:
    """A JSON object. Raises BadCheckpointError, naming the file, when it is missing or none."""
    try:
        config = json.loads(file.read_text("utf-8"))
    except FileNotFoundError as error:
        raise BadCheckpointError(f"{file} is missing") from error
    except (OSError, ValueError, RecursionError) as error:
        raise BadCheckpointError(f"{file} cannot be read: {error}") from error
    if not isinstance(config, dict):
        raise BadCheckpointError(f"{file} is not a JSON object")
    return config


def read_configs(checkpoint: Path, *components: str) -> tuple[Mapping[str, Any], ...]:
    """The configs of several components."""
    return tuple(read_config(checkpoint / name) for name in components)


@contextmanager
def fields_of(checkpoint: Path) -> Iterator[None]:
    """A field that is not there or not of its type, as BadCheckpointError that names it."""
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise BadCheckpointError(f"{checkpoint}: a config lacks or misstates {error}") from error


def require(checkpoint: Path, *faults: tuple[bool, str]) -> None:
    """Raises BadCheckpointError with the words of the first fault that is there."""
    for there, words in faults:
        if there:
            raise BadCheckpointError(f"{checkpoint}: {words}")
