"""What one forward pass of a torch module costs, without computing it. Knows torch and no family."""

import math
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count


def _attention(query: Any, key: Any, value: Any, *_rest: Any, **_named: Any) -> int:
    """Of shapes (rows, heads, tokens, channels)."""
    return int(sdpa_flop_count(query, key, value))  # type: ignore[no-untyped-call]


COUNTED = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention}
"""What torch's own counter leaves out."""


@dataclass(frozen=True)
class Cost:
    """Floating point operations, and bytes of all tensors that are alive at once, weights apart.

    Attention counts as if its scores were written out, as an engine that does not fuse it does.
    """

    flop: float
    bytes: int


def of(module: torch.nn.Module, inputs: Sequence[torch.Tensor]) -> Cost:
    """The cost at these inputs, whose values do not matter."""
    memory = _Memory()
    with FakeTensorMode(allow_non_fake_inputs=True) as fakes, torch.no_grad():
        faked = [fakes.from_tensor(tensor) for tensor in inputs]
        with FlopCounterMode(display=False, custom_mapping=COUNTED) as counter, memory:
            module(*faked)
    return Cost(float(counter.get_total_flops()), memory.peak)


class _Memory(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds up what is alive."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.live = self.peak = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        if not (func.is_view or func._schema.is_mutable):
            for tensor in tree_leaves(made):
                if isinstance(tensor, torch.Tensor):
                    size = tensor.numel() * tensor.element_size()
                    self.live += size
                    weakref.finalize(tensor, self._free, size)
        scores = _scores(args[0], args[1]) if "scaled_dot_product" in func.__name__ else 0
        self.peak = max(self.peak, self.live + scores)
        return made

    def _free(self, size: int) -> None:
        self.live -= size


def _scores(query: torch.Tensor, key: torch.Tensor) -> int:
    """Bytes of the scores before and after softmax: (..., queries, channels), (..., keys, channels)."""
    return 2 * math.prod(query.shape[:-1]) * key.shape[-2] * query.element_size()
