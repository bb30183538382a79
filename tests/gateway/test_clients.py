"""Programs that people use, as they send their requests: OpenAI's SDK, streaming; Open WebUI and LiteLLM by hand.

The latter two are written from their sources: Open WebUI is an application, LiteLLM a wheel of 44 MB that needs boto3.
"""

import asyncio
import base64
import io
import threading
from typing import Any

import grpc
import openai
import pytest
from PIL import Image

from tests.gateway.asking import EDITS, PNG, body, picture, post, until
from tests.gateway.fake_triton import (
    HEIGHT,
    RAW,
    TOKENS,
    WIDTH,
    FakeTriton,
    begun,
    breaking,
    element,
    number,
    preview,
    telling,
    tensors,
)
from tests.gateway.serving import Gateway, Loop, serving
from tests.gateway.streaming import NOTHING, held

PREVIEWS = ["image_edit.partial_image"] * 2
KEY: dict[str, Any] = {"api_key": "k", "max_retries": 0}


def _pixels(b64: str) -> bytes:
    return Image.open(io.BytesIO(base64.b64decode(b64))).tobytes()


def test_openais_stream(gateway: Gateway, triton: FakeTriton) -> None:
    with openai.OpenAI(base_url=gateway.url + "/v1", **KEY) as client:
        asked = client.images.edit(
            image=PNG,
            mask=PNG,
            prompt="x",
            n=2,
            size="640x480",
            stream=True,
            partial_images=2,  # type: ignore[arg-type]
        )
        told = [*asked]
    assert sorted(event.type for event in told) == ["image_edit.completed"] * 2 + PREVIEWS * 2
    assert {_pixels(event.b64_json) for event in told} == {RAW}
    last: Any = told[-1]
    assert (last.usage.total_tokens, last.output_format, last.size) == (sum(TOKENS), "png", f"{WIDTH}x{HEIGHT}")
    assert last.usage.input_tokens_details.text_tokens == TOKENS[0]
    assert element(tensors(triton.requests[0])["mask"]) == PNG


def test_openais_stream_async(gateway: Gateway, triton: FakeTriton) -> None:
    async def edited() -> list[Any]:
        async with openai.AsyncOpenAI(base_url=gateway.url + "/v1", **KEY) as client:
            return [
                event
                async for event in await client.images.edit(
                    image=[PNG, picture("WEBP")], prompt="x", stream=True, partial_images=2
                )
            ]

    assert [event.type for event in asyncio.run(edited())] == [*PREVIEWS, "image_edit.completed"]


@pytest.mark.parametrize("partial_images", [0, 3])
def test_openais_stream_of_a_picture_from_text(gateway: Gateway, triton: FakeTriton, partial_images: int) -> None:
    with openai.OpenAI(base_url=gateway.url + "/v1", **KEY) as client:
        told = [*client.images.generate(prompt="x", stream=True, partial_images=partial_images, quality="high")]
    previews = [event for event in told if event.type == "image_generation.partial_image"]
    assert [event.partial_image_index for event in previews] == [*range(partial_images)]
    assert told[-1].type == "image_generation.completed"
    assert _pixels(told[-1].b64_json) == RAW


def test_openais_stream_raises_what_fails_midway(gateway: Gateway, triton: FakeTriton) -> None:
    failing = breaking(grpc.StatusCode.INTERNAL, "CUDA error")
    triton.tell = telling(begun(), lambda request: preview(request, 0), then=failing)
    with openai.OpenAI(base_url=gateway.url + "/v1", **KEY) as client:
        told = iter(client.images.edit(image=PNG, prompt="x", stream=True, partial_images=1))
        assert next(told).type == "image_edit.partial_image"
        with pytest.raises(openai.APIError) as caught:
            next(told)
    assert (caught.value.message, caught.value.code) == ("The edit failed.", "edit_failed")


def test_openais_stream_closed_early(loop: Loop, triton: FakeTriton) -> None:
    triton.tell = telling(begun(), lambda request: preview(request, 0), threading.Event())
    with (
        serving(loop, triton, orphan_grace_seconds=3600) as gateway,
        openai.OpenAI(base_url=gateway.url + "/v1", **KEY) as client,
    ):
        asked = client.images.edit(image=PNG, prompt="x", stream=True, partial_images=1)
        next(iter(asked))
        asked.close()
        assert until(lambda: triton.active == 0)
        assert until(lambda: held(gateway) == NOTHING)


def test_openais_several(gateway: Gateway, triton: FakeTriton) -> None:
    with openai.OpenAI(base_url=gateway.url + "/v1", **KEY) as client:
        answer = client.images.edit(image=PNG, prompt="x", n=3, size="1024x1536", quality="low", background="opaque")
    assert answer.data
    assert answer.usage
    assert [_pixels(one.b64_json or "") for one in answer.data] == [RAW] * 3
    assert answer.usage.output_tokens == 3 * TOKENS[2]


@pytest.mark.parametrize(
    "more", [{}, {"n": "2", "size": "768x512", "background": "opaque"}, {"n": "1", "size": "1024x1024"}]
)
@pytest.mark.parametrize("pictures", [1, 2])
def test_open_webui(gateway: Gateway, triton: FakeTriton, more: dict[str, str], pictures: int) -> None:
    """Texts without a type; one picture as `image`, several as `image[]`; the API's version in the query."""
    name = "image" if pictures == 1 else "image[]"
    files: list[tuple[str, Any]] = [(name, (f"{index}.png", PNG, "image/png")) for index in range(pictures)]
    texts = {"model": "base", "prompt": "make it snow", "response_format": "b64_json"} | more
    answer = post(gateway, EDITS + "?api-version=2025-04-01-preview", data=texts, files=files)
    assert answer.status_code == 200, answer.text
    assert [_pixels(one["b64_json"]) for one in answer.json()["data"]] == [RAW] * int(more.get("n", 1))
    (request,) = triton.requests
    assert request.inputs[0].shape == [pictures]
    assert number(request, "n", 1) == int(more.get("n", 1))


def test_litellm(gateway: Gateway, triton: FakeTriton) -> None:
    """Every picture as `image[]`, whatever its number, and a mask that is text as far as the form tells."""
    texts = {"model": "base", "prompt": "x", "n": "2", "quality": "high", "response_format": "b64_json"}
    texts |= {"size": "512x512", "background": "auto", "user": "u"}
    files = [("image[]", ("image.png", PNG, "image/png")), ("mask", (None, PNG))]
    answer = post(gateway, data=texts, files=files, headers={"authorization": "Bearer k"})
    assert answer.status_code == 200, answer.text
    assert len(answer.json()["data"]) == 2
    assert element(tensors(triton.requests[0])["mask"]) == PNG


def test_friendlis_body_as_ever(gateway: Gateway, triton: FakeTriton) -> None:
    answer = post(gateway, json=body(num_inference_steps=20, guidance_scale=0.0, model=None, seed=None))
    assert "images" not in answer.json()
