"""A repository whose autoencoder holds a quarter of the largest picture: what fits is as ever, the rest much alike."""

from collections.abc import Iterator

import numpy as np
import pytest

from embedded.server import serve
from tests.families import tiny
from tests.families.conftest import copied, export
from tests.server.asking import Client, colours, psnr

pytestmark = pytest.mark.families
FAMILY = "instruct_pix2pix"
GUIDANCE = (3.0, 1.5)
LIKE = 30
"""dB to the picture of the whole, of a network of random weights: group norm sees the tile alone."""


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    repository = copied(FAMILY, tmp_path_factory.mktemp("tiles") / "repository")
    export(FAMILY, tiny.checkpoint(FAMILY), repository, "--vae-tile-pixels", str(128 * 128))
    with serve(repository, port=0) as running:
        yield Client(running)


@pytest.mark.parametrize(("size", "least"), [((96, 64), 45), ((128, 128), 45), ((256, 192), LIKE), ((384, 96), LIKE)])
def test_an_edit_is_like_diffusers_own(client: Client, size: tuple[int, int], least: float) -> None:
    picture, scales = colours(*size), {"guidance_scale": GUIDANCE[0], "image_guidance_scale": GUIDANCE[1]}
    made = client.edit(picture, "make it red", num_inference_steps=4, seed=1, **scales).pixels
    checkpoint = tiny.checkpoint(FAMILY)
    whole = tiny.module(FAMILY).reference(checkpoint, picture, "make it red", steps=4, seed=1, guidance=GUIDANCE)
    assert made.shape == whole.shape
    assert psnr(made, whole) >= least


def test_there_is_no_seam(client: Client) -> None:
    """Where tiles meet, neighbours differ no more than elsewhere."""
    made = client.edit(colours(256, 256), "make it red", num_inference_steps=4, seed=1).pixels.astype(np.int16)
    steps = np.abs(np.diff(made, axis=1)).mean((0, 2))
    inside = np.sort(steps)[len(steps) // 2]
    assert steps.max() <= 2 * inside
