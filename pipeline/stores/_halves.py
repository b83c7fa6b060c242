"""What a run leaves that is stopped between its two commits, first on the chunks and then on the documents.

Each batch says in the turn row which documents it is about; whoever has the lease next looks at these.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import TypeAlias

import pyarrow as pa

from pipeline.records import DocumentState
from pipeline.stores._predicates import in_turns

Pair: TypeAlias = tuple[str, str]
"""A document: source and key."""

CHUNK_COLUMNS = ["source", "key", "group_key", "group_ordinal"]
DOCUMENT_COLUMNS = ["source", "key", "group_keys", "chunk_count"]


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


def left(chunks: pa.Table, documents: pa.Table) -> tuple[list[Pair], list[Pair]]:
    """The documents that have chunks and no marks, and those whose chunks are not as their marks say."""
    held: dict[Pair, tuple[dict[int, str], int]] = {}
    for row in chunks.select(CHUNK_COLUMNS).to_pylist():
        groups, count = held.get((row["source"], row["key"]), ({}, 0))
        held[row["source"], row["key"]] = ({**groups, row["group_ordinal"]: row["group_key"]}, count + 1)
    marked: dict[Pair, tuple[dict[int, str], int]] = {
        (row["source"], row["key"]): (dict(enumerate(row["group_keys"] or ())), row["chunk_count"])
        for row in documents.select(DOCUMENT_COLUMNS).to_pylist()
    }
    orphans = sorted(held.keys() - marked.keys())
    torn = sorted(pair for pair, groups in marked.items() if held.get(pair, ({}, 0)) != groups)
    return orphans, torn


def unmarked(source: str, key: str) -> DocumentState:
    """Marks that no document has: it is read again, whatever its source says."""
    return DocumentState(
        source=source, key=key, version="", recipe="", content_key="", group_keys=(), row_key=""
    )
