"""Files of a checkpoint that are JSON or safetensors in form, and not in sense: one line that names the file."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from export.checkpoint import find, require_whole, weight_files
from export.errors import BadInputError
from families import load
from families.errors import BadCheckpointError
from families.interface import Limits

DEEP = "[" * 100_000
INDEX = "diffusion_pytorch_model.safetensors.index.json"


@pytest.fixture
def copy(checkpoint: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(checkpoint, tmp_path / "checkpoint"))


@pytest.mark.parametrize("name", [["StableDiffusionInstructPix2PixPipeline"], {"a": 1}, None, 5])
def test_a_class_that_is_no_name_is_one_line(copy: Path, name: Any) -> None:
    file = copy / "model_index.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"_class_name": name}))
    with pytest.raises(BadInputError, match=r"pipeline class .* is not supported") as error:
        find(str(copy), None)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", [DEEP, "[]", "null", '"a"', '{"a": ' * 100_000])
def test_an_index_that_is_no_object_is_one_line(copy: Path, text: str) -> None:
    (copy / "model_index.json").write_text(text)
    with pytest.raises(BadInputError, match=r"model_index\.json (cannot be read|is not a JSON object)") as error:
        find(str(copy), None)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "text", [DEEP, '{"weight_map": {"a": ["x"]}}', '{"weight_map": {"a": "x", "b": 1}}', '{"weight_map": {"a": {}}}']
)
def test_an_index_of_weights_that_names_no_files_is_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / INDEX).write_text(text)
    with pytest.raises(BadInputError, match=rf"{INDEX} (cannot be read|has no weight_map)") as error:
        weight_files(tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "header",
    [
        "[" * 200_000,
        '{"w": ' * 100_000,
        '[{"w": 1}]',
        '{"w": [1]}',
        '{"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 1e999]}}',
        '{"w": {"dtype": "F32", "shape": [2], "data_offsets": [0]}}',
        '{"w": {"dtype": "F32", "shape": [2], "data_offsets": []}}',
        '{"w": {"dtype": "F32", "shape": [1e999], "data_offsets": [0, 8]}}',
        '{"w": {"dtype": "F32", "shape": 2, "data_offsets": [0, 8]}}',
    ],
)
def test_a_header_of_another_kind_is_one_line(tmp_path: Path, header: str) -> None:
    file = tmp_path / "model.safetensors"
    file.write_bytes(len(header).to_bytes(8, "little") + header.encode() + bytes(8))
    with pytest.raises(BadInputError, match=r"model\.safetensors is (not a safetensors file|damaged)") as error:
        require_whole(file)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("component", "folder", "changed"),
    [
        ("vae_decoder", "vae", {"layers_per_block": "1"}),
        ("vae_decoder", "vae", {"block_out_channels": 5}),
        ("denoiser", "unet", {"layers_per_block": "1"}),
        ("denoiser", "unet", {"down_block_types": None}),
        ("text_encoder", "text_encoder", {"num_hidden_layers": "1"}),
        ("text_encoder", "text_encoder", {"hidden_size": [1]}),
    ],
)
def test_a_config_of_other_types_is_one_line(copy: Path, component: str, folder: str, changed: dict[str, Any]) -> None:
    file = copy / folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changed))
    with pytest.raises(BadCheckpointError, match=f"{copy / folder}") as error:
        load("instruct_pix2pix", "modules").module(component, copy)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("folder", ["vae", "text_encoder"])
def test_a_config_too_deep_to_read_is_one_line(copy: Path, folder: str) -> None:
    (copy / folder / "config.json").write_text(DEEP)
    component = {"vae": "vae_decoder"}.get(folder, folder)
    with pytest.raises(BadCheckpointError, match=rf"{folder}/config\.json cannot be read"):
        load("instruct_pix2pix", "modules").module(component, copy)


@pytest.mark.parametrize("value", [None, [], {}, "x", float("inf"), float("nan")])
def test_a_field_that_is_no_number_is_one_line(copy: Path, value: Any) -> None:
    file = copy / "unet" / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"in_channels": value}))
    with pytest.raises(BadCheckpointError, match="a config lacks or misstates") as error:
        load("instruct_pix2pix", "table").components(copy, Limits(256 * 256, 8))
    assert "\n" not in str(error.value)
