"""`python -m export`: a diffusers checkpoint becomes a Triton model repository.

Exit codes: 0 installed, 1 the export failed, 2 a flag or the checkpoint is not right, 130 interrupted.
"""

import argparse
import logging
import math
import sys
import warnings
from pathlib import Path

import families
from export.checkpoint import find, hide_bars
from export.engines import KINDS, load
from export.errors import BadInputError, ExportError
from export.report import Report
from export.store import SOURCE, Store

SMALLEST_BUDGET = 128 * 128
LARGEST_BUDGET = 4096 * 4096
LARGEST_BATCH = 256
LARGEST_GUIDANCE = 100.0


def parse(arguments: list[str]) -> argparse.Namespace:
    """The command line, as argparse reads it."""
    parser = argparse.ArgumentParser("python -m export", description="Export a diffusers checkpoint for Triton.")
    parser.add_argument("--model", required=True, metavar="DIR|HUB_ID", help="a diffusers folder, or an id on the hub")
    parser.add_argument("--revision", help="branch, tag or commit of a hub id")
    parser.add_argument("--engine", default=KINDS[0], help=f"one of {', '.join(KINDS)} (default: {KINDS[0]})")
    parser.add_argument(
        "--compute-capability",
        default="",
        metavar="X.Y[,X.Y...]",
        help="GPUs that tensorrt_rtx compiles for (default: this machine's; without one, all that it knows)",
    )
    parser.add_argument("--precision", default="auto", help="arithmetic of the engines; auto: the fastest native one")
    parser.add_argument("--max-pixels", type=int, default=512 * 512, help="largest picture, width x height")
    parser.add_argument("--max-batch", type=int, default=12, help="most rows of one denoiser call")
    parser.add_argument("--guidance-when-zero", type=float, default=1.0, help="guidance scale where callers send 0")
    parser.add_argument(
        "--adapter",
        action="append",
        default=[],
        metavar="ROUTE=DIR|FILE|HUB_ID[:SCALE]",
        help="a LoRA that edits choose by `model`: ROUTE; may be given many times",
    )
    parser.add_argument("--repository", type=Path, default=SOURCE, help="where to install (default: model_repository)")
    return parser.parse_args(arguments)


def check_ranges(flags: argparse.Namespace) -> None:
    """Raises BadInputError naming the flag that is out of range."""
    if not SMALLEST_BUDGET <= flags.max_pixels <= LARGEST_BUDGET:
        raise BadInputError(f"--max-pixels must be {SMALLEST_BUDGET} to {LARGEST_BUDGET}")
    if not 1 <= flags.max_batch <= LARGEST_BATCH:
        raise BadInputError(f"--max-batch must be 1 to {LARGEST_BATCH}")
    if not (math.isfinite(flags.guidance_when_zero) and 1 <= flags.guidance_when_zero <= LARGEST_GUIDANCE):
        raise BadInputError(f"--guidance-when-zero must be 1 to {LARGEST_GUIDANCE:g}")


def export(flags: argparse.Namespace) -> None:
    """Runs the export. Raises ExportError."""
    check_ranges(flags)
    engine = load(flags.engine, [target for target in flags.compute_capability.split(",") if target])
    precision = engine.default_precision() if flags.precision == "auto" else flags.precision
    if precision not in engine.precisions:
        raise BadInputError(f"--precision for {engine.name} is auto or one of {', '.join(engine.precisions)}")
    checkpoint = find(flags.model, flags.revision)
    hide_bars()
    # Imported late: torch and diffusers take seconds, and a wrong flag should not.
    from export import adapters  # noqa: PLC0415
    from export.build import Export, Options  # noqa: PLC0415
    from families.tensors import Limits  # noqa: PLC0415

    sources = adapters.find(flags.adapter, families.load(checkpoint.family, "components").LORA_LEADS)
    limits = Limits(flags.max_pixels, flags.max_batch)
    options = Options(precision, limits, flags.guidance_when_zero, sources)
    report = Report()
    Export(checkpoint, engine, options, Store(flags.repository), report).run()
    report.close()
    print(f"installed in {flags.repository}: {engine.name}, {precision}")


def main() -> int:
    """Runs the command line and returns the exit code; every failure is one line."""
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    try:
        export(parse(sys.argv[1:]))
    except ExportError as error:
        print(f"export: {error}", file=sys.stderr)
        return error.code
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        print(f"export: {error.strerror or error}{where}; the repository is as it was", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("export: interrupted; the repository is as it was", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
