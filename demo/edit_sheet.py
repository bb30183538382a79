# ruff: noqa: T201  a command-line entry point
"""Edit one picture by several instructions through a running server and write one before/after sheet.

`python -m demo.edit_sheet --url http://localhost:8000 --image cat.jpg --sheet sheet.png "make it sepia" "add fog"`

Uses Friendli's own client, so it also shows how to point that at a server of one's own. Knows nothing of models.
"""

import argparse
import base64
import io
import json
import urllib.request
from collections.abc import Sequence
from pathlib import Path

from friendli import SyncFriendli
from PIL import Image, ImageDraw, ImageFont

GAP = 8
CAPTION = 24

Instruction = tuple[str, str | None]
"""A sentence, and the adapter that should follow it; None for the base model."""


def main() -> None:
    """Edit, and write the sheet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", default="http://localhost:8000", help="base URL of the server")
    parser.add_argument("--image", type=Path, required=True)
    parser.add_argument("--sheet", type=Path, required=True, help="PNG to write")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--model", help="adapter to use (default: the base model)")
    parser.add_argument("prompts", nargs="+", metavar="instruction")
    arguments = parser.parse_args()
    instructions = [(prompt, arguments.model) for prompt in arguments.prompts]
    write_edit_sheet(arguments.url, arguments.image, instructions, arguments.sheet, arguments.seed)
    print(arguments.sheet)


def write_edit_sheet(url: str, image: Path, instructions: Sequence[Instruction], sheet: Path, seed: int = 0) -> None:
    """Write the picture and its edits side by side, each above its instruction, to the PNG file `sheet`."""
    before = Image.open(image).convert("RGB")
    edited = edit_all(url, image.read_bytes(), instructions, seed)
    captions = [f"{model}: {prompt}" if model else prompt for prompt, model in instructions]
    side_by_side([before, *edited], ["before", *captions]).save(sheet)


def edit_all(url: str, image: bytes, instructions: Sequence[Instruction], seed: int) -> list[Image.Image]:
    """The edits of an encoded picture by the server at `url`."""
    encoded = base64.b64encode(image).decode()
    with SyncFriendli(token="none", x_friendli_team="none") as friendli:  # noqa: S106  no server of one's own asks
        answers = [
            friendli.container.image.edit(
                image={"image": encoded}, prompt=prompt, model=model, seed=seed, server_url=url, timeout_ms=600_000
            )
            for prompt, model in instructions
        ]
    return [Image.open(io.BytesIO(base64.b64decode(answer.image))).convert("RGB") for answer in answers]


def served_models(url: str) -> list[str]:
    """Names of the base model and of the adapters that the server at `url` has."""
    with urllib.request.urlopen(f"{url}/v1/models", timeout=60) as response:  # noqa: S310
        return [model["id"] for model in json.load(response)["data"]]


def side_by_side(pictures: Sequence[Image.Image], captions: Sequence[str]) -> Image.Image:
    """One row of pictures, each above its caption."""
    width = sum(picture.width + GAP for picture in pictures) + GAP
    height = max(picture.height for picture in pictures) + 2 * GAP + CAPTION
    sheet = Image.new("RGB", (width, height), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(15)
    left = GAP
    for picture, caption in zip(pictures, captions, strict=True):
        sheet.paste(picture, (left, GAP))
        draw.text((left, height - CAPTION), caption, "black", font)
        left += picture.width + GAP
    return sheet


if __name__ == "__main__":
    main()
