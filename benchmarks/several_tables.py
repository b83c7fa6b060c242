"""How well several tables answer that are asked at once: against one that holds it all, and ways to merge.

    python benchmarks/several_tables.py FOLDER

FOLDER is as for `benchmarks/retrieval.py`. Its sets become one corpus, which is divided among tables: by
subject (a set a table), and by lot (two halves). Each table ranks its best fifty by meaning and by words, the
words by statistics of its own, and what they rank is merged. Prints nDCG@10 as a Markdown table: the mean of
the sets, by every fifth question. "a space each": of embedders that cannot be compared (in context, each
chunk alone, the static half of the vectors alone), so that no one table could hold it all.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import anyio
import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parents[1]))
from benchmarks.retrieval import (
    DEPTH,
    DISCOUNTS,
    FUSED,
    RetrievalSet,
    Scores,
    bm25,
    headed_text,
    passage,
    read,
    unit,
)
from pipeline.embedders.local import LocalEmbedder
from pipeline.query_rank import Ranked, Weights, fuse
from pipeline.query_tables import merged, nearest
from pipeline.records import EmbeddingSpace, EmbedGroup, EmbedRequest, Ranking

EVERY = 5
STATIC = 256
"""Dimensions of the embedded default that come first, and are of another kind than the rest."""
Places: TypeAlias = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Corpus:
    """All sets as one."""

    data: RetrievalSet
    texts: Sequence[str]
    set_of_question: NDArray[np.int64]
    set_of_chunk: NDArray[np.int64]
    document_of_chunk: NDArray[np.int64]
    meaning: dict[str, Scores]
    """By embedder: every question against every chunk."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What each table ranks for one question, as places of the corpus."""

    near: list[Ranking]
    worded: list[Ranking]
    spaces: list[EmbeddingSpace]


Way: TypeAlias = Callable[[Asked], list[int]]
"""What each table ranks to what all of them answer, best first."""


def corpus(sets: Sequence[RetrievalSet]) -> Corpus:
    groups = tuple(group for one in sets for group in one.groups)
    firsts = np.cumsum([0, *(len(one.chunks) for one in sets)])
    chosen = [
        (number, question, frozenset(int(firsts[number]) + place for place in relevant))
        for number, one in enumerate(sets)
        for question, relevant in list(zip(one.questions, one.relevant, strict=True))[::EVERY]
    ]
    data = RetrievalSet(
        name="all",
        groups=groups,
        questions=tuple(question for _, question, _ in chosen),
        relevant=tuple(relevant for _, _, relevant in chosen),
    )
    return Corpus(
        data=data,
        texts=[headed_text(group, chunk) for group in groups for chunk in group.chunks],
        set_of_question=np.array([number for number, _, _ in chosen]),
        set_of_chunk=np.repeat(np.arange(len(sets)), [len(one.chunks) for one in sets]),
        document_of_chunk=np.repeat(np.arange(len(groups)), [len(group.chunks) for group in groups]),
        meaning=anyio.run(meanings, data),
    )


async def meanings(data: RetrievalSet) -> dict[str, Scores]:
    async def embedded(groups: tuple[EmbedGroup, ...]) -> Scores:
        return np.vstack((await LocalEmbedder().embed(EmbedRequest(groups=groups))).vectors).astype(
            np.float32
        )

    single = tuple(EmbedGroup(title="", chunks=(passage(0, chunk.text),)) for chunk in data.chunks)
    questions = np.vstack([await LocalEmbedder().embed_query(one) for one in data.questions]).astype(
        np.float32
    )
    whole, alone = await embedded(data.groups), await embedded(single)
    return {
        "in context": unit(questions) @ unit(whole).T,
        "alone": unit(questions) @ unit(alone).T,
        "static": unit(questions[:, :STATIC]) @ unit(alone[:, :STATIC] + 1e-9).T,
    }


def first(scores: Scores, places: Places) -> Ranking:
    best = places[np.argsort(-scores[places], kind="stable")[:FUSED]]
    return {int(place): float(scores[place]) for place in best if scores[place] > 0}


def together(asked: Asked) -> list[int]:
    """As a search does it."""
    tables = len(asked.near)
    near = nearest(asked.near, asked.spaces, FUSED)
    return [one.row // tables for one in fuse(near, merged(asked.worded, FUSED), "scores", Weights())]


def own_answers(asked: Asked) -> list[list[Ranked]]:
    pairs = zip(asked.near, asked.worded, strict=True)
    return [fuse(near, worded, "scores", Weights()) for near, worded in pairs]


def in_turn(asked: Asked) -> list[int]:
    """The first of each table's answer, the second of each …: what fusing answers by rank comes to."""
    answers = own_answers(asked)
    longest = max(map(len, answers), default=0)
    return [one[rank].row for rank in range(longest) for one in answers if rank < len(one)]


def by_own_scores(asked: Asked) -> list[int]:
    """By the scores of each table's answer, as if they could be compared."""
    every = [one for answer in own_answers(asked) for one in answer]
    return [one.row for one in sorted(every, key=lambda one: -one.score)]


def ndcg(order: Sequence[int], relevant: frozenset[int]) -> float:
    gained = sum(discount for place, discount in zip(order, DISCOUNTS, strict=False) if place in relevant)
    return float(gained / DISCOUNTS[: min(DEPTH, len(relevant))].sum())


def measured(
    corpus: Corpus, tables: Sequence[Places], embedders: Sequence[str], ways: Sequence[Way]
) -> list[float]:
    """Of each way, the mean of the sets."""
    words = np.zeros((len(corpus.data.questions), len(corpus.texts)), np.float32)
    for places in tables:
        words[:, places] = bm25(corpus.data, [corpus.texts[place] for place in places])
    spaces = [EmbeddingSpace(provider="", model=name, dimensions=8) for name in embedders]
    gained = np.zeros((len(ways), len(corpus.data.questions)))
    for row, relevant in enumerate(corpus.data.relevant):
        asked = Asked(
            near=[
                first(corpus.meaning[name][row], places)
                for name, places in zip(embedders, tables, strict=True)
            ],
            worded=[first(words[row], places) for places in tables],
            spaces=spaces,
        )
        gained[:, row] = [ndcg(way(asked), relevant) for way in ways]
    sets = np.unique(corpus.set_of_question)
    return [
        float(np.mean([one[corpus.set_of_question == number].mean() for number in sets])) for one in gained
    ]


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    whole = corpus([read(path) for path in sorted(Path(sys.argv[1]).glob("*.json.gz"))])
    sets = int(whole.set_of_chunk.max()) + 1
    half = np.random.default_rng(0).integers(0, 2, int(whole.document_of_chunk.max()) + 1)
    subjects = [np.flatnonzero(whole.set_of_chunk == number) for number in range(sets)]
    halves = [np.flatnonzero(half[whole.document_of_chunk] == number) for number in range(2)]
    ways = [together, in_turn, by_own_scores]
    print("| nDCG@10 | as a search does it | in turn | by each table's own scores |")
    print("|---|---|---|---|")
    names = list(whole.meaning)
    for told, tables, embedders in [
        ("one table of all", [np.arange(len(whole.texts))], names[:1]),
        ("by subject, one space", subjects, names[:1] * sets),
        ("by lot, one space", halves, names[:1] * 2),
        ("by subject, a space each", subjects, [names[number % len(names)] for number in range(sets)]),
        ("by lot, a space each", halves, names[:2]),
    ]:
        found = measured(whole, tables, embedders, ways)
        print(f"| {told} |", " | ".join(f"{one:.3f}" for one in found), "|", flush=True)


if __name__ == "__main__":
    main()
