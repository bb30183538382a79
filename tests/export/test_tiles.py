"""Autoencoders that are made for less than the largest picture, by every family's table."""

import pytest
from google.protobuf import json_format, text_format
from tritonclient.grpc import model_config_pb2

from backends.signature import MAX_DIMS
from backends.tiles import Tiling
from export.component import config
from export.engines import Serving
from export.tiles import tiled
from families import PIPELINES, load
from families.interface import PIXELS, Component, Limits
from tests.families import tiny

WHOLE, PART = 512 * 512, 256 * 256
PLAIN = Serving("openvino", "KIND_CPU", ours=True)


def table(family: str, max_pixels: int) -> tuple[Component, ...]:
    made: tuple[Component, ...] = load(family, "table").components(tiny.checkpoint(family), Limits(max_pixels, 8))
    return made


@pytest.mark.parametrize("family", sorted(set(PIPELINES.values())))
def test_what_takes_or_gives_pictures_alone_is_made_for_a_tile(family: str) -> None:
    whole, part = table(family, WHOLE), table(family, PART)
    made = tiled(whole, part)
    assert [one.name for one in made if one.whole] == ["vae_encoder", "vae_decoder"]
    for one, large, small in zip(made, whole, part, strict=True):
        ranges = small.ranges if one.whole else large.ranges
        assert (one.name, one.ranges) == (large.name, ranges)


@pytest.mark.parametrize("family", sorted(set(PIPELINES.values())))
def test_its_backend_is_told_what_fits_and_takes_the_largest_picture(family: str) -> None:
    whole = {component.name: component for component in table(family, WHOLE)}
    part = {component.name: component for component in table(family, PART)}
    for component in tiled(table(family, WHOLE), table(family, PART)):
        read = json_format.MessageToDict(
            text_format.Parse(config.write(component, PLAIN), model_config_pb2.ModelConfig()),
            preserving_proto_field_name=True,
        )
        tiling, large = Tiling.read(read), whole[component.name]
        plain = text_format.Parse(config.write(large, PLAIN), model_config_pb2.ModelConfig()).parameters[MAX_DIMS]
        assert read.get("parameters", {}).get(MAX_DIMS, {}).get("string_value", "") == plain.string_value
        assert (tiling is None) == (not component.whole)
        if tiling:
            side = whole["vae_decoder"].ranges["latent_height"].opt // 2
            assert tiling.most == part[component.name].ranges[next(iter(component.whole))].opt ** 2
            assert tiling.side == 2 * tiling.most**0.5
            assert tiling.unit == 256 // side if component.inputs[0].name == PIXELS else tiling.unit == 1
