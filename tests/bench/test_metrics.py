"""What the benches make of what they measure; nothing is timed here."""

import itertools
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from bench import __main__ as command
from bench import busy, compare, edits, inflight, memory, overhead, padding, plots, roofline, stub_engines
from bench.__main__ import BENCHES
from bench.compare import EXACT, OURS, REFERENCE, Comparison
from bench.setups import ROOT
from bench.stub_engines import Call


def spent(**seconds: float) -> dict[str, float]:
    names = ("condition", "queue", "denoise", "render", "calls.seconds", "gateway.request", "gateway.edit")
    models = [f"{name}.compute" for name in (*overhead.watch.ENGINES, *overhead.watch.PYTHON)]
    return dict.fromkeys((*names, *models), 0.0) | {name.replace("__", "."): value for name, value in seconds.items()}


def test_the_stages_of_an_edit_add_up_to_all_of_it() -> None:
    given = spent(condition=2, queue=0.5, denoise=5, render=1, calls__seconds=4, gateway__request=10, gateway__edit=9.5)
    given |= {"denoiser.compute": 3.0, "vae_encoder.compute": 1.5, "postprocess.compute": 0.25}
    stages = overhead.stages(11.0, given)
    assert sum(stages.values()) == pytest.approx(11.0)
    assert stages["calls to it"] == stages["scheduler and batcher"] == 1.0
    assert set(overhead.ENGINES) < set(stages)


def test_a_seen_sentence_saves_what_its_edit_was_ready_sooner_and_engines_are_not_overhead() -> None:
    new = spent(wall=10, condition=2.5, steps=4, denoise=5, calls__seconds=4) | {"text_encoder.hits": 0.0}
    seen = new | {"condition": 2.0, "text_encoder.hits": 1.0, "denoiser.compute": 3.0, "wall": 9.0}
    case = overhead.metrics(SimpleNamespace(checkpoint="demo", side=64), [new, seen] * 2, [new, seen] * 2)
    assert (case["saved_ms"], case["hits"]) == ([500.0] * 2, 2)
    assert case["step_ms"] == [pytest.approx(1e3 * (5 - 3) / 4)] * 2
    assert case["around_ms"] == [pytest.approx(1e3 * (9 - 5))] * 2
    assert case["share"] == [pytest.approx(100 * (9 - 3) / 9)] * 2


def test_arithmetic_counts_products_of_matrices_and_an_edit_is_the_sum_of_its_calls() -> None:
    layers = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3, padding=1), torch.nn.SiLU()).to("meta")
    assert roofline.arithmetic(layers, [torch.zeros(2, 3, 16, 16)]) == pytest.approx(2 * 2 * 8 * 3 * 9 * 16 * 16 / 1e9)
    calls = [("text_encoder", 1, 1.0), ("text_encoder", 2, 2.0), ("vae_encoder", 1, 4.0), ("vae_decoder", 1, 8.0)]
    calls += [("denoiser", 1, 16.0), ("denoiser", 3, 48.0)]
    found = [roofline.Call(name, rows, 10 * seconds, seconds, {}) for name, rows, seconds in calls]
    assert roofline.edit_seconds(found, steps=4, rows=3, sentences=2) == (2 + 4 + 4 * 48 + 8, 10 * (2 + 4 + 4 * 48 + 8))
    assert found[0].rate == 10


def test_ratios_are_taken_within_a_round_and_likeness_to_the_reference() -> None:
    case = compare.Case("tiny", "demo", 64, 2, 3, 1.0)
    order: list[str] = []

    def side(name: str, level: int) -> compare.Side:
        def made(edit: edits.Edit) -> edits.Pixels:
            order.append(name)
            assert (edit.picture.size, edit.steps) == ((64, 64), 2)
            return np.full((64, 64, 3), level, np.uint8)

        return made

    comparison = Comparison(case)
    comparison.run({REFERENCE: side(REFERENCE, 100), OURS: side(OURS, 101)})
    comparison.again(EXACT, side(EXACT, 100))
    assert order[2:8] == [REFERENCE, OURS, OURS, REFERENCE, REFERENCE, OURS], "the first of a round takes turns"
    comparison.columns[REFERENCE].seconds, comparison.columns[OURS].seconds = [3.0, 4.0, 5.0], [1.0, 2.0, 1.0]
    metrics = comparison.metrics()
    assert metrics["times_as_fast"] == {REFERENCE: [3.0, 2.0, 5.0]}
    assert metrics["columns"][OURS]["psnr"] == pytest.approx([48.13] * 3, abs=0.01)
    assert metrics["columns"][EXACT]["psnr"] == [99.0] * 3


def test_what_was_measured_before_an_interruption_stays() -> None:
    def stopping(edit: edits.Edit) -> edits.Pixels:
        if edit.seed == 1002:
            raise KeyboardInterrupt
        return np.zeros((64, 64, 3), np.uint8)

    comparison = Comparison(compare.Case("tiny", "demo", 64, 2, 3, 1.0))
    with pytest.raises(KeyboardInterrupt):
        comparison.run({REFERENCE: stopping, OURS: stopping})
    assert len(comparison.metrics()["times_as_fast"][REFERENCE]) == 1


def test_no_two_edits_of_a_run_share_a_sentence_a_seed_or_a_picture_with_the_one_before() -> None:
    for before, after in itertools.pairwise(itertools.islice(edits.series(64, 2, 7.5), 12)):
        assert before.prompt != after.prompt
        assert before.seed != after.seed
        assert before.file("PNG") != after.file("PNG")


def test_the_stream_keeps_coming_while_the_long_ones_run() -> None:
    arrivals = inflight.stream(alone=2.0)
    assert [arrival.steps for arrival in arrivals[:3]] == [50, 50, 4]
    gaps = {after.at - before.at for before, after in itertools.pairwise(arrivals[2:])}
    assert gaps == {2.0 * inflight.GAP}
    assert any(arrival.patience for arrival in inflight.mixed(2.0))


@pytest.mark.parametrize(("count", "place"), [(1, 0), (19, 18), (20, 18), (100, 94)])
def test_the_95th_percentile_is_one_of_the_values(count: int, place: int) -> None:
    assert inflight.p95([float(n) for n in reversed(range(count))]) == float(place)


def test_memory_is_summed_over_a_process_and_its_descendants() -> None:
    nested = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'print(0, flush=True); input()'])"
    with subprocess.Popen([sys.executable, "-c", nested], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        found = memory.tree(child.pid)
        assert len(found) == 2
        assert set(found) < set(memory.tree(os.getpid()))
        assert all(memory.proportional(pid) > 0 for pid in found)
        child.communicate(b"\n")
    assert memory.proportional(child.pid) == 0


def test_the_engines_share_is_of_the_time_in_which_every_group_is_in_flight() -> None:
    alternating = [Call(float(n), n + 0.75, 2, 64 + n % 2) for n in range(6)]
    calls = [Call(-9.0, -1.0, 2, 64), *alternating, Call(20.0, 21.0, 2, 64)]
    assert busy.share(calls) == pytest.approx(100 * (5 * 0.75) / 4.75)
    assert busy.waits(calls) == pytest.approx(250.0)


def test_a_stub_engine_tells_its_calls(tmp_path: Path) -> None:
    (tmp_path / "denoiser").mkdir()
    stub_engines.takes(tmp_path, 3)
    (tmp_path / "denoiser" / "calls").write_bytes(np.array([1.5, 1.75, 2, 64]).tobytes())
    assert stub_engines.calls(tmp_path) == [Call(1.5, 1.75, 2, 64)]
    stub_engines.takes(tmp_path, 10)
    assert stub_engines.calls(tmp_path) == []


def test_a_repository_of_stub_engines_has_the_models_of_the_real_one(tmp_path: Path) -> None:
    original, folder = tmp_path / "original", tmp_path / "stubs"
    (original / "edit_stream" / "1" / "pipeline").mkdir(parents=True)
    settings = {"size_rule": json.dumps({"multiple": 8})}
    (original / "edit_stream" / "1" / "pipeline" / "settings.json").write_text(json.dumps(settings))
    config = 'backend: "openvino"\ninstance_group [ { kind: KIND_GPU count: 1 } ]\nparameters { key: "HINT" }\n'
    for name in overhead.watch.ENGINES:
        (original / name).mkdir()
        (original / name / "config.pbtxt").write_text(config)
    folder.mkdir()
    stub_engines.repository(original, folder)
    assert {model.name for model in folder.iterdir()} == {"edit_stream", *overhead.watch.ENGINES}
    assert (folder / "denoiser" / "config.pbtxt").read_text() == (
        'backend: "python"\ninstance_group [ { kind: KIND_CPU count: 1 } ]\n'
    )
    compile((folder / "vae_encoder" / "1" / "model.py").read_text(), "model.py", "exec")


@pytest.mark.slow
@pytest.mark.parametrize("name", plots.DRAW)
def test_the_published_plots_come_from_the_published_metrics(name: str, tmp_path: Path) -> None:
    published = sorted((ROOT / "docs" / "bench").glob(f"{name}*.json"))
    assert published
    for file in published:
        data: dict[str, Any] = json.loads(file.read_text())
        assert data["command"].startswith("python -m bench ")
        plots.DRAW[name](data, tmp_path / "plot.png")
        assert (tmp_path / "plot.png").stat().st_size > 10_000


def test_every_bench_tells_what_it_takes() -> None:
    done = subprocess.run([sys.executable, "-m", "bench"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert all(name in done.stdout for name in BENCHES)


@pytest.mark.parametrize("name", BENCHES)
def test_a_bench_has_its_command(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["bench", name, "--help"])
    monkeypatch.setattr(signal, "signal", lambda *_: None)  # which benches have their own ideas of
    with pytest.raises(SystemExit) as ended:
        command.main()
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith("usage: ")


def test_a_calls_own_cost_in_tokens() -> None:
    fixed, token = 10.0, 0.1
    one, two, four = (fixed + token * rows * 1000 for rows in (1, 2, 4))
    assert padding.saved(one, two, 2000) == pytest.approx(fixed / (two / 2000))
    told = padding.line(1000, [one, two, four, 1.1 * one, two, four])
    assert told == "1000 | 110.00 210.00 410.00 | +10.0% +0.0% +0.0% | 305 98"
