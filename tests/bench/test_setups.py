"""What benches have exported, and what they say where it cannot be; no engine is built here."""

import subprocess
import sys
from pathlib import Path

import pytest

from bench import setups


def exported(monkeypatch: pytest.MonkeyPatch, code: int = 0) -> list[list[str]]:
    """The command lines of exports from now on, each of which ends with `code`."""
    asked: list[list[str]] = []

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[bytes]:
        asked.append(command)
        return subprocess.CompletedProcess(command, code)

    monkeypatch.setattr(setups.subprocess, "run", run)
    monkeypatch.setattr(setups.Setup, "checkpoint", lambda _: Path("checkpoint"))
    return asked


def flag(command: list[str], name: str) -> str:
    return command[command.index(name) + 1]


@pytest.mark.parametrize(
    ("asked", "precision", "pixels"),
    [
        ({}, "auto", 512 * 512),
        ({"precision": "bf16"}, "bf16", 512 * 512),
        ({"precision": "fp32"}, "fp32", 256 * 256),
        ({"engine": "tensorrt_rtx"}, "auto", 512 * 512),
    ],
)
def test_the_full_checkpoint_is_exported_in_what_it_can_be(
    monkeypatch: pytest.MonkeyPatch, asked: dict[str, str], precision: str, pixels: int
) -> None:
    commands = exported(monkeypatch)
    folder = setups.SETUPS["full"].repository(**asked)
    assert (flag(commands[0], "--precision"), flag(commands[0], "--max-pixels")) == (precision, str(pixels))
    assert flag(commands[0], "--repository") == str(folder)


def test_engines_for_older_instructions_lie_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    exported(monkeypatch)
    own, held = (setups.SETUPS["demo"].repository("int8", isa=isa) for isa in (None, "AVX2"))
    assert (own.name, held.name) == ("demo-openvino-int8", "demo-openvino-int8-AVX2")


def test_an_export_that_fails_ends_the_bench_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    from bench import __main__ as bench
    from bench import streams

    exported(monkeypatch, code=1)
    monkeypatch.setattr(streams.report, "machine", dict)
    monkeypatch.setattr(sys, "argv", ["bench", "streams", "--checkpoint", "full"])
    with pytest.raises(SystemExit) as ended:
        bench.main()
    said = "bench: the full checkpoint cannot be exported in auto: the export has said why"
    assert str(ended.value) == said
    assert "Traceback" not in capfd.readouterr().err
