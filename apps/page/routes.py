"""The page's files, at `/` and below `/page`: for whoever asks, as they hold nothing of the documents."""

from __future__ import annotations

import gzip
import hashlib
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from fastapi import FastAPI, Request, Response
from starlette.routing import Route

from apps.page import overview
from apps.page.survey import Surveys

ROOT = "/page/"
KINDS = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
HEADERS = {
    # No script or style but the page's own, nothing of elsewhere, and no text that becomes HTML.
    "Content-Security-Policy": "default-src 'self'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'; object-src 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",  # asked for again by its ETag: another version may have been installed
}


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """One of the page's files, as it is sent."""

    content: bytes
    packed: bytes
    """The same, by gzip."""
    kind: str
    etag: str

    async def __call__(self, request: Request) -> Response:
        """The file; only that it is still the same, where the browser has it."""
        headers = {**HEADERS, "ETag": self.etag, "Vary": "Accept-Encoding"}
        if self.etag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        content = self.content
        if "gzip" in request.headers.get("accept-encoding", ""):
            content, headers["Content-Encoding"] = self.packed, "gzip"
        return Response(content, media_type=f"{self.kind}; charset=utf-8", headers=headers)


def files() -> dict[str, File]:
    """Every file, by the path that it is asked for by."""
    found = {}
    for one in resources.files("apps.page").joinpath("static").iterdir():
        kind = KINDS.get(Path(one.name).suffix)
        if kind:
            content = one.read_bytes()
            etag = f'W/"{hashlib.sha256(content).hexdigest()[:20]}"'
            path = "/" if one.name == "index.html" else ROOT + one.name
            found[path] = File(content=content, packed=gzip.compress(content, mtime=0), kind=kind, etag=etag)
    return found


def add_page(app: FastAPI) -> None:
    """Answer with the page at `/`, and with what it asks for beside the search.

    Args:
        app: Lets `app.state.without_key` through without a key.
    """
    app.state.surveys = Surveys()
    app.include_router(overview.router, prefix="/v1")
    for path, file in files().items():
        app.router.routes.append(Route(path, endpoint=file.__call__, methods=["GET"]))
        app.state.without_key.add(path)
