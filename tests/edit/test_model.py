"""What `edit_stream` reads of its environment and keeps of a request, beside a stand-in for Triton's module."""

import gc
import importlib
import sys
import types
import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from families.edit import Edit


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setitem(sys.modules, "triton_python_backend_utils", types.ModuleType("triton_python_backend_utils"))
    yield importlib.import_module("model")
    for name in ("model", "calls", "metrics", "responses"):
        sys.modules.pop(name, None)


def tensor(name: str, value: int) -> Any:
    return types.SimpleNamespace(name=lambda: name, as_numpy=lambda: np.array([value], np.int32))


def test_no_preview_is_rendered_of_what_has_ended(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Previews wait for the decoder behind one another, and are late where steps are quick."""
    edit = Edit((b"a picture",), "p", 20, 1.0, 1.5, 7, (), "raw", (64, 64), (64, 64), (64, 64))
    monkeypatch.setattr(model, "read", lambda *_: edit)
    monkeypatch.setattr(model.Responses, "_send", lambda *_: None)
    rendered: list[str] = []
    edit_model = model.TritonPythonModel()
    edit_model._settings = edit_model._limits = edit_model._reporters = None
    edit_model._preview = "preview"
    edit_model._render = lambda _, model="render": rendered.append(model) or {}
    request = types.SimpleNamespace(inputs=lambda: [tensor("partial_images", 2)], timeout=lambda: 0)
    request.requested_output_names = list
    _, jobs = edit_model._taken(request, None, "")
    jobs[0].reports.tell_preview(5, {})
    jobs[0].finish({}, 0)
    jobs[0].reports.tell_preview(10, {})
    assert rendered == ["preview", "render"]


@pytest.mark.usefixtures("cycles_stay")
@pytest.mark.parametrize("previews", [0, 2])
def test_all_of_a_job_goes_with_it(model: Any, monkeypatch: pytest.MonkeyPatch, previews: int) -> None:
    edit = Edit((b"a picture",), "p", 20, 1.0, 1.5, 7, (), "raw", (64, 64), (64, 64), (64, 64))
    monkeypatch.setattr(model, "read", lambda *_: edit)
    edit_model = model.TritonPythonModel()
    edit_model._settings = edit_model._limits = edit_model._reporters = None
    asked = tensor("partial_images", previews)
    request = types.SimpleNamespace(inputs=lambda: [asked], timeout=lambda: 0, requested_output_names=list)
    taken, jobs = edit_model._taken(request, types.SimpleNamespace(is_cancelled=lambda: False), "")
    assert (jobs[0].reports is not None) == bool(previews)
    kept = [weakref.ref(taken), weakref.ref(jobs[0])]
    del taken, jobs
    assert [one() for one in kept] == [None, None]


def test_what_cannot_be_edited_as_it_is_asked_for_is_counted_and_told(
    model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted: list[Exception] = []
    told: list[Exception] = []
    monkeypatch.setattr(model, "send_error", lambda _, error: told.append(error))
    edit_model = model.TritonPythonModel()
    edit_model._settings = edit_model._limits = edit_model._tracing = None
    edit_model._batcher = types.SimpleNamespace(turned_away=counted.append)
    edit_model.execute([types.SimpleNamespace(inputs=list, parameters=str, get_response_sender=lambda: None)])
    assert [str(error) for error in told] == ["the input image is missing"]
    assert counted == told


def test_the_pictures_are_kept_for_preparing_alone(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[weakref.ref[Edit]] = []

    def read(given: Any, settings: Any, limits: Any) -> Edit:
        edit = Edit((b"a picture",), "p", 20, 1.0, 1.5, 7, (), "raw", (64, 64), (64, 64), (64, 64))
        made.append(weakref.ref(edit))
        return edit

    monkeypatch.setattr(model, "read", read)
    edit_model = model.TritonPythonModel()
    edit_model._settings = edit_model._limits = edit_model._reporters = None
    request = types.SimpleNamespace(inputs=list, timeout=lambda: 0, requested_output_names=list)
    taken, jobs = edit_model._taken(request, types.SimpleNamespace(is_cancelled=lambda: False), "")
    assert len(jobs) == 1
    assert made[0]() is not None
    del taken.prepare
    gc.collect()
    assert made[0]() is None
