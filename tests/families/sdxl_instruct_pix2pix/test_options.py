"""What SDXL's family has and no other: CosXL edit by an option, an empty prompt that is encoded, odd checkpoints."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from embedded.server import serve
from families import load
from families.errors import BadCheckpointError
from families.interface import Limits
from tests.conftest import run_export
from tests.families import alone, tiny
from tests.families.conftest import copied, export
from tests.server.asking import Client, colours, png, psnr

FAMILY = "sdxl_instruct_pix2pix"
LIMITS = Limits(256 * 256, 8)
GUIDED = (5.0, 1.5)


def changed(folder: Path, **index: Any) -> Path:
    """A copy of the tiny checkpoint with other words in its index."""
    shutil.copytree(tiny.checkpoint(FAMILY), folder)
    file = folder / "model_index.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | index))
    return folder


def ours(repository: Path, picture: Image.Image) -> Any:
    asked: dict[str, Any] = {"num_inference_steps": 6, "seed": 3, "guidance_scale": 5, "image_guidance_scale": 1.5}
    with serve(repository, port=0) as running:
        return Client(running).edit(picture, "make it red", **asked).pixels


@pytest.mark.families
def test_the_option_of_cosxl_is_seen() -> None:
    """With torch in the place of the engines; with them it is tried by the kit over all families."""
    picture, (text, image) = colours(96, 64), GUIDED
    given = {"image": png(picture), "prompt": b"make it red", "seed": np.uint64(3), "num_inference_steps": np.int32(6)}
    given |= {"guidance_scale": np.float32(text), "image_guidance_scale": np.float32(image)}
    edited = alone.edited("cosxl_edit", {name: np.array([value]) for name, value in given.items()})
    asked = {"steps": 6, "seed": 3, "guidance": GUIDED}
    scaled, plain = (
        tiny.module("cosxl_edit").reference(tiny.checkpoint("cosxl_edit"), picture, "make it red", scaled=on, **asked)
        for on in (True, False)
    )
    assert psnr(edited, scaled) >= 45
    assert psnr(edited, plain) < 40


@pytest.mark.families
@pytest.mark.server
def test_an_empty_prompt_is_encoded_where_the_checkpoint_wants_that(tmp_path: Path) -> None:
    checkpoint = changed(tmp_path / "checkpoint", force_zeros_for_empty_prompt=False)
    export(FAMILY, checkpoint, copied(FAMILY, tmp_path / "repository"))
    asked = {"steps": 6, "seed": 3, "guidance": GUIDED}
    reference = tiny.module(FAMILY).reference(checkpoint, colours(96, 64), "make it red", **asked)
    zeros = tiny.module(FAMILY).reference(tiny.checkpoint(FAMILY), colours(96, 64), "make it red", **asked)
    edited = ours(tmp_path / "repository", colours(96, 64))
    assert psnr(edited, reference) >= 45
    assert psnr(edited, zeros) < psnr(edited, reference)


@pytest.mark.slow
def test_an_option_of_another_family_is_one_line(tmp_path: Path) -> None:
    done = run_export(tiny.checkpoint("instruct_pix2pix"), tmp_path, "--option", "cosxl_edit", routes={})
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "--option cosxl_edit is unknown to this kind of checkpoint; options: none" in done.stderr


def test_the_autoencoder_is_exact_where_its_checkpoint_asks_for_it(tmp_path: Path) -> None:
    table, folder = load(FAMILY, "table"), changed(tmp_path / "checkpoint")
    config = folder / "vae" / "config.json"
    for upcast, precisions in ((True, {("fp32",)}), (False, {("fp16", "bf16", "fp32")})):
        config.write_text(json.dumps(json.loads(config.read_text()) | {"force_upcast": upcast}))
        components = table.components(folder, LIMITS)
        assert {c.precisions for c in components if c.weights == "vae"} == precisions
        assert {c.precisions for c in components if c.weights != "vae"} == {("fp16", "bf16", "fp32")}


@pytest.mark.parametrize(
    ("file", "field", "value", "words"),
    [
        ("unet", "in_channels", 4, "takes 4 channels; this kind needs twice the VAE's 4"),
        ("unet", "cross_attention_dim", 64, "text of width 64, the text encoders give 96"),
        ("unet", "projection_class_embeddings_input_dim", 7, "reads 7 numbers beside the text; .* are 96"),
        ("unet", "addition_time_embed_dim", None, "lacks or misstates"),
        ("text_encoder_2", "max_position_embeddings", 50, "different numbers of tokens"),
        ("text_encoder_2", "projection_dim", "many", "lacks or misstates"),
    ],
)
def test_configs_that_do_not_fit_together_are_one_line(
    tmp_path: Path, file: str, field: str, value: Any, words: str
) -> None:
    folder = changed(tmp_path / "checkpoint")
    config = folder / file / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {field: value}))
    with pytest.raises(BadCheckpointError, match=words) as error:
        load(FAMILY, "table").components(folder, LIMITS)
    assert "\n" not in str(error.value)
