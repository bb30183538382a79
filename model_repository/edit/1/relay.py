"""One request handed on to `edit_stream`, and its responses made into one answer.

Triton does not tell a model that the caller of its caller is gone. So callers are asked for here, and what is not
wanted any more is ended by a request that names its ticket.
"""

import json
import logging
import re
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils

STREAM = "edit_stream"
TOLD = ("size", "num_inference_steps", "guidance_scale", "image_guidance_scale", "cache", "tokens")
"""Outputs that are the same of all pictures of a request."""
OWN = ("image", "foretold")
"""Outputs of which each picture has its own."""
PARENT = ("traceparent", "tracestate")
"""Parameters of a request, by which it is a part of its caller's trace."""
ASK_SECONDS = 0.05
SHARE = 0.05
"""Most of a core that asking may take: with many requests in flight they are asked for less often."""
STATUS = {
    "queue_full": "UNAVAILABLE",
    "expired": "INTERNAL",
    "stopping": "UNAVAILABLE",
    "cancelled": "CANCELLED",
    "failed": "INTERNAL",
}
"""By code; any other is the caller's own fault. UNAVAILABLE can be done elsewhere, and proxies send it there."""
_CODE = re.compile(r"tritouch:([a-z_]+)")

log = logging.getLogger(__name__)


class StreamError(Exception):
    """`edit_stream` has answered with an error, whose text this is."""


class Callers:
    """Asks for the callers of requests in flight, and ends the requests of those who are gone."""

    def __init__(self) -> None:
        self._senders: dict[str, Any] = {}  # by ticket
        self._lock = threading.Lock()  # held while a caller is asked for: never after it was answered
        self._news = threading.Event()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="callers", daemon=True)
        self._thread.start()

    def enter(self, sender: Any) -> str:
        """A request that is handed on now. Returns its ticket."""
        ticket = secrets.token_hex(16)
        with self._lock:
            self._senders[ticket] = sender
        self._news.set()
        return ticket

    def leave(self, ticket: str) -> None:
        """It is about to be answered."""
        with self._lock:
            del self._senders[ticket]

    def settle(self, ticket: str) -> None:
        """Waits for Triton to have let go of responses that have come: it does so, one after another, before it answers
        this. What its own thread lets go of as the last one, without Python's lock, Python 3.12 dies of."""
        with self._lock:
            if ticket in self._senders:
                self._senders[ticket].is_cancelled()

    def stop(self) -> None:
        """Ends the thread."""
        self._stopping = True
        self._news.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopping:
            if not self._senders:
                self._news.wait()
            self._news.clear()
            began = time.monotonic()
            try:
                self._ask()
            except Exception:
                log.exception("callers could not be asked for")
            time.sleep(max(ASK_SECONDS, (time.monotonic() - began) / SHARE))

    def _ask(self) -> None:
        """Cancels again and again what is still in flight: the first time it may not have come to `edit_stream` yet."""
        for ticket in tuple(self._senders):
            with self._lock:
                sender = self._senders.get(ticket)
                gone = sender is not None and sender.is_cancelled()
            if gone:
                cancel(ticket, self)


def relay(request: Any, sender: Any, callers: Callers) -> None:
    """Answers a request with what `edit_stream` makes of it."""
    ticket = callers.enter(sender)
    try:
        made = _answer(_pictures(request, ticket, callers))
        # What was not asked for is left out here: Triton's sender lets it go without Python's lock, of which 3.12 dies.
        wanted = frozenset(request.requested_output_names())
        response = pb_utils.InferenceResponse([tensor for tensor in made if tensor.name() in wanted])
    except Exception as error:  # noqa: BLE001 - whatever is raised is answered
        response = pb_utils.InferenceResponse([], error=_fault(str(error)))
    callers.leave(ticket)
    try:
        sender.send(response, flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
    except Exception:
        log.exception("an answer could not be delivered")


def cancel(ticket: str, callers: Callers) -> None:
    """Ends the request of that ticket."""
    empty = np.array([b""], np.object_)
    inputs = [pb_utils.Tensor("image", empty), pb_utils.Tensor("prompt", empty)]
    seed = pb_utils.Tensor("seed", np.zeros(1, np.uint64))
    for _ in _called([*inputs, seed], {"cancel": ticket}, lambda: callers.settle(ticket)):
        pass


def _pictures(request: Any, ticket: str, callers: Callers) -> dict[int, dict[str, Any]]:
    """The outputs of each picture by its place. Raises StreamError."""
    found: dict[int, dict[str, Any]] = {}
    parameters = {"ticket": ticket, **_parent(request)}
    for tensors in _called(request.inputs(), parameters, lambda: callers.settle(ticket), request.timeout()):
        if "image" in tensors:
            found[int(tensors["index"].as_numpy()[0])] = tensors
    return found


def _parent(request: Any) -> dict[str, str]:
    """Whose trace the request is a part of: that of Triton's own span of it, else what its caller says."""
    own = request.trace().get_context()
    given = json.loads(own or request.parameters() or "{}")
    return {name: str(given[name]) for name in PARENT if name in given}


def _called(inputs: list[Any], parameters: Mapping[str, str], settle: Callable[[], None], timeout: int = 0) -> Any:
    """The tensors of each response by name, as they come; `settle` while they are held. Raises StreamError."""
    call = pb_utils.InferenceRequest(
        model_name=STREAM,
        requested_output_names=[*OWN, "index", *TOLD],
        inputs=inputs,
        timeout=timeout,
        preferred_memory=pb_utils.PreferredMemory(pb_utils.TRITONSERVER_MEMORY_CPU),
        parameters=dict(parameters),
    )
    responses = call.exec(decoupled=True)
    try:
        for response in responses:
            if response.has_error():
                raise StreamError(response.error().message())
            yield {tensor.name(): tensor for tensor in response.output_tensors()}
    finally:
        settle()


def _answer(pictures: Mapping[int, Mapping[str, Any]]) -> list[Any]:
    """The outputs of `edit`. Raises StreamError where there is no picture."""
    if not pictures:
        raise StreamError(f"{STREAM} answered nothing")
    told = [pictures[0][name] for name in TOLD]
    if len(pictures) == 1:
        return [*(pictures[0][name] for name in OWN), *told]
    every = {name: [pictures[place][name].as_numpy() for place in sorted(pictures)] for name in OWN}
    return [*(pb_utils.Tensor(name, np.concatenate(arrays)) for name, arrays in every.items()), *told]


def _fault(said: str) -> Any:
    """With the status that belongs to the code in the text; what bears none has failed."""
    found = _CODE.search(said)
    code = found[1] if found else "failed"
    text = said[found.start() :] if found else f"tritouch:{code} {said}"
    return pb_utils.TritonError(text, getattr(pb_utils.TritonError, STATUS.get(code, "INVALID_ARG")))
