# ruff: noqa: T201  a command-line entry point
"""Measure the demo checkpoint on pictures that training never saw.

`python -m demo.evaluate --photos DIR/photos/held_out --url http://localhost:8000` edits through the served REST API;
`--pipeline` edits with diffusers in this process. Prints the tables of `demo/README.md` and writes a contact sheet.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from PIL import Image

from demo.checkpoint_writer import CHECKPOINT
from demo.data import as_pictures, as_tensor
from demo.editors import Editor, PipelineEditor, Request, ServedEditor, as_image, as_picture, seconds_per_edit
from demo.edits import COLOURS, FILTERS, KINDS, Kind, Picture, true_edit
from demo.measures import Outcome, confusion, measure, psnr, table
from demo.photos import load_photos
from demo.sheets import contact_sheet
from demo.wordings import plain_sentence, sentence, unknown_sentence, unseen_sentence

SIDE = 256
SHAPES = [kind for kind in KINDS if kind.name == "shape"]


def main() -> None:
    """Print all figures."""
    arguments = _arguments()
    photos = [square(photo) for photo in load_photos(arguments.photos).values()][: arguments.limit]
    pipeline = PipelineEditor(arguments.checkpoint, arguments.steps)
    editor: Editor = ServedEditor(arguments.url, arguments.steps) if arguments.url else pipeline
    way = f"through {arguments.url}" if arguments.url else "by the diffusers pipeline"
    print(f"{len(photos)} held-out photographs, {SIDE} x {SIDE}, {arguments.steps} steps, {way}\n")
    print(f"autoencoder alone: {autoencoder_psnr(arguments.checkpoint, photos):.1f} dB\n")
    asked = [[*(Kind(name) for name in FILTERS), *_variants(number, 2, 3)] for number in range(len(photos))]
    outcomes, edited = edit_and_measure(editor, photos, asked, sentence)
    print(table(outcomes), "\n", sep="")
    print(confusion(outcomes), "\n", sep="")
    if arguments.sheet:
        write_sheet(arguments.sheet, photos, edited)
    asked = [in_turn(number, arguments.unseen) for number in range(len(photos))]
    outcomes, _ = edit_and_measure(editor, photos, asked, unseen_sentence)
    print("wordings that training never saw\n\n", table(outcomes), "\n", sep="")
    print(f"unknown requests: {unknown_psnr(editor, photos):.1f} dB to the unedited picture\n")
    if arguments.url:
        request = Request(photos[0], plain_sentence(Kind("sepia")))
        served, diffusers = seconds_per_edit(editor, request), seconds_per_edit(pipeline, request)
        print(f"one edit alone: {served:.2f} s served, {diffusers:.2f} s by diffusers: ratio {served / diffusers:.2f}")


def edit_and_measure(
    editor: Editor, photos: list[Picture], asked: list[list[Kind]], words: Callable[[Kind, np.random.Generator], str]
) -> tuple[list[Outcome], list[list[Picture]]]:
    """Have each photo edited by each of its kinds, asked for in `words(kind, rng)`."""
    requests = [
        Request(photo, words(kind, np.random.default_rng([number, place])), seed=1000 * number + place)
        for number, (photo, kinds) in enumerate(zip(photos, asked, strict=True))
        for place, kind in enumerate(kinds)
    ]
    results = iter(editor.edit_all(requests))
    edited = [[next(results) for _ in kinds] for kinds in asked]
    measured = (measure(*each) for each in zip(photos, asked, edited, strict=True))
    return [outcome for outcomes in measured for outcome in outcomes], edited


def autoencoder_psnr(checkpoint: Path, photos: list[Picture]) -> float:
    """Mean PSNR in dB of photos encoded and decoded."""
    autoencoder = AutoencoderKL.from_pretrained(checkpoint / "vae", dtype=torch.float32)
    with torch.no_grad():
        latents = autoencoder.encode(as_tensor(photos)).latent_dist.mode()
        decoded = as_pictures(autoencoder.decode(latents).sample)
    return float(np.mean([psnr(ours, photo) for ours, photo in zip(decoded, photos, strict=True)]))


def unknown_psnr(editor: Editor, photos: list[Picture]) -> float:
    """Mean PSNR in dB of unknown requests' answers to the unedited photos."""
    requests = [
        Request(photo, unknown_sentence(np.random.default_rng([7, number])), number)
        for number, photo in enumerate(photos)
    ]
    answers = editor.edit_all(requests)
    return float(np.mean([psnr(answer, request.picture) for answer, request in zip(answers, requests, strict=True)]))


def square(photo: Picture) -> Picture:
    """The photo's middle square at SIDE x SIDE."""
    image = as_image(photo)
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    box = (left, top, left + side, top + side)
    return as_picture(image.resize((SIDE, SIDE), Image.Resampling.LANCZOS, box=box))


def write_sheet(file: Path, photos: list[Picture], edited: list[list[Picture]], columns: int = 2) -> None:
    """Before, ours and true edit for every instruction, on changing photos."""
    rows = []
    kinds = [[*(Kind(name) for name in FILTERS), *_variants(number, 2, 3)] for number in range(len(photos))]
    for row in range(len(kinds[0])):
        chosen = [(row + column * len(photos) // columns) % len(photos) for column in range(columns)]
        pictures = [
            picture
            for number in chosen
            for picture in (photos[number], edited[number][row], true_edit(kinds[number][row], photos[number]))
        ]
        name = kinds[0][row].name
        rows.append((f"{name} (any)" if name in ("border", "shape") else name, pictures))
    contact_sheet(rows, ["before", "ours", "true edit"] * columns).save(file)


def _variants(number: int, borders: int, shapes: int) -> list[Kind]:
    """Borders and shapes for photo `number`, others for each."""
    colours = list(COLOURS)
    chosen = [Kind("border", colours[(number * borders + i) % len(colours)]) for i in range(borders)]
    return chosen + [SHAPES[(number * shapes + i) * 37 % len(SHAPES)] for i in range(shapes)]


def in_turn(number: int, count: int) -> list[Kind]:
    """For photo `number`: every kind in turn, `count` of them."""
    cycle = [*(Kind(name) for name in FILTERS), *_variants(number, 1, 1)]
    return [cycle[(number * count + i) % len(cycle)] for i in range(count)]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    way = parser.add_mutually_exclusive_group(required=True)
    way.add_argument("--url", help="base URL of a server that serves the checkpoint")
    way.add_argument("--pipeline", action="store_true", help="edit with diffusers, in this process")
    parser.add_argument("--photos", type=Path, required=True, help="held-out photos, written by demo.photos")
    parser.add_argument("--checkpoint", type=Path, default=CHECKPOINT)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--limit", type=int, help="use the first so many photos only")
    parser.add_argument("--unseen", type=int, default=9, help="edits in unseen words for each photo")
    parser.add_argument("--sheet", type=Path, help="contact sheet PNG to write")
    return parser.parse_args()


if __name__ == "__main__":
    main()
