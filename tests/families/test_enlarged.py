"""What enlarges pictures, in every class of network that does, is convolved by quarters in OpenVINO's engine."""

from pathlib import Path
from typing import cast

import pytest
import torch

from backends.silent import openvino as ov
from export.component import graph
from export.engines import Work, load
from export.engines.openvino import FILE
from families import load as load_family
from families.interface import Limits, Modules, Table
from families.parts.pretrained import fill
from tests.families import tiny

pytestmark = pytest.mark.families
NETWORKS = [
    ("flux2_klein", "vae_decoder", 3),
    ("instruct_pix2pix", "denoiser", 2),
    ("instruct_pix2pix", "vae_decoder", 3),
    ("qwen_image_edit", "vae_decoder", 3),
]
"""One of each class of autoencoder and of UNet, and how often it doubles."""


@pytest.mark.parametrize(("family", "name", "times"), NETWORKS)
def test_it_is_convolved_by_quarters(family: str, name: str, times: int, tmp_path: Path) -> None:
    checkpoint = tiny.checkpoint(family)
    table, modules = cast("Table", load_family(family, "table")), cast("Modules", load_family(family, "modules"))
    component = next(one for one in table.components(checkpoint, Limits(256 * 256, 2)) if one.name == name)
    sizes, generator = component.shapes[1], torch.Generator().manual_seed(0)
    inputs = [modules.sample(tensor, tensor.shape(sizes), generator) for tensor in component.inputs]
    engine, work = load("openvino"), Work(tmp_path / "model.onnx", component, "fp32", tmp_path, tmp_path)
    graph.write(fill(modules.module(name, checkpoint), torch.float32), inputs, work, engine)
    engine.compile(work)
    model = ov.Core().read_model(tmp_path / FILE)
    kernels = [
        list(node.input_value(1).get_shape())[2:] for node in model.get_ops() if node.get_type_name() == "Convolution"
    ]
    assert kernels.count([2, 2]) == 4 * times
