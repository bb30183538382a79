"""Looks up the addresses of hosts, in threads of its own. Knows nothing of which may be reached."""

import asyncio
import socket
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from ipaddress import IPv4Address, IPv6Address, ip_address


class Resolver:
    """Makes at most `threads` look-ups at once.

    One that nobody awaits any more keeps its thread until the system gives up; in asyncio's own few threads, such
    look-ups would soon hold up all others.
    """

    def __init__(self, threads: int) -> None:
        self._pool = ThreadPoolExecutor(threads, "gateway-resolver")

    async def resolve(self, host: str, port: int) -> list[IPv4Address | IPv6Address]:
        """All addresses of `host`, as this machine's resolver has them. Raises `OSError`."""
        look_up = partial(socket.getaddrinfo, host, port, proto=socket.IPPROTO_TCP)
        answers = await asyncio.get_running_loop().run_in_executor(self._pool, look_up)
        return [ip_address(str(answer[4][0])) for answer in answers]

    def close(self) -> None:
        """Drop what waits, and wait for nothing."""
        self._pool.shutdown(wait=False, cancel_futures=True)
