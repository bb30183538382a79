"""The playground: a page at `/` that edits pictures through this gateway's own API. It knows nothing of edits.

The files in `gateway/playground` are served as they lie there. Browsers may load nothing from elsewhere, and no page of
another origin may frame this one.
"""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Final

from fastapi import APIRouter, Request, Response

FILES: Final = Path(__file__).parent / "playground"
INDEX: Final = "index.html"
PREFIX: Final = "/playground/"
TYPES: Final = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".jpg": "image/jpeg",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
"""Of the files that are served, by their suffix; others are none of the page's."""
HEADERS: Final = {
    "Cache-Control": "no-cache",
    "Content-Security-Policy": (
        "default-src 'self'; img-src 'self' blob: data:; object-src 'none'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def router() -> APIRouter:
    """The routes: `/`, and one for each file. They are open to everyone, and not part of the API."""
    routes = APIRouter(include_in_schema=False)
    for file in sorted(FILES.iterdir()):
        if file.suffix in TYPES:
            path = "/" if file.name == INDEX else PREFIX + file.name
            routes.get(path)(_answering(file.read_bytes(), TYPES[file.suffix]))
    return routes


def _answering(content: bytes, media_type: str) -> Callable[[Request], Response]:
    """The route of a file; whoever has it already is told so."""
    headers = HEADERS | {"ETag": f'"{hashlib.sha256(content).hexdigest()[:32]}"'}

    def answer(request: Request) -> Response:
        if request.headers.get("if-none-match") == headers["ETag"]:
            return Response(status_code=304, headers=headers)
        return Response(content, headers=headers, media_type=media_type)

    return answer
