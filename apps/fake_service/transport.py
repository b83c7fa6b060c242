"""The stand-in in place of httpx's network, for tests in one process."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

import anyio
import httpx

from apps.fake_service.service import EmbeddingService, Request

_PIECES = 10


def transport_of(service: EmbeddingService) -> httpx.MockTransport:
    """Answers as the server does: delays, breaks and trickles included."""

    async def handle(request: httpx.Request) -> httpx.Response:
        started = time.monotonic()
        path, headers = request.url.path, dict(request.headers)
        came = Request(method=request.method, path=path, headers=headers, body=request.content)
        with service.visit(came) as answer:
            await anyio.sleep(max(0.0, started + answer.delay_seconds - time.monotonic()))
        if answer.dropped:
            told = "Server disconnected without sending a response."
            raise httpx.RemoteProtocolError(told, request=request)
        body: bytes | AsyncIterator[bytes] = answer.body
        if answer.step.reset == "middle":
            body = _broken(answer.body)
        elif answer.step.trickle_seconds:
            body = _trickled(answer.body, answer.step.trickle_seconds)
        headers = {"Content-Type": "application/json", **answer.headers}
        return httpx.Response(answer.status, headers=headers, content=body)

    return httpx.MockTransport(handle)


async def _broken(body: bytes) -> AsyncIterator[bytes]:
    yield body[: len(body) // 2]
    raise httpx.ReadError("Connection reset by peer")


async def _trickled(body: bytes, seconds: float) -> AsyncIterator[bytes]:
    size = -(-len(body) // _PIECES)
    for start in range(0, len(body), size):
        await anyio.sleep(seconds / _PIECES)
        yield body[start : start + size]
