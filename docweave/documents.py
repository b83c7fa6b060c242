"""A document as `Index.document` gives it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from pipeline.records import Metadata, Vector, Vectors
from pipeline.stored import Stored, StoredChunk, StoredMarks, address

__all__ = ["Document", "Passage"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Passage:
    """A part of a document, named as a `Hit` is."""

    source: str
    key: str
    ordinal: int
    """Its place in the document, counted from 0."""
    text: str
    start: int
    """Where it stands in the document's text, in characters."""
    end: int
    tokens: int
    """Of its text, as the embedding model counts them."""
    heading_path: tuple[str, ...]
    """The headings that it stands under, the outermost first."""
    page: int | None
    line: int | None
    """The line of the item's content on which it begins, counted from 1, where that is known."""
    last_line: int | None
    url: str | None
    """Where a person can look at it: at the passage itself, where the source has an address for its lines."""
    vector: Vector | None = field(default=None, repr=False, compare=False)
    """As it is stored: int8 codes stand in float16. Shape (`EmbeddingSpace.width`,)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A document as it is stored, with its passages."""

    source: str
    key: str
    title: str
    url: str | None
    """Where a person can open it."""
    media_type: str
    metadata: Metadata
    access: tuple[str, ...]
    """The labels of those who may see it; empty: everybody."""
    updated_at: datetime | None
    """When its rows were last written."""
    tokens: int
    """Of its passages, as the embedding model counts them."""
    passages: tuple[Passage, ...] = field(repr=False)
    """In their order; none where another document has the same text, and copies are kept once."""
    stored: Stored = field(repr=False, compare=False)
    """Its rows, with what is of use to Docweave alone. Their form may change."""

    @classmethod
    def of(cls, stored: Stored) -> Document:
        """The document of these rows, of which there is one at least."""
        about = stored.marks[0].about if stored.marks else stored.chunks[0].about
        return cls(
            source=stored.source,
            key=stored.key,
            title=about.title,
            url=about.url,
            media_type=about.media_type,
            metadata=about.metadata,
            access=about.access,
            updated_at=stored.marks[0].updated_at if stored.marks else None,
            tokens=sum(row.chunk.tokens for row in stored.chunks),
            passages=tuple(_passage(stored, place) for place in range(len(stored.chunks))),
            stored=stored,
        )

    @property
    def chunks(self) -> tuple[StoredChunk, ...]:
        """Those of `stored`: `passages` has what they say."""
        return self.stored.chunks

    @property
    def marks(self) -> tuple[StoredMarks, ...]:
        """Those of `stored`."""
        return self.stored.marks

    @property
    def vectors(self) -> Vectors:
        """One of each passage, as they are stored. Shape (passages, `EmbeddingSpace.width`)."""
        return self.stored.vectors


def _passage(stored: Stored, place: int) -> Passage:
    row = stored.chunks[place]
    chunk = row.chunk
    return Passage(
        source=stored.source,
        key=stored.key,
        ordinal=chunk.ordinal,
        text=chunk.text,
        start=chunk.start,
        end=chunk.end,
        tokens=chunk.tokens,
        heading_path=chunk.heading_path,
        page=chunk.page,
        line=chunk.line,
        last_line=chunk.last_line,
        url=address(row.about.url, chunk.anchor),
        vector=None if place in stored.without_vector else stored.vectors[place],
    )
