"""Which processors are faster in int8, by their features as Linux tells them, and what is narrowed on the others."""

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import nn

from backends import processor
from backends.compatibility import SAFE, incompatibilities
from export.checkpoint import find
from export.component import layers
from export.component.build import Make
from export.component.schemes import INT7, INT8, LAYER_KINDS, SCHEMES, Scheme
from export.component.weights import Weights
from export.engines import load as load_engine
from export.engines import openvino
from export.engines.openvino import CONVOLVED
from export.errors import BadInputError
from export.quality import Judge
from export.rehearsal import OWN, Rehearsal
from export.report import Report, Row
from export.trial import Trial
from families import load
from tests.families import tiny
from tests.families.alone import LIMITS, settings_of

Of = Callable[..., None]
TODAY = "fma avx2 avx512f avx512bw avx512_vnni"


@pytest.fixture
def of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Of:
    """Makes the processor one of these features, and exports for these instructions. `least`: inputs of what is a
    convolution there."""
    file = tmp_path / "cpuinfo"
    monkeypatch.setattr(processor, "CPUINFO", file)

    def make(flags: str | None, held: str = "", least: int | None = None) -> None:
        monkeypatch.setattr(openvino, "CONVOLVED", least or CONVOLVED)
        if flags is not None:
            file.write_text("".join(f"processor\t: {n}\nmodel\t\t: 1\nflags\t\t: {flags}\n\n" for n in range(2)))
        monkeypatch.setenv(processor.HELD, held)

    return make


@pytest.mark.parametrize(
    ("flags", "held", "kinds", "largest"),
    [
        ("fma avx2", "", ("convolution",), INT7),
        ("fma avx2", "AVX512_CORE_VNNI", ("convolution",), INT7),
        ("fma avx2 avx_vnni", "", LAYER_KINDS, INT8),
        ("avx2 avx512f avx512bw", "", LAYER_KINDS, INT7),
        (TODAY, "", LAYER_KINDS, INT8),
        (TODAY, "AVX2", ("convolution",), INT7),
        (TODAY, "AVX512_CORE", LAYER_KINDS, INT7),
        (TODAY, "AVX512_CORE_VNNI", LAYER_KINDS, INT8),
        (None, "", LAYER_KINDS, INT8),
    ],
)
def test_int8_is_what_the_processor_bears(
    of: Of, flags: str | None, held: str, kinds: tuple[str, ...], largest: int
) -> None:
    of(flags, held)
    engine, scheme = load_engine("openvino"), SCHEMES["int8"]
    convolved = 0 if kinds == LAYER_KINDS else CONVOLVED
    expected = replace(scheme, kinds=kinds, largest=largest, convolved=convolved)  # type: ignore[arg-type]
    assert engine.scheme("int8") == expected
    assert engine.scheme("w8") == SCHEMES["w8"], "of weights alone, which are widened to compute"
    assert engine.scheme("fp32") is None
    assert kinds == LAYER_KINDS or engine.native() == ("fp32",), "bf16 has no kernels there"
    assert (engine.takes("int8", 1000) > engine.takes("w8", 1000)) == (kinds != LAYER_KINDS)


@pytest.mark.parametrize(("flags", "vnni"), [("fma avx2", False), ("avx2 avx512bw", False), (TODAY, True)])
@pytest.mark.parametrize(
    ("scheme", "overflows"),
    [(SCHEMES["int8"], True), (replace(SCHEMES["int8"], largest=INT7), False), (SCHEMES["w8"], False)],
)
def test_engines_whose_sums_would_overflow_are_not_served(
    of: Of, tmp_path: Path, *, flags: str, vnni: bool, scheme: Scheme, overflows: bool
) -> None:
    of(flags)
    (tmp_path / "denoiser").mkdir()
    record = {"engine": "openvino", "versions": {}, "scheme": asdict(scheme)}
    (tmp_path / "denoiser" / "component.json").write_text(json.dumps(record))
    said = "denoiser: in int8 for a processor with VNNI, without which its sums overflow, and here is none: "
    expected = [said + "export again on this machine"] if overflows and not vnni else []
    assert incompatibilities(tmp_path, ("openvino",)) == expected


@pytest.mark.parametrize("shape", [(8, 128), (8, 16, 3, 3)])
def test_weights_of_half_the_range_do_not_overflow_and_are_near(shape: tuple[int, ...]) -> None:
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    numbers, scales = layers.narrow_weight(weight, replace(SCHEMES["int8"], largest=INT7))
    assert int(numbers.abs().max()) == INT7 == SAFE
    assert 2 * 255 * INT7 < 2**15
    again = (numbers.float() * scales).reshape(shape)
    assert float((again - weight).norm() / weight.norm()) < 0.015


def test_a_processor_that_is_none_is_refused(of: Of) -> None:
    of(TODAY, "AVX3")
    said = r"^TRITOUCH_ISA is one of AVX2, AVX512_CORE, AVX512_CORE_VNNI or left out, and not 'AVX3'$"
    with pytest.raises(BadInputError, match=said):
        load_engine("openvino")


def test_other_kinds_of_layers_stay_wide_and_are_told() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(32, 32, 3), nn.Conv2d(32, 32, 3), nn.Flatten(2), nn.Linear(144, 64))
    weights = Weights(module, torch.float32)
    samples = [[torch.randn(1, 32, 16, 16)] for _ in range(3)]
    narrow = replace(SCHEMES["int8"], kinds=("convolution",))
    convolutions, both = (layers.of(weights, scheme, samples) for scheme in (narrow, SCHEMES["int8"]))
    assert set(convolutions.layers) == {id(module[0]), id(module[1])}
    assert convolutions.slower == ("3",)
    assert set(both.layers) == {id(module[0]), id(module[1]), id(module[3])}
    assert both.slower == ()
    for least, taken in ((128, True), (129, False)):
        chosen = layers.of(weights, replace(narrow, convolved=least), samples)
        assert (id(module[3]) in chosen.layers, chosen.slower == ()) == (taken, taken)


def test_the_table_tells_how_many_stay_wide_and_why() -> None:
    record = {"precision": "int8", "bytes": 1, "error": 0.1, "tolerance": 0.2, "checked_in": "openvino", "seconds": {}}
    console = Console(file=StringIO(), width=200)
    report = Report(console)
    report.add(Row.of("denoiser", {**record, "compared": {"1": 0.1}, "slower": ["a", "b"]}, fresh=False))
    report.add(Row.of("other", {**record, "compared": {"1": 0.1}}, fresh=False))
    report.close()
    lines = [line for line in console.file.getvalue().splitlines() if "stay wide" in line]
    assert lines == [
        "denoiser        2 linear layers stay wide: int8 makes them slower on processors without AVX-512 and VNNI"
    ]


@pytest.mark.parametrize(
    ("family", "least", "refused"),
    [("flux2_klein", None, True), ("flux2_klein", 32, False), ("instruct_pix2pix", None, False)],
)
def test_what_has_nothing_that_gains_is_refused_before_anything_is_built(
    of: Of, tmp_path: Path, family: str, least: int | None, *, refused: bool
) -> None:
    of("fma avx2", least=least)
    checkpoint = tiny.checkpoint(family)
    table = load(family, "table").components(checkpoint, LIMITS)
    denoiser = next(component for component in table if component.role == "denoiser")
    bank: Any = None
    trial = Trial(Rehearsal(find(str(checkpoint), None), settings_of(family, checkpoint)), table, bank, (), OWN)
    judge = Judge([Make(denoiser, "int8", "")], trial, load_engine("openvino"), tmp_path, tmp_path)
    if not refused:
        judge.require_able()
        return
    with pytest.raises(
        BadInputError, match=r"^--precision int8: denoiser has no convolutions, and .* 640 .*; name fp32, or w8"
    ):
        judge.require_able()
