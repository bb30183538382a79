"""`--precision`: of all components, of single ones, and what a family or a machine leaves of it."""

from dataclasses import replace

import pytest

from export.engines import load
from export.errors import BadInputError
from export.precisions import Precisions
from families.interface import Tensor
from tests.export.simple import SIMPLE

ANY = replace(SIMPLE, name="any")
EXACT = replace(SIMPLE, name="exact", precisions=("fp32",))
WIDE = replace(SIMPLE, name="wide", precisions=("bf16", "fp32"))


class Engine:
    """One that compiles all three and runs `own` natively."""

    name, precisions = "engine", ("fp16", "bf16", "fp32")

    def __init__(self, *own: str) -> None:
        self._own = own

    def native(self) -> tuple[str, ...]:
        return self._own

    def refuses(self, _precision: str) -> str:
        return ""


@pytest.mark.parametrize(
    ("flag", "native", "expected"),
    [
        ("auto", ("fp16", "bf16", "fp32"), ("fp16", "fp32", "bf16")),
        ("auto", ("bf16", "fp32"), ("bf16", "fp32", "bf16")),
        ("auto", ("fp32",), ("fp32", "fp32", "fp32")),
        ("fp16", ("fp16", "bf16", "fp32"), ("fp16", "fp32", "bf16")),
        ("bf16", ("fp32",), ("bf16", "fp32", "bf16")),
        ("fp32", ("fp16", "bf16", "fp32"), ("fp32", "fp32", "fp32")),
        ("exact=fp16", ("bf16", "fp32"), ("bf16", "fp16", "bf16")),
        ("fp32,wide=fp16", ("fp16",), ("fp32", "fp32", "fp16")),
    ],
)
def test_each_component_gets_what_it_bears(flag: str, native: tuple[str, ...], expected: tuple[str, ...]) -> None:
    engine = Engine(*native)
    chosen = Precisions.parse(flag, engine).of([ANY, EXACT, WIDE], engine)  # type: ignore[arg-type]
    assert tuple(chosen.values()) == expected


def test_a_narrow_one_for_all_means_where_it_pays() -> None:
    denoiser = replace(SIMPLE, name="denoiser", role="denoiser", precisions=("bf16", "fp32"))
    text = replace(SIMPLE, name="text_encoder", inputs=(Tensor("input_ids", "INT64", ("rows",)),))
    engine = Engine("bf16", "fp32")
    engine.precisions = ("fp16", "bf16", "fp32", "int8", "w8")  # type: ignore[misc]
    for flag, expected in {
        "int8": ("int8", "bf16", "bf16"),
        "w8": ("bf16", "w8", "bf16"),
        "int8,text_encoder=w8,any=int8": ("int8", "w8", "int8"),
    }.items():
        chosen = Precisions.parse(flag, engine).of([denoiser, text, ANY], engine)  # type: ignore[arg-type]
        assert tuple(chosen.values()) == expected


@pytest.mark.parametrize(
    ("flag", "words"),
    [
        ("int8", "auto or one of fp16, bf16, fp32, and not 'int8'"),
        ("any=int8", "and not 'int8'"),
        ("fp16,bf16", "2 precisions for all components"),
        ("any=fp16,any=fp32", "has any twice"),
        ("", "and not ''"),
    ],
)
def test_what_the_engine_does_not_compile_is_named(flag: str, words: str) -> None:
    with pytest.raises(BadInputError, match=words):
        Precisions.parse(flag, Engine())  # type: ignore[arg-type]


def test_a_component_that_there_is_not_is_named_with_those_that_there_are() -> None:
    engine = Engine("fp32")
    with pytest.raises(BadInputError, match="--precision names unet; components: any, exact"):
        Precisions.parse("unet=fp32", engine).of([ANY, EXACT], engine)  # type: ignore[arg-type]


def test_openvino_runs_fp32_everywhere() -> None:
    assert set(load("openvino").native()) <= {"fp32", "bf16"}
    assert "fp32" in load("openvino").native()
