"""How the gateway is laid out: who may know whom, and how large anything may grow."""

import ast
from pathlib import Path

import pytest

GATEWAY = Path(__file__).parents[2] / "gateway"
# Each does one thing, and knows no other part of the gateway but the errors it raises and what is named here.
ALONE: dict[str, set[str]] = {
    "adapters": {"errors", "targets"},
    "addresses": set(),
    "admission": {"errors"},
    "answers": set(),
    "auth": {"errors"},
    "collector": set(),
    "body": {"admission", "errors"},
    "cors": set(),
    "deadline": {"errors"},
    "disconnects": {"errors"},
    "download": {"urls"},
    "errors": set(),
    "failures": {"errors"},
    "feeds": {"admission", "errors"},
    "fetch": {"addresses", "download", "errors", "images", "resolver", "settings", "shares", "urls"},
    "idempotency": {"errors"},
    "images": {"errors"},
    "logs": set(),
    "metrics": {"errors"},
    "multipart": {"errors"},
    "names": {"errors"},
    "offer": {"errors"},
    "openai_schemas": {"errors", "schemas", "sized_schemas"},
    "orphans": set(),
    "page": set(),
    "pictures": {"errors"},
    "plain": set(),
    "priority": {"errors"},
    "parsing": {"turns"},
    "protocol": {"errors", "parsing", "turns"},
    "resolver": {"errors", "shares"},
    "schemas": {"adapters", "errors", "sized_schemas"},
    "settings": {"names", "targets"},
    "shares": set(),
    "sides": {"errors"},
    "sized_schemas": {"errors"},
    "spread": {"deadline", "errors", "failures", "offer", "pictures", "tensors", "triton"},
    "targets": set(),
    "tensors": set(),
    "threads": set(),
    "tracing": {"errors"},
    "triton": {"deadline", "errors", "failures", "offer", "pictures", "tensors"},
    "turns": set(),
    "unread": {"admission"},
    "unserved": {"errors"},
    "urls": set(),
}


def _known(path: Path) -> set[str]:
    """The parts of the gateway that a module imports; and any other package of this repository."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        if isinstance(node, ast.ImportFrom) and node.module == "gateway":
            names = [f"gateway.{alias.name}" for alias in node.names]
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        found |= {name for name in names if name.split(".")[0] in ("gateway", "families", "export", "embedded", "demo")}
    return found


@pytest.mark.parametrize("module", ALONE)
def test_small_parts_know_little(module: str) -> None:
    assert _known(GATEWAY / f"{module}.py") <= {f"gateway.{name}" for name in ALONE[module]}


@pytest.mark.parametrize("path", sorted(GATEWAY.glob("*.py")), ids=lambda path: path.name)
def test_nothing_is_long(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= 250
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert (node.end_lineno or node.lineno) - node.lineno < 35, node.name
