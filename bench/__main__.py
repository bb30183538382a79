"""All measurements by one command: `python -m bench NAME [FLAGS]`. Each says with `--help` what it takes."""

import sys
from importlib import import_module

BENCHES = {
    "compare": "Tritouch beside diffusers and a plain server around it: seconds, and the pictures' likeness",
    "overhead": "where the milliseconds of an edit go, and the share that is not spent in engines",
    "roofline": "how near the engines come to what this processor can do",
    "inflight": "long and short edits together, in flight and one at a time",
    "streams": "the unary front and streams, several pictures of one request, callers who leave",
    "traces": "what spans cost, and what they look like",
    "cold": "the first edits after a start, with and without warm-up",
    "vae": "the autoencoder at large pictures, whole and in tiles: seconds, memory, likeness",
    "memory": "resident memory of the whole stack beside the diffusers process",
    "cache": "what step caching saves of an edit, and how near its pictures are",
    "upsampling": "what a picture costs that is made twice as large and convolved, as written and by quarters",
    "precisions": "what engines of fewer bits gain in a call of the denoiser",
    "adapters": "what adapters cost in a call of the denoiser",
    "busy": "the share of time in which the denoiser computes, where a step is short",
    "padding": "what a transformer's call costs by itself, in tokens of padding, and what a mask costs",
    "handover": "what a step costs outside a denoiser whose inputs are large",
    "load": "the gateway under load, before a Triton that does nothing but take its time",
    "replica": "what the simulation of fleets is fed with, measured on one replica",
    "fleet": "up to 256 simulated replicas behind a balancer: seconds, utilisation, bursts, dying pods",
    "fleet_check": "the simulation beside one and three real replicas",
    "export_memory": "what an export takes of memory, beside its weights",
    "tensorrt": "what compiling a model of full size costs; needs no GPU",
    "gateway": "how many small edits a second one gateway does, and what they cost it",
    "spread": "edits spread by least in flight beside round robin, before Tritons that are stubs",
    "gpu": "the engines on this machine's GPU",
}


def main() -> int:
    """Hands the command line on to the bench that it names. Returns its exit code, 2 where none is named."""
    if len(sys.argv) < 2 or sys.argv[1] not in BENCHES:
        print("usage: python -m bench NAME [FLAGS]\n")
        print("\n".join(f"  {name:<15}{what}" for name, what in BENCHES.items()))
        return 2
    name = sys.argv.pop(1)
    sys.argv[0] = f"bench {name}"
    return int(import_module(f"bench.{name}").main() or 0)


if __name__ == "__main__":
    sys.exit(main())
