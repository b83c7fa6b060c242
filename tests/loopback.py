"""Servers on this machine that answer as a test wants it."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, TypeVar
from urllib.parse import parse_qsl, urlsplit

import pytest

from connectors._http import Manners, Patience


def hasten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connectors ask again after a millisecond, and at any pace."""
    init = Manners.__init__

    def hasty(self: Manners, **given: Any) -> None:
        init(self, **{**given, "patience": Patience(first_wait_seconds=0.001), "per_second": None})

    monkeypatch.setattr(Manners, "__init__", hasty)


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A request."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    """By names in lower case."""
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True, kw_only=True)
class Said:
    """An answer; of another type than bytes, JSON."""

    content: object = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


Answering = Callable[[Asked], Said]
Planned = TypeVar("Planned", bound="Said | None")


@contextmanager
def failing(fails: dict[str, list[Planned]], where: str, answers: list[Planned]) -> Iterator[None]:
    """While it lasts, a service that answers by such a plan answers so; then as it should again."""
    fails[where] = answers
    yield
    fails.clear()


@contextmanager
def serving(answer: Answering) -> Iterator[str]:
    """The address of a server that gives these answers."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            said = answer(
                Asked(
                    method=self.command,
                    path=parts.path,
                    query=dict(parse_qsl(parts.query, keep_blank_values=True)),
                    headers={name.lower(): value for name, value in self.headers.items()},
                    body=self.rfile.read(int(self.headers.get("Content-Length") or 0)),
                )
            )
            plain = isinstance(said.content, bytes)
            content = said.content if isinstance(said.content, bytes) else json.dumps(said.content).encode()
            self.send_response(said.status)
            headers = {"Content-Type": "text/plain" if plain else "application/json", **said.headers}
            for name, value in {**headers, "Content-Length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        def do_POST(self) -> None:
            self.do_GET()

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
