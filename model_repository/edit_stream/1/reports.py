"""What is told of a job while it is denoised: its steps, and previews. Knows nothing of Triton.

The batcher's thread only notes what there is to tell; a reporter's thread tells it, one thing at a time and in order.
Steps that come faster than they are told are skipped, for only the latest counts; previews are not.
"""

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Executor

from families.errors import InvalidEditError
from families.interface import Tensors

log = logging.getLogger(__name__)


def preview_steps(previews: int, steps: int) -> frozenset[int]:
    """After which of `steps` steps there is a preview: evenly spread, never before the first or after the last."""
    spread = (round(steps * place / (previews + 1)) for place in range(1, previews + 1))
    return frozenset(step for step in spread if 0 < step < steps)


class Reports:
    """Of one job. `tell_step` takes the steps made, where they are wanted; `tell_preview` those and a preview.

    Each runs on `reporters`, and may wait.
    """

    def __init__(
        self,
        reporters: Executor,
        previews: int,
        tell_step: Callable[[int], None] | None,
        tell_preview: Callable[[int, Tensors], None],
    ) -> None:
        self._reporters, self._previews = reporters, previews
        self._tell_step, self.tell_preview = tell_step, tell_preview
        self._lock = threading.Lock()  # guards the three below
        self._step: int | None = None  # the latest that is not told yet
        self._shown: list[tuple[int, Tensors]] = []  # previews that are not told yet
        self._telling = False

    def note(self, step: int, steps: int, preview: Callable[[], Tensors] | None) -> None:
        """So many of all steps are made. `preview` is computed here, where one is due. Raises what it raises."""
        shown = preview() if preview is not None and step in preview_steps(self._previews, steps) else None
        if shown is None and self._tell_step is None:
            return
        with self._lock:
            if self._tell_step is not None:
                self._step = step
            if shown is not None:
                self._shown.append((step, shown))
            if self._telling:
                return
            self._telling = True
        self._reporters.submit(self._tell)

    def _tell(self) -> None:
        while True:
            with self._lock:
                shown = self._shown.pop(0) if self._shown else None
                step = None
                if shown is None:
                    step, self._step = self._step, None
                self._telling = shown is not None or step is not None
                if not self._telling:
                    return
            try:
                if shown is not None:
                    self.tell_preview(*shown)
                elif step is not None and self._tell_step is not None:
                    self._tell_step(step)
            except InvalidEditError:  # a preview that the safety checker refuses is not shown
                pass
            except Exception:
                log.exception("a report could not be told")
