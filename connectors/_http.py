"""Asks a source over HTTP: again where that may help, no faster than is polite, and nowhere but within reach.

Light to import: what opens connections is imported when the first request is made.
"""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urldefrag, urljoin

import anyio

from connectors._answer import Answer
from connectors._manners import USER_AGENT, Credentials, Manners, Patience
from connectors._reach import Reach
from connectors._refusals import refusal, throttled, wait_asked_for
from connectors._url import on_the_wire, shown
from pipeline.errors import ItemUnreadable, SourceError, SourceRefused, SourceUnavailable
from pipeline.records import JsonValue

if TYPE_CHECKING:
    import httpcore
    from tenacity import RetryCallState

    from connectors._wire import Reply, Request

__all__ = ["USER_AGENT", "Answer", "Credentials", "Http", "Manners", "Patience", "whole"]

log = logging.getLogger(__name__)

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_MOST_REDIRECTS = 10


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
            limit_name=f"sources.{self.reach.source}.max_bytes" if max_bytes is None else "the limit",
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
                    and wait_asked_for(error) <= patience.longest_wait_seconds
                )
            ),
            wait=lambda state: backoff(state) + wait_asked_for(_failure(state)),
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

    def _refusal(self, request: Request, reply: Reply) -> SourceError:
        """What the reply means; it holds up the requests that follow, too."""
        known = self._credentials is not None
        error = refusal(shown(request.url), reply.status, reply.headers, with_credentials=known)
        patience = self._manners.patience
        wait = wait_asked_for(error)
        if wait > patience.longest_wait_seconds:
            return throttled(f"{error}, and wants to be left alone for {wait:.0f} s", wait)
        if wait:
            self._free_at = max(self._free_at, patience.clock() + wait)
        return error

    async def _turn(self) -> None:
        """Wait until the next request may begin."""
        now = self._manners.patience.clock()
        begins = max(now, self._free_at)
        self._free_at = begins + self._interval
        if begins > now:
            await self._manners.patience.sleep(begins - now)


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


def _note(error: BaseException | None, wait: float) -> None:
    log.info("%s; asking again in %.1f s", error, wait)


def _target(url: str, location: str) -> str:
    with suppress(UnicodeError):
        location = location.encode("latin-1").decode("utf-8")  # what servers mean by it
    try:
        return urljoin(url, location)
    except ValueError:
        raise ItemUnreadable(f"{shown(url)} redirects to what is no URL") from None
