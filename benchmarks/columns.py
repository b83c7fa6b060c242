"""What it costs to declare columns over the metadata of a table that is there, and what a filter then takes.

    python benchmarks/columns.py [ROWS] [DIMENSIONS]

Fills a table of its own (100,000 rows of 1,024 dimensions unless said otherwise; 450 MB in a temporary
folder), adds a column of each type, and prints the time, what was written, and whether any file that was
there changed. Then the median of a search by words, filtered by the JSON text and by the column, without
and with an index.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from datetime import date, timedelta
from pathlib import Path

import lancedb
import numpy as np
from lancedb.index import Bitmap, BTree, LabelList

from pipeline.records import (
    Chunk,
    Column,
    Condition,
    DocumentState,
    Embedded,
    EmbeddingSpace,
    EmbedGroup,
    Filter,
    Metadata,
    Prepared,
)
from pipeline.stores._columns import wanted_indexes
from pipeline.stores._rows import chunk_rows, document_rows
from pipeline.stores.lance import LanceStore

CHUNKS = 10
"""In each document."""
BATCH = 500
"""Documents that are added at a time."""
RUNS = 15
COLUMNS = (
    Column(name="team", type="text", path=("team",)),
    Column(name="year", type="integer", path=("year",)),
    Column(name="score", type="number", path=("rating", "score")),
    Column(name="published", type="date", path=("published",)),
    Column(name="draft", type="boolean", path=("draft",)),
    Column(name="tags", type="list", path=("tags",)),
)
FILTERS = {
    "nothing": Filter(),
    "metadata team=team 7 (1 %)": Filter(metadata={"team": "team 7"}),
    "column team=team 7 (1 %)": Filter(
        conditions=(Condition(column="team", comparison="=", value="team 7"),)
    ),
    "column year>=2024 (10 %)": Filter(conditions=(Condition(column="year", comparison=">=", value=2024),)),
    "column published<2000-02-01 (0.3 %)": Filter(
        conditions=(Condition(column="published", comparison="<", value=date(2000, 2, 1)),)
    ),
    "column tags=tag 3 (3 %)": Filter(conditions=(Condition(column="tags", comparison="=", value="tag 3"),)),
}


def about(number: int) -> Metadata:
    return {
        "team": f"team {number % 100}",
        "year": 2015 + number % 10,
        "rating": {"score": number % 1_000 / 7},
        "published": str(date(2000, 1, 1) + timedelta(days=number % 10_000)),
        "draft": number % 2 == 0,
        "tags": [f"tag {number % 64}", f"tag {number % 63}"],
        "author": f"A person of the name of {number}",
    }


def document(number: int, space: EmbeddingSpace, random: np.random.Generator) -> Embedded:
    texts = [
        f"word {number} of a passage, the {place}th, {'and more of it ' * 20}" for place in range(CHUNKS)
    ]
    chunks = tuple(
        Chunk(ordinal=place, start=place, end=place + 1, text=text, tokens=90)
        for place, text in enumerate(texts)
    )
    state = DocumentState(
        source="notes",
        key=f"{number:07}.md",
        version="1",
        recipe="1",
        content_key="1",
        group_keys=(f"{number:032}",),
        row_key="1",
    )
    prepared = Prepared(
        state=state,
        title=f"Document {number}",
        url=None,
        media_type="text/markdown",
        metadata=about(number),
        groups=(EmbedGroup(title="", chunks=chunks),),
    )
    vectors = random.integers(-128, 128, (CHUNKS, space.dimensions)).astype(np.int8)
    return Embedded(prepared=prepared, vectors=(vectors,))


def data_files(folder: str) -> dict[str, int]:
    return {str(path): path.stat().st_size for path in Path(folder).rglob("data/*.lance")}


async def timed(act: Callable[[], Awaitable[object]], runs: int = RUNS) -> float:
    took = []
    for _ in range(runs):
        started = time.perf_counter()
        await act()
        took.append(time.perf_counter() - started)
    return statistics.median(took) * 1_000


async def fill(folder: str, space: EmbeddingSpace, rows: int) -> None:
    store = await LanceStore.open(folder, space=space)
    await store.stage()
    database = await lancedb.connect_async(folder)
    chunks, documents = [await database.open_table(name) for name in ("chunks", "documents")]
    random = np.random.default_rng(1)
    for first in range(0, rows // CHUNKS, BATCH):
        some = [
            document(number, space, random) for number in range(first, min(first + BATCH, rows // CHUNKS))
        ]
        await chunks.add(chunk_rows(some, space))
        await documents.add(document_rows([one.prepared for one in some], space))
    await chunks.optimize()
    await documents.optimize()


async def searches(folder: str, space: EmbeddingSpace) -> list[float]:
    store = await LanceStore.open(folder, space=space)
    return [
        await timed(lambda where=where: store.matching("passage 4711", limit=10, where=where))  # type: ignore[misc]
        for where in FILTERS.values()
    ]


async def main(rows: int, dimensions: int) -> None:
    space = EmbeddingSpace(provider="benchmark", model="random", dimensions=dimensions)
    with tempfile.TemporaryDirectory() as folder:
        await fill(folder, space, rows)
        before = data_files(folder)
        store = await LanceStore.open(folder, space=space, columns=COLUMNS)
        started = time.perf_counter()
        await store.upkeep()
        took = time.perf_counter() - started
        after = data_files(folder)
        new = sum(after[name] for name in after.keys() - before.keys())
        same = before.items() <= after.items()
        print(
            f"{rows:,} rows of {dimensions:,} dimensions, {sum(before.values()) / 1e6:,.1f} MB of data files"
        )
        print(f"{len(COLUMNS)} columns added in {took:.2f} s, {new / 1e6:.2f} MB written")
        print(f"files that were there: {'all as they were' if same else 'CHANGED'}")
        started = time.perf_counter()
        await (await LanceStore.open(folder, space=space, columns=COLUMNS)).upkeep()
        print(f"upkeep when they are there: {(time.perf_counter() - started) * 1_000:.0f} ms\n")
        plain = await searches(folder, space)
        table = await (await lancedb.connect_async(folder)).open_table("chunks")
        kinds: dict[str, Callable[[], BTree | Bitmap | LabelList]] = {
            "BTREE": BTree,
            "BITMAP": Bitmap,
            "LABEL_LIST": LabelList,
        }
        started = time.perf_counter()
        for name, kind in wanted_indexes(COLUMNS).items():
            await table.create_index(name, config=kinds[kind]())
        print(f"{len(COLUMNS)} indexes built in {time.perf_counter() - started:.2f} s\n")
        indexed = await searches(folder, space)
        print("| search by words, filtered by | ms | ms with indexes |\n|---|---|---|")
        for name, one, other in zip(FILTERS, plain, indexed, strict=True):
            print(f"| {name} | {one:.1f} | {other:.1f} |")


if __name__ == "__main__":
    if any(not argument.isdecimal() for argument in sys.argv[1:]) or len(sys.argv) > 3:
        sys.exit(__doc__)
    sizes = [*map(int, sys.argv[1:]), *(100_000, 1_024)[len(sys.argv) - 1 :]]
    asyncio.run(main(*sizes))
