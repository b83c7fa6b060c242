"""The search API as an ASGI application: its routes, and what stands in front of them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from importlib import metadata
from pathlib import Path

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware

from apps.http import dify, documents, health, open_webui, openai, searching
from apps.http.answers import ErrorAnswer
from apps.http.errors import answer_errors
from apps.http.guard import OPEN, Guard
from config.keys import KeyRing
from config.serving import ServingSettings
from pipeline.query_desk import Desk

DESCRIPTION = """\
Questions to passages of your documents, with what a citation needs: offsets, page, link.

Every error has the form `{"error": {"code": …, "message": …}}`.
"""

AddTo = Callable[[FastAPI], None]
"""Adds routes, or what stands in front of all of them."""


def create_app(
    desk: Desk, settings: ServingSettings, *, is_open: bool, also: Iterable[AddTo] = ()
) -> FastAPI:
    """The application.

    Args:
        desk: Answers: from now on with links of the web alone.
        settings: Say who may ask, how much and for how long.
        is_open: Whether nobody needs a key, until there is one.
        also: What else is part of it, such as metrics. It stands behind the guard.
    """

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        try:
            yield
        finally:
            await desk.aclose()

    app = FastAPI(
        title="Docweave",
        version=metadata.version("docweave"),
        description=DESCRIPTION,
        lifespan=lifespan,
        docs_url=None,  # its scripts would come from elsewhere
        redoc_url=None,
        generate_unique_id_function=lambda route: route.name,  # what apps call a tool that they make of it
        responses={
            "4XX": {"model": ErrorAnswer, "description": "The request cannot be answered as it is."},
            "5XX": {"model": ErrorAnswer, "description": "It cannot be answered just now."},
        },
    )
    desk.only_web = True
    app.state.desk = desk
    app.state.settings = settings
    app.state.without_key = set(OPEN)
    app.include_router(health.router)
    app.include_router(searching.router, prefix="/v1")
    app.include_router(documents.router, prefix="/v1")
    app.include_router(dify.router)
    app.include_router(openai.router)
    app.include_router(open_webui.router)
    answer_errors(app)
    for add_to in also:
        add_to(app)
    app.add_middleware(
        Guard,
        keys=KeyRing(Path(settings.keys)),
        is_open=is_open,
        settings=settings,
        without_key=app.state.without_key,
    )
    if settings.cors_origins:
        app.add_middleware(  # in front of the guard: a browser asks without a key whether it may ask
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "Content-Type"],
        )
    return app
