# ruff: noqa: T201  a command-line entry point
"""Edit a photo by one sentence without a mask and with one, and write the sheet of docs/api.md.

`python -m demo.mask_sheet --repository DIR --sheet docs/mask.png`

Serves the repository and asks Triton's `edit` itself, whose input `mask` is a PNG with alpha, 0 where to edit.
"""

import argparse
import io
import sys
from pathlib import Path

import numpy as np
import tritonclient.grpc as triton_grpc
from PIL import Image, ImageDraw

from demo.edit_sheet import side_by_side
from embedded.errors import EmbeddedError
from embedded.server import serve

HERE = Path(__file__).resolve().parent
SENTENCE = "make it a pencil sketch"
TYPES = {"image": "BYTES", "prompt": "BYTES", "seed": "UINT64", "mask": "BYTES", "guidance_scale": "FP32"}
HOLE = (0.28, 0.1, 0.78, 0.98)
"""Of the ellipse that may change, in shares of width and height: left, top, right, bottom."""


def main() -> int:
    """Returns 0 when the sheet is written; otherwise says why in one line, and returns what `embedded` would."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repository", type=Path, help="model repository (default: the checkout's)")
    parser.add_argument("--image", type=Path, default=HERE / "samples" / "cat.jpg")
    parser.add_argument("--sheet", type=Path, default=HERE.parent / "docs" / "mask.png", help="PNG to write")
    parser.add_argument("--sentence", default=SENTENCE)
    options = parser.parse_args()
    photo = Image.open(options.image).convert("RGB")
    mask = oval(photo.size)
    try:
        with serve(options.repository, port=0) as running:
            plain, masked = (edit(running.triton_grpc, photo, options.sentence, given) for given in (b"", png(mask)))
    except EmbeddedError as error:
        print(f"mask_sheet: {error}", file=sys.stderr)
        return error.exit_code
    shown = Image.composite(photo, Image.new("RGB", photo.size, "white"), mask.getchannel("A"))
    captions = ["photo", "mask: white is transparent", f"{options.sentence}, without", "the same, with the mask"]
    side_by_side([photo, shown, plain, masked], captions).save(options.sheet, optimize=True)
    print(options.sheet)
    return 0


def oval(size: tuple[int, int]) -> Image.Image:
    """A mask of that (width, height), which lets an ellipse change."""
    width, height = size
    mask = Image.new("RGBA", size, (0, 0, 0, 255))
    left, top, right, bottom = HOLE
    ImageDraw.Draw(mask).ellipse((left * width, top * height, right * width, bottom * height), fill=(0, 0, 0, 0))
    return mask


def edit(address: str, photo: Image.Image, sentence: str, mask: bytes, seed: int = 1) -> Image.Image:
    """The picture that Triton at this address makes."""
    values = {
        "image": np.array([png(photo)], np.object_),
        "prompt": np.array([sentence.encode()], np.object_),
        "seed": np.array([seed], np.uint64),
        "mask": np.array([mask], np.object_),
        "guidance_scale": np.array([1.0], np.float32),  # off, as the demo's checkpoint was trained
    }
    inputs = []
    for name, array in values.items():
        tensor = triton_grpc.InferInput(name, list(array.shape), TYPES[name])
        tensor.set_data_from_numpy(array)
        inputs.append(tensor)
    with triton_grpc.InferenceServerClient(address) as triton:
        answer = triton.infer("edit", inputs).as_numpy("image")
    return Image.open(io.BytesIO(answer[0])).convert("RGB")


def png(picture: Image.Image) -> bytes:
    """The picture as a file."""
    out = io.BytesIO()
    picture.save(out, "PNG")
    return out.getvalue()


if __name__ == "__main__":
    sys.exit(main())
