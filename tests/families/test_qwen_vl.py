"""Qwen2.5-VL's parts beside transformers' own classes: sizes, pixels, places, and what its two components give."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.pipelines.qwenimage.pipeline_qwenimage_edit_plus import calculate_dimensions
from PIL import Image
from transformers import Qwen2_5_VLForConditionalGeneration
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil, smart_resize

from families.errors import BadCheckpointError
from families.parts.pretrained import fill
from families.parts.qwen_vl import NO_PLACE, Sight, lay_out
from families.parts.qwen_vl_modules import TextEncoder, VisionEncoder
from families.picture import DecodingLimits, decode, scaled, to_tensor
from families.sizes import AreaSize, Seen, own_rule, size_rule
from tests.families import small

PAD = 250
SIZES = [(384, 384), (480, 320), (320, 480), (640, 224), (33, 61)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model of the real classes, and its processor."""
    made = tmp_path_factory.mktemp("qwen-vl")
    small.seeded()
    with torch.no_grad():
        model = small.qwen_vl(vocabulary=300, image_pad=PAD)
        for name, weight in model.named_parameters():
            if weight.ndim == 1:  # those that begin as ones and zeros, and would hide a mistake
                weight.add_(0.3 * torch.randn_like(weight))
            assert weight.isfinite().all(), name
    model.save_pretrained(made / "text_encoder")
    Qwen2VLImageProcessorPil().save_pretrained(made / "processor")
    return made


def picture(size: tuple[int, int], seed: int = 0) -> Image.Image:
    coarse = np.random.default_rng(seed).integers(0, 256, (9, 7, 3), np.uint8)
    return Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)


def test_a_picture_is_seen_at_the_size_that_transformers_gives_it(folder: Path) -> None:
    sight = Sight.read(folder / "processor")
    for width in (1, 5, 28, 41, 42, 43, 63, 100, 1000, 3999):
        for height in (3, 14, 42, 70, 98, 126, 700, 5000):
            if max(width, height) > 200 * min(width, height):
                with pytest.raises(ValueError, match="200"):
                    sight.of(width, height)
            else:
                expected = smart_resize(height, width, sight.unit, sight.least, sight.most)
                assert sight.of(width, height) == expected[::-1]


def test_pictures_are_enlarged_to_the_area_as_diffusers_does_it() -> None:
    rule = AreaSize.up_to(1024 * 1024, 32, 64, 4)
    for width in (1, 3, 77, 640, 1000, 4000):
        for height in (2, 9, 100, 640, 1001, 3000):
            ours = rule.of(width, height)
            if max(width, height) <= 4 * min(width, height):
                assert ours == calculate_dimensions(1024 * 1024, width / height)
            assert ours[0] * ours[1] <= rule.largest
            assert all(side % 32 == 0 and 64 <= side <= 2048 for side in ours)
    assert (rule.of(4000, 1000), rule.of(1000, 10), rule.square) == ((2048, 512), (2048, 64), (1024, 1024))
    assert own_rule(rule.to_json()) == rule


@pytest.mark.parametrize("size", SIZES)
def test_a_picture_is_seen_to_the_pixel_as_transformers_sees_it(folder: Path, size: tuple[int, int]) -> None:
    """Of a PNG, scaled by Lanczos first; then by the processor."""
    sight, area = Sight.read(folder / "processor"), AreaSize.up_to(128 * 128, 32, 64, 4)
    first = area.of(*size)
    file = io.BytesIO()
    picture(size).save(file, "PNG")
    rule = size_rule(Seen((first,), sight.of(*first)).to_json())
    ours = decode(file.getvalue(), DecodingLimits(), rule)
    theirs = Qwen2VLImageProcessorPil()(
        images=scaled(picture(size), first), do_normalize=False, do_rescale=False, return_tensors="np"
    )
    rows, columns = theirs["image_grid_thw"][0][1:] * 14
    assert ours.size == (columns, rows)
    ordered = _patches(ours)
    np.testing.assert_array_equal(ordered, theirs["pixel_values"].reshape(len(ordered), 3, 2, 14, 14)[:, :, 0])


def _patches(rgb: Image.Image) -> Any:
    width, height = rgb.size
    parts = np.asarray(rgb).reshape(height // 28, 2, 14, width // 28, 2, 14, 3)
    return parts.transpose(0, 3, 1, 4, 6, 2, 5).reshape(-1, 3, 14, 14)


def test_tokens_stand_where_transformers_puts_them(folder: Path) -> None:
    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(folder / "text_encoder").model
    grids = [(3, 5), (4, 2), (1, 1)]
    laid = lay_out([7, PAD, 8, 9, PAD, 4, PAD, 3], PAD, grids)
    ids = torch.from_numpy(laid["input_ids"])
    expected, _ = model.get_rope_index(
        ids,
        mm_token_type_ids=(ids == PAD).int(),
        image_grid_thw=torch.tensor([[1, 2 * rows, 2 * columns] for rows, columns in grids]),
    )
    np.testing.assert_array_equal(laid["position_ids"], expected[:, 0].numpy())
    places = laid["vision_places"][0]
    assert places[places != NO_PLACE].tolist() == list(range(15 + 8 + 1))
    np.testing.assert_array_equal(places != NO_PLACE, laid["input_ids"][0] == PAD)


def test_a_text_must_name_as_many_pictures_as_there_are() -> None:
    with pytest.raises(ValueError, match="names 1 pictures, and there are 2"):
        lay_out([1, PAD], PAD, [(1, 1), (1, 1)])


def test_both_components_equal_transformers(folder: Path) -> None:
    """Three pictures of different sizes, windows cut off at their edges, in one text."""
    whole = Qwen2_5_VLForConditionalGeneration.from_pretrained(folder / "text_encoder").eval()
    sight = Sight.read(folder / "processor")
    seen = [picture(sight.of(*size), seed) for seed, size in enumerate([(168, 280), (84, 84), (252, 140)])]
    given = Qwen2VLImageProcessorPil()(images=seen, return_tensors="pt")
    laid = lay_out([7, PAD, 8, 9, PAD, 3, PAD, 5, 6], PAD, [sight.grid(one.size) for one in seen])
    tensors = {name: torch.from_numpy(array) for name, array in laid.items()}
    with torch.inference_mode():
        expected = whole(
            input_ids=tensors["input_ids"],
            pixel_values=given["pixel_values"],
            image_grid_thw=given["image_grid_thw"],
            mm_token_type_ids=(tensors["input_ids"] == PAD).int(),
            output_hidden_states=True,
        ).hidden_states[-1]
        vision = fill(VisionEncoder(folder / "text_encoder", folder / "processor").eval(), torch.float32)
        states = torch.cat([vision(torch.from_numpy(to_tensor(one))) for one in seen], dim=1)
        text = fill(TextEncoder(folder / "text_encoder").eval(), torch.float32)
        found = text(*tensors.values(), states)
    assert states.shape[1] == 6 * 10 + 3 * 3 + 9 * 5
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-5)
    flat = text(*({**tensors, "position_ids": torch.arange(found.shape[1]).expand(3, -1)}).values(), states)
    assert (flat - expected).abs().max() > 1e-3, "the three axes of positions are seen"


def test_a_processor_that_says_nothing_of_pictures_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadCheckpointError, match=r"preprocessor_config\.json is missing"):
        Sight.read(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text('{"size": {"shortest_edge": 3136, "longest_edge": 9}}')
    with pytest.raises(BadCheckpointError, match="image_mean"):
        Sight.read(tmp_path)
