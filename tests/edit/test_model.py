"""What `edit` reads of its environment and keeps of a request, beside a stand-in for Triton's module."""

import gc
import importlib
import sys
import types
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setitem(sys.modules, "triton_python_backend_utils", types.ModuleType("triton_python_backend_utils"))
    yield importlib.import_module("model")
    for name in ("model", "metrics"):
        sys.modules.pop(name, None)


class Array:
    """What a tensor holds; its copies are `made`."""

    def __init__(self, made: list["weakref.ref[Array]"]) -> None:
        self._made = made

    def copy(self) -> "Array":
        copy = Array(self._made)
        self._made.append(weakref.ref(copy))
        return copy


@dataclass
class Tensor:
    title: str
    array: Array

    def name(self) -> str:
        return self.title

    def as_numpy(self) -> Array:
        return self.array


def test_the_pictures_are_kept_for_preparing_alone(model: Any) -> None:
    pictures: list[weakref.ref[Array]] = []
    formats: list[weakref.ref[Array]] = []
    tensors = [Tensor("image", Array(pictures)), Tensor("response_format", Array(formats))]
    request = types.SimpleNamespace(inputs=lambda: tensors, timeout=lambda: 0)
    job = model.TritonPythonModel()._job(request, types.SimpleNamespace(is_cancelled=lambda: False))
    assert pictures[0]() is not None
    del job.prepare
    gc.collect()
    assert pictures[0]() is None
    assert formats[0]() is not None
