"""Pages of Confluence as documents."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from connectors.confluence import stored
from connectors.confluence.api import Api, Page
from connectors.confluence.cloud import Cloud
from connectors.confluence.readers import NOBODY_KNOWN, UNDISCLOSED, Access, mark
from connectors.confluence.server import Server
from connectors.confluence.settings import ConfluenceSettings
from pipeline.errors import ItemUnreadable
from pipeline.records import ItemRef, JsonValue, RawDocument

log = logging.getLogger(__name__)

_READINGS = 3
"""How often a page is read, at most, whose restrictions change meanwhile."""
_NAMED = 5
"""Pages that a warning names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfluenceConnector:
    """Lists current pages by id and version number; a page's body is read when it is loaded.

    Archived and deleted pages are not listed. With `permissions`, a mark of its labels is part of the version
    of a page that is restricted, and the body is what is stored: Confluence renders macros for the token's
    owner, with what only that person may see of other pages.
    """

    source: str
    settings: ConfluenceSettings
    _asked: list[Cloud | Server] = field(default_factory=list)

    async def list_items(self) -> AsyncIterator[ItemRef]:
        """Every current page of the spaces.

        Raises:
            SourceRefused: no such space, or no access to it.
            SourceUnavailable: Confluence does not answer, or stopped to.
        """
        seen: set[str] = set()
        hidden: list[str] = []
        async with self._site().api.http.opened():
            for space in dict.fromkeys(self.settings.spaces):
                async for page, access in self._listed(space):
                    if str(page["id"]) not in seen:  # a list that changes while it is read may repeat itself
                        seen.add(str(page["id"]))
                        if access == NOBODY_KNOWN:
                            hidden.append(str(page["id"]))
                        yield self._ref(page, access)
        if hidden:
            log.warning(
                "sources.%s: %d of %d pages have the label %r, for it is not told who may read them, or "
                "nobody is named in all restrictions: %s",
                *(self.source, len(hidden), len(seen), UNDISCLOSED, ", ".join(hidden[:_NAMED])),
            )

    async def load(self, ref: ItemRef) -> RawDocument:
        """The page as it is now, as HTML, and who may read it.

        Its labels were the same before it was read, by the listing or an earlier reading, and after: what was
        written for a few is not stored under the labels of many, in whatever order somebody changes both.

        Raises:
            ItemUnreadable: it vanished, is too large, or its restrictions change all the time.
            SourceError: as `list_items`.
        """
        before = ref.version.partition(" ")[2]
        async with self._site().api.http.opened():
            for _ in range(_READINGS):
                page = await self._site().page(ref.key)
                if page.get("status") != "current":
                    raise ItemUnreadable(f"{ref.key} is {page.get('status')} now")
                access = await self._site().access(page) if self.settings.permissions else None
                now = mark(access)
                if now == before or not self.settings.permissions:
                    return self._document(page, access)
                before = now
        raise ItemUnreadable(f"{ref.key}: its restrictions changed each time it was read")

    async def _listed(self, space: str) -> AsyncIterator[tuple[Page, Access]]:
        if self.settings.permissions:
            async for page, access in self._site().with_access(space):
                yield page, access
        else:
            async for page in self._site().listed(space):
                yield page, None

    def _document(self, page: Page, access: Access) -> RawDocument:
        form = self.settings.form
        body = str(((page.get("body") or {}).get(form) or {}).get("value") or "")
        if form == "storage":
            body = stored.html(body)
        about: dict[str, JsonValue] = {"version": int(page["version"]["number"])}
        if changed := page["version"].get("createdAt") or page["version"].get("when"):
            about["changed"] = str(changed)
        return RawDocument(
            ref=self._ref(page, access),
            content=body.encode("utf-8", "replace"),
            media_type="text/html",
            title=page["title"],
            url=self._web(page),
            metadata=about,
            access=access,
        )

    def _ref(self, page: Page, access: Access) -> ItemRef:
        # A page that is moved or renamed gets a new version, too; one that is restricted does not.
        version = f"{page['version']['number']} {mark(access)}".rstrip()
        return ItemRef(source=self.source, key=str(page["id"]), version=version)

    def _web(self, page: Page) -> str | None:
        path = (page.get("_links") or {}).get("webui")
        return f"{self.settings.base_url}{path}" if path else None

    def _site(self) -> Cloud | Server:
        if not self._asked:
            api = Api(source=self.source, settings=self.settings)
            self._asked.append(Cloud(api) if self.settings.is_cloud else Server(api))
        return self._asked[0]
