"""A component's weights while it is made: small ones in memory, large ones where they lie until something needs them.

Tracing needs their types and shapes alone, and the comparison with torch those of one layer at a time. So what making a
component takes does not grow with its weights. Knows torch and no family.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from export.component.schemes import LayerKind
from families.parts.pretrained import DTYPES, location, narrowed, read, replace, reserve, tensors
from families.parts.weight_files import Stored

LARGE_BYTES = 16 << 10
"""What is smaller is read at once: norms, biases, what one module uses of another."""
GPU_SHARE = 0.7
"""Of a GPU's free memory, what weights may take there: the tensors need room beside them."""

LAYERS: Mapping[LayerKind, type[nn.Module]] = {"convolution": nn.Conv2d, "linear": nn.Linear}
"""What can be narrowed; convolutions are those of pictures."""

Compute = Callable[..., Sequence[Tensor]]
"""Inputs in the table's order -> all outputs."""


def compute_device() -> torch.device:
    """Where torch computes components: on a GPU, where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@dataclass(frozen=True)
class Large:
    """A parameter or buffer `name` of `owner`. `source`: where it lies, or itself where it is in memory."""

    owner: nn.Module
    name: str
    source: Stored | Tensor

    @property
    def dtype(self) -> torch.dtype:
        """As it lies."""
        return DTYPES[self.source.dtype] if isinstance(self.source, Stored) else self.source.dtype

    def read(self, dtype: torch.dtype) -> Tensor:
        """The weight, a float in `dtype`: it is in memory for as long as this is held."""
        tensor = read(self.source) if isinstance(self.source, Stored) else self.source
        return tensor.to(dtype) if tensor.is_floating_point() else tensor

    def placeholder(self, dtype: torch.dtype) -> Tensor:
        """Of its shape, and without content."""
        return reserve(self.source.shape, dtype if self.dtype.is_floating_point else self.dtype)


class Weights:
    """Those of `module`, rounded to `dtype`, in which it is traced.

    In the place of a large weight the module has a placeholder, and within `computing` the weight while its own module
    computes. So a weight that another module uses must be a small one.
    """

    def __init__(self, module: nn.Module, dtype: torch.dtype) -> None:
        self.module, self._rounded = module, dtype
        self._large: list[Large] = []
        for owner, name, tensor in tensors(module):
            where = location(tensor)
            if where is not None and where.bytes >= LARGE_BYTES:
                self._large.append(Large(owner, name, where))
            elif where is None and name in owner._parameters and tensor.nbytes >= LARGE_BYTES:
                self._large.append(Large(owner, name, tensor.detach()))
        self._place(dtype, torch.device("cpu"))

    def at(self, address: int) -> Large | None:
        """The large weight whose placeholder is there."""
        return self._by_address.get(address)

    def layers(self) -> list[nn.Module]:
        """Those that can be narrowed: with a large weight, each once, whose weight nothing else uses."""
        classes = tuple(LAYERS.values())
        return [one.owner for one in self._large if one.name == "weight" and isinstance(one.owner, classes)]

    def widen(self, dtype: torch.dtype) -> None:
        """From now on the module computes in `dtype`, with its weights rounded as before."""
        self._place(dtype, torch.device("cpu"))

    @contextmanager
    def computing(self, device: torch.device) -> Iterator[Compute]:
        """The module as a function, whose outputs are in main memory.

        On a GPU with room for all weights they lie there meanwhile; else each goes there while its layer computes.
        """

        def compute(*inputs: Tensor) -> Sequence[Tensor]:
            with torch.inference_mode():
                made = self.module(*(tensor.to(device) for tensor in inputs))
            return [tensor.cpu() for tensor in ([made] if isinstance(made, Tensor) else made)]

        self._place(self._dtype, device)
        with ExitStack() as stack:
            if self._fits(device):
                for large in self._large:
                    self._lend(large, device)
            else:
                self._hook(device, stack)
            yield compute
        self._place(self._dtype, torch.device("cpu"))

    def _place(self, dtype: torch.dtype, device: torch.device) -> None:
        """Small weights in `dtype` on `device`, and a placeholder for every large one."""
        large = {(id(one.owner), one.name) for one in self._large}
        for owner, name, tensor in tensors(self.module):
            if (id(owner), name) not in large:
                replace(owner, name, narrowed(owner, name, tensor, dtype).to(device))
        self._dtype, self._by_address = dtype, dict[int, Large]()
        for one in self._large:
            placeholder = one.placeholder(dtype)
            replace(one.owner, one.name, placeholder)
            self._by_address[placeholder.data_ptr()] = one

    def _fits(self, device: torch.device) -> bool:
        if device.type != "cuda":
            return False
        size = sum(one.placeholder(self._dtype).nbytes for one in self._large)
        return size < GPU_SHARE * torch.cuda.mem_get_info(device)[0]

    def _lend(self, one: Large, device: torch.device) -> None:
        weight = one.read(self._rounded)
        computed = weight.to(self._dtype) if weight.is_floating_point() else weight
        replace(one.owner, one.name, computed.to(device))

    def _hook(self, device: torch.device, stack: ExitStack) -> None:
        """Lends each module its large weights while it computes, until `stack` is closed."""
        by_owner: dict[nn.Module, list[Large]] = defaultdict(list)
        for one in self._large:
            by_owner[one.owner].append(one)
        for owner, own in by_owner.items():

            def lend(_owner: nn.Module, _inputs: Any, own: Sequence[Large] = own) -> None:
                for one in own:
                    self._lend(one, device)

            def take(_owner: nn.Module, _inputs: Any, _output: Any, own: Sequence[Large] = own) -> None:
                for one in own:
                    replace(one.owner, one.name, one.placeholder(self._dtype))

            stack.callback(owner.register_forward_pre_hook(lend).remove)
            stack.callback(owner.register_forward_hook(take, always_call=True).remove)
