"""Puts the gateway together, and does nothing else."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from gateway import edits, handlers, health, openapi
from gateway.auth import Keys
from gateway.fetch import Fetcher
from gateway.loader import Loader
from gateway.metrics import Metrics
from gateway.observe import Observed
from gateway.settings import Settings
from gateway.threads import Threads
from gateway.triton import Triton


def create_app(settings: Settings) -> FastAPI:
    """The gateway as an ASGI app, talking to the Triton that `settings` name; `app.state.edits` is its heart."""
    threads, metrics, keys = Threads(settings.decode_threads), Metrics(), Keys(settings.api_keys)
    triton, fetcher = Triton(settings.triton_grpc, threads), Fetcher(settings)
    heart = edits.Edits(settings, triton, Loader(settings, fetcher, threads), threads, metrics)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncGenerator[None]:
        async with triton, fetcher:
            yield
            await heart.orphans.close()
        threads.close()

    app = FastAPI(title="Tritouch", lifespan=lifespan, docs_url=None, redoc_url=None, redirect_slashes=False)
    app.state.edits = heart
    app.include_router(edits.router(heart, keys))
    app.include_router(health.router(triton, keys, metrics, lambda: heart.callers.closed))
    app.add_middleware(Observed, metrics=metrics)
    handlers.install(app)
    openapi.install(app)
    return app
