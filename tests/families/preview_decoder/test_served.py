"""A repository with a small decoder for previews: they are of it, and finished pictures are of the family's own."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from diffusers import AutoencoderTiny

from embedded.server import Embedded, serve
from tests.families import tiny
from tests.families.conftest import copied, export
from tests.server.asking import colours
from tests.server.streams import shown

pytestmark = pytest.mark.families
FAMILY = "instruct_pix2pix"
LEVEL = 0.75
"""Of every pixel that the small decoder makes: it is told by it."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Embedded]:
    folder = tmp_path_factory.mktemp("preview")
    flat = AutoencoderTiny(encoder_block_out_channels=(8,) * 4, decoder_block_out_channels=(8,) * 4)
    torch.nn.init.zeros_(flat.decoder.layers[-1].weight)
    torch.nn.init.constant_(flat.decoder.layers[-1].bias, LEVEL)
    flat.save_pretrained(folder)
    repository = copied(FAMILY, tmp_path_factory.mktemp("served") / "repository")
    export(FAMILY, tiny.checkpoint(FAMILY), repository, "--preview-decoder", str(folder))
    with serve(repository, port=0, gateway=False) as running:
        yield running


def test_previews_are_of_it_and_the_picture_is_not(server: Embedded) -> None:
    told = shown(server, colours(96, 64), 2, steps=20)
    assert [response.kind for response in told] == ["begun", "preview", "preview", "picture"]
    for preview in told[1:3]:
        assert preview.pixels.shape == (64, 96, 3)
        assert set(np.unique(preview.pixels)) == {round(LEVEL * 255)}
    assert len(np.unique(told[3].pixels)) > 10
