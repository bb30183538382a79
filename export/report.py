"""What a person sees of an export: a bar while a component is worked on, a table at the end."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table


@dataclass(frozen=True)
class Row:
    """One line of the closing table. `seconds` is None for a component that was up to date."""

    component: str
    size: int
    error: float
    tolerance: float
    checked_in: str
    seconds: float | None


@dataclass
class Bar:
    """One component's bar."""

    progress: Progress
    task: TaskID
    begun: int = 0

    def __call__(self, stage: str) -> None:
        """A stage begins."""
        self.progress.update(self.task, description=stage, completed=self.begun)
        self.begun += 1

    def part(self, done: float) -> None:
        """`done` of the stage under way is over, from 0 to 1."""
        self.progress.update(self.task, completed=self.begun - 1 + done)


@dataclass
class Report:
    """Collects rows; draws on `console`."""

    console: Console = field(default_factory=lambda: Console(stderr=True))
    rows: list[Row] = field(default_factory=list)

    @contextmanager
    def progress(self, component: str, stages: int) -> Iterator[Bar]:
        """A bar for one component, which is called at the start of each of its stages."""
        columns = TextColumn(f"{component:<13}"), BarColumn(), TimeElapsedColumn(), TextColumn("{task.description}")
        with Progress(*columns, console=self.console) as progress:
            task = progress.add_task("", total=stages)
            yield Bar(progress, task)
            progress.update(task, description="done", completed=stages)

    def add(self, row: Row) -> None:
        """Adds a finished component."""
        self.rows.append(row)

    def close(self) -> None:
        """Prints the table."""
        table = Table("component", "size", "error", "tolerance", "checked in", "seconds")
        for row in self.rows:
            seconds = "up to date" if row.seconds is None else f"{row.seconds:.1f}"
            size = f"{row.size / 1e6:.1f} MB"
            table.add_row(row.component, size, f"{row.error:.1e}", f"{row.tolerance:.0e}", row.checked_in, seconds)
        self.console.print(table)
