"""What an export says while it works."""

import io

import pytest
from rich.console import Console

from export import report
from export.report import Report


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds, the last of which it is."""
    told = [100.0]
    monkeypatch.setattr(report.time, "monotonic", lambda: told[-1])
    return told


def said(clock: list[float], seconds: float, steps: int) -> str:
    """What a log has of `steps` steps of so many seconds each."""
    written = io.StringIO()
    with Report(Console(file=written, width=120)).steps("edits in fp32", steps) as step:
        for _ in range(steps):
            clock.append(clock[-1] + seconds)
            step()
    return written.getvalue()


def test_how_long_edits_take_is_told_after_the_first_step(clock: list[float]) -> None:
    told = said(clock, 40.0, 72)
    assert told.startswith("edits in fp32: 72 steps, by the first of them about 48 minutes\n")
    assert told.count("minutes") == 1
    assert "72/72" in told


def test_what_takes_less_than_a_minute_is_not(clock: list[float]) -> None:
    assert "minutes" not in said(clock, 0.5, 72)


def test_a_path_is_told_as_it_is_written() -> None:
    written = io.StringIO()
    Report(Console(file=written, width=120)).say("needs about 1.0 GB of disk in /data/[old]/[/x]")
    assert written.getvalue() == "needs about 1.0 GB of disk in /data/[old]/[/x]\n"
