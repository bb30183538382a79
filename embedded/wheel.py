"""Finds Triton's binary in the ``nvidia-pytriton`` wheel; lays out its backend directory, makes its environment."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
import sysconfig
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import backends
from embedded.errors import EmbeddedError

if TYPE_CHECKING:
    from collections.abc import Mapping

_SOURCES = Path(backends.__file__).resolve().parent
_INSTALL_HINT = "install the embedded extra (make setup)"
# Memory of engines in huge pages, where the kernel gives them: it makes OpenVINO's calls a little shorter.
_HUGE_PAGES = "glibc.malloc.hugetlb=1"


@dataclass(frozen=True)
class TritonFiles:
    """Where the parts of one installed Triton are."""

    server: Path
    python_backend: Path
    stub: Path
    caches: Path
    library_folders: tuple[Path, ...]


def find_triton() -> TritonFiles:
    """Find the Triton that is installed for the running Python.

    Raises:
        EmbeddedError: the wheel is missing, has no stub for this Python, or numpy is too new for the stub.
    """
    spec = importlib.util.find_spec("pytriton")
    if spec is None or spec.origin is None:
        raise EmbeddedError(f"the nvidia-pytriton package is not installed: {_INSTALL_HINT}")
    triton = Path(spec.origin).parent / "tritonserver"
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    stub = triton / "python_backend_stubs" / version / "triton_python_backend_stub"
    if not stub.is_file():
        raise EmbeddedError(f"the installed Triton does not support Python {version}: use 3.11 or 3.12")
    check_numpy(_version_of("numpy"))
    libraries = (triton.parent.parent / "nvidia_pytriton.libs", Path(sysconfig.get_config_var("LIBDIR")))
    return TritonFiles(
        server=triton / "bin" / "tritonserver",
        python_backend=triton / "backends" / "python",
        stub=stub,
        caches=triton / "caches",
        library_folders=libraries,
    )


def check_numpy(version: str | None) -> None:
    """Refuse a numpy with which Triton's Python stub reads every tensor as empty, without saying so.

    Raises:
        EmbeddedError: numpy is missing, or 2 or later.
    """
    if version is None:
        raise EmbeddedError(f"numpy is not installed: {_INSTALL_HINT}")
    if int(version.split(".", 1)[0]) >= 2:
        raise EmbeddedError(f"numpy {version} is installed, and Triton's Python models need numpy<2: {_INSTALL_HINT}")


def lay_out_backends(files: TritonFiles, target: Path) -> None:
    """Make ``target`` a backend directory: Triton's own Python backend, and the Python-based ones of ``backends``.

    A Python-based backend is a folder with a ``model.py``. What they share goes along under the name it has here
    (``backends.common``), so that one import statement holds in Triton, in tests and for mypy.
    """
    python = target / "python"
    python.mkdir(parents=True)
    for part in (*files.python_backend.iterdir(), files.stub):
        if part.name != "__pycache__":
            # Copied: Triton refuses a backend library that is a link out of its folder.
            shutil.copy(part, python)
    for model in _SOURCES.glob("*/model.py"):
        backend = target / model.parent.name
        shutil.copytree(model.parent, backend, ignore=shutil.ignore_patterns("__pycache__"))
        shared = backend / backends.__name__
        shared.mkdir()
        for module in _SOURCES.glob("*.py"):
            shutil.copy(module, shared)


def environment(files: TritonFiles, base: Mapping[str, str]) -> dict[str, str]:
    """``base`` with what the server and its Python processes need: their libraries, this Python, huge pages."""
    libraries = [str(folder) for folder in files.library_folders]
    present = base.get("LD_LIBRARY_PATH")
    path, tunables = base.get("PATH", os.defpath), base.get("GLIBC_TUNABLES")
    return {
        **base,
        "LD_LIBRARY_PATH": ":".join([*libraries, *([present] if present else [])]),
        # The Python stub asks the first python3 on the path where its packages are.
        "PATH": f"{Path(sys.executable).parent}:{path}",
        "PYTHONUNBUFFERED": "1",
        "GLIBC_TUNABLES": ":".join([*([tunables] if tunables else []), _HUGE_PAGES]),
    }


def _version_of(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None
