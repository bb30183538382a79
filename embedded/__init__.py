"""Runs a model repository without containers: Triton from its wheel, and the gateway in front of it.

``embedded.serve`` is for tests and tools, ``python -m embedded`` for people.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from embedded.server import Embedded, serve
    from embedded.settings import Settings

__all__ = ["Embedded", "Settings", "serve"]


def __getattr__(name: str) -> object:
    # On first use, so that `python -m embedded` can say in one line which package is missing.
    if name in {"Embedded", "serve"}:
        from embedded import server  # noqa: PLC0415

        return getattr(server, name)
    if name == "Settings":
        from embedded.settings import Settings  # noqa: PLC0415

        return Settings
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
