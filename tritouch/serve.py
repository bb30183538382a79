"""`tritouch serve`: hands over to `python -m embedded` of a checkout, which is not part of the client."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import NoReturn

from tritouch.errors import TritouchError, UsageError


def checkout() -> Path:
    """The checkout that this file, or the working directory, lies in. Raises `UsageError`."""
    places = (Path(__file__).resolve().parents[1], Path.cwd(), *Path.cwd().parents)
    found = next((place for place in places if (place / "embedded" / "__main__.py").is_file()), None)
    if found is None:
        raise UsageError("serve needs a checkout: run it inside one, after `make setup`; elsewhere only the client is")
    return found


def python_of(root: Path) -> str:
    """The Python that has what the checkout needs: its own environment's, else the one that runs this."""
    own = root / ".venv" / "bin" / "python"
    return str(own) if own.is_file() else sys.executable


def replace_by_server(arguments: list[str]) -> NoReturn:
    """Become `python -m embedded` with these arguments, which handles signals itself. Raises `TritouchError`."""
    root = checkout()
    python = python_of(root)
    # Not through PYTHONPATH, which Triton's processes would inherit; the working directory stays the caller's.
    code = f"import runpy, sys; sys.path[0] = {str(root)!r}; runpy.run_module('embedded', None, '__main__', True)"
    try:
        os.execv(python, [python, "-c", code, *arguments])  # noqa: S606
    except OSError as error:
        raise TritouchError(f"{python} cannot be run: {error.strerror or error}") from None
