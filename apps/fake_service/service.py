"""The service without a network: answers one request at a time or many, from any thread."""

from __future__ import annotations

import hashlib
import json
import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from apps.fake_service import seen as records
from apps.fake_service.counting import Counting
from apps.fake_service.faults import Faults
from apps.fake_service.models import (
    CONTEXTUAL,
    MODELS,
    OPENROUTER,
    OPENROUTER_MODELS,
    STANDARD,
    STATS,
    Model,
    by_name,
)
from apps.fake_service.pace import Pace
from apps.fake_service.refusals import Refusal
from apps.fake_service.replies import cost_of, listing, reply_of
from apps.fake_service.requests import Asked, check_tokens, read
from apps.fake_service.seen import Seen
from apps.fake_service.steps import GOOD, Step
from pipeline import tokens

if TYPE_CHECKING:
    import httpx

_METHODS = {CONTEXTUAL: "POST", STANDARD: "POST", OPENROUTER: "POST", OPENROUTER_MODELS: "GET"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What came."""

    method: str
    path: str
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What is to be sent, when, and in which way."""

    status: int
    body: bytes
    headers: Mapping[str, str]
    delay_seconds: float = 0.0
    """From the request's coming to the answer's going; what it took to make it is part of it."""
    step: Step = GOOD

    @property
    def dropped(self) -> bool:
        """Is the connection closed without an answer?"""
        return self.step.dropped or self.step.reset == "before"


class EmbeddingService:
    """Answers as the documented services do. Thread-safe."""

    def __init__(  # noqa: PLR0913 - what a test, or the command line, may want of it
        self,
        *,
        api_key: str = "test-key",
        seed: int = 0,
        script: Iterable[Step] = (),
        faults: Faults | None = None,
        pace: Pace | None = None,
        delay: Callable[[int], float] = lambda _tokens: 0.0,
        count: Callable[[str], int] = tokens.count,
        count_factor: float = 1.0,
        models: tuple[Model, ...] = MODELS,
        poison: Callable[[str], bool] = lambda _text: False,
        log: Callable[[Seen], None] = lambda _seen: None,
    ) -> None:
        """Opens nothing.

        Args:
            api_key: The one that it takes.
            seed: Of the order of the items in a reply.
            script: Answers the first good requests, one step each; comes before `faults`.
            faults: The plan of what goes wrong.
            pace: How fast one may ask; as fast as one likes where it is left out.
            delay: Seconds that an answer to so many tokens takes.
            count: Tokens of a text.
            count_factor: How many tokens it tells, and charges for, where `count` says one.
            models: What it serves.
            poison: Which texts it refuses, in whatever company they come.
            log: Is told of each request when it is answered.
        """
        self.requests: list[Seen] = []
        """What came, in the order in which it was answered."""
        self.faults = faults
        self._api_key = api_key
        self._seed = seed
        self._script = iter(script)
        self._pace = pace or Pace()
        self._delay = delay
        self._counting = Counting(count, count_factor)
        self._models = models
        self._poison = poison
        self._log = log
        self._in_flight = 0
        self._started = time.monotonic()
        self._lock = threading.Lock()

    @property
    def refused(self) -> list[Seen]:
        """The requests that were not answered with 200."""
        return [seen for seen in self.requests if seen.status != 200]

    def stats(self) -> dict[str, object]:
        """All that came so far, in sums."""
        with self._lock:
            requests, in_flight = list(self.requests), self._in_flight
        seconds = time.monotonic() - self._started
        own = {"in_flight": in_flight, "seconds": round(seconds, 3), "cpu_seconds": time.process_time()}
        return records.stats(requests) | own

    def answer(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """Answer one request, without its delay."""
        with self.visit(Request(method=method, path=path, headers=headers, body=body)) as answer:
            return answer

    @contextmanager
    def visit(self, request: Request) -> Iterator[Answer]:
        """A request, in flight until the block ends: it is for the caller to keep it there for the delay."""
        if (request.method, request.path) == ("GET", STATS):
            yield Answer(status=200, body=json.dumps(self.stats()).encode(), headers={})
            return
        came, started = records.now(), time.monotonic()
        with self._lock:
            self._in_flight += 1
            in_flight = self._in_flight
        path = request.path if request.path in _METHODS else ""
        seen = Seen(time=came, path=path, status=0, in_flight=in_flight)
        try:
            answer, seen = self._answer(request, seen)
            yield answer
        finally:
            seen = replace(seen, seconds=time.monotonic() - started)
            with self._lock:
                self._in_flight -= 1
                self.requests.append(seen)
                self._log(seen)

    def transport(self) -> httpx.MockTransport:
        """The service in place of httpx's network."""
        from apps.fake_service.transport import transport_of  # noqa: PLC0415 - the server needs no httpx

        return transport_of(self)

    def _answer(self, request: Request, seen: Seen) -> tuple[Answer, Seen]:
        try:
            asked = self._admitted(request, seen.in_flight)
            if asked is None:
                return Answer(status=200, body=listing(self._models), headers={}), replace(seen, status=200)
            counts = self._counting.groups(asked.groups)
            seen = replace(seen, groups=len(counts), chunks=asked.chunks, tokens=sum(counts))
            check_tokens(asked, counts)
            self._pace.admit_tokens(seen.tokens)
            self._check_poison(asked)
        except Refusal as refusal:
            status, body = refusal.for_path(request.path)
            answer = Answer(status=status, body=body, headers=refusal.headers)
            return answer, replace(seen, status=status, said=refusal.said)
        digest = hashlib.blake2b(request.body, digest_size=16).digest()
        step = self._next_step(asked, digest)
        answer = Answer(
            status=step.status,
            body=self._body(asked, step, seen.tokens, digest),
            headers=step.headers,
            delay_seconds=step.delay_seconds + self._delay(seen.tokens),
            step=step,
        )
        embedded = step.status == 200 and step.body is None and not answer.dropped
        return answer, replace(
            seen,
            status=0 if answer.dropped else step.status,
            said="as told" if step != GOOD and not step.name else "",
            embedded=embedded,
            cost_usd=cost_of(asked.model, seen.tokens) if embedded else 0.0,
            fault=step.name,
        )

    def _admitted(self, request: Request, in_flight: int) -> Asked | None:
        """What is asked; None for the listing.

        Raises:
            Refusal: it may not ask, not now, or not like this.
        """
        headers = {name.title(): value for name, value in request.headers.items()}
        if headers.get("Authorization") != f"Bearer {self._api_key}":
            raise Refusal(401, "Invalid API key provided")
        if request.path not in _METHODS:
            raise Refusal(404, "no such path")
        if request.method != _METHODS[request.path]:
            raise Refusal(405, "method not allowed")
        self._pace.admit(in_flight)
        if request.path == OPENROUTER_MODELS:
            return None
        return read(request.path, by_name(self._models, request.path), headers, request.body)

    def _check_poison(self, asked: Asked) -> None:
        if any(self._poison(text) for texts in asked.groups for text in texts):
            raise Refusal(400, "The request could not be processed")

    def _next_step(self, asked: Asked, digest: bytes) -> Step:
        with self._lock:
            step = next(self._script, None)
        if step is None and self.faults:
            step = self.faults.step(asked, digest)
        return step or GOOD

    def _body(self, asked: Asked, step: Step, tokens: int, digest: bytes) -> bytes:
        if step.body is not None:
            return step.body
        if step.dropped or step.reset == "before":
            return b""
        order = random.Random(f"{self._seed}/{digest.hex()}")  # noqa: S311 - no secret
        body = reply_of(asked, tokens=tokens, order=order)
        if step.spoil:
            reply = json.loads(body)
            step.spoil(reply)
            body = json.dumps(reply).encode()
        return body[: len(body) // 2] if step.cut else body
