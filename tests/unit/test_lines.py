"""Passages know the lines of the file that they stand on, and links lead there."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import lancedb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import digest
from pipeline.chunk import Chunker
from pipeline.parse import DocumentParser
from pipeline.records import Chunk, Column, Document, EmbedGroup, ItemRef, RawDocument, Span
from pipeline.stores._schema import LATER
from pipeline.stores.lance import LanceStore
from pipeline.stores.lance_reader import LanceReader
from tests.contract.store_contract import EVERYTHING, SPACE, embedded
from tests.world import World

FRONT = "---\ntitle: T\ntags: [a]\n---\n\n\n"


@pytest.fixture(scope="module")
def parser() -> DocumentParser:
    return DocumentParser(processes=1)


def raw(key: str, content: bytes, anchor: str | None = None, media_type: str = "") -> RawDocument:
    ref = ItemRef(source="s", key=key, version="1")
    return RawDocument(
        ref=ref, content=content, media_type=media_type, url=f"https://example.org/{key}", anchor=anchor
    )


def cut(document: Document) -> tuple[Chunk, ...]:
    return Chunker(max_tokens=16, merge_below=0).chunk(document)


def lines_of(content: bytes) -> list[str]:
    """As editors and forges number them."""
    return re.split("\r\n|\r|\n", content.decode())


def assert_exact(content: bytes, chunks: tuple[Chunk, ...]) -> None:
    lines = lines_of(content)
    for chunk in chunks:
        assert chunk.line is not None
        assert chunk.last_line is not None
        own = chunk.text.split("\n")
        assert chunk.last_line - chunk.line + 1 == len(own)
        there = lines[chunk.line - 1 : chunk.last_line]
        assert own[0] in there[0]
        assert own[-1] in there[-1]
        assert own[1:-1] == there[1:-1]


@settings(max_examples=100, deadline=None)
@given(
    key=st.sampled_from(["a.md", "a.txt", "a.py", "no-suffix"]),
    before=st.sampled_from(["", FRONT, FRONT, "\ufeff", "\n\n"]),
    lines=st.lists(
        st.sampled_from(["", "", "# Head", "## Other head", "    indented = 1", "one two three four. " * 6])
        | st.text("ab \t\x0b\x0c\x85\u2028-#`", max_size=20),
        max_size=25,
    ),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
)
def test_a_passage_begins_and_ends_on_the_lines_that_it_names(
    key: str, before: str, lines: list[str], end: str
) -> None:
    content = before.replace("\n", end) + end.join(lines)

    async def chunks() -> tuple[Chunk, ...]:
        return cut(await DocumentParser(processes=1).parse(raw(key, content.encode())))

    assert_exact(content.encode(), anyio.run(chunks))


@pytest.mark.parametrize(
    ("key", "content"),
    [("a.csv", b"a,b\n1,2\n3,4\n"), ("a.html", b"<p>word</p>"), ("a.json", b'{"a": "word"}')],
)
async def test_a_text_that_is_made_of_the_content_has_no_lines(
    parser: DocumentParser, key: str, content: bytes
) -> None:
    chunks = cut(await parser.parse(raw(key, content, "#L{line}")))
    assert {(chunk.line, chunk.last_line, chunk.anchor) for chunk in chunks} == {(None, None, None)}


@pytest.mark.parametrize(
    ("key", "content"),
    [("a.csv", '\n\nword,b\n"' + "never closed " * 20_000), ("a.json", '\n\nword {"a": never closed')],
)
async def test_what_only_calls_itself_csv_or_json_has_its_own_lines(
    parser: DocumentParser, key: str, content: str
) -> None:
    document = await parser.parse(raw(key, content.encode()))
    assert (document.text, document.syntax, document.first_line) == (content, "plain", 1)
    assert cut(document)[0].line == 3


async def test_an_anchor_is_filled_with_the_lines(parser: DocumentParser) -> None:
    content = FRONT.encode() + b"# A\n\nOne.\n\n# B\n\n" + b"many words stand here. " * 6
    document = await parser.parse(raw("a.md", content, "?plain=1#L{line}-L{last_line}"))
    found = [(chunk.line, chunk.anchor) for chunk in cut(document)]
    assert found[0] == (7, "?plain=1#L7-L9")
    assert found[1] == (11, "?plain=1#L11-L13")


def prepared_row(chunk: Chunk) -> str:
    groups = [EmbedGroup(title="T", chunks=(chunk,))]
    return digest.row_key("T", "u", "text/markdown", {}, groups)


def test_other_lines_are_other_rows_and_no_lines_the_row_that_always_was() -> None:
    chunk = Chunk(ordinal=0, start=0, end=4, text="word", tokens=1)
    there = replace(chunk, line=3, last_line=3)
    rows = [chunk, there, replace(there, line=4), replace(there, last_line=4), replace(there, anchor="#L3")]
    assert len({prepared_row(one) for one in rows}) == len(rows)


def test_another_link_to_lines_is_other_content() -> None:
    plain = raw("a.md", b"x")
    assert len({digest.content_key(replace(plain, anchor=anchor)) for anchor in (None, "#L", "#n")}) == 3


async def test_what_moves_the_lines_alone_is_rewritten_and_not_embedded(world: World) -> None:
    async def found() -> list[tuple[int | None, int | None]]:
        spans = [Span(source=world.items.source, key="a.md")]
        return [(hit.line, hit.last_line) for hit in await world.store.passages(spans, where=EVERYTHING)]

    world.items.items["a.md"] = "---\nlevel: 1\n---\n# A\n\nWords.\n"
    await world.ingest()
    assert await found() == [(4, 6)]
    world.items.items["a.md"] = "---\n# a remark\nlevel: 1\n---\n# A\n\nWords.\n"
    report = await world.ingest()
    assert (report.rewritten, report.tokens) == (1, 0)
    assert await found() == [(5, 7)]


# --- tables of an earlier Docweave


async def make_old(uri: str, *, with_metadata_of_the_name: bool) -> None:
    """Tables as they were before lines, of two documents."""
    columns = [Column(name="row", type="integer", path=("line",))] if with_metadata_of_the_name else []
    store = await LanceStore.open(uri, space=SPACE, columns=columns)
    await store.replace([embedded("a.md", "one", "two", metadata={"line": 5}), embedded("b.md", "word")])
    database = await lancedb.connect_async(uri)
    for name in ("chunks", "documents"):
        table = await database.open_table(name)
        await table.drop_columns([*LATER[name]])
        if with_metadata_of_the_name:
            pin = json.dumps({"type": "integer", "path": ["line"], "index": True})
            named: Any = {"path": "row", "rename": "line"}
            await table.alter_columns(named)
            await table.update_field_metadata({"path": "line", "metadata": {"docweave.column": pin}})


@pytest.mark.parametrize("with_metadata_of_the_name", [False, True])
async def test_tables_without_lines_are_read_as_they_are_and_get_them_with_the_next_write(
    tmp_path: Path, *, with_metadata_of_the_name: bool
) -> None:
    uri = str(tmp_path / "db")
    await make_old(uri, with_metadata_of_the_name=with_metadata_of_the_name)
    reader = await LanceReader.open(uri)
    [hit] = await reader.matching("two", limit=5, where=EVERYTHING)
    assert (hit.line, hit.last_line, hit.url) == (None, None, "https://example.org/4")
    before = {one.key: one.vectors.tobytes() async for one in reader.stored("notes")}
    store = await LanceStore.open(uri, space=SPACE)
    await store.replace([embedded("c.md", "four", "five")])
    [hit] = await reader.matching("five", limit=5, where=EVERYTHING)
    assert (hit.line, hit.last_line, hit.url) == (7, 10, "https://example.org/4#L7")
    stored = {one.key: one async for one in reader.stored("notes")}
    assert {key: stored[key].vectors.tobytes() for key in before} == before
    lines = {key: [row.chunk.line for row in one.chunks] for key, one in stored.items()}
    assert lines == {"a.md": [None, None], "b.md": [None], "c.md": [None, 7]}


async def test_a_rebuild_of_tables_with_metadata_of_the_name_leaves_it_behind(tmp_path: Path) -> None:
    uri = str(tmp_path / "db")
    await make_old(uri, with_metadata_of_the_name=True)
    store = await LanceStore.open(uri, space=SPACE, rebuild=True)
    await store.stage()
    await store.replace([embedded("a.md", "one", "two"), embedded("b.md", "word")])
    await store.publish()
    [hit] = await store.matching("two", limit=5, where=EVERYTHING)
    assert hit.line == 7
