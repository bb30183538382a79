"""Finds a checkpoint, and refuses one that is unknown, incomplete or damaged before any work is done on it.

Knows diffusers' folder layout and the safetensors file format; nothing of any family.
"""

import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from export.errors import BadInputError
from export.readable import expanded, require_readable
from families import PIPELINES, single_file
from families.errors import BadCheckpointError
from families.parts.configs import read_json
from families.parts.weight_files import NAMES, read_header, stored
from families.parts.weight_files import weight_files as families_files

HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
HUB_FILES = ["model_index.json", "*/*.json", "*/*.txt"]
HUB_FILES += [f"*/{name}{end}.safetensors" for name in NAMES for end in ("", "-*-of-*")]
UNUSED_FOLDERS = ["safety_checker/*", "feature_extractor/*", "image_encoder/*"]
"""What pipelines name beside the models of the editing itself; nothing here reads them."""


@dataclass(frozen=True)
class Checkpoint:
    """A diffusers folder whose pipeline class belongs to one of our families."""

    path: Path
    family: str
    scheduler: str
    """Class of its noise schedule."""


def find(model: str, revision: str | None) -> Checkpoint:
    """The checkpoint in a folder, or downloaded from the hub. Raises BadInputError."""
    path = expanded(model)
    require_readable(path)
    if path.is_file():
        with _as_bad_input():
            raise BadCheckpointError(single_file.refusal(path))
    if not path.is_dir():
        path = _downloaded(model, revision)
    elif revision is not None:
        raise BadInputError(f"--revision belongs to a hub id; {model} is a folder")
    index = _read_json(path / "model_index.json")
    pipeline = index.get("_class_name")
    if not isinstance(pipeline, str) or pipeline not in PIPELINES:
        known = ", ".join(sorted(PIPELINES))
        raise BadInputError(f"{path}: pipeline class {pipeline!r} is not supported; supported: {known}")
    scheduler = index.get("scheduler")
    if not (isinstance(scheduler, list) and len(scheduler) == 2):
        raise BadInputError(f"{path / 'model_index.json'} names no scheduler")
    return Checkpoint(path, PIPELINES[pipeline], str(scheduler[1]))


def weight_files(folder: Path) -> tuple[Path, ...]:
    """The safetensors files of one component, each proven whole. Raises BadInputError naming the file."""
    with _as_bad_input():
        files = families_files(folder)
        stored(files)
    return files


def _downloaded(model: str, revision: str | None) -> Path:
    """The hub's folder, with the weights of a variant where a component has no others."""
    path = download(model, revision, HUB_FILES)
    configs = [file.parent for file in path.glob("*/config.json")]
    bare = [folder.name for folder in configs if not any(folder.glob("*.safetensors"))]
    return download(model, revision, [f"{name}/*.safetensors" for name in bare]) if bare else path


def download(model: str, revision: str | None, files: Sequence[str], unused: Sequence[str] = UNUSED_FOLDERS) -> Path:
    """The hub's folder of that id, with what `files` match of it and `unused` do not. Raises BadInputError."""
    if not HUB_ID.fullmatch(model):
        raise BadInputError(f"{model} is neither a folder nor a hub id (OWNER/NAME)")
    from huggingface_hub import snapshot_download  # noqa: PLC0415 - a second to import, needed by few
    from huggingface_hub.utils.tqdm import enable_progress_bars  # noqa: PLC0415

    enable_progress_bars()
    try:
        return Path(snapshot_download(model, revision=revision, allow_patterns=[*files], ignore_patterns=[*unused]))
    except Exception as error:  # of several libraries that fetch, and have no common one
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise BadInputError(f"{model} cannot be downloaded: {reason}") from error
    finally:
        hide_bars()


def hub_files(model: str) -> list[str] | None:
    """The names of the files of a hub id; None where the hub cannot be asked."""
    if not HUB_ID.fullmatch(model):
        return None
    from huggingface_hub import HfApi  # noqa: PLC0415 - as above

    try:
        return HfApi().list_repo_files(model)
    except Exception:  # noqa: BLE001 - as of `download`, which says what is wrong
        return None


def hide_bars() -> None:
    """Ends the hub's bars and those of transformers, imported yet or not: only downloads have no bar of ours."""
    from huggingface_hub.utils.tqdm import disable_progress_bars  # noqa: PLC0415 - as above

    disable_progress_bars()  # transformers asks for this once, when it is imported
    if "transformers" in sys.modules:
        sys.modules["transformers"].utils.logging.disable_progress_bar()


def require_whole(file: Path) -> None:
    """Raises BadInputError where a safetensors file is missing, cut off, damaged, or something else."""
    with _as_bad_input():
        read_header(file)


def _read_json(file: Path) -> dict[str, Any]:
    with _as_bad_input():
        return read_json(file)


@contextmanager
def _as_bad_input() -> Iterator[None]:
    try:
        yield
    except BadCheckpointError as error:
        raise BadInputError(str(error)) from error
