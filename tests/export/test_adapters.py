"""`--adapter`: every naming read alike, and whatever a bank cannot express refused before anything is built."""

import json
import pickle
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import torch

from export import adapters, release
from export.adapters import MOST, Source
from export.checkpoint import Checkpoint
from export.checkpoint import find as found
from export.errors import BadInputError
from export.run import Options
from families import PIPELINES, load
from families.errors import BadCheckpointError
from families.instruct_pix2pix.lora import PREFIXES, READER
from families.interface import Limits
from families.parts.lora_weights import WRAPPED
from tests import loras
from tests.conftest import ADAPTERS, FAMILY, ROUTES, run_export

LAYER = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
LAYERS = {"denoiser": {LAYER: (32, 32)}}
"""For what the reader asks of a checkpoint: how large the layers are that may be adapted."""
Weights = dict[str, torch.Tensor]


def find(arguments: list[str]) -> tuple[Source, ...]:
    return adapters.find(arguments, PREFIXES)


def pair(layer: str, rank: int = 2, width: int = 32, out: int = 32, prefix: str = "unet.") -> Weights:
    """One linear layer's LoRA in peft's naming."""
    generator = torch.Generator().manual_seed(rank)
    return {
        f"{prefix}{layer}.lora_A.weight": torch.randn(rank, width, generator=generator),
        f"{prefix}{layer}.lora_B.weight": torch.randn(out, rank, generator=generator),
    }


def saved(file: Path, weights: Weights) -> Path:
    safetensors.torch.save_file(weights, file)
    return file


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ("oil", "must be ROUTE="),
        ("=x", "must be ROUTE="),
        ("../oil=x", "must be ROUTE="),
        ("a,b=x", "must be ROUTE="),
        ("aé=x", "must be ROUTE="),
        ("base=x", "names the model without adapters"),
        ("oil=x:nan", "the scale must be -10 to 10"),
        ("oil=x:1e3", "the scale must be -10 to 10"),
        ("oil=x:1_0", "the scale must be -10 to 10"),
        ("oil=x:\u0661", "the scale must be -10 to 10"),
        ("oil=x:\uff11.5", "the scale must be -10 to 10"),
        ("oil=x: 1", "the scale must be -10 to 10"),
        ("oil=no/such/folder", "neither a folder nor a hub id"),
    ],
)
def test_a_wrong_flag_is_one_line(argument: str, words: str) -> None:
    with pytest.raises(BadInputError, match=words) as error:
        find([argument])
    assert "\n" not in str(error.value)


def test_routes_are_unique_and_bounded(tmp_path: Path) -> None:
    file = saved(tmp_path / "a.safetensors", pair(LAYER))
    with pytest.raises(BadInputError, match="names oil twice"):
        find([f"oil={file}", f"oil={file}:0.5"])
    with pytest.raises(BadInputError, match=f"at most {MOST}"):
        find([f"r{i}={file}" for i in range(MOST + 1)])
    assert [source.route for source in find([f"b={file}", f"a={tmp_path}:-2.5"])] == ["a", "b"]


def test_a_family_without_adapters_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PIPELINES, "SomePipeline", "images")  # a folder of families, and not one that reads LoRA
    with pytest.raises(BadInputError, match="this kind of checkpoint takes no adapters yet"):
        adapters.prefixes_of("images")


def truncated(file: Path) -> None:
    saved(file, pair(LAYER))
    file.write_bytes(file.read_bytes()[:-8])


def pickled(file: Path) -> None:
    file.write_bytes(pickle.dumps({"unet": [1.0]}))


def mislabelled(file: Path) -> None:
    loras.mislabel(saved(file, pair(LAYER)))


HOSTILE: dict[str, tuple[Callable[[Path], object], str]] = {
    "truncated": (truncated, "truncated or damaged"),
    "mislabelled": (mislabelled, "is damaged"),
    "pickled": (pickled, "not a safetensors file .no pickles are read."),
    "empty": (lambda file: file.write_bytes(b""), "not a safetensors file"),
    "no weights": (lambda file: saved(file, {"lora_unet_x.alpha": torch.tensor(1.0)}), "holds no LoRA weights"),
    "DoRA": (
        lambda file: saved(file, {**pair(LAYER), f"unet.{LAYER}.lora_magnitude_vector": torch.ones(32)}),
        f"no plain LoRA: unet.{LAYER}.lora_magnitude_vector",
    ),
    "LoCon": (
        lambda file: saved(file, {f"lora_unet_{i}.lora_mid.weight": torch.ones(2) for i in range(5)}),
        "no plain LoRA: lora_unet_0.lora_mid.weight, .* and 2 more",
    ),
    "integers": (
        lambda file: saved(file, {name: tensor.to(torch.int8) for name, tensor in pair(LAYER).items()}),
        rf"no floating-point numbers: unet.{LAYER}.lora_A.weight \(I8\)",
    ),
    "an alpha for each rank": (
        lambda file: saved(file, {**pair(LAYER), f"unet.{LAYER}.alpha": torch.ones(2)}),
        f"an alpha that is no number: unet.{LAYER}.alpha",
    ),
    "a transformer's": (
        lambda file: saved(file, pair("blocks.0.attn.to_q", prefix="transformer.")),
        "or of a part that takes none: transformer.blocks.0",
    ),
    "SDXL's second text encoder": (
        lambda file: saved(file, pair("encoder.layers.0.mlp.fc1", prefix="text_encoder_2.")),
        "or of a part that takes none: text_encoder_2",
    ),
    "enormous rank": (
        lambda file: saved(file, pair(LAYER, rank=100_000)),
        r"ranks that are not 1 to 256: .*\(100000\)",
    ),
    "no rank": (lambda file: saved(file, pair(LAYER, rank=0)), "ranks that are not 1 to 256"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_file_is_refused_before_it_is_read(tmp_path: Path, kind: str) -> None:
    make, words = HOSTILE[kind]
    file = tmp_path / "adapter.safetensors"
    make(file)
    with pytest.raises(BadInputError, match=words) as error:
        find([f"oil={file}"])
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("prefix", ["unet.", WRAPPED])
def test_a_file_damaged_after_it_was_judged_is_one_line(tmp_path: Path, prefix: str) -> None:
    file = saved(tmp_path / "adapter.safetensors", pair(LAYER, prefix=prefix))
    loras.mislabel(file)
    with pytest.raises(BadCheckpointError, match="cannot be read as LoRA") as error:
        READER.read(file, LAYERS)
    assert "\n" not in str(error.value)


def test_a_folder_of_pickles_is_refused_unread(tmp_path: Path) -> None:
    pickled(tmp_path / "pytorch_lora_weights.bin")
    with pytest.raises(BadInputError, match=r"no .safetensors file .no pickles are read."):
        find([f"oil={tmp_path}"])


def test_peft_own_folders_read_as_diffusers_files_do(checkpoint: Path, tmp_path: Path) -> None:
    source = ADAPTERS / "oil" / "pytorch_lora_weights.safetensors"
    named = {
        name.replace("unet.", "base_model.model."): tensor
        for name, tensor in safetensors.torch.load_file(source).items()
    }
    saved(tmp_path / "adapter_model.safetensors", named)
    file = find([f"oil={tmp_path}"])[0].file
    with pytest.raises(Exception, match=r"adapter_config.json is needed"):
        READER.read(file, LAYERS)
    settings = {"r": 4, "lora_alpha": 2, "alpha_pattern": {"attn2.to_q": 8}}
    (tmp_path / "adapter_config.json").write_text(json.dumps(settings))
    ours, plain = (READER.read(one, LAYERS)["denoiser"] for one in (file, source))
    assert ours.keys() == plain.keys()
    assert all(torch.equal(ours[name].down, plain[name].down) for name in ours)
    assert {ours[name].scale for name in ours if name.endswith("attn2.to_q")} == {2.0}
    assert {ours[name].scale for name in ours if not name.endswith("attn2.to_q")} == {0.5}


@pytest.fixture
def bare(checkpoint: Path, tmp_path: Path) -> Checkpoint:
    """The checkpoint with its weights' names and shapes, and no number of them that could be read."""
    shutil.copytree(checkpoint, tmp_path / "bare")
    for file in (tmp_path / "bare").rglob("*.safetensors"):
        content = file.read_bytes()
        (length,) = struct.unpack("<Q", content[:8])
        file.write_bytes(content[: 8 + length] + b"\xff" * (len(content) - 8 - length))
    return Checkpoint(tmp_path / "bare", FAMILY, "")


def judged(checkpoint: Checkpoint, file: Path) -> adapters.Bank:
    table = load(checkpoint.family, "table").components(checkpoint.path, Limits(256 * 256, 8))
    return adapters.judged_bank(checkpoint, find([f"oil={file}"]), table)


@pytest.mark.parametrize(
    ("weights", "words"),
    [
        (pair(LAYER, width=31), f"denoiser has layers of other shapes: {LAYER}"),
        (pair("down_blocks.0.resnets.0.conv1"), "beyond linear layers and 1 x 1 convolutions: down_blocks"),
        (pair("encoder.layers.9.mlp.fc1", prefix="text_encoder."), "text_encoder has no such layers: encoder.layers.9"),
        ({name: tensor / 0 for name, tensor in pair(LAYER).items()}, f"not finite numbers: {LAYER}"),
    ],
)
def test_what_does_not_fit_is_refused_before_a_weight_is_read(
    bare: Checkpoint, tmp_path: Path, weights: Weights, words: str
) -> None:
    with pytest.raises(BadInputError, match=f"adapter oil: .*{words}"):
        judged(bare, saved(tmp_path / "a.safetensors", weights))


def test_a_bank_knows_which_adapters_change_a_component(bare: Checkpoint, tmp_path: Path) -> None:
    text = pair("encoder.layers.0.mlp.fc1", prefix="text_encoder.", width=64, out=128)
    files = {"a": pair(LAYER), "b": text, "c": pair(LAYER) | text}
    sources = [f"{route}={saved(tmp_path / f'{route}.safetensors', weights)}" for route, weights in files.items()]
    table = load(bare.family, "table")
    limits, components = Limits(256 * 256, 8), table.components(bare.path, Limits(256 * 256, 8))
    bank = adapters.judged_bank(bare, find(sources), components)
    extended = [bank.extend(component) for component in components]
    made = release.settings(found(str(bare.path), None), table, extended, bank, Options(limits))
    assert made.banks == {"denoiser": (1, 3), "text_encoder": (2, 3)}


@pytest.mark.parametrize("kind", [torch.float8_e4m3fn, torch.float8_e5m2, torch.bfloat16, torch.float64])
def test_every_precision_means_its_numbers(bare: Checkpoint, tmp_path: Path, kind: torch.dtype) -> None:
    narrow = {name: tensor.to(kind) for name, tensor in pair(LAYER).items()}
    file = saved(tmp_path / "a.safetensors", narrow)
    assert judged(bare, file).routes == ("oil",)
    own = READER.read(file, LAYERS)["denoiser"][LAYER]
    down, up = (tensor.float() for tensor in narrow.values())
    assert torch.equal(own.down, down)
    assert torch.equal(own.up, up)


def test_kohyas_words_behind_dotted_names_are_read(bare: Checkpoint, tmp_path: Path) -> None:
    words = {"lora_A": "lora_down", "lora_B": "lora_up"}
    named = {name.replace(word, words[word]): pair(LAYER)[name] for name, word in zip(pair(LAYER), words, strict=True)}
    own = READER.read(saved(tmp_path / "a.safetensors", named), LAYERS)["denoiser"][LAYER]
    assert torch.equal(own.down, pair(LAYER)[f"unet.{LAYER}.lora_A.weight"])


@pytest.mark.parametrize("prefix", ["lora_unet_", "unet."])
def test_lokr_of_a_unet_is_read(tmp_path: Path, prefix: str) -> None:
    module = prefix + (LAYER if prefix.endswith(".") else LAYER.replace(".", "_"))
    parts = {"lokr_w1": torch.randn(4, 4), "lokr_w2_a": torch.randn(8, 2), "lokr_w2_b": torch.randn(2, 8)}
    named = {f"{module}.{name}": tensor for name, tensor in parts.items()} | {f"{module}.alpha": torch.tensor(1.0)}
    own = READER.read(saved(tmp_path / "a.safetensors", named), LAYERS)["denoiser"][LAYER]
    whole = 0.5 * torch.kron(parts["lokr_w1"], parts["lokr_w2_a"] @ parts["lokr_w2_b"])
    torch.testing.assert_close(own.scale * own.up @ own.down, whole)


@pytest.mark.long
def test_a_changed_set_rebuilds_what_depends_on_it_alone(repository: Path, checkpoint: Path, tmp_path: Path) -> None:
    target = tmp_path / "repository"
    shutil.copytree(repository, target, symlinks=True)
    renamed = {("a-pen" if route == "ink" else route): source for route, source in ROUTES.items()}
    done = run_export(checkpoint, target, routes=renamed)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("up to date") == 4, "a route's name is in no engine"
    assert '"a-pen,kohya,oil,settings"' in (target / "edit" / "config.pbtxt").read_text()
    denoiser, text_encoder = ((target / name).resolve() for name in ("denoiser", "text_encoder"))
    done = run_export(checkpoint, target, routes=renamed | {"a-pen": "ink:0.5"})
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("up to date") == 3
    assert (target / "denoiser").resolve() == denoiser, "that adapter changes the text encoder alone"
    assert (target / "text_encoder").resolve() != text_encoder


@pytest.mark.slow
def test_an_adapter_that_does_not_fit_installs_nothing(checkpoint: Path, tmp_path: Path) -> None:
    wrong = saved(tmp_path / "wrong.safetensors", pair("encoder.layers.9.mlp.fc1", prefix="text_encoder."))
    target = tmp_path / "repository"
    done = run_export(checkpoint, target, f"--adapter=wrong={wrong}", routes={})
    assert done.returncode == 2
    assert "adapter wrong: text_encoder has no such layers: encoder.layers.9" in done.stderr
    assert not (target / "edit" / ".tritouch" / "current").exists()
