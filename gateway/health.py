"""What is said of the server itself: `/livez`, `/readyz`, `/metrics`, and `/v1/models`."""

from collections.abc import Callable
from typing import Any, Final

import orjson
from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse

from gateway.auth import Keys
from gateway.errors import KINDS, PublicError
from gateway.metrics import CONTENT_TYPE, Metrics
from gateway.models import Models
from gateway.offer import Offer
from gateway.openapi import KEYED, error_responses

_LISTED: Final[dict[str, Any]] = {
    "summary": "Each model and its adapters, with the defaults of an edit",
    "response_class": JSONResponse,
    "responses": error_responses(401, 503),
    "openapi_extra": KEYED,
}
_NAME: Final = {"name": "name", "in": "path", "required": True, "schema": {"type": "string"}}
_ONE: Final = _LISTED | {
    "summary": "One of them, by its `id`",
    "responses": error_responses(401, 404, 503),
    "openapi_extra": KEYED | {"parameters": [_NAME]},
}


def router(models: Models, keys: Keys, metrics: Metrics, draining: Callable[[], bool]) -> APIRouter:
    """The routes. All but those of `/v1/models` are open to everyone, for probes carry no token."""
    routes = APIRouter()

    @routes.get("/livez", summary="Whether the gateway runs", response_class=JSONResponse)
    async def livez() -> Response:
        return _json({"status": "ok"})

    @routes.get(
        "/readyz", summary="Whether an edit would work now", response_class=JSONResponse, responses=error_responses(503)
    )
    async def readyz() -> Response:
        if draining():
            raise PublicError("shutting_down")
        if not await models.ready():
            raise PublicError("unavailable")
        return _json({"status": "ok"})

    @routes.get("/metrics", summary="Metrics for Prometheus", response_class=PlainTextResponse)
    async def exposition() -> Response:
        return Response(metrics.text(), media_type=CONTENT_TYPE)

    _add_models(routes, models, Depends(keys.check))
    return routes


def _add_models(routes: APIRouter, models: Models, keyed: Any) -> None:
    async def entries() -> list[dict[str, object]]:
        offers = await models.offers()
        return [entry for name, offer in offers.items() for entry in _entries(models, name, offer)]

    @routes.get("/v1/models", dependencies=[keyed], **_LISTED)
    async def listed() -> Response:
        return _json({"object": "list", "data": await entries()})

    @routes.get("/v1/models/{name:path}", dependencies=[keyed], **_ONE)
    async def one(request: Request) -> Response:
        name = request.path_params["name"]
        known = {str(entry["id"]): entry for entry in await entries()}
        if name not in known and models.away(name, known):
            raise PublicError("unavailable")
        if name not in known:
            message = f"{KINDS['unknown_model'].message} There are: {', '.join(known)}."
            raise PublicError("not_found", message=message)
        return _json(known[name])


def _entries(models: Models, name: str, offer: Offer) -> list[dict[str, object]]:
    """A model and its adapters in OpenAI's form, with what an edit has where nothing is said, and what it may have."""
    entry = {
        "object": "model",
        "created": 0,
        "owned_by": "tritouch",
        "num_inference_steps": offer.num_inference_steps,
        "guidance_scale": offer.guidance_scale,
        "image_guidance_scale": offer.image_guidance_scale,
        "max_images": offer.max_images,
        "generation_size": offer.generation_size or None,
        "steps": offer.steps,
        "max_pixels": offer.max_pixels,
        "negative_prompt": offer.negative_prompt,
        "cache": offer.cache,
        "masks": True,
    }
    own = [
        {"id": models.called(name, adapter), **entry, **offer.adapter_defaults.get(adapter, {}), "parent": name}
        for adapter in offer.adapters
    ]
    return [{"id": name, **entry, "parent": None}, *own]


def _json(content: object) -> Response:
    return Response(orjson.dumps(content), media_type="application/json")
