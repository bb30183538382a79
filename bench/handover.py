"""What a step costs outside the denoiser where its inputs are large: milliseconds, and bytes that go to it and back.

    python -m bench handover [--edits N] [--steps N] [--side N] [--repository DIR]

FLUX.2 klein as wide as 4B (`bench.klein_width`), with stub engines that answer at once: a turn of the batcher is then
the joining of edits, the way to the denoiser's process and back, and the schedule. So many edits of one picture each
are in flight together, a row each. Once as it is served, once with every tensor sent through Triton
(`TRITOUCH_IN_PLACE_BYTES`), in turns. Told are the mean of all turns, and the median of what lies between two calls
that all of the edits share, so that none joins.
"""

import itertools
import math
import statistics
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from itertools import islice, product
from pathlib import Path

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from bench import edits, report, stub_engines, watch
from bench.setups import KLEIN_WIDTH
from embedded.server import serve

WAYS = {"in place": "1", "sent": str(1 << 40)}
ROUNDS = 3
PIXELS_A_TOKEN = 16
"""Along one side."""


def main() -> int:
    """Measures, prints and writes."""
    parser = report.parser(__doc__)
    parser.add_argument("--repository", type=Path, help="one that was exported already")
    parser.add_argument("--edits", type=int, default=4, help="in flight together")
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--side", type=int, default=1024, help="pixels")
    options = parser.parse_args()
    asked = list(islice(edits.series(options.side, options.steps, 0), options.edits))
    turns: dict[str, list[tuple[float, float]]] = {way: [] for way in WAYS}
    with tempfile.TemporaryDirectory() as scratch:
        repository = stub_engines.repository(options.repository or KLEIN_WIDTH.repository(), Path(scratch))
        for _, (way, least) in product(range(ROUNDS), WAYS.items()):
            print(f"{way}: ", end="", flush=True)
            turns[way].append(_turn(repository, asked, least))
        kept, changing = _bytes(repository, (options.side // PIXELS_A_TOKEN) ** 2 * options.edits, options.edits)
    print(f"{options.edits} rows: {kept / 1e6:.1f} MB stay the same, {changing / 1e6:.1f} MB change at every step")
    for way, found in turns.items():
        means, between = (report.spread(one, " ms") for one in zip(*found, strict=True))
        print(f"{way:<10}{means} a step; between calls of all: {between}")
    return 0


def _bytes(repository: Path, tokens: int, rows: int) -> tuple[int, int]:
    """Of a step's inputs that are the same at every step, and of those that are not, the prediction among these.

    `tokens`: of one picture, over all rows.
    """
    text = (repository / "denoiser" / "config.pbtxt").read_text("utf-8")
    config = text_format.Parse(text, model_config_pb2.ModelConfig())
    sizes = {
        port.name: 4 * math.prod(port.dims) * -tokens if -1 in port.dims else 4 * math.prod(port.dims) * rows
        for port in (*config.input, *config.output)
    }
    changing = sum(sizes.pop(name) for name in ("sample", "timestep", "prediction"))
    return sum(sizes.values()), changing


def _turn(repository: Path, asked: list[edits.Edit], least: str) -> tuple[float, float]:
    """Milliseconds of a turn of the batcher, mean over all steps, and between two calls that all of them share."""
    with serve(repository, port=0, env={"TRITOUCH_IN_PLACE_BYTES": least}) as server:
        url = f"{server.http_url}/v1/images/edits"
        bodies = [edits.body(edit, "jpeg", "JPEG") for edit in asked]
        with ThreadPoolExecutor(len(bodies)) as callers:
            list(callers.map(lambda body: edits.post(url, body), bodies))  # the first of each is slower
            stub_engines.takes(repository, 0.0)  # and writes its calls down
            before = watch.totals(server)
            list(callers.map(lambda body: edits.post(url, body), bodies))
            after = watch.totals(server)
    spent = {name: after[name] - before[name] for name in ("turns", "calls", "rows")}
    print(f"{spent['rows'] / spent['calls']:.2f} rows a call")
    pairs = itertools.pairwise(stub_engines.calls(repository))
    between = [later.began - call.ended for call, later in pairs if call.rows == later.rows == len(asked)]
    return 1e3 * spent["turns"] / spent["calls"], 1e3 * statistics.median(between)


if __name__ == "__main__":
    sys.exit(main())
