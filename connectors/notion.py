"""Pages of Notion that an integration was given access to."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal
from urllib.parse import quote

from pydantic import Field

from connectors._http import Credentials, Http, Manners
from connectors._reach import Reach
from connectors.settings import Secret, SharedSettings
from pipeline.errors import ItemUnreadable, SourceUnavailable
from pipeline.records import ItemRef, JsonValue, RawDocument

_VERSION = "2022-06-28"
"""Of Notion's API."""
_PAGE = 100
_SETTLED = timedelta(minutes=2)
"""Notion tells edits by the minute: of a page that was just edited, one more may not show."""
_DEEPEST = 12
"""Blocks within blocks: what is deeper is left out."""
_PREFIXES = {
    "heading_1": "# ",
    "heading_2": "## ",
    "heading_3": "### ",
    "bulleted_list_item": "- ",
    "numbered_list_item": "1. ",
    "toggle": "- ",
    "quote": "> ",
    "callout": "> ",
}


class NotionSettings(SharedSettings):
    """Pages of Notion."""

    type: Literal["notion"] = Field(description="Pages of Notion that an integration may see.")
    token: Secret = Field(description="The integration's secret. Share pages with it in Notion.")
    base_url: str = Field(default="https://api.notion.com", description="Of the API.")
    requests_per_second: float = Field(
        default=3.0, gt=0, le=100, description="Notion allows three on average."
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class NotionConnector:
    """Lists pages by id and time of the last edit; a page's blocks are read as it is loaded, as Markdown."""

    source: str
    settings: NotionSettings
    _http: list[Http] = field(default_factory=list)

    async def list_items(self) -> AsyncIterator[ItemRef]:
        """Every page that was shared with the integration, pages in databases among them.

        Raises:
            SourceRefused: the token is none.
            SourceUnavailable: Notion does not answer, or stopped to.
        """
        only_pages: dict[str, JsonValue] = {"property": "object", "value": "page"}
        asked: dict[str, JsonValue] = {"filter": only_pages, "page_size": _PAGE}
        seen: set[str] = set()
        async with self._client().opened():
            while True:
                found: Any = (await self._client().request("POST", self._url("search"), body=asked)).json()
                for page in self._results(found):
                    if not _is_gone(page) and page["id"] not in seen:
                        seen.add(page["id"])
                        yield self._ref(page)
                if not found.get("has_more"):
                    return
                asked["start_cursor"] = found["next_cursor"]

    async def load(self, ref: ItemRef) -> RawDocument:
        """The page as it is now.

        Raises:
            ItemUnreadable: it vanished, or is no longer shared.
            SourceError: as `list_items`.
        """
        async with self._client().opened():
            page: Any = (await self._client().get(self._url(f"pages/{quote(ref.key)}"))).json()
            if _is_gone(page):
                raise ItemUnreadable(f"{ref.key} was moved to the trash")
            lines = [line async for line in self._lines(ref.key, 0)]
        title = _title(page)
        return RawDocument(
            ref=self._ref(page),
            content="\n\n".join(filter(None, [f"# {title}" if title else "", *lines])).encode(
                "utf-8", "replace"
            ),
            media_type="text/markdown",
            title=title or None,
            url=page.get("url"),
            metadata=_properties(page),
        )

    async def _lines(self, block: str, depth: int) -> AsyncIterator[str]:
        """What is in a block, one paragraph each; what is in lists is indented."""
        cursor = ""
        while True:
            url = self._url(f"blocks/{quote(block)}/children?page_size={_PAGE}{cursor}")
            found: Any = (await self._client().get(url)).json()
            for one in self._results(found):
                if text := _text(one):
                    yield "\n".join("  " * depth + line for line in text.splitlines())
                inside = one.get("has_children") and one["type"] not in ("child_page", "child_database")
                if inside and depth < _DEEPEST:
                    nested = one["type"].endswith("list_item") or one["type"] in ("to_do", "toggle")
                    rows = [line async for line in self._lines(one["id"], depth + nested)]
                    if one["type"] == "table" and rows:
                        columns = rows[0].count("|") - 1
                        rows = ["\n".join([rows[0], "|" + " --- |" * columns, *rows[1:]])]
                    for row in rows:
                        yield row
            if not found.get("has_more"):
                return
            cursor = f"&start_cursor={quote(found['next_cursor'])}"

    def _results(self, found: Any) -> Sequence[Mapping[str, Any]]:
        results = found.get("results") if isinstance(found, dict) else None
        if not isinstance(results, list):
            raise SourceUnavailable(f"sources.{self.source}: Notion gave no list")
        return results

    def _ref(self, page: Mapping[str, Any]) -> ItemRef:
        edited = str(page["last_edited_time"])
        age = datetime.now(UTC) - datetime.fromisoformat(edited)
        version = edited if age > _SETTLED else f"{edited} or later"
        return ItemRef(source=self.source, key=page["id"], version=version)

    def _url(self, path: str) -> str:
        return f"{self.settings.base_url.rstrip('/')}/v1/{path}"

    def _client(self) -> Http:
        if not self._http:
            base = self.settings.base_url
            manners = Manners(
                per_second=self.settings.requests_per_second, headers={"Notion-Version": _VERSION}
            )
            credentials = Credentials(secret=self.settings.token, url=base)
            self._http.append(Http(Reach.of(self.source, base), manners=manners, credentials=credentials))
        return self._http[0]


def _is_gone(page: Mapping[str, Any]) -> bool:
    return bool(page.get("archived") or page.get("in_trash"))


def _text(block: Mapping[str, Any]) -> str:
    """What a block says by itself."""
    kind = str(block["type"])
    about: Mapping[str, Any] = block.get(kind) or {}
    said = _plain(about.get("rich_text") or about.get("caption") or ())
    match kind:
        case "code":
            text = f"```{about.get('language') or ''}\n{said}\n```"
        case "to_do":
            text = f"- [{'x' if about.get('checked') else ' '}] {said}"
        case "equation":
            text = f"$${about.get('expression') or ''}$$"
        case "table_row":
            cells = [_plain(cell).replace("|", "\\|").replace("\n", " ") for cell in about.get("cells") or ()]
            text = f"| {' | '.join(cells)} |"
        case "child_page" | "child_database":
            text = str(about.get("title") or "")
        case "bookmark" | "embed" | "link_preview":
            text = f"{said} {about.get('url') or ''}".strip()
        case _:
            text = f"{_PREFIXES.get(kind, '')}{said}" if said else ""
    return text


def _plain(rich: Sequence[Mapping[str, Any]]) -> str:
    return "".join(str(part.get("plain_text") or "") for part in rich)


def _title(page: Mapping[str, Any]) -> str:
    for value in (page.get("properties") or {}).values():
        if value.get("type") == "title":
            return _plain(value.get("title") or ())
    return ""


def _properties(page: Mapping[str, Any]) -> dict[str, JsonValue]:
    """Those of a page in a database that are plain values."""
    found = {name: _value(value) for name, value in (page.get("properties") or {}).items()}
    return {name: value for name, value in found.items() if value not in (None, "", [])}


def _value(value: Mapping[str, Any]) -> JsonValue:
    kind = value.get("type")
    held = value.get(str(kind))
    if kind in ("number", "checkbox", "url", "email", "phone_number"):
        return held
    if kind in ("select", "status"):
        return held["name"] if held else None
    if kind == "multi_select":
        return [one["name"] for one in held or ()]
    if kind == "date":
        return held["start"] if held else None
    if kind == "rich_text":
        return _plain(held or ())
    return list(_names(held)) if kind == "people" else None


def _names(people: Sequence[Mapping[str, Any]] | None) -> Iterator[str]:
    return (str(person["name"]) for person in people or () if person.get("name"))
