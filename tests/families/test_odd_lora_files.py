"""LoRA files that are odd in small ways: one line each, from both readers, and never one of two layers in silence."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from export.adapters import layers_of
from export.checkpoint import Checkpoint
from families import load
from families.errors import BadCheckpointError
from families.interface import Limits
from families.parts.lora import Layers
from tests.families import tiny

KLEIN, PIX2PIX = "flux2_klein", "instruct_pix2pix"
LAYERS = {
    KLEIN: ("transformer", "transformer_blocks.0.attn.to_q"),
    PIX2PIX: ("unet", "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"),
}
"""diffusers' name of the denoiser, and a layer of it with 32 outputs and inputs."""
Weights = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def layers() -> Mapping[str, Layers]:
    """Of both families' tiny checkpoints."""
    tables = {
        family: load(family, "table").components(tiny.checkpoint(family), Limits(256 * 256, 8)) for family in LAYERS
    }
    return {name: layers_of(Checkpoint(tiny.checkpoint(name), name, ""), table) for name, table in tables.items()}


def pair(module: str, words: str, rank: int = 2) -> Weights:
    down, up = words.split()
    return {f"{module}.{down}.weight": torch.ones(rank, 32), f"{module}.{up}.weight": torch.ones(32, rank)}


def lokr(module: str) -> Weights:
    parts = {"lokr_w1": (4, 4), "lokr_w2_a": (8, 2), "lokr_w2_b": (2, 8)}
    return {f"{module}.{name}": torch.full(shape, 2.0) for name, shape in parts.items()}


def loha(module: str) -> Weights:
    shapes = {"w1_a": (32, 2), "w1_b": (2, 32), "w2_a": (32, 2), "w2_b": (2, 32)}
    return {f"{module}.hada_{name}": torch.ones(shape) for name, shape in shapes.items()}


PEFT, KOHYA, OLD = "lora_A lora_B", "lora_down lora_up", "lora.down lora.up"


def twice(kind: str, dotted: str, underscored: str) -> Weights:
    return {
        "peft and kohya": lambda: pair(dotted, PEFT) | pair(dotted, KOHYA),
        "another rank": lambda: pair(dotted, PEFT) | pair(dotted, OLD, rank=3),
        "one half": lambda: pair(dotted, PEFT) | dict(list(pair(dotted, OLD, rank=3).items())[:1]),
        "LoKr with dots": lambda: pair(dotted, PEFT) | lokr(dotted),
        "LoKr beside kohya's words": lambda: pair(dotted, KOHYA) | lokr(dotted),
        "LoHa with dots": lambda: pair(dotted, PEFT) | loha(dotted),
        "LoKr of kohya": lambda: pair(underscored, KOHYA) | lokr(underscored),
        "LoHa of kohya": lambda: pair(underscored, KOHYA) | loha(underscored),
        "kohya's name, peft's words": lambda: pair(underscored, KOHYA) | pair(underscored, PEFT),
        "LoKr and LoHa": lambda: lokr(dotted) | loha(dotted),
        "two namings": lambda: pair(dotted, PEFT) | pair(underscored, KOHYA),
        "a LoKr under another name": lambda: lokr(dotted) | pair(underscored, KOHYA),
    }[kind]()


TWICE = (
    "peft and kohya",
    "another rank",
    "one half",
    "LoKr with dots",
    "LoKr beside kohya's words",
    "LoHa with dots",
    "LoKr of kohya",
    "LoHa of kohya",
    "kohya's name, peft's words",
    "LoKr and LoHa",
    "two namings",
    "a LoKr under another name",
)


def refused(file: Path, weights: Weights, family: str, layers: Mapping[str, Layers], **header: str) -> str:
    safetensors.torch.save_file(weights, file, header or None)
    with pytest.raises(BadCheckpointError, match=re.escape(str(file.parent))) as error:
        load(family, "lora").read_lora(file, tiny.checkpoint(family), layers[family])
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("family", LAYERS)
@pytest.mark.parametrize("kind", TWICE)
def test_a_layer_that_comes_twice_is_refused(
    tmp_path: Path, layers: Mapping[str, Layers], family: str, kind: str
) -> None:
    network, layer = LAYERS[family]
    made = twice(kind, f"{network}.{layer}", f"lora_unet_{layer.replace('.', '_')}")
    said = refused(tmp_path / "a.safetensors", made, family, layers)
    words = "no whole LoHa or LoKr" if kind == "LoKr and LoHa" else "twice|not been correctly renamed"
    assert re.search(words, said), said


def test_two_alphas_of_one_layer_are_refused(tmp_path: Path, layers: Mapping[str, Layers]) -> None:
    module = ".".join(LAYERS[PIX2PIX])
    processor = module.replace(".to_q", ".processor.to_q")
    alphas = {f"{module}.alpha": torch.tensor(1.0), f"{processor}.alpha": torch.tensor(2.0)}
    said = refused(tmp_path / "a.safetensors", pair(module, PEFT) | alphas, PIX2PIX, layers)
    assert "of one layer twice" in said


@pytest.mark.parametrize("family", LAYERS)
@pytest.mark.parametrize("half", ["lora_A", "lora_B", "lora_down", "lora_up"])
@pytest.mark.parametrize("shape", [(), (32,), (2, 4, 4)])
def test_a_factor_is_a_matrix(
    tmp_path: Path, layers: Mapping[str, Layers], family: str, half: str, shape: tuple[int, ...]
) -> None:
    module = ".".join(LAYERS[family])
    weights = pair(module, PEFT if half in PEFT else KOHYA) | {f"{module}.{half}.weight": torch.ones(shape)}
    said = refused(tmp_path / "a.safetensors", weights, family, layers)
    assert f"{module}.{half}.weight is no factor of a LoRA: its shape is {list(shape)}" in said


@pytest.mark.parametrize("family", LAYERS)
def test_other_kinds_of_pefts_folders_are_refused_by_name(
    tmp_path: Path, layers: Mapping[str, Layers], family: str
) -> None:
    (tmp_path / "adapter_config.json").write_text(json.dumps({"peft_type": "BOFT"}))
    weights = pair(f"base_model.model.{LAYERS[family][1]}", PEFT)
    said = refused(tmp_path / "adapter_model.safetensors", weights, family, layers)
    assert "adapter_config.json is of BOFT: train it as LoRA, LoHa or LoKr" in said


@pytest.mark.parametrize("family", LAYERS)
@pytest.mark.parametrize("kind", ["LOHA", "LOKR"])
@pytest.mark.parametrize("settings", [{"r": 2}, {"alpha": 4}, {"r": 0, "alpha": 4}, {"r": "x", "alpha": 4}])
def test_settings_of_pefts_products_must_be_whole(
    tmp_path: Path, layers: Mapping[str, Layers], family: str, kind: str, settings: dict[str, Any]
) -> None:
    (tmp_path / "adapter_config.json").write_text(json.dumps({"peft_type": kind, **settings}))
    made = (loha if kind == "LOHA" else lokr)(f"base_model.model.{LAYERS[family][1]}")
    said = refused(tmp_path / "adapter_model.safetensors", made, family, layers)
    assert re.search("peft's settings (lack alpha or r|misstate r or rank_pattern)", said), said


SETTINGS: dict[str, tuple[Any, str]] = {
    "a list": ([1], "not a JSON object"),
    "a number": (5, "not a JSON object"),
    "a word as alpha": ({"lora_alpha": "abc"}, "misstate lora_alpha or alpha_pattern"),
    "a list as alpha": ({"lora_alpha": [1]}, "misstate lora_alpha or alpha_pattern"),
    "a number as pattern": ({"lora_alpha": 2, "alpha_pattern": 5}, "misstate lora_alpha or alpha_pattern"),
    "no regular expression": ({"lora_alpha": 2, "alpha_pattern": {"(": 3}}, "misstate lora_alpha or alpha_pattern"),
    "a pattern's list": ({"lora_alpha": 2, "alpha_pattern": {"to_q": []}}, "misstate lora_alpha or alpha_pattern"),
}


@pytest.mark.parametrize("family", LAYERS)
@pytest.mark.parametrize("kind", SETTINGS)
@pytest.mark.parametrize("beside", [False, True], ids=["header", "file"])
def test_odd_settings_of_peft_are_refused(
    tmp_path: Path, layers: Mapping[str, Layers], family: str, kind: str, beside: bool
) -> None:
    (network, layer), (given, words) = LAYERS[family], SETTINGS[kind]
    if beside:
        (tmp_path / "adapter_config.json").write_text(json.dumps(given))
        weights = pair(f"base_model.model.{layer}", PEFT)
        assert words in refused(tmp_path / "adapter_model.safetensors", weights, family, layers)
    else:
        named = {f"{network}.{name}": value for name, value in given.items()} if isinstance(given, dict) else given
        header = {"lora_adapter_metadata": json.dumps(named)}
        weights = pair(f"{network}.{layer}", PEFT)
        assert words in refused(tmp_path / "a.safetensors", weights, family, layers, **header)


@pytest.mark.parametrize("text", ["null", "", "[" * 100_000])
def test_settings_that_are_no_json_object_are_refused(tmp_path: Path, layers: Mapping[str, Layers], text: str) -> None:
    (tmp_path / "adapter_config.json").write_text(text)
    weights = pair(f"base_model.model.{LAYERS[KLEIN][1]}", PEFT)
    said = refused(tmp_path / "adapter_model.safetensors", weights, KLEIN, layers)
    assert "adapter_config.json is needed beside peft's adapter_model.safetensors" in said


@pytest.mark.parametrize("family", LAYERS)
@pytest.mark.parametrize(
    ("shapes", "words"),
    [
        ((60_000, 60_000), "is of a layer of 3600000000 x 1; there is none, or none is left"),
        ((4, 9), "is of a layer of 36 x 1; there is none"),
    ],
)
def test_a_small_product_of_a_large_matrix_is_refused_before_it_is_made(  # noqa: PLR0917 - most are parameters
    tmp_path: Path,
    layers: Mapping[str, Layers],
    family: str,
    shapes: tuple[int, int],
    words: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    module = ".".join(LAYERS[family])
    weights = {f"{module}.lokr_w{i}_a": torch.ones(rows, 1) for i, rows in enumerate(shapes, 1)}
    weights |= {f"{module}.lokr_w{i}_b": torch.ones(1, 1) for i in (1, 2)}
    never_computed(monkeypatch)
    assert words in refused(tmp_path / "a.safetensors", weights, family, layers)


def never_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = torch.kron

    def kron(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        assert one.is_meta, "nothing of it is computed"
        return plain(one, other)

    monkeypatch.setattr(torch, "kron", kron)


@pytest.mark.parametrize("family", LAYERS)
def test_products_are_no_larger_than_the_layers(
    tmp_path: Path, layers: Mapping[str, Layers], family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    never_computed(monkeypatch)
    module = ".".join(LAYERS[family])
    high = lokr(module) | {f"{module}.lokr_w2_a": torch.ones(8, 9), f"{module}.lokr_w2_b": torch.ones(9, 8)}
    assert "is of rank 36, and of a layer of 32 x 32" in refused(tmp_path / "a.safetensors", high, family, layers)
    count = sum(shape == (32, 32) for own in layers[family].values() for shape in own.values())
    many = {name: part for i in range(2 * count + 20) for name, part in lokr(f"{module}.{i}").items()}
    said = refused(tmp_path / "b.safetensors", many, family, layers)
    assert "is of a layer of 32 x 32; there is none, or none is left" in said
