"""What sites ask of those who crawl them."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

import anyio

from connectors._http import Http
from connectors._refusals import is_oversize
from connectors._url import origin, shown
from pipeline.errors import ItemUnreadable, SourceRefused

if TYPE_CHECKING:
    from protego import Protego

_MAX_BYTES = 1_000_000
_LONGEST_DELAY = 60.0


class Robots:
    """The robots.txt of each host that is asked, fetched once."""

    def __init__(self, http: Http, user_agent: str) -> None:
        """Fetches nothing yet."""
        self._http = http
        self._user_agent = user_agent
        self._rules: dict[str, Protego] = {}
        self._turn = anyio.Lock()

    async def permit(self, url: str) -> None:
        """Refuse what the site asks not to be read.

        Raises:
            ItemUnreadable: robots.txt forbids it.
            SourceUnavailable: robots.txt cannot be read for now: then everything is forbidden (RFC 9309).
        """
        async with self._turn:
            rules = self._rules.get(origin(url))
            if rules is None:
                rules = self._rules[origin(url)] = await self._fetched(origin(url))
        if not rules.can_fetch(url, self._user_agent):
            raise ItemUnreadable(f"{shown(url)} is forbidden by robots.txt")

    async def _fetched(self, site: str) -> Protego:
        from protego import Protego  # noqa: PLC0415 - an extra

        unavailable = range(HTTPStatus.BAD_REQUEST, HTTPStatus.TOO_MANY_REQUESTS)
        text = ""
        try:
            answer = await self._http.get(f"{site}/robots.txt", returned=unavailable, max_bytes=_MAX_BYTES)
        except ItemUnreadable as error:  # out of reach is as if there were none
            if is_oversize(error):
                raise SourceRefused(f"{site}/robots.txt has more than {_MAX_BYTES:,} bytes") from error
        else:
            if answer.status < HTTPStatus.BAD_REQUEST:
                text = answer.content.decode("utf-8", "replace")
        rules = Protego.parse(text)
        if delay := rules.crawl_delay(self._user_agent):
            self._http.slow_down(min(float(delay), _LONGEST_DELAY))
        if rate := rules.request_rate(self._user_agent):
            self._http.slow_down(min(rate.seconds / max(rate.requests, 1), _LONGEST_DELAY))
        return rules
