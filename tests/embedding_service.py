"""A stand-in for Perplexity's contextualized endpoint: refuses what the documentation refuses.

Its vectors are digests, not meaning. That of a chunk depends on the whole group, in order, and on nothing
else: an oracle that shows every vector that is stale or misplaced. As `httpx.MockTransport`, as an HTTP
server in a thread, or by hand:

    python tests/embedding_service.py --port 8901 --delay-ms 40 --delay-us-per-token 2
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import anyio
import httpx
import numpy as np
from numpy.typing import NDArray

from pipeline import tokens

PATH = "/v1/contextualizedembeddings"
DIMENSIONS = {"pplx-embed-context-v1-0.6b": 1024, "pplx-embed-context-v1-4b": 2560}
USD_PER_MILLION = {"pplx-embed-context-v1-0.6b": 0.008, "pplx-embed-context-v1-4b": 0.05}
LEAST_DIMENSIONS = 128
MOST_DOCUMENTS = 512
MOST_CHUNKS = 16_000
MOST_DOCUMENT_TOKENS = 32_000
MOST_TOKENS = 120_000
SEPARATOR = "<|endoftext|>"


def vectors_of(texts: Sequence[str], *, model: str, dimensions: int) -> NDArray[np.int8]:
    """What the service gives for a group: shape (chunks, dimensions).

    The chunks are joined by the separator and read as one, as the model does: a literal separator within a
    text shifts every vector after it.
    """
    joined = SEPARATOR.join(texts)
    whole = hashlib.sha256(f"{model}\n{joined}".encode()).digest()
    vectors = np.empty((len(texts), dimensions), dtype=np.int8)
    spans = joined.split(SEPARATOR)[: len(texts)]
    for place, span in enumerate(spans):
        # An extendable digest: fewer dimensions are a prefix of more, as with the real models.
        state = hashlib.shake_256(whole + place.to_bytes(4, "little") + span.encode())
        vectors[place] = np.frombuffer(state.digest(dimensions), dtype=np.int8)
    return np.maximum(vectors, -127)  # int8 = round(tanh(x) * 127) has no -128


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """How one request is answered: as it should be, unless something here says otherwise."""

    status: int = 200
    body: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    spoil: Callable[[dict[str, Any]], None] | None = None
    """Changes the right reply before it is sent."""
    cut: bool = False
    """Send half of the body, as if that were all."""
    dropped: bool = False
    """Close the connection instead of answering."""
    delay_seconds: float = 0.0


GOOD = Step()


def status(code: int, said: str = "made to fail", **headers: str) -> Step:
    """Refuse; `retry_after="3"` becomes the header Retry-After."""
    return Step(
        status=code,
        body=json.dumps({"error": {"message": said, "code": code}}).encode(),
        headers={name.replace("_", "-"): value for name, value in headers.items()},
    )


def error_with_200(said: str = "upstream failed") -> Step:
    return Step(body=json.dumps({"error": {"message": said, "code": 502}}).encode())


def _drop_chunk(reply: dict[str, Any]) -> None:
    del reply["data"][0]["data"][-1]


def _double_index(reply: dict[str, Any]) -> None:
    reply["data"][0]["index"] = len(reply["data"])


def _shorten(reply: dict[str, Any]) -> None:
    item = reply["data"][0]["data"][0]
    item["embedding"] = base64.b64encode(base64.b64decode(item["embedding"])[:-1]).decode()


def _zero(reply: dict[str, Any]) -> None:
    item = reply["data"][0]["data"][0]
    item["embedding"] = base64.b64encode(bytes(len(base64.b64decode(item["embedding"])))).decode()


EMPTY_DATA = Step(spoil=lambda reply: reply.update(data=[]))
MISSING_DOCUMENT = Step(spoil=lambda reply: reply["data"].pop())
MISSING_CHUNK = Step(spoil=_drop_chunk)
WRONG_INDEX = Step(spoil=_double_index)
SHORT_VECTOR = Step(spoil=_shorten)
ZERO_VECTOR = Step(spoil=_zero)
OTHER_MODEL = Step(spoil=lambda reply: reply.update(model="pplx-embed-context-v1-4b"))
NO_USAGE = Step(spoil=lambda reply: reply.pop("usage"))
NO_COST = Step(spoil=lambda reply: reply["usage"].pop("cost"))
TRUNCATED = Step(cut=True)
DROPPED = Step(dropped=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A request as the service saw it, and what became of it."""

    status: int
    """0 where the connection was dropped."""
    said: str = ""
    groups: int = 0
    chunks: int = 0
    tokens: int = 0
    """Separators included."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    status: int
    body: bytes
    headers: Mapping[str, str]
    delay_seconds: float
    dropped: bool


class Refusal(Exception):
    """What the service says to a request that it will not answer."""

    def __init__(self, status: int, said: str, *, about: Sequence[str | int] = ()) -> None:
        super().__init__(said)
        self.status = status
        if status == 422:
            detail = [{"loc": ["body", *about], "msg": said, "type": "value_error"}]
            self.body = json.dumps({"detail": detail}).encode()
        else:
            self.body = json.dumps({"error": {"message": said, "code": status}}).encode()


class EmbeddingService:
    """The service, without a network. Thread-safe."""

    def __init__(
        self,
        *,
        api_key: str = "test-key",
        seed: int = 0,
        script: Iterable[Step] = (),
        delay: Callable[[int], float] = lambda _tokens: 0.0,
        count: Callable[[str], int] = tokens.count,
    ) -> None:
        """Args: `script` answers the first requests, one step each; `delay` gives seconds for tokens."""
        self.requests: list[Seen] = []
        self._api_key = api_key
        self._random = random.Random(seed)
        self._script = iter(script)
        self._delay = delay
        self._count = count
        self._counted: dict[bytes, int] = {}
        self._lock = threading.Lock()

    def answer(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """Answer one request. Headers are looked up as the caller's mapping does it."""
        with self._lock:
            step = next(self._script, GOOD)
        seen: dict[str, int] = {}
        try:
            reply = self._reply(method, path, headers, body, seen)
            sent, code, said = self._as_told(step, reply)
        except Refusal as refusal:
            sent, code, said = refusal.body, refusal.status, str(refusal)
        with self._lock:
            self.requests.append(Seen(status=0 if step.dropped else code, said=said, **seen))
        return Answer(
            status=code,
            body=sent[: len(sent) // 2] if step.cut else sent,
            headers=step.headers,
            delay_seconds=step.delay_seconds + self._delay(seen.get("tokens", 0)),
            dropped=step.dropped,
        )

    @property
    def refused(self) -> list[Seen]:
        """The requests that were not answered with 200."""
        return [seen for seen in self.requests if seen.status != 200]

    def transport(self) -> httpx.MockTransport:
        """The service in place of httpx's network."""

        async def handle(request: httpx.Request) -> httpx.Response:
            answer = self.answer(request.method, request.url.path, request.headers, request.content)
            await anyio.sleep(answer.delay_seconds)
            if answer.dropped:
                raise httpx.RemoteProtocolError(
                    "Server disconnected without sending a response.", request=request
                )
            headers = {"Content-Type": "application/json", **answer.headers}
            return httpx.Response(answer.status, headers=headers, content=answer.body)

        return httpx.MockTransport(handle)

    @staticmethod
    def _as_told(step: Step, reply: dict[str, Any]) -> tuple[bytes, int, str]:
        if step.body is not None:
            return step.body, step.status, "as told"
        if step.spoil:
            step.spoil(reply)
        return json.dumps(reply).encode(), step.status, "as told" if step is not GOOD else ""

    def _reply(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes, seen: dict[str, int]
    ) -> dict[str, Any]:
        if headers.get("Authorization") != f"Bearer {self._api_key}":
            raise Refusal(401, "Invalid API key provided")
        if path != PATH:
            raise Refusal(404, f"no such path: {path}")
        if method != "POST":
            raise Refusal(405, "method not allowed")
        asked = self._asked(body)
        counts = [self._tokens(group) for group in asked["input"]]
        seen.update(groups=len(counts), chunks=sum(map(len, asked["input"])), tokens=sum(counts))
        if (most := max(counts)) > MOST_DOCUMENT_TOKENS:
            place = counts.index(most)
            raise Refusal(400, f"document {place} has {most} tokens, the limit is {MOST_DOCUMENT_TOKENS}")
        if sum(counts) > MOST_TOKENS:
            raise Refusal(400, f"the request has {sum(counts)} tokens, the limit is {MOST_TOKENS}")
        return self._embedded(asked, sum(counts))

    @staticmethod
    def _asked(body: bytes) -> dict[str, Any]:
        """The request, checked against all that can be checked without counting tokens."""
        try:
            asked = json.loads(body)
        except ValueError:
            raise Refusal(422, "JSON decode error") from None
        if not isinstance(asked, dict):
            raise Refusal(422, "Input should be an object")
        for name in asked.keys() - {"input", "model", "dimensions", "encoding_format"}:
            raise Refusal(422, "Extra inputs are not permitted", about=[name])
        model = asked.get("model")
        if model not in DIMENSIONS:
            raise Refusal(422, "Input should be one of the contextual models", about=["model"])
        dimensions = asked.setdefault("dimensions", DIMENSIONS[model])
        if type(dimensions) is not int or not LEAST_DIMENSIONS <= dimensions <= DIMENSIONS[model]:
            said = f"Input should be from {LEAST_DIMENSIONS} to {DIMENSIONS[model]}"
            raise Refusal(422, said, about=["dimensions"])
        if asked.setdefault("encoding_format", "base64_int8") not in {"base64_int8", "base64_binary"}:
            raise Refusal(422, "Input should be base64_int8 or base64_binary", about=["encoding_format"])
        _check_input(asked.get("input"))
        return asked

    def _tokens(self, texts: list[str]) -> int:
        return sum(map(self._count_once, texts)) + len(texts) - 1

    def _count_once(self, text: str) -> int:
        key = hashlib.blake2b(text.encode(), digest_size=16).digest()
        if key not in self._counted:
            self._counted[key] = self._count(text)
        return self._counted[key]

    def _embedded(self, asked: dict[str, Any], tokens: int) -> dict[str, Any]:
        model, dimensions, encoding = asked["model"], asked["dimensions"], asked["encoding_format"]
        data: list[dict[str, Any]] = []
        for place, texts in enumerate(asked["input"]):
            vectors = vectors_of(texts, model=model, dimensions=dimensions)
            if encoding == "base64_binary":
                vectors = np.packbits(vectors >= 0, axis=1, bitorder="little").view(np.int8)
            chunks = [
                {"object": "embedding", "index": index, "embedding": base64.b64encode(vector).decode()}
                for index, vector in enumerate(vectors)
            ]
            data.append({"object": "list", "index": place, "data": chunks})
        with self._lock:  # nobody may rely on the order of the items
            for document in data:
                self._random.shuffle(document["data"])
            self._random.shuffle(data)
        cost = tokens * USD_PER_MILLION[model] / 1e6
        usage = {
            "prompt_tokens": tokens,
            "total_tokens": tokens,
            "cost": {"input_cost": cost, "total_cost": cost, "currency": "USD"},
        }
        return {"object": "list", "model": model, "data": data, "usage": usage}


def _check_input(groups: Any) -> None:
    if not isinstance(groups, list) or not groups:
        raise Refusal(422, "Input should be a list of documents, not empty", about=["input"])
    if len(groups) > MOST_DOCUMENTS:
        raise Refusal(422, f"List should have at most {MOST_DOCUMENTS} items", about=["input"])
    for place, texts in enumerate(groups):
        if not isinstance(texts, list) or not texts:
            raise Refusal(422, "Input should be a list of chunks, not empty", about=["input", place])
        for index, text in enumerate(texts):
            if not isinstance(text, str) or not text.strip():
                raise Refusal(422, "Input should be a string with text", about=["input", place, index])
    chunks = sum(map(len, groups))
    if chunks > MOST_CHUNKS:
        raise Refusal(400, f"the request has {chunks} chunks, the size limit is {MOST_CHUNKS}")


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

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        headers = {name.title(): value for name, value in self.headers.items()}
        answer = self.server.service.answer(self.command, self.path, headers, body)
        time.sleep(answer.delay_seconds)
        if answer.dropped:
            self.close_connection = True
            return
        self.send_response(answer.status)
        for name, value in {"Content-Type": "application/json", **answer.headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        self.wfile.write(answer.body)

    do_GET = do_POST  # noqa: N815 - the server looks it up by this name

    def log_message(self, *_args: object) -> None:
        """Requests are counted, not printed."""


@contextmanager
def serving(service: EmbeddingService, *, port: int = 0) -> Iterator[str]:
    """The service on a loopback port, in threads; gives its base_url."""
    server = _Server(port, service)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server.base_url
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def summary(requests: Sequence[Seen]) -> str:
    """One line for the whole, one for each reason for a refusal."""
    good = [seen for seen in requests if seen.status == 200]
    tokens = sum(seen.tokens for seen in good)
    groups, chunks = sum(seen.groups for seen in good), sum(seen.chunks for seen in good)
    full = 100 * tokens / max(1, len(good) * MOST_TOKENS)
    held = f"{groups} groups, {chunks} chunks, {tokens} tokens, {full:.1f} % full"
    lines = [f"{len(requests)} requests, {len(good)} answered: {held}"]
    reasons = Counter((seen.status, seen.said) for seen in requests if seen.status != 200)
    lines += [f"  {count} x {code} {said}" for (code, said), count in reasons.most_common(20)]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Serve deterministic vectors as Perplexity's endpoint would."
    )
    parser.add_argument("--port", type=int, default=8901)
    parser.add_argument("--api-key", default="test-key")
    parser.add_argument("--delay-ms", type=float, default=0.0)
    parser.add_argument("--delay-us-per-token", type=float, default=0.0)
    options = parser.parse_args()

    def delay(tokens: int) -> float:
        return float(options.delay_ms / 1e3 + tokens * options.delay_us_per_token / 1e6)

    service = EmbeddingService(api_key=options.api_key, delay=delay)
    with serving(service, port=options.port) as base_url:
        sys.stderr.write(f"serving {base_url}{PATH}; stop with Ctrl-C\n")
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            sys.stdout.write(summary(service.requests) + "\n")


if __name__ == "__main__":
    main()
