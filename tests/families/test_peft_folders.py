"""Folders as peft itself saves them, of LoHa and LoKr: their layers are changed by peft's own matrices."""

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoHaConfig, LoKrConfig, get_peft_model

from export.adapters import find, layers_of
from export.checkpoint import Checkpoint
from families import load
from families.interface import DENOISER, Limits
from tests.families import tiny
from tests.families.lora_files import product
from tests.families.test_odd_lora_files import LAYERS

KINDS: dict[str, Any] = {
    "LoHa": LoHaConfig(r=2, alpha=3, init_weights=False),
    "LoKr": LoKrConfig(r=2, alpha=3, init_weights=False),
    "LoKr, both halves as products": LoKrConfig(r=1, alpha=3, init_weights=False, decompose_both=True),
    "LoKr, both halves whole": LoKrConfig(r=8, alpha=3, init_weights=False),
    "a rank and an alpha of this layer": LoHaConfig(
        r=8, alpha=9, init_weights=False, rank_pattern={"to_q": 2}, alpha_pattern={"to_q": 3}
    ),
}


def model(layer: str) -> torch.nn.Module:
    """One linear layer of 32 outputs and inputs, named like this."""
    outer = inner = torch.nn.Module()
    *above, last = layer.split(".")
    for name in above:
        inner.add_module(name, torch.nn.Module())
        inner = inner.get_submodule(name)
    inner.add_module(last, torch.nn.Linear(32, 32, bias=False))
    return outer


@pytest.mark.parametrize("family", LAYERS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_folder_of_pefts_adds_what_peft_does(tmp_path: Path, family: str, kind: str) -> None:
    torch.manual_seed(1)
    _, layer = LAYERS[family]
    KINDS[kind].target_modules = {"to_q"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = get_peft_model(model(layer), KINDS[kind])
        theirs.save_pretrained(tmp_path)
    (found,) = find([f"oil={tmp_path}"], load(family, "lora").PREFIXES)
    table = load(family, "table").components(tiny.checkpoint(family), Limits(256 * 256, 8))
    layers = layers_of(Checkpoint(tiny.checkpoint(family), family, ""), table)
    read = load(family, "lora").read_lora(found.file, tiny.checkpoint(family), layers)
    ((name, factors),) = read[DENOISER].items()
    assert name == layer
    with torch.no_grad():
        delta = theirs.get_submodule(f"base_model.model.{layer}").get_delta_weight("default")
    torch.testing.assert_close(product(factors), delta, rtol=1e-4, atol=1e-5)
