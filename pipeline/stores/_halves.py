"""What a run leaves that is stopped between its two commits, first on the chunks and then on the documents.

Each batch says in the turn row which documents it is about; whoever has the lease next looks at these. Where
several write under one lease, it also says what the last batch of each of the others was about.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import pyarrow as pa

from pipeline.digest import copy_of
from pipeline.records import DocumentState
from pipeline.stores._opened import Opened
from pipeline.stores._predicates import in_turns, with_keys_of
from pipeline.stores._replacing import announced
from pipeline.stores._schema import Names

Pair: TypeAlias = tuple[str, str]
"""A document: source and key."""
Row: TypeAlias = tuple[str | tuple[str, ...] | None, ...]

_ABOUT = ["title", "url", "media_type", "metadata", "access"]
"""What both tables say of a document."""
CHUNK_COLUMNS = ["source", "key", "group_key", "group_ordinal", *_ABOUT]
DOCUMENT_COLUMNS = ["source", "key", "group_keys", "row_key", *_ABOUT]


def about(pairs: Iterable[Pair], told: str | None = None, *, run: str = "", writer: str = "") -> str:
    """What a batch is about, for the turn row.

    Args:
        pairs: The documents of the batch.
        told: What was there before: what other writers of the same run were at last is kept.
        run: Names the lease under which it is written; empty where there is none.
        writer: Names one of several who write under it; empty for whoever has it.
    """
    by_source: dict[str, list[str]] = {}
    for source, key in pairs:
        by_source.setdefault(source, []).append(key)
    of_run, writers = _told(told)
    others = {name: batch for name, batch in writers.items() if name != writer} if of_run == run else {}
    return json.dumps([run, {**others, writer: by_source}] if writer or others else by_source)


def batches(told: str | None) -> Iterator[list[Pair]]:
    """The documents that `about` was told of, not too many at a time."""
    for by_source in _told(told)[1].values():
        for source, keys in by_source.items():
            for some in in_turns(keys):
                yield [(source, key) for key in some]


@dataclass(frozen=True, slots=True, kw_only=True)
class Half:
    """A batch that was not stored whole."""

    documents: int
    """That it was about."""
    orphans: Sequence[Pair]
    """Have chunks, and no marks."""
    torn: Sequence[Pair]
    """Have chunks that are not as their marks say."""


async def found(opened: Opened, names: Names) -> AsyncIterator[Half]:
    """What the last run has left half done, if it was stopped."""
    table = await opened.find(names.chunks)
    if table is None or await opened.find(names.documents) is None:
        return
    with opened.place.during("look whether the last run came to its end"):
        told = await announced(table)
    for pairs in batches(told):
        where = with_keys_of(pairs)
        chunks = await opened.select(names.chunks, CHUNK_COLUMNS, where)
        documents = await opened.select(names.documents, DOCUMENT_COLUMNS, where)
        orphans, torn = left(pairs, chunks, documents)
        if orphans or torn:
            yield Half(documents=len(pairs), orphans=orphans, torn=torn)


def _told(told: str | None) -> tuple[str, dict[str, dict[str, list[str]]]]:
    """The run, and what the last batch of each of its writers was about."""
    value = json.loads(told) if told else {}
    if isinstance(value, dict):  # of one writer alone
        return "", {"": value}
    run, writers = value
    return run, writers


def left(pairs: Collection[Pair], chunks: pa.Table, documents: pa.Table) -> tuple[list[Pair], list[Pair]]:
    """Of these documents, those that have chunks and no marks, and those whose chunks are not as marks say.

    Rows of other documents are passed over. Tables that have no labels yet come without them.
    """
    held: dict[Pair, tuple[dict[int, str], set[Row]]] = {}
    for row in chunks.to_pylist():
        groups, said = held.setdefault((row["source"], row["key"]), ({}, set()))
        groups[row["group_ordinal"]] = row["group_key"]
        said.add(_said(row))
    marked: dict[Pair, tuple[dict[int, str], set[Row]]] = {}
    for row in documents.to_pylist():
        groups = {} if copy_of(row["row_key"] or "") else dict(enumerate(row["group_keys"] or ()))
        marked[row["source"], row["key"]] = (groups, {_said(row)} if groups else set())
    orphans = sorted(pair for pair in pairs if pair in held and pair not in marked)
    torn = sorted(pair for pair in pairs if pair in marked and held.get(pair, ({}, set())) != marked[pair])
    return orphans, torn


def unmarked(source: str, key: str) -> DocumentState:
    """Marks that no document has: it is read again, whatever its source says."""
    return DocumentState(
        source=source, key=key, version="", recipe="", content_key="", group_keys=(), row_key=""
    )


def _said(row: dict[str, str | list[str] | None]) -> Row:
    said = (row.get(name) for name in _ABOUT)
    return tuple(tuple(value) if isinstance(value, list) else value for value in said)
