"""Google Drive's API: one request, all pages of a list, and what its errors mean."""

from __future__ import annotations

import json
import random
import re
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlencode

import anyio

from connectors._http import Answer, Http, Manners
from connectors._reach import Reach
from connectors._refusals import retry_after
from connectors.google_drive.settings import GoogleDriveSettings
from connectors.google_drive.token import Tokens
from pipeline.errors import ItemUnreadable, SourceError, SourceRefused, SourceUnavailable

_SECONDS = 120.0
"""For one request, with the whole of a file."""
_LIST_BYTES = 50_000_000
_LONGEST_WAIT = 64.0
_RATE = frozenset({"rateLimitExceeded", "userRateLimitExceeded", "RATE_LIMIT_EXCEEDED"})
_PASSING = frozenset({"dailyLimitExceeded", "quotaExceeded", "backendError"})
_OF_ONE_FILE = frozenset(
    {
        "appNotAuthorizedToFile",
        "cannotDownloadAbusiveFile",
        "cannotDownloadFile",
        "downloadQuotaExceeded",
        "exportSizeLimitExceeded",
        "fileNotDownloadable",
        "fileNotExportable",
        "forbidden",
        "insufficientFilePermissions",
    }
)
_NOT_ENABLED = frozenset({"accessNotConfigured", "SERVICE_DISABLED"})
_NO_SCOPE = frozenset({"insufficientPermissions", "ACCESS_TOKEN_SCOPE_INSUFFICIENT"})


class Withheld(ItemUnreadable):
    """Drive does not give this file, or not in this form; `reason` says why, in its own word."""

    def __init__(self, message: str, *, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Api:
    """What asks Drive, as one account."""

    source: str
    settings: GoogleDriveSettings
    http: Http = field(init=False)
    tokens: Tokens = field(init=False)

    def __post_init__(self) -> None:
        settings = self.settings
        manners = Manners(
            seconds=_SECONDS, per_second=settings.requests_per_second, max_bytes=settings.max_bytes
        )
        object.__setattr__(self, "http", Http(Reach.of(self.source, settings.base_url), manners=manners))
        object.__setattr__(self, "tokens", Tokens(self.source, settings))

    async def json(self, *path: str, **asked: str) -> Mapping[str, Any]:
        """What is known of something; see `get`."""
        found = (await self.get(*path, max_bytes=_LIST_BYTES, **asked)).json()
        if not isinstance(found, dict):
            raise SourceUnavailable(f"sources.{self.source}: Google gave no object")
        return found

    async def pages(self, *path: str, part: str, **asked: str) -> AsyncIterator[Mapping[str, Any]]:
        """The items of all pages of a list, which stand under `part`.

        Raises:
            SourceUnavailable: the list is not whole, or as `get`.
        """
        token = ""
        while True:
            more = {"pageToken": token} if token else {}
            found = await self.json(*path, **asked, **more)
            items = found.get(part)
            if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
                raise SourceUnavailable(f"sources.{self.source}: Google gave no {part}")
            if found.get("incompleteSearch"):
                raise SourceUnavailable(f"sources.{self.source}: Google's search was not complete")
            for item in items:
                yield item
            before, token = token, str(found.get("nextPageToken") or "")
            if token and token == before:
                raise SourceUnavailable(f"sources.{self.source}: Google gives the same page again and again")
            if not token:
                return

    async def get(self, *path: str, max_bytes: int | None = None, **asked: str) -> Answer:
        """What is at a path.

        Args:
            path: Its parts.
            max_bytes: In place of the usual limit, `max_bytes` of the settings.
            asked: The query.

        Raises:
            ItemUnreadable: it is not there, too large, or withheld (`Withheld`).
            SourceRefused: the account may not use Drive's API.
            SourceUnavailable: an outage, or a rate limit that lasts.
        """
        names = "/".join(quote(part, safe="") for part in path)
        url = f"{self.settings.base_url.rstrip('/')}/{names}?{urlencode(asked)}"
        until = time.monotonic() + self.settings.rate_limit_minutes * 60
        tries, renewed = 0, False
        while True:
            token = await self.tokens.fresh()
            headers = {"Authorization": f"Bearer {token}"}
            answer = await self.http.get(
                url, headers=headers, returned={401, 403, 404, 429}, max_bytes=max_bytes
            )
            reason = "" if answer.status == 200 else _reason(answer)
            if answer.status == 401 and not renewed:
                self.tokens.forget(token)
                renewed = True
            elif answer.status == 429 or reason in _RATE:
                await self._wait(answer, tries, until)
                tries += 1
            elif answer.status == 200:
                return answer
            else:
                raise self._error(answer.status, reason)

    async def _wait(self, answer: Answer, tries: int, until: float) -> None:
        """Before the next try: as long as is asked for, or twice as long each time, as Google advises."""
        backoff = min(_LONGEST_WAIT, 2.0**tries) + random.random()  # noqa: S311 - no secret
        wait = retry_after(answer.headers) or backoff
        if time.monotonic() + wait > until:
            raise SourceUnavailable(
                f"sources.{self.source}: Google's rate limit lasts longer than "
                f"rate_limit_minutes: {self.settings.rate_limit_minutes:g}"
            )
        await anyio.sleep(wait)

    def _error(self, status: int, reason: str) -> SourceError:
        told = f"sources.{self.source}: Google says {status} {reason}".rstrip()
        if status == 404 or reason in _OF_ONE_FILE:
            return Withheld(told, reason=reason)
        if reason in _PASSING:
            return SourceUnavailable(told)
        advice = ": the credentials are not accepted"
        if reason in _NOT_ENABLED:
            advice = ": enable the Google Drive API in the credentials' project"
        elif reason in _NO_SCOPE:
            advice = ": the credentials lack the scope drive.readonly"
        return SourceRefused(told + advice)


def _reason(answer: Answer) -> str:
    """Why not, in Google's own word; nothing else of the answer is shown."""
    try:
        error: Any = json.loads(answer.content)["error"]
        reason = str(error["errors"][0]["reason"])
    except (ValueError, LookupError, TypeError):
        return ""
    return reason if re.fullmatch(r"[A-Za-z_]{1,60}", reason) else ""
