"""Slack's Web API: one call, all pages of a list, and what its errors mean."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

import anyio

from connectors._http import Answer, Credentials, Http, Manners
from connectors._reach import Reach
from connectors._refusals import retry_after
from connectors.slack.settings import SlackSettings
from pipeline.errors import ItemUnreadable, SourceError, SourceRefused, SourceUnavailable

_PAGE = 200
"""As Slack recommends."""
_WAIT = 30.0
"""Seconds, where a rate limit does not say."""
_PASSING = frozenset(
    {
        "fatal_error",
        "internal_error",
        "invalid_cursor",
        "request_timeout",
        "service_unavailable",
        "team_added_to_org",
    }
)
_GONE = frozenset({"message_not_found", "thread_not_found"})
_ADVICE = {
    "channel_not_found": "there is no such channel, or a private one that the app is not in: invite it there",
    "not_in_channel": "the app is not in the channel: invite it there, or leave the channel out",
    "not_allowed_token_type": "another kind of token is needed: a user's, where this is a bot's",
    **dict.fromkeys(
        ("invalid_auth", "not_authed", "account_inactive", "token_revoked", "token_expired"),
        "the token is not accepted",
    ),
}


class Word(Exception):
    """Why Slack will not answer, in its own word: `code`."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


def word_of(error: SourceRefused) -> str:
    """Slack's own word for it; empty where it was not Slack that refused."""
    return error.__cause__.code if isinstance(error.__cause__, Word) else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Api:
    """What asks one workspace."""

    source: str
    settings: SlackSettings
    http: Http = field(init=False)

    def __post_init__(self) -> None:
        base = self.settings.base_url
        manners = Manners(per_second=self.settings.requests_per_second)
        credentials = Credentials(secret=self.settings.token, url=base)
        http = Http(Reach.of(self.source, base), manners=manners, credentials=credentials)
        object.__setattr__(self, "http", http)

    async def call(self, method: str, what: str = "", **asked: str) -> Mapping[str, Any]:
        """The answer of a method.

        Args:
            method: Its name.
            what: What is asked about, for messages.
            asked: Its arguments.

        Raises:
            SourceRefused: by token, scope or membership; `word_of` tells which.
            ItemUnreadable: the thread is gone.
            SourceUnavailable: an outage, or a rate limit that lasts.
        """
        url = f"{self.settings.base_url.rstrip('/')}/{method}?{urlencode(asked)}"
        until = time.monotonic() + self.settings.rate_limit_minutes * 60
        while True:
            answer = await self.http.get(url, returned={429})
            found = {"error": "ratelimited"} if answer.status == 429 else answer.json()
            if not isinstance(found, dict):
                raise SourceUnavailable(f"sources.{self.source}: {method} gave no object")
            if found.get("error") != "ratelimited":
                break
            await self._wait(answer, until)
        if not found.get("ok"):
            raise self._error(found, what or method)
        return found

    async def pages(
        self, method: str, part: str, what: str = "", **asked: str
    ) -> AsyncIterator[Mapping[str, Any]]:
        """The items of all pages of a list, which stand under `part`.

        Raises:
            SourceUnavailable: a page is missing, or as `call`.
        """
        cursor = ""
        while True:
            more = {"cursor": cursor} if cursor else {}
            found = await self.call(method, what, **asked, limit=str(_PAGE), **more)
            items = found.get(part)
            if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
                raise SourceUnavailable(f"sources.{self.source}: {method} gave no {part}")
            for item in items:
                yield item
            before, cursor = cursor, str((found.get("response_metadata") or {}).get("next_cursor") or "")
            hidden = bool(found.get("is_limited"))  # older than a free workspace shows
            if (found.get("has_more") and not cursor and not hidden) or (cursor and cursor == before):
                raise SourceUnavailable(f"sources.{self.source}: {method} has more, and does not say where")
            if not cursor:
                return

    async def _wait(self, answer: Answer, until: float) -> None:
        wait = max(1.0, retry_after(answer.headers) or _WAIT)
        if time.monotonic() + wait > until:
            raise SourceUnavailable(
                f"sources.{self.source}: Slack's rate limit ends in {wait:.0f} s, more than is left of "
                f"rate_limit_minutes: {self.settings.rate_limit_minutes:g}"
            )
        await anyio.sleep(wait)

    def _error(self, found: Mapping[str, Any], what: str) -> SourceError:
        code = _word(found.get("error"))
        told = f"sources.{self.source}: {what}: Slack says {code}"
        if code in _GONE:
            return ItemUnreadable(told)
        if code in _PASSING:
            return SourceUnavailable(told)
        advice = _ADVICE.get(code, "")
        if code == "missing_scope":
            advice = f"the token lacks {_word(found.get('needed'))}"
        refused = SourceRefused(f"{told}: {advice}" if advice else told)
        refused.__cause__ = Word(code)
        return refused


def _word(said: object) -> str:
    """What an answer says, if it is a word or some: nothing else of it is shown."""
    return str(said) if re.fullmatch(r"[a-z_:,. -]{1,80}", str(said)) else "something unknown"
