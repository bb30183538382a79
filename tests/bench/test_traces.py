"""The drawing of a trace: each span below the one that it is a part of, its bar where it lies in time."""

import os
import subprocess
import sys

from bench.collector import Span
from bench.traces import children, drawing


def span(name: str, own: str, parent: str, start: int, end: int) -> Span:
    return Span("service", name, "1", own, parent, start * 1_000_000, end * 1_000_000, 1, False, {}, [])


def test_a_trace_is_drawn() -> None:
    spans = [span("edit", "a", "", 0, 40), span("first", "b", "a", 0, 10), span("last", "d", "a", 39, 40)]
    spans.insert(2, span("inner", "c", "b", 5, 10))
    lines = [line.removeprefix("service").strip() for line in drawing(spans)]
    assert lines == [
        f"{'edit':<26}|{'=' * 40}|    40.0 ms",
        f"{'  first':<26}|{'=' * 10:<40}|    10.0 ms".strip(),
        f"{'    inner':<26}|{'     =====':<40}|     5.0 ms".strip(),
        f"{'  last':<26}|{'=':>40}|     1.0 ms".strip(),
    ]


def test_processes_below_this_one_are_found() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        found = {folder.name for folder in children()}
        assert str(process.pid) in found
        assert str(os.getpid()) not in found
        process.communicate(b"\n")
