"""What the first edits after a start cost: seconds from start to ready, the first edit and the tenth, each start anew.

    python -m bench cold [--checkpoint demo|full] [--precision P] [--starts N] [--steps N] [--side N] [--seconds S,...]

In turns with and without warm-up (`--seconds`, as TRITOUCH_WARM_UP_SECONDS has it), on real servers, over HTTP. Every
edit has another picture and sentence, and the same size. The tenth is the median of the last three of ten: one edit
alone differs by more than what is measured where the machine has other work. Files are in the page cache after the
first start.
"""

import os
import statistics
import sys
import time
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from bench import edits, report
from bench.setups import SETUPS
from embedded.server import serve

SECONDS = "TRITOUCH_WARM_UP_SECONDS"
EDITS, LATE = 10, 3


@dataclass(frozen=True)
class Start:
    """Seconds: until ready, and of each edit in its turn."""

    ready: float
    edits: list[float]

    @property
    def tenth(self) -> float:
        """The median of the last three."""
        return statistics.median(self.edits[-LATE:])


def started(repository: Path, asked: list[edits.Edit], warm_up: str) -> Start:
    """One start, and its edits."""
    began, spent = time.perf_counter(), []
    with serve(repository, port=0, env={SECONDS: warm_up}) as server:
        ready = time.perf_counter() - began
        for edit in asked:
            sent = time.perf_counter()
            edits.through_gateway(server.http_url, edit)
            spent.append(time.perf_counter() - sent)
    return Start(ready, spent)


def show(warm_up: str, starts: list[Start]) -> None:
    """One line of what was measured with one setting."""
    first = [start.edits[0] for start in starts]
    ratios = report.spread([start.edits[0] / start.tenth for start in starts])
    print(
        f"warm-up of {warm_up} s: ready in {report.spread([start.ready for start in starts], ' s')}, first edit"
        f" {report.spread(first, ' s')}, tenth {report.spread([start.tenth for start in starts], ' s')},"
        f" first / tenth {ratios}"
    )


def main() -> int:
    """Measures and prints."""
    parser = report.parser(__doc__)
    parser.add_argument("--checkpoint", choices=tuple(SETUPS), default="demo")
    parser.add_argument("--precision", default="auto", help="of the engines, as the export has it")
    parser.add_argument("--starts", type=int, default=3, help="with each setting")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--side", type=int, default=384, help="pixels")
    parser.add_argument("--seconds", default="0,60", help="warm-up of each setting")
    options = parser.parse_args()
    setup = SETUPS[options.checkpoint]
    asked = list(islice(edits.series(options.side, options.steps, setup.guidance), EDITS))
    repository, settings = setup.repository(options.precision), options.seconds.split(",")
    found: dict[str, list[Start]] = {warm_up: [] for warm_up in settings}
    print(f"{report.machine()}, load {os.getloadavg()[0]:.1f}")

    def measure() -> None:
        for warm_up in settings * options.starts:
            found[warm_up].append(started(repository, asked, warm_up))
            last = found[warm_up][-1]
            print(f"  {warm_up} s: {last.ready:.2f}; {' '.join(f'{spent:.2f}' for spent in last.edits)}")
        for warm_up, starts in found.items():
            show(warm_up, starts)

    return report.until_interrupted(measure)


if __name__ == "__main__":
    sys.exit(main())
