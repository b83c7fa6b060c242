"""The cloud's APIs: v2 tells which pages there are and where they stand, v1 whom they are restricted to."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator, Collection, Mapping
from dataclasses import dataclass, field
from urllib.parse import quote

from connectors._http import whole
from connectors.confluence.api import Api, Page
from connectors.confluence.readers import EXPANDED, NOBODY_KNOWN, Access, Readers
from pipeline.errors import ItemUnreadable, SourceRefused

log = logging.getLogger(__name__)

_LISTED = 100
_SEARCHED = 200
"""The most that a search with expansions gives at a time, by Atlassian's documentation."""
_ANCESTORS = 250
"""The most that the API gives."""
_KINDS = {
    "page": "pages",
    "folder": "folders",
    "whiteboard": "whiteboards",
    "database": "databases",
    "embed": "embeds",
}
"""What a page may stand below, and where the API has it."""


@dataclass(frozen=True, slots=True)
class _Tree:
    """Where the pages of a space stand."""

    api: Api
    pages: Mapping[str, Page]
    _above: dict[str, list[str] | None] = field(default_factory=dict)

    async def above(self, key: str) -> list[str] | None:
        """What is above a page; None where that is not told."""
        found: list[str] = []
        here: Page | None = self.pages[key]
        while here is not None:
            if "parentId" not in here:  # of a page at the top it is null
                return None
            if (parent := here["parentId"]) is None:
                break
            if str(parent) in (key, *found):  # moved while the list was read
                return None
            found.append(str(parent))
            kind, here = here.get("parentType"), self.pages.get(str(parent))
            if here is None:
                rest = await self._beyond(str(kind), str(parent))
                return None if rest is None else found + rest
        return found

    async def _beyond(self, kind: str, key: str) -> list[str] | None:
        """What is above a folder, or above a page that was not listed. Asked for once."""
        if key not in self._above:
            told = await _ancestors(self.api, kind, key)
            self._above[key] = None if told is None else [one for one, _ in told]
        return self._above[key]


@dataclass(frozen=True, slots=True)
class Cloud:
    """Pages as the cloud tells them."""

    api: Api

    async def listed(self, space: str) -> AsyncIterator[Page]:
        """Every current page of a space.

        Raises:
            SourceRefused: there is no such space.
        """
        with whole(f"sources.{self.api.source}.spaces: {space!r}"):
            found = await self.api.json(f"/api/v2/spaces?keys={quote(space)}")
            ids = [one["id"] for one in found.get("results", ()) if one["key"] == space]
            if not ids:
                raise SourceRefused(f"{self.api.where} has no space {space!r}, or the token may not see it")
            async for page in self.api.pages(f"/api/v2/spaces/{ids[0]}/pages?status=current&limit={_LISTED}"):
                yield page

    async def with_access(self, space: str) -> AsyncIterator[tuple[Page, Access]]:
        """Every current page of a space, with its labels: known when the listing is whole."""
        pages = {}
        async for page in self.listed(space):
            pages[str(page["id"])] = {
                name: page[name] for name in ("id", "version", "parentId", "parentType") if name in page
            }
        tree, readers = _Tree(self.api, pages), Readers(self.api.restriction)
        if pages:
            await self._search(f"space = {json.dumps(space, ensure_ascii=False)} and type = page", readers)
        for key, page in pages.items():
            above = await tree.above(key)
            yield page, NOBODY_KNOWN if above is None else await readers.of(key, *above)

    async def page(self, key: str) -> Page:
        """One page with its body."""
        return await self.api.json(
            f"/api/v2/pages/{quote(key, safe='')}?body-format={self.api.settings.form}"
        )

    async def access(self, page: Page) -> Access:
        """The labels of a page that `page` gave."""
        key, readers = str(page["id"]), Readers(self.api.restriction)
        if "parentId" not in page:  # of a page at the top it is null
            return NOBODY_KNOWN
        above = [] if page["parentId"] is None else await _ancestors(self.api, "page", key)
        if above is None:
            return NOBODY_KNOWN
        pages = [key, *(one for one, kind in above if kind == "page")]
        await self._search(f"id in ({','.join(pages)})", readers)
        return await readers.of(key, *(one for one, _ in above))

    async def _search(self, query: str, readers: Readers) -> None:
        """Note the restrictions of the pages that are found. What is missing is asked for one by one.

        Which there are the search knows a little late; what it says of them is as of now.
        """
        asked = f"cql={quote(query)}&expand={EXPANDED}&limit={_SEARCHED}"
        try:
            async for page in self.api.pages(f"/rest/api/content/search?{asked}"):
                readers.note(page)
        except ItemUnreadable as error:  # one page that it cannot expand fails all (CONFCLOUD-77618)
            log.warning("%s; restrictions are asked for page by page", error)


async def _ancestors(api: Api, kind: str, key: str) -> Collection[tuple[str, str]] | None:
    """The ids and kinds of all that is above; None where that is not told."""
    if kind not in _KINDS:
        return None
    try:
        found = await api.json(f"/api/v2/{_KINDS[kind]}/{quote(key, safe='')}/ancestors?limit={_ANCESTORS}")
    except ItemUnreadable:
        return None
    results = found.get("results")
    if not isinstance(results, list) or len(results) >= _ANCESTORS:
        return None
    return [(str(one["id"]), str(one.get("type"))) for one in results]
