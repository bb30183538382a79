"""Real photographs, as files: whole, large, turned by EXIF, in each format."""

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage
from PIL import Image, ImageCms, ImageOps

from families.sizes import WorkingSize, within
from tests.server.asking import Client, psnr
from tests.server.test_fidelity import LEAST_DB, PROMPT, SEED, STEPS, answered, reference

PHOTOS = Path(skimage.__file__).parent / "data"
RULE = WorkingSize(max_pixels=256 * 256, multiple=8, min_side=64, max_side=512)
ORIENTATION = 0x0112
QUARTER_TURN = 6


def file(picture: Image.Image, kind: str, **options: Any) -> bytes:
    out = io.BytesIO()
    picture.save(out, kind, **options)
    return out.getvalue()


def turned(name: str) -> bytes:
    """The photograph lying on its side, with the note that cameras leave."""
    exif = Image.Exif()
    exif[ORIENTATION] = QUARTER_TURN
    return file(Image.open(PHOTOS / name), "JPEG", quality=95, exif=exif)


def enlarged(name: str, factor: int) -> bytes:
    """The photograph at a camera's resolution."""
    picture = Image.open(PHOTOS / name)
    return file(picture.resize((picture.width * factor, picture.height * factor)), "JPEG", quality=90)


def seen(content: bytes) -> Image.Image:
    """The photograph as a viewer shows it: upright, its colours as its profile means them."""
    picture = ImageOps.exif_transpose(Image.open(io.BytesIO(content)))
    profile = picture.info.get("icc_profile")
    if profile:
        embedded, srgb = ImageCms.ImageCmsProfile(io.BytesIO(profile)), ImageCms.createProfile("sRGB")
        converted = ImageCms.profileToProfile(picture, embedded, srgb)
        assert converted is not None
        return converted
    return picture.convert("RGB")


FILES = {
    "astronaut.png as it is": (PHOTOS / "astronaut.png").read_bytes,
    "rocket.jpg in Adobe RGB": (PHOTOS / "rocket.jpg").read_bytes,
    "chelsea as WebP": lambda: file(Image.open(PHOTOS / "chelsea.png"), "WEBP", quality=90),
    "coffee at 24 megapixels": lambda: enlarged("coffee.png", 10),
    "coffee turned by EXIF": lambda: turned("coffee.png"),
    "camera in grey": (PHOTOS / "camera.png").read_bytes,
}


@pytest.mark.parametrize("name", FILES)
def test_a_photograph_is_edited_as_diffusers_edits_it(client: Client, checkpoint: Path, name: str) -> None:
    content = FILES[name]()
    image = {"image": base64.b64encode(content).decode()}
    picture = seen(content)
    options = {"num_inference_steps": STEPS, "seed": SEED, "guidance_scale": 7.5}
    answer = client.edit(picture, PROMPT, image=image, **options)
    size = within(picture.size, RULE.max_pixels)
    assert answer.pixels.shape == (size[1], size[0], 3)
    assert (picture.width > picture.height) == (size[0] > size[1]) or picture.width == picture.height
    scaled = picture.resize(RULE.of(*picture.size), Image.Resampling.LANCZOS)
    assert psnr(np.asarray(answer.pixels), answered(reference(checkpoint, scaled, 7.5, 1.5), size)) >= LEAST_DB
