"""The shipped adapters: small, read by diffusers, and they do what they are for."""

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionInstructPix2PixPipeline
from PIL import Image
from safetensors.torch import load_file

from demo.adapters import ADAPTERS, FOLDER, Adapter, thermal, two_inks
from demo.autoencoder import basis_of
from demo.checkpoint_writer import CHECKPOINT
from demo.data import as_tensor
from demo.editors import PipelineEditor, Request, as_picture
from demo.edits import Kind, Picture, luma, true_edit
from demo.measures import psnr
from demo.train_adapter import adapted, write_adapter
from demo.wordings import WORDINGS, plain_sentence

SAMPLE = Path(__file__).parents[2] / "demo" / "samples" / "cat.jpg"
GAIN_DB = 4.0


@pytest.fixture(scope="module")
def picture() -> Picture:
    return as_picture(Image.open(SAMPLE).resize((128, 128)))


@pytest.mark.parametrize("edit", [two_inks, thermal])
def test_edit_depends_on_brightness_alone(edit: object, picture: Picture) -> None:
    assert callable(edit)
    edited = edit(picture)
    assert (edited.shape, edited.dtype) == (picture.shape, np.float32)
    assert 0 <= edited.min() < edited.max() <= 1
    np.testing.assert_allclose(edit(np.repeat(luma(picture), 3, axis=2)), edited, atol=1e-5)


def test_no_wording_means_two_things() -> None:
    known = {text for texts in WORDINGS.values() for text in texts}
    for adapter in ADAPTERS.values():
        assert not known & {*adapter.wordings, *adapter.unseen}
        assert not set(adapter.wordings) & set(adapter.unseen)
        assert bool(adapter.wordings) == bool(adapter.instruction)


@pytest.mark.parametrize("name", ADAPTERS)
def test_file_is_small_and_of_its_rank(name: str) -> None:
    file = FOLDER / f"{name}.safetensors"
    assert file.stat().st_size <= 1_500_000
    tensors = load_file(file)
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float16}
    assert {min(tensor.shape) for tensor in tensors.values()} == {ADAPTERS[name].rank}
    adapts_text = any(key.startswith("text_encoder.") for key in tensors)
    assert adapts_text == bool(ADAPTERS[name].instruction)


@pytest.mark.slow
@pytest.mark.parametrize("name", ADAPTERS)
def test_adapter_does_what_it_is_for(name: str, picture: Picture) -> None:
    adapter = ADAPTERS[name]
    if adapter.instruction:
        request, wanted = Request(picture, adapter.wordings[0]), adapter.instruction(picture)
    else:
        kind = Kind("vignette")
        request, wanted = Request(picture, plain_sentence(kind)), adapter.styled(true_edit(kind, picture))
    base = PipelineEditor(CHECKPOINT, steps=4).edit(request)
    ours = PipelineEditor(CHECKPOINT, steps=4, adapter=FOLDER / f"{name}.safetensors").edit(request)
    assert psnr(ours, wanted) > max(psnr(base, wanted), psnr(picture, wanted)) + GAIN_DB


@pytest.mark.slow
def test_a_new_instruction_leaves_the_others() -> None:
    picture = as_picture(Image.open(SAMPLE).resize((128, 128)))
    editor = PipelineEditor(CHECKPOINT, steps=4, adapter=FOLDER / "thermal.safetensors")
    kind = Kind("border", "green")
    edited, wanted = editor.edit(Request(picture, plain_sentence(kind))), true_edit(kind, picture)
    assert psnr(edited, wanted) > psnr(picture, wanted) + GAIN_DB


@pytest.mark.slow
@torch.no_grad()
def test_what_is_written_is_what_was_trained(tmp_path: Path) -> None:
    pipeline = StableDiffusionInstructPix2PixPipeline.from_pretrained(CHECKPOINT, dtype=torch.float32)
    module = adapted(pipeline, Adapter(rank=4, layers=("to_k", "ff.net.2", "proj_out"), instruction=thermal))
    generator = torch.Generator().manual_seed(0)
    for parameter in module.parameters():
        if parameter.requires_grad:
            parameter.copy_(0.05 * torch.randn(parameter.shape, generator=generator))
    write_adapter(module, tmp_path / "some.safetensors")
    reader = StableDiffusionInstructPix2PixPipeline.from_pretrained(CHECKPOINT, dtype=torch.float32)
    tokens = torch.randint(0, 300, (1, 77), generator=generator)
    latents = torch.randn(1, 64, 16, 16, generator=generator)
    plain = reader.unet(latents, 500, reader.text_encoder(tokens)[0]).sample
    reader.load_lora_weights(tmp_path, weight_name="some.safetensors")
    read = reader.unet(latents, 500, reader.text_encoder(tokens)[0]).sample
    trained = module(latents, torch.tensor([500]), tokens)
    assert (plain - trained).abs().mean() > 0.05
    torch.testing.assert_close(read, trained, atol=0.02, rtol=0.02)


@torch.no_grad()
def test_basis_is_read_back_from_the_encoder(picture: Picture) -> None:
    autoencoder = PipelineEditor(CHECKPOINT, steps=1).pipeline.vae
    pixels = as_tensor([picture])
    expected = autoencoder.encode(pixels).latent_dist.mode()
    torch.testing.assert_close(basis_of(autoencoder).latents(pixels), expected, atol=1e-2, rtol=1e-2)
