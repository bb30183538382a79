"""How a plan is launched: by one execution context for whatever shapes come, or by a CUDA graph for each set of shapes.

TensorRT for RTX captures graphs by itself, for whatever shape its one context is given. TensorRT has them captured, and
a graph stands for the state in which its context was: so every set of shapes has a context of its own beside its graph.
All work in the same memory of the GPU, since one is launched at a time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from backends.cuda import GpuLostError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from backends.cuda import Cuda

GRAPHS_AT_MOST = 32
"""Sets of shapes; the one that was used longest ago goes. There are as many as there are sizes of pictures at a time,
times the numbers of rows of a call."""

Shapes = dict[str, tuple[int, ...]]


class Launches(Protocol):
    """What a plan needs of its contexts."""

    @property
    def context(self) -> Any:
        """That of the shapes taken last."""

    def take(self, shapes: Shapes) -> None:
        """Shapes of all inputs. Raises ValueError naming an input whose shape the engine does not take."""

    def place(self, addresses: Mapping[str, int]) -> None:
        """Of all tensors, for good."""

    def run(self, stream: Any) -> None:
        """Starts the engine on a stream, with the shapes taken last. Raises RuntimeError."""


class Following:
    """One context, which takes whatever comes."""

    def __init__(self, context: Any) -> None:
        self.context = context
        self._shapes: Shapes = {}

    def take(self, shapes: Shapes) -> None:
        """As Launches says."""
        if shapes != self._shapes:
            self._shapes = {}
            shape_inputs(self.context, shapes)
            self._shapes = shapes

    def place(self, addresses: Mapping[str, int]) -> None:
        """As Launches says."""
        place(self.context, addresses)

    def run(self, stream: Any) -> None:
        """As Launches says."""
        run(self.context, stream)


@dataclass
class _Launch:
    """`ran`: whether a call has; `tried`: whether one was to be captured."""

    context: Any
    graph: Any = None
    ran: bool = False
    tried: bool = False


class Graphs:
    """A context and a graph for each set of shapes. What comes once is not captured, nor what cannot be."""

    def __init__(self, trt: Any, engine: Any, cuda: Cuda) -> None:
        """Raises RuntimeError where the GPU has too little memory."""
        self._trt, self._engine, self._cuda = trt, engine, cuda
        self._addresses: Mapping[str, int] = {}
        self._bytes = max(1, engine.device_memory_size_v2)
        self._memory = cuda("cuMemAlloc", self._bytes)
        self._launches: dict[tuple[tuple[str, tuple[int, ...]], ...], _Launch] = {}  # the one used last comes last

    @property
    def context(self) -> Any:
        """As Launches says."""
        return self._last.context

    @property
    def _last(self) -> _Launch:
        return next(reversed(self._launches.values()))

    def take(self, shapes: Shapes) -> None:
        """As Launches says. Raises RuntimeError where there is no memory for one more context than the last one."""
        key = tuple(shapes.items())
        launch = self._launches.pop(key) if key in self._launches else _Launch(self._made(shapes))
        self._launches[key] = launch
        while len(self._launches) > GRAPHS_AT_MOST:
            self._forget_oldest()

    def place(self, addresses: Mapping[str, int]) -> None:
        """As Launches says."""
        self._addresses = addresses
        for launch in self._launches.values():
            place(launch.context, addresses)

    def run(self, stream: Any) -> None:
        """As Launches says. A first call of a shape does what cannot be captured; the second one is."""
        launch = self._last
        if launch.ran and not launch.tried:
            launch.graph, launch.tried = self._captured(launch.context, stream), True
        if launch.graph is None or not self._launched(launch, stream):
            run(launch.context, stream)
        launch.ran = True

    def _launched(self, launch: _Launch, stream: Any) -> bool:
        """Whether its graph was. One that cannot be goes: it has no room beside what has come since, say."""
        try:
            self._cuda("cuGraphLaunch", launch.graph, stream)
        except GpuLostError:
            raise
        except RuntimeError:
            self._destroy(launch)
            return False
        return True

    def _destroy(self, launch: _Launch) -> None:
        """Its graph, if it has one."""
        graph, launch.graph = launch.graph, None
        if graph is not None:
            self._cuda("cuGraphExecDestroy", graph)

    def _forget_oldest(self) -> None:
        """With its context."""
        self._destroy(self._launches.pop(next(iter(self._launches))))

    def _made(self, shapes: Shapes) -> Any:
        """A new context, in the room of those used longest ago where there is none: they can be made again, and would
        else keep all other shapes out."""
        while True:
            try:
                return self._new(shapes)
            except RuntimeError:
                if len(self._launches) < 2:
                    raise
            self._forget_oldest()

    def _new(self, shapes: Shapes) -> Any:
        context = new_context(self._engine, self._trt.ExecutionContextAllocationStrategy.USER_MANAGED)
        context.set_device_memory(int(self._memory), self._bytes)
        shape_inputs(context, shapes)
        place(context, self._addresses)
        return context

    def _captured(self, context: Any, stream: Any) -> Any:
        """The graph of a call, which is not computed; None where it cannot be captured, or has no room."""
        modes = self._cuda.driver.CUstreamCaptureMode
        try:
            self._cuda("cuStreamBeginCapture", stream, modes.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL)
        except RuntimeError:
            return None
        try:
            begun = context.execute_async_v3(int(stream))
        except Exception:  # noqa: BLE001 - what is wrong with it is said where it runs without
            begun = False
        try:
            graph = self._cuda("cuStreamEndCapture", stream)  # whatever came: else the stream would stay as it is
        except RuntimeError:
            return None
        try:
            return self._cuda("cuGraphInstantiate", graph, 0) if begun else None
        except RuntimeError:  # a graph has memory of its own on the GPU
            return None
        finally:
            self._cuda("cuGraphDestroy", graph)


def new_context(engine: Any, *how: Any) -> Any:
    """An execution context. Raises RuntimeError where the GPU has too little memory: TensorRT gives none then."""
    context = engine.create_execution_context(*how)
    if context is None:
        raise RuntimeError("the engine has no room for one more execution context")
    return context


def shape_inputs(context: Any, shapes: Shapes) -> None:
    """Raises ValueError naming an input whose shape the engine does not take."""
    for name, shape in shapes.items():
        if not context.set_input_shape(name, shape):
            raise ValueError(f"{name} of shape {shape} is outside the engine's profile")


def place(context: Any, addresses: Mapping[str, int]) -> None:
    """Where each tensor lies in the GPU's memory."""
    for name, address in addresses.items():
        context.set_tensor_address(name, address)


def run(context: Any, stream: Any) -> None:
    """Raises RuntimeError where it does not begin."""
    if not context.execute_async_v3(int(stream)):
        raise RuntimeError("the engine did not run")
