"""`python -m export` without the seconds of a new process."""

import sys

import pytest


def in_process(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *flags: str) -> tuple[int, str]:
    """The export's exit code and what it said."""
    from export.__main__ import main

    monkeypatch.setattr(sys, "argv", ["export", *flags])
    return main(), capsys.readouterr().err
