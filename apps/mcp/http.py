"""The MCP server over streamable HTTP, as a route of the search API."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp.server.transport_security import TransportSecuritySettings
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from apps.http.errors import logged
from apps.http.guard import Caller
from apps.mcp.server import Asking, build
from pipeline.errors import DocweaveError
from pipeline.query_desk import Access, Desk

PATH = "/mcp"


class _Endpoint:
    """Hands requests to the manager. A class, because a route takes functions for something else."""

    def __init__(self, manager: StreamableHTTPSessionManager) -> None:
        self._manager = manager

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        await self._manager.handle_request(scope, receive, send)


def add_mcp(app: FastAPI) -> None:
    """Answer at /mcp, with the app's desk, behind the app's guard. No session: each request stands alone."""
    desk: Desk = app.state.desk
    manager = StreamableHTTPSessionManager(
        build(desk, _caller, _told)._lowlevel_server,  # noqa: SLF001 - the public way makes an app of its own
        stateless=True,
        json_response=True,
        # The guard has looked at the host by then.
        security_settings=TransportSecuritySettings(enable_dns_rebinding_protection=False),
    )
    app.router.routes.append(Route(PATH, endpoint=_Endpoint(manager)))
    inner = app.router.lifespan_context

    @asynccontextmanager
    async def lifespan(running: FastAPI) -> AsyncIterator[Any]:
        async with manager.run(), inner(running) as state:
            yield state

    app.router.lifespan_context = lifespan


def _told(error: DocweaveError) -> str:
    """As the search API does: of the server itself, no detail."""
    return logged(error).message


def _caller(asking: Asking) -> Access:
    """As the guard let them in. Without a guard nobody gets so far."""
    request = asking.request_context.request
    if request is None:
        raise LookupError("a question came by no request")
    caller: Caller = request.state.caller
    return caller.access
