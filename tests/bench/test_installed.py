"""Rivals with environments of their own: what is said where they are not there, what each is asked. None is here."""

import base64
import io
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bench import compare, edits, installed, optimum_intel, sdcpp
from bench.compare import OURS, REFERENCE
from bench.edits import Edit
from bench.installed import READY, RIVALS


def environment(folder: Path, name: str, *, ready: bool = True) -> Path:
    """An environment as `make rivals` leaves it, or as it is before that has ended."""
    made = folder / name
    (made / "bin").mkdir(parents=True)
    if ready:
        (made / READY).touch()
    return made


def test_one_line_says_which_are_not_installed_and_how_to(tmp_path: Path) -> None:
    environment(tmp_path, "optimum-intel", ready=False)
    fit, lines = installed.told(RIVALS, tmp_path, "full")
    assert fit == []
    assert lines == [
        f"left out, since not installed in {tmp_path}: stable-diffusion.cpp, optimum-intel; `make rivals` installs them"
    ]


@pytest.mark.parametrize(
    ("setup", "fit", "left_out"),
    [
        ("full", "stable-diffusion.cpp", ["optimum-intel"]),
        ("klein-blocks", "optimum-intel", ["stable-diffusion.cpp"]),
        ("demo", None, ["stable-diffusion.cpp", "optimum-intel"]),
    ],
)
def test_one_that_cannot_take_part_is_told_with_the_reason(
    tmp_path: Path, setup: str, fit: str | None, left_out: list[str]
) -> None:
    for rival in RIVALS:
        environment(tmp_path, rival.folder)
    found, lines = installed.told(RIVALS, tmp_path, setup)
    assert [rival.name for rival in found] == ([fit] if fit else [])
    assert [line.split(": ")[1] for line in lines] == left_out
    assert all(line.startswith("left out: ") and line.split(": ")[2] for line in lines)


def test_every_rival_has_its_lock_and_its_line_of_make() -> None:
    makefile = (installed.ROOT / "Makefile").read_text()
    for rival in RIVALS:
        lock = (installed.ROOT / "requirements" / "rivals" / f"{rival.folder}.lock").read_text().splitlines()
        assert lock
        assert all("==" in line for line in lock)
        assert f"$(RIVALS)/{rival.folder}/{READY}: requirements/rivals/{rival.folder}.lock" in makefile


def test_no_rivals_package_is_in_the_projects_own_lock() -> None:
    ours = (installed.ROOT / "requirements" / "cpu.lock").read_text()
    assert "optimum" not in ours
    assert "stable-diffusion" not in ours


def test_the_table_has_a_line_of_each_side_and_no_likeness_of_one_whose_noise_is_its_own(
    capsys: pytest.CaptureFixture[str],
) -> None:
    case = compare.Case("tiny", "full", 64, 2, 3, 1.0)
    comparison = compare.Comparison(case, installed.OWN_NOISE)
    names = (REFERENCE, OURS, "stable-diffusion.cpp", "optimum-intel")
    comparison.run({name: lambda _: np.zeros((64, 64, 3), np.uint8) for name in names})
    for column in comparison.columns.values():
        column.seconds = [2.0, 3.0, 4.0]
    compare.show(comparison.metrics())
    lines = {line.split("  ")[1]: line for line in capsys.readouterr().out.splitlines() if line.startswith("  ")}
    assert set(lines) == set(names)
    assert "PSNR" not in lines["stable-diffusion.cpp"]
    assert "PSNR" in lines["optimum-intel"]
    assert "times as fast" in lines["stable-diffusion.cpp"]


@pytest.mark.parametrize(("guidance", "image_guidance"), [(1.0, 1.0), (7.5, 1.5)])
def test_the_server_is_asked_for_as_many_rows_as_the_others_compute(guidance: float, image_guidance: float) -> None:
    edit = Edit(Image.new("RGB", (64, 48)), "make it night", 4, 1000, guidance)
    asked = sdcpp.body(edit)
    prompt, _, more = asked["prompt"].partition("<sd_cpp_extra_args>")
    assert prompt == "make it night"
    scales = json.loads(more.removesuffix("</sd_cpp_extra_args>"))["sample_params"]["guidance"]
    assert (asked["cfg_scale"], scales["img_cfg"]) == (guidance, image_guidance)
    assert (asked["width"], asked["height"], asked["steps"], asked["seed"]) == (64, 48, 4, 1000)
    assert Image.open(io.BytesIO(base64.b64decode(asked["extra_images"][0]))).size == (64, 48)


def test_a_server_that_ends_is_told_in_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = environment(tmp_path, "stable-diffusion-cpp")
    packages = made / "lib" / "python3" / "site-packages" / "bin"
    packages.mkdir(parents=True)
    (packages / "sd-server").symlink_to("/bin/false")
    monkeypatch.setattr(sdcpp, "readable", lambda checkpoint: checkpoint)
    with (
        pytest.raises(SystemExit, match=r"server has ended: .*/sd-server.log says why"),
        sdcpp.serving(made, tmp_path),
    ):
        pass


@contextmanager
def piped(made: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[compare.Side]:
    """The rival of `made`, whose other end is this script."""
    (made / "bin" / "python").symlink_to(sys.executable)
    (made / "edits.py").write_text(script)
    monkeypatch.setattr(optimum_intel, "SCRIPT", made / "edits.py")
    with optimum_intel.serving(made, made / "checkpoint") as side:
        yield side


def test_a_pipeline_is_asked_by_the_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = "for line in sys.stdin: print(json.loads(line)['image'], flush=True)"
    echo = f"import json, sys\nprint('ready', flush=True)\n{answer}"
    edit = next(edits.series(32, 2, 1.0))
    with piped(environment(tmp_path, "optimum-intel"), echo, monkeypatch) as side:
        for _ in range(2):
            assert np.array_equal(side(edit), np.asarray(edit.picture))


def test_a_pipeline_that_ends_is_told_in_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = environment(tmp_path, "optimum-intel")
    with (
        pytest.raises(SystemExit, match=r"pipeline has ended: .*/optimum-intel.log says why"),
        piped(made, "raise SystemExit('no engines')", monkeypatch),
    ):
        pass
    assert (made / "optimum-intel.log").read_text() == "no engines\n"
