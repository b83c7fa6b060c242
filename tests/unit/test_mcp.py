"""The MCP server, asked by the SDK's own client: in memory, over HTTP with keys, and as a process."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from mcp.client.client import Client
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError

from apps.desk import desk_of
from apps.http.app import create_app
from apps.mcp.http import add_mcp
from apps.mcp.server import MOST_CHARACTERS, build
from config import keys
from config.load import load_settings
from pipeline.errors import StoreUnavailable
from pipeline.protocols import Reader
from pipeline.query_desk import Access
from tests import serving
from tests.ingested import ingest_now, written

QUESTION = "How do I reset the Fern sensor?"
SECRET = "The vault of the board opens with the word rhubarb."
LONG = "".join(f"Paragraph {number} of a long book about soil.\n\n" for number in range(4_000))
FILES = {
    "public/fern.md": "# Fern\n\n## Resetting\n\nHold the button of the Fern sensor for ten seconds.\n",
    "public/clover ünd.md": "# Clover\n\nPass the magnet over the mark three times.\n",
    "public/book.txt": LONG,
    "rows.jsonl": '{"id": "note#7", "text": "The seventh note."}\n',
    "board/vault.md": f"# Vault\n\n{SECRET}\n",
}
SETTINGS = """\
sources:
  public: {type: files, path: public}
  board: {type: files, path: board, access: [board]}
  rows: {type: jsonl, path: rows.jsonl, key_field: id, text_field: text, cache: cache}
columns: {}
"""


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = written(tmp_path_factory.mktemp("mcp"), SETTINGS, FILES)
    ingest_now(config)
    return config


@asynccontextmanager
async def asking(config: Path, access: Access = None) -> AsyncIterator[Client]:
    desk = desk_of(load_settings(config))
    try:
        async with Client(build(desk, lambda _asking: access)) as client:
            yield client
    finally:
        await desk.aclose()


async def told(client: Client, tool: str, **arguments: Any) -> Any:
    """What a tool's one text holds."""
    done = await client.call_tool(tool, arguments)
    assert not done.is_error, done.content
    [content] = done.content
    assert content.type == "text"
    return json.loads(content.text)


async def refused(client: Client, tool: str, **arguments: Any) -> str:
    done = await client.call_tool(tool, arguments)
    assert done.is_error
    [content] = done.content
    assert content.type == "text"
    return content.text


async def test_the_tools_only_read_and_say_what_they_are_for(config: Path) -> None:
    async with asking(config) as client:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
    assert set(tools) == {"search", "fetch", "list_sources"}
    assert all(tool.annotations and tool.annotations.read_only_hint for tool in tools.values())
    assert tools["search"].input_schema["required"] == ["query"], "ChatGPT gives nothing else"
    assert tools["fetch"].input_schema["required"] == ["id"]
    assert "asking" not in tools["search"].input_schema["properties"]


async def test_what_search_finds_fetch_reads(config: Path) -> None:
    async with asking(config) as client:
        results = (await told(client, "search", query=QUESTION))["results"]
        assert results[0]["id"] == "public/fern.md#0"
        assert "ten seconds" in results[0]["text"]
        assert results[0]["url"].startswith("file:///")
        document = await told(client, "fetch", id=results[0]["id"])
        assert set(document) == {"id", "title", "text", "url", "metadata"}
        assert document["id"] == "public/fern.md"
        assert document["title"] == "Fern"
        assert "Hold the button" in document["text"]


async def test_what_stands_beside_two_passages_is_told_once(config: Path) -> None:
    async with asking(config) as client:
        results = (await told(client, "search", query="Paragraphs of a long book about soil", limit=50))[
            "results"
        ]
        of_the_book = [one for one in results if one["metadata"]["key"] == "book.txt"]
        assert len(of_the_book) > 1
        lines = [line for one in of_the_book for line in one["text"].split("\n") if line.strip()]
        assert len(lines) == len(set(lines))
        one_each = await told(client, "search", query="soil, magnet, sensor", limit=50, per_document=1)
        keys = [one["metadata"]["key"] for one in one_each["results"]]
        assert len(keys) == len(set(keys)) > 1


async def test_a_long_document_comes_in_parts_that_are_the_whole(config: Path) -> None:
    async with asking(config) as client:
        first = await told(client, "fetch", id="public/book.txt")
        assert len(first["text"]) == MOST_CHARACTERS
        rest = await told(client, "fetch", id="public/book.txt", start=first["metadata"]["next"])
    assert "next" not in rest["metadata"]
    assert (first["text"] + rest["text"]).split() == LONG.split()


async def test_a_passage_of_a_long_document_is_in_the_part_that_is_read(config: Path) -> None:
    async with asking(config) as client:
        [found] = (await told(client, "search", query="Paragraph 3999", limit=1, where="path = book.txt"))[
            "results"
        ]
        part = await told(client, "fetch", id=found["id"])
        assert part["metadata"]["start"] > 0
        assert "Paragraph 3999 of" in part["text"]
        first = await told(client, "fetch", id="public/book.txt#0")
        assert (first["metadata"]["start"], len(first["text"])) == (0, MOST_CHARACTERS)


async def test_a_key_that_looks_like_a_passage_is_a_document(config: Path) -> None:
    async with asking(config) as client:
        for named in ("rows/note#7", "rows/note#7#0"):
            assert (await told(client, "fetch", id=named))["id"] == "rows/note#7"
        assert "there is no document" in await refused(client, "fetch", id="public/nothing#0")


async def test_a_document_is_a_resource_under_any_key(config: Path) -> None:
    async with asking(config) as client:
        [template] = (await client.list_resource_templates()).resource_templates
        assert template.uri_template == "docweave://{source}/{+key}"
        [content] = (await client.read_resource("docweave://public/clover%20%C3%BCnd.md")).contents
        assert "Pass the magnet" in content.text
        with pytest.raises(MCPError, match="there is no document"):
            await client.read_resource("docweave://public/nothing.md")


async def test_a_mistake_is_told_to_the_assistant(config: Path) -> None:
    async with asking(config) as client:
        assert "there is no document 'nowhere'" in await refused(client, "fetch", id="nowhere")
        assert "filter" in await refused(client, "search", query="x", where="year >")
        assert "query" in await refused(client, "search", query="")


@pytest.mark.parametrize(
    ("access", "sees"), [((), False), (("staff",), False), (("board",), True), (None, True)]
)
async def test_nobody_is_told_of_what_they_may_not_see(
    config: Path,
    access: Access,
    sees: bool,  # noqa: FBT001 - a table's column
) -> None:
    async with asking(config, access) as client:
        results = (await told(client, "search", query="the word of the vault", limit=50))["results"]
        assert ("board" in [one["metadata"]["source"] for one in results]) == sees
        filtered = await told(client, "search", query="rhubarb", sources=["board"], where="path = 'vault.md'")
        assert bool(filtered["results"]) == sees
        fetched = await client.call_tool("fetch", {"id": "board/vault.md"})
        assert fetched.is_error == (not sees)
        listed = (await told(client, "list_sources"))["sources"]
        assert ("board" in [one["name"] for one in listed]) == sees
        try:
            read = await client.read_resource("docweave://board/vault.md")
        except MCPError:
            assert not sees
        else:
            assert sees
            assert SECRET in read.contents[0].text


@pytest.fixture
def served(config: Path, tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """The search API on a port of this machine, and where its keys are."""
    settings = load_settings(config, {"serve": {"keys": str(tmp_path / "keys.json")}})
    keys.create(Path(settings.serve.keys), "everybody", ())
    app = create_app(desk_of(settings), settings.serve, is_open=False, also=[add_mcp])
    with serving.served(app) as address:
        yield f"{address}/mcp", Path(settings.serve.keys)


async def test_over_http_a_key_sees_what_it_may(served: tuple[str, Path]) -> None:
    url, ring = served
    for name, labels, sees in (
        ("staff", ("staff",), False),
        ("board", ("board",), True),
        ("owner", None, True),
    ):
        secret, _ = keys.create(ring, name, labels)
        async with (
            httpx.AsyncClient(headers={"Authorization": f"Bearer {secret}"}) as http,
            Client(streamable_http_client(url, http_client=http)) as client,
        ):
            results = (await told(client, "search", query="rhubarb"))["results"]
            assert ("board" in [one["metadata"]["source"] for one in results]) == sees
            assert (await client.call_tool("fetch", {"id": "board/vault.md"})).is_error == (not sees)


async def test_over_http_nobody_gets_in_without_a_key(served: tuple[str, Path]) -> None:
    url, _ = served
    asked = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
    async with httpx.AsyncClient() as http:
        for headers in ({}, {"Authorization": "Bearer dw_wrong"}):
            assert (await http.post(url, json=asked, headers=headers)).status_code == 401


async def test_over_http_an_outage_is_told_without_a_detail(config: Path, tmp_path: Path) -> None:
    settings = load_settings(config, {"serve": {"keys": str(tmp_path / "keys.json")}})
    desk = desk_of(settings)

    async def away() -> Reader:
        raise StoreUnavailable("s3://bucket/secret does not answer")

    desk.tables[0].open_reader = away
    app = create_app(desk, settings.serve, is_open=True, also=[add_mcp])
    with serving.served(app) as address:
        async with Client(streamable_http_client(f"{address}/mcp")) as client:
            for tool, arguments in (
                ("search", {"query": "x"}),
                ("fetch", {"id": "a/b"}),
                ("list_sources", {}),
            ):
                assert "cannot be reached just now" in (told := await refused(client, tool, **arguments))
                assert "secret" not in told
            with pytest.raises(MCPError) as failed:
                await client.read_resource("docweave://public/fern.md")
            assert "secret" not in str(failed.value)


async def test_as_a_process_it_answers_over_standard_input_and_output(config: Path) -> None:
    command = [str(Path(sys.executable).with_name("docweave")), "mcp", "-c", str(config), "--as", "staff"]
    server = StdioServerParameters(command=command[0], args=command[1:])
    async with Client(stdio_client(server)) as client:
        results = (await told(client, "search", query="vault rhubarb reset Fern"))["results"]
        assert results[0]["id"] == "public/fern.md#0"
        assert "board" not in [one["metadata"]["source"] for one in results]
