"""Which Tritons there are, as `TRITOUCH_TRITON_GRPC` says: one, several of one repository, or several models' by name.

SETTING   = ADDRESSES | MODEL *("," MODEL)
ADDRESSES = ADDRESS *("," ADDRESS)                as in host-a:8001,host-b:8001
MODEL     = NAME "=" ADDRESS *("|" ADDRESS)       as in base=host-a:8001|host-b:8001,sdxl=host-c:8001
ADDRESS   = HOST ":" PORT ["*" COUNT]             host:8001*3 is host:8001, host:8011 and host:8021
"""

import re
from collections.abc import Mapping
from typing import Final

BASE_MODEL: Final = "base"
"""What the model is called where there is one, and in requests the first of several if none is called so."""
NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", re.ASCII)
"""What models and adapters are called, whose names share a field."""
PORTS_APART: Final = 10
"""Tritons of one host listen on ports that are so far apart."""
MOST: Final = 64
_ADDRESS: Final = re.compile(
    r"((?:dns:(?://[a-z0-9_.:-]*/)?)?(?:[a-z0-9_.-]+|\[[0-9a-f:.]+(?:%[a-z0-9_.-]+)?\])):([0-9]{1,5})(?:\*([0-9]{1,2}))?",
    re.ASCII | re.IGNORECASE,
)


def parse(text: str) -> Mapping[str, tuple[str, ...]]:
    """The addresses of each model by its name, the default model first. Raises `ValueError` that says what to write."""
    entries = [entry.strip() for entry in text.split(",") if entry.strip()]
    if not entries:
        raise ValueError("names no Triton: give HOST:PORT")
    parts = [entry.partition("=") for entry in entries]
    unnamed = [entry for entry, (_, equals, _) in zip(entries, parts, strict=True) if not equals]
    if len(unnamed) == len(entries):
        models = {BASE_MODEL: _addresses(entries)}
    elif unnamed:
        raise ValueError(f"{unnamed[0]!r} has no name: give NAME=HOST:PORT of each model, and | between its addresses")
    else:
        models = {name: _addresses(said.split("|")) for name, _, said in parts}
        _require_names([name for name, _, _ in parts])
    every = [address for addresses in models.values() for address in addresses]
    for address in every:
        if every.count(address) > 1:
            raise ValueError(f"{address} is there twice")
    return models


def _require_names(names: list[str]) -> None:
    for name in names:
        if not NAME.fullmatch(name):
            raise ValueError(f"{name!r} is no name of a model: letters, digits, dots, - and _ alone, up to 64")
        if names.count(name) > 1:
            raise ValueError(
                f"the model {name} is there twice: give it all of its addresses at once, as in a:8001|b:8001"
            )


def _addresses(said: list[str]) -> tuple[str, ...]:
    return tuple(address for one in said for address in _expanded(one.strip()))


def _expanded(said: str) -> list[str]:
    """The addresses that one stands for."""
    if said.startswith("unix:") and len(said) > len("unix:"):
        return [said]
    found = _ADDRESS.fullmatch(said)
    if not found:
        raise ValueError(f"{said!r} is no address: give HOST:PORT, as in localhost:8001")
    host, port, count = found[1], int(found[2]), int(found[3] or 1)
    last = port + PORTS_APART * (count - 1)
    if not (1 <= count <= MOST and port > 0 and last <= 65535):
        raise ValueError(f"{said!r} is no address: ports are 1 to 65535, and behind * stands 1 to {MOST}")
    return [f"{host}:{number}" for number in range(port, last + 1, PORTS_APART)]
