"""What stands in front of every route: who asks, how much, how large and for how long."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import time
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from apps.http.errors import answer
from config.keys import KeyRing
from config.serving import ServingSettings

log = logging.getLogger(__name__)

OPEN = frozenset({"/healthz", "/readyz"})
"""For whoever asks, without a key: they tell nothing of the documents."""
WRONG_KEYS_PER_MINUTE = 60
"""From one address."""
WAITING = 4
"""So many times as many as are answered at a time may wait."""
MOST_CALLERS = 10_000
"""Whose requests are counted at a time."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks."""

    name: str
    """Of the key; empty where none was asked for."""
    access: tuple[str, ...] | None
    """What they may see, as a filter has it."""


@dataclass(slots=True)
class Rate:
    """How much each may ask: a minute's worth at once, and then as much as comes back in time."""

    per_minute: int
    _left: dict[str, tuple[float, float]] = field(default_factory=dict)

    def wait(self, who: str) -> float:
        """Take one. Seconds until there is one to take, if there is none now."""
        if not self.per_minute:
            return 0.0
        now = time.monotonic()
        left, at = self._left.get(who, (float(self.per_minute), now))
        left = min(self.per_minute, left + (now - at) * self.per_minute / 60)
        if left < 1:
            return (1 - left) * 60 / self.per_minute
        if len(self._left) >= MOST_CALLERS and who not in self._left:
            self._forget(now)
        self._left[who] = left - 1, now
        return 0.0

    def _forget(self, now: float) -> None:
        """Those who have all of it again; if nobody has, everybody."""
        self._left = {who: (left, at) for who, (left, at) in self._left.items() if now - at < 60}
        if len(self._left) >= MOST_CALLERS:
            self._left.clear()


class Room:
    """So many are answered at a time, and some wait for it; more would only wait in vain."""

    def __init__(self, most: int) -> None:
        self._places = asyncio.Semaphore(most)
        self._may_wait = WAITING * most
        self._waiting = 0

    @asynccontextmanager
    async def taken(self) -> AsyncIterator[None]:
        """A place, until the block ends.

        Raises:
            _Refused: too many wait for one.
        """
        if self._places.locked() and self._waiting >= self._may_wait:
            raise _Refused(503, "too much is asked at once: ask again later", {"Retry-After": "1"})
        self._waiting += 1
        try:
            await self._places.acquire()
        finally:
            self._waiting -= 1
        try:
            yield
        finally:
            self._places.release()


class Guard:
    """Lets in who may ask, with a body that is not too large, and gives up what takes too long."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        keys: KeyRing,
        is_open: bool,
        settings: ServingSettings,
        without_key: Collection[str] = OPEN,
    ) -> None:
        self._app = app
        self._without_key = without_key
        self._keys = keys
        self._is_open = is_open
        self._settings = settings
        self._rate = Rate(settings.requests_per_minute)
        self._wrong = Rate(WRONG_KEYS_PER_MINUTE)
        self._room = Room(settings.max_concurrent)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":  # nothing here speaks WebSocket, and nobody is let in by it
            await send({"type": "websocket.close", "code": 1008, "reason": ""})
            return
        started = False

        async def told(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            async with asyncio.timeout(self._settings.timeout_seconds):
                await self._guarded(scope, receive, told)
                return
        except TimeoutError:
            if started:
                raise
            seconds = f"{self._settings.timeout_seconds:g} s"
            refused = _Refused(504, f"this took more than {seconds} and was given up")
        except _Refused as error:
            refused = error
        path, headers = scope["path"], refused.headers
        await answer(path, refused.status, refused.message, headers=headers)(scope, receive, send)

    async def _guarded(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        address = str((scope.get("client") or ("",))[0])
        if scope["path"] not in self._without_key:
            caller = self._caller(headers)
            if caller is None:
                raise self._stranger(headers, address)
            if wait := self._rate.wait(caller.name or address):
                raise _later(wait)
            scope.setdefault("state", {})["caller"] = caller
        body = await _body(headers, receive, self._settings.max_request_bytes)
        if body is None:
            most = f"{int(self._settings.max_request_bytes):,} bytes"
            raise _Refused(413, f"a request has at most {most}", {"Connection": "close"})
        if scope["path"] in self._without_key:
            await self._app(scope, body, send)
            return
        async with self._room.taken():
            await self._app(scope, body, send)

    def _caller(self, headers: Headers) -> Caller | None:
        """Whoever the key says; where none is needed and none is given, somebody who may see everything."""
        given = _given(headers)
        if given is not None:
            kind, _, secret = given.partition(" ")
            key = self._keys.find(secret.strip()) if kind.lower() == "bearer" else None
            return Caller(key.name, key.access) if key else None
        needs_none = self._is_open and not self._keys.is_there and self._is_ours(headers.get("host", ""))
        return Caller("", None) if needs_none else None

    def _is_ours(self, host: str) -> bool:
        """Whether a request without a key names this machine: a web page can ask by a name of its own."""
        name = host.rpartition(":")[0] if not host.endswith("]") and ":" in host else host
        return name.lower() in self._settings.hosts or is_loopback(name.strip("[]"))

    def _stranger(self, headers: Headers, address: str) -> _Refused:
        if wait := self._wrong.wait(address):
            return _later(wait)
        if self._is_open and not self._keys.is_there and _given(headers) is None:
            return _Refused(
                421, "without keys, only this machine's own names are answered for: see serve.hosts"
            )
        why = "a key is needed, as Authorization: Bearer dw_…; this is none"
        if self._is_open and not self._keys.is_there:
            why = "no key is needed, and this is none: leave it out, or make one: `docweave keys create`"
        return _Refused(401, why, {"WWW-Authenticate": "Bearer"})


class _Refused(Exception):
    """Who asks is not let in."""

    def __init__(self, status: int, message: str, headers: Mapping[str, str] = {}) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.headers = headers


def is_loopback(host: str) -> bool:
    """Whether this is the machine's own address or name."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _given(headers: Headers) -> str | None:
    """The authorization, if there is any: apps that were told no key send `Bearer` and nothing after it."""
    given = headers.get("authorization")
    return None if given is None or given.strip().lower() == "bearer" else given


def _later(seconds: float) -> _Refused:
    headers = {"Retry-After": str(max(1, round(seconds)))}
    return _Refused(429, "too many requests: ask again later", headers)


async def _body(headers: Mapping[str, str], receive: Receive, most: int) -> Receive | None:
    """The whole body, to be received again; None if it is too large."""
    length = headers.get("content-length", "0")
    if length.isdecimal() and int(length[:20]) > most:
        return None
    parts: list[bytes] = []
    size, more = 0, True
    while more:
        message = await receive()
        if message["type"] != "http.request":  # whoever asked has gone
            break
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        more = message.get("more_body", False)
        if size > most:
            return None
    waiting = [b"".join(parts)]

    async def again() -> Message:
        if waiting:
            return {"type": "http.request", "body": waiting.pop(), "more_body": False}
        return await receive()

    return again
