"""Asks a source over HTTP: again where that may help, no faster than is polite, and nowhere but within reach.

Light to import: what opens connections is imported when the first request is made.
"""

from __future__ import annotations

import base64
import email.utils
import json
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import quote, urldefrag, urljoin, urlsplit, urlunsplit

import anyio
from pydantic import SecretStr

from connectors._reach import Reach, origin, shown
from pipeline.errors import ItemUnreadable, SourceRefused, SourceUnavailable
from pipeline.records import JsonValue

if TYPE_CHECKING:
    import httpcore
    from tenacity import RetryCallState

    from connectors._wire import Reply, Request

log = logging.getLogger(__name__)

USER_AGENT = "Docweave/0.1 (+https://pypi.org/project/docweave)"
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_ASKED_AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524, 529, 530})
_MOST_REDIRECTS = 10
_SAFE = "%/:=&?~#+!$,;'@()*[]"
"""What stays as it is in a path or query: all that has a meaning there, and escapes that are made already."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came back at last."""

    url: str
    """Of what is answered: redirects are followed. Without a fragment."""
    status: int
    headers: Mapping[str, str]
    """By names in lower case."""
    content: bytes

    @property
    def media_type(self) -> str:
        """As the server says, without parameters, in lower case; empty where it does not."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    @property
    def charset(self) -> str:
        """As the server says; empty where it does not."""
        for parameter in self.headers.get("content-type", "").split(";")[1:]:
            name, _, value = parameter.partition("=")
            if name.strip().lower() == "charset":
                return value.strip().strip("\"'").lower()
        return ""

    def json(self) -> JsonValue:
        """The content as JSON.

        Raises:
            SourceUnavailable: it is none, as from something between us and the service.
        """
        try:
            value: JsonValue = json.loads(self.content)
        except ValueError:
            value, whole = None, False
        else:
            whole = True
        if not whole:
            raise SourceUnavailable(
                f"{shown(self.url)} answered {self.status} with {len(self.content):,} bytes "
                f"of {self.media_type or 'no media type'} that are no JSON"
            )
        return value


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """A secret, and who may see it."""

    secret: SecretStr
    url: str
    """Its scheme and host get the secret, and no other: not after a redirect either."""
    header: str = "Authorization"
    form: str = "Bearer {}"
    user: str | None = None
    """With a user name it is a password, sent as HTTP Basic has it; `form` does not count."""

    def header_for(self, url: str) -> Mapping[str, str]:
        """The header with the secret; nothing for another origin."""
        if origin(url) != origin(self.url):
            return {}
        secret = self.secret.get_secret_value()
        if self.user is not None:
            pair = base64.b64encode(f"{self.user}:{secret}".encode()).decode("ascii")
            return {self.header: f"Basic {pair}"}
        return {self.header: self.form.format(secret)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How often a request is made. What tells the time is here too, so that a test need not wait."""

    attempts: int = 4
    first_wait_seconds: float = 1.0
    """The first wait is drawn from 0 to this, each next one from twice as much (full jitter)."""
    longest_wait_seconds: float = 60.0
    """A server that asks for a longer one is not asked again in this run."""
    sleep: Callable[[float], Awaitable[None]] = anyio.sleep
    clock: Callable[[], float] = time.monotonic


@dataclass(frozen=True, slots=True, kw_only=True)
class Manners:
    """How a source is asked."""

    seconds: float = 30.0
    """For one request with the whole of its answer."""
    per_second: float | None = None
    """Requests begun; None for no limit."""
    connections: int = 4
    max_bytes: int = 50_000_000
    """Of one answer, unpacked."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Sent with every request, to whatever host: nothing secret."""
    patience: Patience = field(default_factory=Patience)


class TooLarge(ItemUnreadable):
    """An answer of more bytes than the limit."""


class _Throttled(SourceUnavailable):
    """A server that asks to be left alone for so many seconds."""

    def __init__(self, message: str, *, seconds: float) -> None:
        super().__init__(message)
        self.seconds = seconds


@dataclass(slots=True)
class _Connections:
    """What is open while somebody uses it."""

    pool: httpcore.AsyncConnectionPool
    limiter: anyio.CapacityLimiter
    """A request waits for a connection before its time begins to count."""
    users: int = 0


class Http:
    """One source's HTTP: its connections, pace, retries and errors.

    Connections are open while somebody is inside `opened`, or waits for an answer, and no longer. So a
    connector needs no end: a listing opens them for its length, and `load` for one item or, where several
    are loaded at a time, as long as the loads overlap. It may be used in one event loop after another.
    """

    def __init__(
        self,
        reach: Reach,
        *,
        manners: Manners | None = None,
        credentials: Credentials | None = None,
    ) -> None:
        """Opens nothing yet.

        Args:
            reach: Where requests may go, redirects included.
            manners: How the source is asked.
            credentials: Sent to their own origin alone.
        """
        self.reach = reach
        self._manners = manners or Manners()
        self._credentials = credentials
        self._connections: _Connections | None = None
        self._free_at = 0.0
        self._interval = 1 / self._manners.per_second if self._manners.per_second else 0.0

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[_Connections]:
        """Keep connections open for several requests; they are closed when the last user leaves."""
        from connectors import _wire  # noqa: PLC0415 - see the module

        if self._connections is None:
            most = self._manners.connections
            self._connections = _Connections(_wire.pool(self.reach, most), anyio.CapacityLimiter(most))
        mine = self._connections
        mine.users += 1
        try:
            yield mine
        finally:
            mine.users -= 1
            if not mine.users:
                if self._connections is mine:
                    self._connections = None
                with anyio.CancelScope(shield=True):
                    await mine.pool.aclose()

    def slow_down(self, seconds: float) -> None:
        """Let at least so much time pass between requests from now on: what robots.txt may ask for."""
        self._interval = max(self._interval, seconds)

    async def get(
        self,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        returned: Collection[int] = (),
        permit: Callable[[str], Awaitable[None]] | None = None,
        max_bytes: int | None = None,
    ) -> Answer:
        """Get what is at a URL; see `request`."""
        return await self.request(
            "GET", url, headers=headers, returned=returned, permit=permit, max_bytes=max_bytes
        )

    async def request(  # noqa: PLR0913 - what is asked, and facts about it by name
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: JsonValue = None,
        returned: Collection[int] = (),
        permit: Callable[[str], Awaitable[None]] | None = None,
        max_bytes: int | None = None,
    ) -> Answer:
        """Ask until there is an answer, or it is clear that none will come; follow redirects.

        Args:
            method: GET, HEAD, or a POST that only reads: it may be sent more than once.
            url: Where; within reach.
            headers: For this request alone, such as If-None-Match.
            body: Sent as JSON.
            returned: Statuses that are an answer beside 200 to 299, such as 304, and not an error.
            permit: Asked of every URL before it is requested, also of where a redirect leads; raises.
            max_bytes: In place of the usual limit.

        Raises:
            ItemUnreadable: there is nothing there (404, 410), it is too large, out of reach, or refused as
                a request (other 4xx).
            SourceRefused: 401 or 403.
            SourceUnavailable: an outage, a time-out, or a rate limit that lasts.
        """
        for _ in range(_MOST_REDIRECTS + 1):
            url = urldefrag(url).url
            self.reach.check(url)
            if permit:
                await permit(url)
            asked = self._request(method, url, headers or {}, body, max_bytes)
            reply = await self._insisted(asked, returned)
            target = reply.headers.get("location", "")
            if reply.status not in _REDIRECTS or reply.status in returned:
                return Answer(url=url, status=reply.status, headers=reply.headers, content=reply.content)
            if not target:
                raise ItemUnreadable(f"{shown(url)} answered {reply.status}, and does not say where to go")
            if method == "POST":
                raise SourceRefused(f"{shown(url)} redirects to {shown(urljoin(url, target))}: write that")
            url = _target(url, target)
        raise ItemUnreadable(f"{shown(url)} is the end of more than {_MOST_REDIRECTS} redirects")

    def _request(
        self, method: str, url: str, headers: Mapping[str, str], body: JsonValue, max_bytes: int | None
    ) -> Request:
        from connectors._wire import Request  # noqa: PLC0415 - see the module

        own = {"User-Agent": USER_AGENT, "Accept": "*/*", "Accept-Encoding": "gzip, deflate"}
        content = None
        if body is not None:
            own["Content-Type"] = "application/json"
            content = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
        secret = self._credentials.header_for(url) if self._credentials else {}
        return Request(
            method=method,
            url=on_the_wire(url),
            headers={**own, **self._manners.headers, **headers, **secret},
            content=content,
            seconds=self._manners.seconds,
            max_bytes=self._manners.max_bytes if max_bytes is None else max_bytes,
            limit_name=f"sources.{self.reach.source}.max_bytes",
        )

    async def _insisted(self, request: Request, returned: Collection[int]) -> Reply:
        """The reply to one request, made again after what may pass."""
        from tenacity import (  # noqa: PLC0415 - see the module
            AsyncRetrying,
            retry_if_exception,
            stop_after_attempt,
            wait_random_exponential,
        )

        patience = self._manners.patience
        backoff = wait_random_exponential(
            multiplier=patience.first_wait_seconds, max=patience.longest_wait_seconds
        )
        retrying = AsyncRetrying(
            retry=retry_if_exception(
                lambda error: (
                    isinstance(error, SourceUnavailable)
                    and _wait_asked_for(error) <= patience.longest_wait_seconds
                )
            ),
            wait=lambda state: backoff(state) + _wait_asked_for(_failure(state)),
            stop=stop_after_attempt(patience.attempts),
            sleep=patience.sleep,
            before_sleep=lambda state: _note(_failure(state), state.upcoming_sleep),
            reraise=True,
        )
        reply: Reply = await retrying(self._attempt, request, returned)
        return reply

    async def _attempt(self, request: Request, returned: Collection[int]) -> Reply:
        from connectors import _wire  # noqa: PLC0415 - see the module

        async with self.opened() as connections, connections.limiter:
            await self._turn()
            reply = await _wire.exchange(connections.pool, request)
        if not (reply.status in returned or reply.status < 300 or reply.status in _REDIRECTS):
            raise self._refusal(request, reply)
        return reply

    async def _turn(self) -> None:
        """Wait until the next request may begin."""
        now = self._manners.patience.clock()
        begins = max(now, self._free_at)
        self._free_at = begins + self._interval
        if begins > now:
            await self._manners.patience.sleep(begins - now)

    def _refusal(self, request: Request, reply: Reply) -> SourceRefused | SourceUnavailable | ItemUnreadable:
        """What a status that is no answer means."""
        where, status = shown(request.url), reply.status
        told = f"{where} answered {status}{_phrase(status)}"
        wait = _retry_after(reply)
        if status == HTTPStatus.TOO_MANY_REQUESTS or (status == HTTPStatus.FORBIDDEN and wait is not None):
            return self._throttled(f"{told}: too many requests", wait or 0.0)
        if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            whose = "the credentials are not accepted" if self._credentials else "it wants credentials"
            return SourceRefused(f"{told}: {whose}")
        if status in _ASKED_AGAIN or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            return self._throttled(told, wait or 0.0)
        return ItemUnreadable(told)

    def _throttled(self, told: str, wait: float) -> SourceUnavailable:
        patience = self._manners.patience
        if wait > patience.longest_wait_seconds:
            told += f", and wants to be left alone for {wait:.0f} s"
        elif wait:
            self._free_at = max(self._free_at, patience.clock() + wait)
        return _Throttled(told, seconds=wait)


@contextmanager
def whole(what: str) -> Iterator[None]:
    """For what a listing cannot do without: that it is not there is not one item's failure.

    Raises:
        SourceRefused: in place of ItemUnreadable; `what` names the setting.
    """
    try:
        yield
    except ItemUnreadable as error:
        raise SourceRefused(f"{what}: {error}") from error


def _failure(state: RetryCallState) -> BaseException | None:
    return state.outcome.exception() if state.outcome else None


def _wait_asked_for(error: BaseException | None) -> float:
    return error.seconds if isinstance(error, _Throttled) else 0.0


def _note(error: BaseException | None, wait: float) -> None:
    log.info("%s; asking again in %.1f s", error, wait)


def _phrase(status: int) -> str:
    try:
        return f" {HTTPStatus(status).phrase}"
    except ValueError:
        return ""


def _retry_after(reply: Reply) -> float | None:
    """What the server asks for, in seconds: by Retry-After, or by the moment when its window ends."""
    after, now = reply.headers.get("retry-after", "").strip(), time.time()
    if after.isascii() and after.isdigit():
        return float(after[:9])
    if after:
        try:
            return max(0.0, email.utils.parsedate_to_datetime(after).timestamp() - now)
        except (ValueError, OverflowError):
            return None
    ends = reply.headers.get("x-ratelimit-reset", "")
    if reply.headers.get("x-ratelimit-remaining") == "0" and ends.isascii() and ends.isdigit():
        return max(0.0, float(ends[:12]) - now)
    return None


def _target(url: str, target: str) -> str:
    try:
        return urljoin(url, target)
    except ValueError:
        raise ItemUnreadable(f"{shown(url)} redirects to what is no URL") from None


def on_the_wire(url: str) -> str:
    """The URL in ASCII: names as IDNA has them, everything else percent-encoded where it must be."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if not host.isascii():
        import idna  # noqa: PLC0415 - seldom needed

        try:
            host = idna.encode(host, uts46=True).decode("ascii")
        except idna.IDNAError as error:
            raise ItemUnreadable(f"{shown(url)} has a host that is no name: {error}") from error
    netloc = f"[{host}]" if ":" in host else host
    if parts.port is not None:
        netloc += f":{parts.port}"
    return urlunsplit((parts.scheme, netloc, quote(parts.path or "/", _SAFE), quote(parts.query, _SAFE), ""))
