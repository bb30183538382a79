"""`healthy.py URL`: exits with 0 when the URL answers 200 within 5 s. For health checks in images without curl."""

import sys
import urllib.error
import urllib.request

SECONDS = 5.0


def main() -> int:
    """Asks once, past any proxy."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(sys.argv[1], timeout=SECONDS) as answer:
            return int(answer.status != 200)
    except (urllib.error.URLError, OSError):
        return 1


if __name__ == "__main__":
    sys.exit(main())
