"""Several models behind one gateway: which one a request means, and what is told of all."""

from collections.abc import Iterator

import grpc
import pytest

from tests.gateway.asking import body, failure, get, post, until
from tests.gateway.fake_triton import FakeTriton, element, failing, telling, tensors
from tests.gateway.serving import Gateway, Loop, serving
from tests.gateway.streaming import streamed, watched


@pytest.fixture(scope="module")
def _large(loop: Loop, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeTriton]:
    triton = FakeTriton()
    loop.run(triton.start(f"unix:{tmp_path_factory.mktemp('triton')}/large"))
    yield triton
    loop.run(triton.stop())


@pytest.fixture(scope="module")
def _both(loop: Loop, _triton: FakeTriton, _large: FakeTriton) -> Iterator[Gateway]:
    names = f"small={_triton.address},large={_large.address}"
    with serving(loop, _triton, triton_grpc=names) as gateway:
        yield gateway


@pytest.fixture
def large(_large: FakeTriton) -> FakeTriton:
    _large.reset()
    _large.offer |= {"adapters": "oil", "num_inference_steps": "28"}
    return _large


@pytest.fixture
def both(_both: Gateway, triton: FakeTriton, large: FakeTriton) -> Gateway:
    """A gateway before `triton` as `small`, with the adapters `oil` and `large`, and `large`, with `oil`."""
    triton.offer["adapters"] = "oil,large"
    return _both


def asked_for(triton: FakeTriton) -> list[str]:
    return [element(tensors(request)["model"]).decode() for request in triton.requests]


@pytest.mark.parametrize(
    ("model", "asked"),
    [
        (None, ([""], [])),
        ("", ([""], [])),
        ("base", ([""], [])),
        ("small", ([""], [])),
        ("oil:0.5+ink", (["oil:0.5+ink"], [])),
        ("small/large:2", (["large:2"], [])),
        ("small/base", ([""], [])),
        ("base/oil", (["oil"], [])),
        ("large", ([], [""])),
        ("large/oil:0.7", ([], ["oil:0.7"])),
        ("large/base", ([], [""])),
    ],
)
def test_which_is_meant(
    both: Gateway, triton: FakeTriton, large: FakeTriton, model: str | None, asked: tuple[list[str], list[str]]
) -> None:
    assert post(both, json=body(model=model)).status_code == 200
    assert (asked_for(triton), asked_for(large)) == asked


def test_streams_are_of_the_model_that_is_meant(both: Gateway, triton: FakeTriton, large: FakeTriton) -> None:
    assert [name for name, _ in streamed(both, json=watched(model="large/oil"))] == ["image_edit.completed"]
    assert (asked_for(triton), asked_for(large)) == ([], ["oil"])


@pytest.mark.parametrize(
    ("model", "code", "told"),
    [
        ("huge/oil", "unknown_model", "There is no such model. There are: small, oil, small/large, large, large/oil."),
        ("large/a/b", "unknown_model", "There is no such model. There are: small, oil, small/large, large, large/oil."),
        ("large/", "parameter_invalid", "model: the name of an adapter is missing."),
        ("large/oil:11", "parameter_invalid", "model: the scale of oil must be a number from -10 to 10."),
        ("large+large/oil", "unknown_model", "There is no such model. Names have letters"),
    ],
)
def test_what_is_not_there_is_told(both: Gateway, large: FakeTriton, model: str, code: str, told: str) -> None:
    answer = post(both, json=body(model=model))
    assert failure(answer) == (422, code)
    assert answer.json()["detail"].startswith(told)
    assert not both.triton.requests + large.requests


def test_an_adapter_of_another_model_is_told_to_be_none_of_this_one(both: Gateway, large: FakeTriton) -> None:
    said = "tritouch:unknown_model no adapter is called 'small'"
    large.behave, large.tell = failing(grpc.StatusCode.INVALID_ARGUMENT, said), telling(said)
    told = "There is no such model. No adapter of large is called 'small'. There are: small, oil, small/large,"
    for fields in (body(model="large/small"), watched(model="large/small")):
        answer = post(both, json=fields)
        assert failure(answer) == (422, "unknown_model")
        assert answer.json()["detail"].startswith(told)


def test_all_are_listed_with_what_each_offers(both: Gateway) -> None:
    entries = get(both, "/v1/models").json()["data"]
    assert [(entry["id"], entry["parent"], entry["num_inference_steps"]) for entry in entries] == [
        ("small", None, 12),
        ("oil", "small", 12),
        ("small/large", "small", 12),
        ("large", None, 28),
        ("large/oil", "large", 28),
    ]


def test_each_is_told_by_its_id(both: Gateway) -> None:
    for entry in get(both, "/v1/models").json()["data"]:
        assert get(both, f"/v1/models/{entry['id']}").json() == entry
    for name in ("large/small", "large/", "%00", "none of them"):
        answer = get(both, f"/v1/models/{name}")
        assert failure(answer) == (404, "not_found")
        assert answer.json()["detail"].endswith("There are: small, oil, small/large, large, large/oil.")


@pytest.mark.slow
def test_one_that_is_away_does_not_take_the_other_along(
    both: Gateway, triton: FakeTriton, large: FakeTriton, loop: Loop
) -> None:
    loop.run(large.stop())
    assert failure(post(both, json=body(model="large"))) == (503, "unavailable")
    assert post(both).status_code == 200
    assert get(both, "/readyz").status_code == 200
    for name, told in {
        "large": "unavailable",
        "large/oil": "unavailable",
        "ink": "not_found",
        "huge": "not_found",
    }.items():
        assert failure(get(both, f"/v1/models/{name}"))[1] == told
    assert [entry["id"] for entry in get(both, "/v1/models").json()["data"]] == ["small", "oil", "small/large"]
    ready = 'tritouch_gateway_triton_ready{model="large",triton="0"} '
    assert f"{ready}0.0" in get(both, "/metrics").text
    loop.run(large.start(large.address))
    assert until(lambda: f"{ready}1.0" in get(both, "/metrics").text)
    assert post(both, json=body(model="large")).status_code == 200
