"""Which files a component's weights are, and where in them each lies: one answer for all who ask."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
import safetensors.torch
import torch

from families import load
from families.errors import BadCheckpointError
from families.parts.pretrained import DTYPES, fill, read
from families.parts.weight_files import ITEM_BYTES, stored, weight_files
from tests.families import tiny

INDEX = "model.safetensors.index.json"


def write(folder: Path, *names: str) -> None:
    """Files that are there; an index names one shard."""
    for name in names:
        shards = {"weight_map": {"a": "model-00001-of-00001.safetensors"}}
        (folder / name).write_text(json.dumps(shards) if name.endswith(".json") else "")


@pytest.mark.parametrize(
    ("there", "taken"),
    [
        (["model.safetensors"], "model.safetensors"),
        (["model.safetensors", INDEX], "model-00001-of-00001.safetensors"),
        (["diffusion_pytorch_model.safetensors", "model.safetensors"], "diffusion_pytorch_model.safetensors"),
        (["model.fp16.safetensors"], "model.fp16.safetensors"),
        (["model.fp16.safetensors", "model.safetensors"], "model.safetensors"),
        (["model.fp16.safetensors", INDEX], "model-00001-of-00001.safetensors"),
        (
            ["model.safetensors.index.fp16.json", "model.fp16-00001-of-00001.safetensors"],
            "model-00001-of-00001.safetensors",
        ),
        (["model.fp16.safetensors.index.json", "model.fp16.safetensors"], "model-00001-of-00001.safetensors"),
        (["model.bin", "model.config.json", "model.non_ema.safetensors"], "model.non_ema.safetensors"),
    ],
)
def test_an_index_comes_first_and_a_variant_last(tmp_path: Path, there: Sequence[str], taken: str) -> None:
    write(tmp_path, *there)
    assert [file.name for file in weight_files(tmp_path)] == [taken]


@pytest.mark.parametrize(
    ("there", "said"),
    [
        ([], "no diffusion_pytorch_model.safetensors or model.safetensors"),
        (["model.bin"], "no pickles are read"),
        (["model.fp16.safetensors", "model.bf16.safetensors"], r"several variants \(bf16, fp16\); leave it one"),
    ],
)
def test_what_cannot_be_told_is_one_line(tmp_path: Path, there: Sequence[str], said: str) -> None:
    write(tmp_path, *there)
    with pytest.raises(BadCheckpointError, match=said):
        weight_files(tmp_path)


@pytest.mark.parametrize(
    ("family", "name", "folder"),
    [("instruct_pix2pix", "text_encoder", "text_encoder"), ("instruct_pix2pix", "vae_decoder", "vae")],
    ids=["transformers", "diffusers"],
)
@pytest.mark.parametrize("variant", ["", ".fp16"])
def test_both_libraries_load_what_is_fingerprinted(
    family: str, name: str, folder: str, variant: str, tmp_path: Path
) -> None:
    """Shards of ones, and beside them a single file of zeros, which transformers by itself would take."""
    shutil.copytree(tiny.checkpoint(family) / folder, tmp_path / folder)
    (single,) = weight_files(tmp_path / folder)
    weights = safetensors.torch.load_file(single)
    single.unlink()
    stem, halves = single.stem, (list(weights)[::2], list(weights)[1::2])
    for number, names in enumerate(halves):
        ones = {one: torch.ones_like(weights[one]) for one in names}
        safetensors.torch.save_file(ones, single.with_name(f"{stem}{variant}-{number}-of-2.safetensors"))
    index = {one: f"{stem}{variant}-{number}-of-2.safetensors" for number, names in enumerate(halves) for one in names}
    zeros = {one: torch.zeros_like(weight) for one, weight in weights.items()}
    safetensors.torch.save_file(zeros, single.with_name(f"{stem}{variant}.safetensors"))
    single.with_name(f"{stem}.safetensors.index{variant}.json").write_text(json.dumps({"weight_map": index}))
    module = fill(load(family, "modules").module(name, tmp_path), torch.float32)
    assert all(bool((weight == 1).all()) for weight in module.parameters())


def test_every_type_is_read_where_it_lies(tmp_path: Path) -> None:
    assert set(DTYPES) == set(ITEM_BYTES)
    ones = {name: torch.ones(3, 5).to(dtype) for name, dtype in DTYPES.items()}
    safetensors.torch.save_file({**ones, "empty": torch.empty(0, 4), "number": torch.tensor(2.0)}, tmp_path / "m")
    found = stored([tmp_path / "m"])
    for name, tensor in ones.items():
        assert (found[name].dtype, found[name].bytes) == (name, tensor.nbytes)
        assert torch.equal(read(found[name]).float(), tensor.float()), name
    assert (read(found["empty"]).shape, read(found["number"]).item()) == ((0, 4), 2.0)


def test_a_tensor_of_another_size_than_its_shape_is_damage(tmp_path: Path) -> None:
    header = {"w": {"dtype": "F16", "shape": [2, 3], "data_offsets": [0, 24]}}
    text = json.dumps(header).encode()
    (tmp_path / "m").write_bytes(len(text).to_bytes(8, "little") + text + bytes(24))
    with pytest.raises(BadCheckpointError, match="w is 24 bytes, and not 2 x 3 of F16"):
        stored([tmp_path / "m"])
    (tmp_path / "m").write_bytes((tmp_path / "m").read_bytes().replace(b"F16", b"F17"))
    with pytest.raises(BadCheckpointError, match="w in F17, which is not read"):
        stored([tmp_path / "m"])
