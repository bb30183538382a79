"""``python -m embedded``: serve a model repository until Ctrl-C or SIGTERM."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from embedded.errors import EmbeddedError
from embedded.triton_settings import MOST_REPLICAS

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from embedded.server import Embedded

_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_SAME_SECONDS = 1.0


class _StopAsked(BaseException):
    """A signal asked for the end. Not an Exception: no handler on the way may take it for a failure."""


class _Stop:
    """What stop signals do: the first begins the stop, which waits for edits in flight; a later one ends the wait."""

    def __init__(self) -> None:
        self._asked: float | None = None

    def __call__(self, _number: int, _frame: FrameType | None) -> None:
        if self._asked is None:
            self._asked = time.monotonic()
            with suppress(OSError):  # not by print, which may be what the signal came in the middle of
                os.write(1, b"stopping once what is in flight is done; again, and it stops at once\n")
            raise _StopAsked
        # A terminal that closes, and those who pass signals on, send several at once for one.
        if time.monotonic() - self._asked > _SAME_SECONDS:
            on_stop_signals(signal.SIG_IGN)
            raise _StopAsked


def on_stop_signals(handler: Callable[[int, FrameType | None], None] | signal.Handlers) -> None:
    """Handle each of them so, but for a terminal's end where `nohup` has had it ignored."""
    for number in _STOP_SIGNALS:
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, handler)


def _port(text: str) -> int:
    port = int(text) if text.isascii() and text.isdecimal() and len(text) < 20 else -1
    if not 0 <= port <= 65535:
        raise argparse.ArgumentTypeError("a port is from 0 (a free one) to 65535")
    return port


def _replicas(text: str) -> int:
    number = int(text) if text.isascii() and text.isdecimal() and len(text) < 20 else 0
    if not 1 <= number <= MOST_REPLICAS:
        raise argparse.ArgumentTypeError(f"give how many, 1 to {MOST_REPLICAS}")
    return number


def _tell(line: str) -> None:
    with suppress(OSError):  # the terminal is gone, or the log's disk is full: no reason not to start a Triton again
        print(f"embedded: {line}", file=sys.stderr, flush=True)


def _announce(running: Embedded, *, playground: bool) -> None:
    if running.http_url and playground:
        print(f"open     {running.http_url}   to edit pictures in a browser")
    if running.http_url:
        print(f"gateway  {running.http_url}")
    for triton in running.tritons:
        http = f"   HTTP {triton.http}" if triton.http else ""
        print(f"Triton   gRPC {triton.grpc}{http}   metrics {triton.metrics_url}")
    print(f"logs     {running.run}   (Ctrl-C stops)", flush=True)


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line, as argparse reads it."""
    parser = argparse.ArgumentParser(
        "python -m embedded", "%(prog)s [options]", description="Serve a model repository on this machine."
    )
    parser.add_argument(
        "--repository",
        type=Path,
        metavar="DIR",
        help="default: TRITOUCH_REPOSITORY, or the checkout's model_repository",
    )
    parser.add_argument(
        "--port", type=_port, metavar="N", help="the gateway's port (default: TRITOUCH_PORT; 0 for a free one)"
    )
    parser.add_argument(
        "--replicas",
        type=_replicas,
        metavar="N",
        help="so many Tritons, over which the gateway spreads edits (default: TRITOUCH_TRITON_REPLICAS, 1)",
    )
    parser.add_argument("--no-gateway", action="store_true", help="start Triton alone")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Serve. Returns 0 after a stop that was asked for, 1 when a server failed, 2 for what the user can put right."""
    options = parse(arguments)
    on_stop_signals(_Stop())
    try:
        # Imported here, so that a package it lacks is one line too.
        from embedded.server import serve  # noqa: PLC0415
        from embedded.settings import load_settings  # noqa: PLC0415
        from gateway.settings import Settings  # noqa: PLC0415

        settings = load_settings()
        if options.replicas:
            settings = settings.model_copy(update={"triton_replicas": options.replicas})
        asked = {"gateway": not options.no_gateway, "port": options.port, "settings": settings}
        with serve(options.repository, tell=_tell, **asked) as running:
            _announce(running, playground=Settings().playground_served)
            running.watch(_tell)
    except EmbeddedError as error:
        print(f"embedded: {error}", file=sys.stderr)
        return error.exit_code
    except ModuleNotFoundError as error:
        print(f"embedded: the {error.name} package is not installed: run `make setup`", file=sys.stderr)
        return EmbeddedError.exit_code
    except OSError as error:
        print(f"embedded: {error}", file=sys.stderr)
        return EmbeddedError.exit_code
    except _StopAsked:
        pass
    return 0


if __name__ == "__main__":
    sys.exit(main())
