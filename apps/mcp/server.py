"""The tools and resources of the MCP server, whichever way it is spoken to.

`search` and `fetch` have the form that ChatGPT's connectors ask for: one text, which is JSON.
https://platform.openai.com/docs/mcp
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import metadata
from typing import Annotated, Any, TypeAlias
from urllib.parse import quote, unquote

from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ResourceNotFoundError, ToolError
from mcp_types import ToolAnnotations
from pydantic import Field

from pipeline.errors import DocweaveError
from pipeline.query import Found, Question
from pipeline.query_around import Around, joined
from pipeline.query_desk import Access, Desk
from pipeline.query_rank import place_of
from pipeline.records import Filter, JsonValue
from pipeline.stored import Stored
from pipeline.where import parse

Asking: TypeAlias = Context[Any, Any]
AccessOf: TypeAlias = Callable[[Asking], Access]
"""The labels of whoever asks."""

MOST_CHARACTERS = 100_000
"""Of a document, in one answer."""
SCHEME = "docweave://"
INSTRUCTIONS = """\
Passages of the documents that this server keeps an index of. `search` finds passages by meaning and by
words: ask in whole sentences, as the documents would answer. `fetch` reads a whole document by the id that a
result has. Cite the url of what you use."""
SEARCH = """\
Find the passages of the documents that answer a question best.

Gives JSON: `results`, best first, each with `id`, `title`, `url` and the passage as `text`."""
FETCH = """\
Read a whole document.

Gives JSON: `id`, `title`, `text`, `url` and `metadata`. A document of more than 100,000 characters comes in
parts: `metadata.next` says where the next one starts."""
SOURCES = """\
List the sources of the documents, and how much there is of each.

Gives JSON: `sources`, each with `name`, `documents` and `passages`; and `columns`, by which `where` of search
can filter."""
READS = ToolAnnotations(readOnlyHint=True, idempotentHint=True, openWorldHint=False)


def build(desk: Desk, access_of: AccessOf) -> MCPServer[Any]:
    """The server. Every answer holds only what `access_of` whoever asks lets them see."""
    server: MCPServer[Any] = MCPServer(
        "docweave",
        title="Docweave",
        version=metadata.version("docweave"),
        instructions=INSTRUCTIONS,
        log_level="WARNING",
    )

    @server.tool(description=SEARCH, annotations=READS, structured_output=False)
    async def search(
        query: Annotated[str, Field(description="A question, or words.", min_length=1, max_length=4_000)],
        asking: Asking,
        limit: Annotated[int, Field(description="How many documents, at most.", ge=1, le=50)] = 10,
        sources: Annotated[
            list[str] | None, Field(description="Only of these sources, as list_sources has them.")
        ] = None,
        where: Annotated[
            str, Field(description="A filter, such as: year >= 2024 and path ~ 'handbook/**'")
        ] = "",
    ) -> str:
        with _refusing():
            columns = await desk.columns() if where.strip() else ()
            wanted = Filter(
                sources=tuple(sources or ()), clause=parse(where, columns), access=access_of(asking)
            )
            found = await desk.search(
                Question(
                    text=query,
                    limit=limit,
                    where=wanted,
                    per_document=1,
                    around=Around(unit="chunks", chunks=1),
                )
            )
        return _json({"results": _results(found)})

    @server.tool(description=FETCH, annotations=READS, structured_output=False)
    async def fetch(
        id: Annotated[str, Field(description="As a result of search has it.")],  # noqa: A002 - ChatGPT's name
        asking: Asking,
        start: Annotated[
            int, Field(description="Of a long document, where to go on: metadata.next.", ge=0)
        ] = 0,
    ) -> str:
        source, _, key = id.partition("/")
        with _refusing():
            stored = await desk.document(source, key, access=access_of(asking))
        if stored is None:
            raise ToolError(f"there is no document {id!r}: take an id from a result of search")
        return _json(_document(stored, start))

    @server.tool(description=SOURCES, annotations=READS, structured_output=False)
    async def list_sources(asking: Asking) -> str:
        with _refusing():
            counts = await desk.counts(access=access_of(asking))
            columns = await desk.columns()
        return _json(
            {
                "sources": [
                    {"name": name, "documents": documents, "passages": passages}
                    for name, (documents, passages) in counts.items()
                ],
                "columns": [{"name": column.name, "type": column.type} for column in columns],
            }
        )

    @server.resource(
        SCHEME + "{source}/{+key}",
        name="document",
        title="A document",
        description="The text of a document, by its source and key.",
        mime_type="text/plain",
    )
    async def document(source: str, key: str, asking: Asking) -> str:
        stored = await desk.document(source, unquote(key), access=access_of(asking))
        if stored is None:
            raise ResourceNotFoundError(f"there is no document {address(source, key)}")
        return text_of(stored)

    return server


def address(source: str, key: str) -> str:
    """Where a document is as a resource."""
    return f"{SCHEME}{source}/{quote(key, safe='/')}"


def text_of(stored: Stored) -> str:
    """The document's text, as far as it was divided into passages; what stood between two is a blank line."""
    parts: list[str] = []
    end = 0
    for row in stored.chunks:
        if parts and row.chunk.start > end:
            parts.append("\n\n")
        parts.append(row.chunk.text)
        end = row.chunk.end
    return "".join(parts)


def _results(found: Found) -> list[JsonValue]:
    return [
        {
            "id": f"{hit.source}/{hit.key}",
            "title": hit.title or hit.key,
            "url": hit.url or address(hit.source, hit.key),
            "text": joined(found.around.get(place_of(hit)) or [hit]),
            "metadata": {
                "source": hit.source,
                "headings": list(hit.heading_path),
                "page": hit.page,
                "score": round(hit.score, 6),
                **({"similarity": round(hit.similarity, 4)} if hit.similarity is not None else {}),
            },
        }
        for hit in found.hits
    ]


def _document(stored: Stored, start: int) -> dict[str, JsonValue]:
    about = stored.marks[0].about if stored.marks else stored.chunks[0].about
    text = text_of(stored)
    following = start + MOST_CHARACTERS
    more: dict[str, JsonValue] = {"next": following, "characters": len(text)} if following < len(text) else {}
    return {
        "id": f"{stored.source}/{stored.key}",
        "title": about.title or stored.key,
        "text": text[start:following],
        "url": about.url or address(stored.source, stored.key),
        "metadata": {**about.metadata, "source": stored.source, "media_type": about.media_type, **more},
    }


def _json(answer: dict[str, JsonValue]) -> str:
    return json.dumps(answer, ensure_ascii=False)


@contextmanager
def _refusing() -> Iterator[None]:
    """What went wrong is told to the assistant, which may ask otherwise."""
    try:
        yield
    except DocweaveError as error:
        raise ToolError(str(error)) from error
