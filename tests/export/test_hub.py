"""What is downloaded of the hub, and what is said where it cannot be."""

import shutil
from pathlib import Path

import httpx
import pytest
from huggingface_hub.utils._paths import filter_repo_objects
from huggingface_hub.utils.tqdm import are_progress_bars_disabled

from export import adapters
from export.checkpoint import find, weight_files
from export.errors import BadInputError
from families.instruct_pix2pix.lora import PREFIXES
from tests.export.command import in_process
from tests.export.test_adapters import LAYER, pair, saved
from tests.export.test_checkpoint import UNET


def test_a_download_shows_its_bars_and_leaves_out_what_nothing_reads(
    checkpoint: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shown, fetched = [], []
    named = ["unet/config.json", "unet/diffusion_pytorch_model.safetensors", "vae/diffusion_pytorch_model.safetensors"]
    unread = ["safety_checker/model.safetensors", "feature_extractor/preprocessor_config.json"]

    def snapshot(_model: str, allow_patterns: list[str], ignore_patterns: list[str], **_options: object) -> str:
        shown.append(not are_progress_bars_disabled())
        patterns = {"allow_patterns": allow_patterns, "ignore_patterns": ignore_patterns}
        fetched.extend(filter_repo_objects([*named, *unread], **patterns))
        return str(checkpoint)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    code, said = in_process(capsys, monkeypatch, "--model", "owner/name", "--max-batch", "2")
    assert (code, "at least 3" in said) == (2, True), "the export ends after the download"
    assert (shown, fetched) == ([True], named)
    assert are_progress_bars_disabled()


@pytest.mark.parametrize(
    "error", [RuntimeError("Data processing error: reset\nbacktrace"), httpx.ProxyError("reset"), OSError("reset")]
)
def test_a_download_that_fails_is_one_line(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever of the hub's libraries it is of."""

    def snapshot(*_arguments: object, **_options: object) -> str:
        raise error

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    with pytest.raises(BadInputError, match=r"^owner/name cannot be downloaded: .*reset$"):
        find("owner/name", None)


def test_a_variant_is_downloaded_where_a_component_has_nothing_else(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub, local, asked = tmp_path / "hub", tmp_path / "local", []
    shutil.copytree(checkpoint, hub)
    (hub / UNET).rename((hub / UNET).with_suffix(".fp16.safetensors"))
    shutil.copy(hub / "vae/diffusion_pytorch_model.safetensors", hub / "vae/diffusion_pytorch_model.fp16.safetensors")

    def snapshot(_model: str, allow_patterns: list[str], **_options: object) -> str:
        asked.append(allow_patterns)
        names = [str(file.relative_to(hub)) for file in hub.rglob("*") if file.is_file()]
        for name in filter_repo_objects(names, allow_patterns=allow_patterns):
            (local / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(hub / name, local / name)
        return str(local)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    assert find("owner/name", None).path == local
    assert asked[1:] == [["unet/*.safetensors"]]
    assert [file.name for file in weight_files(local / "unet")] == ["diffusion_pytorch_model.fp16.safetensors"]
    assert not (local / "vae/diffusion_pytorch_model.fp16.safetensors").exists()


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that the hub has as `owner/name`. What is downloaded of it comes into `cache` beside it."""
    folder, cache = tmp_path / "hub", tmp_path / "cache"
    (folder / "older").mkdir(parents=True)
    cache.mkdir()

    def names(*_arguments: object) -> list[str]:
        return [str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()]

    def snapshot(_model: str, allow_patterns: list[str], ignore_patterns: list[str], **_options: object) -> str:
        for name in filter_repo_objects(names(), allow_patterns=allow_patterns, ignore_patterns=ignore_patterns):
            (cache / name).parent.mkdir(exist_ok=True)
            shutil.copy(folder / name, cache / name)
        return str(cache)

    monkeypatch.setattr("huggingface_hub.HfApi.list_repo_files", names)
    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    saved(folder / "a[v2].safetensors", pair(LAYER))
    saved(folder / "older" / "pytorch_lora_weights.safetensors", pair(LAYER))
    (folder / "adapter_config.json").write_text("{}")
    return folder


def downloaded(hub: Path) -> list[str]:
    return sorted(file.name for file in (hub.parent / "cache").rglob("*"))


def test_of_the_hub_comes_what_is_used_alone(hub: Path) -> None:
    assert adapters.find(["oil=owner/name:0.5"], PREFIXES)[0].file.name == "a[v2].safetensors"
    assert downloaded(hub) == ["a[v2].safetensors", "adapter_config.json"]


def test_several_adapters_of_the_hub_are_told_before_they_are_downloaded(hub: Path) -> None:
    saved(hub / "b.safetensors", pair(LAYER))
    with pytest.raises(BadInputError, match=r"owner/name holds 2 \.safetensors files: give one of them"):
        adapters.find(["oil=owner/name"], PREFIXES)
    assert downloaded(hub) == []


def test_what_was_downloaded_before_serves_where_the_hub_cannot_be_asked(
    hub: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def offline(*_arguments: object) -> list[str]:
        raise ConnectionError

    monkeypatch.setattr("huggingface_hub.HfApi.list_repo_files", offline)
    assert adapters.find(["oil=owner/name"], PREFIXES)[0].file.name == "a[v2].safetensors"
    assert downloaded(hub) == ["a[v2].safetensors", "adapter_config.json"]
