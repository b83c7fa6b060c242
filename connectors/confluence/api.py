"""What is asked of either of Confluence's APIs: JSON, lists of several pages, the restriction of one page."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias
from urllib.parse import quote, urljoin, urlsplit

from connectors._http import Credentials, Http, Manners
from connectors._reach import Reach
from connectors.confluence import readers
from connectors.confluence.settings import ConfluenceSettings
from pipeline.errors import ItemUnreadable, SourceUnavailable

Page: TypeAlias = Mapping[str, Any]
_NAMES = 200
"""Users and groups of a restriction that are asked for at a time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Api:
    """What asks Confluence, as one account."""

    source: str
    settings: ConfluenceSettings
    http: Http = field(init=False)

    def __post_init__(self) -> None:
        token, base = self.settings.token, self.settings.base_url
        manners = Manners(per_second=self.settings.requests_per_second, max_bytes=2 * self.settings.max_bytes)
        credentials = Credentials(secret=token, url=base, user=self.settings.user) if token else None
        http = Http(Reach.of(self.source, base), manners=manners, credentials=credentials)
        object.__setattr__(self, "http", http)

    async def json(self, path: str) -> Page:
        """The object that is at a path below the base URL, or at a URL.

        Raises:
            ItemUnreadable: there is nothing, or it is too large.
            SourceError: no access, or no answer.
        """
        url = path if "://" in path else f"{self.settings.base_url}{path}"
        found = (await self.http.get(url, headers={"Accept": "application/json"})).json()
        if not isinstance(found, dict):
            raise SourceUnavailable(f"{self.where}: Confluence gave no object")
        return found

    async def pages(self, path: str) -> AsyncIterator[Page]:
        """The items of all pages of a list.

        Raises:
            SourceUnavailable: an answer is no list, or as `json`.
        """
        following: str | None = f"{self.settings.base_url}{path}"
        while following:
            found = await self.json(following)
            if not isinstance(found.get("results"), list):
                raise SourceUnavailable(f"{self.where}: Confluence gave no list of pages")
            for page in found["results"]:
                yield page
            following = self._next(following, found)

    async def restriction(self, key: str) -> readers.Level:
        """Whom the content with this id is restricted to.

        Raises:
            ItemUnreadable: Confluence does not tell.
        """
        path = f"/rest/api/content/{quote(key, safe='')}/restriction/byOperation/read"
        asked = f"{path}?expand=restrictions.user,restrictions.group&limit={_NAMES}"
        level: readers.Level = frozenset()
        start = 0
        while True:
            found = await self.json(f"{asked}&start={start}")
            try:
                parts = readers.of_read(found)
            except (KeyError, TypeError):
                raise ItemUnreadable(f"{self.where}: Confluence gave no restriction of {key}") from None
            more = readers.labels(parts)
            further = [len(part["results"]) for part in parts if readers.goes_on(part)]
            if further and not level | more:
                raise ItemUnreadable(f"{self.where}: Confluence names nobody of those whom {key} is for")
            steps = [names for names in further if names]
            if more <= level or not steps:
                return level | more
            level |= more
            start += min(steps)

    @property
    def where(self) -> str:
        """How an error names it."""
        return f"sources.{self.source}.base_url: {self.settings.base_url}"

    def _next(self, url: str, found: Page) -> str | None:
        """Where a list goes on: links of API v2 begin with the context path, those of v1 below it.

        Behind a gateway (https://api.atlassian.com/ex/confluence/ID/wiki) they lack what is before that path.
        What is expanded must be so on each page, whether or not the link repeats it.
        """
        link = str((found.get("_links") or {}).get("next") or "")
        if not link:
            return None
        expanded = re.search(r"[?&]expand=[^&]*", url)
        if expanded and "expand=" not in link:
            link = f"{link}{'&' if '?' in link else '?'}{expanded[0][1:]}"
        base = self.settings.base_url
        if not self.settings.is_cloud or link.startswith("/rest/"):
            return f"{base}{link}"
        before, slash, context = urlsplit(base).path.rpartition("/")
        if before and link.startswith(f"/{context}/"):
            return f"{base.removesuffix(slash + context)}{link}"
        return urljoin(url, link)
