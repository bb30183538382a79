"""Which safetensors files hold a component's weights, and where in them each weight lies. Imports no torch.

Everything that reads, proves or fingerprints a component's weights asks here, so that all mean the same files.
"""

import json
import math
import re
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from families.errors import BadCheckpointError
from families.parts.configs import read_json

NAMES = ("diffusion_pytorch_model", "model")
"""As diffusers and transformers call them."""
VARIANT = re.compile(r"\.([\w-]+)\.safetensors(?:\.index\.json)?|\.safetensors\.index\.([\w-]+)\.json")
"""What follows the name where it has a variant: `.fp16.safetensors`, and the two ways to name its index."""
ITEM_BYTES = {
    **dict.fromkeys(("F64", "I64", "U64"), 8),
    **dict.fromkeys(("F32", "I32", "U32"), 4),
    **dict.fromkeys(("F16", "BF16", "I16", "U16"), 2),
    **dict.fromkeys(("F8_E4M3", "F8_E5M2", "I8", "U8", "BOOL"), 1),
}
"""By the names that safetensors gives to types."""
UNREADABLE = (OSError, ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError, struct.error)
"""What a header can raise that is JSON, and not a header's; or that is not JSON."""
MAX_HEADER_BYTES = 100_000_000
NO_PICKLES = "(no pickles are read)"


@dataclass(frozen=True)
class Stored:
    """Where a tensor lies: its bytes begin at `offset` of `file`. `dtype`: as safetensors names it."""

    file: Path
    offset: int
    dtype: str
    shape: tuple[int, ...]

    @property
    def bytes(self) -> int:
        """Its size."""
        return math.prod(self.shape) * ITEM_BYTES[self.dtype]


def weight_files(folder: Path) -> tuple[Path, ...]:
    """The safetensors files of one component; they may be missing or damaged. Raises BadCheckpointError for none.

    An index comes before a single file, which then is what an older save has left; files without a variant before a
    variant (`model.fp16.safetensors`), of which there may be one.
    """
    for name in NAMES:
        found = _files(folder / f"{name}.safetensors.index.json", folder / f"{name}.safetensors")
        if found:
            return found
    variants = _variants(folder)
    if len(variants) > 1:
        raise BadCheckpointError(f"{folder} has weights of several variants ({', '.join(variants)}); leave it one")
    for found in variants.values():
        return found
    names = " or ".join(f"{name}.safetensors" for name in NAMES)
    raise BadCheckpointError(f"{folder}: no {names} {NO_PICKLES}")


def stored(files: Sequence[Path]) -> dict[str, Stored]:
    """Every tensor of these files by its name. Raises BadCheckpointError, naming the file."""
    return {name: tensor for file in files for name, tensor in read_header(file).items()}


def read_header(file: Path) -> dict[str, Stored]:
    """A safetensors file is 8 bytes of header length, a JSON header, and data that ends where the header says.

    Raises BadCheckpointError for any other.
    """
    try:
        size = file.stat().st_size
        with file.open("rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            header = json.loads(stream.read(length)) if length <= min(size, MAX_HEADER_BYTES) else {}
        entries = {name: entry for name, entry in header.items() if name != "__metadata__"}
        end = max(int(entry["data_offsets"][1]) for entry in entries.values()) if entries else None
    except FileNotFoundError as error:
        raise BadCheckpointError(f"{file} is missing") from error
    except UNREADABLE as error:
        raise BadCheckpointError(f"{file} is not a safetensors file {NO_PICKLES}") from error
    if end is None:
        raise BadCheckpointError(f"{file} is not a safetensors file {NO_PICKLES}, or one cut off in its header")
    if size != 8 + length + end:
        raise BadCheckpointError(f"{file} is truncated or damaged: {size} bytes")
    return {name: _entry(file, name, 8 + length, entry) for name, entry in entries.items()}


def _entry(file: Path, name: str, start: int, entry: Mapping[str, Any]) -> Stored:
    try:
        begin, end = map(int, entry["data_offsets"])
        tensor = Stored(file, start + begin, str(entry["dtype"]), tuple(map(int, entry["shape"])))
    except UNREADABLE as error:
        raise BadCheckpointError(f"{file} is damaged: its header does not describe {name}") from error
    if tensor.dtype not in ITEM_BYTES:
        raise BadCheckpointError(f"{file} holds {name} in {tensor.dtype}, which is not read")
    if min(begin, *tensor.shape, 0) < 0 or end - begin != tensor.bytes:
        shape = " x ".join(map(str, tensor.shape))
        raise BadCheckpointError(f"{file} is damaged: {name} is {end - begin} bytes, and not {shape} of {tensor.dtype}")
    return tensor


def _files(index: Path, single: Path) -> tuple[Path, ...]:
    if index.exists():
        names = read_json(index).get("weight_map")
        if not isinstance(names, dict) or not names or not all(isinstance(name, str) for name in names.values()):
            raise BadCheckpointError(f"{index} has no weight_map from weights to names of files")
        return tuple(index.parent / Path(name).name for name in sorted(set(names.values())))
    return (single,) if single.exists() else ()


def _variants(folder: Path) -> dict[str, tuple[Path, ...]]:
    """The files by variant."""
    found: dict[str, tuple[Path, ...]] = {}
    for name in NAMES:
        for variant in sorted({*_variant_names(folder, name)}):
            indices = (f"{name}.safetensors.index.{variant}.json", f"{name}.{variant}.safetensors.index.json")
            index = next((folder / index for index in indices if (folder / index).exists()), folder / indices[0])
            found[variant] = _files(index, folder / f"{name}.{variant}.safetensors")
    return found


def _variant_names(folder: Path, name: str) -> Iterator[str]:
    for file in folder.glob(f"{name}.*"):
        match = VARIANT.fullmatch(file.name.removeprefix(name))
        variant = (match[1] or match[2]) if match else ""
        if variant and "-of-" not in variant:
            yield variant
