"""Clients that no one here wrote: Friendli's SDK, sync and async, and tritonclient over gRPC and HTTP."""

import asyncio
import base64
import io
import re
import warnings
from pathlib import Path
from types import ModuleType

import numpy as np
import openai
import pytest
import tritonclient.grpc
import tritonclient.http
from PIL import Image

from tests.conftest import ROOT
from tests.server.asking import Client, colours, png
from tests.server.tensors import grpc_inputs

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from friendli import AsyncFriendli, SyncFriendli
    from friendli.core.models import SDKError

PICTURE = colours(96, 64)
TIMEOUT_MS = 60_000


@pytest.mark.parametrize("response_format", ["jpeg", "raw"])
def test_friendli_sync(client: Client, response_format: str) -> None:
    with SyncFriendli(token="none") as friendli:
        answer = friendli.container.image.edit(
            image={"image": base64.b64encode(png(PICTURE)).decode()},
            prompt="make it red",
            num_inference_steps=3,
            seed=5,
            response_format=response_format,
            server_url=client.server.http_url,
            timeout_ms=TIMEOUT_MS,
        )
    content = base64.b64decode(answer.image)
    if response_format == "jpeg":
        assert Image.open(io.BytesIO(content)).size == PICTURE.size
    else:
        assert len(content) == 96 * 64 * 3


def test_friendli_async_with_a_list_and_a_data_url(client: Client) -> None:
    async def ask() -> bytes:
        async with AsyncFriendli(token="none") as friendli:
            answer = await friendli.container.image.edit(
                image=[{"image": "data:image/png;base64," + base64.b64encode(png(PICTURE)).decode()}],
                prompt="make it red",
                num_inference_steps=2,
                server_url=client.server.http_url,
                timeout_ms=TIMEOUT_MS,
            )
            return bytes(answer.image)

    picture = Image.open(io.BytesIO(base64.b64decode(asyncio.run(ask()))))
    assert (picture.format, picture.size) == ("JPEG", PICTURE.size)


def test_a_picture_from_text_alone_is_404_to_both_sdks(client: Client) -> None:
    url = client.server.http_url
    with openai.OpenAI(api_key="none", base_url=f"{url}/v1", max_retries=0) as sdk:
        with pytest.raises(openai.NotFoundError) as missing:
            sdk.images.generate(prompt="a red cat")
        assert [model.model_dump()["generation_size"] for model in sdk.models.list()][:1] == [None]
    assert missing.value.code == "generations_unavailable"
    with SyncFriendli(token="none") as friendli, pytest.raises(SDKError) as refused:
        friendli.container.image.generate(prompt="a red cat", server_url=url, timeout_ms=TIMEOUT_MS)
    assert refused.value.status_code == 404
    assert "This model makes no pictures from text alone" in refused.value.body


@pytest.mark.parametrize("kind", [tritonclient.grpc, tritonclient.http], ids=["grpc", "http"])
def test_tritonclient_gets_what_the_gateway_gets(client: Client, kind: ModuleType) -> None:
    address = client.server.triton_grpc if kind is tritonclient.grpc else client.server.triton_http
    with kind.InferenceServerClient(address) as triton:
        result = triton.infer("edit", grpc_inputs(PICTURE, client=kind))
        assert result.as_numpy("size").tolist() == [96, 64]
        raw = np.frombuffer(result.as_numpy("image")[0], np.uint8).reshape(64, 96, 3)
        expected = client.edit(PICTURE, num_inference_steps=4, guidance_scale=0, seed=5).pixels
        assert (raw == expected).all()
        jpeg = triton.infer("edit", grpc_inputs(PICTURE, client=kind, response_format=[b"jpeg"]))
        assert Image.open(io.BytesIO(jpeg.as_numpy("image")[0])).size == (96, 64)


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"image": [b"not an image"]}, "image_unreadable"),
        ({"image": [png(PICTURE)] * 2}, "too_many_images"),
        ({"image": []}, "generations_unavailable"),
        ({"size": [4096, 4096]}, "size_unavailable"),
        ({"mask": [png(PICTURE)]}, "mask_invalid"),
        ({"n": [11]}, "parameter_invalid"),
        ({"prompt": [b"\xff\xfe"]}, "prompt_invalid"),
        ({"num_inference_steps": [51]}, "parameter_invalid"),
        ({"guidance_scale": [float("nan")]}, "parameter_invalid"),
        ({"response_format": [b"gif"]}, "parameter_invalid"),
        ({"model": [b"../denoiser"]}, "unknown_model"),
        ({"model": [b"\xff"]}, "parameter_invalid"),
    ],
)
def test_bad_tensors_are_refused_by_name(client: Client, changed: dict[str, object], code: str) -> None:
    with tritonclient.grpc.InferenceServerClient(client.server.triton_grpc) as triton:
        with pytest.raises(tritonclient.grpc.InferenceServerException, match=f"tritouch:{code} ") as error:
            triton.infer("edit", grpc_inputs(PICTURE, **changed))
        assert error.value.status() == "StatusCode.INVALID_ARGUMENT"


def test_several_images_for_a_family_of_one_are_422(client: Client) -> None:
    image = {"image": base64.b64encode(png(PICTURE)).decode()}
    answer = client.edit(PICTURE, image=[image, image])
    assert answer.status == 422
    assert "error" in answer.body


def test_the_documented_example_over_grpc(client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (block,) = re.findall(r"```python\n(.+?)```", (ROOT / "docs" / "triton.md").read_text(), re.DOTALL)
    block = block.replace("demo/samples", str(ROOT / "demo" / "samples"))
    monkeypatch.chdir(tmp_path)
    exec(compile(block.replace("localhost:8001", client.server.triton_grpc), "docs/triton.md", "exec"), {})
    with Image.open(ROOT / "demo" / "samples" / "cat.jpg") as before, Image.open("night.jpg") as after:
        assert after.size == before.size
