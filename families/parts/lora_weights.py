"""The tensors of a LoRA file as pairs of factors, whether they are stored as LoRA, LoHa or LoKr, in whatever precision.

LoHa and LoKr (Yeh et al., "Navigating Text-To-Image Customization", 2024) of linear layers are products of low rank
themselves: they become the two factors of the very same matrix. Knows no layer, and no family's names.
"""

import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from families.errors import BadCheckpointError
from families.parts.configs import read_json

DOWN, UP, ALPHA = ".lora_A.weight", ".lora_B.weight", ".alpha"
KOHYA_DOWN, KOHYA_UP = ".lora_down.weight", ".lora_up.weight"
WRAPPED = "base_model.model."
"""Before every name in files that peft itself has written; they say nothing of the component."""
LARGEST_RANK = 256
LOHA = ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b")
LOKR = ("lokr_w1", "lokr_w2")
"""Each is there whole, or as a product: of `_a` and `_b`."""
PRODUCT_KINDS = ("LOHA", "LOKR")
"""What peft's settings name them."""
PRODUCTS = (*LOHA, *LOKR, *(f"{name}_{half}" for name in LOKR for half in "ab"))
"""How the names of LoHa's and LoKr's tensors end."""
Shape = tuple[int, int]
"""Outputs and inputs of what a file may have one name for."""

Named = dict[str, Any]
Pair = tuple[torch.Tensor, torch.Tensor]
"""`up` (out, rank) and `down` (rank, in)."""


def load(file: Path, shapes: Iterable[Shape]) -> Named:
    """The file's tensors in float32, LoHa and LoKr as `DOWN` and `UP`; so are kohya's words behind a dotted name.

    `shapes`: of all that may be adapted. Raises BadCheckpointError where a LoHa or LoKr is not whole, not of a linear
    layer, of another shape than all of `shapes`, or of a rank above LARGEST_RANK or either side; where a factor is no
    matrix; and where a layer comes twice under one name.
    """
    plain: list[tuple[str, torch.Tensor]] = []
    products: dict[str, Named] = {}
    for name, tensor in safetensors.torch.load_file(file).items():
        module, _, part = name.rpartition(".")
        if part in PRODUCTS:
            products.setdefault(module, {})[part] = tensor.float()
        elif tensor.ndim not in (2, 4) and not name.endswith(ALPHA):
            raise BadCheckpointError(f"{file}: {name} is no factor of a LoRA: its shape is {list(tensor.shape)}")
        else:
            plain.append((_dotted_as_peft(name), tensor.float()))
    weights, made = unique(plain), []
    _require_fitting(file, products, Counter(shapes))
    for module, parts in products.items():
        alpha = weights.pop(f"{module}{ALPHA}", None)
        up, down = _factored(f"{file}: {module}", parts, None if alpha is None else float(alpha))
        words = (DOWN, UP) if "." in module else (KOHYA_DOWN, KOHYA_UP)
        made += [(f"{module}{word}", factor) for word, factor in zip(words, (down, up), strict=True)]
    return unique([*weights.items(), *made])


def unique(named: Iterable[tuple[str, Any]]) -> Named:
    """A dict of what has names. Raises ValueError where one comes twice: other names may have become the same."""
    made: Named = {}
    for name, value in named:
        if name in made:
            raise ValueError(f"it has LoRA weights of one layer twice: {name}")
        made[name] = value
    return made


def _require_fitting(file: Path, products: Mapping[str, Named], left: Counter[Shape]) -> None:
    """Judges products by shapes alone, on torch's meta device: a small file may state a matrix beyond all memory.

    `left`: how many layers of each shape there are, so that the products of a file are no more than the layers bear.
    """
    for module, parts in products.items():
        where = f"{file}: {module}"
        up, down = _factored(where, {name: tensor.to("meta") for name, tensor in parts.items()}, None)
        shape = (up.shape[0], down.shape[1])
        if len(down) > min(shape):
            raise BadCheckpointError(f"{where} is of rank {len(down)}, and of a layer of {shape[0]} x {shape[1]}")
        left[shape] -= 1
        if left[shape] < 0:
            raise BadCheckpointError(
                f"{where} is of a layer of {shape[0]} x {shape[1]}; there is none, or none is left"
            )


def unreadable(file: Path, error: Exception) -> BadCheckpointError:
    """What a library said of the file, in one line."""
    reason = " ".join(str(error).split())[:200] or type(error).__name__
    return BadCheckpointError(f"{file} cannot be read as LoRA: {reason}")


def _dotted_as_peft(name: str) -> str:
    for word, ours in ((KOHYA_DOWN, DOWN), (KOHYA_UP, UP)):
        if name.endswith(word) and "." in name.removesuffix(word):
            return name.removesuffix(word) + ours
    return name


def metadata(file: Path) -> Named:
    """peft's settings as diffusers keeps them in a file's header; empty where there are none."""
    with safetensors.safe_open(file, "pt") as opened:
        kept = (opened.metadata() or {}).get("lora_adapter_metadata")
    settings = json.loads(kept) if kept else {}
    if not isinstance(settings, dict):
        raise BadCheckpointError(f"{file}: lora_adapter_metadata in its header is not a JSON object")
    return settings


def peft_settings(file: Path) -> Named:
    """The `adapter_config.json` beside a file of peft's. Raises BadCheckpointError where it is of another kind."""
    config_file = file.with_name("adapter_config.json")
    try:
        config = read_json(config_file)
    except BadCheckpointError as error:
        message = f"{config_file} is needed beside peft's {file.name}, and is missing or not a JSON object"
        raise BadCheckpointError(message) from error
    kind = config.get("peft_type", "LORA")
    if kind not in ("LORA", *PRODUCT_KINDS):
        raise BadCheckpointError(f"{config_file} is of {kind}: train it as LoRA, LoHa or LoKr")
    return config


def scale(layer: str, rank: int, alpha: float | None, config: Mapping[str, Any]) -> float:
    """What multiplies the product: 1 unless the file has alphas, or peft's settings. Raises ValueError for bad ones.

    `rank`: of the product; that of LoHa's and LoKr's halves stands in peft's settings alone.
    """
    if alpha is None and config.get("peft_type") in PRODUCT_KINDS:
        alpha, size = _stated(layer, config, "alpha", "alpha_pattern"), _stated(layer, config, "r", "rank_pattern")
        if not alpha or not size:
            raise ValueError("peft's settings lack alpha or r")
        return alpha / size
    if alpha is None and "lora_alpha" in config:
        alpha = _stated(layer, config, "lora_alpha", "alpha_pattern")
    if alpha is None:
        return 1.0
    return float(alpha) / (math.sqrt(rank) if config.get("use_rslora") else rank)


def _stated(layer: str, config: Mapping[str, Any], name: str, patterns: str) -> float | None:
    """A number of peft's settings, which for layers by pattern may be another."""
    from peft.utils.other import get_pattern_key  # noqa: PLC0415 - seconds, and not for every export

    pattern = config.get(patterns) or {}
    try:
        number = pattern.get(get_pattern_key(list(pattern), layer), config.get(name))
        return None if number is None else float(number)
    except (TypeError, ValueError, AttributeError, OverflowError, RecursionError, re.error) as error:
        raise ValueError(f"peft's settings misstate {name} or {patterns}: {error}") from error


def _factored(where: str, parts: Mapping[str, torch.Tensor], alpha: float | None) -> Pair:
    """One layer's LoHa or LoKr, its alpha in it."""
    if any(tensor.ndim != 2 for tensor in parts.values()):
        raise BadCheckpointError(f"{where} is LoHa or LoKr of a convolution; of linear layers alone they are taken")
    pair, size = _pairs(where, parts)
    rank = math.prod(down.shape[0] for _, down in pair)
    if not 1 <= rank <= LARGEST_RANK:
        raise BadCheckpointError(f"{where} is of no low rank: of {rank}; at most {LARGEST_RANK} is taken")
    (up_1, down_1), (up_2, down_2) = pair
    if "hada_w1_a" in parts:  # the sum over i and j of (up_1[i] * up_2[j]) (down_1[i] * down_2[j])
        if up_1.shape[0] != up_2.shape[0] or down_1.shape[1] != down_2.shape[1]:
            raise BadCheckpointError(f"{where} is no whole LoHa: its two products differ in shape")
        up, down = _by_pairs(up_1.T, up_2.T).T, _by_pairs(down_1, down_2)
    else:
        up, down = torch.kron(up_1, up_2), torch.kron(down_1, down_2)
    return (up if alpha is None or size is None else up * (alpha / size)).contiguous(), down


def _by_pairs(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """(a, n), (b, n) -> (a * b, n): every row of one with every row of the other, multiplied by element."""
    return (one[:, None] * other[None]).flatten(0, 1)


def _pairs(where: str, parts: Mapping[str, torch.Tensor]) -> tuple[tuple[Pair, Pair], int | None]:
    """The two matrices that are multiplied, as products; and what alpha is divided by: None where it has no part.

    As in LyCORIS: a LoKr that is whole in both matrices has no alpha.
    """
    if set(parts) == set(LOHA):
        halves: tuple[Pair, Pair] = (
            (parts["hada_w1_a"], parts["hada_w1_b"]),
            (parts["hada_w2_a"], parts["hada_w2_b"]),
        )
        size: int | None = len(parts["hada_w1_b"])
    else:
        known = [{name} & set(parts) or {f"{name}_a", f"{name}_b"} for name in LOKR]
        if set(parts) != known[0] | known[1]:
            raise BadCheckpointError(f"{where} is no whole LoHa or LoKr: it has {', '.join(sorted(parts))} alone")
        halves = (_halves(parts, LOKR[0]), _halves(parts, LOKR[1]))
        size = next((len(parts[f"{name}_b"]) for name in reversed(LOKR) if f"{name}_b" in parts), None)
    if any(up.shape[1] != down.shape[0] for up, down in halves):
        raise BadCheckpointError(f"{where} is no whole LoHa or LoKr: its factors do not fit together")
    return halves, size


def _halves(parts: Mapping[str, torch.Tensor], name: str) -> Pair:
    """One of LoKr's two matrices as a product of the least rank that its shape bounds."""
    whole = parts.get(name)
    if whole is None:
        return parts[f"{name}_a"], parts[f"{name}_b"]
    one = torch.eye(min(whole.shape), device=whole.device)
    return (one, whole) if len(whole) == len(one) else (whole, one)
