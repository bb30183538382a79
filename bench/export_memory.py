"""What an export takes of memory: a transformer at its real widths, with random weights in bf16 and fewer blocks.

    python -m bench export_memory [--model klein] [--blocks 5,13] [--precision bf16] [--work DIR]
                                  [--compute-capability 8.9,12.0]

One component is made in a process of its own, as an export makes it, and looked at fifty times a second. Anonymous
memory is what the system cannot take back; pages of files, which it can, count in what is resident. Then a fresh one
compiles the made engine and calls it where the export did, and no more: what it takes for that is the compiler's own.
With `--compute-capability` a plan of TensorRT for RTX is made instead, for these GPUs; it runs on none of them here.
Wants disk for twice the weights.
"""

import json
import multiprocessing
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch

from bench import report
from bench.setups import BUILD
from families.interface import DENOISER, Component, Limits, Table

MADE = "made"
LOOK_SECONDS = 0.02
SHARD_BYTES = 1 << 30
SEED = 2026
GIB = 1 << 30


@dataclass(frozen=True)
class Model:
    """Which transformer: diffusers' class and its config but for the numbers of blocks, which `blocks` names.

    `beside`: of the rest of its checkpoint what the family's table reads, by file.
    """

    family: str
    network: str
    config: Mapping[str, Any]
    blocks: Mapping[str, int]
    """As many as are made unless others are asked for."""
    beside: Mapping[str, Mapping[str, Any]]


MODELS = {
    "klein": Model(  # FLUX.2 klein 4B, which has 5 double and 20 single blocks
        "flux2_klein",
        "Flux2Transformer2DModel",
        {
            "in_channels": 128,
            "attention_head_dim": 128,
            "num_attention_heads": 24,
            "joint_attention_dim": 7680,
            "guidance_embeds": False,
        },
        {"num_layers": 5, "num_single_layers": 13},
        {
            "model_index.json": {"_class_name": "Flux2KleinPipeline", "is_distilled": True},
            "text_encoder/config.json": {"vocab_size": 151936, "hidden_size": 2560, "num_hidden_layers": 36},
            "vae/config.json": {"block_out_channels": [128, 256, 512, 512], "latent_channels": 32},
        },
    ),
    "qwen": Model(  # Qwen-Image-Edit-2511, which has 60 blocks
        "qwen_image_edit",
        "QwenImageTransformer2DModel",
        {"zero_cond_t": True},
        {"num_layers": 8},
        {
            "model_index.json": {"_class_name": "QwenImageEditPlusPipeline"},
            "text_encoder/config.json": {"vocab_size": 152064, "hidden_size": 3584},
            "vae/config.json": {"temperal_downsample": [False, True, True], "z_dim": 16},
            "processor/preprocessor_config.json": {
                "min_pixels": 3136,
                "max_pixels": 12845056,
                "image_mean": [0.48145466, 0.4578275, 0.40821073],
                "image_std": [0.26862954, 0.26130258, 0.27577711],
            },
        },
    ),
}


@dataclass(frozen=True)
class How:
    """What engine is made: for OpenVINO where there are no `targets`, compute capabilities of GPUs."""

    family: str
    precision: str
    targets: tuple[str, ...]

    @property
    def engine(self) -> str:
        """Its kind."""
        return "tensorrt_rtx" if self.targets else "openvino"


@dataclass
class Peak:
    """The most of each kind of memory during one stage, in GiB."""

    stage: str
    anonymous: float = 0.0
    resident: float = 0.0
    seconds: float = 0.0

    def __str__(self) -> str:
        sizes = f"anonymous {self.anonymous:6.2f} GiB   resident {self.resident:6.2f} GiB"
        return f"{self.stage:<38}{self.seconds:7.1f} s   {sizes}"

    def look(self, pid: int) -> None:
        """Looks at a process once more."""
        try:
            lines = Path(f"/proc/{pid}/status").read_text("utf-8").splitlines()
        except OSError:
            return  # it has ended meanwhile
        sizes = {
            line.split(":")[0]: int(line.split()[1]) * 1024 / GIB for line in lines if line.startswith(("Rss", "VmRSS"))
        }
        self.anonymous = max(self.anonymous, sizes.get("RssAnon", 0.0) + sizes.get("RssShmem", 0.0))
        self.resident = max(self.resident, sizes.get("VmRSS", 0.0))


def checkpoint(folder: Path, model: Model, blocks: Mapping[str, int]) -> int:
    """Writes configs and the transformer's weights, in shards. Returns their bytes."""
    import diffusers  # noqa: PLC0415 - seconds, and not in every process
    from accelerate import init_empty_weights  # noqa: PLC0415

    with init_empty_weights():
        network = getattr(diffusers, model.network)(**model.config, **blocks)
    for name, content in {**model.beside, "transformer/config.json": dict(network.config)}.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(content))
    shapes = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    return _write(folder / "transformer", shapes)


def _write(folder: Path, shapes: dict[str, tuple[int, ...]]) -> int:
    from safetensors.torch import save_file  # noqa: PLC0415

    generator, weight_map, total = torch.Generator().manual_seed(SEED), dict[str, str](), 0
    for number, names in enumerate(_shards(shapes)):
        shard = {name: _random(shapes[name], generator) for name in names}
        file = f"diffusion_pytorch_model-{number + 1:05d}.safetensors"
        save_file(shard, folder / file, {"format": "pt"})
        weight_map |= dict.fromkeys(names, file)
        total += sum(tensor.nbytes for tensor in shard.values())
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    (folder / "diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps(index))
    return total


def _random(shape: tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
    """Such that what a layer makes of unit noise is half as large, and bf16 does not lose itself in the depth."""
    wide: torch.Tensor = torch.randn(shape, generator=generator) * (0.5 / shape[-1] ** 0.5)
    return wide.bfloat16()


def _shards(shapes: dict[str, tuple[int, ...]]) -> Iterator[list[str]]:
    names, size = list[str](), 0
    for name, shape in shapes.items():
        names.append(name)
        size += 2 * torch.Size(shape).numel()
        if size >= SHARD_BYTES:
            yield names
            names, size = [], 0
    if names:
        yield names


@dataclass(frozen=True)
class Bar:
    """Hands the stages on to the process that looks."""

    said: Any

    def __call__(self, stage: str) -> None:
        self.said.put(stage)

    def part(self, done: float) -> None:
        """Of a stage: nothing that is looked at."""


def make(said: Any, folder: Path, how: How) -> None:
    """Makes the denoiser: the whole of a process."""
    from export.adapters import Bank  # noqa: PLC0415 - torch and more, which only this process may hold
    from export.checkpoint import Checkpoint  # noqa: PLC0415
    from export.component.build import Builder, Make  # noqa: PLC0415
    from export.engines import load  # noqa: PLC0415
    from families import load as load_family  # noqa: PLC0415

    found = Checkpoint(folder, how.family, "FlowMatchEulerDiscreteScheduler")
    component = _denoiser(folder, how.family)
    (folder / MADE).mkdir()
    modules = load_family(how.family, "modules")
    builder = Builder(found, modules, load(how.engine, how.targets), Bank((), (), {}), folder, folder)
    builder.build(Make(component, how.precision, ""), folder / MADE, Bar(said))


def compile_alone(said: Any, folder: Path, how: How) -> None:
    """Compiles the made engine and calls it where the export has compared it: the whole of a process."""
    from export.engines import Work, load  # noqa: PLC0415
    from families import load as load_family  # noqa: PLC0415

    component, generator = _denoiser(folder, how.family), torch.Generator()
    sample = load_family(how.family, "modules").sample
    said.put("compiler alone")
    run = load(how.engine).open(Work(folder, component, how.precision, folder / MADE / "1", folder))
    for compared in json.loads((folder / MADE / "component.json").read_text("utf-8"))["compared"]:
        counts = map(int, compared.partition(" of ")[0].split(" x "))
        sizes = dict(zip(component.shapes[0], counts, strict=True))
        run({one.name: sample(one, one.shape(sizes), generator).numpy() for one in component.inputs})


def _denoiser(folder: Path, family: str) -> Component:
    from families import load  # noqa: PLC0415

    table = cast("Table", load(family, "table"))
    return next(c for c in table.components(folder, Limits(512 * 512, 12)) if c.name == DENOISER)


def watch(work: Callable[[Any, Path, How], None], folder: Path, how: How) -> list[Peak]:
    """Runs `work` in a process, looks at it until it ends, and prints. Raises RuntimeError where it fails."""
    context = multiprocessing.get_context("spawn")
    said, peaks = context.SimpleQueue(), [Peak("starting")]
    process = context.Process(target=work, args=(said, folder, how), daemon=True)
    process.start()
    began = time.monotonic()
    while process.is_alive():
        while not said.empty():
            print(peaks[-1], flush=True)
            peaks.append(Peak(said.get()))
            began = time.monotonic()
        peaks[-1].look(process.pid or 0)
        peaks[-1].seconds = time.monotonic() - began
        time.sleep(LOOK_SECONDS)
    print(peaks[-1], flush=True)
    if process.exitcode != 0:
        raise RuntimeError(f"{work.__name__} ended with {process.exitcode}")
    return peaks


def main() -> int:
    """Measures and prints."""
    parser = report.parser(__doc__)
    parser.add_argument("--model", choices=MODELS, default="klein")
    parser.add_argument("--blocks", default="", help="of each kind; klein 4B has 5,20 and Qwen-Image-Edit 60")
    parser.add_argument("--precision", choices=("bf16", "fp32"), default="bf16")
    parser.add_argument(
        "--compute-capability", default="", help="one or more, separated by commas: for TensorRT for RTX"
    )
    parser.add_argument("--work", type=Path, default=BUILD / "export_memory", help="is made, and deleted at the end")
    options = parser.parse_args()
    model = MODELS[options.model]
    asked = map(int, options.blocks.split(",")) if options.blocks else model.blocks.values()
    blocks = dict(zip(model.blocks, asked, strict=True))
    how = How(model.family, options.precision, tuple(filter(None, options.compute_capability.split(","))))
    options.work.mkdir(parents=True)
    try:
        size = checkpoint(options.work, model, blocks)
        print(f"{model.network} of {blocks}: {size / 1e9:.2f} GB of weights, {size / GIB:.2f} GiB")
        made = watch(make, options.work, how)
        if how.targets:
            plan = (options.work / MADE / "1" / "model.plan").stat().st_size
            print(f"most {max(peak.anonymous for peak in made):.2f} GiB; a plan of {plan / 1e9:.2f} GB")
            return 0
        alone = watch(compile_alone, options.work, how)
    finally:
        shutil.rmtree(options.work)
    most, compiler = max(peak.anonymous for peak in made), alone[-1].anonymous - alone[0].anonymous
    print(f"most {most:.2f} GiB, of which the compiler's own {compiler:.2f}: beside it {most - compiler:.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
