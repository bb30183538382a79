"""Which layers of a module are narrowed, and how: by what they meet in the checkpoint's own edits.

A layer whose outputs narrowing moves most, for the arithmetic that it saves, stays wide: which ones these are is
measured and no list. NVFP4 is of matrix products: convolutions, and what does not divide into its blocks, take the
precision that the scheme has instead. Knows torch and no family.
"""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from export.component import nvfp4
from export.component.schemes import SCHEMES, Scheme
from export.component.weights import LAYERS, Weights, compute_device

WIDE_SHARE = 0.05
"""Of a module's arithmetic in layers, what may stay wide."""
PROBES = 3
"""Samples at which the layers are compared, spread over all of them."""
INT8_UNSIGNED, INT4, FP8 = 255, 7, 448.0
"""Largest numbers: steps of uint8, of symmetric int4, of E4M3."""
BLOCK = 64
"""Weights of one row that share a scale in int4."""
PRODUCT_AXES = (2, 3)
"""Of inputs that TensorRT rounds to NVFP4 as it goes."""


@dataclass(frozen=True)
class Layer:
    """`low` and `high`: least and largest number that went into it; both 0 where the weights alone are narrowed."""

    scheme: Scheme
    low: float = 0.0
    high: float = 0.0


@dataclass(frozen=True)
class Narrowed:
    """`layers`: those that are narrowed, by the identity of their modules. `wide`: names of those that are not, since
    it hurts them; `slower`: of those of other kinds than the engine is faster at."""

    layers: Mapping[int, Layer]
    wide: Sequence[str]
    slower: Sequence[str] = ()

    def counts(self) -> dict[str, int]:
        """How many layers take which type, and how many are wide."""
        return {
            **Counter(layer.scheme.weights for layer in self.layers.values()),
            "wide": len(self.wide) + len(self.slower),
        }


@dataclass(eq=False)
class _Seen:
    """What went through one layer. `error`: squares of what narrowing moves its outputs by; `square`: of them."""

    owner: nn.Module
    asked: Scheme
    axes: int = 0
    low: float = math.inf
    high: float = -math.inf
    flop: float = 0.0
    error: float = 0.0
    square: float = 0.0

    @property
    def layer(self) -> Layer:
        return Layer(scheme_of(self.owner, self.axes, self.asked), self.low, self.high)

    @property
    def relative(self) -> float:
        """The square of the relative error of its outputs."""
        return self.error / max(self.square, 1e-30)

    def range(self, _owner: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        """A forward hook that widens the range of inputs."""
        low, high = inputs[0].aminmax()
        self.low, self.high = min(self.low, float(low)), max(self.high, float(high))
        self.axes = max(self.axes, inputs[0].ndim)
        self.flop += 2.0 * output.numel() * self.owner.get_parameter("weight")[0].numel()

    def compare(self, _owner: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        """A forward pre-hook that adds up what rounding does, as an engine of the scheme rounds. The weight is lent."""
        weight, exact, layer = self.owner.get_parameter("weight"), self.owner.forward(*inputs), self.layer
        given, (values, scales) = weight.data, narrow_weight(weight, layer.scheme)
        weight.data = (values.float() * scales).view_as(weight)
        rounded = self.owner.forward(_rounded(inputs[0], layer), *inputs[1:])
        weight.data = given
        self.error += float((rounded - exact).double().square().sum())
        self.square += float(exact.double().square().sum())


def of(
    weights: Weights,
    scheme: Scheme,
    samples: Sequence[Sequence[Tensor]],
    told: Callable[[float], object] = lambda _part: None,
) -> Narrowed:
    """The layers of `weights.module` to narrow. `samples`: inputs in the table's order; for weights alone none.

    `told`: how much of the work is done, from 0 to 1.
    """
    owners = [owner for owner in weights.layers() if takes(owner, scheme)]
    if not scheme.activations:
        return Narrowed({id(owner): Layer(scheme) for owner in owners}, ())
    seen = [_Seen(owner, scheme) for owner in owners]
    with weights.computing(compute_device()) as compute:
        with ExitStack() as stack:
            for one in seen:
                stack.callback(one.owner.register_forward_hook(one.range).remove)
            for place, sample in enumerate(samples, 1):
                compute(*sample)
                told(place / (len(samples) + PROBES))
        used = [one for one in seen if one.flop]
        with ExitStack() as stack:
            for one in used:
                stack.callback(one.owner.register_forward_pre_hook(one.compare).remove)
            for place in range(PROBES):
                compute(*samples[len(samples) * (2 * place + 1) // (2 * PROBES)])
    names = {id(module): name for name, module in weights.module.named_modules()}
    wide = _sensitive(used)
    kept = {id(one.owner): one.layer for one in used if one not in wide}
    others = [owner for owner in weights.layers() if owner not in owners]
    return Narrowed(kept, tuple(names[id(one.owner)] for one in wide), tuple(names[id(owner)] for owner in others))


def takes(owner: nn.Module, scheme: Scheme) -> bool:
    """Whether a scheme is for layers as this one."""
    return isinstance(owner, tuple(LAYERS[kind] for kind in scheme.kinds)) or convolves(owner, scheme)


def convolves(owner: nn.Module, scheme: Scheme) -> bool:
    """Whether it is a linear layer that a scheme takes as a 1 x 1 convolution."""
    return isinstance(owner, nn.Linear) and scheme.convolves(owner.weight.shape)


def _sensitive(seen: Sequence[_Seen]) -> list[_Seen]:
    """The layers whose error is largest for their arithmetic, the worst first, within `WIDE_SHARE` of it all.

    One that has less of the error than of the arithmetic is none of them.
    """
    flop, error = sum(one.flop for one in seen), max(sum(one.relative for one in seen), 1e-30)
    chosen, left = list[_Seen](), WIDE_SHARE
    for one in sorted(seen, key=lambda one: one.relative / one.flop, reverse=True):
        cost = one.flop / flop
        if cost <= left and one.relative / error > cost:
            chosen.append(one)
            left -= cost
    return chosen


def scheme_of(owner: nn.Module, axes: int, asked: Scheme) -> Scheme:
    """What narrows a layer whose input has so many axes: `asked`, or what that has instead where it does not fit."""
    fits = isinstance(owner, nn.Linear) and axes in PRODUCT_AXES and owner.in_features % nvfp4.BLOCK == 0
    return SCHEMES[asked.instead] if asked.instead and not fits else asked


def _rounded(x: Tensor, layer: Layer) -> Tensor:
    if layer.scheme.weights == "nvfp4":
        return nvfp4.rounded(x, input_tensor_scale(layer))
    step, zero = input_scale(layer)
    if layer.scheme.weights == "fp8":
        return (x / step).clamp(-FP8, FP8).to(torch.float8_e4m3fn).float() * step
    return ((x / step).round() + zero).clamp(0, INT8_UNSIGNED).sub(zero) * step


def input_scale(layer: Layer) -> tuple[float, int]:
    """Step and zero point: E4M3 about 0, else uint8 from the least number to the largest, 0 among them."""
    low, high = min(layer.low, 0.0), max(layer.high, 0.0)
    if layer.scheme.weights == "fp8":
        return max(-low, high, 1e-12) / FP8, 0
    step = max(high - low, 1e-12) / INT8_UNSIGNED
    return step, round(-low / step)


def input_tensor_scale(layer: Layer) -> Tensor:
    """The scale of NVFP4 that all blocks of an input share; those of single blocks an engine finds as it goes."""
    return nvfp4.tensor_scale(torch.tensor(max(-layer.low, layer.high)))


def narrow_weight(weight: Tensor, scheme: Scheme) -> tuple[Tensor, Tensor]:
    """A weight (out, ...) -> its numbers (out, in) in the scheme's type, int4 in int8, and the scale of each row.

    In int4 (out, blocks, BLOCK) and (out, blocks, 1) where the row of a linear layer divides into blocks, as in NVFP4,
    whose numbers are in float32: weight = numbers x scale. A convolution's would not lie along one axis.
    """
    rows = weight.detach().float().flatten(1)
    if scheme.weights == "nvfp4":
        return nvfp4.narrow(rows, nvfp4.tensor_scale(rows.abs().amax()))
    if scheme.weights == "int4" and weight.ndim == 2 and rows.shape[1] % BLOCK == 0:
        rows = rows.view(len(rows), -1, BLOCK)
    most = {"int8": float(scheme.largest), "int4": float(INT4), "fp8": FP8}[scheme.weights]
    scale = rows.abs().amax(-1, keepdim=True).clamp(min=1e-12) / most
    if scheme.weights == "fp8":
        return (rows / scale).clamp(-FP8, FP8).to(torch.float8_e4m3fn), scale
    return (rows / scale).round().to(torch.int8), scale
