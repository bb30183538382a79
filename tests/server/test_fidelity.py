"""The served picture against diffusers' own pipeline in torch: same checkpoint, picture, prompt, steps and seed."""

import json
import shutil
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from embedded.server import serve
from tests.conftest import run_export
from tests.families.instruct_pix2pix import tiny
from tests.server.asking import Client, colours, psnr

STEPS, SEED, PROMPT = 6, 1234, "make the sky red, and add a cat"
SIZES = {"square": (128, 128), "portrait": (96, 160), "landscape": (200, 72), "odd": (131, 77)}
LEAST_DB = 45.0


def reference(
    checkpoint: Path, picture: Image.Image, text_scale: float, image_scale: float, prompt: str = PROMPT
) -> Any:
    """diffusers' answer as (H, W, 3) uint8."""
    return tiny.reference(checkpoint, picture, prompt, steps=STEPS, seed=SEED, guidance=(text_scale, image_scale))


def served(client: Client, picture: Image.Image, text_scale: float, image_scale: float) -> Any:
    answer = client.edit(
        picture,
        PROMPT,
        num_inference_steps=STEPS,
        seed=SEED,
        guidance_scale=text_scale,
        image_guidance_scale=image_scale,
    )
    return answer.pixels


def working(picture: Image.Image) -> Image.Image:
    """The picture at multiples of 8, which is all that the size rule does to one within the budget."""
    size = [int(side / 8 + 0.5) * 8 for side in picture.size]
    return picture if tuple(size) == picture.size else picture.resize((size[0], size[1]), Image.Resampling.LANCZOS)


def answered(rgb: Any, size: tuple[int, int]) -> Any:
    """What is made at the working size, (H, W, 3) uint8, at the answer's (width, height)."""
    return np.asarray(Image.fromarray(rgb).resize(size, Image.Resampling.LANCZOS))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("guidance", tiny.GUIDANCE)
def test_equals_diffusers(client: Client, checkpoint: Path, guidance: str, size: str) -> None:
    picture = colours(*SIZES[size])
    ours = served(client, picture, *tiny.GUIDANCE[guidance])
    theirs = reference(checkpoint, working(picture), *tiny.GUIDANCE[guidance])
    assert psnr(ours, answered(theirs, picture.size)) >= LEAST_DB


@pytest.fixture(scope="module")
def other_sampler(
    checkpoint: Path, repository: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Client, Path]]:
    """The same engines with PNDM, which makes four steps or more, by a second export with nothing to compile."""
    changed = tmp_path_factory.mktemp("sampler") / "checkpoint"
    shutil.copytree(checkpoint, changed)
    file = changed / "scheduler" / "scheduler_config.json"
    config = json.loads(file.read_text()) | {"_class_name": "PNDMScheduler"}
    index = changed / "model_index.json"
    index.write_text(json.dumps(json.loads(index.read_text()) | {"scheduler": ["diffusers", "PNDMScheduler"]}))
    file.write_text(json.dumps(config))
    target = tmp_path_factory.mktemp("repository") / "copy"
    shutil.copytree(repository, target, symlinks=True)
    done = run_export(changed, target)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("up to date") == 4
    with serve(target, port=0) as running:
        yield Client(running), changed


def test_another_scheduler_class_equals_diffusers(other_sampler: tuple[Client, Path]) -> None:
    client, checkpoint = other_sampler
    for guidance, size in zip(tiny.GUIDANCE, SIZES, strict=False):
        picture = colours(*SIZES[size], seed=3)
        ours = served(client, picture, *tiny.GUIDANCE[guidance])
        assert psnr(ours, reference(checkpoint, working(picture), *tiny.GUIDANCE[guidance])) >= LEAST_DB


def test_a_number_of_steps_that_the_sampler_cannot_make_is_refused_with_the_nearest(
    other_sampler: tuple[Client, Path],
) -> None:
    client, _ = other_sampler
    answer = client.edit(colours(64, 64), num_inference_steps=2)
    assert (answer.status, answer.body["error"]["code"]) == (422, "steps_unavailable")
    assert answer.body["detail"].endswith("The nearest number that works is 4.")
    with urllib.request.urlopen(f"{client.server.http_url}/v1/models") as listed:
        assert json.load(listed)["data"][0]["steps"] == list(range(4, 51))


def test_same_seed_same_bytes_and_no_seed_another_picture(client: Client) -> None:
    picture = colours(96, 96)
    first, second = (client.edit(picture, num_inference_steps=3, seed=7).body["image"] for _ in range(2))
    assert first == second
    free = [client.edit(picture, num_inference_steps=3) for _ in range(2)]
    assert free[0].body["seed"] != free[1].body["seed"]
    assert free[0].body["image"] != free[1].body["image"]
    again = client.edit(picture, num_inference_steps=3, seed=free[0].body["seed"])
    assert again.body["image"] == free[0].body["image"], "the seed that was answered gives the picture again"
