"""The order of hits: fused, reranked, thinned out. Pure; each keeps the order of what it leaves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from pipeline.records import EmbeddingSpace, Hit, Vector

RRF_K = 60
"""The constant of reciprocal rank fusion (Cormack, Clarke and Büttcher, SIGIR 2009)."""

Place: TypeAlias = tuple[str, str, int]
"""Source, key, ordinal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """What a place among the results counts: by meaning, and by words."""

    vector: float = 1.0
    text: float = 1.0


_EVEN = Weights()


def place_of(hit: Hit) -> Place:
    """Which chunk it is."""
    return hit.source, hit.key, hit.ordinal


def by_vector(hits: Sequence[Hit]) -> list[Hit]:
    """Each with its rank."""
    return [replace(hit, vector_rank=rank) for rank, hit in enumerate(hits, start=1)]


def by_words(hits: Sequence[Hit]) -> list[Hit]:
    """Each with its rank."""
    return [replace(hit, text_rank=rank) for rank, hit in enumerate(hits, start=1)]


def fuse(near: Sequence[Hit], worded: Sequence[Hit], weights: Weights = _EVEN) -> list[Hit]:
    """Reciprocal rank fusion: each list gives a chunk weight / (60 + its rank)."""
    found = {place_of(hit): hit for hit in [*worded, *near]}
    by_meaning = {place_of(hit): rank for rank, hit in enumerate(near, start=1)}
    by_word = {place_of(hit): rank for rank, hit in enumerate(worded, start=1)}
    scores = {
        place: sum(
            weight / (RRF_K + ranks[place])
            for weight, ranks in ((weights.vector, by_meaning), (weights.text, by_word))
            if place in ranks
        )
        for place in found
    }
    return [
        replace(
            found[place],
            score=scores[place],
            vector_rank=by_meaning.get(place),
            text_rank=by_word.get(place),
        )
        for place in sorted(found, key=lambda place: (-scores[place], place))
    ]


def similarities(hits: Sequence[Hit], vector: Vector, space: EmbeddingSpace) -> list[float]:
    """Of each hit's vector and the question's: of a hit by words, too."""
    asked = _unit(np.asarray(vector)[np.newaxis], space)[0]
    return [round(float(one), 6) for one in _stacked(hits, space) @ asked]


def reranked(order: Sequence[Hit], scores: Mapping[Place, float]) -> list[Hit]:
    """Those that were given a score first, the best before the others."""
    scored = [replace(hit, rerank_score=scores.get(place_of(hit))) for hit in order]
    return sorted(scored, key=lambda hit: (hit.rerank_score is None, -(hit.rerank_score or 0.0)))


def at_least(order: Sequence[Hit], least: float, relevance: Sequence[float | None]) -> list[Hit]:
    """Those that are as relevant; what is not known to be is not."""
    return [
        hit for hit, one in zip(order, relevance, strict=True) if one is not None and max(0.0, one) >= least
    ]


def each_text_once(order: Iterable[Hit]) -> list[Hit]:
    """Without those whose text a better one has, whatever its case and spaces."""
    seen: set[str] = set()
    kept = []
    for hit in order:
        text = " ".join(hit.text.split()).casefold()
        if text not in seen:
            seen.add(text)
            kept.append(hit)
    return kept


def of_each_document(order: Iterable[Hit], most: int) -> list[Hit]:
    """The best so many of each document."""
    counted: Counter[tuple[str, str]] = Counter()
    kept = []
    for hit in order:
        counted[hit.source, hit.key] += 1
        if counted[hit.source, hit.key] <= most:
            kept.append(hit)
    return kept


def diverse(order: Sequence[Hit], diversity: float, space: EmbeddingSpace) -> list[Hit]:
    """Maximal marginal relevance (Carbonell and Goldstein, SIGIR 1998).

    The next is always that of which (1 - diversity) x relevance - diversity x likeness is the most. Relevance
    is its place in the order, from 1 down to 0; likeness that of its vector to the most similar one before.
    """
    if not order:
        return []
    rows = _stacked(order, space)
    likeness = rows @ rows.T
    relevance = 1 - np.arange(len(order)) / max(1, len(order))
    waiting, chosen = list(range(len(order))), []
    nearest = np.zeros(len(order))
    while waiting:
        worth = (1 - diversity) * relevance[waiting] - diversity * nearest[waiting]
        best = waiting.pop(int(np.argmax(worth)))
        chosen.append(order[best])
        nearest = np.maximum(nearest, likeness[best])
    return chosen


def _stacked(hits: Sequence[Hit], space: EmbeddingSpace) -> NDArray[np.float32]:
    """Their vectors, of unit length or zero. Shape (hits, dimensions)."""
    nothing = np.zeros(space.width)
    rows = [nothing if hit.vector is None else hit.vector for hit in hits]
    return _unit(np.stack(rows) if rows else np.empty((0, space.width)), space)


def _unit(rows: NDArray[np.number], space: EmbeddingSpace) -> NDArray[np.float32]:
    if space.encoding == "binary":
        bits = np.unpackbits(rows.astype(np.uint8), axis=1, bitorder="little")
        rows = bits.astype(np.float32) * 2 - 1
    wide = rows.astype(np.float32)
    lengths = np.linalg.norm(wide, axis=1, keepdims=True)
    unit: NDArray[np.float32] = wide / np.maximum(lengths, 1e-9)
    return unit
