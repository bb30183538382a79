"""A repository with a safety checker: it refuses one picture and passes another, and no refused one leaves Triton."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tritonclient.grpc
from PIL import Image

from embedded.server import serve
from export.adapters import Bank
from export.checkpoint import Checkpoint
from export.component.build import Builder, Make
from export.engines import load
from families.safety_checker import modules, table
from tests import safety
from tests.conftest import TARGETS
from tests.families import tiny
from tests.families.conftest import copied, export
from tests.server.asking import Client, colours, png, psnr
from tests.server.tensors import grpc_inputs

pytestmark = pytest.mark.families
FAMILY = "instruct_pix2pix"
PROMPT, STEPS, GUIDANCE = "make the sky red", 4, (3.0, 1.5)
GIVEN = colours(96, 64)
REFUSED, PASSED = 1, 2
"""Seeds of edits of the one picture."""


@pytest.fixture(scope="module")
def pictures() -> dict[int, Any]:
    """What diffusers makes of the edits, (H, W, 3), by seed."""
    kit, checkpoint = tiny.module(FAMILY), tiny.checkpoint(FAMILY)
    return {
        seed: kit.reference(checkpoint, GIVEN, PROMPT, steps=STEPS, seed=seed, guidance=GUIDANCE)
        for seed in (REFUSED, PASSED)
    }


@pytest.fixture(scope="module")
def repository(pictures: dict[int, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = safety.build(tmp_path_factory.mktemp("safety"))
    safety.tell_apart(folder, *(Image.fromarray(pictures[seed]) for seed in (REFUSED, PASSED)))
    made = copied(FAMILY, tmp_path_factory.mktemp("served") / "repository")
    export(FAMILY, tiny.checkpoint(FAMILY), made, "--safety-checker", str(folder))
    return made


@pytest.fixture(scope="module")
def client(repository: Path) -> Iterator[Client]:
    with serve(repository, port=0) as running:
        yield Client(running)


def edit(client: Client, seed: int) -> Any:
    scales = {"guidance_scale": GUIDANCE[0], "image_guidance_scale": GUIDANCE[1]}
    return client.edit(GIVEN, PROMPT, num_inference_steps=STEPS, seed=seed, **scales)


def test_the_engine_is_checked_as_others_are(repository: Path) -> None:
    record = json.loads((repository / "safety_checker" / "component.json").read_text())
    assert record["precision"] == "fp32"
    assert record["error"] <= record["tolerance"] == 1e-4


def test_one_picture_is_refused_and_another_is_as_ever(client: Client, pictures: dict[int, Any]) -> None:
    refused, passed = edit(client, REFUSED), edit(client, PASSED)
    assert psnr(passed.pixels, pictures[PASSED]) >= 45
    assert (refused.status, refused.body["error"]["code"]) == (422, "picture_refused")
    assert refused.body["detail"] == "The picture was made, and this server's safety checker refuses it."
    assert set(refused.body) == {"error", "detail"}


def test_a_refused_picture_does_not_leave_triton(client: Client) -> None:
    asked = {"prompt": [PROMPT.encode()], "guidance_scale": [GUIDANCE[0]], "seed": [REFUSED], "image": [png(GIVEN)]}
    with tritonclient.grpc.InferenceServerClient(client.server.triton_grpc) as triton:
        with pytest.raises(tritonclient.grpc.InferenceServerException, match="tritouch:picture_refused ") as error:
            triton.infer("edit", grpc_inputs(GIVEN, STEPS, **asked))
        assert error.value.status() == "StatusCode.INVALID_ARGUMENT"
        answer = triton.infer("edit", grpc_inputs(GIVEN, STEPS, **asked | {"seed": [PASSED]}))
    given = {output.name for output in answer.get_response().outputs}
    assert not {name for name in given if "safety" in name or "cosine" in name}


class _Silent:
    def __call__(self, stage: str) -> None: ...

    def part(self, done: float) -> None: ...


def test_the_engine_compiles_for_gpus(tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx")
    folder, made = safety.build(tmp_path / "checker"), tmp_path / "made"
    made.mkdir()
    engine = load("tensorrt_rtx", TARGETS)
    builder = Builder(Checkpoint(folder, "", ""), modules, engine, Bank((), (), {}), tmp_path, tmp_path)
    builder.build(Make(table.component(folder), "fp32", "any"), made, _Silent())
    record = json.loads((made / "component.json").read_text())
    assert record["versions"]["compute_capability"].split() == TARGETS
    assert record["error"] <= record["tolerance"] == 1e-4


def test_without_the_flag_it_is_gone(client: Client, repository: Path, tmp_path: Path) -> None:
    assert (repository / "safety_checker").exists()
    export(FAMILY, tiny.checkpoint(FAMILY), repository)
    assert not (repository / "safety_checker").is_symlink()
    assert json.loads((repository / "edit_stream" / "1" / "pipeline" / "settings.json").read_text())["safety"] is None
