"""What the routes say of themselves in OpenAPI, where FastAPI cannot see it: bodies here are read by hand."""

from typing import Any

from fastapi import FastAPI, Response
from fastapi.openapi.utils import get_openapi
from pydantic.json_schema import models_json_schema

from gateway.errors import KINDS
from gateway.schemas import ContainerImageEditBody, ContainerImageEditSuccess, ErrorBody, ImageEditForm

_REF = "#/components/schemas/"


def _json(model: type) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": _REF + model.__name__}}}


def _failures() -> dict[int | str, dict[str, Any]]:
    """One response a status, naming the codes that come with it."""
    by_status: dict[int | str, dict[str, Any]] = {}
    for status in sorted({kind.status for kind in KINDS.values()} - {404, 405}):
        codes = ", ".join(f"`{code}`" for code, kind in KINDS.items() if kind.status == status)
        by_status[status] = {"description": f"Codes: {codes}.", "content": _json(ErrorBody)}
    return by_status


def edit_operation() -> dict[str, Any]:
    """Keyword arguments of the edit route's decorator."""
    success = {"description": "Successfully edited image.", "content": _json(ContainerImageEditSuccess)}
    form = {"multipart/form-data": {"schema": {"$ref": _REF + ImageEditForm.__name__}}}
    return {
        "tags": ["Container.Image"],
        "summary": "Image edits",
        "description": "Given an image and a description, the model edits the image.",
        "operation_id": "containerImagesEdit",
        "response_class": Response,
        "responses": {200: success, **_failures()},
        "openapi_extra": {"requestBody": {"content": _json(ContainerImageEditBody) | form, "required": True}},
    }


def install(app: FastAPI) -> None:
    """Make `app.openapi()` carry the schemas that the routes only refer to."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = get_openapi(title=app.title, version=app.version, routes=app.routes)
            models = (ContainerImageEditBody, ContainerImageEditSuccess, ErrorBody, ImageEditForm)
            _, definitions = models_json_schema(
                [(model, "validation") for model in models], ref_template=_REF + "{model}"
            )
            schema.setdefault("components", {}).setdefault("schemas", {}).update(definitions["$defs"])
            app.openapi_schema = schema
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]
