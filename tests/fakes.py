"""Real implementations for tests: an embedder that shows stale vectors, and a source held in memory."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, field

import numpy as np

from pipeline.errors import EmbedError, ItemUnreadable
from pipeline.records import (
    Chunk,
    EmbeddingSpace,
    EmbedGroup,
    EmbedLimits,
    EmbedReply,
    EmbedRequest,
    ItemRef,
    Metadata,
    RawDocument,
    Vector,
    Vectors,
)


@dataclass
class OracleEmbedder:
    """Vectors that depend on every text that is sent with their group, and on nothing else.

    A vector that is stale in any way therefore differs from what a fresh ingest gives.
    """

    space: EmbeddingSpace = field(
        default_factory=lambda: EmbeddingSpace(provider="test", model="oracle", dimensions=16)
    )
    limits: EmbedLimits = field(
        default_factory=lambda: EmbedLimits(
            group_tokens=2_000, group_chunks=500, request_tokens=8_000, request_groups=64, request_chunks=500
        )
    )
    usd_per_million_tokens: float = 10.0
    recipe: str = ""
    counts: float = 1.0
    """The service's tokens for one of ours."""
    refuse: Callable[[EmbedRequest], EmbedError | None] = lambda _request: None
    """Asked before each request is served."""
    requests: list[EmbedRequest] = field(default_factory=list)

    def reads(self, group: EmbedGroup) -> Iterable[str]:
        return [group.lead, *(chunk.text for chunk in group.seen)]

    async def embed(self, request: EmbedRequest) -> EmbedReply:
        if error := self.refuse(request):
            raise error
        assert request.groups, "an empty request is never sent"
        assert request.tokens <= self.limits.request_tokens
        assert len(request.groups) <= self.limits.request_groups
        assert sum(group.parts for group in request.groups) <= self.limits.request_chunks
        assert all(len(group.seen) <= self.limits.group_chunks for group in request.groups)
        assert all(group.tokens <= self.limits.group_tokens for group in request.groups)
        self.requests.append(request)
        vectors = tuple(self.vectors(group) for group in request.groups)
        billed = round(request.tokens * self.counts)
        return EmbedReply(vectors=vectors, tokens=billed, cost_usd=billed / 100_000)

    def vectors(self, group: EmbedGroup) -> Vectors:
        whole = "\x00".join(self.reads(group))
        first = len(group.before)
        rows = [self._code(f"{place}\x00{whole}") for place in range(first, first + len(group.chunks))]
        return np.stack(rows)

    async def embed_query(self, text: str) -> Vector:
        return self._code(text)

    async def aclose(self) -> None:
        pass

    @property
    def embedded_texts(self) -> list[str]:
        """Every text that was sent, in order."""
        return [c.text for request in self.requests for group in request.groups for c in group.chunks]

    def _code(self, text: str) -> Vector:
        digest = hashlib.shake_256(text.encode("utf-8", "surrogatepass")).digest(self.space.dimensions)
        return np.frombuffer(digest, dtype=np.int8).copy()


@dataclass
class MemorySource:
    """A source whose items are a dictionary: key → text."""

    items: dict[str, str] = field(default_factory=dict)
    source: str = "notes"
    versions: dict[str, str] = field(default_factory=dict)
    """Joins what the text and the metadata give: another one is a touch."""
    metadata: dict[str, Metadata] = field(default_factory=dict)
    access: dict[str, tuple[str, ...]] = field(default_factory=dict)
    media_type: str = "text/markdown"
    fail_listing_after: int | None = None
    error: Exception | None = None
    loaded: list[str] = field(default_factory=list)

    async def list_items(self) -> AsyncIterator[ItemRef]:
        for number, key in enumerate(sorted(self.items)):
            if self.error and number == self.fail_listing_after:
                raise self.error
            yield self.ref(key)

    def ref(self, key: str) -> ItemRef:
        about = repr((self.items[key], self.metadata.get(key), self.access.get(key), self.versions.get(key)))
        return ItemRef(source=self.source, key=key, version=hashlib.sha256(about.encode()).hexdigest())

    async def load(self, ref: ItemRef) -> RawDocument:
        self.loaded.append(ref.key)
        if self.items.get(ref.key) is None:
            raise ItemUnreadable(f"{ref.source}/{ref.key} is gone")
        return RawDocument(
            ref=ref,
            content=self.items[ref.key].encode("utf-8", "surrogatepass"),
            media_type=self.media_type,
            metadata=self.metadata.get(ref.key, {}),
            access=self.access.get(ref.key),
        )


def chunk_of(text: str, *, ordinal: int = 0, tokens: int = 1) -> Chunk:
    return Chunk(ordinal=ordinal, start=0, end=len(text), text=text, tokens=tokens)


def group_of(*texts: str, title: str = "A title", tokens: int = 1) -> EmbedGroup:
    chunks = tuple(chunk_of(text, ordinal=n, tokens=tokens) for n, text in enumerate(texts))
    return EmbedGroup(title=title, chunks=chunks)
