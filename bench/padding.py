"""What a call of a transformer costs by itself, in tokens, and what it costs to mask: which edits may share one.

    python -m bench padding [--layers N] [--width N] [--tokens N,N,...]

Blocks as FLUX.2 klein 4B has most of, in bf16 with random weights, in torch: on a GPU in one CUDA graph, which leaves
the launches out. With half as many rows two calls take the seconds of one more than it: so many tokens of padding would
be worth the call that is saved.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional

HEAD, RATIO = 128, 3
ROWS, ROUNDS = (1, 2, 4), 7
Weights = Sequence[tuple[Tensor, Tensor]]


def blocks(layers: int, width: int, device: str) -> Weights:
    """Of each block what comes before attention, and what comes after it."""
    shapes = ((3 + 2 * RATIO) * width, width), (width, (1 + RATIO) * width)
    return [
        tuple(0.02 * torch.randn(shape, device=device, dtype=torch.bfloat16) for shape in shapes)  # type: ignore[misc]
        for _ in range(layers)
    ]


def run(weights: Weights, states: Tensor, mask: Tensor | None) -> Tensor:
    """(rows, tokens, width) -> the same; `mask` (rows, 1, 1, tokens)."""
    width = states.shape[2]
    for before, after in weights:
        made = functional.linear(functional.layer_norm(states, (width,)), before)
        *parts, gate, up = torch.split(made, [width] * 3 + [RATIO * width] * 2, dim=-1)
        query, key, value = (part.view(*part.shape[:2], -1, HEAD).transpose(1, 2) for part in parts)
        seen = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask).transpose(1, 2).flatten(2)
        states = states + functional.linear(torch.cat([seen, functional.silu(gate) * up], dim=-1), after)
    return states


def repeated(call: Callable[[], object], device: str) -> Callable[[], object]:
    """The call as it is timed."""
    if device == "cpu":
        return call
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    with torch.cuda.stream(stream):
        call()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()

    def replay() -> None:
        graph.replay()
        torch.cuda.synchronize()

    return replay


def milliseconds(calls: Sequence[Callable[[], object]]) -> list[float]:
    """Medians of each, taken in turns."""
    taken: list[list[float]] = [[] for _ in calls]
    for _ in range(ROUNDS + 1):
        for call, found in zip(calls, taken, strict=True):
            began = time.perf_counter()
            call()
            found.append((time.perf_counter() - began) * 1000)
    return [statistics.median(found[1:]) for found in taken]


def saved(half: float, whole: float, tokens: int) -> float:
    """Tokens that two calls of `half` milliseconds take more than one `whole` of so many tokens."""
    return (2 * half - whole) / (whole / tokens)


@torch.inference_mode()
def main() -> None:
    """Prints a line for each number of tokens."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    parser = argparse.ArgumentParser(prog="bench padding")
    parser.add_argument("--layers", type=int, default=20 if device == "cuda" else 2)
    parser.add_argument("--width", type=int, default=3072 if device == "cuda" else 768)
    parser.add_argument("--tokens", default="768,1024,1536,2048,4096,8704" if device == "cuda" else "256,512,1024")
    options = parser.parse_args()
    weights = blocks(options.layers, options.width, device)
    print("tokens a row | ms of 1, 2, 4 rows | a mask's cost | tokens saved by 2 rows of 1 + 1, 4 of 2 + 2, masked")
    for tokens in map(int, options.tokens.split(",")):
        calls = []
        for masked in (False, True):
            for rows in ROWS:
                states = torch.randn(rows, tokens, options.width, device=device, dtype=torch.bfloat16)
                mask = torch.ones(rows, 1, 1, tokens, device=device, dtype=torch.bool) if masked else None
                calls.append(repeated(lambda states=states, mask=mask: run(weights, states, mask), device))  # type: ignore[misc]
        print(line(tokens, milliseconds(calls)))


def line(tokens: int, found: Sequence[float]) -> str:
    """Of milliseconds without a mask, then with one, each by rows."""
    plain, masked = found[: len(ROWS)], found[len(ROWS) :]
    costs = (f"{after / before - 1:+.1%}" for before, after in zip(plain, masked, strict=True))
    pairs = zip(masked, masked[1:], ROWS[1:], strict=False)
    worth = (f"{saved(half, whole, rows * tokens):.0f}" for half, whole, rows in pairs)
    return " | ".join((str(tokens), " ".join(f"{ms:.2f}" for ms in plain), " ".join(costs), " ".join(worth)))
