"""Small helpers of these tests: a picture, a body, one request by plain httpx."""

import base64
import io
import os
import time
from collections.abc import Callable
from typing import Any

import httpx
from PIL import Image

from tests.gateway.serving import Gateway

EDITS = "/v1/images/edits"
GENERATIONS = "/v1/images/generations"
CASES = int(os.environ.get("GENERATED_CASES", "100"))
"""Generated requests of each kind; a thousand take about half a minute."""


def picture(kind: str = "PNG", size: tuple[int, int] = (8, 8)) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size, (200, 30, 60)).save(file, kind)
    return file.getvalue()


PNG = picture()
PNG64 = base64.b64encode(PNG).decode()


def body(**fields: Any) -> dict[str, Any]:
    """A good JSON body, with these fields changed or added."""
    return {"image": {"image": PNG64}, "prompt": "make it snow"} | fields


def post(gateway: Gateway, path: str = EDITS, **request: Any) -> httpx.Response:
    """POST to `path`, an edit unless told otherwise; without `json` or `content`, a good one."""
    if not request.keys() & {"json", "content", "files", "data"}:
        request["json"] = body()
    with httpx.Client(base_url=gateway.url, timeout=60, trust_env=False, verify=False) as client:
        return client.post(path, **request)


def get(gateway: Gateway, path: str, **request: Any) -> httpx.Response:
    with httpx.Client(base_url=gateway.url, timeout=60, trust_env=False, verify=False) as client:
        return client.get(path, **request)


def failure(response: httpx.Response) -> tuple[int, str]:
    """Status and code of an error, after checking that it has the one shape."""
    content = response.json()
    assert response.headers["content-type"] == "application/json"
    assert set(content) == {"error", "detail"}
    assert set(content["error"]) == {"message", "type", "param", "code"}
    assert content["detail"] == content["error"]["message"]
    return response.status_code, content["error"]["code"]


def until(condition: Callable[[], bool], seconds: float = 60) -> bool:
    """Wait for `condition`, for longer than any machine needs. Returns whether it came true in time."""
    end = time.monotonic() + seconds
    while not (true := condition()) and time.monotonic() < end:
        time.sleep(0.01)
    return true
