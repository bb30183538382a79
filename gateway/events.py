"""OpenAI's server-sent events: what each is called, and the JSON that it holds.

`progress` is an extension, as are `index` and `seed`, by which n pictures of one stream are told apart.
"""

import base64
import time
from collections.abc import Callable
from typing import Any, Final

import orjson

from gateway.errors import PublicError, body
from gateway.openai_answer import usage
from gateway.pictures import Event, Finished, Picture, Preview, Progress
from gateway.tensors import Edit

EDIT: Final = "image_edit"
GENERATION: Final = "image_generation"
PROGRESS: Final = "progress"
PREVIEW: Final = "partial_image"
COMPLETED: Final = "completed"
ERROR: Final = "error"
PING: Final = b": ping\n\n"


def told(
    operation: str, output_format: str, content: Callable[[Picture], bytes], edit: Edit, event: Event
) -> tuple[str, bytes]:
    """The kind of `event`, which is not `Begun`, and the event itself. `content`: makes a picture's file; slow."""
    fields: dict[str, Any]
    if isinstance(event, Progress):
        kind, fields = PROGRESS, {"step": event.step, "steps": event.steps, "index": event.index}
    elif isinstance(event, Preview):
        kind = PREVIEW
        fields = _picture(event.picture, output_format, content)
        fields |= {"partial_image_index": event.number, "index": event.index}
    elif isinstance(event, Finished):
        kind = COMPLETED
        fields = _picture(event.picture, output_format, content)
        fields |= {"index": event.index, "seed": edit.seed_of(event.index), **event.picture.used}
        fields |= usage([event.picture])
    else:
        raise TypeError("nobody is told of it")
    name = f"{operation}.{kind}"
    return kind, _written(name, orjson.dumps({"type": name, **fields}))


def error(problem: PublicError) -> bytes:
    """The event of what fails after the first byte: as errors are elsewhere."""
    return _written(ERROR, body(problem))


def _picture(picture: Picture, output_format: str, content: Callable[[Picture], bytes]) -> dict[str, Any]:
    return {
        "b64_json": base64.b64encode(content(picture)).decode(),
        "background": "opaque",
        "created_at": int(time.time()),
        "output_format": output_format,
        "quality": "auto",
        "size": f"{picture.width}x{picture.height}",
    }


def _written(name: str, data: bytes) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (name.encode(), data)
