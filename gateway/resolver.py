"""Looks up the addresses of hosts, in threads of its own. Knows nothing of which may be reached."""

import asyncio
import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any

from gateway.admission import Gate
from gateway.errors import PublicError


class Resolver:
    """Makes at most `threads` look-ups at once, for one caller at most `each`.

    One that nobody awaits any more keeps its thread until the system gives up; in asyncio's own few threads, such
    look-ups would soon hold up all others. What finds no thread is turned away: to wait for one would take the time
    that its own look-up has.
    """

    def __init__(self, threads: int, each: int) -> None:
        self._pool = ThreadPoolExecutor(threads, "gateway-resolver")
        self._gate = Gate(threads, each)

    async def resolve(self, host: str, port: int, caller: str = "") -> list[IPv4Address | IPv6Address]:
        """All addresses of `host`, as this machine's resolver has them.

        Raises `OSError`; `PublicError("queue_full")` where no thread is free for `caller`.
        """
        look_up = partial(socket.getaddrinfo, host, port, proto=socket.IPPROTO_TCP)
        with ExitStack() as place:
            try:
                place.enter_context(self._gate.entered(caller))
            except PublicError as error:
                raise PublicError(error.code) from None  # its words are about edits
            answers = asyncio.get_running_loop().run_in_executor(self._pool, look_up)
            answers.add_done_callback(partial(_over, place.pop_all()))
        return [ip_address(str(answer[4][0])) for answer in await asyncio.shield(answers)]

    def close(self) -> None:
        """Drop what waits, and wait for nothing."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def _over(place: ExitStack, answers: asyncio.Future[Any]) -> None:
    """A look-up has ended, whether or not anyone still awaits it: so its failure is looked at here."""
    place.close()
    if not answers.cancelled():
        answers.exception()
