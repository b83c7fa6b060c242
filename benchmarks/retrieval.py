"""How well the embedded default embedder ranks, what context brings it, and what words add to it.

    python benchmarks/retrieval.py FOLDER

Each FOLDER/*.json.gz holds one set: `docs` {id: {title}}, `chunks` [{id, doc, text, head}] in source order
within a document, `queries` [{q, rel: [chunk id]}]. Prints nDCG@10 as a Markdown table, over all questions
and, in brackets, over every second one: the embedder's weights were chosen on the others.
"""

from __future__ import annotations

import gzip
import json
import math
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import anyio
import numpy as np
from numpy.typing import NDArray

from pipeline.embedders.local import LocalEmbedder
from pipeline.query import DEPTHS
from pipeline.query_rank import Fusion, Weights, fuse
from pipeline.records import Chunk, EmbedGroup, EmbedRequest

DEPTH = 10
FUSED = DEPTHS[0]
"""How many of each ranking a hybrid search looks at."""
DISCOUNTS = 1 / np.log2(np.arange(DEPTH) + 2)

Scores = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrievalSet:
    name: str
    groups: tuple[EmbedGroup, ...]
    questions: tuple[str, ...]
    relevant: tuple[frozenset[int], ...]
    """Of each question, the places of the chunks that answer it."""

    @property
    def chunks(self) -> list[Chunk]:
        return [chunk for group in self.groups for chunk in group.chunks]


def read(path: Path) -> RetrievalSet:
    content = json.loads(gzip.decompress(path.read_bytes()))
    groups = []
    place: dict[str, int] = {}
    by_document = sorted(content["chunks"], key=lambda chunk: chunk["doc"])  # stable: source order is kept
    for document, rows in groupby(by_document, key=lambda chunk: chunk["doc"]):
        chunks: list[Chunk] = []
        for row in rows:
            place[row["id"]] = len(place)
            headings = (row["head"],) if row["head"] else ()
            chunks.append(passage(len(chunks), row["text"], headings))
        groups.append(EmbedGroup(title=content["docs"][document]["title"], chunks=tuple(chunks)))
    return RetrievalSet(
        name=path.name.removesuffix(".json.gz"),
        groups=tuple(groups),
        questions=tuple(query["q"] for query in content["queries"]),
        relevant=tuple(frozenset(place[chunk] for chunk in query["rel"]) for query in content["queries"]),
    )


def passage(ordinal: int, text: str, headings: tuple[str, ...] = ()) -> Chunk:
    return Chunk(
        ordinal=ordinal, start=0, end=len(text), text=text, tokens=len(text) // 4, heading_path=headings
    )


def bm25(data: RetrievalSet, texts: Sequence[str]) -> Scores:
    """Every question against every chunk's text, words in lower case, k1 = 1.2 and b = 0.75."""
    bags = [Counter(re.findall(r"[^\W_]+", text.lower())) for text in texts]
    lengths = np.array([bag.total() for bag in bags])
    norm = 1.2 * (0.25 + 0.75 * lengths / lengths.mean())
    postings: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for place, bag in enumerate(bags):
        for word, count in bag.items():
            postings[word].append((place, count))
    scores = np.zeros((len(data.questions), len(bags)), dtype=np.float32)
    for row, question in enumerate(data.questions):
        for word in set(re.findall(r"[^\W_]+", question.lower())) & postings.keys():
            places, counts = map(np.array, zip(*postings[word], strict=True))
            rarity = math.log1p((len(bags) - len(places) + 0.5) / (len(places) + 0.5))
            scores[row, places] += rarity * counts * 2.2 / (counts + norm[places])
    return scores


def alone(data: RetrievalSet) -> Scores:
    """The embedder without context: each chunk its own group, without title and headings."""
    return cosines(
        data, tuple(EmbedGroup(title="", chunks=(passage(0, chunk.text),)) for chunk in data.chunks)
    )


def in_context(data: RetrievalSet) -> Scores:
    """The embedder as it is."""
    return cosines(data, data.groups)


def hybrid(words: Scores, meaning: Scores, fusion: Fusion, weights: Weights) -> Scores:
    """Both rankings, fused as a search fuses them."""
    found = np.zeros_like(words)
    for row in range(len(words)):
        for one in fuse(first(meaning[row]), first(words[row]), fusion, weights):
            found[row, one.row] = one.score
    return found


def first(scores: Scores) -> dict[int, float]:
    """The best of those that have any score, best first."""
    best = np.argsort(-scores, kind="stable")[:FUSED]
    return {int(place): float(scores[place]) for place in best if scores[place] > 0}


def cosines(data: RetrievalSet, groups: tuple[EmbedGroup, ...]) -> Scores:
    async def embedded() -> tuple[Scores, Scores]:
        embedder = LocalEmbedder()
        reply = await embedder.embed(EmbedRequest(groups=groups))
        questions = [await embedder.embed_query(question) for question in data.questions]
        return np.vstack(reply.vectors).astype(np.float32), np.vstack(questions).astype(np.float32)

    chunks, questions = anyio.run(embedded)
    return unit(questions) @ unit(chunks).T


def unit(vectors: Scores) -> Scores:
    rows: Scores = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return rows


def ndcg(scores: Scores, relevant: tuple[frozenset[int], ...]) -> NDArray[np.float64]:
    """nDCG@10 of each question."""
    best = np.argsort(-scores, axis=1, kind="stable")[:, :DEPTH]
    return np.array(
        [
            sum(discount for discount, place in zip(DISCOUNTS, row, strict=False) if place in wanted)
            / DISCOUNTS[: len(wanted)].sum()
            for row, wanted in zip(best, relevant, strict=True)
        ]
    )


def ways(data: RetrievalSet) -> dict[str, Scores]:
    words = bm25(data, [chunk.text for chunk in data.chunks])
    headed = bm25(data, [headed_text(group, chunk) for group in data.groups for chunk in group.chunks])
    single, whole = alone(data), in_context(data)
    fused = [
        hybrid(headed, single, "scores", Weights()),
        hybrid(headed, whole, "rrf", Weights(vector=1, text=1)),
        hybrid(headed, whole, "scores", Weights()),
    ]
    scores = [words, headed, single, whole, *fused]
    return dict(zip(WAYS, scores, strict=True))


def headed_text(group: EmbedGroup, chunk: Chunk) -> str:
    """What the tables' full-text search sees of a chunk."""
    return "\n".join([group.title, *chunk.heading_path, chunk.text])


WAYS = (
    "BM25 of the text",
    "BM25 with title and headings",
    "local, chunk alone",
    "local, in context",
    "hybrid, chunk alone",
    "hybrid by rank, in context",
    "hybrid, in context",
)


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    print("| nDCG@10: all (held-out half) |", " | ".join(WAYS), "|")
    print("|---" * (len(WAYS) + 1) + "|")
    columns: list[list[float]] = [[] for _ in WAYS]
    for path in sorted(Path(sys.argv[1]).glob("*.json.gz")):
        data = read(path)
        cells = []
        for scores, column in zip(ways(data).values(), columns, strict=True):
            each = ndcg(scores, data.relevant)
            column.append(float(each.mean()))
            cells.append(f"{each.mean():.3f} ({each[1::2].mean():.3f})")
        print(f"| {data.name} |", " | ".join(cells), "|", flush=True)
    print("| mean |", " | ".join(f"{np.mean(column):.3f}" for column in columns), "|")


if __name__ == "__main__":
    main()
