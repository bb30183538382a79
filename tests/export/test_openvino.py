"""OpenVINO engines: what stops them is one line with OpenVINO's own reason."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from export.engines import Work
from export.engines.openvino import FILE, OpenVino
from export.errors import ExportError
from tests.export.simple import SIMPLE


def work(folder: Path) -> Work:
    """One matrix product, whose weights are more than any buffer holds."""
    weights = onnx.numpy_helper.from_array(np.ones((1000, 1000), np.float32), "w")
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 3, 1000]) for name in "xy"]
    product = helper.make_node("MatMul", ["x", "w"], ["y"])
    model = helper.make_model(helper.make_graph([product], "g", ports[:1], ports[1:], [weights]), ir_version=9)
    model.opset_import[0].version = 18
    onnx.save(model, folder / "m.onnx")
    return Work(folder / "m.onnx", SIMPLE, "fp32", folder, folder)


@pytest.mark.parametrize("file", ["model.xml", "model.bin"])
def test_a_full_disk_is_one_line(tmp_path: Path, file: str) -> None:
    (tmp_path / file).symlink_to("/dev/full")
    with pytest.raises(
        ExportError, match=r"model.xml cannot be written \(is the disk full\?\); OpenVINO says: "
    ) as error:
        OpenVino().compile(work(tmp_path))
    assert "\n" not in str(error.value)


def test_an_engine_that_cannot_be_compiled_is_one_line(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text("<net/>")
    with pytest.raises(ExportError, match=r"double cannot be compiled; OpenVINO says: .*model") as error:
        OpenVino().open(work(tmp_path))
    assert "\n" not in str(error.value)
