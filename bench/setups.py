"""What is measured: a checkpoint, the repository exported from it, and how its edits are usually asked for."""

import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from export.component.schemes import SCHEMES

ROOT = Path(__file__).resolve().parents[1]
BUILD = ROOT / "build" / "bench"


@dataclass(frozen=True)
class Setup:
    """A checkpoint by its name. `guidance` is the text scale of its edits, 1 where it is trained to need none.

    `exact_pixels` bounds the pictures of engines in fp32, because comparing those with torch takes long at full size,
    and of those of fewer bits than 16, which are calibrated in fp32. `trained`: whether pictures of fewer bits can be
    like those of fp32, which random weights do not see to.
    """

    name: str
    flags: tuple[str, ...]
    guidance: float
    pixels: int
    exact_pixels: int
    trained: bool = False

    def checkpoint(self) -> Path:
        """The checkpoint's folder; but for the demo's it is made the first time, which takes up to a minute."""
        if self.name == "demo":
            return ROOT / "demo" / "checkpoint"
        from bench import full_size, klein_width  # noqa: PLC0415 - import torch

        make, folder = {
            "full": (full_size.checkpoint, BUILD / "full-size"),
            "klein-width": (klein_width.checkpoint, BUILD / "klein-width"),
            "klein-blocks": (klein_width.blocks, BUILD / "klein-blocks"),
            "klein-4b": (klein_width.whole, BUILD / "klein-4b"),
        }[self.name]
        return folder if (folder / "model_index.json").exists() else make(folder)

    def repository(self, precision: str = "auto", engine: str = "openvino", isa: str | None = None) -> Path:
        """The exported repository; the export skips what is up to date. Ends the program where it fails. `isa`: of the
        processor that it is for, as the environment has it."""
        folder = BUILD / re.sub("[,=]", "-", f"{self.name}-{engine}-{precision}{f'-{isa}' if isa else ''}")
        command = [sys.executable, "-m", "export", "--model", str(self.checkpoint()), "--repository", str(folder)]
        narrow = any(scheme in precision for scheme in SCHEMES)
        pixels = self.exact_pixels if precision == "fp32" or (narrow and self.exact_pixels) else self.pixels
        command += ["--max-pixels", str(pixels), *self.flags]
        command += ["--accept-quality"] if narrow and not self.trained else []
        print(f"exporting the {self.name} checkpoint to {folder.relative_to(ROOT)}, where it is not up to date")
        made = subprocess.run([*command, "--engine", engine, "--precision", precision], cwd=ROOT, check=False)
        if made.returncode:
            sys.exit(f"bench: the {self.name} checkpoint cannot be exported in {precision}: the export has said why")
        return folder


SETUPS = {
    "demo": Setup("demo", ("--guidance-when-zero", "1"), 1.0, 384 * 384, 384 * 384, trained=True),
    "full": Setup("full", ("--max-batch", "3"), 7.5, 512 * 512, 256 * 256),
}
KLEIN_WIDTH = Setup("klein-width", ("--max-batch", "4", "--max-images", "1"), 1.0, 1024 * 1024, 1024 * 1024)
"""Only its interfaces are of full width: for what is spent between engines."""
KLEIN_BLOCKS = Setup("klein-blocks", ("--max-batch", "1", "--max-images", "1"), 1.0, 256 * 256, 0)
"""Few blocks of full width: for rivals that edit with klein and not with InstructPix2Pix. None in fp32: it is large."""
KLEIN_4B = Setup("klein-4b", ("--max-batch", "4", "--max-images", "1"), 1.0, 1024 * 1024, 0)
"""All of its blocks: for a GPU."""
