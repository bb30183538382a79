"""What every family must hold, over the registry: a family without a tiny checkpoint of its own fails here.

`tests/families/<name>/tiny.py` offers `build(folder)`, `adapters(checkpoint)` (route -> file and scale; empty where the
family takes none), `reference(checkpoint, picture, prompt, steps, seed, guidance, adapters)`: diffusers' picture, (H,
W, 3) uint8, `GUIDANCE` (name -> text and image scale), `SAMPLERS` (class -> configuration), and `FLAGS` of its export.
Where the family makes pictures from text alone, `reference` does for the picture None, and takes its `size`. A model
that is of a family by an option of the export (`tiny.VARIANTS`) has a kit of its own, and the same tests, but for the
engines for GPUs: these are its family's.
"""

import base64
import json
import re
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from embedded.server import serve
from families import PIPELINES, load
from families.alone import denoise_alone
from families.edit import canvas
from families.interface import DENOISER, PREDICTION, Component, Tensors
from families.picture import scaled
from families.sizes import own_rule, same_aspect, within
from tests.conftest import ROOT, RTX, TARGETS
from tests.families import small, tiny
from tests.families.alone import LIMITS, planned
from tests.families.conftest import Served, export
from tests.server.asking import Client, colours, png, psnr
from tests.server.tensors import made

FAMILIES = sorted(set(PIPELINES.values()))
KITS = [*FAMILIES, *tiny.VARIANTS]
STEPS, SEED, PROMPT = 6, 1234, "make the sky red, and add a cat"
SIZES = {"square": (16, 16), "portrait": (12, 20), "odd": (17, 9)}
"""In the least that a side of the family's pictures is a multiple of."""
LEAST_DB = 45.0
SEEN_DB = 40.0
"""An adapter's picture is at least so far from the one without."""

pytestmark = pytest.mark.families
served_each = pytest.mark.parametrize("served", KITS, indirect=True)


def ours(served: Served, size: tuple[int, int], guidance: tuple[float, float], **more: Any) -> Any:
    """Our picture at the size that the family works at, where nothing is scaled but what its pipeline scales too."""
    working = own_rule(served.settings.size_rule).of(*size)
    asked: dict[str, Any] = {"guidance": guidance, "steps": STEPS, "seed": SEED, "size": working}
    return made(served.client, colours(*size), PROMPT, **{**asked, **more})


def theirs(family: Served, size: tuple[int, int], guidance: tuple[float, float], checkpoint: Path | None = None) -> Any:
    asked: dict[str, Any] = {"steps": STEPS, "seed": SEED, "guidance": guidance}
    return family.kit.reference(checkpoint or family.checkpoint, colours(*size), PROMPT, **asked)


@pytest.mark.parametrize("kit", KITS)
def test_the_table_is_one_that_the_house_can_serve(kit: str) -> None:
    table = load(tiny.family(kit), "table")
    components: tuple[Component, ...] = table.components(tiny.checkpoint(kit), LIMITS)
    defaults = table.settings(tiny.checkpoint(kit), LIMITS)
    assert [c.name for c in components if c.role == "denoiser"] == [DENOISER]
    assert [c.role for c in components].count("decoder") == 1
    for component in components:
        named = {axis for tensor in component.inputs for axis in tensor.axes}
        assert {axis for axis in named if isinstance(axis, str)} <= component.ranges.keys()
        assert all(sizes.keys() == component.ranges.keys() for sizes in component.shapes)
        assert set(component.precisions) <= component.tolerance.keys()
        assert (component.role != "denoiser") or component.batched
    denoiser = next(c for c in components if c.role == "denoiser")
    assert [tensor.name for tensor in denoiser.outputs] == [PREDICTION]
    assert 1 <= defaults.rows <= LIMITS.max_batch
    json.dumps(dict(defaults.own))


@pytest.mark.parametrize("kit", KITS)
def test_its_defaults_are_told(kit: str) -> None:
    page = (ROOT / "docs" / "export.md").read_text("utf-8")
    rows = page.split("## Defaults by family\n\n")[1].split("\n\n")[0].splitlines()[2:]
    told = [[float(number) for number in re.findall(r"\| ([0-9.]+)", row)] for row in rows]
    defaults = load(tiny.family(kit), "table").settings(tiny.checkpoint(kit), LIMITS)
    assert [defaults.max_images, defaults.num_inference_steps, defaults.guidance_scale, defaults.rows] in told


@pytest.mark.parametrize("kit", KITS)
def test_previews_come_nearer_to_the_picture(kit: str) -> None:
    """The loop with torch in the place of the engines, and the decoder's inputs on the way."""
    _, plan, engines = planned(kit, given())
    decoder = next(
        c for c in load(tiny.family(kit), "table").components(tiny.checkpoint(kit), LIMITS) if c.role == "decoder"
    )
    seen = []

    def watching() -> Iterator[Any]:
        step = next(plan.loop)
        while True:
            assert (step.preview is None) == (not seen and not sent), "none before the first call alone"
            if step.preview:
                seen.append(step.preview())
            prediction = yield step
            sent.append(prediction)
            try:
                step = plan.loop.send(prediction)
            except StopIteration as finished:
                return finished.value

    sent: list[Any] = []
    watched = replace(plan, loop=watching())
    result = denoise_alone(watched, lambda inputs: engines(DENOISER, inputs)[PREDICTION])
    assert len(seen) == len(sent) - 1 >= 1
    for tensor in decoder.inputs:
        assert {estimate[tensor.name].shape for estimate in seen} == {result[tensor.name].shape}
        away = [float(np.abs(estimate[tensor.name] - result[tensor.name]).mean()) for estimate in seen]
        assert away[-1] < away[0] or away[-1] < 1e-3


@pytest.mark.parametrize("kit", KITS)
def test_what_is_padded_are_the_tokens(kit: str) -> None:
    _, plan, _ = planned(kit, given())
    inputs = {**plan.constant, **next(plan.loop).inputs}
    lengths = [{inputs[name].shape[1] for name in names} for names in plan.padded.values()]
    assert all(len(each) == 1 for each in lengths), "one axis has one length"
    assert not plan.padded or plan.tokens == sum(min(each) for each in lengths)


@served_each
@pytest.mark.parametrize("size", SIZES)
def test_equals_diffusers(served: Served, size: str) -> None:
    sides = (SIZES[size][0] * served.kit.MULTIPLE, SIZES[size][1] * served.kit.MULTIPLE)
    for guidance in served.kit.GUIDANCE.values():
        picture = ours(served, sides, guidance)
        assert psnr(picture, theirs(served, sides, guidance)) >= LEAST_DB, guidance


@served_each
def test_an_edit_is_answered_at_its_pictures_size_or_the_asked_one(served: Served) -> None:
    """Scaled from the size that the family works at."""
    guidance, rule = next(iter(served.kit.GUIDANCE.values())), own_rule(served.settings.size_rule)
    for own, asked in (((131, 90), (0, 0)), ((640, 480), (0, 0)), ((131, 90), (90, 200))):
        answer = asked if any(asked) else within(own, served.settings.max_pixels)
        picture = made(served.client, colours(*own), PROMPT, guidance=guidance, size=asked)
        assert picture.shape == (answer[1], answer[0], 3)
    unscaled = made(served.client, colours(131, 90), PROMPT, guidance=guidance, size=(262, 180))
    worked_at = made(served.client, colours(131, 90), PROMPT, guidance=guidance, size=rule.of(262, 180))
    if same_aspect(rule.of(262, 180), (131, 90)):
        assert psnr(unscaled, np.asarray(scaled(Image.fromarray(worked_at), (262, 180)))) >= LEAST_DB


@served_each
def test_text_alone_equals_diffusers_or_is_404(served: Served) -> None:
    rule = canvas(served.settings)
    if rule is None:
        answer = served.client.generate(PROMPT)
        assert (answer.status, answer.body["error"]["code"]) == (404, "generations_unavailable")
        return
    for size, named in ((rule.square, "auto"), ((160, 96), "160x96")):
        for guidance in served.kit.GUIDANCE.values():
            asked: dict[str, Any] = {"num_inference_steps": STEPS, "seed": SEED, "guidance_scale": guidance[0]}
            picture = served.client.generate(PROMPT, size=named, **asked).pixels
            assert picture.shape == (size[1], size[0], 3)
            expected = {"steps": STEPS, "seed": SEED, "guidance": guidance, "size": size}
            assert psnr(picture, served.kit.reference(served.checkpoint, None, PROMPT, **expected)) >= LEAST_DB


@served_each
def test_neighbours_do_not_matter(served: Served) -> None:
    guidances = list(islice(cycle(served.kit.GUIDANCE.values()), 8))
    own = list(served.kit.adapters(served.checkpoint))
    routes = list(islice(cycle(["", *own, *([f"{own[0]}:0.5+{own[1]}:-1", "+".join(own)] if len(own) > 1 else [])]), 8))
    asked = [
        {"size": (96, 96) if i % 2 else (128, 72), "guidance": guidance, "steps": 4 + i, "seed": i} | {"model": route}
        for i, (guidance, route) in enumerate(zip(guidances, routes, strict=True))
    ]
    alone = [ours(served, **edit) for edit in asked]
    before = served.client.denoiser_calls()
    with ThreadPoolExecutor(len(asked)) as pool:
        together = [future.result() for future in [pool.submit(ours, served, **edit) for edit in asked]]
    for solo, joint in zip(alone, together, strict=True):
        assert np.abs(solo.astype(int) - joint).max() <= 2
    assert served.client.denoiser_calls() - before < sum(4 + i for i in range(8)), "they were not batched"


@served_each
def test_edits_of_different_sizes_share_calls_where_pictures_are_tokens(served: Served) -> None:
    """Those of as many tokens do, upright and lying ones for two; where rows are padded, others too."""
    if "sample_ids" not in planned(served.name, given())[1].constant:
        return
    padded = bool(planned(served.name, given())[1].padded)
    sizes = ((96, 96), (160, 96), (64, 128), (144, 112), (64, 208), (112, 64)) if padded else ((160, 96), (96, 160))
    guidances, own = list(served.kit.GUIDANCE.values()), list(served.kit.adapters(served.checkpoint))
    asked: list[dict[str, Any]] = [
        {"size": size, "guidance": guidances[i % len(guidances)], "steps": 16 + i, "seed": i}
        | {"model": own[0] if own and i % 3 == 0 else ""}
        for i, size in enumerate(sizes)
    ]
    alone = [ours(served, **edit) for edit in asked]
    before = served.client.denoiser_calls()
    with ThreadPoolExecutor(len(asked)) as pool:
        together = [future.result() for future in [pool.submit(ours, served, **edit) for edit in asked]]
    for solo, joint in zip(alone, together, strict=True):
        assert np.abs(solo.astype(int) - joint).max() <= 2
    made, steps = served.client.denoiser_calls() - before, sum(edit["steps"] for edit in asked)
    assert made < steps, "no two shared a call"


@served_each
def test_adapters_are_what_diffusers_makes_of_them(served: Served) -> None:
    guidance = next(iter(served.kit.GUIDANCE.values()))
    files = served.kit.adapters(served.checkpoint)
    asked = {route: [adapter] for route, adapter in files.items()}
    if len(files) > 1:
        (one, (first, own)), (other, (second, others)) = islice(files.items(), 2)
        asked[f"{one}:0.7+{other}:-0.5"] = [(first, 0.7 * own), (second, -0.5 * others)]
    plain = ours(served, (96, 96), guidance)
    for model, adapters in asked.items():
        picture = ours(served, (96, 96), guidance, model=model)
        given: dict[str, Any] = {"steps": STEPS, "seed": SEED, "guidance": guidance, "adapters": adapters}
        reference = served.kit.reference(served.checkpoint, colours(96, 96), PROMPT, **given)
        assert psnr(picture, reference) >= LEAST_DB, model
        assert psnr(picture, plain) < SEEN_DB, f"{model} is seen"


@served_each
def test_what_is_left_out_takes_the_exports_defaults(served: Served) -> None:
    settings = served.settings
    answer = served.client.edit(colours(64, 64), PROMPT, seed=SEED)
    said = {
        "num_inference_steps": settings.num_inference_steps,
        "guidance_scale": settings.guidance_scale,
        "image_guidance_scale": settings.image_guidance_scale,
    }
    assert {name: answer.body[name] for name in said} == said
    assert answer.body["image"] == served.client.edit(colours(64, 64), PROMPT, seed=SEED, **said).body["image"]
    if canvas(settings):
        made = served.client.generate(PROMPT, seed=SEED, size="64x64").body
        assert {name: made[name] for name in said} == said


@served_each
def test_what_cannot_be_edited_is_refused_by_name(served: Served) -> None:
    settings = served.settings
    picture, broken = ({"image": base64.b64encode(file).decode()} for file in (png(colours(64, 64)), b"no picture"))
    many = served.client.edit(colours(64, 64), image=[picture] * (settings.max_images + 1))
    assert (many.status, many.body["error"]["code"]) == (422, "too_many_images")
    for changed, code in (
        ({"image": broken}, "image_unreadable"),
        ({"model": "nobody"}, "unknown_model"),
        ({"num_inference_steps": 51}, "parameter_invalid"),
        ({"prompt": " "}, "prompt_invalid"),
    ):
        answer = served.client.edit(colours(64, 64), **{"prompt": PROMPT, **changed})
        assert (answer.status, answer.body["error"]["code"]) == (422, code)


@served_each
def test_other_samplers_equal_diffusers(served: Served, tmp_path: Path) -> None:
    for sampler, extra in served.kit.SAMPLERS.items():
        changed, copy = tmp_path / sampler / "checkpoint", tmp_path / sampler / "repository"
        shutil.copytree(served.checkpoint, changed)
        shutil.copytree(served.repository, copy, symlinks=True)
        index = changed / "model_index.json"
        index.write_text(json.dumps(json.loads(index.read_text()) | {"scheduler": ["diffusers", sampler]}))
        small.scheduler(sampler, **extra).save_pretrained(changed / "scheduler")
        export(served.name, changed, copy)
        with serve(copy, port=0) as running:
            for guidance in served.kit.GUIDANCE.values():
                picture = ours(replace(served, client=Client(running)), (96, 160), guidance)
                assert psnr(picture, theirs(served, (96, 160), guidance, changed)) >= LEAST_DB, (sampler, guidance)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_component_compiles_for_gpus(family: str, tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx")
    """For one kind; for several at once an engine of `tests/export/test_tensorrt.py` is."""
    flags = (f"--precision={tiny.module(family).GPU_PRECISION}", f"--compute-capability={TARGETS[-1]}")
    # Random adapters, strong enough to be seen of a tiny network, are noisier in narrow types than a trained one is.
    export(family, tiny.checkpoint(family), tmp_path, *RTX, *flags, strength=0.1)
    for record in (json.loads(file.read_text()) for file in tmp_path.glob("*/component.json")):
        assert record["versions"]["compute_capability"].split() == TARGETS[-1:]
        assert record["error"] <= record["tolerance"]


def given(**more: Any) -> Tensors:
    """A request's tensors, its picture too."""
    values: dict[str, Any] = {"image": [png(colours(64, 64))], "prompt": [PROMPT.encode()], **more}
    return {name: np.array(value, np.object_) for name, value in values.items()} | {"seed": np.array([7], np.uint64)}
