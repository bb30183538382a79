"""Tiles of pictures that an engine does not hold: where they lie, what joins them, and that nothing is done twice."""

import importlib
import itertools
import json
from pathlib import Path

import numpy as np
import pytest

from backends.signature import TILES
from backends.silent import openvino as ov
from backends.tiles import Tiling, tiled

DECODING = Tiling(most=16 * 16, side=32, unit=1)
ENCODING = Tiling(most=128 * 128, side=256, unit=8)
PORTS = {"input": "x", "output": "y"}
SIZES = [(16, 17), (17, 17), (16, 40), (33, 20), (8, 64), (40, 40), (63, 50), (97, 8)]


class Decoder:
    """Eight places for each, the mean of what is within `reach`; without it, exact whatever it is cut into."""

    def __init__(self, reach: int = 0) -> None:
        self.reach, self.seen = reach, list[tuple[int, int]]()

    def __call__(self, inputs):
        latents = inputs["latents"]
        self.seen.append(latents.shape[2:])
        padded = np.pad(latents, [(0, 0), (0, 0), (self.reach,) * 2, (self.reach,) * 2], mode="edge")
        window = 2 * self.reach + 1
        views = np.lib.stride_tricks.sliding_window_view(padded, (window, window), axis=(2, 3))
        return {"pixels": views.mean((-1, -2)).repeat(8, 2).repeat(8, 3).astype(np.float32)}


def encode(inputs):
    pixels = inputs["pixels"]
    rows, channels, height, width = pixels.shape
    return {"latents": pixels.reshape(rows, channels, height // 8, 8, width // 8, 8).mean((3, 5))}


def picture(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height * width).normal(size=(1, 4, height, width)).astype(np.float32)


@pytest.mark.parametrize("size", SIZES)
def test_tiles_that_agree_give_what_the_whole_would(size):
    latents, decoder = picture(*size), Decoder()
    made = tiled(decoder, DECODING)({"latents": latents})["pixels"]
    np.testing.assert_allclose(made, Decoder()({"latents": latents})["pixels"], rtol=0, atol=1e-6)
    assert len(decoder.seen) > 1
    assert len(set(decoder.seen)) == 1
    height, width = decoder.seen[0]
    assert height * width <= DECODING.most
    assert max(height, width) <= DECODING.side


@pytest.mark.parametrize("size", SIZES)
def test_an_encoder_is_cut_at_whole_latents(size):
    pixels = picture(8 * size[0], 8 * size[1])
    made = tiled(encode, ENCODING)({"pixels": pixels})["latents"]
    np.testing.assert_allclose(made, encode({"pixels": pixels})["latents"], rtol=0, atol=1e-6)


@pytest.mark.parametrize("size", [(16, 16), (8, 32), (3, 5)])
def test_what_fits_is_computed_whole_at_once(size):
    latents, decoder = picture(*size), Decoder()
    assert tiled(decoder, DECODING)({"latents": latents}).keys() == {"pixels"}
    assert decoder.seen == [size]
    assert tiled(decoder, None) is decoder


def test_a_tiles_edge_is_nowhere_seen():
    """Where a place sees its surroundings, a tile is wrong at its edge, and its share is least there."""
    latents, decoder = picture(48, 48), Decoder(reach=2)
    whole = Decoder(reach=2)({"latents": latents})["pixels"]
    error = np.abs(tiled(decoder, DECODING)({"latents": latents})["pixels"] - whole).max((0, 1))
    size = decoder.seen[0][0]
    alone = np.abs(decoder({"latents": latents[:, :, :size, :size]})["pixels"] - whole[:, :, : 8 * size, : 8 * size])
    assert error.max() < 0.6 * alone.max()


@pytest.mark.parametrize(("most", "unit"), [(16, 1), (17, 1), (32, 1), (16, 2), (17, 2), (32, 2)])
def test_a_sides_tiles_cover_it_and_share_a_quarter(most, unit):
    tiling = Tiling(most**2, 2 * most, unit)
    for length in range((most // unit + 1) * unit, 12 * most, unit):
        size, starts = tiling.spans(length, most // unit * unit)
        assert starts[0] == 0
        assert starts[-1] + size == length
        assert size <= most
        assert all(start % unit == 0 for start in starts)
        shared = [start + size - after for start, after in itertools.pairwise(starts)]
        assert min(shared) >= most // unit * unit // 4 - 2 * unit


def test_a_side_that_is_no_multiple_is_refused():
    with pytest.raises(ValueError, match=r"^input pixels is 132 x 128, and sides must be multiples of 8$"):
        tiled(encode, ENCODING)({"pixels": picture(132, 128)})


def config(said: str | None, inputs: int = 1):
    ports = {"input": [{"name": "x"}] * inputs, "output": [{"name": "y"}]}
    return ports | ({} if said is None else {"parameters": {TILES: {"string_value": said}}})


def test_the_parameter_is_read():
    assert Tiling.read(config("256,32,1")) == DECODING
    assert Tiling.read(config(None)) is None


@pytest.mark.parametrize("said", ["", "256", "256,32", "256,32,0", "256,32,one", "256,32,1,", "-256,32,1"])
def test_another_parameter_is_refused(said):
    with pytest.raises(
        ValueError, match=f"^the parameter {TILES} is '{said}', and must be pixels, longest side and unit"
    ):
        Tiling.read(config(said))


def test_a_model_of_several_inputs_has_no_tiles():
    with pytest.raises(ValueError, match=f"^the parameter {TILES} is for models of one input and one output$"):
        Tiling.read(config("256,32,1", inputs=2))


@pytest.fixture
def average(tmp_path: Path) -> Path:
    """A model's folder: x (1, 4, H, W) to the means of 8 x 8 places."""
    op = importlib.import_module("openvino.opset15")
    x = op.parameter([1, 4, -1, -1], np.float32, name="x")
    y = op.avg_pool(x, [8, 8], [0, 0], [0, 0], [8, 8], exclude_pad=False)
    model = ov.Model([y], [x], "average")
    model.inputs[0].tensor.set_names({"x"})
    model.outputs[0].tensor.set_names({"y"})
    (tmp_path / "1").mkdir()
    ov.save_model(model, tmp_path / "1" / "model.xml", compress_to_fp16=False)
    return tmp_path


def test_the_backend_serves_in_tiles_and_bounds_the_whole(backend, average, monkeypatch):
    said = {"TILES": "16384,256,8", "MAX_DIMS": "x:1,4,512,512", "WARM_UP": "x:1,4,64,64"}
    ports = {name: [{"name": key, "data_type": "TYPE_FP32", "dims": [1, 4, -1, -1]}] for name, key in PORTS.items()}
    served = {"max_batch_size": 0, "default_model_filename": "", **ports}
    served["parameters"] = {name: {"string_value": text} for name, text in said.items()}
    shapes: list[tuple[int, ...]] = []
    plain = backend.openvino.Engine.infer
    monkeypatch.setattr(
        backend.openvino.Engine, "infer", lambda own, given: shapes.append(given["x"].shape) or plain(own, given)
    )
    model = backend.openvino.TritonPythonModel()
    arguments = {"model_repository": str(average), "model_version": "1", "model_name": "average"}
    model.initialize({**arguments, "model_config": json.dumps(served)})
    assert shapes == [(1, 4, 64, 64)] * 2
    x = picture(136, 512)
    given = (x, x[..., :64], picture(8, 520))
    good, small, wide = model.execute([backend.request({"x": one}) for one in given])
    means = encode({"pixels": x})["latents"]
    np.testing.assert_allclose(good.tensors[0].array, means, rtol=0, atol=1e-6)
    np.testing.assert_allclose(small.tensors[0].array, means[..., :8], rtol=0, atol=1e-6)
    assert wide.error.text == "input x is [1, 4, 8, 520], and may be at most [1, 4, 512, 512]"
    assert len(shapes) > 4
