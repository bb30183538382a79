"""Puts the gateway together, and does nothing else."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from gateway import edits, handlers, health, openapi
from gateway.settings import Settings
from gateway.triton import Triton


def create_app(settings: Settings) -> FastAPI:
    """The gateway as an ASGI application, talking to the Triton that `settings` name."""
    triton = Triton(settings.triton_grpc)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with triton:
            yield

    app = FastAPI(title="Tritouch", lifespan=lifespan)
    app.include_router(edits.router(settings, triton))
    app.include_router(health.router(triton))
    handlers.install(app)
    openapi.install(app)
    return app
