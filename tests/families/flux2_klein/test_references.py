"""What FLUX.2 klein has and no other: several reference pictures, and checkpoints that know no guidance."""

import base64
import io
import json
import shutil
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import openai
import pytest
from PIL import Image

from embedded.server import serve
from families import load
from families.errors import BadCheckpointError
from families.flux2_klein.denoising import noise
from families.interface import Limits
from tests.families import tiny
from tests.families.conftest import exported
from tests.server.asking import Client, colours, png, psnr

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from friendli import SyncFriendli

FAMILY = "flux2_klein"
PROMPT = "make the sky red"
LIMITS = Limits(256 * 256, 8)
SIZES: list[list[tuple[int, int]]] = [[(96, 96)], [(128, 96), (64, 80)], [(64, 64), (160, 96), (80, 80)]]


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    """The family's tiny checkpoint, as the tests of every family export it."""
    with serve(exported(FAMILY), port=0) as running:
        yield Client(running)


def pictures(sizes: list[tuple[int, int]]) -> list[Image.Image]:
    return [colours(*size, seed=place) for place, size in enumerate(sizes)]


def ours(client: Client, given: list[Image.Image], **asked: Any) -> Any:
    if not given:
        return client.generate(PROMPT, size="96x128", **asked)
    images = [{"image": base64.b64encode(png(picture)).decode()} for picture in given]
    return client.edit(given[0], PROMPT, image=images, **asked)


@pytest.mark.families
@pytest.mark.parametrize("guidance", [1.0, 3.0], ids=["off", "text"])
@pytest.mark.parametrize("sizes", SIZES, ids=["one", "two", "three"])
def test_references_of_different_sizes_equal_diffusers(
    client: Client, sizes: list[tuple[int, int]], guidance: float
) -> None:
    given = pictures(sizes)
    answer = ours(client, given, num_inference_steps=4, seed=12, guidance_scale=guidance)
    asked: dict[str, Any] = {"steps": 4, "seed": 12, "guidance": (guidance, 1.0)}
    assert psnr(answer.pixels, tiny.module(FAMILY).reference(tiny.checkpoint(FAMILY), given, PROMPT, **asked)) >= 45


@pytest.mark.families
def test_edits_of_other_sizes_and_counts_are_as_if_alone(client: Client) -> None:
    edits: list[tuple[list[Image.Image], dict[str, Any]]] = [
        (
            pictures([SIZES[0], SIZES[1], SIZES[2], []][place % 4]),
            {"num_inference_steps": 3 + place, "seed": place, "guidance_scale": (1, 3)[place % 2]},
        )
        for place in range(8)
    ]
    alone = [ours(client, given, **asked).pixels for given, asked in edits]
    before = client.denoiser_calls()
    with ThreadPoolExecutor(len(edits)) as pool:
        futures = [pool.submit(ours, client, given, **asked) for given, asked in edits]
        together = [future.result().pixels for future in futures]
    for solo, joint in zip(alone, together, strict=True):
        assert np.abs(solo.astype(int) - joint).max() <= 2
    assert client.denoiser_calls() - before < sum(asked["num_inference_steps"] for _, asked in edits)


@pytest.mark.families
def test_more_references_than_the_export_takes_are_refused(client: Client) -> None:
    answer = ours(client, pictures([(64, 64)] * 5))
    assert (answer.status, answer.body["error"]["code"]) == (422, "too_many_images")


@pytest.mark.families
@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"image": [b"no picture"]}, "image_unreadable"),
        ({"image": [png(colours(64, 64)), b"no picture"]}, "image_unreadable"),
        ({"image": [png(colours(64, 64)), png(Image.new("RGB", (2000, 1)))]}, "image_too_large"),
        ({"prompt": "x" * 10_001}, "prompt_invalid"),
        ({"guidance_scale": 101}, "parameter_invalid"),
        ({"model": "nobody"}, "unknown_model"),
    ],
)
def test_a_bad_request_is_422_and_named(client: Client, fields: dict[str, Any], code: str) -> None:
    images = [{"image": base64.b64encode(file).decode()} for file in fields.get("image", [png(colours(64, 64))])]
    answer = client.edit(colours(64, 64), **{"prompt": PROMPT, **fields, "image": images})
    assert (answer.status, answer.body["error"]["code"]) == (422, code)


@pytest.mark.families
@pytest.mark.parametrize(
    ("size", "served"),
    [
        ("528x64", "the longer side may be at most 8 times the shorter one"),
        ("1024x1024", "the answer may have at most 65536 pixels"),
    ],
)
def test_a_size_beyond_the_export_is_422_that_names_the_bound(client: Client, size: str, served: str) -> None:
    answer = client.generate(PROMPT, size=size)
    assert (answer.status, answer.body["error"]["code"]) == (422, "size_unavailable")
    assert served[1:] in answer.body["detail"]


@pytest.mark.families
@pytest.mark.parametrize("given", [(40, 40), (40, 80), (640, 64)])
def test_pictures_that_the_pipeline_refuses_are_edited_and_keep_their_size(
    client: Client, given: tuple[int, int]
) -> None:
    with pytest.raises(ValueError, match=r"Image too small|Aspect ratio too extreme"):
        tiny.module(FAMILY).pipeline(tiny.checkpoint(FAMILY)).image_processor.check_image_input(colours(*given))
    assert client.edit(colours(*given), PROMPT, num_inference_steps=1).pixels.shape[1::-1] == given


@pytest.mark.families
def test_text_is_cut_where_the_pipeline_cuts_it(client: Client) -> None:
    prompt, asked = "make the sky red " * 100, {"num_inference_steps": 4, "seed": 12, "guidance_scale": 3.0}
    made, longer = (client.generate(text, size="96x64", **asked) for text in (prompt, prompt + "and the sea green"))
    assert made.body["data"] == longer.body["data"]
    expected = {"steps": 4, "seed": 12, "guidance": (3.0, 1.0), "size": (96, 64)}
    assert psnr(made.pixels, tiny.module(FAMILY).reference(tiny.checkpoint(FAMILY), None, prompt, **expected)) >= 45


@pytest.mark.families
def test_both_sdks_make_a_picture_from_text_alone(client: Client) -> None:
    url = client.server.http_url
    with openai.OpenAI(api_key="none", base_url=f"{url}/v1", max_retries=0) as sdk:
        extra = {"num_inference_steps": 4, "seed": 7}
        answer = sdk.images.generate(prompt=PROMPT, size="128x96", output_format="jpeg", extra_body=extra)
        plain = sdk.images.generate(prompt=PROMPT, extra_body={"num_inference_steps": 2})
        listed = [model.model_dump() for model in sdk.models.list()]
    assert answer.data
    assert plain.data
    first = base64.b64decode(answer.data[0].b64_json or "")
    with Image.open(io.BytesIO(first)) as picture:
        assert (picture.format, picture.size) == ("JPEG", (128, 96))
    with Image.open(io.BytesIO(base64.b64decode(plain.data[0].b64_json or ""))) as picture:
        assert picture.size == (256, 256)
    assert {model["generation_size"] for model in listed} == {"256x256"}
    with SyncFriendli(token="none") as friendli:
        made = friendli.container.image.generate(
            prompt=PROMPT, num_inference_steps=4, seed=7, server_url=url, timeout_ms=60_000
        )
    with Image.open(io.BytesIO(base64.b64decode(made.image))) as picture:
        assert (picture.format, picture.size) == ("JPEG", (256, 256))


def changed(folder: Path, component: str, **fields: Any) -> Path:
    """A copy of the tiny checkpoint with other words in a config, or in its index."""
    shutil.copytree(tiny.checkpoint(FAMILY), folder)
    file = folder / component / "config.json" if component else folder / "model_index.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | fields))
    return folder


def test_a_distilled_checkpoint_makes_four_steps_of_one_row(tmp_path: Path) -> None:
    table = load(FAMILY, "table")
    plain, distilled = tiny.checkpoint(FAMILY), changed(tmp_path / "distilled", "", is_distilled=True)
    made = [table.settings(checkpoint, LIMITS) for checkpoint in (plain, distilled)]
    assert [(each.num_inference_steps, each.guidance_scale, each.rows) for each in made] == [(50, 4.0, 2), (4, 1.0, 1)]
    assert [each.own["distilled"] for each in made] == [False, True]


@pytest.mark.parametrize(("asked", "most"), [(None, 4), (2, 2), (8, 8), (16, 8)])
def test_as_many_references_as_the_export_is_asked_for(asked: int | None, most: int) -> None:
    table, limits = load(FAMILY, "table"), Limits(256 * 256, 8, asked)
    assert table.settings(tiny.checkpoint(FAMILY), limits).max_images == most
    denoiser = next(c for c in table.components(tiny.checkpoint(FAMILY), limits) if c.role == "denoiser")
    assert denoiser.ranges["reference"].max == most * denoiser.ranges["target"].max


@pytest.mark.parametrize(
    ("component", "field", "value", "words"),
    [
        ("text_encoder", "num_hidden_layers", 27, "has 27 layers; klein reads those up to 27"),
        ("text_encoder", "hidden_size", 8, "reads text of width 48"),
        ("vae", "latent_channels", 8, "takes 16 channels, its autoencoder 32"),
        ("transformer", "guidance_embeds", True, "embedded guidance number"),
        ("transformer", "in_channels", None, "lacks or misstates"),
    ],
)
def test_configs_that_do_not_fit_together_are_one_line(
    tmp_path: Path, component: str, field: str, value: Any, words: str
) -> None:
    with pytest.raises(BadCheckpointError, match=words) as error:
        load(FAMILY, "table").components(changed(tmp_path / "changed", component, **{field: value}), LIMITS)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("tokens", [16, 1024, 4096, 4300, 4301, 9000])
@pytest.mark.parametrize("steps", [1, 4, 50])
def test_the_shift_is_that_of_diffusers(steps: int, tokens: int) -> None:
    from diffusers.pipelines.flux2.pipeline_flux2_klein import compute_empirical_mu

    assert noise(steps, tokens, {})["mu"] == pytest.approx(compute_empirical_mu(tokens, steps), rel=1e-12)
