"""What TensorRT tells while it compiles: its errors, kept for one clear line; its progress, shown on the bar."""

import functools
import re
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from export.engines import Advance

LINE_LENGTH = 300
MEMORY = re.compile(r"Total (Activation|Weights) Memory: (\d+) bytes")


class BuildLog:
    """TensorRT's errors, and the GPU memory that it says its latest plan asks for.

    TensorRT keeps the first logger of a process for all builders, so there is one a module.
    """

    def __init__(self, trt: Any) -> None:
        errors = self._errors = list[str]()
        memory = self.memory = dict[str, int]()
        """Bytes by "Activation" and "Weights"; empty where this version does not say them."""
        severities = (trt.ILogger.Severity.ERROR, trt.ILogger.Severity.INTERNAL_ERROR)

        class Logger(trt.ILogger):  # type: ignore[misc] # from a module that is chosen at run time
            def log(self, severity: Any, message: str) -> None:
                if severity in severities:
                    errors.append(message)
                elif said := MEMORY.search(message):
                    memory[said[1]] = int(said[2])

        self.logger: Any = Logger()

    @staticmethod
    @functools.cache
    def of(trt: ModuleType) -> "BuildLog":
        """The module's one log."""
        return BuildLog(trt)

    def last(self) -> str:
        """The latest error on one line."""
        return " ".join(self._errors[-1].split())[:LINE_LENGTH] if self._errors else "no reason was given"


def monitor(trt: Any, advance: Advance) -> Any:
    """A progress monitor that moves `advance` from 0 to 1 over the outermost phase's steps, and notes Ctrl-C."""

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc] # from a module that is chosen at run time
        def __init__(self) -> None:
            super().__init__()
            self._steps: dict[str, int] = {}
            self.interrupted = False

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            if not parent_phase:
                self._steps[phase_name] = num_steps

        def phase_finish(self, phase_name: str) -> None:
            self._steps.pop(phase_name, None)

        def step_complete(self, phase_name: str, step: int) -> bool:
            """False ends the build."""
            try:
                if phase_name in self._steps:
                    advance((step + 1) / max(1, self._steps[phase_name]))
            except KeyboardInterrupt:  # must not pass through TensorRT's own frames
                self.interrupted = True
            return not self.interrupted

    return Monitor()


@contextmanager
def interruptible(watch: Any) -> Iterator[None]:
    """Raises at its end the KeyboardInterrupt that came while TensorRT compiled."""
    yield
    if watch.interrupted:
        raise KeyboardInterrupt
