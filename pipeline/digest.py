"""The marks that say what must be done again. Each answers one question; see `records.DocumentState`.

A digest is of length-prefixed parts, so that no two different inputs are the same bytes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import astuple

from pipeline.protocols import Connector, Embedder, Shaping
from pipeline.records import Chunk, EmbeddingSpace, EmbedGroup, Grouping, JsonValue, Metadata, RawDocument

_COPY_OF = " copy of "
ROW_VERSION = 2
"""Raised when what stands in a row is made differently from the same inputs."""


def recipe(  # noqa: PLR0913, PLR0917 - all that decides how a document is treated
    parser: str,
    chunker: str,
    embedder: Embedder,
    grouping: Grouping,
    metadata: Metadata,
    connector: Connector | None = None,
    *,
    copies_once: bool = False,
) -> str:
    """Would we treat a document differently today? `metadata` is what the settings add to each document."""
    limits = embedder.limits
    division = [limits.group_tokens, limits.group_chunks, *astuple(grouping)]
    shape = connector.recipe if isinstance(connector, Shaping) else ""
    treatment = [shape, parser, chunker, _space(embedder.space), embedder.recipe, _canonical(division)]
    once = ["copies once"] if copies_once else []
    return _digest([str(ROW_VERSION), *treatment, _canonical(metadata), *once])


def content_key(raw: RawDocument) -> str:
    """Did anything that the connector gave change?"""
    about: dict[str, JsonValue] = {"title": raw.title, "url": raw.url, "metadata": dict(raw.metadata)}
    if raw.access is not None:  # so that what comes without has the mark that it always had
        about["access"] = [*labels(raw.access)]
    if raw.anchor is not None:
        about["anchor"] = raw.anchor
    return _digest([raw.content, raw.media_type, _canonical(about)])


def group_key(group: EmbedGroup, embedder: Embedder) -> str:
    """Must the group's vectors be computed? All that they depend on, and the space."""
    division = [len(group.before), len(group.chunks), len(group.after)]
    return _digest([_space(embedder.space), _canonical(division), *embedder.reads(group)])


def row_key(  # noqa: PLR0913, PLR0917 - all that stands in a row
    title: str,
    url: str | None,
    media_type: str,
    metadata: Metadata,
    groups: Iterable[EmbedGroup],
    access: Sequence[str] = (),
) -> str:
    """Must the rows be written? All that is stored beside the vectors."""
    about: dict[str, JsonValue] = {"title": title, "url": url, "type": media_type, "metadata": dict(metadata)}
    if access:  # as above
        about["access"] = [*labels(access)]
    spans: list[JsonValue] = [
        [chunk.start, chunk.end, chunk.tokens, chunk.page, *chunk.heading_path, *_lines(chunk)]
        for group in groups
        for chunk in group.chunks
    ]
    return _digest([_canonical(about), _canonical(spans)])


def as_copy(row_key: str, source: str, key: str) -> str:
    """The `row_key` of a document that is stored without rows, because another one has those of its text."""
    return f"{row_key}{_COPY_OF}{json.dumps([source, key], ensure_ascii=False)}"


def copy_of(row_key: str) -> tuple[str, str] | None:
    """Source and key of the document that has the rows of this one's text; None for one that has its own."""
    _, found, place = row_key.partition(_COPY_OF)
    if not found:
        return None
    source, key = json.loads(place)
    return source, key


def own_row_key(row_key: str) -> str:
    """A `row_key` as it was before `as_copy`."""
    return row_key.partition(_COPY_OF)[0]


def labels(given: Iterable[str]) -> tuple[str, ...]:
    """Access labels as they are stored: in order, none twice."""
    return tuple(sorted(set(given)))


def _lines(chunk: Chunk) -> list[JsonValue]:
    """Where a chunk stands in its item: nothing where that is not known, as it was before it ever was."""
    return [] if chunk.line is None else [chunk.line, chunk.last_line, chunk.anchor]


def _space(space: EmbeddingSpace) -> str:
    return _canonical([space.provider, space.model, space.dimensions, space.encoding])


def _canonical(value: JsonValue | Metadata | Sequence[JsonValue]) -> str:
    return json.dumps(value, ensure_ascii=True, sort_keys=True, separators=(",", ":"))


def _digest(parts: Iterable[str | bytes]) -> str:
    """32 hex digits (128 bits) of blake2b."""
    state = hashlib.blake2b(digest_size=16)
    for part in parts:
        data = part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part
        state.update(len(data).to_bytes(8, "little"))
        state.update(data)
    return state.hexdigest()
