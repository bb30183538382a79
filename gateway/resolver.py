"""Looks up the addresses of hosts, in threads of its own. Knows nothing of which may be reached."""

import asyncio
import socket
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any

from gateway.errors import PublicError
from gateway.shares import Shares


class Resolver:
    """Makes at most `threads` look-ups at once, shared by their callers as `Shares` has it.

    One that nobody awaits any more keeps its thread until the system gives up; in asyncio's own few threads, such
    look-ups would soon hold up all others. What finds no thread is turned away: to wait for one would take the time
    that its own look-up has.
    """

    def __init__(self, threads: int) -> None:
        self._pool = ThreadPoolExecutor(threads, "gateway-resolver")
        self._shares = Shares(threads)

    async def resolve(self, host: str, port: int, caller: str = "") -> list[IPv4Address | IPv6Address]:
        """All addresses of `host`, as this machine's resolver has them.

        Raises `OSError`; `PublicError("queue_full")` where no thread is free for `caller`.
        """
        if not self._shares.has(caller):
            raise PublicError("queue_full")
        look_up = partial(socket.getaddrinfo, host, port, proto=socket.IPPROTO_TCP)
        answers = asyncio.get_running_loop().run_in_executor(self._pool, look_up)
        self._shares.enter(caller)
        answers.add_done_callback(partial(self._over, caller))
        return [ip_address(str(answer[4][0])) for answer in await asyncio.shield(answers)]

    def _over(self, caller: str, answers: asyncio.Future[Any]) -> None:
        """A look-up has ended, whether or not anyone still awaits it: so its failure is looked at here."""
        self._shares.leave(caller)
        if not answers.cancelled():
            answers.exception()

    def close(self) -> None:
        """Drop what waits, and wait for nothing."""
        self._pool.shutdown(wait=False, cancel_futures=True)
