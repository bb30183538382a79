"""Sheets of pictures with captions, and the loss curve."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from demo.editors import as_image
from demo.edits import Picture


def contact_sheet(
    rows: Sequence[tuple[str, Sequence[Picture]]], head: Sequence[str], side: int = 72, left: int = 128
) -> Image.Image:
    """One row of square pictures, `side` pixels wide, for each caption of at most `left` pixels; `head` above them."""
    line = 16
    width = left + max(len(pictures) for _, pictures in rows) * (side + 2)
    sheet = Image.new("RGB", (width, line + len(rows) * (side + 2)), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(12)
    for column, text in enumerate(head):
        draw.text((left + column * (side + 2) + 2, 1), text, "black", font)
    for row, (caption, pictures) in enumerate(rows):
        top = line + row * (side + 2)
        draw.text((4, top + side // 2 - 8), caption, "black", font)
        for column, picture in enumerate(pictures):
            small = as_image(picture).resize((side, side), Image.Resampling.LANCZOS)
            sheet.paste(small, (left + column * (side + 2), top))
    return sheet


def loss_curve(logs: dict[str, Path], file: Path) -> None:
    """Draw the second column of each CSV log over its first; takes matplotlib."""
    from matplotlib import pyplot  # noqa: PLC0415  the only function that needs it

    figure, axes = pyplot.subplots(1, len(logs), figsize=(4.5 * len(logs), 3))
    for axis, (title, log) in zip(np.atleast_1d(axes), logs.items(), strict=True):
        header = log.read_text().splitlines()[0].split(",")
        values = np.loadtxt(log, delimiter=",", skiprows=1)
        axis.plot(values[:, 0], values[:, 1])
        axis.set(title=title, xlabel=header[0], ylabel=header[1])
        axis.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(file, dpi=80)
