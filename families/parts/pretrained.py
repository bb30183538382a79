"""Loads a component's network from safetensors alone, with every weight known by where it lies, and none of them read.

The weights of a checkpoint may be more than the memory of the machine that exports it: so a network is built first, on
torch's meta device, and its weights are read one by one by whoever computes with them.
"""

import mmap
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from families.errors import BadCheckpointError
from families.parts.configs import read_config
from families.parts.weight_files import Stored, stored, weight_files

DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U64": torch.uint64,
    "U32": torch.uint32,
    "U16": torch.uint16,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
"""By the names that safetensors gives to types."""
MAP_NORESERVE = 0x4000
"""Of Linux on x86-64; Python 3.11 has no name for it."""


def load(model: Any, folder: Path) -> Any:
    """The class `model` as `folder` configures it, on the meta device: `location` tells where each weight lies.

    Raises BadCheckpointError where a weight is missing or of another shape, or the config makes no network.
    """
    from diffusers import ModelMixin  # noqa: PLC0415 - seconds, and not for what asks where weights lie

    weights = stored(weight_files(folder))
    read_config(folder)  # before a library reads it, whose words for a broken file do not name it
    try:
        reserved = {name: _Reserved(weight) for name, weight in weights.items()}
        state = OrderedDict((name, weight.tensor) for name, weight in reserved.items())
        loaded, absent = (_of_diffusers if issubclass(model, ModelMixin) else _of_transformers)(model, folder, state)
    except (OSError, RuntimeError, ValueError) as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        reason = lines[1] if len(lines) > 1 and lines[0].endswith(":") else "".join(lines[:1])
        raise BadCheckpointError(f"{folder}: the weights do not fit: {reason}") from error
    except Exception as error:  # a library's, from a value of another type than it takes
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise BadCheckpointError(f"{folder / 'config.json'} makes no {model.__name__}: {reason}") from error
    if absent:
        raise BadCheckpointError(f"{folder}: the weights do not fit: {absent[0]} is missing ({len(absent)} in all)")
    _locate(loaded, reserved.values())
    return loaded


def by_name(**makers: Callable[[Path], nn.Module]) -> Callable[[str, Path], nn.Module]:
    """A family's `module`: a component by its name. Whatever the type of its weights, it takes and gives float32."""
    return lambda name, checkpoint: makers[name](checkpoint).eval().requires_grad_(False)


def location(tensor: Tensor) -> Stored | None:
    """Where a weight that is not read lies; None for one that is here."""
    where: Stored | None = getattr(tensor, "location", None)
    return where


def read(weight: Stored) -> Tensor:
    """The weight itself, a private view of its file: its pages come as they are touched, and go when it is let go."""
    count = weight.bytes
    if not count:
        return torch.empty(weight.shape, dtype=DTYPES[weight.dtype])
    raw = np.memmap(weight.file, np.uint8, "c", offset=weight.offset, shape=(count,))
    if weight.offset % DTYPES[weight.dtype].itemsize:
        raw = raw.copy()  # torch wants a number at a multiple of its size
    return torch.from_numpy(raw).view(DTYPES[weight.dtype]).view(weight.shape)


def reserve(shape: Iterable[int], dtype: torch.dtype) -> Tensor:
    """A tensor of zeros that takes addresses and, until it is written to, no memory."""
    shape = torch.Size(shape)
    count = shape.numel() * dtype.itemsize
    if not count:
        return torch.empty(shape, dtype=dtype)
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | MAP_NORESERVE
    return torch.frombuffer(mmap.mmap(-1, count, flags), dtype=dtype).view(shape)


def fill(module: nn.Module, dtype: torch.dtype) -> nn.Module:
    """`module` with all its weights in memory, those of floats in `dtype`; computed buffers stay as they are."""
    for owner, name, tensor in tensors(module):
        replace(owner, name, narrowed(owner, name, tensor, dtype))
    return module


def narrowed(owner: nn.Module, name: str, tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """A parameter or buffer as it is computed with in `dtype`, read where it lies in a file."""
    where = location(tensor)
    weight = tensor.detach() if where is None else read(where)
    counts = weight.is_floating_point() and (where is not None or name in owner._parameters)
    return weight.to(dtype) if counts else weight


def tensors(module: nn.Module) -> Iterator[tuple[nn.Module, str, Tensor]]:
    """Every parameter and buffer where it hangs: its module and its name there. One that two share comes twice."""
    for owner in module.modules():
        for held in (owner._parameters, owner._buffers):
            for name, tensor in list(held.items()):
                if tensor is not None:
                    yield owner, name, tensor


def replace(owner: nn.Module, name: str, tensor: Tensor, where: Stored | None = None) -> None:
    """Puts `tensor` in the place of a parameter or buffer; `where`: the location that it stands for."""
    if name in owner._parameters:
        tensor = nn.Parameter(tensor, requires_grad=False)
        owner._parameters[name] = tensor
    else:
        owner._buffers[name] = tensor
    if where is not None:
        tensor.location = where  # type: ignore[attr-defined]


class _Reserved:
    """Addresses in place of a weight: libraries rename, tie and cut weights, and an address tells which it was.

    Floats are in float32, which no library narrows or widens when it is asked for float32.
    """

    def __init__(self, weight: Stored) -> None:
        self.weight, stated = weight, DTYPES[weight.dtype]
        self.tensor = reserve(weight.shape, torch.float32 if stated.is_floating_point else stated)

    def part(self, tensor: Tensor) -> Stored | None:
        """What of the weight `tensor` is: rows of it, or all; None where it is none of it."""
        offset, size = tensor.data_ptr() - self.tensor.data_ptr(), self.tensor.element_size()
        within = offset >= 0 and offset + tensor.numel() * size <= self.tensor.numel() * size
        if not (within and tensor.numel() and tensor.dtype == self.tensor.dtype and tensor.is_contiguous()):
            return None
        scale = DTYPES[self.weight.dtype].itemsize
        return Stored(
            self.weight.file, self.weight.offset + offset // size * scale, self.weight.dtype, (*tensor.shape,)
        )


def _of_diffusers(model: Any, folder: Path, state: "OrderedDict[str, Tensor]") -> tuple[Any, list[str]]:
    from accelerate import init_empty_weights  # noqa: PLC0415 - as above

    with init_empty_weights():
        network = model.from_config(read_config(folder))
    network._fix_state_dict_keys_on_load(state)
    return network, sorted(network.load_state_dict(state, strict=False, assign=True).missing_keys)


def _of_transformers(model: Any, folder: Path, state: "OrderedDict[str, Tensor]") -> tuple[Any, list[str]]:
    config = model.config_class.from_pretrained(folder, local_files_only=True)
    options: Mapping[str, Any] = {"config": config, "dtype": torch.float32, "output_loading_info": True}
    network, info = model.from_pretrained(None, state_dict=state, **options)
    return network, sorted(info["missing_keys"])


def _locate(module: nn.Module, reserved: Iterable[_Reserved]) -> None:
    """Every weight that is a part of a file by its location; what was computed stays."""
    by_start = sorted(reserved, key=lambda one: one.tensor.data_ptr())
    starts = np.array([one.tensor.data_ptr() for one in by_start])
    for owner, name, tensor in tensors(module):
        if location(tensor) is None and tensor.device.type != "meta" and by_start:
            place = int(np.searchsorted(starts, tensor.data_ptr(), "right")) - 1
            where = by_start[place].part(tensor) if place >= 0 else None
            if where is not None:
                replace(owner, name, torch.empty_like(tensor, device="meta"), where)
