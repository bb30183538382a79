"""The stub that the gateway is measured before answers as Triton does."""

from bench.stub_triton import SIDE, answer, picture
from gateway.pictures import picture_of


def test_the_stub_answers_by_the_contract() -> None:
    made = picture_of(answer(picture(), SIDE), "jpeg")
    assert (made.width, made.height, made.used["num_inference_steps"]) == (SIDE, SIDE, 20)
