"""A stand-in for the module that Triton gives its Python models: what it is handed can be looked at."""

import importlib
import sys
import types
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

FINAL = 1


class Tensor:
    def __init__(self, name: str, array: Any) -> None:
        self._name, self._array = name, array

    def name(self) -> str:
        return self._name

    def as_numpy(self) -> Any:
        return self._array


class TritonError:
    INVALID_ARG, UNAVAILABLE, CANCELLED, INTERNAL = "INVALID_ARG", "UNAVAILABLE", "CANCELLED", "INTERNAL"

    def __init__(self, message: str, status: str = INTERNAL) -> None:
        self.status, self._message = status, message

    def message(self) -> str:
        return self._message


class Response:
    def __init__(self, output_tensors: Sequence[Tensor] = (), error: TritonError | None = None) -> None:
        self._tensors, self._error = list(output_tensors), error

    def output_tensors(self) -> list[Tensor]:
        return self._tensors

    def has_error(self) -> bool:
        return self._error is not None

    def error(self) -> TritonError | None:
        return self._error


class Sender:
    """Keeps what is sent: tensors by name as lists, or a fault's status and text; and whether that was the last."""

    def __init__(self) -> None:
        self.sent: list[tuple[Any, bool]] = []
        self.gone = False

    def send(self, response: Response | None = None, flags: int = 0) -> None:
        assert not any(last for _, last in self.sent), "nothing may follow the last response"
        told: Any = None
        if response is not None and response.has_error():
            error = response.error()
            assert error is not None
            told = error.status, error.message()
        elif response is not None:
            told = {tensor.name(): tensor.as_numpy().tolist() for tensor in response.output_tensors()}
        self.sent.append((told, flags == FINAL))

    def is_cancelled(self) -> bool:
        assert not any(last for _, last in self.sent), "who was answered must not be asked for"
        return self.gone


Answering = Callable[[dict[str, Any], dict[str, Any], int], Iterator[Response]]
"""A model that is called: inputs by name, parameters, timeout -> its responses."""


def module(answering: Answering | None = None) -> types.ModuleType:
    """The module; `answering` is the model that requests are handed to."""

    class InferenceRequest:
        def __init__(self, **given: Any) -> None:
            self._given = given

        def exec(self, decoupled: bool = False) -> Iterator[Response]:
            assert decoupled
            assert answering is not None
            inputs = {tensor.name(): tensor.as_numpy() for tensor in self._given["inputs"]}
            return answering(inputs, self._given["parameters"], self._given.get("timeout", 0))

    made: Any = types.ModuleType("triton_python_backend_utils")
    made.Tensor, made.TritonError, made.InferenceResponse = Tensor, TritonError, Response
    made.InferenceRequest = InferenceRequest
    made.PreferredMemory = lambda kind: kind
    made.TRITONSERVER_MEMORY_CPU = 0
    made.TRITONSERVER_RESPONSE_COMPLETE_FINAL = FINAL
    return made  # type: ignore[no-any-return]


def imported(monkeypatch: Any, name: str, answering: Answering | None = None) -> Iterator[Any]:
    """A model's module beside the stand-in; for fixtures."""
    monkeypatch.setitem(sys.modules, "triton_python_backend_utils", module(answering))
    sys.modules.pop(name, None)
    yield importlib.import_module(name)
    sys.modules.pop(name, None)


def request(
    inputs: Sequence[Tensor],
    timeout: int = 0,
    parameters: str = "",
    own: str | None = None,
    wanted: Sequence[str] = (
        "image",
        "size",
        "num_inference_steps",
        "guidance_scale",
        "image_guidance_scale",
        "cache",
        "tokens",
        "foretold",
    ),
) -> Any:
    """A request to a model. `own`: the context of the span that Triton makes of it. `wanted`: the outputs asked for."""
    return types.SimpleNamespace(
        requested_output_names=lambda: list(wanted),
        inputs=lambda: inputs,
        timeout=lambda: timeout,
        parameters=lambda: parameters,
        trace=lambda: types.SimpleNamespace(get_context=lambda: own),
    )


def int32(*values: int) -> Any:
    return np.array(values, np.int32)
