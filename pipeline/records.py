"""The records that travel through the pipeline, in the order in which they appear.

A stage takes one type and gives the next; no record carries a field for a later stage to fill.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from enum import StrEnum
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pipeline.clauses import Clause

SEPARATOR_TOKENS = 1
"""What a contextual service adds to each chunk of a group."""

LABEL_LENGTH = 200
"""The most characters that an access label may have."""
LABEL_RULE = (
    f"a label has up to {LABEL_LENGTH} letters and signs, not all of them blank, and no control characters"
)
"""What is said of one that is none."""

JsonValue: TypeAlias = "str | int | float | bool | list[JsonValue] | dict[str, JsonValue] | None"
Metadata: TypeAlias = Mapping[str, JsonValue]

Encoding: TypeAlias = Literal["int8", "binary", "float16"]
"""How a vector's numbers are kept.

int8: codes, not normalised, compared by cosine. binary: one bit a dimension, eight to a byte, least
significant first, compared by Hamming distance. float16: of unit length, compared by cosine.
"""

_DTYPES: Mapping[Encoding, np.dtype[np.number]] = {
    "int8": np.dtype(np.int8),
    "binary": np.dtype(np.uint8),
    "float16": np.dtype(np.float16),
}

Vectors: TypeAlias = NDArray[np.number]
"""The vectors of one embed group: shape (chunks, `EmbeddingSpace.width`), of `EmbeddingSpace.dtype`."""

Known: TypeAlias = Mapping[str, Vectors]
"""Vectors that were paid for already, by group key."""

Vector: TypeAlias = NDArray[np.number]
"""One vector: shape (`EmbeddingSpace.width`,)."""


def is_label(text: str) -> bool:
    """Whether this can be an access label: some letters, of any script, that can be shown and stored."""
    return bool(text.strip()) and len(text) <= LABEL_LENGTH and not any(map(_is_no_letter, text))


def _is_no_letter(sign: str) -> bool:
    return unicodedata.category(sign) in ("Cc", "Cs")


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemRef:
    """What a source lists: enough to decide whether the item must be read, and no more."""

    source: str
    key: str
    version: str
    """The source's own change mark (ETag, revision, mtime and size): another one when the content may be."""
    size: int | None = None
    """Bytes, where the listing tells."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RawDocument:
    """An item's content as the source gave it."""

    ref: ItemRef
    content: bytes
    media_type: str
    title: str | None = None
    url: str | None = None
    metadata: Metadata = field(default_factory=dict)
    access: tuple[str, ...] | None = None
    """Labels, of which whoever asks must have at least one; none: everybody may see it. None where the source
    does not say."""
    anchor: str | None = None
    """What shows lines of it, put behind `url`: "#L{line}-L{last_line}"."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contained:
    """What an item holds that is itself made of documents: a ZIP archive, an e-mail with attachments."""

    documents: tuple[RawDocument, ...]
    """In the container's order, down to the innermost. Their keys: `parent!/name`, `parent!/inner!/name`."""
    refused: Mapping[str, str] = field(default_factory=dict)
    """The keys of what could not be taken out, and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A run of a document's text under one heading: `text[start:end]`, in characters."""

    start: int
    end: int
    heading_path: tuple[str, ...]
    """The headings above it, outermost first, its own heading last. Empty before the first heading."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """A page (or slide, or sheet) of a document's text: `text[start:end]`, in characters."""

    start: int
    end: int
    number: int
    """Counted from 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """An item with text.

    `sections` cover `text` from 0 to its end, in order, without gaps. `pages` do so too, or are empty
    where the format has none.
    """

    ref: ItemRef
    text: str
    title: str
    media_type: str
    syntax: str
    """How the text is to be split: "markdown", "plain", or a programming language as langchain names it."""
    sections: tuple[Section, ...]
    pages: tuple[Page, ...] = ()
    url: str | None = None
    metadata: Metadata = field(default_factory=dict)
    first_line: int | None = None
    """The line of the item's content that `text` begins with, counted from 1: from there on, both have the
    same lines. None where the text is made of the content, as that of a PDF is."""
    anchor: str | None = None
    """As that of its `RawDocument`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """A passage of a document: `text == document.text[start:end]`, never blank."""

    ordinal: int
    """Its place in the document, counted from 0."""
    start: int
    end: int
    text: str
    tokens: int
    heading_path: tuple[str, ...] = ()
    page: int | None = None
    line: int | None = None
    """The line of the item's content on which it begins, counted from 1; None as `Document.first_line`."""
    last_line: int | None = None
    """The line on which it ends."""
    anchor: str | None = None
    """What shows these lines, put behind the document's `url`."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EmbedGroup:
    """Chunks of one document, in order, that are embedded in view of each other.

    The unit that is embedded, cached, compared, redone and replaced: a contextualized vector depends on
    every chunk that was sent with it. Two groups are the same when their `group_key` is; as objects, they
    are compared by identity, so that a group can be looked up without reading its text.
    """

    title: str
    chunks: tuple[Chunk, ...]
    """What the vectors are kept of."""
    before: tuple[Chunk, ...] = ()
    """The chunks that stand before, sent to be seen; the group that they belong to keeps their vectors."""
    after: tuple[Chunk, ...] = ()
    """The chunks that follow, sent to be seen."""
    lead: str = ""
    """What is said of the document before all these; empty where the group is the whole document."""
    lead_tokens: int = 0

    @property
    def seen(self) -> tuple[Chunk, ...]:
        """Every chunk that is sent, in the document's order."""
        return self.before + self.chunks + self.after

    @property
    def parts(self) -> int:
        """How many texts are sent at most: the chunks, and the lead where there is one."""
        return len(self.before) + len(self.chunks) + len(self.after) + bool(self.lead)

    @property
    def tokens(self) -> int:
        """Tokens of all that is sent as we count them, with the separator that a service puts between two."""
        return sum(chunk.tokens + SEPARATOR_TOKENS for chunk in self.seen) + (
            self.lead_tokens + SEPARATOR_TOKENS if self.lead else 0
        )


class Lead(StrEnum):
    """What a group that is only a part of its document is told of it, in front of its own chunks."""

    NONE = "none"
    TITLE = "title"
    HEADINGS = "headings"
    """The title, and the headings above its first chunk."""
    OPENING = "opening"
    """The title, and the document's first words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Grouping:
    """How a document that does not fit in one group is divided, beside the limits of the service."""

    overlap_tokens: int = 1_000
    """Of the neighbouring group, seen on each side. Of no use to a service without context."""
    lead: Lead = Lead.OPENING
    lead_tokens: int = 200
    """The most that a lead may have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingSpace:
    """Vectors that may be compared with each other."""

    provider: str
    model: str
    dimensions: int
    encoding: Encoding = "int8"

    def __str__(self) -> str:
        return f"{self.provider}/{self.model}, {self.dimensions} dimensions, {self.encoding}"

    @property
    def dtype(self) -> np.dtype[np.number]:
        """Of its vectors' arrays."""
        return _DTYPES[self.encoding]

    @property
    def width(self) -> int:
        """How many numbers a vector's array holds: one a dimension, or eight dimensions to a byte."""
        return self.dimensions // 8 if self.encoding == "binary" else self.dimensions


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbedLimits:
    """What one request may hold, in tokens as we count them: with headroom for the service's own count."""

    group_tokens: int
    group_chunks: int
    """1 for a service without context, which embeds each text by itself."""
    request_tokens: int
    request_groups: int
    request_chunks: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentState:
    """What the store knows of a document: the marks that later runs compare."""

    source: str
    key: str
    version: str
    """May the source's item have changed? As the source gives it."""
    recipe: str
    """Would we treat it differently today? Parser, chunker, splitter, space, limits, grouping."""
    content_key: str
    """Did the bytes change? All that the connector gave."""
    group_keys: tuple[str, ...]
    """Must a vector be computed? The texts of each embed group, and the space."""
    row_key: str
    """Must a row be written? All that is stored beside the vectors."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A document read, parsed, chunked, grouped and marked: all that can be known before anything is paid."""

    state: DocumentState
    title: str
    url: str | None
    media_type: str
    metadata: Metadata
    groups: tuple[EmbedGroup, ...]
    """One for each of `state.group_keys`; empty for a document without text, and for a copy of another."""
    access: tuple[str, ...] = ()
    """Its labels, in order, none twice; without any, everybody may see it."""

    @property
    def owed_keys(self) -> tuple[str, ...]:
        """Of the groups whose vectors it needs: none, for a copy of another document."""
        return self.state.group_keys if self.groups else ()


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbedRequest:
    """What is sent in one call."""

    groups: tuple[EmbedGroup, ...]

    @property
    def tokens(self) -> int:
        """Tokens of all its groups, counted locally."""
        return sum(group.tokens for group in self.groups)


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbedReply:
    """What came back: one array for each group of the request, in its order."""

    vectors: tuple[Vectors, ...]
    tokens: int
    """Tokens as the service counted them; as we did where it does not say."""
    cost_usd: float
    retries: int = 0
    """How often it had to be asked again."""
    wasted_tokens: int = 0
    """Charged for replies before this one that could not be used."""
    wasted_usd: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Embedded:
    """A document with its vectors, ready to be stored."""

    prepared: Prepared
    vectors: tuple[Vectors, ...]
    """One array for each of `prepared.groups`, in their order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spending:
    """What one run over one source paid a service for."""

    at: datetime
    source: str
    provider: str
    model: str
    requests: int
    counted: int
    """Tokens as we counted them."""
    tokens: int
    """Tokens as the service did."""
    highest_ratio: float
    """The most that the service counted for one token of ours, over a whole request; 0 if none tells."""
    cost_usd: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """One document that could not be brought up to date, and why."""

    key: str
    error: str
    """The error's class."""
    reason: str
    url: str | None = None
    """Where people find it, if that is known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LatestRun:
    """How the latest run over a source went."""

    source: str
    at: datetime
    """When it ended."""
    seconds: float
    error: str | None
    """What ended it before its time."""
    succeeded_at: datetime | None
    """When the last one ended that neither an error nor a budget cut short, whatever became of documents."""
    counts: Mapping[str, int]
    """Of documents, chunks and requests, by the names that `SourceReport` gives them."""
    failed: int
    """Documents."""
    failures: tuple[Failure, ...]
    """The first of them."""

    def following(self, before: LatestRun | None) -> LatestRun:
        """The same run, where this is how the one before it went."""
        return self if self.succeeded_at or not before else replace(self, succeeded_at=before.succeeded_at)


ColumnType: TypeAlias = Literal["text", "integer", "number", "date", "boolean", "list"]
"""date: a day. list: of texts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column of the tables that holds a value of the documents' metadata."""

    name: str
    type: ColumnType
    path: tuple[str, ...]
    """The names under which the value stands in the metadata, outermost first."""
    indexed: bool = True
    """Whether a large table is to have an index of it."""


Comparison: TypeAlias = Literal["=", "<", "<=", ">", ">="]


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """What a column must hold. Where it holds nothing, no condition is met."""

    column: str
    comparison: Comparison
    """Of a list, "=" asks whether the value stands in it. Only numbers and dates are less or more."""
    value: str | int | float | bool | date


Role: TypeAlias = Literal["live", "staged", "previous"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """A pair of tables that is searched, or built beside these, or kept to go back to."""

    role: Role
    number: int
    space: EmbeddingSpace
    documents: int
    since: datetime | None
    """When it took its role; None if it always had it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which chunks a search may see. Everything named must hold."""

    sources: tuple[str, ...] = ()
    """Any of these; empty means every source."""
    metadata: Mapping[str, str | int | float | bool] = field(default_factory=dict)
    """Top-level metadata values, by equality as JSON has it: whether or not there is a column for them."""
    conditions: tuple[Condition, ...] = ()
    """On columns that the tables have."""
    access: tuple[str, ...] | None = None
    """Who asks: only what has one of these labels, or none at all. None: everything, whatever its labels."""
    clause: Clause | None = None
    """What else must hold: see `pipeline.where`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Neighbouring chunks of a document: from one ordinal to another, both among them."""

    source: str
    key: str
    first: int = 0
    last: int | None = None
    """None: to the document's end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """A chunk that answers."""

    source: str
    key: str
    ordinal: int
    text: str
    score: float
    """Vector: cosine similarity (of bits: 1 - 2 x the share that differs). Text: BM25. Hybrid: the fused
    score. Comparable within one search only."""
    title: str
    heading_path: tuple[str, ...]
    page: int | None
    start: int
    end: int
    url: str | None
    """Where a person can look at it: at the passage itself, where the source has an address for its lines."""
    metadata: Metadata
    vector_rank: int | None = None
    """Place among the vector results, counted from 1."""
    text_rank: int | None = None
    """Place among the full-text results, counted from 1."""
    media_type: str = ""
    tokens: int = 0
    """Of its text, as the embedding model counts them."""
    line: int | None = None
    """The line of the item's content on which it begins, counted from 1; None as `Document.first_line`."""
    last_line: int | None = None
    """The line on which it ends."""
    similarity: float | None = None
    """The cosine of the question's vector and its own (of bits: as `score`), where the question has one: on
    one scale for every question, unlike the score."""
    rerank_score: float | None = None
    """What a reranker gave it."""
    vector: Vector | None = field(default=None, repr=False, compare=False)
    """As it is stored, where it was searched for."""


Ranking: TypeAlias = Mapping[int, float]
"""Rows of a snapshot by their numbers, best first, each with what it is ranked by."""
