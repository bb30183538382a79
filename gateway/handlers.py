"""Turns everything a route can raise into the one JSON shape of `gateway.errors`."""

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException

from gateway.errors import CallerGoneError, PublicError, render

CLIENT_CLOSED_REQUEST = 499  # nginx's number for a caller who left; only logs and metrics ever see it.


async def _public(request: Request, error: Exception) -> Response:
    problem = error if isinstance(error, PublicError) else PublicError("internal_error")
    request.state.reason = problem.code
    return render(problem)


async def _http(request: Request, error: Exception) -> Response:
    """What the router itself raises: no such path, or no such method there."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    known = {404: "not_found", 405: "method_not_allowed"}
    response = await _public(request, PublicError(known.get(status, "internal_error")))
    if isinstance(error, HTTPException) and error.headers:
        response.headers.update(error.headers)
    if response.headers.get("Allow") == "GET":
        response.headers["Allow"] = "GET, HEAD"  # which is a GET here: see `gateway.plain`
    return response


async def _gone(request: Request, _: Exception) -> Response:
    request.state.reason = "caller_gone"
    return Response(status_code=CLIENT_CLOSED_REQUEST)


def install(app: FastAPI) -> None:
    """Register the handlers with `app`."""
    app.add_exception_handler(PublicError, _public)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(CallerGoneError, _gone)
