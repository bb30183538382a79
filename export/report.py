"""What a person sees of an export: a bar while a component is worked on, a table at the end."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from export.likeness import Likeness

LONG_SECONDS = 60
"""What takes longer is told, for logs, which have no bars."""
PARTS = {"tracing": "trace", "compiling": "compile", "checking": "check"}
"""What takes time, and its column."""


@dataclass(frozen=True)
class Row:
    """One line of the closing table. `seconds`: by part; None for a component that was up to date.

    `compared`: the relative error by the sizes at which it was taken.
    """

    component: str
    precision: str
    size: int
    error: float
    tolerance: float
    checked_in: str
    compared: Mapping[str, float]
    seconds: Mapping[str, float] | None
    layers: Mapping[str, int] = field(default_factory=dict)
    """How many layers are of which type, where narrowing was calibrated."""
    slower: int = 0
    """Layers that stay wide for their time."""

    @classmethod
    def of(cls, component: str, record: Mapping[str, Any], *, fresh: bool) -> "Row":
        """From what was written beside an engine."""
        return cls(
            component,
            record["precision"],
            record["bytes"],
            record["error"],
            record["tolerance"],
            record["checked_in"],
            record["compared"],
            record["seconds"] if fresh else None,
            record.get("layers", {}),
            len(record.get("slower", ())),
        )


@dataclass
class Bar:
    """One component's bar."""

    progress: Progress
    task: TaskID
    begun: int = 0

    def __call__(self, stage: str) -> None:
        """A stage begins; "" when the last has ended."""
        if not stage:
            self.end()
            return
        self.progress.start_task(self.task)
        self.progress.update(self.task, description=stage, completed=self.begun)
        self.begun += 1

    def end(self) -> None:
        """The component is made."""
        self.progress.stop_task(self.task)
        self.progress.update(self.task, description="done", completed=self.progress.tasks[self.task].total)

    def part(self, done: float) -> None:
        """`done` of the stage under way is over, from 0 to 1."""
        self.progress.update(self.task, completed=self.begun - 1 + done)


@dataclass
class Report:
    """Collects rows; draws on `console`."""

    console: Console = field(default_factory=lambda: Console(stderr=True))
    rows: list[Row] = field(default_factory=list)
    likeness: Likeness | None = None
    """Of narrowed engines' pictures to fp32."""

    @contextmanager
    def progress(self, stages: Mapping[str, int]) -> Iterator[Mapping[str, Bar]]:
        """A bar for each component, by its name; it is called at the start of each of the component's stages."""
        columns = (
            TextColumn("{task.fields[name]:<15}"),
            BarColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.description}"),
        )
        with Progress(*columns, console=self.console) as progress:
            tasks = {name: progress.add_task("", total=total, start=False, name=name) for name, total in stages.items()}
            bars = {name: Bar(progress, task) for name, task in tasks.items()}
            yield bars
            for bar in bars.values():
                bar.end()

    @contextmanager
    def steps(self, what: str, count: int) -> Iterator[Callable[[], None]]:
        """A bar of about so many steps, and how long the rest takes. What it yields is called after each of them."""
        columns = (TextColumn(f"{what}, step"), MofNCompleteColumn(), BarColumn(), TimeRemainingColumn())
        began = time.monotonic()
        with Progress(*columns, console=self.console) as progress:
            task = progress.add_task("", total=count)

            def step() -> None:
                progress.advance(task)
                seconds = count * (time.monotonic() - began)
                if progress.tasks[task].completed == 1 and seconds > LONG_SECONDS:
                    self.say(f"{what}: {count} steps, by the first of them about {seconds / 60:.0f} minutes")

            yield step

    def say(self, line: str) -> None:
        """Prints a line before the bars."""
        self.console.print(line, markup=False, highlight=False, soft_wrap=True)

    def add(self, row: Row) -> None:
        """Adds a finished component."""
        self.rows.append(row)

    def close(self) -> None:
        """Prints the table, and where each engine was compared with torch."""
        table = Table(box=None, padding=(0, 2, 0, 0))
        for name in ("component", "type", "size", "error", "bound", *PARTS.values()):
            table.add_column(name, no_wrap=True)
        for row in self.rows:
            spent = [f"{row.seconds[part]:.1f} s" for part in PARTS] if row.seconds else ["up to date"]
            size = f"{row.size / 1e6:.1f} MB"
            table.add_row(row.component, row.precision, size, f"{row.error:.1e}", f"{row.tolerance:.0e}", *spent)
        self.console.print(table)
        for row in self.rows:
            if row.layers:
                told = ", ".join(f"{count} {kind}" for kind, count in row.layers.items())
                self.console.print(f"{row.component:<15} layers: {told}")
            if row.slower:
                self.console.print(
                    f"{row.component:<15} {row.slower} linear layers stay wide: {row.precision} makes them slower on "
                    "processors without AVX-512 and VNNI"
                )
            self.console.print(f"{row.component:<15} compared in {row.checked_in} at {', '.join(row.compared)}")
        if self.likeness:
            held = len(self.likeness.psnr)
            self.console.print(f"{'pictures':<15} {self.likeness} to fp32, of {held} edits that were held out")
