"""The safety checker's parts, each against the class and the processor that it stands for."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

from families.errors import BadCheckpointError, InvalidEditError
from families.parts.pretrained import fill
from families.safety_checker import CONCEPTS, NAME, PIXELS, RULE, SPECIAL, modules, table
from families.safety_checker.decision import refuses, require_safe
from families.safety_checker.picture import Preparation
from tests import safety
from tests.server.asking import colours

SIZES = [(64, 64), (96, 64), (64, 96), (333, 77), (77, 333), (32, 32), (20, 50), (257, 256)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return safety.build(tmp_path_factory.mktemp("safety"))


@pytest.mark.parametrize("size", SIZES)
def test_a_picture_is_prepared_as_the_processor_does(folder: Path, size: tuple[int, int]) -> None:
    picture = colours(*size, seed=3)
    ours = Preparation.of(table.preparation(folder).to_json())(np.asarray(picture))
    theirs = safety.prepared(folder, picture).numpy()
    assert (ours.shape, ours.dtype) == (theirs.shape, np.float32)
    assert np.abs(ours - theirs).max() < 1e-5


def test_the_usual_size_is_prepared_so_too(tmp_path: Path) -> None:
    folder = safety.build(tmp_path / "large", size=224, crop_size=224)
    picture = colours(512, 384)
    ours = table.preparation(folder)(np.asarray(picture))
    assert ours.shape == (1, 3, 224, 224)
    assert np.abs(ours - safety.prepared(folder, picture).numpy()).max() < 1e-5


def test_the_module_gives_what_the_class_compares(folder: Path) -> None:
    checker, pixels = safety.load(folder), torch.randn(1, 3, safety.SIDE, safety.SIDE)
    special, concepts = fill(modules.module(NAME, folder), torch.float32)(pixels)
    with torch.no_grad():
        view = checker.visual_projection(checker.vision_model(pixels)[1])
        for ours, embeddings in ((special, checker.special_care_embeds), (concepts, checker.concept_embeds)):
            assert torch.allclose(ours, torch.nn.functional.cosine_similarity(view, embeddings)[None], atol=1e-6)


def test_the_decision_is_that_of_the_class(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cosines that lie about their thresholds, put into the class's own `forward`."""
    from diffusers.pipelines.stable_diffusion import safety_checker

    numbers, checker, found = torch.Generator().manual_seed(7), safety.load(folder), []
    for _ in range(60):
        limits = [torch.rand(count, generator=numbers) for count in (3, 17)]
        checker.special_care_embeds_weights.data, checker.concept_embeds_weights.data = limits
        special, concepts = (
            (limit - away + torch.randn(len(limit), generator=numbers) * 0.004)[None]
            for limit, away in zip(limits, (0.002, 0.011), strict=True)
        )
        given = iter((special, concepts))
        monkeypatch.setattr(safety_checker, "cosine_distance", lambda *_, given=given: next(given))
        pixels = torch.zeros(1, 3, safety.SIDE, safety.SIDE)
        _, expected = checker(clip_input=pixels, images=[torch.zeros(3, 2, 2)])
        thresholds = dict(zip((SPECIAL, CONCEPTS), (limit.tolist() for limit in limits), strict=True))
        assert refuses(special[0].numpy(), concepts[0].numpy(), thresholds) == expected[0]
        found.append(expected[0])
    assert 10 < sum(found) < 50


def test_special_concepts_alone_refuse_nothing_but_make_it_stricter() -> None:
    thresholds = {SPECIAL: [0.5] * 3, CONCEPTS: [0.2] * 17}
    near, far, nearly = np.full(3, 0.6), np.full(3, 0.1), np.full(17, 0.195)
    assert not refuses(near, np.full(17, 0.1), thresholds)
    assert refuses(near, nearly, thresholds)
    assert not refuses(far, nearly, thresholds)
    with pytest.raises(InvalidEditError) as error:
        require_safe({SPECIAL: near[None], CONCEPTS: nearly[None]}, thresholds)
    assert error.value.code == "picture_refused"


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("of", [SPECIAL, CONCEPTS])
def test_a_cosine_that_is_no_finite_number_is_refused(number: float, of: str) -> None:
    thresholds = {SPECIAL: [0.5] * 3, CONCEPTS: [0.2] * 17}
    seen = {SPECIAL: np.zeros((1, 3), np.float32), CONCEPTS: np.zeros((1, 17), np.float32)}
    require_safe(seen, thresholds)
    seen[of][0, -1] = number
    with pytest.raises(InvalidEditError) as error:
        require_safe(seen, thresholds)
    assert error.value.code == "picture_refused"


def test_one_picture_is_refused_and_another_passes(tmp_path: Path) -> None:
    folder, (one, other) = safety.build(tmp_path / "safety"), (colours(96, 64, seed) for seed in (1, 2))
    assert not safety.refuses(folder, one), "nothing is, as it is built"
    safety.tell_apart(folder, one, other)
    assert (safety.refuses(folder, one), safety.refuses(folder, other)) == (True, False)
    thresholds, rule = modules.thresholds(folder), table.preparation(folder)
    for picture, refused in ((one, True), (other, False)):
        seen = fill(modules.module(NAME, folder), torch.float32)(torch.from_numpy(rule(np.asarray(picture))))
        assert refuses(*(cosines[0].numpy() for cosines in seen), thresholds) == refused


def test_the_table_is_the_checkers(folder: Path) -> None:
    component = table.component(folder)
    assert [tensor.name for tensor in component.inputs] == [PIXELS]
    assert component.inputs[0].shape(component.sizes("opt")) == (1, 3, safety.SIDE, safety.SIDE)
    assert Path(component.weights) == (folder / NAME).resolve()
    assert not component.batched
    assert RULE == "safety_rule"


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"do_normalize": False}, "is not CLIP's: scale bicubically"),
        ({"do_rescale": False}, "is not CLIP's: scale bicubically"),
        ({"resample": 2}, "is not CLIP's: scale bicubically"),
        ({"image_mean": [0.5]}, "is not CLIP's: scale bicubically"),
        ({"crop_size": 64}, "is not CLIP's: scale bicubically"),
        ({"crop_size": {"width": 24, "height": 32}}, "crop_size is 24 x 32, and must be a square"),
        ({"crop_size": {"height": 32}}, "lacks or misstates 'width'"),
        ({"crop_size": 16}, "cut to 16 pixels, its checker takes 32"),
        ({"size": {"height": 32, "width": 32}}, "lacks or misstates 'shortest_edge'"),
        ({"size": None}, "lacks or misstates"),
        ({"size": float("inf")}, "lacks or misstates"),
        ({"size": 5000}, "size is 5000, and may be 4096 at most"),
        ({"size": 10**12, "crop_size": 10**12}, "size is 1000000000000, and may be 4096 at most"),
        ({"do_resize": "false"}, "is not CLIP's: scale bicubically"),
        ({"image_std": [0.2, float("nan"), 0.2]}, "image_std is not three finite numbers above 0"),
        ({"image_std": [0.2, float("inf"), 0.2]}, "image_std is not three finite numbers above 0"),
        ({"image_std": [0.2, 0.2, 0]}, "image_std is not three finite numbers above 0"),
        ({"image_std": [-0.2, 0.2, 0.2]}, "image_std is not three finite numbers above 0"),
        ({"image_mean": [0.2, 0.2, float("nan")]}, "image_mean is not three finite numbers"),
        ({"image_mean": [float("-inf"), 0.2, 0.2]}, "image_mean is not three finite numbers"),
        ({"rescale_factor": 1}, "rescale_factor is 1, and must be 1/255"),
        ({"rescale_factor": float("nan")}, "rescale_factor is nan, and must be 1/255"),
    ],
)
def test_another_processor_is_refused_in_one_line(tmp_path: Path, changed: dict[str, Any], words: str) -> None:
    with pytest.raises(BadCheckpointError, match=words) as error:
        table.component(safety.build(tmp_path / "changed", **changed))
    assert "\n" not in str(error.value)


def test_the_usual_factor_may_be_stated(tmp_path: Path) -> None:
    assert table.preparation(safety.build(tmp_path / "stated", rescale_factor=0.00392156862745098)).crop == safety.SIDE


@pytest.mark.parametrize("vision", [None, [], 5])
def test_a_checker_without_a_config_of_its_vision_is_refused(tmp_path: Path, vision: Any) -> None:
    folder = safety.build(tmp_path / "changed")
    file = folder / NAME / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"vision_config": vision}))
    with pytest.raises(BadCheckpointError, match=r"safety_checker/config\.json: vision_config is no JSON object"):
        table.component(folder)


@pytest.mark.parametrize("name", modules.THRESHOLDS.values())
@pytest.mark.parametrize("shape", [(), (0,), (1,), (1, 3), (17, 1)])
def test_thresholds_are_one_for_each_concept(tmp_path: Path, name: str, shape: tuple[int, ...]) -> None:
    folder = safety.build(tmp_path / "changed")
    file = folder / NAME / "model.safetensors"
    safetensors.torch.save_file(safetensors.torch.load_file(file) | {name: torch.ones(shape)}, file)
    with pytest.raises(BadCheckpointError, match=r"no finite .*, of 3 and 17 numbers") as error:
        modules.thresholds(folder)
    assert "\n" not in str(error.value)


def test_another_checker_is_refused_in_one_line(tmp_path: Path) -> None:
    folder = safety.build(tmp_path / "changed")
    file = folder / NAME / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"architectures": ["CLIPModel"]}))
    with pytest.raises(BadCheckpointError, match="and not a StableDiffusionSafetyChecker"):
        table.component(folder)
    (folder / NAME / "model.safetensors").unlink()
    with pytest.raises(BadCheckpointError, match=r"no diffusion_pytorch_model\.safetensors or"):
        modules.thresholds(folder)
    with pytest.raises(BadCheckpointError, match=r"safety_checker/config\.json is missing"):
        table.component(tmp_path)
