"""Whether a model repository can be served here: asked before Triton starts, which would say it badly."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from backends.compatibility import incompatibilities
from embedded.errors import EmbeddedError

if TYPE_CHECKING:
    from pathlib import Path

SERVED = ("openvino", "tensorrt_rtx")
"""Engine kinds that the embedded Triton has a backend for."""

_STEP = re.compile(r"""^[^#\n]*\bmodel_name\s*:\s*["']([^"']+)""", re.MULTILINE)


def check_repository(repository: Path) -> Path:
    """The repository's absolute path, if it holds at least one model.

    Raises:
        EmbeddedError: it does not exist, holds no model, lacks one that its ensembles need, or has engines that were
            made for another machine, or by an earlier version; says what to do.
    """
    hint = "run `make export` to build it"
    if not repository.is_dir():
        raise EmbeddedError(f"there is no model repository at {repository}: {hint}")
    if not any(repository.glob("*/config.pbtxt")):
        raise EmbeddedError(f"the model repository {repository} holds no model: {hint}")
    folders = [entry for entry in repository.iterdir() if entry.is_dir()]
    unwritten = {folder.name for folder in folders if not (folder / "config.pbtxt").exists()}
    missing = sorted(unwritten | _steps(repository) - {entry.name for entry in repository.iterdir()})
    if missing:
        raise EmbeddedError(f"the model repository {repository} has no {', '.join(missing)} yet: {hint}")
    dangling = sorted(entry.name for entry in repository.iterdir() if entry.is_symlink() and not entry.exists())
    if dangling:
        raise EmbeddedError(f"{repository / dangling[0]} leads nowhere: {hint}")
    reasons = incompatibilities(repository, SERVED)
    if reasons:
        raise EmbeddedError("; ".join(reasons))
    return repository.resolve()


def _steps(repository: Path) -> set[str]:
    """Names of the models that the repository's ensembles are made of."""
    configs = (path.read_text(errors="replace") for path in repository.glob("*/config.pbtxt"))
    return {name for config in configs for name in _STEP.findall(config)}
