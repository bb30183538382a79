"""Every address and spelling that must not be reached, tried against a listener that nothing may reach."""

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from ipaddress import ip_address
from socket import AF_PACKET
from typing import Any

import psutil
import pytest

from gateway.addresses import is_own, is_public
from gateway.errors import PublicError
from gateway.fetch import Fetcher
from gateway.settings import Settings
from tests.gateway.asking import until

PRIVATE_V4 = """
0.0.0.0 0.0.0.1 0.255.255.255 10.0.0.0 10.1.2.3 10.255.255.255 100.64.0.0 100.100.100.200 100.127.255.255 127.0.0.1
127.0.0.2 127.1.2.3 127.255.255.255 168.63.129.16 169.254.0.1 169.254.169.254 169.254.170.2 169.254.255.255 172.16.0.1
172.17.0.1 172.31.255.255 192.0.0.1 192.0.0.192 192.0.2.1 192.31.196.1 192.52.193.1 192.88.99.1 192.168.0.1
192.168.255.255 192.175.48.1 198.18.0.1 198.19.255.255 198.51.100.1 203.0.113.1 224.0.0.1 239.255.255.250 240.0.0.1
255.255.255.254 255.255.255.255
"""

# What hides 127.0.0.1 or another inner address in IPv6, and IPv6's own ranges.
PRIVATE_V6 = """
:: ::1 ::127.0.0.1 ::7f00:1 ::ffff:127.0.0.1 ::ffff:7f00:1 ::ffff:10.0.0.1 ::ffff:169.254.169.254 ::ffff:8.8.8.8
::ffff:0:127.0.0.1 64:ff9b::127.0.0.1 64:ff9b::7f00:1 64:ff9b::a9fe:a9fe 64:ff9b:1::7f00:1 100::1 100:0:0:1::1
2001::1 2001:0:7f00:1:: 2001:0:4136:e378:8000:63bf:80ff:fffe 2001:2::1 2001:10::1 2001:20::1 2001:db8::1
2001:db8::7f00:1 2002:7f00:1:: 2002:a00:1:: 2002:a9fe:a9fe:: 2002:c0a8:1::1 2002:808:808:: 2600::5efe:7f00:1
2600::200:5efe:7f00:1 2620:4f:8000::1 3fff::1 3fff:fff::1 4000::1 5f00::1 8000::1 fc00::1 fd00::1 fd00:ec2::254
fdff:ffff::1 fe80::1 fe80::a9fe:a9fe fec0::1 ff00::1 ff02::1 ff05::2 ff0e::1
"""

PUBLIC = """
1.1.1.1 8.8.8.8 93.184.216.34 172.15.255.255 172.32.0.1 192.0.1.1 198.20.0.1 2606:4700::1111 2a00:1450::1 2001:4860::1
"""

# Spellings that some parser or resolver takes for an inner address, or for another host than it seems.
SPELLINGS = r"""
127.1 127.0.1 0 0x0 2130706433 0x7f000001 0x7f.0.0.1 0x7f.1 0177.0.0.1 0177.0.0.01 017700000001 127.0.0.01 127.00.0.1
0127.0.0.1 127.0.0.1. 127.0.0.1.. 127.0.0.0x1 3232235521 0xa9fea9fe 2852039166 0251.0376.0251.0376 169.254.43518
4294967295 4294967296 127.0.0.256 1.2.3.4.5 127.0.0.1%00 127.0.0.1%2500 127%2e0%2e0%2e1 %31%32%37.0.0.1
localhost LOCALHOST localhost. localhost.localdomain.local a.localhost ip6-localhost triton gateway prometheus redis
host.docker.internal metadata.google.internal metadata kubernetes.default.svc.internal db.corp x.lan x.home.arpa
printer.local [::1] [::] [0:0:0:0:0:0:0:1] [::ffff:127.0.0.1] [::ffff:7f00:1] [0000::1] [::1%25lo] [::1%lo]
[fe80::1%25eth0] [::127.0.0.1] [64:ff9b::127.0.0.1] [2002:7f00:1::] [v1.127.0.0.1] [127.0.0.1] [::1 ::1 [[::1]]
[::ffff:0x7f000001] user@127.0.0.1 user:pass@127.0.0.1 example.com@127.0.0.1 127.0.0.1@example.com @127.0.0.1
example.com%40127.0.0.1 :@127.0.0.1 127.0.0.1\@example.com example.com\@127.0.0.1 127.0.0.1\.example.com
127.0.0.1#@example.com 127.0.0.1?@example.com -example.com example-.com .example.com example..com exa_mple-
_ . .. - %
"""
FOREIGN = [
    "1\uff127.0.0.1",
    "\uff11\uff12\uff17.\uff10.\uff10.\uff11",
    "127\u30020\u30020\u30021",
    "\u2460\u2461\u2466.\u24ea.\u24ea.\u2460",
    "\u24dbocalhost",
    "\uff4cocalhost",
    "loc\u00adalhost",
    "ex\u0430mple.com",
    "\u212a8s.local",
    "\u0661\u0662\u0667.0.0.1",
]

SHAPES = [
    "",
    "http:",
    "http:/",
    "http://",
    "http:///",
    "http:127.0.0.1",
    "http:/127.0.0.1/",
    "http:\\\\127.0.0.1\\",
    "http://\\127.0.0.1/",
    "http:////127.0.0.1/",
    "//127.0.0.1/",
    "ftp://example.com/",
    "file:///etc/passwd",
    "gopher://127.0.0.1:{port}/_x",
    "dict://127.0.0.1:{port}/",
    "unix:///var/run/docker.sock",
    "data://127.0.0.1/",
    "jar:http://127.0.0.1:{port}!/",
    "http+unix://127.0.0.1/",
    "\thttp://127.0.0.1:{port}/",
    " http://127.0.0.1:{port}/",
    "http://127.0.0.1:{port}/\r\nX: y",
    "http://ex ample.com/",
    "http://example.com:0x50/",
    "http://example.com:99999/",
    "http://example.com:-1/",
    "http://example.com: 80/",
    "http://example.com:22/",
    "http://example.com:8001/",
    "http://example.com/\x00",
    "http://example.com/\u00e9",
    "http://example.com/" + "a" * 5000,
    "http://" + "a" * 300 + ".com/",
    "http://" + "a" * 64 + ".com/",
]


class Canary:
    """Listens on this machine's own addresses, and counts who comes."""

    def __init__(self) -> None:
        self.reached = 0
        first = socket.create_server(("127.0.0.1", 0))
        self.port = first.getsockname()[1]
        self._sockets = [first]
        with suppress(OSError):  # not every machine has IPv6
            self._sockets.append(socket.create_server(("::1", self.port), family=socket.AF_INET6))
        for one in self._sockets:
            threading.Thread(target=self._listen, args=(one,), daemon=True).start()

    def _listen(self, listening: socket.socket) -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            self.reached += 1
            connection.close()

    def close(self) -> None:
        for one in self._sockets:
            one.shutdown(socket.SHUT_RDWR)
            one.close()


@pytest.fixture(scope="module")
def canary() -> Iterator[Canary]:
    canary = Canary()
    yield canary
    canary.close()


async def _everywhere(host: str, port: int) -> list[Any]:
    """A resolver that trusts what it is given: numbers as they are, and any name is this machine."""
    try:
        return [ip_address(host)]
    except ValueError:
        return [ip_address("127.0.0.1")]


async def _fetch(url: str, canary: Canary, resolver: Any = _everywhere, seconds: float = 1) -> bytes:
    settings = Settings(url_ports=(80, 443, canary.port), url_total_seconds=seconds)
    async with Fetcher(settings, resolver) as fetcher:
        return await fetcher.fetch(url, 1000, lambda size: None)


def _refused(url: str, canary: Canary, resolver: Any = _everywhere, seconds: float = 1) -> None:
    before = canary.reached
    with pytest.raises(PublicError) as caught:
        asyncio.run(_fetch(url, canary, resolver, seconds))
    assert caught.value.code == "image_url_unusable"
    assert canary.reached == before


@pytest.mark.parametrize("text", [*PRIVATE_V4.split(), *PRIVATE_V6.split()])
def test_addresses_that_are_not_public(canary: Canary, text: str) -> None:
    assert not is_public(ip_address(text))
    host = f"[{text}]" if ":" in text else text
    _refused(f"http://{host}:{canary.port}/", canary)

    async def named(host: str, port: int) -> list[Any]:
        return [ip_address(text)]

    _refused(f"http://cat.example.com:{canary.port}/", canary, named)


@pytest.mark.parametrize("text", PUBLIC.split())
def test_addresses_that_are(text: str) -> None:
    assert is_public(ip_address(text))


def test_this_machines_own_addresses_are_known() -> None:
    found = [one.address for several in psutil.net_if_addrs().values() for one in several if one.family != AF_PACKET]
    own = [ip_address(text.partition("%")[0]) for text in found]
    assert ip_address("127.0.0.1") in own
    assert [one for one in own if not is_own(one) and not one.is_link_local] == []


@pytest.mark.parametrize("text", ["8.8.8.8", "192.0.2.7", "2606:4700::1111", "::"])
def test_other_machines_addresses_are_not_its_own(text: str) -> None:
    assert not is_own(ip_address(text))


@pytest.mark.parametrize("host", ["127.0.0.1", "cat.example.com"])
def test_an_own_address_is_refused_though_it_is_public(
    canary: Canary, monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    monkeypatch.setattr("gateway.fetch.is_public", lambda address: True)
    _refused(f"http://{host}:{canary.port}/", canary)


def test_a_zone_is_never_public() -> None:
    assert not is_public(ip_address("2600::1%eth0"))


@pytest.mark.parametrize("host", [*SPELLINGS.split(), *FOREIGN])
@pytest.mark.parametrize("resolver", [_everywhere, None], ids=["trusting", "real"])
def test_spellings(canary: Canary, host: str, resolver: Any) -> None:
    _refused(f"http://{host}:{canary.port}/", canary, resolver)
    _refused(f"HTTP://{host}/", canary, resolver)


@pytest.mark.parametrize("shape", SHAPES)
def test_shapes(canary: Canary, shape: str) -> None:
    _refused(shape.replace("{port}", str(canary.port)), canary)


@pytest.mark.parametrize(
    "order", [("93.184.216.34", "127.0.0.1"), ("127.0.0.1", "93.184.216.34"), ("::1", "2606:4700::1")]
)
def test_one_inner_address_among_public_ones_is_enough(canary: Canary, order: tuple[str, str]) -> None:
    async def mixed(host: str, port: int) -> list[Any]:
        return [ip_address(one) for one in order]

    _refused(f"http://cat.example.com:{canary.port}/", canary, mixed)


def test_no_answer_is_a_refusal(canary: Canary) -> None:
    async def nothing(host: str, port: int) -> list[Any]:
        return []

    async def failing(host: str, port: int) -> list[Any]:
        raise socket.gaierror

    async def hanging(host: str, port: int) -> list[Any]:
        await asyncio.sleep(60)
        return []

    for resolver in (nothing, failing, hanging):
        _refused("http://cat.example.com/", canary, resolver, seconds=0.2)


def test_a_name_is_resolved_once_for_each_connection(canary: Canary) -> None:
    """So that a name server that answers otherwise the second time is never asked a second time."""
    asked: list[str] = []

    async def rebinding(host: str, port: int) -> list[Any]:
        asked.append(host)
        return [ip_address("203.0.113.1" if len(asked) == 1 else "127.0.0.1")]

    _refused(f"http://cat.example.com:{canary.port}/", canary, rebinding)
    assert asked == ["cat.example.com"]


def test_there_are_enough() -> None:
    words = [*PRIVATE_V4.split(), *PRIVATE_V6.split(), *SPELLINGS.split(), *FOREIGN, *SHAPES]
    assert len(set(words)) >= 200


def test_the_canary_can_be_reached(canary: Canary) -> None:
    """So that the silence of the others means something."""

    async def fetch() -> None:
        settings = Settings(url_ports=(canary.port,), url_private_hosts=("127.0.0.1",))
        async with Fetcher(settings) as fetcher:
            await fetcher.fetch(f"http://127.0.0.1:{canary.port}/", 1000, lambda size: None)

    before = canary.reached
    with pytest.raises(PublicError):
        asyncio.run(fetch())
    assert until(lambda: canary.reached == before + 1)
