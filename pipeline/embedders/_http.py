"""Posts JSON to an embedding service: asks again where that may help, and says so where it will not.

Asked again after connection errors, time-outs, a 200 without a usable reply, and what `_answers.classify`
calls ServiceUnavailable. Everything else is raised at once.
"""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TypeVar

import anyio
import httpx
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_random_exponential

from pipeline.embedders import _answers
from pipeline.errors import EmbedError, ServiceRefused, ServiceUnavailable, SettingsError
from pipeline.records import JsonValue

T = TypeVar("T")

_logger = logging.getLogger(__name__)

_LONGEST_MESSAGE = 300
_CONNECT_SECONDS = 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long a call is tried. What tells the time is here too, so that a test need not wait."""

    total_seconds: float = 300.0
    """From the first attempt to the end of the last."""
    first_wait_seconds: float = 1.0
    """The first wait is drawn from 0 to this, each next one from twice as much (full jitter)."""
    longest_wait_seconds: float = 30.0
    """Where the doubling ends. What Retry-After asks for comes on top."""
    useless_replies: int = 5
    """After so many replies with status 200 that cannot be used: each may have been paid for."""
    sleep: Callable[[float], Awaitable[None]] = anyio.sleep
    clock: Callable[[], float] = time.monotonic


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """Which service, and who asks."""

    service: str
    """As people call it, for messages."""
    base_url: str
    api_key: str = field(repr=False)
    """May be empty, for a server that asks for none."""
    key_name: str
    """Where the user keeps the key, for messages: the name of an environment variable."""


@dataclass(slots=True, kw_only=True)
class _Call:
    """One call, however often it is asked again."""

    path: str
    content: bytes = field(repr=False)
    attempt_seconds: float
    deadline: float
    useless: int = 0


class JsonService:
    """One service that takes JSON and gives JSON, with its key, its connections and its retries."""

    def __init__(
        self,
        account: Account,
        *,
        timeout_seconds: float = 120.0,
        patience: Patience | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        """Opens no connection yet.

        Args:
            account: Which service, and who asks.
            timeout_seconds: How long an answer to the fullest request may take; see `post`.
            patience: How long a call is tried.
            transport: In place of the network, for tests.

        Raises:
            SettingsError: the address is none, or the key cannot stand in a header.
        """
        self._account = account
        self._patience = patience or Patience()
        self._timeout_seconds = timeout_seconds
        self._backoff = wait_random_exponential(
            multiplier=self._patience.first_wait_seconds, max=self._patience.longest_wait_seconds
        )
        self._client = httpx.AsyncClient(
            base_url=_address(account),
            headers={"Content-Type": "application/json", **_authorization(account)},
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=32),
            transport=transport,
        )

    async def post(
        self,
        path: str,
        body: Mapping[str, JsonValue],
        read: Callable[[JsonValue], T],
        *,
        fullness: float = 1.0,
        within: float | None = None,
    ) -> tuple[T, int]:
        """Ask until an answer can be used, or it is clear that none will come.

        Args:
            path: Below the service's address.
            body: What is asked.
            read: Makes a value of the reply's JSON; raises ServiceUnavailable where it does not add up.
            fullness: How full the request is, from 0 to 1. An attempt may take a quarter of
                `timeout_seconds` when it is empty, all of it when it is full.
            within: Seconds for the whole call, where that is less than the patience for any call.

        Returns:
            What `read` made, and how often the service had to be asked again.

        Raises:
            ServiceUnavailable: no usable answer in time. Carries what Retry-After asked for last.
            RequestTooLarge: send it in smaller parts.
            InputRefused: the service will not embed what was sent.
            ServiceRefused: a bad key, no money, no such model, or a setting that the service refuses.
        """
        patience, started = self._patience, self._patience.clock()
        call = _Call(
            path=path,
            content=json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode(),
            attempt_seconds=self._timeout_seconds * (0.25 + 0.75 * min(1.0, max(0.0, fullness))),
            deadline=started + min(patience.total_seconds, within or patience.total_seconds),
        )
        retrying = AsyncRetrying(
            retry=retry_if_exception_type(ServiceUnavailable),
            wait=self._wait,
            stop=lambda state: self._is_enough(call, state),
            sleep=patience.sleep,
            before_sleep=self._log,
            reraise=True,
        )
        try:
            value: T = await retrying(self._attempt, call, read)
        except ServiceUnavailable as error:
            asked, seconds = _attempts(retrying), patience.clock() - started
            told = f"{error} (gave up after {asked} attempt{'s' * (asked > 1)} in {seconds:.0f} s)"
            raise ServiceUnavailable(told, retry_after=error.retry_after) from error
        return value, _attempts(retrying) - 1

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def _attempt(self, call: _Call, read: Callable[[JsonValue], T]) -> T:
        response = await self._send(call)
        if response.status_code != HTTPStatus.OK:
            raise self._refusal(response)
        call.useless += 1  # until it proves to be of use
        reply = self._json(response.content)
        if reply is None:
            size = len(response.content)
            raise ServiceUnavailable(
                f"{self._account.service} answered 200 with {size} bytes that are no whole JSON"
            )
        if isinstance(reply, dict) and reply.get("error") and not reply.get("data"):
            said = self._presentable(_answers.complaint(reply)[0]) or "no reason given"
            raise ServiceUnavailable(f"{self._account.service} answered 200 with an error: {said}")
        return read(reply)

    async def _send(self, call: _Call) -> httpx.Response:
        """One request. What goes wrong is raised outside the `except` and without its cause.

        An httpx exception, and the frames below it, hold the request with its headers: a report that
        shows variables or walks the chain would show the key.
        """
        seconds = max(0.001, min(call.attempt_seconds, call.deadline - self._patience.clock()))
        timeout = httpx.Timeout(seconds, connect=min(seconds, _CONNECT_SECONDS))
        try:
            # httpx counts each read by itself: a server that trickles is stopped by the scope alone.
            with anyio.fail_after(seconds):
                return await self._client.post(call.path, content=call.content, timeout=timeout)
        except (TimeoutError, httpx.ReadTimeout, httpx.WriteTimeout):
            trouble = f"gave no answer within {seconds:.0f} s"
        except httpx.TransportError as error:
            trouble = f"could not be reached: {type(error).__name__}: {self._presentable(str(error))}"
        except httpx.HTTPError as error:
            trouble = f"gave no readable answer: {type(error).__name__}: {self._presentable(str(error))}"
        raise ServiceUnavailable(f"{self._account.service} at {self._host()} {trouble}")

    def _refusal(self, response: httpx.Response) -> EmbedError:
        """What an answer other than 200 means."""
        status = response.status_code
        said, kind = _answers.complaint(self._json(response.content))
        if not said and response.headers.get("Content-Type", "").startswith("text/plain"):
            said = self._presentable(response.text)
        cause = _answers.classify(status, said, kind)
        words = self._presentable(said) or _answers.phrase(status)
        message = f"{self._account.service} answered {status}: {words}"
        advice = self._advice(status, cause)
        if advice:
            message = f"{message}; {advice}"
        if cause is not ServiceUnavailable:
            return cause(message)
        asked = _answers.retry_after(response.headers)
        if asked is not None:
            message = f"{message}; it asks to wait {asked:.0f} s"
        return ServiceUnavailable(message, retry_after=asked)

    def _advice(self, status: int, cause: type[EmbedError]) -> str:
        """What the user can do."""
        if cause is not ServiceRefused:
            return ""
        if status in {401, 403}:
            return f"check {self._account.key_name}"
        if status in {402, 429}:
            return f"add credit to the account that {self._account.key_name} belongs to"
        if status in {400, 422}:
            return "check model and dimensions in the settings"
        return f"check the model's name and base_url ({self._host()})"

    def _presentable(self, text: str) -> str:
        """One short line, without the key should the service echo it."""
        if self._account.api_key:
            text = text.replace(self._account.api_key, "[key]")
        line = " ".join(text.split())
        return line if len(line) <= _LONGEST_MESSAGE else line[: _LONGEST_MESSAGE - 1] + "…"

    def _json(self, content: bytes) -> JsonValue:
        """None where it is no JSON: the parser's exception, which holds the body, ends here.

        Where it is no reply with data, it is made sure that it does not hold the key. Data is left alone: a
        short key may well stand in the middle of a vector's base64.
        """
        try:
            value: JsonValue = json.loads(content)
            if self._account.api_key and not (isinstance(value, dict) and value.get("data")):
                value = json.loads(content.replace(self._account.api_key.encode(), b"[key]"))
        except ValueError:
            return None
        return value

    def _host(self) -> str:
        return self._client.base_url.netloc.decode("ascii")

    def _wait(self, state: RetryCallState) -> float:
        return self._backoff(state) + (_failure(state).retry_after or 0.0)

    def _is_enough(self, call: _Call, state: RetryCallState) -> bool:
        """Is there no sense in asking again? A wait that would pass the deadline isn't begun."""
        late = self._patience.clock() + state.upcoming_sleep >= call.deadline
        return late or call.useless >= self._patience.useless_replies

    def _log(self, state: RetryCallState) -> None:
        _logger.warning("%s; asking again in %.1f s", _failure(state), state.upcoming_sleep)


def _address(account: Account) -> httpx.URL:
    try:
        url = httpx.URL(account.base_url)
    except httpx.InvalidURL as error:
        raise SettingsError(f"base_url {account.base_url!r} is no address: {error}") from error
    if url.scheme not in {"http", "https"} or not url.host:
        raise SettingsError(
            f"base_url {account.base_url!r} must begin with http:// or https:// and name a host"
        )
    return url


def _authorization(account: Account) -> dict[str, str]:
    if not account.api_key:
        return {}
    if not re.fullmatch(r"[!-~]+", account.api_key):
        # httpx and h11 would quote the value in their errors.
        raise SettingsError(f"{account.key_name} holds a blank, a line break or a letter that no key has")
    return {"Authorization": f"Bearer {account.api_key}"}


def _attempts(retrying: AsyncRetrying) -> int:
    return int(retrying.statistics["attempt_number"])


def _failure(state: RetryCallState) -> ServiceUnavailable:
    error = state.outcome.exception() if state.outcome else None
    if not isinstance(error, ServiceUnavailable):  # the retry condition lets nothing else through
        raise TypeError(f"retried after {error!r}")
    return error
