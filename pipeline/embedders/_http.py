"""Asks an embedding service for JSON: again where that may help, and says so where it will not.

Asked again after connection errors, time-outs, a 200 without a usable reply, and what `_answers.classify`
calls ServiceUnavailable. Everything else is raised at once.
"""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TypeVar

import anyio
import httpx
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_random_exponential

from pipeline.embedders._account import Account, address, headers
from pipeline.embedders._pace import Pace, Trouble, Turn
from pipeline.embedders._refusals import Refusals, error_code
from pipeline.errors import ServiceUnavailable
from pipeline.in_flight import sending
from pipeline.records import JsonValue

__all__ = ["Account", "JsonService", "Patience"]

T = TypeVar("T")

_logger = logging.getLogger(__name__)

_CONNECT_SECONDS = 15.0
_OVERLOADED = frozenset({408, 503, 504, 524, 529})
"""Overload, and time-outs that are told by status."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long a call is tried. What tells the time is here too, so that a test need not wait."""

    total_seconds: float = 300.0
    """From the beginning of the first attempt to the end of the last."""
    first_wait_seconds: float = 1.0
    """The first wait is drawn from 0 to this, each next one from twice as much (full jitter)."""
    longest_wait_seconds: float = 30.0
    """Where the doubling ends. What Retry-After asks for comes on top."""
    useless_replies: int = 5
    """After so many replies with status 200 that cannot be used: each may have been paid for."""
    sleep: Callable[[float], Awaitable[None]] = anyio.sleep
    clock: Callable[[], float] = time.monotonic


@dataclass(slots=True, kw_only=True)
class _Call:
    """One call, however often it is asked again."""

    method: str
    path: str
    content: bytes | None = field(default=None, repr=False)
    tokens: int = 0
    attempt_seconds: float
    deadline: float
    """Infinite until the first attempt begins: to wait for a turn is not the service's failure."""
    patient: bool
    asked: int = 0
    began: float = 0.0
    has_turn: bool = False
    trouble: str = ""
    """Why the last attempt failed."""
    useless: int = 0


class JsonService:
    """One service that gives JSON, with its key, its connections, its pace and its retries."""

    def __init__(
        self,
        account: Account,
        *,
        timeout_seconds: float = 120.0,
        patience: Patience | None = None,
        pace: Pace | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        """Opens no connection yet.

        Args:
            account: Which service, and who asks.
            timeout_seconds: How long an answer to the fullest request may take; see `post`.
            patience: How long a call is tried.
            pace: Gives each attempt its turn; its clock is that of `patience`. Without one none waits.
            transport: In place of the network, for tests.

        Raises:
            SettingsError: the address is none, or the key or a header cannot be sent.
        """
        self._account = account
        self._patience = patience or Patience()
        self._pace = pace
        self._timeout_seconds = timeout_seconds
        self._backoff = wait_random_exponential(
            multiplier=self._patience.first_wait_seconds, max=self._patience.longest_wait_seconds
        )
        self._client = httpx.AsyncClient(
            base_url=address(account),
            headers={"Content-Type": "application/json", **headers(account)},
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=None),
            transport=transport,
        )
        self._host = self._client.base_url.netloc.decode("ascii")
        self._refusals = Refusals(
            service=account.service, host=self._host, api_key=account.api_key, key_name=account.key_name
        )

    async def post(  # noqa: PLR0913 - what is asked, and three facts about it by name
        self,
        path: str,
        body: Mapping[str, JsonValue],
        read: Callable[[JsonValue], T],
        *,
        tokens: int = 0,
        fullness: float = 1.0,
        within: float | None = None,
    ) -> tuple[T, int]:
        """Ask until an answer can be used, or it is clear that none will come.

        Args:
            path: Below the service's address.
            body: What is asked.
            read: Makes a value of the reply's JSON; raises ServiceUnavailable where it does not add up.
            tokens: How many are sent, as counted here, for the ceiling of tokens a minute. The reply's
                `usage` sets it right.
            fullness: How full the request is, from 0 to 1. An attempt may take a quarter of
                `timeout_seconds` when it is empty, all of it when it is full.
            within: Seconds for the whole call, the wait for its turn included, where somebody waits for it:
                then it fails at once while the service is left alone after an outage.

        Returns:
            What `read` made, and how often the service had to be asked again.

        Raises:
            ServiceUnavailable: no usable answer in time. Carries what Retry-After asked for last.
            RequestTooLarge: send it in smaller parts.
            InputRefused: the service will not embed what was sent.
            ServiceRefused: a bad key, no money, no such model, or a setting that the service refuses.
        """
        call = self._call("POST", path, fullness=fullness, within=within)
        call.tokens = tokens
        call.content = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
        value = await self._ask(call, read)
        return value, call.asked - 1

    async def get(self, path: str, read: Callable[[JsonValue], T], *, within: float | None = None) -> T:
        """Get a listing.

        Args:
            path: Below the service's address.
            read: As for `post`.
            within: As for `post`.

        Returns:
            What `read` made.

        Raises:
            EmbedError: as `post`.
        """
        return await self._ask(self._call("GET", path, fullness=0.0, within=within), read)

    @property
    def tokens_per_minute(self) -> int | None:
        """The most that may be sent in any minute; None for no ceiling."""
        return self._pace.tokens_per_minute if self._pace else None

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    def _call(self, method: str, path: str, *, fullness: float, within: float | None) -> _Call:
        return _Call(
            method=method,
            path=path,
            attempt_seconds=self._timeout_seconds * (0.25 + 0.75 * min(1.0, max(0.0, fullness))),
            deadline=math.inf if within is None else self._patience.clock() + within,
            patient=within is None,
        )

    async def _ask(self, call: _Call, read: Callable[[JsonValue], T]) -> T:
        retrying = AsyncRetrying(
            retry=retry_if_exception_type(ServiceUnavailable),
            wait=self._wait,
            stop=lambda state: self._is_enough(call, state),
            sleep=self._patience.sleep,
            before_sleep=lambda state: self._note(call, state),
            reraise=True,
        )
        try:
            value: T = await retrying(self._attempt, call, read)
        except ServiceUnavailable as error:
            raise ServiceUnavailable(self._farewell(call, error), retry_after=error.retry_after) from error
        return value

    async def _attempt(self, call: _Call, read: Callable[[JsonValue], T]) -> T:
        call.has_turn = False
        async with self._turn(call) as turn:
            call.has_turn = True
            call.asked += 1
            if call.asked == 1:
                call.began = self._patience.clock()
                call.deadline = min(call.deadline, call.began + self._patience.total_seconds)
            turn.until = call.deadline
            with sending():
                response = await self._send(call, turn)
                return read(self._usable(call, response, turn))

    def _turn(self, call: _Call) -> AbstractAsyncContextManager[Turn]:
        """It is for one attempt: a call that waits before it asks again holds no slot."""
        if self._pace is None:
            return nullcontext(Turn(tokens=call.tokens, until=call.deadline))
        return self._pace.turn(call.tokens, until=call.deadline, patient=call.patient)

    async def _send(self, call: _Call, turn: Turn) -> httpx.Response:
        """One request. What goes wrong is raised outside the `except` and without its cause.

        An httpx exception, and the frames below it, hold the request with its headers: a report that
        shows variables or walks the chain would show the key.
        """
        seconds = max(0.001, min(call.attempt_seconds, call.deadline - self._patience.clock()))
        timeout = httpx.Timeout(seconds, connect=min(seconds, _CONNECT_SECONDS))
        try:
            # httpx counts each read by itself: a server that trickles is stopped by the scope alone.
            with anyio.fail_after(seconds):
                return await self._client.request(
                    call.method, call.path, content=call.content, timeout=timeout
                )
        except (TimeoutError, httpx.ReadTimeout, httpx.WriteTimeout):
            if seconds >= call.attempt_seconds:  # and not only the rest of the call's time
                turn.trouble = Trouble.OVERLOAD
            trouble = f"gave no answer within {seconds:.0f} s"
        except httpx.TransportError as error:
            said = self._refusals.presentable(str(error))
            trouble = f"could not be reached: {type(error).__name__}: {said}"
        except httpx.HTTPError as error:
            said = self._refusals.presentable(str(error))
            trouble = f"gave no readable answer: {type(error).__name__}: {said}"
        raise ServiceUnavailable(f"{self._account.service} at {self._host} {trouble}")

    def _usable(self, call: _Call, response: httpx.Response, turn: Turn) -> JsonValue:
        """The JSON that was asked for; what else came is raised as what it means."""
        status, reply = response.status_code, self._refusals.json(response.content)
        if status != HTTPStatus.OK:
            turn.trouble = _trouble(status)
            raise self._refusals.refusal(response, reply)
        call.useless += 1  # until it proves to be of use
        if reply is None:
            size = len(response.content)
            raise ServiceUnavailable(
                f"{self._account.service} answered 200 with {size} bytes that are no whole JSON"
            )
        if isinstance(reply, dict) and reply.get("error") and not reply.get("data"):
            turn.trouble = _trouble(error_code(reply)) or Trouble.OUTAGE
            call.useless -= Trouble.CROWD in turn.trouble  # refused before anything was done
            raise self._refusals.refusal(response, reply)
        turn.tokens = _billed(reply) or turn.tokens
        return reply

    def _wait(self, state: RetryCallState) -> float:
        return self._backoff(state) + (_failure(state).retry_after or 0.0)

    def _is_enough(self, call: _Call, state: RetryCallState) -> bool:
        """Is there no sense in asking again? A wait that would pass the deadline isn't begun."""
        late = self._patience.clock() + state.upcoming_sleep >= call.deadline
        return late or not call.has_turn or call.useless >= self._patience.useless_replies

    def _note(self, call: _Call, state: RetryCallState) -> None:
        call.trouble = str(_failure(state))
        # What concerns more than this call is for `Pace` to tell, once.
        _logger.info("%s; asking again in %.1f s", call.trouble, state.upcoming_sleep)

    def _farewell(self, call: _Call, error: ServiceUnavailable) -> str:
        """Why it was given up, and after what."""
        told = str(error)
        if not call.has_turn:
            told = f"{self._account.service} is not asked: {told}"
            if call.trouble not in told:
                told = f"{call.trouble}; now {told}"
        if not call.asked:
            return told
        seconds = self._patience.clock() - call.began
        return f"{told} (gave up after {call.asked} attempt{'s' * (call.asked > 1)} in {seconds:.0f} s)"


def _trouble(status: int) -> Trouble:
    """What a status that is worth another attempt says of the service."""
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return Trouble.CROWD
    if status in _OVERLOADED:
        return Trouble.OVERLOAD
    return Trouble.OUTAGE if status >= HTTPStatus.INTERNAL_SERVER_ERROR else Trouble.NONE


def _billed(reply: JsonValue) -> int:
    """The tokens that the service counted; 0 where it does not tell."""
    usage = reply.get("usage") if isinstance(reply, dict) else None
    if not isinstance(usage, dict):
        return 0
    counts = (usage.get("total_tokens"), usage.get("prompt_tokens"))
    return next((count for count in counts if isinstance(count, int) and count > 0), 0)


def _failure(state: RetryCallState) -> ServiceUnavailable:
    error = state.outcome.exception() if state.outcome else None
    if not isinstance(error, ServiceUnavailable):  # the retry condition lets nothing else through
        raise TypeError(f"retried after {error!r}")
    return error
