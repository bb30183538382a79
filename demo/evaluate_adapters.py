# ruff: noqa: T201  a command-line entry point
"""Measure the shipped adapters on pictures that training never saw.

`python -m demo.evaluate_adapters --photos DIR/photos/held_out --pipeline` edits with diffusers in this process; `--url`
through a server that serves the checkpoint and its adapters. Every request is put with and without the adapter, and
compared with what the adapter should make of it. Prints a table of `demo/README.md`, writes a before/after sheet.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from demo.adapters import ADAPTERS, FOLDER, Adapter
from demo.checkpoint_writer import CHECKPOINT
from demo.editors import Editor, PipelineEditor, Request, ServedEditor
from demo.edits import Picture, true_edit
from demo.evaluate import in_turn, square
from demo.measures import psnr
from demo.photos import load_photos
from demo.sheets import contact_sheet
from demo.wordings import sentence

OTHERS = 3
"""The base model's instructions that each photo is asked for."""
HEAD = ("before", "without", "adapter", "true edit")


class Question(NamedTuple):
    """One request, and what the adapter should make of it."""

    group: str
    request: Request
    wanted: Picture


def main() -> None:
    """Print the table."""
    arguments = _arguments()
    photos = [square(photo) for photo in load_photos(arguments.photos).values()][: arguments.limit]
    print("| adapter | asked for | edits | PSNR | unedited | without it |\n| --- | --- | --: | --: | --: | --: |")
    rows = []
    for name, adapter in ADAPTERS.items():
        asked = list(questions(adapter, photos))
        requests = [question.request for question in asked]
        without, ours = (editor.edit_all(requests) for editor in _editors(arguments, name))
        for group in dict.fromkeys(question.group for question in asked):
            print(f"| {name} | {group} | {_figures(group, asked, without, ours)} |", flush=True)
        rows += [
            (f"{name}: {question.request.prompt}"[:36], (question.request.picture, *others, question.wanted))
            for question, *others in list(zip(asked, without, ours, strict=True))[:: max(1, len(asked) // 3)]
        ]
    if arguments.sheet:
        contact_sheet(rows, HEAD, side=112, left=230).save(arguments.sheet)


def questions(adapter: Adapter, photos: list[Picture]) -> Iterator[Question]:
    """For each photo some of the base model's instructions and, if the adapter has its own, two wordings of that."""
    for number, photo in enumerate(photos):
        rng = np.random.default_rng([8, number])
        if adapter.instruction:
            wanted = adapter.instruction(photo)
            for group, texts in (("its instruction", adapter.wordings), ("in unseen words", adapter.unseen)):
                yield Question(group, Request(photo, texts[number % len(texts)], number), wanted)
        for kind in in_turn(number, OTHERS):
            wanted = adapter.styled(true_edit(kind, photo))
            yield Question("the base model's", Request(photo, sentence(kind, rng), number), wanted)


def _editors(arguments: argparse.Namespace, name: str) -> tuple[Editor, Editor]:
    """Without and with the adapter."""
    if arguments.url:
        return ServedEditor(arguments.url, arguments.steps), ServedEditor(arguments.url, arguments.steps, name)
    file = arguments.adapters / f"{name}.safetensors"
    return (
        PipelineEditor(arguments.checkpoint, arguments.steps),
        PipelineEditor(arguments.checkpoint, arguments.steps, file),
    )


def _figures(group: str, asked: list[Question], without: list[Picture], ours: list[Picture]) -> str:
    """Number of edits; mean PSNR in dB to what is wanted of: the answers, the unedited pictures, the base's answers."""
    those = [each for each in zip(asked, without, ours, strict=True) if each[0].group == group]
    decibels = [
        [psnr(picture, question.wanted) for picture in (edited, question.request.picture, base)]
        for question, base, edited in those
    ]
    return " | ".join([str(len(those)), *(f"{figure:.1f}" for figure in np.mean(decibels, axis=0))])


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    way = parser.add_mutually_exclusive_group(required=True)
    way.add_argument("--url", help="base URL of a server that serves the checkpoint and its adapters")
    way.add_argument("--pipeline", action="store_true", help="edit with diffusers, in this process")
    parser.add_argument("--photos", type=Path, required=True, help="held-out photos, written by demo.photos")
    parser.add_argument("--checkpoint", type=Path, default=CHECKPOINT)
    parser.add_argument("--adapters", type=Path, default=FOLDER)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--limit", type=int, help="use the first so many photos only")
    parser.add_argument("--sheet", type=Path, help="before/after PNG to write")
    return parser.parse_args()


if __name__ == "__main__":
    main()
