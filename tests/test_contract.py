"""One table of tensors for everyone: the gateway's request, every config.pbtxt, the ensembles' wiring, the engines."""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from google.protobuf import text_format
from pydantic import ValidationError
from tritonclient.grpc import model_config_pb2

import families.edit
from export import adapters
from export import configs as written
from export.component import bank
from export.component import config as engine_config
from export.engines import load as load_engine
from families import PIPELINES
from families import load as load_family
from families.errors import CODES, GENERATIONS_UNAVAILABLE, MASK_INVALID, NEGATIVE_PROMPT_UNAVAILABLE, InvalidEditError
from families.interface import MOST_ADAPTERS, PREDICTION, Limits
from families.picture import RESPONSE_FORMATS, DecodingLimits
from families.safety_checker import table as safety_table
from families.sizes import require_within
from gateway import adapters as gateway_adapters
from gateway import schemas, targets
from gateway.errors import KINDS
from gateway.failures import problem_of
from gateway.offer import offer_of
from gateway.settings import Settings
from gateway.tensors import Edit, Watch, inputs
from tests import safety
from tests.conftest import ROOT
from tests.families import tiny
from tests.families.test_edit import SETTINGS

EDIT_INPUTS = {
    "image": ("BYTES", (-1,)),
    "prompt": ("BYTES", (1,)),
    "num_inference_steps": ("INT32", (1,)),
    "guidance_scale": ("FP32", (1,)),
    "image_guidance_scale": ("FP32", (1,)),
    "seed": ("UINT64", (1,)),
    "model": ("BYTES", (1,)),
    "response_format": ("BYTES", (1,)),
    "size": ("INT32", (2,)),
    "mask": ("BYTES", (1,)),
    "negative_prompt": ("BYTES", (1,)),
    "n": ("INT32", (1,)),
    "low_priority": ("BOOL", (1,)),
    "cache": ("BYTES", (1,)),
}
STREAM_INPUTS = {"progress": ("BOOL", (1,)), "partial_images": ("INT32", (1,))}
REQUIRED = {"image", "prompt", "seed"}
RENDERED = {"image": ("BYTES", (1,)), "size": ("INT32", (2,))}
NUMBERS = {
    "num_inference_steps": ("INT32", (1,)),
    "guidance_scale": ("FP32", (1,)),
    "image_guidance_scale": ("FP32", (1,)),
    "cache": ("BYTES", (1,)),
    "tokens": ("INT32", (3,)),
}
STATUSES = {GENERATIONS_UNAVAILABLE: 404, MASK_INVALID: 400, NEGATIVE_PROMPT_UNAVAILABLE: 400}
STREAM_OUTPUTS = {
    "step": ("INT32", (2,)),
    "index": ("INT32", (1,)),
    "partial_index": ("INT32", (1,)),
    "foretold": ("INT32", (1,)),
}
ENSEMBLES = ("reference", "render", "view")
FAMILIES = sorted(set(PIPELINES.values()))
OWN = {"ink": {"num_inference_steps": 4.0, "guidance_scale": 1.5, "shift": 3.0}}

Tensors = Mapping[str, tuple[str, tuple[int, ...]]]


def parse(text: str) -> Any:
    return text_format.Parse(text, model_config_pb2.ModelConfig())


@pytest.fixture(scope="module", params=[(family, bank) for family in FAMILIES for bank in (False, True)], ids=str)
def configs(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Every model's config by name: the hand-written ones, and those that export writes from a family's table.

    With a bank of adapters in all of the components that may have one and a safety checker, and with neither.
    """
    family, banked = request.param
    files = sorted((ROOT / "model_repository").glob("*/config.pbtxt"))
    found = {file.parent.name: parse(file.read_text()) for file in files if not file.is_symlink()}
    engine = load_engine("openvino")
    table = [
        bank.extend(component) if banked and component.adapts else component
        for component in load_family(family, "table").components(tiny.checkpoint(family), Limits(512 * 512, 12))
    ]
    if bank:
        table.append(safety_table.component(safety.build(tmp_path_factory.mktemp("safety"))))
    for component in table:
        found[component.name] = parse(engine_config.write(component, engine.serving(component, "fp32")))
    for ensemble in written.ensembles(table):
        found[ensemble.name] = parse(ensemble.config())
    contract = (ROOT / "model_repository" / "edit" / "contract.pbtxt").read_text()
    found["edit"] = parse(written.edit(contract, replace(SETTINGS, adapters=("oil", "ink"), adapter_defaults=OWN)))
    return found


def tensors(ports: Any, batched: bool = False) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Name -> Triton's datatype and whole shape, rows first where Triton batches."""
    kinds = model_config_pb2.DataType
    names = {port.name: kinds.Name(port.data_type).removeprefix("TYPE_") for port in ports}
    rows = (-1,) if batched else ()
    return {p.name: (names[p.name].replace("STRING", "BYTES"), (*rows, *p.dims)) for p in ports}


def agree(one: tuple[str, tuple[int, ...]], other: tuple[str, tuple[int, ...]]) -> bool:
    """Whether a tensor of the first kind can be one of the second."""
    (kind, shape), (other_kind, other_shape) = one, other
    same = all(-1 in (a, b) or a == b for a, b in zip(shape, other_shape, strict=False))
    return kind == other_kind and len(shape) == len(other_shape) and same


def test_edit_and_edit_stream_are_the_contract(configs: dict[str, Any]) -> None:
    edit, stream = configs["edit"], configs["edit_stream"]
    assert edit.max_batch_size == stream.max_batch_size == 0
    assert (edit.model_transaction_policy.decoupled, stream.model_transaction_policy.decoupled) == (False, True)
    assert tensors(edit.input) == EDIT_INPUTS
    assert tensors(stream.input) == tensors(edit.input) | STREAM_INPUTS
    each = {"image": ("BYTES", (-1,)), "foretold": ("INT32", (-1,))}
    assert tensors(edit.output) == {"size": RENDERED["size"], **each, **NUMBERS}
    assert tensors(stream.output) == RENDERED | NUMBERS | STREAM_OUTPUTS
    for config in (edit, stream):
        assert {port.name for port in config.input if not port.optional} == REQUIRED


def test_the_gateways_requests_are_the_contract() -> None:
    several = Edit([b"a", b"b"], "p", 20, 0.0, 1.5, 2**64 - 1, "", "jpeg", (8, 8), b"c", "not p", 2)
    edit = replace(several, low_priority=True, cache="balanced")
    for asked, taken in ((inputs(edit), EDIT_INPUTS), (inputs(edit, Watch(True, 3)), EDIT_INPUTS | STREAM_INPUTS)):
        sent = {tensor.name: (tensor.datatype, tensor.shape) for tensor in asked}
        assert list(sent) == list(taken)
        assert all(agree(sent[name], taken[name]) for name in sent)
        assert all(len(tensor.values) == math.prod(tensor.shape) for tensor in asked)


def test_every_config_names_its_folder_and_where_it_runs(configs: dict[str, Any]) -> None:
    assert {name: config.name for name, config in configs.items()} == {name: name for name in configs}
    for name, config in configs.items():
        assert (config.platform == "ensemble") == (name in ENSEMBLES)
        if name == "preprocess":
            assert config.instance_group[0].count > 2, "one is free while two decode large pictures"
        else:
            assert name in ENSEMBLES or config.instance_group[0].count == 1, "one instance: the batcher is one"


@pytest.mark.parametrize("ensemble", ENSEMBLES)
def test_ensembles_are_wired_to_what_their_models_take_and_give(configs: dict[str, Any], ensemble: str) -> None:
    if ensemble == "view":  # of those whose text encoder looks at pictures alone
        assert (ensemble in configs) == ("vision_encoder" in configs)
        if ensemble not in configs:
            return
    config = configs[ensemble]
    known = tensors(config.input)
    for step in config.ensemble_scheduling.step:
        model = configs[step.model_name]
        takes, gives = tensors(model.input, model.max_batch_size > 0), tensors(model.output, model.max_batch_size > 0)
        wanted = {port.name for port in model.input if not port.optional}
        assert wanted <= set(step.input_map) <= set(takes), "every input is wired"
        for name, source in step.input_map.items():
            assert agree(known[source], takes[name]), (step.model_name, name)
        for name, target in step.output_map.items():
            assert target not in known, "an ensemble's tensors share one namespace"
            known[target] = gives[name]
    for name, tensor in tensors(config.output).items():
        assert agree(known[name], tensor)
        assert name not in tensors(config.input)


def test_the_gateway_reads_what_the_export_says(configs: dict[str, Any]) -> None:
    offer = offer_of(configs["edit"])
    assert list(offer.adapters) == ["oil", "ink"]
    assert list(offer.steps) == list(SETTINGS.steps)
    for name in ("num_inference_steps", "guidance_scale", "image_guidance_scale", "max_images"):
        assert getattr(offer, name) == getattr(SETTINGS, name)
    assert offer.generation_size == "512x512"
    assert offer.adapter_defaults == {"ink": {"num_inference_steps": 4, "guidance_scale": 1.5}}


def test_edit_stream_calls_its_models_with_what_they_take(configs: dict[str, Any]) -> None:
    denoiser, render = configs["denoiser"], configs["render"]
    checked = "safety_checker" in configs
    seen = tensors(configs["safety_checker"].output) if checked else {}
    assert tensors(render.output) == RENDERED | seen
    beside = {"response_format", "answer_size", "original", "mask"} | ({"safety_rule"} if checked else set())
    assert set(tensors(render.input)) == set(tensors(configs["vae_decoder"].input)) | beside
    for name in {"reference", "view"} & configs.keys():
        assert set(tensors(configs[name].input)) == {"image", "size_rule"}
    assert set(tensors(denoiser.output)) == {PREDICTION}
    assert not denoiser.HasField("dynamic_batching"), "the batcher hands it whole batches"


def test_both_sides_of_triton_have_the_same_bounds() -> None:
    assert Settings().max_image_bytes == DecodingLimits().max_bytes
    assert schemas.MAX_PROMPT_CHARS == families.edit.MAX_PROMPT_CHARS
    assert schemas.MAX_GUIDANCE == families.edit.MAX_GUIDANCE
    assert gateway_adapters.MOST == MOST_ADAPTERS
    assert gateway_adapters.MAX_SCALE == families.edit.MAX_ADAPTER_SCALE
    assert gateway_adapters.SCALE == families.edit.ADAPTER_SCALE
    body = {"image": {"image": "x"}, "prompt": "p"}
    for steps in (1, families.edit.MAX_STEPS):
        schemas.ContainerImageEditBody.model_validate({**body, "num_inference_steps": steps})
    with pytest.raises(ValidationError):
        schemas.ContainerImageEditBody.model_validate({**body, "num_inference_steps": families.edit.MAX_STEPS + 1})
    for response_format in RESPONSE_FORMATS:
        schemas.ContainerImageEditBody.model_validate({**body, "response_format": response_format})


def test_the_gateway_knows_every_fault_of_a_caller() -> None:
    import grpc

    for code in CODES:
        problem = problem_of(grpc.StatusCode.INVALID_ARGUMENT, f"tritouch:{code} words of the model")
        status = STATUSES.get(code, 422)
        assert (KINDS[problem.code].status, problem.code) == (status, code)


def test_the_gateway_hands_on_which_sizes_are_served() -> None:
    import grpc

    for asked in ((1024, 1024), (2048, 64), (0, 64)):
        with pytest.raises(InvalidEditError) as refused:
            require_within(asked, 512 * 512, 16.5)
        words = str(refused.value)
        problem = problem_of(grpc.StatusCode.INVALID_ARGUMENT, f"tritouch:size_unavailable {words}")
        assert problem.message.endswith(f" {words[0].upper()}{words[1:]}.")


def test_a_route_of_the_export_is_a_name_to_the_gateway() -> None:
    assert adapters.BASE_MODEL == targets.BASE_MODEL
    for route in ("a", "0", "Oil_painting-2.1", "x" * 64):
        assert adapters.ROUTE.fullmatch(route)
        assert targets.NAME.fullmatch(route)
