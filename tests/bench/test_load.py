"""The Triton that the gateway is put under load with."""

from bench import load
from gateway.pictures import SCALES, picture_of


def test_its_answer_is_one_that_the_gateway_takes() -> None:
    picture = picture_of(load.SlowTriton().answered, "jpeg")
    assert (picture.content, picture.width, picture.height) == (load.JPEG, 512, 512)
    assert set(picture.used) == {"num_inference_steps", *SCALES}
