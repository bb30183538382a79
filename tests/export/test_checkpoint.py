"""Checkpoints that are wrong, half there or damaged: one clear line each, exit code 2, nothing installed."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch

from export.__main__ import parse
from export.checkpoint import find, weight_files
from export.errors import BadInputError
from tests import loras
from tests.conftest import ROOT
from tests.export.command import in_process

UNET = "unet/diffusion_pytorch_model.safetensors"


def edited(file: str, change: Callable[[dict[str, object]], object]) -> Callable[[Path], None]:
    """A fault that changes a JSON file of the checkpoint."""

    def fault(checkpoint: Path) -> None:
        content = json.loads((checkpoint / file).read_text())
        change(content)
        (checkpoint / file).write_text(json.dumps(content))

    return fault


def cut(file: str, keep: float) -> Callable[[Path], None]:
    """A fault that truncates a file."""

    def fault(checkpoint: Path) -> None:
        whole = (checkpoint / file).read_bytes()
        (checkpoint / file).write_bytes(whole[: int(len(whole) * keep)])

    return fault


def without_a_tensor(checkpoint: Path) -> None:
    """A fault that no file format notices."""
    tensors = safetensors.torch.load_file(checkpoint / UNET)
    tensors.popitem()
    safetensors.torch.save_file(tensors, checkpoint / UNET, {"format": "pt"})


def mislabelled(checkpoint: Path) -> None:
    """A fault in a safetensors header that ends where it should."""
    loras.mislabel(checkpoint / "text_encoder" / "model.safetensors")


def variants(checkpoint: Path) -> None:
    """Two files of which neither says that it is the one."""
    for variant in ("fp16", "bf16"):
        shutil.copy(checkpoint / UNET, (checkpoint / UNET).with_suffix(f".{variant}.safetensors"))
    (checkpoint / UNET).unlink()


def tokenizer_without(*files: str) -> Callable[[Path], None]:
    """A fault that leaves the tokenizer's folder without these files."""

    def fault(checkpoint: Path) -> None:
        for file in files:
            (checkpoint / "tokenizer" / file).unlink(missing_ok=True)

    return fault


TOKENIZER = ("vocab.json", "merges.txt", "tokenizer.json", "tokenizer_config.json")


def without_merges(checkpoint: Path) -> None:
    """A tokenizer that knows every letter and no word."""
    folder = checkpoint / "tokenizer"
    vocabulary = json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    (folder / "tokenizer.json").unlink()


FAULTS: dict[str, tuple[Callable[[Path], None], str]] = {
    "another pipeline": (edited("model_index.json", lambda c: c.update(_class_name="FluxPipeline")), "FluxPipeline"),
    "no index": (lambda c: (c / "model_index.json").unlink(), "model_index.json is missing"),
    "index is not JSON": (cut("model_index.json", 0.5), "model_index.json cannot be read"),
    "index names no scheduler": (edited("model_index.json", lambda c: c.pop("scheduler")), "no scheduler"),
    "no unet weights": (lambda c: (c / UNET).unlink(), "diffusion_pytorch_model.safetensors"),
    "half a unet": (cut(UNET, 0.5), "truncated"),
    "an empty file": (cut(UNET, 0.0), "not a safetensors file"),
    "little more than a header": (cut(UNET, 0.1), "truncated"),
    "several variants": (variants, "unet has weights of several variants (bf16, fp16)"),
    "no unet config": (lambda c: (c / "unet/config.json").unlink(), "config.json is missing"),
    "unreadable vae config": (cut("vae/config.json", 0.3), "config.json cannot be read"),
    "a config without a field": (edited("vae/config.json", lambda c: c.pop("latent_channels")), "latent_channels"),
    "another unet": (edited("unet/config.json", lambda c: c.update(in_channels=4)), "twice the VAE's 4"),
    "another text encoder": (edited("text_encoder/config.json", lambda c: c.update(hidden_size=32)), "width"),
    "no tokenizer": (lambda c: shutil.rmtree(c / "tokenizer"), "tokenizer is missing"),
    "an empty tokenizer": (tokenizer_without(*TOKENIZER), "does not know the words"),
    "a tokenizer's settings alone": (tokenizer_without(*TOKENIZER[:3]), "does not know the words"),
    "no merges": (without_merges, "letter by letter"),
    "half a tokenizer": (cut("tokenizer/tokenizer.json", 0.5), "tokenizer cannot be read"),
    "a tokenizer of no length": (
        edited("tokenizer/tokenizer_config.json", lambda c: c.pop("model_max_length")),
        "the text encoder takes 77",
    ),
    "a tokenizer of another model": (
        edited("text_encoder/config.json", lambda c: c.update(vocab_size=100)),
        "the text encoder knows 100 tokens",
    ),
    "a sampler that cannot be stepped": (
        edited("model_index.json", lambda c: c.update(scheduler=["diffusers", "RePaintScheduler"])),
        "RePaintScheduler",
    ),
    "a sampler whose package is missing": (
        edited("model_index.json", lambda c: c.update(scheduler=["diffusers", "DPMSolverSDEScheduler"])),
        "DPMSolverSDEScheduler requires the torchsde library",
    ),
    "weights that are mislabelled": (mislabelled, "is damaged"),
    "a tensor too few": (without_a_tensor, "do not fit"),
    "weights of another shape": (edited("unet/config.json", lambda c: c.update(layers_per_block=2)), "do not fit"),
}


BUILT = ("a tensor too few", "weights of another shape")
"""What is seen only while a component is made, after those before it."""


def run(*flags: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "export", *flags]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in BUILT else name for name in FAULTS]
)
def test_a_bad_checkpoint_is_one_clear_line(
    name: str,
    checkpoint: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fault, expected = FAULTS[name]
    bad = tmp_path / "checkpoint"
    shutil.copytree(checkpoint, bad)
    fault(bad)
    repository = tmp_path / "repository"
    code, said = in_process(capsys, monkeypatch, "--model", str(bad), "--repository", str(repository))
    assert code == 2, said
    lines = [line for line in said.splitlines() if line.startswith("export: ")]
    assert len(lines) == 1
    assert expected in lines[0]
    assert "Traceback" not in said
    assert not (repository / "denoiser").exists(), "nothing is installed"
    assert name in BUILT or not repository.exists()


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--model", "/no/such/place"], "neither a folder nor a hub id"),
        (["--model", "no-slash"], "neither a folder nor a hub id"),
        (["--model", "~nobody-here/model"], "~nobody-here/model: there is no such home"),
        (["--model", ".", "--repository", "~nobody-here/out"], "~nobody-here/out: there is no such home"),
        (["--model", ".", "--engine", "abacus"], "abacus"),
        (["--model", ".", "--precision", "int2"], "--precision"),
        (["--model", ".", "--precision", "fp32,bf16"], "2 precisions for all"),
        (["--model", ".", "--max-images", "0"], "--max-images"),
        (["--model", ".", "--default-steps", "51"], "--default-steps"),
        (["--model", ".", "--cache", "on"], "--cache must be off or balanced"),
        (["--model", ".", "--max-pixels", "100"], "--max-pixels"),
        (["--model", ".", "--max-batch", "0"], "--max-batch"),
        (["--model", ".", "--guidance-when-zero", "0.5"], "--guidance-when-zero"),
        (["--model", ".", "--revision", "main"], "--revision"),
    ],
)
def test_a_bad_flag_is_one_clear_line(
    flags: list[str], expected: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    code, said = in_process(capsys, monkeypatch, *flags)
    assert code == 2
    assert expected in said
    assert said.count("\n") == 1


def test_a_batch_that_cannot_hold_a_guided_edit_is_refused(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = ["--model", str(checkpoint), "--max-batch", "2", "--repository", str(tmp_path)]
    code, said = in_process(capsys, monkeypatch, *flags)
    assert (code, "at least 3" in said) == (2, True)


@pytest.mark.parametrize("flag", ["--max-pixels", "--max-batch", "--max-images", "--default-steps"])
@pytest.mark.parametrize("value", ["1_0", "\u0661\u0660", " 10", "1e1", "10.0", "", "9" * 5000])
def test_a_whole_number_is_written_in_digits(flag: str, value: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as error:
        parse(["--model", ".", flag, value])
    assert error.value.code == 2
    assert f"argument {flag}: must be a whole number, and is {value!r}" in capsys.readouterr().err


@pytest.mark.parametrize("value", ["1_0", "\u0661", "nan", "inf", "1,5", ""])
def test_a_number_is_written_in_digits(value: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(["--model", ".", "--guidance-when-zero", value])
    assert f"argument --guidance-when-zero: must be a number, and is {value!r}" in capsys.readouterr().err


@pytest.mark.parametrize("flag", ["--repository", "--safety-checker", "--preview-decoder", "--calibration"])
def test_a_path_has_its_home_and_is_not_empty(flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    """bash leaves `~` behind `=`, and an unset variable makes the current folder of a path."""
    given = vars(parse(["--model", ".", f"{flag}=~/models/a"]))
    assert given[flag.strip("-").replace("-", "_")] == Path.home() / "models" / "a"
    with pytest.raises(SystemExit):
        parse(["--model", ".", f"{flag}="])
    assert f"argument {flag}: must be a path, and is ''" in capsys.readouterr().err


@pytest.mark.slow
def test_the_command_line_itself() -> None:
    done = run("--model", "no-slash")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines() == ["export: no-slash is neither a folder nor a hub id (OWNER/NAME)"]


def test_sharded_weights_need_every_shard(checkpoint: Path, tmp_path: Path) -> None:
    folder = tmp_path / "unet"
    folder.mkdir()
    shutil.copy(checkpoint / UNET, folder / "diffusion_pytorch_model-00001-of-00002.safetensors")
    names = [f"diffusion_pytorch_model-0000{i}-of-00002.safetensors" for i in (1, 2)]
    index = {"weight_map": {"a": names[0], "b": names[1]}}
    (folder / "diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(BadInputError, match=r"00002-of-00002.safetensors is missing"):
        weight_files(folder)
    shutil.copy(checkpoint / UNET, folder / names[1])
    assert [file.name for file in weight_files(folder)] == names


def test_a_good_checkpoint_names_its_family_and_sampler(checkpoint: Path) -> None:
    found = find(str(checkpoint), None)
    assert (found.family, found.scheduler) == ("instruct_pix2pix", "EulerAncestralDiscreteScheduler")
