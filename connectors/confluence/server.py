"""A server's or data center's REST API: a page tells its restrictions, and what is above it, by itself."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from urllib.parse import quote

from connectors._http import whole
from connectors.confluence.api import Api, Page
from connectors.confluence.readers import EXPANDED, NOBODY_KNOWN, Access, Readers

_LISTED = 100
_ABOVE = f"ancestors,{EXPANDED}"
_ALL = f"{_ABOVE},{','.join(f'ancestors.{part}' for part in EXPANDED.split(','))}"


@dataclass(frozen=True, slots=True)
class Server:
    """Pages as a server tells them."""

    api: Api

    def listed(self, space: str) -> AsyncIterator[Page]:
        """Every current page of a space.

        Raises:
            SourceRefused: there is no such space.
        """
        return self._listed(space, "version")

    async def with_access(self, space: str) -> AsyncIterator[tuple[Page, Access]]:
        """Every current page of a space, with its labels: these are told by the listing, when it is whole."""
        readers, pages = Readers(self.api.restriction), []
        async for page in self._listed(space, f"version,{_ABOVE}"):
            readers.note(page)
            pages.append(_kept(page))
        for page in pages:
            yield page, await self._access(page, readers)

    async def page(self, key: str) -> Page:
        """One page with its body."""
        expanded = f"version,body.{self.api.settings.form}"
        if self.api.settings.permissions:
            expanded = f"{expanded},{_ALL}"
        return await self.api.json(f"/rest/api/content/{quote(key, safe='')}?expand={expanded}")

    async def access(self, page: Page) -> Access:
        """The labels of a page that `page` gave."""
        readers = Readers(self.api.restriction)
        for one in (page, *(page.get("ancestors") or ())):
            readers.note(one)
        return await self._access(page, readers)

    async def _access(self, page: Page, readers: Readers) -> Access:
        if not isinstance(page.get("ancestors"), list):
            return NOBODY_KNOWN
        return await readers.of(str(page["id"]), *(str(one["id"]) for one in page["ancestors"]))

    async def _listed(self, space: str, expanded: str) -> AsyncIterator[Page]:
        asked = f"spaceKey={quote(space)}&type=page&expand={expanded}&limit={_LISTED}"
        with whole(f"sources.{self.api.source}.spaces: {space!r}"):
            async for page in self.api.pages(f"/rest/api/content?{asked}"):
                yield page


def _kept(page: Page) -> Page:
    """What is needed of a page that was listed: all pages are in memory at once."""
    above = page.get("ancestors")
    return {
        "id": page["id"],
        "version": {"number": page["version"]["number"]},
        "ancestors": [{"id": one["id"]} for one in above] if isinstance(above, list) else None,
    }
