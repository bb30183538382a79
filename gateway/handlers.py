"""Turns everything a route can raise into the one JSON shape of `gateway.errors`."""

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException

from gateway.body import CallerGoneError
from gateway.errors import PublicError, render

CLIENT_CLOSED_REQUEST = 499  # nginx's number for a caller who left; only logs ever see it.


async def _problem(_: Request, error: Exception) -> Response:
    return render(error if isinstance(error, PublicError) else PublicError("internal_error"))


async def _http(_: Request, error: Exception) -> Response:
    """What the router itself raises: no such path, or no such method there."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    known = {404: "not_found", 405: "method_not_allowed"}
    response = render(PublicError(known.get(status, "internal_error")))
    if isinstance(error, HTTPException) and error.headers:
        response.headers.update(error.headers)
    return response


async def _gone(_: Request, __: Exception) -> Response:
    return Response(status_code=CLIENT_CLOSED_REQUEST)


def install(app: FastAPI) -> None:
    """Register the handlers with `app`."""
    app.add_exception_handler(PublicError, _problem)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(CallerGoneError, _gone)
    app.add_exception_handler(Exception, _problem)
