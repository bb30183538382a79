"""What the routes say of themselves in OpenAPI, where FastAPI cannot see it: bodies here are read by hand."""

from typing import Any, Final

from fastapi import FastAPI, Response
from fastapi.openapi.utils import get_openapi
from pydantic.json_schema import models_json_schema

from gateway.answers import ContainerImageEditSuccess, ContainerImageGenerateSuccess, ErrorBody, ImagesSuccess
from gateway.errors import KINDS
from gateway.event_stream import MEDIA_TYPE
from gateway.generation_schemas import ContainerImageGenerationBody, ImageGenerationBody
from gateway.idempotency import HEADER as KEY_HEADER
from gateway.openai_schemas import ImageEditBody, ImageEditForm
from gateway.priority import HEADER, LOW, NORMAL
from gateway.schemas import ContainerImageEditBody

_REF = "#/components/schemas/"
_MODELS = (
    ContainerImageEditBody,
    ContainerImageEditSuccess,
    ContainerImageGenerateSuccess,
    ContainerImageGenerationBody,
    ErrorBody,
    ImageEditBody,
    ImageEditForm,
    ImageGenerationBody,
    ImagesSuccess,
)


_EVENTS: Final = {
    MEDIA_TYPE: {
        "schema": {
            "type": "object",
            "description": "Server-sent events, with stream=true.",
            "properties": {
                "event": {"type": "string"},
                "data": {"type": "string", "contentMediaType": "application/json"},
            },
            "required": ["event", "data"],
        }
    }
}
_HEADERS: Final = [
    {
        "name": HEADER,
        "in": "header",
        "required": False,
        "description": "Background work is done in what others leave free.",
        "schema": {"type": "string", "enum": [LOW, NORMAL, ""]},
        "x-extension": True,
    },
    {
        "name": KEY_HEADER,
        "in": "header",
        "required": False,
        "description": "Requests with the same key, credentials and body are one edit. An empty one is none.",
        "schema": {"type": "string", "maxLength": 255, "pattern": "^[!-~]*$"},
        "x-extension": True,
    },
]
_BEARER: Final = "bearer"
KEYED: Final[dict[str, Any]] = {"security": [{_BEARER: []}]}
"""Of an operation that asks for a token, where the gateway has any."""


def _json(*models: type) -> dict[str, Any]:
    references = [{"$ref": _REF + model.__name__} for model in models]
    return {"application/json": {"schema": references[0] if len(references) == 1 else {"anyOf": references}}}


def error_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The responses of these statuses, naming the codes that come with each."""
    by_status: dict[int | str, dict[str, Any]] = {}
    for status in statuses:
        codes = ", ".join(f"`{code}`" for code, kind in KINDS.items() if kind.status == status)
        by_status[status] = {"description": f"Codes: {codes}.", "content": _json(ErrorBody)}
    return by_status


def edit_operation() -> dict[str, Any]:
    """Keyword arguments of the edit route's decorator."""
    success = {
        "description": "Successfully edited image.",
        "content": _json(ContainerImageEditSuccess, ImagesSuccess) | _EVENTS,
    }
    of_edits = sorted({kind.status for kind in KINDS.values()} - {404, 405})
    form = {"multipart/form-data": {"schema": {"$ref": _REF + ImageEditForm.__name__}}}
    return {
        "tags": ["Container.Image"],
        "summary": "Image edits",
        "description": "Given an image and a description, the model edits the image.",
        "operation_id": "containerImagesEdit",
        "response_class": Response,
        "responses": {200: success, **error_responses(*of_edits)},
        "openapi_extra": {
            **KEYED,
            "parameters": _HEADERS,
            "requestBody": {"content": _json(ContainerImageEditBody, ImageEditBody) | form, "required": True},
        },
    }


def generation_operation() -> dict[str, Any]:
    """Keyword arguments of the decorator of the route of pictures from text alone."""
    success = {
        "description": "Successfully generated image.",
        "content": _json(ContainerImageGenerateSuccess, ImagesSuccess) | _EVENTS,
    }
    of_generations = sorted({kind.status for kind in KINDS.values()} - {405})
    bodies = _json(ContainerImageGenerationBody, ImageGenerationBody)
    return {
        "tags": ["Container.Image"],
        "summary": "Image generations",
        "description": "Generate an image from a text prompt.",
        "operation_id": "containerImagesGenerate",
        "response_class": Response,
        "responses": {200: success, **error_responses(*of_generations)},
        "openapi_extra": {**KEYED, "parameters": _HEADERS, "requestBody": {"content": bodies, "required": True}},
    }


def install(app: FastAPI, *, keyed: bool) -> None:
    """Make `app.openapi()` carry what the routes only refer to: schemas, and how a token is told.

    `keyed`: whether one must be told.
    """

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = get_openapi(title=app.title, version=app.version, routes=app.routes)
            _, definitions = models_json_schema(
                [(model, "validation") for model in _MODELS], ref_template=_REF + "{model}"
            )
            components = schema.setdefault("components", {})
            components.setdefault("schemas", {}).update(definitions["$defs"])
            components["securitySchemes"] = {_BEARER: {"type": "http", "scheme": "bearer"}}
            for operation in (one for path in schema["paths"].values() for one in path.values()):
                if "security" in operation and not keyed:
                    operation["security"] = [*KEYED["security"], {}]
            app.openapi_schema = schema
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]
