"""The page as the gateway serves it, before an API that answers as the test has scripted it: over real HTTP, in the
events that the gateway's streams have. What it is asked for is recorded."""

import asyncio
import base64
import io
import json
import socket
import threading
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from PIL import Image, ImageFilter, ImageOps
from starlette.datastructures import UploadFile

from gateway import page

PAUSE = "pause"
"""In a script: wait until the test says `resume`."""
STEPS = 4
CUT = 1021
"""Bytes of a piece of a stream: no event ends where a piece does, but by chance."""
BASE: dict[str, Any] = {
    "id": "base",
    "object": "model",
    "parent": None,
    "num_inference_steps": STEPS,
    "guidance_scale": 7.5,
    "image_guidance_scale": 1.5,
    "max_images": 1,
    "max_pixels": 512 * 512,
    "negative_prompt": True,
    "masks": True,
    "cache": "off",
}
Script: TypeAlias = list[dict[str, Any] | str]


@dataclass
class Asked:
    """A request for an edit: its texts, and its files by their field, each with its name."""

    texts: dict[str, str]
    files: dict[str, list[tuple[str, bytes]]]
    key: str = ""

    @property
    def picture(self) -> Image.Image:
        """The first of its pictures."""
        first = next(files for name, files in self.files.items() if name.startswith("image"))[0]
        return ImageOps.exif_transpose(Image.open(io.BytesIO(first[1])))


@dataclass
class Api:
    """What the server says, and what it was asked."""

    models: list[dict[str, Any]] = field(default_factory=lambda: [BASE])
    script: Script | None = None
    """Of the next edits' events; None: an edit as it should be."""
    refusal: tuple[int, dict[str, Any]] | None = None
    """Status and error, instead of an edit."""
    key: str = ""
    """That is needed."""
    edited: Image.Image | None = None
    """The result; None: the picture's negative."""
    asked: list[Asked] = field(default_factory=list)
    left: threading.Event = field(default_factory=threading.Event)
    """Set once a caller leaves while its edit runs."""
    going: asyncio.Event = field(default_factory=asyncio.Event)

    def result(self, picture: Image.Image) -> Image.Image:
        return self.edited or ImageOps.invert(picture.convert("RGB"))

    def events(self, asked: Asked) -> Script:
        """An edit: a step, a preview after the second and the third, and the picture; of `n` pictures, in turn."""
        result, size = self.result(asked.picture), "x".join(map(str, asked.picture.size))
        shared = {"output_format": "png", "size": size, "quality": "auto", "background": "opaque", "created_at": 0}
        script: Script = []
        for index in range(int(asked.texts.get("n", "1"))):
            for step in range(1, STEPS + 1):
                script.append({"type": "image_edit.progress", "step": step, "steps": STEPS, "index": index})
                if step in (2, 3):
                    rough = result.filter(ImageFilter.GaussianBlur(12 - 3 * step))
                    partial = {"b64_json": b64(rough), "partial_image_index": step - 2, "index": index}
                    script += [{"type": "image_edit.partial_image", **shared, **partial}, PAUSE]
            seed = int(asked.texts.get("seed", "41")) + index
            made = {"b64_json": b64(result), "index": index, "seed": seed, "usage": {"total_tokens": 7}}
            script.append({"type": "image_edit.completed", **shared, **made})
        return script


def b64(picture: Image.Image) -> str:
    """As PNG."""
    content = io.BytesIO()
    picture.save(content, "PNG")
    return base64.b64encode(content.getvalue()).decode()


class Fake:
    """A running server; `api` is what it says, and anew for each test."""

    def __init__(self) -> None:
        self.reset()
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self._server = uvicorn.Server(uvicorn.Config(self._app(), log_config=None, ws="none", lifespan="off"))
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def reset(self) -> None:
        self.api = Api()

    def resume(self) -> None:
        """Let streams go on that pause, and all that would."""
        self._loop.call_soon_threadsafe(self.api.going.set)

    def start(self) -> None:
        self._thread.start()
        assert self._started.wait(60)

    def stop(self) -> None:
        self._server.should_exit = self._server.force_exit = True
        self._thread.join(60)
        self._socket.close()

    def _run(self) -> None:
        async def main() -> None:
            self._loop = asyncio.get_running_loop()
            self._loop.call_soon(self._started.set)
            await self._server.serve([self._socket])

        asyncio.run(main())

    def _app(self) -> FastAPI:
        app = FastAPI(openapi_url=None)
        app.include_router(page.router())

        @app.get("/v1/models")
        async def models(request: Request) -> Response:
            return self._denied(request) or JSONResponse({"object": "list", "data": self.api.models})

        @app.post("/v1/images/edits")
        async def edits(request: Request) -> Response:
            api = self.api
            if denied := self._denied(request):
                return denied
            asked = await _asked(request)
            api.asked.append(asked)
            if api.refusal:
                status, error = api.refusal
                return JSONResponse({"error": error, "detail": error["message"]}, status)
            if asked.texts.get("stream") != "true":
                data = [{"b64_json": b64(api.result(asked.picture))}]
                return JSONResponse({"created": 0, "data": data, "output_format": "png"})
            script = api.events(asked) if api.script is None else api.script
            return StreamingResponse(_stream(api, script), media_type="text/event-stream")

        return app

    def _denied(self, request: Request) -> Response | None:
        if not self.api.key or request.headers.get("authorization") == f"Bearer {self.api.key}":
            return None
        return JSONResponse({"error": {"message": "A valid bearer token is needed.", "code": "unauthorized"}}, 401)


async def _asked(request: Request) -> Asked:
    asked = Asked({}, {}, request.headers.get("authorization", ""))
    async with request.form() as form:
        for name, value in form.multi_items():
            if isinstance(value, UploadFile):
                asked.files.setdefault(name, []).append((value.filename or "", await value.read()))
            else:
                assert name not in asked.texts
                asked.texts[name] = value
    return asked


async def _stream(api: Api, script: Script) -> AsyncGenerator[bytes]:
    """The script as server-sent events, with pings in between, cut without regard to where an event ends."""
    try:
        for one in script:
            if isinstance(one, str):
                await api.going.wait()
                continue
            event = "error" if "error" in one else one["type"]
            text = f": ping\n\nevent: {event}\ndata: {json.dumps(one)}\n\n".encode()
            for start in range(0, len(text), CUT):
                yield text[start : start + CUT]
    except asyncio.CancelledError:
        api.left.set()
        raise
