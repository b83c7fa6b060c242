"""The stand-in as an HTTP server on the loopback interface, and on no other."""

from __future__ import annotations

import socket
import struct
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from apps.fake_service.service import Answer, EmbeddingService, Request

_PIECES = 10
_RESET = struct.pack("ii", 1, 0)  # do not linger: whatever is under way is lost


@contextmanager
def serving(service: EmbeddingService, *, port: int = 0) -> Iterator[str]:
    """The service on a loopback port, in threads; gives its base_url.

    Raises:
        OSError: the port is taken.
    """
    server = _Server(port, service)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server.base_url
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, port: int, service: EmbeddingService) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.service = service

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client may give up before it is answered; anything else is a fault of the stand-in."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # one write an answer; small writes wait for each other's acknowledgement
    disable_nagle_algorithm = True
    server: _Server
    connection: socket.socket

    def do_POST(self) -> None:
        started = time.monotonic()
        if self.headers.get("Transfer-Encoding"):
            self.send_error(HTTPStatus.LENGTH_REQUIRED)  # and closes: what follows is of unknown length
            return
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        headers = dict(self.headers.items())
        path = self.path.partition("?")[0]
        request = Request(method=self.command, path=path, headers=headers, body=body)
        with self.server.service.visit(request) as answer:
            time.sleep(max(0.0, started + answer.delay_seconds - time.monotonic()))
        if answer.step.reset == "before":
            self._reset()
        elif answer.dropped:
            self.close_connection = True
        else:
            self._send(answer)

    do_GET = do_POST  # noqa: N815 - the server looks it up by this name

    def _send(self, answer: Answer) -> None:
        self.send_response(answer.status)
        for name, value in {"Content-Type": "application/json", **answer.headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        if answer.step.reset == "middle":
            self.wfile.write(answer.body[: len(answer.body) // 2])
            self.wfile.flush()
            self._reset()
        elif answer.step.trickle_seconds:
            self._trickle(answer.body, answer.step.trickle_seconds)
        else:
            self.wfile.write(answer.body)

    def _trickle(self, body: bytes, seconds: float) -> None:
        size = -(-len(body) // _PIECES)
        for start in range(0, len(body), size):
            self.wfile.flush()
            time.sleep(seconds / _PIECES)
            self.wfile.write(body[start : start + size])

    def _reset(self) -> None:
        """The connection ends with a reset (RST) instead of an orderly end (FIN)."""
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.connection.close()

    def log_message(self, *_args: object) -> None:
        """Requests are kept by the service, not printed."""
