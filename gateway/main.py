"""Puts the gateway together, and does nothing else."""

from __future__ import annotations

from contextlib import asynccontextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING

from fastapi import FastAPI

from gateway import handlers, health, openapi, page
from gateway.auth import Keys
from gateway.cors import Preflights, Shared
from gateway.edits import Edits
from gateway.edits import router as edits_router
from gateway.fetch import Fetcher
from gateway.loader import Loader
from gateway.metrics import Metrics
from gateway.models import Models
from gateway.names import Named
from gateway.observe import Observed, refused
from gateway.plain import Plain
from gateway.threads import Threads

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from gateway.settings import Settings
    from gateway.tracing import Tracing


def create_app(settings: Settings, tracing: Tracing | None = None) -> FastAPI:
    """The gateway as an ASGI app, talking to the Tritons that `settings` name; `app.state.edits` counts edits,
    and `app.state.refused` what is refused before it gets here."""
    span, onward = (tracing.stage, tracing.onward) if tracing else (nullcontext, dict)
    threads, metrics, keys = Threads(settings.decode_threads), Metrics(span), Keys(settings.api_keys)
    models, fetcher = Models(settings.models, threads, metrics, onward), Fetcher(settings)
    edits = Edits(settings, models, Loader(settings, fetcher, threads, span), threads, metrics)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncGenerator[None]:
        async with models, fetcher:
            yield
            await edits.close_all()
        threads.close()

    app = FastAPI(title="Tritouch", lifespan=lifespan, docs_url=None, redoc_url=None, redirect_slashes=False)
    app.state.edits, app.state.refused = edits, partial(refused, metrics=metrics)
    app.include_router(edits_router(edits, keys))
    app.include_router(health.router(models, keys, metrics, lambda: edits.closed))
    if settings.playground_served:
        app.include_router(page.router())
    if settings.cors_origins:
        app.add_middleware(Preflights, origins=settings.cors_origins)
    if settings.names_checked:
        app.add_middleware(Named, names=settings.server_names)
    app.add_middleware(Observed, metrics=metrics)
    if tracing:
        app.add_middleware(tracing.around)
    if settings.cors_origins:
        app.add_middleware(Shared, origins=settings.cors_origins)
    app.add_middleware(Plain)
    handlers.install(app)
    openapi.install(app, keyed=bool(settings.api_keys))
    return app
