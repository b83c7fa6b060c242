"""Pages of Notion: the contract against a server that answers as its documented API does."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import SecretStr

from connectors.notion import NotionConnector, NotionSettings
from pipeline.errors import ItemUnreadable, SourceRefused, SourceUnavailable
from tests.contract.connector_contract import ConnectorContract, SourceOfTests, listed
from tests.loopback import Asked, Said, failing, hasten, serving

PAGE = 30
"""Results a page here, whatever is asked for."""


def rich(text: str) -> list[dict[str, Any]]:
    """As Notion gives text: in parts of at most 2,000 characters."""
    parts = [text[start : start + 2000] for start in range(0, len(text), 2000)]
    return [{"type": "text", "plain_text": part, "href": None} for part in parts]


def block(kind: str, *inside: dict[str, Any], **about: Any) -> dict[str, Any]:
    return {"type": kind, kind: about, "has_children": bool(inside), "inside": list(inside)}


@dataclass
class Notion:
    """Pages and their blocks."""

    url: str = ""
    pages: dict[str, dict[str, Any]] = field(default_factory=dict)
    blocks: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    ids: dict[str, str] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    fails: dict[str, list[Said]] = field(default_factory=dict)
    shift: int = 0
    """Pages that came meanwhile: so many of what a page of results told are told again by the next."""
    clock: int = 0

    def put(self, key: str, content: bytes) -> None:
        page = self.ids.setdefault(key, f"{len(self.ids):08x}-aaaa-bbbb-cccc-dddddddddddd")
        self.write(page, key, block("paragraph", rich_text=rich(content.decode("utf-8", "replace"))))

    def write(self, page: str, title: str, *blocks: dict[str, Any], **properties: Any) -> None:
        self.clock += 1
        edited = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=self.clock)
        self.pages[page] = {
            "object": "page",
            "id": page,
            "last_edited_time": edited.strftime("%Y-%m-%dT%H:%M:%S.000Z"),
            "archived": False,
            "url": f"https://www.notion.so/{page}",
            "properties": {"Name": {"type": "title", "title": rich(title)}, **properties},
        }
        self.keep(page, blocks)

    def keep(self, parent: str, blocks: Any) -> None:
        self.blocks[parent] = []
        for number, one in enumerate(blocks):
            inside = one.pop("inside")
            self.blocks[parent].append({**one, "id": f"{parent}.{number}"})
            if inside:
                self.keep(f"{parent}.{number}", inside)

    def drop(self, key: str) -> None:
        self.pages[self.ids[key]]["archived"] = True

    def connector(self, **settings: object) -> NotionConnector:
        chosen = {"type": "notion", "base_url": self.url, "token": SecretStr("s3cret"), **settings}
        return NotionConnector(source="docs", settings=NotionSettings.model_validate(chosen))

    def answer(self, asked: Asked) -> Said:
        self.asked.append(asked.path)
        for pattern, answers in self.fails.items():
            if answers and re.search(pattern, asked.path):
                return answers.pop(0)
        if asked.headers.get("authorization") != "Bearer s3cret":
            return Said(status=401, content={"object": "error", "code": "unauthorized"})
        assert asked.headers["notion-version"] == "2022-06-28"
        if asked.path == "/v1/search":
            body = asked.json()
            assert body["filter"] == {"property": "object", "value": "page"}
            return self.page(list(self.pages.values()), body.get("start_cursor"))
        if of := re.fullmatch(r"/v1/pages/(.+)", asked.path):
            return Said(content=self.pages[of[1]]) if of[1] in self.pages else Said(status=404)
        if (of := re.fullmatch(r"/v1/blocks/(.+)/children", asked.path)) and of[1] in self.blocks:
            return self.page(self.blocks[of[1]], asked.query.get("start_cursor"))
        return Said(status=404)

    def page(self, found: list[dict[str, Any]], cursor: str | None) -> Said:
        start = int(cursor or 0)
        more = start + PAGE < len(found)
        return Said(
            content={
                "object": "list",
                "results": found[max(0, start - self.shift) : start + PAGE],
                "has_more": more,
                "next_cursor": str(start + PAGE) if more else None,
            }
        )


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Iterator[Notion]:
    hasten(monkeypatch)
    notion = Notion()
    with serving(notion.answer) as url:
        notion.url = url
        yield notion


class TestNotionConnector(ConnectorContract):
    """The contract, on pages."""

    def outage(self, place: Notion) -> AbstractContextManager[None]:
        return failing(place.fails, "", [Said(status=502)] * 20)

    def refusal(self, place: Notion) -> AbstractContextManager[None]:
        return failing(place.fails, "", [Said(status=401)] * 20)

    def half(self, place: Notion) -> AbstractContextManager[None]:
        return failing(
            place.fails, "search", [place.page(list(place.pages.values()), None), *[Said(status=502)] * 10]
        )

    @contextmanager
    def repeating(self, place: Notion) -> Iterator[None]:
        place.shift = 2
        yield

    many = 200

    def key(self, place: SourceOfTests, name: str) -> str:
        assert isinstance(place, Notion)
        return place.ids[name]

    def holds(self, content: bytes, given: bytes) -> bool:
        def plain(text: str) -> str:
            return "".join(text.split())

        return plain(given.decode("utf-8", "replace")) in plain(content.decode())

    async def test_the_media_type_follows_the_name(self, place: Any) -> None:
        place.put("a", b"A")
        connector = place.connector()
        [ref] = await listed(connector)
        assert (await connector.load(ref)).media_type == "text/markdown"


async def read(place: Notion, *blocks: dict[str, Any], **properties: Any) -> tuple[str, Any]:
    place.write("p", "A page", *blocks, **properties)
    connector = place.connector()
    [ref] = await listed(connector)
    raw = await connector.load(ref)
    return raw.content.decode(), raw


async def test_blocks_become_markdown(place: Notion) -> None:
    cells = [[rich("who"), rich("days")], [rich("a|b"), rich("25")]]
    text, raw = await read(
        place,
        block("heading_2", rich_text=rich("Leave")),
        block("paragraph", rich_text=[*rich("It is "), *rich("25 days.")]),
        block(
            "bulleted_list_item",
            block("bulleted_list_item", rich_text=rich("inner")),
            rich_text=rich("outer"),
        ),
        block("to_do", rich_text=rich("ask"), checked=True),
        block("code", rich_text=rich("x = 1"), language="python"),
        block("table", *[block("table_row", cells=row) for row in cells], table_width=2),
        block("image", caption=rich("A fern"), type="external"),
        block("divider"),
        block("unsupported"),
        block("child_page", block("paragraph", rich_text=rich("not here")), title="Another page"),
    )
    assert text.split("\n\n") == [
        "# A page",
        "## Leave",
        "It is 25 days.",
        "- outer",
        "  - inner",
        "- [x] ask",
        "```python\nx = 1\n```",
        "| who | days |\n| --- | --- |\n| a\\|b | 25 |",
        "A fern",
        "Another page",
    ]
    assert (raw.title, raw.url) == ("A page", "https://www.notion.so/p")


async def test_properties_become_metadata(place: Notion) -> None:
    _, raw = await read(
        place,
        Team={"type": "select", "select": {"name": "people"}},
        Tags={"type": "multi_select", "multi_select": [{"name": "a"}, {"name": "b"}]},
        Days={"type": "number", "number": 25},
        Due={"type": "date", "date": {"start": "2026-03-04", "end": None}},
        Done={"type": "checkbox", "checkbox": False},
        Who={"type": "people", "people": [{"name": "Ada"}, {}]},
        Empty={"type": "select", "select": None},
        Sum={"type": "formula", "formula": {"type": "number", "number": 1}},
    )
    assert raw.metadata == {
        "Team": "people",
        "Tags": ["a", "b"],
        "Days": 25,
        "Due": "2026-03-04",
        "Done": False,
        "Who": ["Ada"],
    }


async def test_a_listing_reads_no_blocks_and_long_pages_are_read_to_their_end(place: Notion) -> None:
    lines = [block("paragraph", rich_text=rich(f"Line {number}.")) for number in range(2 * PAGE + 1)]
    text, _ = await read(place, *lines)
    assert f"Line {2 * PAGE}." in text
    place.asked.clear()
    await listed(place.connector())
    assert set(place.asked) == {"/v1/search"}


async def test_a_page_that_was_just_edited_is_looked_at_again(place: Notion) -> None:
    place.put("a", b"x")
    page = place.pages[place.ids["a"]]
    page["last_edited_time"] = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:00.000Z")
    [ref] = await listed(place.connector())
    assert ref.version != page["last_edited_time"], "another edit in the same minute would not show"


async def test_a_page_of_results_that_fails_is_an_error(place: Notion) -> None:
    for number in range(3 * PAGE):
        place.put(f"{number}", b"x")
    place.fails["search"] = [Said(status=429, headers={"retry-after": "0"}), Said(status=502)]
    assert len(await listed(place.connector())) == 3 * PAGE, "asked again"
    place.fails["search"] = [Said(content={"results": [], "has_more": True, "next_cursor": "30"})]
    place.fails["search"] += [Said(status=502)] * 10
    with pytest.raises(SourceUnavailable, match="502"):
        await listed(place.connector())


async def test_a_block_that_fails_costs_no_half_page(place: Notion) -> None:
    place.put("a", b"x")
    connector = place.connector()
    [ref] = await listed(connector)
    place.fails["blocks"] = [Said(status=500)] * 10
    with pytest.raises(SourceUnavailable):
        await connector.load(ref)


async def test_a_wrong_token_is_refused_and_not_shown(place: Notion) -> None:
    with pytest.raises(SourceRefused) as refused:
        await listed(place.connector(token=SecretStr("wr0ng")))
    assert "wr0ng" not in str(refused.value)


async def test_what_was_thrown_away_after_the_listing_is_unreadable(place: Notion) -> None:
    place.put("a", b"x")
    connector = place.connector()
    [ref] = await listed(connector)
    place.drop("a")
    with pytest.raises(ItemUnreadable, match="moved to the trash"):
        await connector.load(ref)
