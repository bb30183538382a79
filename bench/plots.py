"""Draws the metrics of each bench: from its JSON to a PNG file."""

import statistics
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np

mpl.use("Agg")
from matplotlib import pyplot as plt

OURS, THEIRS, GREY = "#d1495b", "#30638e", "#9aa5b1"
WIDTH = 8.0


def compare(data: Mapping[str, Any], file: Path) -> None:
    """Seconds an edit, a bar for each side, least and largest as a line; a panel for each case."""
    cases = data["cases"]
    figure, panels = plt.subplots(len(cases), 1, figsize=(WIDTH, 2.2 * len(cases)), squeeze=False)
    for panel, case in zip(panels[:, 0], cases, strict=True):
        measured = {name: column["seconds"] for name, column in case["columns"].items() if column["seconds"]}
        middles = [statistics.median(seconds) for seconds in measured.values()]
        reach = [
            [middle - min(seconds) for middle, seconds in zip(middles, measured.values(), strict=True)],
            [max(seconds) - middle for middle, seconds in zip(middles, measured.values(), strict=True)],
        ]
        colours = [OURS if name.startswith("Tritouch") else THEIRS for name in measured]
        panel.barh(list(measured), middles, xerr=reach, color=colours, ecolor="black", capsize=2)
        for place, ((name, seconds), middle) in enumerate(zip(measured.items(), middles, strict=True)):
            ratio = case["times_as_fast"].get(name)
            note = f"{middle:.2f} s" + (f", {statistics.median(ratio):.1f} times Tritouch's" if ratio else "")
            panel.text(max(seconds), place, f"  {note}", va="center", fontsize=8)
        rows = "three rows a step" if case["guidance"] > 1 else "one row a step"
        panel.set_title(f"{case['setup']} checkpoint, {_size(case)}, {rows}", fontsize=9)
        panel.set_xlim(0, max(map(max, measured.values())) * 1.5)  # room for the notes
        panel.invert_yaxis()
    panels[-1, 0].set_xlabel("seconds an edit: median, least and largest")
    _finish(figure, file)


def overhead(data: Mapping[str, Any], file: Path) -> None:
    """Milliseconds of one edit by stage, engines apart from the rest."""
    cases = data["cases"]
    figure, panels = plt.subplots(len(cases), 1, figsize=(WIDTH, 3.2 * len(cases)), squeeze=False)
    for panel, case in zip(panels[:, 0], cases, strict=True):
        stages = {name: statistics.mean(edit[name] for edit in case["edits"]) * 1e3 for name in case["stages"]}
        colours = [THEIRS if name in case["engines"] else OURS for name in stages]
        panel.barh(list(stages), list(stages.values()), color=colours)
        for place, milliseconds in enumerate(stages.values()):
            panel.text(milliseconds, place, f" {milliseconds:.1f} ms", va="center", fontsize=8)
        panel.set_title(f"{case['setup']} checkpoint, {_size(case)}", fontsize=9)
        panel.set_xscale("symlog", linthresh=10)
        panel.set_xlim(0, max(stages.values()) * 4)
        panel.invert_yaxis()
    panels[-1, 0].set_xlabel("milliseconds of one edit, on a logarithmic scale beyond 10; blue: in engines")
    _finish(figure, file)


def inflight(data: Mapping[str, Any], file: Path) -> None:
    """How long edits took from their arrival: the share that was answered within so many seconds."""
    scenarios = data["scenarios"]
    figure, panels = plt.subplots(1, len(scenarios), figsize=(WIDTH, 3.6), squeeze=False, layout="constrained")
    for panel, scenario in zip(panels[0], scenarios, strict=True):
        for way, colour in (("in flight", OURS), ("one at a time", GREY)):
            for kind, style in (("short", "-"), ("long", ":")):
                seconds = sorted(scenario["ways"][way][kind])
                if seconds:
                    shares = np.arange(1, len(seconds) + 1) / len(seconds)
                    panel.step(seconds, shares, style, color=colour, where="post", label=f"{kind}, {way}")
        panel.set_title(scenario["name"], fontsize=9)
        panel.set_xlabel("seconds from arrival to answer")
        panel.set_ylim(0, 1.02)
    panels[0, 0].set_ylabel("share of the edits")
    figure.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=8)
    _finish(figure, file)


def memory(data: Mapping[str, Any], file: Path) -> None:
    """GiB at rest after edits, and at most, by process group."""
    subjects = data["subjects"]
    figure, panel = plt.subplots(figsize=(WIDTH, 1.2 + 0.5 * len(subjects)), layout="constrained")
    names = [subject["name"] for subject in subjects]
    most = [subject["most_gib"] for subject in subjects]
    panel.barh(names, most, color=GREY, label="most, during edits")
    panel.barh(names, [s["rest_gib"] for s in subjects], height=0.5, label="at rest, after edits", color=THEIRS)
    panel.invert_yaxis()
    panel.set_xlabel("GiB, proportional set size summed over the processes")
    figure.legend(*panel.get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=8)
    _finish(figure, file)


def roofline(data: Mapping[str, Any], file: Path) -> None:
    """GFLOP a second of each engine's call, and the most that the processor reaches."""
    calls = data["calls"]
    figure, panel = plt.subplots(figsize=(WIDTH, 1.0 + 0.4 * len(calls)))
    names = [f"{call['component']}, {call['rows']} row{'s' * (call['rows'] > 1)}" for call in calls]
    rates = [call["gflop"] / call["seconds"] for call in calls]
    panel.barh(names, rates, color=THEIRS)
    for place, rate in enumerate(rates):
        share = f"{rate / data['roofline_gflops']:.0%} "
        panel.text(rate, place, share, va="center", ha="right", color="white", fontsize=8)
    panel.axvline(data["roofline_gflops"], color=OURS)
    panel.set_title(f"{data['setup']} checkpoint, {data['side']} x {data['side']}, {data['precision']}", fontsize=9)
    panel.set_xlabel("GFLOP a second; the line: plain convolutions")
    panel.set_xlim(0, max(data["roofline_gflops"], *rates) * 1.1)
    panel.invert_yaxis()
    _finish(figure, file)


def fleet(data: Mapping[str, Any], file: Path) -> None:
    """Seconds of edits by the number of replicas; where that changes by itself, the last case's replicas over time."""
    if data["cases"][-1]["samples"]:
        _fleet_over_time(data["cases"][-1], file)
        return
    figure, panel = plt.subplots(figsize=(WIDTH, 3.6))
    for policy, colour in (("random", GREY), ("round robin", THEIRS), ("least request", OURS)):
        cases = [case for case in data["cases"] if case["policy"] == policy]
        for key, style in (("p95", "o-"), ("p50", "o:")):
            seconds = [case[key] for case in cases]
            if cases:
                panel.plot([case["replicas"] for case in cases], seconds, style, color=colour, label=f"{policy}, {key}")
    sizes = sorted({case["replicas"] for case in data["cases"]})
    panel.set_xscale("log", base=2)
    panel.set_xticks(sizes, [str(size) for size in sizes])
    panel.set_xlabel(f"replicas, at {data['load']:.0%} of what full calls could do")
    panel.set_ylabel("seconds from arrival to answer")
    panel.set_ylim(0)
    panel.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)
    _finish(figure, file)


def _fleet_over_time(case: Mapping[str, Any], file: Path) -> None:
    minutes = [sample["at"] / 60 for sample in case["samples"]]
    figure, (above, below) = plt.subplots(2, 1, figsize=(WIDTH, 4.4), sharex=True)
    above.plot(minutes, [sample["in_flight"] for sample in case["samples"]], color=OURS)
    above.set_ylabel("edits in flight")
    above.set_ylim(0)
    below.step(minutes, [sample["pods"] for sample in case["samples"]], color=GREY, where="post", label="pods")
    below.step(minutes, [sample["serving"] for sample in case["samples"]], color=THEIRS, where="post", label="serving")
    below.set_ylabel("replicas")
    below.set_xlabel("minutes")
    below.set_ylim(0)
    below.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)
    _finish(figure, file)


def _size(case: Mapping[str, Any]) -> str:
    return f"{case['side']} x {case['side']}, {case['steps']} step{'s' * (case['steps'] > 1)}"


def _finish(figure: Any, file: Path) -> None:
    if figure.get_layout_engine() is None:
        figure.tight_layout()
    figure.savefig(file, dpi=120)
    plt.close(figure)


DRAW: Mapping[str, Callable[[Mapping[str, Any], Path], None]] = {
    "compare": compare,
    "overhead": overhead,
    "inflight": inflight,
    "memory": memory,
    "roofline": roofline,
    "fleet": fleet,
}
