"""The order of hits: fused, reranked, thinned out. Pure; each keeps the order of what it leaves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pipeline.records import EmbeddingSpace, Hit, Ranking, Vector

RRF_K = 60
"""The constant of reciprocal rank fusion (Cormack, Clarke and Büttcher, SIGIR 2009)."""
Fusion: TypeAlias = Literal["rrf", "scores"]
"""rrf: by rank; each side gives weight / (60 + rank). scores: by score; each side gives weight x where the
score stands between the least and the best of those that it brings in, 0 … 1."""

Place: TypeAlias = tuple[str, str, int]
"""Source, key, ordinal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """What the results by meaning count, and those by words. See docs/adr/0013."""

    vector: float = 1.5
    text: float = 1.0


@dataclass(frozen=True, slots=True)
class Ranked:
    """A row that answers, before more of it is known than that."""

    row: int
    score: float
    vector_rank: int | None
    """Counted from 1; None where it is not among the results by meaning."""
    text_rank: int | None

    def told_of(self, hit: Hit) -> Hit:
        """The row's chunk, with what it is ranked by."""
        return replace(hit, score=self.score, vector_rank=self.vector_rank, text_rank=self.text_rank)


def place_of(hit: Hit) -> Place:
    """Which chunk it is."""
    return hit.source, hit.key, hit.ordinal


def by_vector(near: Ranking) -> list[Ranked]:
    """Each with its rank."""
    return [Ranked(row, score, rank, None) for rank, (row, score) in enumerate(near.items(), start=1)]


def by_words(worded: Ranking) -> list[Ranked]:
    """Each with its rank."""
    return [Ranked(row, score, None, rank) for rank, (row, score) in enumerate(worded.items(), start=1)]


def fuse(near: Ranking, worded: Ranking, fusion: Fusion, weights: Weights) -> list[Ranked]:
    """Both as one. What neither weight tells apart, its ranks do: the first by meaning first."""
    gained = by_rank if fusion == "rrf" else by_score
    by_meaning, by_word = gained(near), gained(worded)
    ranks = [{row: rank for rank, row in enumerate(rows, start=1)} for rows in (near, worded)]
    fused = [
        Ranked(
            row,
            weights.vector * by_meaning.get(row, 0.0) + weights.text * by_word.get(row, 0.0),
            ranks[0].get(row),
            ranks[1].get(row),
        )
        for row in {**near, **worded}
    ]
    last = len(fused) + 1
    return sorted(fused, key=lambda one: (-one.score, one.vector_rank or last, one.text_rank or last))


def by_rank(ranking: Ranking) -> Mapping[int, float]:
    """What a row gains by its place."""
    return {row: 1 / (RRF_K + rank) for rank, row in enumerate(ranking, start=1)}


def by_score(ranking: Ranking) -> Mapping[int, float]:
    """What a row gains by its score: 1 the best, 0 the last, and all the same if they are."""
    least, most = min(ranking.values(), default=0.0), max(ranking.values(), default=0.0)
    width = most - least
    return {row: (score - least) / width if width > 0 else 1.0 for row, score in ranking.items()}


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


def diverse(order: Sequence[Hit], diversity: float, spaces: Sequence[EmbeddingSpace]) -> list[Hit]:
    """Maximal marginal relevance (Carbonell and Goldstein, SIGIR 1998).

    The next is always that of which (1 - diversity) x relevance - diversity x likeness is the most. Relevance
    is its place in the order, from 1 down to 0; likeness that of its vector to the most similar one before.

    Args:
        order: Best first.
        diversity: 0 … 1.
        spaces: Of each hit's vector. Of vectors of two spaces no likeness is known.
    """
    if not order:
        return []
    likeness = np.zeros((len(order), len(order)), np.float32)
    for space in dict.fromkeys(spaces):
        of_space = [number for number, one in enumerate(spaces) if one == space]
        rows = _stacked([order[number] for number in of_space], space)
        likeness[np.ix_(of_space, of_space)] = rows @ rows.T
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
