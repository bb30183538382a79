"""Finds a checkpoint, and refuses one that is unknown, incomplete or damaged before any work is done on it.

Knows diffusers' folder layout and the safetensors file format; nothing of any family.
"""

import json
import re
import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from export.errors import BadInputError
from families import PIPELINES
from families.errors import BadCheckpointError
from families.parts.configs import read_json

HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
HUB_FILES = ["model_index.json", "*/*.json", "*/*.txt", "*/model.safetensors", "*/diffusion_pytorch_model.safetensors"]
HUB_FILES += ["*/*-of-*.safetensors", "*/*.safetensors.index.json"]
UNUSED_FOLDERS = ["safety_checker/*", "feature_extractor/*", "image_encoder/*"]
"""What pipelines name beside the models of the editing itself; nothing here reads them."""
WEIGHT_NAMES = ("diffusion_pytorch_model", "model")
MAX_HEADER_BYTES = 100_000_000


@dataclass(frozen=True)
class Checkpoint:
    """A diffusers folder whose pipeline class belongs to one of our families."""

    path: Path
    family: str
    scheduler: str
    """Class of its noise schedule."""


def find(model: str, revision: str | None) -> Checkpoint:
    """The checkpoint in a folder, or downloaded from the hub. Raises BadInputError."""
    path = Path(model).expanduser()
    if not path.is_dir():
        path = download(model, revision, HUB_FILES)
    elif revision is not None:
        raise BadInputError(f"--revision belongs to a hub id; {model} is a folder")
    index = _read_json(path / "model_index.json")
    pipeline = index.get("_class_name")
    if pipeline not in PIPELINES:
        known = ", ".join(sorted(PIPELINES))
        raise BadInputError(f"{path}: pipeline class {pipeline!r} is not supported; supported: {known}")
    scheduler = index.get("scheduler")
    if not (isinstance(scheduler, list) and len(scheduler) == 2):
        raise BadInputError(f"{path / 'model_index.json'} names no scheduler")
    return Checkpoint(path, PIPELINES[str(pipeline)], str(scheduler[1]))


def weight_files(folder: Path) -> tuple[Path, ...]:
    """The safetensors files of one component, each proven whole. Raises BadInputError naming the file."""
    for name in WEIGHT_NAMES:
        single, index = folder / f"{name}.safetensors", folder / f"{name}.safetensors.index.json"
        files = [single] if single.exists() else _shards(index) if index.exists() else []
        for file in files:
            require_whole(file)
        if files:
            return tuple(files)
    raise BadInputError(
        f"{folder}: no {' or '.join(f'{name}.safetensors' for name in WEIGHT_NAMES)} (no pickles are read)"
    )


def download(model: str, revision: str | None, files: list[str]) -> Path:
    """The hub's folder of that id, with what `files` match of it. Raises BadInputError."""
    if not HUB_ID.fullmatch(model):
        raise BadInputError(f"{model} is neither a folder nor a hub id (OWNER/NAME)")
    from huggingface_hub import snapshot_download  # noqa: PLC0415 - a second to import, needed by few
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError  # noqa: PLC0415
    from huggingface_hub.utils.tqdm import enable_progress_bars  # noqa: PLC0415

    enable_progress_bars()
    try:
        folder = snapshot_download(model, revision=revision, allow_patterns=files, ignore_patterns=UNUSED_FOLDERS)
        return Path(folder)
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise BadInputError(f"{model} cannot be downloaded: {reason}") from error
    finally:
        hide_bars()


def hide_bars() -> None:
    """Ends the hub's bars and those of transformers, imported yet or not: only downloads have no bar of ours."""
    from huggingface_hub.utils.tqdm import disable_progress_bars  # noqa: PLC0415 - as above

    disable_progress_bars()  # transformers asks for this once, when it is imported
    if "transformers" in sys.modules:
        sys.modules["transformers"].utils.logging.disable_progress_bar()


def _shards(index: Path) -> list[Path]:
    names = _read_json(index).get("weight_map")
    if not isinstance(names, dict) or not names:
        raise BadInputError(f"{index} has no weight_map")
    return [index.parent / Path(str(name)).name for name in sorted(set(names.values()))]


def _read_json(file: Path) -> dict[str, Any]:
    try:
        return read_json(file)
    except BadCheckpointError as error:
        raise BadInputError(str(error)) from error


def require_whole(file: Path) -> None:
    """A safetensors file is 8 bytes of header length, a JSON header, and data that ends where the header says.

    Raises BadInputError for any other.
    """
    try:
        size = file.stat().st_size
        with file.open("rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            header = json.loads(stream.read(length)) if length <= min(size, MAX_HEADER_BYTES) else None
        end = max(_ends(header)) if header else None
    except FileNotFoundError as error:
        raise BadInputError(f"{file} is missing") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError, struct.error) as error:
        raise BadInputError(f"{file} is not a safetensors file (no pickles are read)") from error
    if end is None:
        raise BadInputError(f"{file} is not a safetensors file (no pickles are read), or one cut off in its header")
    if size != 8 + length + end:
        raise BadInputError(f"{file} is truncated or damaged: {size} bytes")


def _ends(header: dict[str, dict[str, list[int]]]) -> Iterator[int]:
    return (entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__")
