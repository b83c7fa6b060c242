"""What a run leaves that is stopped between its two commits, first on the chunks and then on the documents.

Each batch says in the turn row which documents it is about; whoever has the lease next looks at these.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator
from typing import TypeAlias

import pyarrow as pa

from pipeline.records import DocumentState
from pipeline.stores._predicates import in_turns

Pair: TypeAlias = tuple[str, str]
"""A document: source and key."""
Row: TypeAlias = tuple[str | None, ...]

_ABOUT = ["title", "url", "media_type", "metadata"]
"""What both tables say of a document."""
CHUNK_COLUMNS = ["source", "key", "group_key", "group_ordinal", *_ABOUT]
DOCUMENT_COLUMNS = ["source", "key", "group_keys", *_ABOUT]


def about(pairs: Iterable[Pair]) -> str:
    """What a batch is about, for the turn row."""
    by_source: dict[str, list[str]] = {}
    for source, key in pairs:
        by_source.setdefault(source, []).append(key)
    return json.dumps(by_source)


def batches(told: str | None) -> Iterator[list[Pair]]:
    """The documents that `about` was told of, not too many at a time."""
    by_source: dict[str, list[str]] = json.loads(told) if told else {}
    for source, keys in by_source.items():
        for some in in_turns(keys):
            yield [(source, key) for key in some]


def left(pairs: Collection[Pair], chunks: pa.Table, documents: pa.Table) -> tuple[list[Pair], list[Pair]]:
    """Of these documents, those that have chunks and no marks, and those whose chunks are not as marks say.

    Rows of other documents are passed over.
    """
    held: dict[Pair, tuple[dict[int, str], set[Row]]] = {}
    for row in chunks.select(CHUNK_COLUMNS).to_pylist():
        groups, said = held.setdefault((row["source"], row["key"]), ({}, set()))
        groups[row["group_ordinal"]] = row["group_key"]
        said.add(_said(row))
    marked: dict[Pair, tuple[dict[int, str], set[Row]]] = {}
    for row in documents.select(DOCUMENT_COLUMNS).to_pylist():
        groups = dict(enumerate(row["group_keys"] or ()))
        marked[row["source"], row["key"]] = (groups, {_said(row)} if groups else set())
    orphans = sorted(pair for pair in pairs if pair in held and pair not in marked)
    torn = sorted(pair for pair in pairs if pair in marked and held.get(pair, ({}, set())) != marked[pair])
    return orphans, torn


def unmarked(source: str, key: str) -> DocumentState:
    """Marks that no document has: it is read again, whatever its source says."""
    return DocumentState(
        source=source, key=key, version="", recipe="", content_key="", group_keys=(), row_key=""
    )


def _said(row: dict[str, str | None]) -> Row:
    return tuple(row[name] for name in _ABOUT)
