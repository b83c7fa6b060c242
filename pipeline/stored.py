"""What the tables hold of a document, row by row, whether or not it adds up: for `audit` and `show`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from itertools import groupby

from pipeline.records import Chunk, DocumentState, Metadata, Vectors

ABSENT = -1
"""Stands for a number that is NULL in a row, and empty text for a text: neither can be right."""


def address(url: str | None, anchor: str | None) -> str | None:
    """Where a person can look at a passage: at its lines, if there is an address for these."""
    return url + anchor if url and anchor else url


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """What each row of a document repeats of it."""

    title: str
    url: str | None
    media_type: str
    metadata: Metadata
    access: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredChunk:
    """A row of the chunks table, but for its vector."""

    chunk: Chunk
    about: About
    group_key: str
    group_ordinal: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredMarks:
    """A row of the documents table."""

    state: DocumentState
    about: About
    chunk_count: int
    tokens: int
    updated_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Stored:
    """All rows of one document."""

    source: str
    key: str
    marks: tuple[StoredMarks, ...]
    """One, in tables that are sound: none where chunks are all there is, two where it stands there twice."""
    chunks: tuple[StoredChunk, ...]
    """In the order of their ordinals."""
    vectors: Vectors
    """One of each chunk, of the numbers as they are stored: int8 codes stand in float16. Shape (chunks,
    `EmbeddingSpace.width`)."""
    without_vector: frozenset[int] = frozenset()
    """Places in `chunks` whose vector is NULL."""

    @property
    def groups(self) -> list[slice]:
        """The places in `chunks` of each run of rows that name the same group."""
        runs: list[slice] = []
        for _, run in groupby(self.chunks, key=lambda row: (row.group_ordinal, row.group_key)):
            first = runs[-1].stop if runs else 0
            runs.append(slice(first, first + sum(1 for _ in run)))
        return runs


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """What the documents table held of a document from one of its versions on."""

    version: int
    """Of the table."""
    at: datetime
    marks: StoredMarks | None
    """None where it held nothing."""
    is_change: bool = True
    """Not so where it stood there already in the oldest version that is looked at."""
