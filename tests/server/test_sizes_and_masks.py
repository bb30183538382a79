"""Sizes, masks and negative prompts through the real Triton, as a service asks `edit` that skips the gateway."""

import numpy as np
import pytest
import tritonclient.grpc as triton_grpc
from PIL import Image
from tritonclient.utils import InferenceServerException

from tests.server.asking import Client, colours, png
from tests.server.tensors import made

PICTURE = colours(131, 90)


def holed(size: tuple[int, int]) -> bytes:
    """A mask whose left half is transparent."""
    mask = Image.new("RGBA", size, (0, 0, 0, 255))
    mask.paste((0, 0, 0, 0), (0, 0, size[0] // 2, size[1]))
    return png(mask)


def test_an_edit_has_its_pictures_size_or_the_asked_one(client: Client) -> None:
    assert made(client, PICTURE).shape == (90, 131, 3)
    assert made(client, PICTURE, size=[77, 140]).shape == (140, 77, 3)
    assert made(client, colours(1920, 1080)).shape == (192, 341, 3)


def test_outside_of_a_mask_the_answer_is_the_picture(client: Client) -> None:
    edited, original = made(client, PICTURE, mask=holed(PICTURE.size)), np.asarray(PICTURE)
    assert (edited[:, 65:] == original[:, 65:]).all()
    assert not (edited[:, :60] == original[:, :60]).all()
    twice = made(client, PICTURE, mask=holed(PICTURE.size), size=[262, 180])
    assert (twice[:, 131:] == np.asarray(PICTURE.resize((262, 180), Image.Resampling.LANCZOS))[:, 131:]).all()


def test_a_negative_prompt_is_used(client: Client) -> None:
    plain, other = (made(client, PICTURE, guidance=(7.5, 1.5), negative_prompt=words) for words in (b"", b"fog"))
    assert (plain != other).any()


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        ({"size": [257, 256]}, "size_unavailable"),
        ({"size": [1000, 60]}, "size_unavailable"),
        ({"mask": holed((131, 91))}, "mask_invalid"),
        ({"mask": png(Image.new("RGBA", PICTURE.size, (0, 0, 0, 9)))}, "mask_invalid"),
        ({"negative_prompt": b"fog", "guidance": (1.0, 1.5)}, "parameter_invalid"),
        ({"negative_prompt": b"fog", "guidance": (7.5, 0.5)}, "parameter_invalid"),
    ],
)
def test_what_cannot_be_is_refused_by_name(client: Client, asked: dict[str, object], code: str) -> None:
    with pytest.raises(InferenceServerException, match=f"tritouch:{code} ") as error:
        made(client, PICTURE, **asked)  # type: ignore[arg-type]
    assert error.value.status() == "StatusCode.INVALID_ARGUMENT"
    assert triton_grpc.InferenceServerClient(client.server.triton_grpc).is_server_ready()
