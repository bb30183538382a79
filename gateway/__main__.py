"""`python -m gateway [--fd N]`: serve until SIGTERM or Ctrl-C, then finish what is in flight."""

import argparse
import socket
import sys

import uvicorn
from pydantic import ValidationError

from gateway.main import create_app
from gateway.settings import Settings


def main() -> int:
    """Serve. Returns the exit code: 2 when a setting is wrong."""
    parser = argparse.ArgumentParser(prog="gateway", description="Serve POST /v1/images/edits on a running Triton.")
    parser.add_argument("--fd", type=int, help="descriptor of a listening socket to serve on, instead of host and port")
    arguments = parser.parse_args()
    try:
        settings = Settings()
    except ValidationError as error:
        for wrong in error.errors():
            print(f"TRITOUCH_{'_'.join(map(str, wrong['loc'])).upper()}: {wrong['msg']}", file=sys.stderr)
        return 2
    config = uvicorn.Config(
        create_app(settings),
        host=settings.host,
        port=settings.port,
        ws="none",
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=settings.drain_seconds,
    )
    uvicorn.Server(config).run(sockets=[socket.socket(fileno=arguments.fd)] if arguments.fd is not None else None)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
