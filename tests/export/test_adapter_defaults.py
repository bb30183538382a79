"""`--adapter-defaults` and `--shift`: what is taken, what is refused, and what becomes of it."""

import json
from pathlib import Path
from typing import Any

import pytest

from export import adapter_defaults, release
from export.adapter_defaults import parse
from export.adapters import Bank, Source
from export.checkpoint import find
from export.errors import BadInputError
from export.run import Options
from families import load
from families.errors import BadCheckpointError
from families.interface import Limits
from families.schedules import NoiseSchedules
from families.settings import Settings
from tests.families import tiny

LIGHTNING = {"lightning": {"num_inference_steps": 4.0, "guidance_scale": 1.0, "shift": 3.0}}


def test_what_is_given_is_read() -> None:
    assert parse(["lightning=steps:4,guidance:1,shift:3"]) == LIGHTNING
    assert parse(["a=shift:2.5", "b=steps:8"]) == {"a": {"shift": 2.5}, "b": {"num_inference_steps": 8.0}}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["lightning"], "must be ROUTE="),
        (["a=steps:4", "a=shift:3"], "is there twice"),
        (["a=steps:4,shift:3,steps:5"], "has one of steps, guidance, shift twice"),
        (["a=speed:4"], "'speed' is none of steps, guidance, shift"),
        (["a="], "'' is none of"),
        (["a=steps:4.5"], "steps must be a whole number from 1 to 50"),
        (["a=steps:51"], "from 1 to 50"),
        (["a=guidance:0"], "guidance must be a number from 1 to 100"),
        (["a=shift:nan"], "shift must be a number from 0.01 to 100"),
        (["a=shift:"], "shift must be"),
    ],
)
def test_what_is_wrong_is_named(given: list[str], words: str) -> None:
    with pytest.raises(BadInputError, match=words):
        parse(given)


def settings(family: str, routes: tuple[str, ...] = (), **options: Any) -> Settings:
    limits = Limits(256 * 256, 8)
    found, table = find(str(tiny.checkpoint(family)), None), load(family, "table")
    bank = Bank(tuple(Source(route, Path(route), 1.0) for route in routes), tuple({} for _ in routes), {})
    components = table.components(found.path, limits)
    return release.settings(found, table, components, bank, Options(limits, **options))


def test_they_stand_in_the_settings() -> None:
    made = settings("flux_kontext", ("lightning",), shift=2.0, adapter_defaults=LIGHTNING)
    assert (made.shift, made.adapter_defaults) == (2.0, LIGHTNING)
    assert Settings.of(json.loads(made.text())) == made


def test_a_route_that_is_none_and_a_schedule_without_a_shift_are_refused() -> None:
    with pytest.raises(BadInputError, match="lightning: no --adapter has that route"):
        settings("flux_kontext", adapter_defaults=LIGHTNING)
    with pytest.raises(BadCheckpointError, match="has no shift: leave --shift out"):
        settings("instruct_pix2pix", shift=3.0)


def test_steps_that_the_sampler_cannot_make_are_refused() -> None:
    class Unshifted(NoiseSchedules):
        def __init__(self) -> None:
            """None is asked for."""

    with pytest.raises(BadInputError, match="cannot make 4 steps"):
        adapter_defaults.require({"a": {"num_inference_steps": 4.0}}, ("a",), (5, 6), Unshifted())
