"""Calls over a channel: both sides, and real sockets, without Triton between them."""

import contextlib
import json
import threading
import types
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

import channel
from backends import channel as engines
from backends.in_place import Place
from backends.signature import read_signature
from channel import Channel, Message, ModelError
from families.errors import InvalidEditError
from families.interface import Tensors
from jobs import StoppingError
from rows import JoinedRows
from shared_rows import SharedRows
from tests.edit.sharing import SAMPLE, TEXT, alone, check, part, predict

CONFIG = {
    "max_batch_size": 8,
    "input": [
        {"name": name, "data_type": "TYPE_FP32", "dims": list(dims)}
        for name, dims in {"sample": SAMPLE, "text": TEXT, "timestep": (1,)}.items()
    ],
    "output": [{"name": "prediction", "data_type": "TYPE_FP32", "dims": list(SAMPLE)}],
    "parameters": {"MAX_DIMS": {"string_value": f"text:{TEXT[0]},{TEXT[1]}"}},
}


class Engine:
    """The engine's process: its channels, and what comes over them."""

    def __init__(self) -> None:
        self.channels = engines.Channels(read_signature(CONFIG), self.infer)
        self.seconds: list[float] = []
        self.opened: list[str] = []
        self.refusing = 0
        self.failing = ""
        self.at_once, self.most = 0, 0
        self.takes_places = True
        self.channel = Channel(self.open, self.seconds.append)
        self.rows = SharedRows(self.channel, JoinedRows(predict))

    def open(self, some: Tensors, parameters: Mapping[str, str]) -> None:
        assert some
        if self.refusing:
            self.refusing -= 1
            raise ModelError("the stub process is not healthy")
        self.opened.append(parameters[engines.PARAMETER])
        self.channels.open(parameters[engines.PARAMETER])

    def forget_calls(self) -> None:
        """As of memories that are no longer mapped."""
        self.channels._memories._calls = {}

    def begin_anew(self) -> None:
        """As another process, which the caller finds by its next call."""
        self.channel.close()
        self.channels = engines.Channels(read_signature(CONFIG), self.infer)

    def said(self) -> list[bytes]:
        """What is sent from now on."""
        asked, said = self.channel._asked, list[bytes]()

        def listen(message: bytes, some: Tensors) -> bytes:
            said.append(message)
            return asked(message, some)

        self.channel._asked = listen  # type: ignore[method-assign]
        return said

    def infer(self, inputs: Tensors, place: Place | None = None) -> dict[str, Any]:
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        if self.failing:
            self.at_once -= 1
            raise RuntimeError(self.failing)
        found = predict(inputs)
        self.at_once -= 1
        if place is None or not self.takes_places:
            return {"prediction": found}
        there = place(found.dtype, found.shape)
        there[...] = found
        return {"prediction": there}


@pytest.fixture(params=["at its place", "copied there"])
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    made = Engine()
    made.takes_places = request.param == "at its place"
    yield made
    made.channel.close()


def test_predictions_come_over_one_channel_and_their_seconds(engine: Engine) -> None:
    for step in range(3):
        check(engine.rows, [part(1, step=step), part(2, rows=2, step=step)])
    assert len(engine.opened) == 1
    assert len(engine.seconds) == 3


def test_each_call_under_way_has_a_channel_and_the_engine_computes_one_at_a_time(engine: Engine) -> None:
    both = threading.Barrier(2)

    def denoise(edit: int) -> None:
        both.wait(60)
        for step in range(50):
            check(engine.rows, [part(edit, step=step, group=f"{edit}")])

    with ThreadPoolExecutor(2) as threads:
        list(threads.map(denoise, (1, 2)))
    assert len(set(engine.opened)) <= 2
    assert engine.most == 1


@pytest.mark.parametrize(
    ("said", "kind"), [("engine\n broke", ModelError), ("tritouch:prompt_invalid no", InvalidEditError)]
)
def test_a_call_that_fails_fails_alone(engine: Engine, said: str, kind: type[Exception]) -> None:
    engine.failing = said
    with pytest.raises(kind) as error:
        engine.rows([part(1)])
    assert "\n" not in str(error.value)
    engine.failing = ""
    check(engine.rows, [part(1)])
    assert len(engine.opened) == 1


def test_what_the_config_does_not_let_through_is_refused(engine: Engine) -> None:
    wrong = {
        "type": ("sample", np.zeros((1, *SAMPLE), np.float64), "sample float32 .* is float64"),
        "shape": ("sample", np.zeros((1, 64, 31), np.float32), r"\[1, 64, 31\] in memory"),
        "bound": ("text", np.zeros((1, 17, 100), np.float32), "may be at most"),
    }
    for group, (name, array, words) in wrong.items():
        one = part(1, group=group)
        target = one.constant if name in one.constant else one.changing
        target[name] = array
        with pytest.raises(ModelError, match=words):
            engine.rows([one])
    lacking = part(1, group="lacking")
    del lacking.constant["text"]
    with pytest.raises(ModelError, match="input text is missing"):
        engine.rows([lacking])


def test_inputs_that_differ_in_their_rows_are_refused(engine: Engine) -> None:
    def send(message: Message, some: Tensors) -> tuple[str, tuple[int, ...]]:
        told = json.loads(message.whole())
        told["tensors"]["timestep"][2][0] += 1
        uneven = json.dumps(told).encode()
        return engine.channel(types.SimpleNamespace(short=lambda: uneven, whole=lambda: uneven), some)

    with pytest.raises(ModelError, match="differ in their number of rows"):
        SharedRows(send, JoinedRows(predict))([part(1)])


class Gone(BaseException):
    """Ends the engine's thread, as its process would end."""


def test_an_engine_that_has_ended_fails_its_call_and_the_next_finds_another(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threading, "excepthook", lambda _: None)
    check(engine.rows, [part(1)])

    def ending(self: Any, said: bytes) -> bytes:
        raise Gone

    with monkeypatch.context() as ended:
        ended.setattr(engines.Channels, "_answer", ending)
        with pytest.raises(StoppingError, match="process has ended"):
            engine.rows([part(1, step=1)])
    engine.refusing = 1  # Triton has not seen it yet
    check(engine.rows, [part(1, step=1)])
    assert len(engine.opened) == 2


def test_an_engine_that_does_not_come_is_the_models_own_error(engine: Engine) -> None:
    engine.refusing = 2
    with pytest.raises(ModelError, match="not healthy"):
        engine.rows([part(1)])
    check(engine.rows, [part(1)])


def test_tritons_own_requests_are_answered_beside_a_channel(engine: Engine) -> None:
    ours = part(1)
    before = engine.channels.infer(ours.constant | ours.changing)["prediction"]
    check(engine.rows, [part(2)])
    after = engine.channels.infer(ours.constant | ours.changing)["prediction"]
    for found in (before, after):
        assert np.array_equal(found, alone([ours])[0])


def test_an_engine_that_knows_no_call_any_more_is_told_it_at_length(engine: Engine) -> None:
    """Whether it has seen too many memories meanwhile, or is another process."""
    said = engine.said()
    for forget in (engine.forget_calls, engine.begin_anew):
        for step in range(2):
            check(engine.rows, [part(1, step=step), part(2, step=step)])
        assert len(said[-1]) == 16, "it goes by its id alone"
        forget()
        check(engine.rows, [part(1, step=2), part(2, step=2)])
        assert [said[-1][:1], said[-2][:1].isalnum()] == [b"{", True]


def test_groups_may_have_more_memories_than_an_engine_maps(engine: Engine) -> None:
    said = engine.said()
    for step in range(3):
        for group in range(10):
            check(engine.rows, [part(group, step=step, group=f"{group}")])
    assert sum(one[:1] == b"{" for one in said) > 10, "those that it no longer knew"


def test_a_call_that_failed_is_said_again_as_it_was(engine: Engine) -> None:
    said = engine.said()
    for failing in ("first", "", "later", ""):
        engine.failing = failing
        with pytest.raises(ModelError, match=failing) if failing else contextlib.nullcontext():
            check(engine.rows, [part(1, step=len(said))])
    assert [one[:1] == b"{" for one in said] == [True, True, False, False]


def test_both_sides_speak_alike() -> None:
    for name in ("PARAMETER", "MOST_BYTES", "SIZE", "UNKNOWN"):
        assert getattr(channel, name) == getattr(engines, name)
    assert channel.ANSWER.format == engines.ANSWER.format
