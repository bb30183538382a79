"""The checkpoint that ships: small, loaded by diffusers unchanged, and it edits."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from demo.checkpoint_writer import CHECKPOINT
from demo.editors import PipelineEditor, Request, as_picture
from demo.edits import Kind, Picture, true_edit
from demo.measures import psnr
from demo.wordings import plain_sentence

SAMPLES = sorted((Path(__file__).parents[2] / "demo" / "samples").glob("*.jpg"))
VISIBLE = [Kind("inverted"), Kind("sepia"), Kind("night"), Kind("pencil sketch"), Kind("border", "green")]


@pytest.fixture(scope="module")
def editor() -> PipelineEditor:
    return PipelineEditor(CHECKPOINT, steps=4)


@pytest.fixture(scope="module")
def picture() -> Picture:
    return as_picture(Image.open(SAMPLES[0]).resize((128, 128)))


def test_checkpoint_is_small() -> None:
    files = [file for file in CHECKPOINT.rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in files) <= 30_000_000
    assert {file.suffix for file in files} <= {".json", ".txt", ".safetensors"}


@pytest.mark.slow
@pytest.mark.parametrize("kind", VISIBLE, ids=str)
def test_edit_is_nearer_than_the_input(editor: PipelineEditor, picture: Picture, kind: Kind) -> None:
    edited = editor.edit(Request(picture, plain_sentence(kind), seed=1))
    assert edited.shape == picture.shape
    assert psnr(edited, true_edit(kind, picture)) > psnr(picture, true_edit(kind, picture)) + 3


@pytest.mark.slow
def test_unknown_request_changes_little(editor: PipelineEditor, picture: Picture) -> None:
    assert psnr(editor.edit(Request(picture, "put a giraffe on the roof", seed=1)), picture) > 20


@pytest.mark.slow
def test_same_seed_same_picture(editor: PipelineEditor, picture: Picture) -> None:
    first, second = (editor.edit(Request(picture, "make it sepia", seed=5)) for _ in range(2))
    np.testing.assert_array_equal(first, second)


@pytest.mark.slow
def test_other_sizes_and_aspect_ratios(editor: PipelineEditor) -> None:
    for width, height in ((184, 128), (128, 264)):
        picture = as_picture(Image.open(SAMPLES[0]).resize((width, height)))
        edited = editor.edit(Request(picture, "invert the colours"))
        assert edited.shape == picture.shape
        assert psnr(edited, true_edit(Kind("inverted"), picture)) > 15


@torch.no_grad()
def test_autoencoder_alone(editor: PipelineEditor, picture: Picture) -> None:
    autoencoder = editor.pipeline.vae
    pixels = torch.from_numpy(picture).permute(2, 0, 1)[None] * 2 - 1
    decoded = autoencoder.decode(autoencoder.encode(pixels).latent_dist.mode()).sample
    assert psnr((decoded[0].permute(1, 2, 0).numpy() / 2 + 0.5).clip(0, 1), picture) > 26


def test_samples_are_small() -> None:
    assert 1 <= len(SAMPLES) <= 3
    for sample in SAMPLES:
        assert sample.stat().st_size <= 60_000
        with Image.open(sample) as image:
            assert max(image.size) <= 384
