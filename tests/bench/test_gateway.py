"""The stub that the gateway is measured before answers as Triton does."""

from bench.stub_triton import SIDE, answer
from gateway.pictures import picture_of


def test_the_stub_answers_by_the_contract() -> None:
    picture = picture_of(answer(), "jpeg")
    assert (picture.width, picture.height, picture.used["num_inference_steps"]) == (SIDE, SIDE, 20)
