"""What the autoencoder's engines cost at large pictures, whole and in tiles: seconds, memory, likeness.

    python -m bench vae [--checkpoint demo|full] [--repository DIR] [--sides 1024,1448,2048] [--tile N] [--most-gib N]

Each call is made in a process of its own, which compiles OpenVINO's engine, calls it once, and ends; its peak is that
of its resident set. One that would take more than `--most-gib` of memory of its own fails. The picture is a sample of
the demo's, scaled; it is encoded, and what tiles make of it decoded. The likeness is that of tiles to the whole: PSNR
of the decoded picture, relative error of the latents.
"""

import multiprocessing
import resource
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bench import edits, report
from bench.setups import SETUPS
from families.picture import from_tensor, to_tensor

GIB = 1 << 30
HINTS = {"fp32": "f32", "bf16": "bf16"}


@dataclass(frozen=True)
class Call:
    """One call of an engine, in a process of its own. `tile`: pixels a side, None for the whole."""

    engine: Path
    precision: str
    given: Path
    made: Path
    tile: int | None
    unit: int
    """What tiles are multiples of, in the input's places."""
    most_gib: float


def run(call: Call, told: Any) -> None:
    """What runs in the process: leaves its output, tells seconds and GiB."""
    resource.setrlimit(resource.RLIMIT_DATA, (int(call.most_gib * GIB),) * 2)
    from backends.silent import openvino as ov  # noqa: PLC0415 - each process for itself
    from backends.tiles import Tiling, tiled  # noqa: PLC0415

    model = ov.compile_model(call.engine, "CPU", {"INFERENCE_PRECISION_HINT": HINTS[call.precision]})
    name, output = model.inputs[0].get_any_name(), model.outputs[0].get_any_name()
    request = model.create_infer_request()

    def infer(inputs: Any, _place: Any = None) -> dict[str, Any]:
        request.infer(dict(inputs))
        return {output: request.get_tensor(output).data}

    tiling = Tiling(call.tile**2, 2 * call.tile, call.unit) if call.tile else None
    began = time.perf_counter()
    made = tiled(infer, tiling)({name: np.load(call.given)})[output]
    seconds = time.perf_counter() - began
    np.save(call.made, made)
    told.put((seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / GIB))


def measured(call: Call) -> tuple[float, float] | None:
    """Seconds and GiB at most; None where the process was ended."""
    spawn = multiprocessing.get_context("spawn")
    told = spawn.SimpleQueue()
    process = spawn.Process(target=run, args=(call, told), daemon=True)
    process.start()
    process.join()
    return told.get() if process.exitcode == 0 else None


def likeness(name: str, whole: NDArray[Any], tiles: NDArray[Any]) -> str:
    """Of what tiles made to what the whole call did."""
    if name == "vae_decoder":
        return f"{edits.psnr(from_tensor(tiles), from_tensor(whole)):.1f} dB"
    return f"relative error {float(np.linalg.norm(tiles - whole) / np.linalg.norm(whole)):.1e}"


def compare(repository: Path, side: int, options: Any, folder: Path) -> None:
    """Encoder and decoder at one size, whole and in tiles; prints a line each."""
    picture = Image.open(sorted(edits.SAMPLES.glob("*.jpg"))[0]).convert("RGB").resize((side, side))
    given = folder / "given.npy"
    np.save(given, to_tensor(picture))
    for name in ("vae_encoder", "vae_decoder"):
        made: dict[str, Path] = {}
        for what, tile in (("whole", None), ("tiles", options.tile)):
            unit = side // np.load(given).shape[2]  # pixels of one of the input's places
            own, step = (None if tile is None else tile // unit), options.factor // unit
            file, engine = folder / f"{name}-{what}.npy", repository / name / "1" / "model.xml"
            call = Call(engine, options.precision, given, file, own, step, options.most_gib)
            found = measured(call)
            cost = f"{found[0]:7.1f} s {found[1]:6.2f} GiB" if found else "  failed, as is said above"
            print(f"{side:5} {name} {what:<6}{cost}", flush=True)
            made |= {what: file} if found else {}
        if len(made) > 1:
            print(f"{'':5} {name} {likeness(name, np.load(made['whole']), np.load(made['tiles']))}", flush=True)
        given = made["tiles"]


def main() -> int:
    """Measures and prints."""
    parser = report.parser(__doc__)
    parser.add_argument("--checkpoint", choices=tuple(SETUPS), default="full")
    parser.add_argument("--repository", type=Path, help="an exported one (default: the checkpoint's)")
    parser.add_argument("--precision", choices=tuple(HINTS), default="bf16")
    parser.add_argument("--sides", default="1024,1448,2048", help="of square pictures, in pixels")
    parser.add_argument("--tile", type=int, default=512, help="side of the largest tile, in pixels")
    parser.add_argument("--factor", type=int, default=8, help="pixels along one side of a latent")
    parser.add_argument("--most-gib", type=float, default=6.0, help="memory of its own that a process may take")
    options = parser.parse_args()
    repository = options.repository or SETUPS[options.checkpoint].repository()
    print(report.machine())

    def measure() -> None:
        with tempfile.TemporaryDirectory() as folder:
            for side in map(int, options.sides.split(",")):
                compare(repository, side, options, Path(folder))

    return report.until_interrupted(measure)


if __name__ == "__main__":
    sys.exit(main())
