"""The trained checkpoint through the served API: what diffusers makes of it, and what the sentence asks for."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from demo.checkpoint_writer import CHECKPOINT
from demo.editors import as_picture
from demo.edits import Kind, true_edit
from demo.wordings import plain_sentence
from embedded.server import serve
from tests.families.instruct_pix2pix import tiny
from tests.server.asking import Client, psnr
from tests.server.streams import shown
from tests.server.test_fidelity import LEAST_DB, SEED

SAMPLES = sorted((Path(__file__).parents[2] / "demo" / "samples").glob("*.jpg"))
KINDS = [Kind("night"), Kind("pencil sketch"), Kind("inverted"), Kind("border", "red")]
STEPS = 5  # of 6, as of other numbers that do not divide 1000 well, diffusers leaves noise in the picture
GAIN_DB = 4.0
CACHED_DB = 30.0
ALIKE_DB = 30.0


@pytest.fixture(scope="module")
def demo(demo_repository: Path) -> Iterator[Client]:
    """Triton and the gateway on the demo checkpoint in exact arithmetic."""
    with serve(demo_repository, port=0) as running:
        yield Client(running)


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_a_sentence_is_followed_as_diffusers_follows_it(demo: Client, kind: Kind) -> None:
    picture = Image.open(SAMPLES[KINDS.index(kind) % len(SAMPLES)]).convert("RGB").resize((192, 128))
    sentence = plain_sentence(kind)
    ours = demo.edit(picture, sentence, num_inference_steps=STEPS, seed=SEED, guidance_scale=0).pixels
    theirs = tiny.reference(CHECKPOINT, picture, sentence, steps=STEPS, seed=SEED, guidance=(1.0, 1.5))
    assert psnr(ours, theirs) >= LEAST_DB
    wanted = np.asarray(true_edit(kind, as_picture(picture))) * 255
    assert psnr(ours, wanted) >= psnr(np.asarray(picture), wanted) + GAIN_DB


def test_no_noise_is_left_whatever_the_number_of_steps(demo: Client) -> None:
    picture = Image.open(SAMPLES[0]).convert("RGB").resize((96, 64))
    asked = {"seed": SEED, "guidance_scale": 0}
    made = [
        demo.edit(picture, plain_sentence(KINDS[0]), num_inference_steps=steps, **asked).pixels for steps in (10, 11)
    ]
    assert psnr(*made) >= ALIKE_DB


def test_cached_steps_make_nearly_the_same_picture_of_fewer_rows(demo: Client) -> None:
    picture = Image.open(SAMPLES[1]).convert("RGB").resize((128, 96))
    asked = {"num_inference_steps": 20, "seed": SEED, "guidance_scale": 4, "image_guidance_scale": 1.2}
    made, rows = [], []
    for cache in ("off", "balanced"):
        before = demo.denoiser_calls(), demo.figure("tritouch_denoiser_rows_total")
        made.append(demo.edit(picture, plain_sentence(KINDS[1]), cache=cache, **asked).pixels)
        rows.append((demo.denoiser_calls() - before[0], demo.figure("tritouch_denoiser_rows_total") - before[1]))
    assert rows[0] == (20, 60)
    assert rows[1][0] < 15
    assert rows[1][1] < 40
    assert psnr(made[1], made[0]) >= CACHED_DB


def test_previews_come_nearer_to_the_picture(demo: Client) -> None:
    picture = Image.open(SAMPLES[0]).convert("RGB").resize((192, 128))
    prompt = [plain_sentence(KINDS[0]).encode()]
    _, *previews, last = shown(demo.server, picture, 3, prompt=prompt, steps=12)
    distances = [psnr(preview.pixels, last.pixels) for preview in previews]
    assert distances == sorted(distances)
    assert distances[0] < distances[-1]
