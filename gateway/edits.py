"""`POST /v1/images/edits`, Friendli's form of it: read, check, decode, edit, answer."""

import base64
import secrets
from typing import Final

import jiter
import orjson
from fastapi import APIRouter, Request, Response

from gateway import body, images
from gateway.attendance import attended
from gateway.errors import PublicError
from gateway.openapi import edit_operation
from gateway.schemas import ContainerImageEditBody, validated
from gateway.settings import Settings
from gateway.triton import Edit, Picture, Triton

DRAWN_SEED_BITS: Final = 53  # Every JSON client can read these back: doubles hold them exactly.


def router(settings: Settings, triton: Triton) -> APIRouter:
    """The route of edits, on `triton`, within `settings`."""
    routes = APIRouter()

    @routes.post("/v1/images/edits", **edit_operation())
    async def edit(request: Request) -> Response:
        asked = parsed(await body.read(request, settings.max_body_bytes), request.headers.get("content-type", ""))
        wanted = edit_of(asked, settings)
        work = triton.edit(wanted, timeout_seconds=settings.edit_timeout_seconds)
        return answer(await attended(request.receive, work), wanted.seed)

    return routes


def parsed(content: bytes, content_type: str) -> ContainerImageEditBody:
    """The checked JSON body. Raises `PublicError`."""
    if content_type.partition(";")[0].strip().lower() != "application/json":
        raise PublicError("unsupported_media_type")
    try:
        fields = jiter.from_json(content, allow_inf_nan=False, catch_duplicate_keys=True)
    except ValueError:
        raise PublicError("body_unreadable", message="The body is not well-formed JSON.") from None
    return validated(fields)


def edit_of(asked: ContainerImageEditBody, settings: Settings) -> Edit:
    """What to ask of Triton: images decoded, a seed drawn when none is given. Raises `PublicError`."""
    given = asked.images()
    if len(given) > settings.max_images:
        raise PublicError("too_many_images", param="image")
    if any(images.is_url(text) for text in given):
        raise PublicError("image_url_unsupported", param="image")
    contents = [images.decode(text, settings.max_image_bytes) for text in given]
    if sum(map(len, contents)) > settings.max_request_image_bytes:
        raise PublicError("image_too_large", param="image")
    return Edit(
        images=contents,
        prompt=asked.prompt,
        num_inference_steps=asked.num_inference_steps,
        guidance_scale=asked.guidance_scale,
        image_guidance_scale=asked.image_guidance_scale,
        seed=secrets.randbits(DRAWN_SEED_BITS) if asked.seed is None else asked.seed,
        model=asked.model or "",
        response_format=asked.response_format or "jpeg",
    )


def answer(picture: Picture, seed: int) -> Response:
    """Friendli's answer, with the picture's size and seed beside it."""
    content = {
        "image": base64.b64encode(picture.content).decode(),
        "width": picture.width,
        "height": picture.height,
        "seed": seed,
    }
    return Response(orjson.dumps(content), media_type="application/json")
