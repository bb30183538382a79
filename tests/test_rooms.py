"""Which room may import which: every import of every file, in functions too, held to one table.

A room is a folder at the top level that holds Python. `docs/` and the like are none.
"""

import ast
import functools
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from families import PIPELINES
from tests.conftest import ROOT

MAY_IMPORT: dict[str, set[str]] = {
    "gateway": set(),
    "model_repository": {"families"},
    "families": set(),
    "export": {"families", "backends"},
    "backends": set(),
    "embedded": {"backends", "gateway.collector", "gateway.settings"},
    "demo": {"embedded.errors", "embedded.server"},
    "bench": {
        "backends.compatibility",
        "backends.cuda",
        "backends.gpu",
        "backends.plan",
        "backends.processor",
        "backends.silent",
        "backends.tiles",
        "choosing",
        "embedded.server",
        "export.adapters",
        "export.checkpoint",
        "export.component.bank",
        "export.component.build",
        "export.component.check",
        "export.component.config",
        "export.component.graph",
        "export.component.schemes",
        "export.engines",
        "export.likeness",
        "export.precisions",
        "export.report",
        "export.run",
        "export.store",
        "families",
        "gateway.deadline",
        "gateway.errors",
        "gateway.spread",
        "gateway.tensors",
    },
    "tritouch": set(),
    "deploy": {
        "backends.compatibility",
        "backends.gpu",
        "embedded.command",
        "embedded.memory",
        "embedded.several",
        "embedded.shared_memory",
        "embedded.triton_settings",
        "gateway.collector",
    },
}
"""Room -> what of other rooms it may import: rooms or modules, with all that is in them. `tests` may import all."""

NO_ROOMS = {"build", "out"}
"""What is written here and not kept."""


@functools.cache
def rooms() -> frozenset[str]:
    """The folders of the checkout that hold Python."""
    folders = {path for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith(".")}
    return frozenset(folder.name for folder in folders if folder.name not in NO_ROOMS and any(folder.rglob("*.py")))


@functools.cache
def files(room: str) -> list[Path]:
    """The Python files of a room; links and hidden folders, as the export writes them, left out."""
    found = (ROOT / room).rglob("*.py")
    return [path for path in found if not any(part.startswith(".") for part in path.relative_to(ROOT).parts)]


def room_of(module: str) -> str:
    """The room of a module, or a package of others. The models' files lie on Python's path by themselves."""
    first = module.partition(".")[0]
    own = {path.stem for path in files("model_repository")}
    return "model_repository" if first in own else first


def imports(source: str) -> Iterator[str]:
    """The modules that a file imports, and each name that it takes from one as `module.name`.

    Relative ones are left out, for they cannot leave their room.
    """
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=names):
                yield from (alias.name for alias in names)
            case ast.ImportFrom(module=str(module), names=names, level=0):
                yield from (f"{module}.{alias.name}" for alias in names)
            case ast.Call(
                func=ast.Attribute(attr=name) | ast.Name(id=name), args=[ast.Constant(value=str(module)), *_]
            ):
                if name in {"import_module", "__import__"}:
                    yield module


def trespasses(room: str, source: str) -> list[str]:
    """What a file of `room` imports of other rooms, and may not."""
    others = rooms() - {room}
    crossing = [name for name in imports(source) if room_of(name) in others]
    return [name for name in crossing if not any(f"{name}.".startswith(f"{free}.") for free in MAY_IMPORT[room])]


def test_every_room_is_in_the_table():
    assert rooms() - {"tests"} == set(MAY_IMPORT)


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_a_room_imports_only_what_it_may(room):
    found = {str(path.relative_to(ROOT)): trespasses(room, path.read_text()) for path in files(room)}
    assert found
    assert {path: names for path, names in found.items() if names} == {}


@pytest.mark.parametrize(
    ("room", "source"),
    [
        ("gateway", "import families"),
        ("gateway", "import families.picture as pictures"),
        ("gateway", "from batcher import Batcher"),
        ("families", "def load():\n    from export import run"),
        ("families", "import importlib\nimportlib.import_module('export.run')"),
        ("backends", "from importlib import import_module\nimport_module('embedded')"),
        ("embedded", "import gateway"),
        ("tritouch", "from embedded.server import serve"),
        ("embedded", "from gateway import app"),
        ("embedded", "from gateway.settings_of_others import Settings"),
        ("model_repository", "if TYPE_CHECKING:\n    from gateway import settings"),
    ],
)
def test_a_wall_holds(room, source):
    assert len(trespasses(room, source)) == 1


@pytest.mark.parametrize(
    ("room", "source"),
    [
        ("embedded", "from gateway import settings\nfrom gateway.settings import Settings\nimport backends"),
        ("model_repository", "from batcher import Batcher\nfrom families.plan import Rows\nimport numpy"),
        ("gateway", "from gateway import metrics\nfrom . import metrics"),
        ("backends", "import openvino\nfrom backends.common import answer"),
    ],
)
def test_a_door_is_open(room, source):
    assert trespasses(room, source) == []


@pytest.mark.parametrize(
    "room", ["gateway", "model_repository", "export", "backends", "embedded", "tritouch", "deploy"]
)
def test_only_families_names_a_family(room):
    """By the name of its folder, or of its pipeline's class."""
    files = [file for file in (ROOT / room).rglob("*.py") if "families" not in file.relative_to(ROOT / room).parts]
    named = {
        (file.name, name)
        for file in files
        for name in (*PIPELINES, *PIPELINES.values(), "InstructPix2PixPipeline")
        if name in file.read_text("utf-8")
    }
    assert files
    assert named == set()


TABLES = "import families; [families.load(name, 'table') for name in set(families.PIPELINES.values())]"


@pytest.mark.parametrize(
    ("code", "heavy"),
    [
        (TABLES, {"torch", "transformers", "diffusers", "tokenizers", "safetensors"}),
        ("import export.run", {"transformers", "peft", "accelerate"}),
    ],
    ids=["by whoever asks what a family takes", "by an export that may find all up to date"],
)
def test_what_takes_seconds_to_import_is_not_where_it_is_not_needed(code: str, heavy: set[str]) -> None:
    said = f"import sys; {code}; print(*({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", said], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
