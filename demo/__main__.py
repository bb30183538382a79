"""`python -m demo`: serve a repository, edit one picture by a few instructions, write one before/after sheet, stop.

Everything is real: Triton, the gateway, the engines in the repository, and Friendli's own client.
"""

import argparse
import sys
import time
from pathlib import Path

from PIL import Image

from demo.edit_sheet import Instruction, served_models, write_edit_sheet
from embedded.errors import EmbeddedError
from embedded.server import serve

HERE = Path(__file__).resolve().parent
EDITS: tuple[Instruction, ...] = (
    ("make it a pencil sketch", None),
    ("make it night", None),
    ("add a blue border", None),
    ("add a vignette", "riso"),
    ("as a thermal camera sees it", "thermal"),
)


def main() -> int:
    """Returns 0 when the sheet is written; otherwise says why in one line, and returns what `embedded` would."""
    parser = argparse.ArgumentParser("python -m demo", description="Edit a picture, and write one before/after sheet.")
    parser.add_argument("--repository", type=Path, metavar="DIR", help="model repository (default: the checkout's)")
    parser.add_argument(
        "--image",
        type=Path,
        default=HERE / "samples" / "cat.jpg",
        metavar="FILE",
        help="picture to edit (default: a cat)",
    )
    parser.add_argument(
        "--sheet",
        type=Path,
        default=HERE.parent / "out" / "demo.png",
        metavar="PNG",
        help="file to write (default: out/demo.png)",
    )
    parser.add_argument("instructions", nargs="*", metavar="SENTENCE", help="what to do (default: five of its own)")
    options = parser.parse_args()
    try:
        # Before a minute is spent on starting what could not be shown.
        Image.open(options.image).close()
        options.sheet.parent.mkdir(parents=True, exist_ok=True)
        print("starting Triton and the gateway ...", flush=True)
        with serve(options.repository, port=0) as running:
            edits = edits_to_make(options.instructions, running.http_url)
            began = time.monotonic()
            write_edit_sheet(running.http_url, options.image, edits, options.sheet)
            seconds = time.monotonic() - began
    except EmbeddedError as error:
        print(f"demo: {error}", file=sys.stderr)
        return error.exit_code
    except OSError as error:
        print(f"demo: {error}", file=sys.stderr)
        return EmbeddedError.exit_code
    print(f"{len(edits)} edits of {options.image.name} in {seconds:.1f} s: {options.sheet}")
    print("to edit pictures of your own in a browser: `make up`, then open http://localhost:8000")
    return 0


def edits_to_make(instructions: list[str], url: str) -> list[Instruction]:
    """The instructions given, for the base model; without any, those of EDITS whose model the server at `url` has."""
    if instructions:
        return [(instruction, None) for instruction in instructions]
    served = {None, *served_models(url)}
    return [(instruction, model) for instruction, model in EDITS if model in served]


if __name__ == "__main__":
    sys.exit(main())
