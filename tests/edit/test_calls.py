"""Calls beside a stand-in for Triton's module: a large picture never keeps a small one waiting."""

import importlib
import sys
import threading
import types
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any

import numpy as np
import pytest

from families.interface import REFERENCE
from tests.families.images import files

LARGE = files.blank(8192, 6144, 1, files.GREY)
SMALL = files.blank(64, 64, 1, files.GREY)
SECONDS = 30


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setitem(sys.modules, "triton_python_backend_utils", types.ModuleType("triton_python_backend_utils"))
    yield importlib.import_module("calls")
    sys.modules.pop("calls", None)


def test_small_pictures_pass_large_ones(calls: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    release, begun = threading.Event(), threading.Semaphore(0)
    decoding: list[bytes] = []

    def call(model: str, inputs: Any, outputs: Any) -> dict[str, Any]:
        decoding.append(inputs["image"][0])
        if inputs["image"][0] is LARGE:
            begun.release()
            assert release.wait(SECONDS)
        return {}

    monkeypatch.setattr(calls, "call", call)
    settings = types.SimpleNamespace(banks={}, outputs={REFERENCE: ("image_latents",)})
    with ThreadPoolExecutor(9) as threads:

        def ask(image: bytes) -> Any:
            given = {"image": np.array([image], np.object_)}
            return threads.submit(calls.EditCall(settings, (), threads), REFERENCE, given)

        large = [ask(LARGE) for _ in range(8)]
        for _ in range(calls.LARGE_AT_ONCE):
            assert begun.acquire(timeout=SECONDS)
        ask(SMALL).result(SECONDS)
        assert decoding.count(LARGE) == calls.LARGE_AT_ONCE
        release.set()
        assert not wait(large, SECONDS).not_done
    assert decoding.count(LARGE) == len(large)


def test_every_row_has_those_of_the_edits_adapters_that_change_the_model(calls: Any) -> None:
    settings = types.SimpleNamespace(banks={"denoiser": (1, 2, 7), "text_encoder": (3, 7)})
    edit = ((2, 0.5), (3, 2.0), (7, -1.0))
    none, two = calls.bank_rows(settings, "denoiser", (), 3), calls.bank_rows(settings, "denoiser", edit, 2)
    assert calls.bank_rows(settings, "text_encoder", edit, 1)["adapter"].tolist() == [[3, 7]]
    assert calls.bank_rows(settings, "text_encoder", ((2, 0.5),), 1)["adapter"].tolist() == [[0]]
    assert calls.bank_rows(settings, "vae_encoder", edit, 1) == {}
    assert none["adapter"].tolist() == [[0]] * 3
    assert none["adapter_scale"].tolist() == [[0.0]] * 3
    assert two["adapter"].tolist() == [[2, 7]] * 2
    assert two["adapter_scale"].tolist() == [[0.5, -1.0]] * 2
    assert [array.dtype for array in two.values()] == [np.int32, np.float32]


def test_a_failure_that_the_cache_remembers_is_no_answer(calls: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    sent = []

    def call(model: str, inputs: Any, outputs: Any) -> dict[str, Any]:
        sent.append(inputs["input_ids"])
        return {} if len(sent) in (1, 3, 4) else {"states": inputs["input_ids"] * 2}

    monkeypatch.setattr(calls, "call", call)
    settings = types.SimpleNamespace(banks={}, outputs={"text_encoder": ("states",)})
    encode = calls.EditCall(settings, (), ThreadPoolExecutor(1))
    ids = np.array([[1, 2], [3, 4]])
    assert encode("text_encoder", {"input_ids": ids})["states"].tolist() == [[2, 4], [6, 8]]
    assert [len(rows) for rows in sent] == [2, 4], "the second question is another one to the cache"
    with pytest.raises(calls.ModelError, match="text_encoder answered nothing"):
        encode("text_encoder", {"input_ids": ids})
