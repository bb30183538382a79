"""`/livez` (this process runs) and `/readyz` (an edit would work now)."""

import orjson
from fastapi import APIRouter, Response

from gateway.errors import PublicError
from gateway.triton import Triton


def router(triton: Triton) -> APIRouter:
    """The health routes, the second of which asks `triton`."""
    routes = APIRouter()

    @routes.get("/livez", summary="Whether the gateway runs", response_class=Response)
    async def livez() -> Response:
        return _ok()

    @routes.get("/readyz", summary="Whether an edit would work now", response_class=Response)
    async def readyz() -> Response:
        if not await triton.ready():
            raise PublicError("unavailable")
        return _ok()

    return routes


def _ok() -> Response:
    return Response(orjson.dumps({"status": "ok"}), media_type="application/json")
