"""How well indexes of vectors find what an exact search finds, in documents of yours.

    python benchmarks/vector_index.py FOLDER...                 about 100,000 chunks are enough
    python benchmarks/vector_index.py FOLDER... --work WORK     keeps the embedded chunks there, for more runs

The documents are cut into small chunks and embedded with the embedded default; the questions are pieces of
chunks. Every candidate is asked with and without comparing its candidates by their whole vectors ("refine"),
for all chunks and for filters. The row with the arrow is what `docweave maintain` makes and a search asks:
it fails the run, where it finds less than 98 % of the best ten. Ties count as found.
"""

from __future__ import annotations

import argparse
import asyncio
import resource
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import lancedb
import numpy as np
import pyarrow as pa
from lancedb.index import IvfRq, IvfSq
from numpy.typing import NDArray

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from config.build import build_pipeline, connectors  # noqa: E402 - the project is found first
from config.load import load_settings  # noqa: E402
from pipeline.embedders.local import LocalEmbedder  # noqa: E402
from pipeline.ingest import ingest_source  # noqa: E402
from pipeline.stores._core import CoreTable  # noqa: E402
from pipeline.stores._indexes import EVERY_PARTITION, REFINE, ROWS_A_PARTITION, VECTOR, build  # noqa: E402

BAR = 0.98
BEST = 10
EXACT = 10
"""Questions that are put to a table without an index: it takes long."""
CLOSE = 1e-5
"""Scores that differ by less are ties: float16 is no more exact."""
Floats = NDArray[np.float32]
Scores = NDArray[np.float32] | NDArray[np.int32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Corpus:
    """The chunks, the questions, and what an exact search gives for them."""

    vectors: NDArray[np.float16]
    source: list[str]
    key: list[str]
    questions: NDArray[np.float16]
    scores: Floats
    """Cosines, shape (questions, chunks)."""

    def filters(self) -> Mapping[str, tuple[str, NDArray[np.bool_]]]:
        """SQL, and the rows for which it holds: all, a source, about one in fifty, a document or a few."""
        numbers = np.arange(len(self.key))
        largest = max(set(self.source), key=self.source.count)
        few = list(dict.fromkeys(self.key))[::1_000]
        among = ", ".join("'" + key.replace("'", "''") + "'" for key in few)
        return {
            "none": ("", np.ones(len(numbers), np.bool_)),
            "a source": (f"source = '{largest}'", np.array(self.source) == largest),
            "1 in 50": ("n % 50 = 7", numbers % 50 == 7),
            "few documents": (f"key IN ({among})", np.isin(self.key, few)),
        }


async def embedded(folders: Sequence[Path], work: Path, tokens: int) -> None:
    """Ingest the folders into a store in `work`, if it is not there yet."""
    settings_file = work / "docweave.yaml"
    if settings_file.exists():
        return
    sources = "".join(f"  s{n}: {{type: files, path: {path}}}\n" for n, path in enumerate(folders))
    text = f"store: {{uri: {work / 'lancedb'}}}\nchunking: {{max_tokens: {tokens}}}\nsources:\n{sources}"
    unfinished = work / "unfinished.yaml"
    unfinished.write_text(text, encoding="utf-8")
    settings = load_settings(unfinished)
    async with build_pipeline(settings) as pipeline:
        for connector, metadata in connectors(settings):
            await ingest_source(connector, pipeline, metadata=metadata)
    unfinished.rename(settings_file)


async def read(work: Path, questions: int, most: int) -> Corpus:
    """The stored chunks, and questions out of them; seeded."""
    database = await lancedb.connect_async(work / "lancedb")
    table = await database.open_table("chunks")
    columns = ["source", "key", "text", "vector"]
    rows = await table.query().where("key IS NOT NULL").select(columns).to_arrow()
    rows = rows.sort_by([("source", "ascending"), ("key", "ascending")])
    if most and len(rows) > most:
        rows = rows.take(np.sort(np.random.default_rng(1).choice(len(rows), most, replace=False)))
    vectors = rows["vector"].combine_chunks().flatten().to_numpy(zero_copy_only=False).reshape(len(rows), -1)
    random, embedder = np.random.default_rng(0), LocalEmbedder()
    asked = []
    for n in random.choice(len(rows), questions, replace=False):
        words = rows["text"][int(n)].as_py().split()
        start = int(random.integers(0, max(1, len(words) - 8)))
        asked.append(await embedder.embed_query(" ".join(words[start : start + 8]) or "nothing"))
    return Corpus(
        vectors=vectors.astype(np.float16),
        source=rows["source"].to_pylist(),
        key=rows["key"].to_pylist(),
        questions=np.array(asked, np.float16),
        scores=_cosines(np.array(asked, np.float32), vectors.astype(np.float32)),
    )


def _cosines(questions: Floats, vectors: Floats) -> Floats:
    questions = questions / np.maximum(np.linalg.norm(questions, axis=1, keepdims=True), 1e-9)
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)  # in place: it is large
    scores: Floats = questions @ vectors.T
    return scores


async def stored(work: Path, corpus: Corpus, *, bits: bool) -> lancedb.AsyncTable:
    """A table of the vectors by themselves; with `bits`, of the signs of their numbers."""
    vectors = np.packbits(corpus.vectors > 0, axis=1, bitorder="little") if bits else corpus.vectors
    shutil.rmtree(work / "candidates", ignore_errors=True)
    database = await lancedb.connect_async(work / "candidates")
    columns = {
        "n": np.arange(len(vectors)),
        "source": corpus.source,
        "key": corpus.key,
        VECTOR: pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), vectors.shape[1]),
    }
    return await database.create_table("t", pa.table(columns))


async def measured(
    table: lancedb.AsyncTable, corpus: Corpus, scores: Scores, partitions: int, refine: int
) -> tuple[float, float, str]:
    """Recall of the best ten, and median milliseconds, without a filter; and the recall of each filter."""
    bits, recalls, milliseconds = scores.dtype == np.int32, {}, []
    questions = np.packbits(corpus.questions > 0, axis=1, bitorder="little") if bits else corpus.questions
    for name, (where, holds) in corpus.filters().items():
        found = due = 0
        for question, row in zip(questions, scores, strict=False):
            query = table.query().nearest_to(question).distance_type("hamming" if bits else "cosine")
            query = query.nprobes(partitions).limit(BEST).select(["n", "_distance"])
            query = query.refine_factor(refine) if refine else query
            query = query.where(where) if where else query
            began = time.perf_counter()
            numbers = (await query.to_arrow())["n"].to_pylist()
            if name == "none":
                milliseconds.append((time.perf_counter() - began) * 1e3)
            there = row[holds]
            best = np.sort(there)[-BEST:][0]
            found += sum(row[n] >= best - CLOSE for n in numbers)
            due += min(BEST, len(there))
        recalls[name] = found / due
    filtered = " / ".join(f"{recalls[name]:.3f}" for name in recalls if name != "none")
    lowest = min(recalls.values())
    return lowest, statistics.median(milliseconds), f"{recalls['none']:.4f} | {filtered}"


async def candidates(work: Path, corpus: Corpus) -> bool:
    """Print the tables; whether what is chosen keeps to the bar."""
    rows = len(corpus.vectors)
    few, many = max(1, rows // ROWS_A_PARTITION), int(rows**0.5)
    passed = True
    print(f"{rows:,} chunks of {corpus.vectors.shape[1]} dimensions, {len(corpus.questions)} questions\n")
    print(
        "| index of codes | partitions | looked into | refine | recall@10 | of filters | ms | build s | MB |"
    )
    print("|---|---|---|---|---|---|---|---|---|", flush=True)
    table = await stored(work, corpus, bits=False)
    _, took, recall = await measured(table, corpus, corpus.scores[:EXACT], 1, 0)
    print(f"| none: exact | | | | {recall} | {took:.1f} | | {rows * corpus.vectors.shape[1] * 2 / 1e6:.0f} |")
    kinds: dict[str, tuple[IvfRq | IvfSq, int, tuple[int, ...]]] = {
        "IVF_RQ, 1 bit": (
            IvfRq(distance_type="cosine", num_bits=1, num_partitions=few),
            few,
            (0, 10, REFINE),
        ),
        "IVF_RQ, 4 bits": (IvfRq(distance_type="cosine", num_bits=4, num_partitions=few), few, (0, 4)),
        "IVF_SQ": (IvfSq(distance_type="cosine", num_partitions=few), few, (0, 4)),
        "IVF_RQ, 1 bit, many": (
            IvfRq(distance_type="cosine", num_bits=1, num_partitions=many),
            many,
            (REFINE,),
        ),
    }
    for name, (config, partitions, refines) in kinds.items():
        chosen = name == "IVF_RQ, 1 bit"
        began = time.perf_counter()
        if chosen:
            await build(cast("CoreTable", table._inner), VECTOR, rows)  # noqa: SLF001
        else:  # lancedb takes IvfSq, and forgets it in its types
            await table.create_index(VECTOR, config=config)  # type: ignore[arg-type]
        seconds = time.perf_counter() - began
        [index] = await table.list_indices()
        for looked in (partitions, partitions // 2):
            for refine in refines:
                ours = chosen and looked == partitions and refine == REFINE
                everywhere = EVERY_PARTITION if looked == partitions else max(1, looked)
                lowest, took, recall = await measured(table, corpus, corpus.scores, everywhere, refine)
                passed = passed and (lowest >= BAR or not ours)
                print(
                    f"| {'→ ' if ours else ''}{name} | {partitions} | {min(everywhere, partitions)} "
                    f"| {refine or ''} | {recall} | {took:.1f} | {seconds:.1f} "
                    f"| {(index.size_bytes or 0) / 1e6:.0f} |",
                    flush=True,
                )
    return passed


async def of_bits(work: Path, corpus: Corpus) -> None:
    """Print what an index does for bits. It holds them as they are: with all looked into, it is exact."""
    signs = (corpus.vectors > 0).astype(np.float32) * 2 - 1
    asked = (corpus.questions > 0).astype(np.float32) * 2 - 1
    scores = (asked @ signs.T).astype(np.int32)
    table = await stored(work, corpus, bits=True)
    print("\n| index of bits | partitions | looked into | recall@10 | of filters | ms | build s |")
    print("|---|---|---|---|---|---|---|", flush=True)
    _, took, recall = await measured(table, corpus, scores[:EXACT], 1, 0)
    print(f"| none: exact | | | {recall} | {took:.1f} | |", flush=True)
    partitions = max(1, len(signs) // ROWS_A_PARTITION)
    began = time.perf_counter()
    await build(cast("CoreTable", table._inner), VECTOR, len(signs))  # noqa: SLF001
    seconds = time.perf_counter() - began
    for looked in (partitions, max(1, partitions // 2)):
        _, took, recall = await measured(table, corpus, scores, looked, 0)
        ours = "→ " if looked == partitions else ""
        print(
            f"| {ours}IVF_FLAT | {partitions} | {looked} | {recall} | {took:.1f} | {seconds:.1f} |",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folders", type=Path, nargs="+", metavar="FOLDER")
    parser.add_argument("--work", type=Path, help="keep the embedded chunks here")
    parser.add_argument("--tokens", type=int, default=64, help="the most that a chunk has")
    parser.add_argument("--questions", type=int, default=100)
    parser.add_argument("--most", type=int, default=0, help="of the chunks, take so many at random")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        work = (given.work or Path(temporary)).resolve()
        work.mkdir(parents=True, exist_ok=True)
        asyncio.run(embedded([folder.resolve() for folder in given.folders], work, given.tokens))
        corpus = asyncio.run(read(work, given.questions, given.most))
        passed = asyncio.run(candidates(work, corpus))
        asyncio.run(of_bits(work, corpus))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"\n<!-- peak of this process, the exact scores among it: {peak:,.0f} MB -->")
    if not passed:
        sys.exit(f"the index that is marked finds less than {BAR:.0%} of the best {BEST}")


if __name__ == "__main__":
    main()
