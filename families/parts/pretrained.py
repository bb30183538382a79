"""Loads a component of a checkpoint, every weight of it, from safetensors alone."""

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from families.errors import BadCheckpointError


def load(model: Any, folder: Path, dtype: torch.dtype) -> Any:
    """The class `model` with every one of its weights, in `dtype`. Raises BadCheckpointError where they do not fit."""
    options = {"use_safetensors": True, "local_files_only": True, "output_loading_info": True}
    try:
        loaded, info = model.from_pretrained(folder, torch_dtype=dtype, **options)
    except (OSError, RuntimeError, ValueError, SafetensorError) as error:
        raise BadCheckpointError(f"{folder}: the weights do not fit: {str(error).splitlines()[0]}") from error
    absent = sorted(info["missing_keys"])
    if absent:
        raise BadCheckpointError(f"{folder}: the weights do not fit: {absent[0]} is missing ({len(absent)} in all)")
    return loaded
