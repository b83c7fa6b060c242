"""A web site on loopback, in the test's own event loop: notes what it is asked, and misbehaves if told to."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from typing import TypeAlias
from urllib.parse import quote

from connectors.media_types import media_type

LOOPBACK = "127.0.0.0/8"


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A request, and what was answered."""

    method: str
    path: str
    headers: dict[str, str]
    """By names in lower case."""
    status: int = 0


@dataclass(frozen=True, kw_only=True)
class Answered:
    """What is to be answered."""

    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    etag: bool = True
    """Whether there is one, and whether it is compared."""
    packed: bool = False
    cut_at: int | None = None
    """So many bytes of the body come, and then the end."""
    trickle: float | None = None
    """Seconds between one byte and the next."""


Route: TypeAlias = Answered | Callable[[Asked], Answered]


class Site:
    """What is served, by path and query, and what was asked."""

    def __init__(self) -> None:
        self.routes: dict[str, Route] = {}
        self.otherwise: Callable[[Asked], Answered] | None = None
        self.asked: list[Asked] = []
        self.serving: set[asyncio.Task[None]] = set()
        """One for each open connection."""
        self.url = ""

    async def until_closed(self) -> None:
        """Wait until nobody is connected any more.

        Raises:
            TimeoutError: somebody still is.
        """
        async with asyncio.timeout(5):
            await asyncio.gather(*self.serving, return_exceptions=True)

    def put(self, path: str, body: bytes | str = b"", **how: object) -> None:
        content = body.encode() if isinstance(body, str) else body
        self.routes[path] = replace(Answered(body=content), **how)  # type: ignore[arg-type]

    def drop(self, path: str) -> None:
        del self.routes[path]

    def redirect(self, path: str, target: str, status: int = 302) -> None:
        self.put(path, status=status, headers={"Location": target}, etag=False)

    def answers(self, path: str, route: Callable[[Asked], Answered]) -> None:
        self.routes[path] = route

    def paths(self, method: str = "GET", status: int | None = None) -> list[str]:
        """What was asked so, in order, robots.txt apart."""
        return [
            one.path
            for one in self.asked
            if one.method == method and one.path != "/robots.txt" and status in (None, one.status)
        ]

    def downloads(self) -> list[str]:
        """What was sent with its content."""
        return self.paths(status=200)

    def answer(self, asked: Asked) -> Answered:
        route = self.routes.get(asked.path)
        if route is None:
            missing = Answered(status=404, etag=False)
            found = self.otherwise(asked) if self.otherwise else missing
        else:
            found = route if isinstance(route, Answered) else route(asked)
        if found.etag and found.status == HTTPStatus.OK:
            etag = f'"{hashlib.sha256(found.body).hexdigest()[:16]}"'
            found = replace(found, headers={"ETag": etag, **found.headers})
            if asked.headers.get("if-none-match") == etag:
                return replace(found, status=304, body=b"")
        modified = found.headers.get("Last-Modified")
        if modified and asked.headers.get("if-modified-since") == modified and not found.etag:
            return replace(found, status=304, body=b"")
        if "Content-Type" not in found.headers:
            kind = media_type(asked.path.partition("?")[0])
            found = replace(found, headers={"Content-Type": kind, **found.headers})
        if found.packed:
            body = gzip.compress(found.body)
            found = replace(found, body=body, headers={"Content-Encoding": "gzip", **found.headers})
        return found


@asynccontextmanager
async def serving(tls: ssl.SSLContext | None = None) -> AsyncIterator[Site]:
    """A site, for as long as the block lasts."""
    site = Site()
    server = await asyncio.start_server(lambda r, w: _serve(site, r, w), "127.0.0.1", 0, ssl=tls)
    site.url = f"{'https' if tls else 'http'}://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield site
    finally:
        server.close()
        for task in site.serving:
            task.cancel()
        await asyncio.gather(*site.serving, return_exceptions=True)


async def _serve(site: Site, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    task = asyncio.current_task()
    assert task
    site.serving.add(task)
    with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
        while await _one(site, reader, writer):
            pass
    writer.close()
    site.serving.discard(task)


async def _one(site: Site, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    """One request and its answer; whether there may be another."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    method, path, _ = head[0].split(" ")
    pairs = (line.partition(":") for line in head[1:] if line)
    headers = {name.lower(): value.strip() for name, _, value in pairs}
    if length := int(headers.get("content-length", 0)):
        await reader.readexactly(length)
    asked = Asked(method=method, path=path, headers=headers)
    found = site.answer(asked)
    site.asked.append(replace(asked, status=found.status))
    lines = [f"HTTP/1.1 {found.status} {HTTPStatus(found.status).phrase}"]
    lines += [f"{name}: {value}" for name, value in found.headers.items()]
    if found.status != HTTPStatus.NOT_MODIFIED and "Transfer-Encoding" not in found.headers:
        lines.append(f"Content-Length: {len(found.body)}")
    start = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
    body = b"" if method == "HEAD" else found.body[: found.cut_at]
    if found.trickle is None:
        writer.write(start + body)
    else:
        writer.write(start)
        for byte in body:
            await asyncio.sleep(found.trickle)
            writer.write(bytes([byte]))
            await writer.drain()
    await writer.drain()
    return found.cut_at is None


def path_of(key: str) -> str:
    """The path of a URL for a name with anything in it."""
    return "/" + quote(key)


def key_of(url: str, site: Site) -> str:
    """The URL without the site."""
    return url.removeprefix(site.url + "/")
