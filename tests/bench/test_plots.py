"""That nothing in a plot covers anything else: the published metrics, drawn, and where things came to lie."""

import json
from pathlib import Path
from typing import Any

import pytest

from bench import plots
from bench.setups import ROOT

PUBLISHED = ROOT / "docs" / "bench"


def drawn(name: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The figure of a published plot, laid out."""
    kept: list[Any] = []
    close = plots.plt.close
    monkeypatch.setattr(plots.plt, "close", kept.append)
    data = json.loads((PUBLISHED / f"{name}.json").read_text())
    plots.DRAW[name.partition("-")[0]](data, Path("unwritten.png"))
    close(kept[0])
    return kept[0]


@pytest.fixture(autouse=True)
def nothing_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plots.mpl.figure.Figure, "savefig", lambda figure, *_, **__: figure.canvas.draw())


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(file.stem for file in PUBLISHED.glob("compare*.json")))
def test_a_bars_note_stands_beyond_its_largest_value_and_within_the_frame(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for panel in drawn(name, monkeypatch).axes:
        frame = panel.get_window_extent()
        reach = [segment[:, 0].max() for lines in panel.collections for segment in lines.get_segments()]
        assert panel.texts
        assert len(reach) == len(panel.texts)
        for note, most in zip(panel.texts, reach, strict=True):
            box = note.get_window_extent()
            assert box.x0 >= panel.transData.transform((most, 0))[0]
            assert box.x1 <= frame.x1


@pytest.mark.slow
@pytest.mark.parametrize("name", ["inflight", "memory", "fleet", "fleet-scaling"])
def test_a_legend_lies_outside_of_the_curves(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    figure = drawn(name, monkeypatch)
    legends = [*figure.legends, *(panel.get_legend() for panel in figure.axes if panel.get_legend())]
    assert legends
    for legend in legends:
        box = legend.get_window_extent()
        assert not any(box.overlaps(panel.get_window_extent()) for panel in figure.axes)
        assert box.x0 >= 0
        assert box.x1 <= figure.bbox.x1
        assert box.y0 >= 0
