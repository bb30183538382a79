"""What both trainings share: a resumable state on disk, a moving average of the weights, the learning rate."""

import copy
import csv
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from rich.progress import track
from torch import nn


class Run:
    """One training: modules, optimiser, moving average and step, saved to and resumed from `folder/name.pt`."""

    def __init__(self, folder: Path, name: str, module: nn.Module, rate: float, steps: int, *, slow: str = " ") -> None:
        """Parameters whose name starts with `slow` learn at a tenth of `rate`."""
        self.file = folder / f"{name}.pt"
        self.log = folder / f"{name}.csv"
        self.module, self.rate, self.steps, self.step = module, rate, steps, 0
        named = list(module.named_parameters())
        groups = [
            {"params": [parameter for name, parameter in named if name.startswith(slow) == slower], "share": share}
            for slower, share in ((False, 1.0), (True, 0.1))
        ]
        self.optimiser = torch.optim.AdamW(
            [group for group in groups if group["params"]], lr=rate, betas=(0.9, 0.98), weight_decay=0.0
        )
        self.average = copy.deepcopy(module).requires_grad_(False)

    def resume(self) -> None:
        """Load the saved state, if there is one."""
        if not self.file.exists():
            return
        state = torch.load(self.file, weights_only=True)
        self.module.load_state_dict(state["module"])
        self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.step = state["step"]

    def save(self) -> None:
        """Save atomically, so that an interruption never leaves half a file."""
        state: dict[str, Any] = {
            "module": self.module.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "step": self.step,
        }
        partial = self.file.with_suffix(".partial")
        torch.save(state, partial)
        partial.replace(self.file)

    def update(self, loss: torch.Tensor) -> None:
        """One optimiser step at the scheduled rate; the moving average follows."""
        rate = self.rate * learning_rate(self.step, self.steps)
        for group in self.optimiser.param_groups:
            group["lr"] = rate * group["share"]
        self.optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.module.parameters(), 1.0)
        self.optimiser.step()
        self.step += 1
        decay = min(0.998, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for ours, theirs in zip(self.average.parameters(), self.module.parameters(), strict=True):
                ours.lerp_(theirs, 1 - decay)

    def train(self, loss_at: Callable[[int], torch.Tensor], every: int, saved: Callable[[], None]) -> None:
        """All steps that are left, with progress shown; each `every` steps records, saves, and calls `saved`."""
        losses: list[float] = []
        started = time.monotonic()
        for step in track(range(self.step, self.steps), self.file.stem):
            loss = loss_at(step)
            self.update(loss)
            losses.append(float(loss.detach()))
            if self.step % every == 0 or self.step == self.steps:
                self.record(loss=sum(losses) / len(losses), seconds=time.monotonic() - started)
                losses.clear()
                started = time.monotonic()
                self.save()
                saved()

    def record(self, **figures: float) -> None:
        """Append one row to the log."""
        with self.log.open("a", newline="") as file:
            writer = csv.DictWriter(file, ["step", *figures])
            if file.tell() == 0:
                writer.writeheader()
            writer.writerow({"step": self.step, **{name: f"{value:.6g}" for name, value in figures.items()}})


def learning_rate(step: int, steps: int, warm_up: int = 50) -> float:
    """Fraction of the full rate: linear warm-up, then flat, then a cosine to zero over the last 60 %."""
    flat = 0.4 * steps
    falling = 0.5 + 0.5 * math.cos(math.pi * min(1.0, max(0.0, (step - flat) / (steps - flat))))
    return min(1.0, (step + 1) / warm_up) * falling


@contextmanager
def halved() -> Iterator[None]:
    """bfloat16 where torch deems it safe."""
    with torch.autocast("cuda" if torch.cuda.is_available() else "cpu", torch.bfloat16):
        yield
