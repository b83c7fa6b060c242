"""The tools and resources of the MCP server, whichever way it is spoken to.

`search` and `fetch` have the form that ChatGPT's connectors ask for: one text, which is JSON.
https://platform.openai.com/docs/mcp
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import metadata
from typing import Annotated, Any, TypeAlias
from urllib.parse import quote, unquote

from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ResourceNotFoundError, ToolError
from mcp_types import ToolAnnotations
from pydantic import Field

from apps.http.answers import passage_id
from apps.http.models import LONGEST_QUESTION, SearchRequest
from config.logging_lines import TEXT
from pipeline.errors import DocweaveError
from pipeline.query import Found
from pipeline.query_around import joined
from pipeline.query_desk import Access, Desk
from pipeline.query_rank import Place, place_of
from pipeline.records import Hit, JsonValue
from pipeline.stored import Stored

Asking: TypeAlias = Context[Any, Any]
AccessOf: TypeAlias = Callable[[Asking], Access]
"""The labels of whoever asks."""
Told: TypeAlias = Callable[[DocweaveError], str]
"""What an assistant is told of an error."""

MOST_CHARACTERS = 100_000
"""Of a document, in one answer."""
SCHEME = "docweave://"
INSTRUCTIONS = """\
Passages of the documents that this server keeps an index of. `search` finds passages by meaning and by
words: ask in whole sentences, as the documents would answer. `fetch` reads a whole document by the id that a
result has. Cite the url of what you use."""
SEARCH = """\
Find the passages of the documents that answer a question best.

Gives JSON: `results`, best first, each with `id`, `title`, `url`, and as `text` the passage with what stands
beside it."""
FETCH = """\
Read the whole document of a passage.

Gives JSON: `id`, `title`, `text`, `url` and `metadata`. A document of more than 100,000 characters comes in
parts: `metadata.start` says where this one starts, `metadata.next` where the next one does."""
SOURCES = """\
List the sources of the documents, and how much there is of each.

Gives JSON: `sources`, each with `name`, `documents` and `passages`; and `columns`, by which `where` of search
can filter."""
READS = ToolAnnotations(readOnlyHint=True, idempotentHint=True, openWorldHint=False)


def build(desk: Desk, access_of: AccessOf, told: Told = str) -> MCPServer[Any]:
    """The server. Every answer holds only what `access_of` whoever asks lets them see.

    `told`: what they may know of an error; on one's own machine, all of it.
    """
    logging.basicConfig(format=TEXT)  # or MCPServer has every line of this process broken at 80 columns
    server: MCPServer[Any] = MCPServer(
        "docweave",
        title="Docweave",
        version=metadata.version("docweave"),
        instructions=INSTRUCTIONS,
        log_level="WARNING",
    )

    @server.tool(description=SEARCH, annotations=READS, structured_output=False)
    async def search(  # noqa: PLR0913, PLR0917 - a tool's arguments
        query: Annotated[
            str, Field(description="A question, or words.", min_length=1, max_length=LONGEST_QUESTION)
        ],
        asking: Asking,
        limit: Annotated[int, Field(description="How many passages, at most.", ge=1, le=50)] = 10,
        sources: Annotated[
            list[str] | None, Field(description="Only of these sources, as list_sources has them.")
        ] = None,
        where: Annotated[
            str, Field(description="A filter, such as: year >= 2024 and path ~ 'handbook/**'")
        ] = "",
        per_document: Annotated[
            int | None, Field(description="At most so many passages of one document.", ge=1, le=50)
        ] = None,
    ) -> str:
        with _refusing(told):
            asked = SearchRequest.of(
                {
                    "question": query,
                    "limit": limit,
                    "sources": sources or [],
                    "where": where,
                    "per_document": per_document,
                    "around": "chunks",
                }
            )
            found = await desk.search(await asked.put_to(desk, access_of(asking)))
        return _json({"results": _results(found)})

    @server.tool(description=FETCH, annotations=READS, structured_output=False)
    async def fetch(
        id: Annotated[str, Field(description="As a result of search has it.")],  # noqa: A002 - ChatGPT's name
        asking: Asking,
        start: Annotated[
            int | None,
            Field(
                description="Of a long document, where to go on: metadata.next. If left out, its "
                "beginning, or where the passage stands.",
                ge=0,
            ),
        ] = None,
    ) -> str:
        source, _, key = id.partition("/")
        with _refusing(told):
            for one, ordinal in _meant(key):
                stored = await desk.document(source, one, access=access_of(asking))
                if stored is not None:
                    return _json(_document(stored, _start(stored, ordinal) if start is None else start))
        raise ToolError(f"there is no document {id!r}: take an id from a result of search")

    @server.tool(description=SOURCES, annotations=READS, structured_output=False)
    async def list_sources(asking: Asking) -> str:
        with _refusing(told):
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
    """The document's text, as far as it was divided into passages."""
    return joined([row.chunk for row in stored.chunks])


def _meant(key: str) -> list[tuple[str, int | None]]:
    """What a key may stand for: that of a document with the ordinal of a passage, or of a document."""
    passage = re.fullmatch(r"(.+)#(\d{1,9})", key, re.DOTALL)
    return [*([(passage[1], int(passage[2]))] if passage else []), (key, None)]


def _start(stored: Stored, ordinal: int | None) -> int:
    """Of the text, where the part begins that has this passage."""
    before = [row.chunk for row in stored.chunks if ordinal is not None and row.chunk.ordinal <= ordinal]
    length = len(joined(before))
    return length - len(before[-1].text) if before and length > MOST_CHARACTERS else 0


def _told_once(found: Found) -> Iterator[tuple[Hit, Sequence[Hit]]]:
    """The hits, each with the chunks beside it that no other result has: what stands twice is read twice."""
    told: set[Place] = {place_of(hit) for hit in found.hits}
    for hit in found.hits:
        around = found.around.get(place_of(hit)) or (hit,)
        chunks = [one for one in around if place_of(one) == place_of(hit) or place_of(one) not in told]
        told |= {place_of(one) for one in chunks}
        yield hit, chunks


def _results(found: Found) -> list[JsonValue]:
    return [
        {
            "id": passage_id(hit),
            "title": hit.title or hit.key,
            "url": hit.url or address(hit.source, hit.key),
            "text": joined(chunks),
            "metadata": {
                "source": hit.source,
                "key": hit.key,
                "ordinal": hit.ordinal,
                "headings": list(hit.heading_path),
                "page": hit.page,
                "score": round(hit.score, 6),
                **({"similarity": round(hit.similarity, 4)} if hit.similarity is not None else {}),
            },
        }
        for hit, chunks in _told_once(found)
    ]


def _document(stored: Stored, start: int) -> dict[str, JsonValue]:
    about = stored.marks[0].about if stored.marks else stored.chunks[0].about
    text = text_of(stored)
    following = start + MOST_CHARACTERS
    part: dict[str, JsonValue] = {}
    if len(text) > MOST_CHARACTERS:
        part = {"start": start, "characters": len(text)}
    if following < len(text):
        part["next"] = following
    return {
        "id": f"{stored.source}/{stored.key}",
        "title": about.title or stored.key,
        "text": text[start:following],
        "url": about.url or address(stored.source, stored.key),
        "metadata": {**about.metadata, "source": stored.source, "media_type": about.media_type, **part},
    }


def _json(answer: dict[str, JsonValue]) -> str:
    return json.dumps(answer, ensure_ascii=False)


@contextmanager
def _refusing(told: Told) -> Iterator[None]:
    """What went wrong is told to the assistant, which may ask otherwise. What is not foreseen, nobody is."""
    try:
        yield
    except DocweaveError as error:
        raise ToolError(told(error)) from error
