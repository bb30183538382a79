"""What step caching saves of an edit, and how near its pictures are: with `balanced` and `off` in turns, over HTTP.

    python -m bench cache [--checkpoint demo|full] [--side N] [--edits N] [--steps 8,12,20,50] [--guidance 1,7.5]

Each edit is of another picture, sentence and seed than the one before; it is made both ways, one alone at a time. One
line for a number of steps and a guidance scale: denoiser calls and rows of an edit, how many times as fast the whole
edit is, and what its picture keeps of the one whose steps are all computed: PSNR and SSIM, of the least like first.
"""

import itertools
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from bench import edits, report, watch
from bench.edits import Edit, Pixels
from bench.setups import SETUPS
from embedded.server import Embedded, serve
from export.likeness import psnr, ssim

CACHES: Final = ("off", "balanced")
HEAD: Final = "| steps | guidance | calls | rows | times as fast | PSNR, dB | SSIM |\n|---|---|---|---|---|---|---|"


@dataclass
class Series:
    """Edits of so many steps and one guidance scale. Whole edits' seconds, calls and rows, by how steps were cached."""

    steps: int
    guidance: float
    seconds: dict[str, list[float]] = field(default_factory=lambda: {cache: [] for cache in CACHES})
    calls: dict[str, float] = field(default_factory=lambda: dict.fromkeys(CACHES, 0.0))
    rows: dict[str, float] = field(default_factory=lambda: dict.fromkeys(CACHES, 0.0))
    likeness: list[tuple[float, float]] = field(default_factory=list)

    def line(self) -> str:
        """Of a table."""
        count = len(self.likeness)
        calls, rows = (
            " to ".join(f"{found[cache] / count:.3g}" for cache in CACHES) for found in (self.calls, self.rows)
        )
        faster = report.spread([off / own for off, own in zip(*self.seconds.values(), strict=True)])
        noise, structure = (sorted(values) for values in zip(*self.likeness, strict=True))
        likest = f"{noise[0]:.1f} to {noise[-1]:.1f} | {structure[0]:.4f} to {structure[-1]:.4f}"
        return f"| {self.steps} | {self.guidance:g} | {calls} | {rows} | {faster} | {likest} |"


def made(server: Embedded, edit: Edit, cache: str, series: Series | None = None) -> Pixels:
    """One edit, noted in its series."""
    before, began = watch.batcher(server), time.perf_counter()
    picture = edits.through_gateway(server.http_url, edit, cache=cache)
    seconds = time.perf_counter() - began
    if series:
        after = watch.batcher(server)
        series.seconds[cache].append(seconds)
        series.calls[cache] += after["calls"] - before["calls"]
        series.rows[cache] += after["rows"] - before["rows"]
    return picture


def measured(server: Embedded, series: Series, chosen: Sequence[Edit]) -> None:
    """All edits of a series, after one of each kind to warm up; who goes first alternates."""
    for cache in CACHES:
        made(server, chosen[0], cache)
    for number, edit in enumerate(chosen[1:]):
        turns = CACHES[:: 1 if number % 2 else -1]
        pictures = {cache: made(server, edit, cache, series) for cache in turns}
        pair = pictures["balanced"], pictures["off"]
        series.likeness.append((psnr(*pair), ssim(*pair)))


def main() -> int:
    """Measures, prints and writes. Returns 130 when interrupted: what is printed was measured."""
    parser = report.parser(__doc__)
    parser.add_argument("--checkpoint", choices=tuple(SETUPS), default="demo")
    parser.add_argument("--side", type=int, default=256, help="pixels")
    parser.add_argument("--edits", type=int, default=4, help="of each line")
    parser.add_argument("--steps", default="8,12,20,50")
    parser.add_argument("--guidance", default="1,7.5", help="1: none")
    options = parser.parse_args()
    cases = itertools.product(map(int, options.steps.split(",")), map(float, options.guidance.split(",")))
    found: list[Series] = []
    try:
        with serve(SETUPS[options.checkpoint].repository(), port=0) as server:
            print(f"{report.processor()}\n{HEAD}")
            for steps, guidance in cases:
                series = Series(steps, guidance)
                chosen = list(itertools.islice(edits.series(options.side, steps, guidance), options.edits + 1))
                measured(server, series, chosen)
                found.append(series)
                print(series.line(), flush=True)
    except KeyboardInterrupt:
        print("interrupted: what is printed was measured", file=sys.stderr)
        return 130
    lines = [vars(series) for series in found]
    report.write(options.results / f"cache-{options.checkpoint}.json", {"side": options.side, "series": lines})
    return 0


if __name__ == "__main__":
    sys.exit(main())
