"""`healthy.py URL`: exits with 0 when the URL answers 200 within 5 s. For health checks in images without curl.

`healthy.py FILE`, of a file with a URL a line, exits with 0 when one of them does, and says of each whether it does.
"""

import http.client
import sys
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

SECONDS = 5.0


def answers(url: str) -> bool:
    """Whether it does. Asks once, past any proxy."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=SECONDS) as answer:
            return bool(answer.status == 200)
    except (OSError, http.client.HTTPException):
        return False


def main() -> int:
    """Asks all. Returns the exit code."""
    if sys.argv[1].startswith("http"):
        return int(not answers(sys.argv[1]))
    try:
        urls = Path(sys.argv[1]).read_text("utf-8").split()
    except OSError:
        return 1
    # At once: two that hang would take all of a check's time, though others are well.
    with ThreadPoolExecutor(max(1, len(urls))) as asking:
        well = dict(zip(urls, asking.map(answers, urls), strict=True))
    sys.stdout.write("".join(f"{url} {'is ready' if ready else 'is not ready'}\n" for url, ready in well.items()))
    return int(not any(well.values()))


if __name__ == "__main__":
    sys.exit(main())
