"""Where Tritons are, as the setting says it, and what is said of a setting that is wrong."""

import re

import pytest

from gateway import targets
from gateway.settings import Settings


@pytest.mark.parametrize(
    ("said", "models"),
    [
        ("localhost:8001", {"base": ("localhost:8001",)}),
        ("a:1, b:2 ,[::1]:3,", {"base": ("a:1", "b:2", "[::1]:3")}),
        ("triton:8001*3,unix:/run/t", {"base": ("triton:8001", "triton:8011", "triton:8021", "unix:/run/t")}),
        ("base=a:1|b:2,sdxl=c:3", {"base": ("a:1", "b:2"), "sdxl": ("c:3",)}),
        ("z.1=a:1*2|dns:///b:2,a=c:3", {"z.1": ("a:1", "a:11", "dns:///b:2"), "a": ("c:3",)}),
    ],
)
def test_what_is_said(said: str, models: dict[str, tuple[str, ...]]) -> None:
    assert list(Settings(triton_grpc=said).models.items()) == list(models.items()), "in this order"


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (" , ", "names no Triton: give HOST:PORT"),
        ("triton", "'triton' is no address: give HOST:PORT, as in localhost:8001"),
        ("a:1|b:2", "'a:1|b:2' is no address"),
        ("http://a:1", "'http://a:1' is no address: give HOST:PORT, as in localhost:8001"),
        ("a:1;b:2", "'a:1;b:2' is no address: give HOST:PORT"),
        ("::1:8001", "'::1:8001' is no address: give HOST:PORT"),
        ("a/b:1", "'a/b:1' is no address: give HOST:PORT"),
        ("a:0", "'a:0' is no address: ports are 1 to 65535, and behind * stands 1 to 64"),
        ("a:65530*2", "'a:65530*2' is no address: ports are"),
        ("a:1*0", "'a:1*0' is no address: ports are"),
        ("a:1*65", "'a:1*65' is no address: ports are"),
        ("base=a:1,b:2", "'b:2' has no name: give NAME=HOST:PORT of each model, and | between its addresses"),
        ("base=a:1,base=b:2", "the model base is there twice: give it all of its addresses at once, as in"),
        ("a b=a:1", "'a b' is no name of a model"),
        ("=a:1", "'' is no name of a model"),
        ("base=", "'' is no address"),
        ("a:1,b:1,a:1", "a:1 is there twice"),
        ("x=a:1*2,y=a:11", "a:11 is there twice"),
    ],
)
def test_what_is_wrong_is_told(said: str, told: str) -> None:
    with pytest.raises(ValueError, match=re.escape(told)) as raised:
        targets.parse(said)
    assert str(raised.value).startswith(told)
    with pytest.raises(ValueError, match="triton_grpc"):
        Settings(triton_grpc=said)
