"""Tritouch's client: edits pictures by text, in Python by `Client`, and in the shell by `tritouch`."""

from tritouch.answer import Event, Picture, Preview, Progress
from tritouch.client import AsyncClient, Client
from tritouch.errors import BusyError, RefusedError, TimeOverError, TritouchError, UnreachableError, UsageError
from tritouch.form import Options
from tritouch.requests import Status

__all__ = [
    "AsyncClient",
    "BusyError",
    "Client",
    "Event",
    "Options",
    "Picture",
    "Preview",
    "Progress",
    "RefusedError",
    "Status",
    "TimeOverError",
    "TritouchError",
    "UnreachableError",
    "UsageError",
]
