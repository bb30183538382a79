"""`python -m export`: a diffusers checkpoint becomes a Triton model repository.

Exit codes: 0 installed, 1 the export failed, 2 a flag or the checkpoint is not right, 130 interrupted.
"""

import argparse
import logging
import math
import re
import signal
import sys
import warnings
from pathlib import Path

import families
from export import adapter_defaults
from export.checkpoint import find, hide_bars
from export.engines import KINDS, load
from export.errors import BadInputError, ExportError
from export.precisions import Precisions
from export.readable import expanded, require_readable
from export.report import Report
from export.store import SOURCE, Store
from families import load as load_family
from families.edit import MAX_GUIDANCE, MAX_STEPS
from families.interface import Limits
from families.step_cache import CACHES, OFF

SMALLEST_BUDGET = 128 * 128
LARGEST_BUDGET = 4096 * 4096
LARGEST_BATCH = 256
MOST_IMAGES = 16


def whole(text: str) -> int:
    """A flag's whole number. Raises ArgumentTypeError for what else Python reads: `1_0`, digits of any script."""
    if not re.fullmatch(r"[+-]?[0-9]{1,18}", text):
        raise argparse.ArgumentTypeError(f"must be a whole number, and is {text!r}")
    return int(text)


def number(text: str) -> float:
    """A flag's number. Raises ArgumentTypeError for what is not written as one."""
    if not re.fullmatch(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?", text):
        raise argparse.ArgumentTypeError(f"must be a number, and is {text!r}")
    return float(text)


def path(text: str) -> Path:
    """A flag's path. Raises ArgumentTypeError for an empty one, which is the current folder to Python."""
    if not text:
        raise argparse.ArgumentTypeError("must be a path, and is ''")
    return expanded(text)


def parse(arguments: list[str]) -> argparse.Namespace:
    """The command line, as argparse reads it."""
    parser = argparse.ArgumentParser(
        "python -m export",
        "%(prog)s --model DIR|HUB_ID [options]",
        description="Export a diffusers checkpoint for Triton.",
        epilog="Exit codes: 0 installed, 1 failed, 2 a flag or the checkpoint is not right, 130 interrupted.",
    )
    add_checkpoint(parser.add_argument_group("checkpoint"))
    engines = parser.add_argument_group("engines")
    add_engines(engines)
    add_tiles(engines)
    add_edits(parser.add_argument_group("edits"))
    parser.add_argument(
        "--repository", type=path, default=SOURCE, metavar="DIR", help="where to install (default: model_repository)"
    )
    return parser.parse_args(arguments)


def add_checkpoint(group: argparse._ArgumentGroup) -> None:
    """What is exported."""
    group.add_argument("--model", required=True, metavar="DIR|HUB_ID", help="a diffusers folder, or an id on the hub")
    group.add_argument("--revision", metavar="NAME", help="branch, tag or commit of a hub id")
    group.add_argument(
        "--option", action="append", default=[], metavar="NAME", help=f"what a checkpoint does not say: {options()}"
    )
    group.add_argument(
        "--adapter",
        action="append",
        default=[],
        metavar="ROUTE=DIR|FILE|HUB_ID[:SCALE]",
        help="a LoRA that edits choose by `model`: ROUTE; may be given many times",
    )
    group.add_argument(
        "--safety-checker",
        type=path,
        metavar="DIR",
        help="a diffusers folder whose safety checker looks at every picture",
    )
    group.add_argument(
        "--preview-decoder",
        type=path,
        metavar="DIR",
        help="a folder of diffusers' AutoencoderTiny, which decodes previews",
    )


def add_engines(group: argparse._ArgumentGroup) -> None:
    """What it becomes."""
    group.add_argument(
        "--engine",
        default=KINDS[0],
        metavar="KIND",
        help=f"{', '.join(KINDS[:-1])} or {KINDS[-1]} (default: {KINDS[0]})",
    )
    group.add_argument(
        "--compute-capability",
        default="",
        metavar="X.Y[,X.Y...]",
        help="GPUs that tensorrt_rtx compiles for (default: this machine's; without one, all that it knows)",
    )
    group.add_argument(
        "--precision",
        default="auto",
        metavar="P[,COMPONENT=P...]",
        help="arithmetic of the engines, of all and of single ones (default: auto, the fastest that a component bears)",
    )
    group.add_argument(
        "--calibration",
        type=path,
        metavar="DIR",
        help="pictures and sentences.txt that int8, fp8 and nvfp4 are calibrated on (default: nine that come along)",
    )
    group.add_argument(
        "--accept-quality", action="store_true", help="install narrowed engines however unlike fp32 their pictures are"
    )
    group.add_argument(
        "--max-batch", type=whole, default=12, metavar="N", help="most rows of one denoiser call (default: %(default)s)"
    )


def add_tiles(group: argparse._ArgumentGroup) -> None:
    """How much of a picture the autoencoder's engines hold."""
    group.add_argument(
        "--vae-tile-pixels",
        type=whole,
        metavar="N",
        help="largest picture that the autoencoder computes whole, others in tiles (default: all of them whole)",
    )


def add_edits(group: argparse._ArgumentGroup) -> None:
    """What edits may be, and are where their callers say nothing."""
    group.add_argument(
        "--max-pixels",
        type=whole,
        default=512 * 512,
        metavar="N",
        help="largest picture, width x height (default: %(default)s, which is 512 x 512)",
    )
    group.add_argument(
        "--max-images", type=whole, metavar="N", help="most pictures of one request (default: the family's)"
    )
    group.add_argument(
        "--default-steps", type=whole, metavar="N", help="steps where callers name none (default: the family's)"
    )
    group.add_argument(
        "--shift",
        type=number,
        metavar="X",
        help="of the noise schedule, whatever the picture's size (default: the checkpoint's, which may grow with it)",
    )
    group.add_argument(
        "--adapter-defaults",
        action="append",
        default=[],
        metavar="ROUTE=steps:N,guidance:X,shift:Y",
        help="what an adapter's edits have where callers say nothing; any of the three, once for each adapter",
    )
    group.add_argument(
        "--guidance-when-zero",
        type=number,
        metavar="X",
        help="guidance scale where callers send 0; 1: none (default: the family's)",
    )
    group.add_argument(
        "--cache",
        default=OFF,
        metavar="HOW",
        help=f"{' or '.join(CACHES)}: step caching where callers name none (default: %(default)s)",
    )


def options() -> str:
    """The `--option`s of all families, with what they mean."""
    tables = (load_family(family, "table") for family in sorted(set(families.PIPELINES.values())))
    return "; ".join(f"{name} ({help_})" for table in tables for name, help_ in table.OPTIONS.items())


def check_ranges(flags: argparse.Namespace) -> None:
    """Raises BadInputError naming the flag that is out of range."""
    guidance = flags.guidance_when_zero
    if not SMALLEST_BUDGET <= flags.max_pixels <= LARGEST_BUDGET:
        raise BadInputError(f"--max-pixels must be {SMALLEST_BUDGET} to {LARGEST_BUDGET}")
    if flags.vae_tile_pixels is not None and not SMALLEST_BUDGET <= flags.vae_tile_pixels <= LARGEST_BUDGET:
        raise BadInputError(f"--vae-tile-pixels must be {SMALLEST_BUDGET} to {LARGEST_BUDGET}")
    if not 1 <= flags.max_batch <= LARGEST_BATCH:
        raise BadInputError(f"--max-batch must be 1 to {LARGEST_BATCH}")
    if flags.max_images is not None and not 1 <= flags.max_images <= MOST_IMAGES:
        raise BadInputError(f"--max-images must be 1 to {MOST_IMAGES}")
    if flags.default_steps is not None and not 1 <= flags.default_steps <= MAX_STEPS:
        raise BadInputError(f"--default-steps must be 1 to {MAX_STEPS}")
    if flags.shift is not None and not adapter_defaults.SHIFTS[0] <= flags.shift <= adapter_defaults.SHIFTS[1]:
        raise BadInputError("--shift must be {:g} to {:g}".format(*adapter_defaults.SHIFTS))
    if flags.cache not in CACHES:
        raise BadInputError(f"--cache must be {' or '.join(CACHES)}")
    if guidance is not None and not (math.isfinite(guidance) and 1 <= guidance <= MAX_GUIDANCE):
        raise BadInputError(f"--guidance-when-zero must be 1 to {MAX_GUIDANCE:g}")


def export(flags: argparse.Namespace) -> None:
    """Runs the export. Raises ExportError."""
    check_ranges(flags)
    own_defaults = adapter_defaults.parse(flags.adapter_defaults)
    engine = load(flags.engine, [target for target in flags.compute_capability.split(",") if target])
    precisions = Precisions.parse(flags.precision, engine)
    checkpoint = find(flags.model, flags.revision)
    for beside in filter(None, (flags.safety_checker, flags.preview_decoder)):
        require_readable(beside)
    hide_bars()
    # Imported late: torch and diffusers take seconds, and a wrong flag should not.
    from export import adapters, rehearsal, run  # noqa: PLC0415

    chosen = run.Options(
        Limits(flags.max_pixels, flags.max_batch, flags.max_images, frozenset(flags.option)),
        precisions,
        flags.default_steps,
        flags.guidance_when_zero,
        flags.vae_tile_pixels,
        adapters.find(flags.adapter, adapters.prefixes_of(checkpoint.family) if flags.adapter else ()),
        flags.safety_checker,
        flags.preview_decoder,
        flags.shift or 0.0,
        own_defaults,
        flags.calibration or rehearsal.OWN,
        flags.accept_quality,
        flags.cache,
    )
    report = Report()
    run.export(checkpoint, engine, chosen, Store(flags.repository), report)
    report.close()
    print(f"installed in {flags.repository}: {engine.name}")


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
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends as Ctrl-C does, processes and all
    sys.exit(main())
