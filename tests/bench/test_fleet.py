"""The command line of `bench fleet`."""

import json
import sys
from pathlib import Path

import pytest

from bench import fleet, replica
from bench.simulation.balancing import POLICIES


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["bench fleet", *arguments])
    return fleet.main()


def test_it_prints_a_line_and_writes_metrics_of_every_case(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert run(monkeypatch, "--replicas", "1,3", "--edits", "60", "--results", str(tmp_path)) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == fleet.HEAD
    assert len([line for line in lines if any(policy in line for policy in POLICIES)]) == 6
    written = json.loads((tmp_path / "fleet.json").read_text())
    assert [case["replicas"] for case in written["cases"]] == [1, 1, 1, 3, 3, 3]
    assert all(case["answered"] == 60 for case in written["cases"])
    assert (tmp_path / "fleet.png").stat().st_size > 10_000


def test_a_fleet_that_scales_is_drawn_over_time(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    flags = ["--replicas", "1", "--scale", "1..4", "--load", "2", "--edits", "300", "--policy", "least request"]
    assert run(monkeypatch, *flags, "--start-seconds", "10", "--results", str(tmp_path)) == 0
    (case,) = json.loads((tmp_path / "fleet-scaling.json").read_text())["cases"]
    assert max(sample["serving"] for sample in case["samples"]) == 4
    assert (tmp_path / "fleet-scaling.png").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("text", "found"), [("1..256", [1, 2, 4, 8, 16, 32, 64, 128, 256]), ("3..7", [3, 6, 7]), ("1,3,256", [1, 3, 256])]
)
def test_replicas_are_doubled_or_listed(text: str, found: list[int]) -> None:
    assert fleet.sizes(text) == found


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--replicas", "0..4"], "give numbers from 1"),
        (["--replicas", "4..1"], "give numbers from 1"),
        (["--replicas", "1,,2"], "give numbers from 1"),
        (["--load", "0"], "give a number from 0.01 to 10"),
        (["--load", "nan"], "give a number from 0.01 to 10"),
        (["--edits", "1.5"], "give a number from 1"),
        (["--streams", "2"], "give a number from 0 to 1"),
        (["--mix", "20:1"], "a mix is STEPSxROWS:SHARE"),
        (["--mix", "20x0:1"], "a mix is STEPSxROWS:SHARE"),
        (["--mix", "20x1:0"], "a mix is STEPSxROWS:SHARE"),
        (["--mix", "20x99:1"], "99 rows of 1024 tokens do not fit a call"),
        (["--burst", "3x600"], "give TIMESxSECONDS/EVERY"),
        (["--burst", "0.5x60/600"], "give TIMESxSECONDS/EVERY"),
        (["--burst", "2x600/60"], "give TIMESxSECONDS/EVERY"),
        (["--scale", "4"], "give the least and the most replicas"),
        (["--down", "0/60"], "give PODS/SECONDS as 1/300"),
        (["--down", "101%/60"], "give PODS/SECONDS as 1/300"),
        (["--replicas", "8", "--scale", "1..4"], "--replicas must lie within --scale 1..4"),
        (["--profile", "no/such.json"], "is no profile that `python -m bench replica` wrote"),
        (["--policy", "best"], "invalid choice"),
    ],
)
def test_a_wrong_flag_is_one_line_that_says_what_to_give(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        run(monkeypatch, *arguments)
    assert ended.value.code == 2
    said = capsys.readouterr().err.splitlines()
    assert words in said[-1]


def test_a_folder_that_is_no_repository_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(sys, "argv", ["bench replica", "--repository", str(tmp_path)])
    with pytest.raises(SystemExit) as ended:
        replica.main()
    assert ended.value.code == 2
    assert f"{tmp_path} is no exported repository" in capsys.readouterr().err.splitlines()[-1]
