"""A stand-in for the module that Triton gives its models, and the toy repository."""

import importlib
import sys
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.toy import build


@pytest.fixture(scope="session")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The toy repository, to be left as it is."""
    return build(tmp_path_factory.mktemp("repository"))


class TritonError:
    INTERNAL, INVALID_ARG, CANCELLED = 1, 3, 7

    def __init__(self, message: str, code: int = INTERNAL) -> None:
        self.text, self.number = message, code


@dataclass
class Tensor:
    title: str
    array: Any

    def name(self) -> str:
        return self.title

    def as_numpy(self) -> Any:
        return self.array


@dataclass
class InferenceResponse:
    tensors: list[Tensor] = field(default_factory=list)
    error: TritonError | None = None


@dataclass
class Request:
    """A request as a model sees it."""

    arrays: dict[str, Any]
    wanted: tuple[str, ...] = ("y",)
    cancelled: bool = False
    said: str = ""

    def inputs(self) -> list[Tensor]:
        return [Tensor(name, array) for name, array in self.arrays.items()]

    def parameters(self) -> str:
        return self.said

    def requested_output_names(self) -> list[str]:
        return list(self.wanted)

    def is_cancelled(self) -> bool:
        return self.cancelled


@dataclass
class Backend:
    """The backend's modules, imported beside a stand-in for Triton's."""

    common: Any
    openvino: Any
    request: Callable[..., Request] = Request


@pytest.fixture
def backend(monkeypatch: pytest.MonkeyPatch) -> Iterator[Backend]:
    fake = types.ModuleType("triton_python_backend_utils")
    parts = {
        "TritonError": TritonError,
        "Tensor": Tensor,
        "InferenceResponse": InferenceResponse,
        "InferenceRequest": Request,
        "TritonModelException": type("TritonModelException", (Exception,), {}),
        "Logger": types.SimpleNamespace(
            log_info=lambda _message: None, warnings=(warnings := []), log_warn=warnings.append
        ),
    }
    for name, part in parts.items():
        setattr(fake, name, part)
    monkeypatch.setitem(sys.modules, fake.__name__, fake)
    names = ("backends.common", "backends.openvino.model")
    yield Backend(*(importlib.import_module(name) for name in names))
    for name in names:
        sys.modules.pop(name, None)
