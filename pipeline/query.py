"""Question to hits: by vector, by words, or by both."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from pipeline.errors import SpaceMismatch, StoreRefused
from pipeline.protocols import Embedder, Reader
from pipeline.records import EmbeddingSpace, Filter, Hit

RRF_K = 60
"""The constant of reciprocal rank fusion (Cormack, Clarke and Büttcher, SIGIR 2009)."""
CANDIDATES = 4
"""How many times the wanted hits each side of a hybrid search brings in."""


class Mode(StrEnum):
    """How a question is matched with chunks."""

    HYBRID = "hybrid"
    """Both, fused by rank: the default."""
    VECTOR = "vector"
    """By meaning."""
    TEXT = "text"
    """By words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is asked, and of which chunks."""

    text: str
    mode: Mode = Mode.HYBRID
    limit: int = 10
    where: Filter = field(default_factory=Filter)


async def search(reader: Reader, embedder: Embedder | None, question: Question) -> list[Hit]:
    """The chunks that answer best, best first.

    `embedder` may be None for a search by words alone.

    Raises:
        SpaceMismatch: the embedder's vectors cannot be compared with the stored ones.
        StoreRefused: there is nothing to search yet.
        EmbedError: the question could not be embedded.
    """
    text, limit, where = question.text, question.limit, question.where
    reader = await reader.snapshot()
    stored = await reader.space()
    if stored is None:
        raise StoreRefused("there is nothing to search yet: run `docweave ingest` first")
    if question.mode is Mode.TEXT:
        return _by_words(await reader.matching(text, limit=limit, where=where))
    if embedder is None:
        raise ValueError(f"a {question.mode.value} search needs an embedder")
    _check_space(stored, embedder.space)
    vector = await embedder.embed_query(text)
    if question.mode is Mode.VECTOR:
        return _by_vector(await reader.nearest(vector, limit=limit, where=where))
    near, worded = await asyncio.gather(
        reader.nearest(vector, limit=limit * CANDIDATES, where=where),
        reader.matching(text, limit=limit * CANDIDATES, where=where),
    )
    return fuse(near, worded)[:limit]


def fuse(near: Sequence[Hit], worded: Sequence[Hit]) -> list[Hit]:
    """Reciprocal rank fusion: each list gives a chunk 1 / (60 + its rank). Pure."""
    fused: dict[tuple[str, str, int], Hit] = {}
    for hit in [*_by_vector(near), *_by_words(worded)]:
        place = (hit.source, hit.key, hit.ordinal)
        rank = hit.vector_rank or hit.text_rank or 0
        gain = 1 / (RRF_K + rank)
        if other := fused.get(place):
            fused[place] = replace(other, score=other.score + gain, text_rank=hit.text_rank)
        else:
            fused[place] = replace(hit, score=gain)
    return sorted(fused.values(), key=lambda hit: (-hit.score, hit.source, hit.key, hit.ordinal))


def _check_space(stored: EmbeddingSpace, asking: EmbeddingSpace) -> None:
    if stored != asking:
        raise SpaceMismatch(
            f"the tables hold vectors of {stored}, and the settings ask with {asking}; "
            "these cannot be compared. Ask with the stored model, or build the tables anew with "
            "`docweave ingest --rebuild`"
        )


def _by_vector(hits: Sequence[Hit]) -> list[Hit]:
    return [replace(hit, vector_rank=rank) for rank, hit in enumerate(hits, start=1)]


def _by_words(hits: Sequence[Hit]) -> list[Hit]:
    return [replace(hit, text_rank=rank) for rank, hit in enumerate(hits, start=1)]
