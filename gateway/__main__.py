"""`python -m gateway [--fd N]`: serve until SIGTERM or Ctrl-C, then finish what is in flight."""

import argparse
import importlib
import os
import socket
import sys

from pydantic import ValidationError

from gateway import logs
from gateway.collector import traces_url
from gateway.main import create_app
from gateway.server import Server
from gateway.settings import Settings

# How long a thread that decodes may keep the event loop waiting. Python's default is 0.005.
SWITCH_SECONDS = 0.001


def main() -> int:
    """Serve. Returns the exit code: 2 when a setting is wrong."""
    parser = argparse.ArgumentParser(prog="gateway", description="Serve POST /v1/images/edits on a running Triton.")
    parser.add_argument("--fd", type=int, help="descriptor of a listening socket to serve on, instead of host and port")
    arguments = parser.parse_args()
    try:
        settings = Settings()
    except ValidationError as error:
        for wrong in error.errors(include_input=False):
            name = "_".join(["TRITOUCH", *map(str, wrong["loc"][:1])]).upper()
            print(f"{name}: {wrong['msg']}", file=sys.stderr)
        return 2
    try:
        traced = bool(traces_url(os.environ))
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    sys.setswitchinterval(SWITCH_SECONDS)
    logs.configure(settings.log_level)
    tracing = importlib.import_module("gateway.tracing").Tracing() if traced else None
    Server(create_app(settings, tracing), settings).run(
        sockets=[socket.socket(fileno=arguments.fd)] if arguments.fd is not None else None
    )
    if tracing:
        tracing.close()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
