"""Safety checkers that are wrong, half there or damaged: one clear line each, exit code 2, nothing installed."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch

from tests import safety
from tests.export.command import in_process


def not_there(folder: Path) -> None:
    shutil.rmtree(folder)


def without_weights(folder: Path) -> None:
    (folder / "safety_checker" / "model.safetensors").rename(folder / "safety_checker" / "pytorch_model.bin")


def cut_off(folder: Path) -> None:
    file = folder / "safety_checker" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1000])


def without_a_limit(folder: Path) -> None:
    file = folder / "safety_checker" / "model.safetensors"
    tensors = safetensors.torch.load_file(file)
    tensors["concept_embeds_weights"][3] = float("nan")
    safetensors.torch.save_file(tensors, file, {"format": "pt"})


def of_another_kind(folder: Path) -> None:
    (folder / "safety_checker" / "config.json").write_text('{"architectures": ["CLIPModel"], "vision_config": {}}')


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (not_there, "safety_checker/config.json is missing"),
        (without_weights, "(no pickles are read)"),
        (cut_off, "is truncated or damaged"),
        (without_a_limit, "hold no finite special_care_embeds_weights and concept_embeds_weights"),
        (of_another_kind, "and not a StableDiffusionSafetyChecker"),
    ],
)
def test_a_bad_safety_checker_is_one_clear_line(  # noqa: PLR0917 - most are fixtures
    fault: Callable[[Path], None],
    expected: str,
    checkpoint: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder, repository = safety.build(tmp_path / "safety"), tmp_path / "repository"
    fault(folder)
    capsys.readouterr()  # bars of transformers, which saved it
    flags = ["--model", str(checkpoint), "--safety-checker", str(folder), "--repository", str(repository)]
    code, said = in_process(capsys, monkeypatch, *flags)
    assert code == 2, said
    assert [expected in line for line in said.splitlines() if line.startswith("export: ")] == [True]
    assert "Traceback" not in said
    assert not (repository / "denoiser").exists(), "nothing is installed"
