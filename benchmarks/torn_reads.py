"""Readers poll while 40 documents are rewritten again and again: does any of them see a torn state?

    python benchmarks/torn_reads.py                  100,000 reads, some minutes
    python benchmarks/torn_reads.py --reads 5000

Two processes read all 40 documents at every read, nine times of ten by a scan of the table and else by a
vector search. A third one rewrites all of them in one batch, each with 1 to 8 chunks, shorter and longer by
turns, at least 40 times and until the reads are done, with upkeep after every 20th. Every read has
to find every document, with all chunks of one edition, each once, and the same edition of all documents.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import numpy as np

from pipeline.records import Chunk, DocumentState, Embedded, EmbeddingSpace, EmbedGroup, Filter, Prepared
from pipeline.stores.lance import LanceStore
from pipeline.stores.lance_reader import LanceReader

SPACE = EmbeddingSpace(provider="benchmark", model="random", dimensions=256)
DOCUMENTS, REWRITES, READERS = 40, 40, 2
UPKEEP_EVERY = 20
FAULTS = ("absent", "torn", "doubled", "mixed", "of two commits", "failed reads")


def size_of(edition: int, number: int) -> int:
    return (edition * 5 + number * 7) % 8 + 1


def document(edition: int, number: int) -> Embedded:
    texts = [f"{edition} {number} {ordinal}" for ordinal in range(size_of(edition, number))]
    chunks = tuple(
        Chunk(ordinal=ordinal, start=0, end=len(text), text=text, tokens=3)
        for ordinal, text in enumerate(texts)
    )
    state = DocumentState(
        source="pages",
        key=f"{number:02}",
        version=f"{edition}",
        recipe="r1",
        content_key=f"{edition}",
        group_keys=(f"{edition}.{number}",),
        row_key=f"{edition}",
    )
    prepared = Prepared(
        state=state,
        title="Page",
        url=None,
        media_type="text/plain",
        metadata={"edition": edition},
        groups=(EmbedGroup(title="Page", chunks=chunks),),
    )
    vectors = np.random.default_rng(edition).integers(-127, 128, (len(chunks), SPACE.dimensions), np.int8)
    return Embedded(prepared=prepared, vectors=(vectors,))


def faults(texts: Iterable[str]) -> Counter[str]:
    """What is wrong with what one read found."""
    chunks = Counter(tuple(map(int, text.split())) for text in texts)
    found: Counter[str] = Counter({"doubled": sum(count - 1 for count in chunks.values())})
    editions: dict[int, set[int]] = {number: set() for number in range(DOCUMENTS)}
    for edition, number, _ in chunks:
        editions[number].add(edition)
    for number, seen in editions.items():
        found["absent"] += not seen
        found["mixed"] += len(seen) > 1
        found["torn"] += any(
            {ordinal for e, n, ordinal in chunks if (e, n) == (edition, number)}
            != set(range(size_of(edition, number)))
            for edition in seen
        )
    found["of two commits"] += len(set.union(*editions.values())) > 1
    return +found


async def write(uri: str, stop: str) -> None:
    store, edition = await LanceStore.open(uri, space=SPACE), 1
    while edition <= REWRITES or not await anyio.Path(stop).exists():
        await store.replace([document(edition, number) for number in range(DOCUMENTS)])
        if edition % UPKEEP_EVERY == 0:
            await store.upkeep()
        edition += 1
    print(json.dumps(edition - 1))


async def read(uri: str, reads: int) -> None:
    import lancedb

    database = await lancedb.connect_async(uri, read_consistency_interval=timedelta(0))
    table, reader = await database.open_table("chunks"), await LanceReader.open(uri)
    question, found, seen = np.ones(SPACE.dimensions, np.int8), Counter[str](), set[str]()
    for number in range(reads):
        try:
            if number % 10:
                rows = await table.query().where("key IS NOT NULL").select(["text"]).to_arrow()
                texts = rows["text"].to_pylist()
            else:
                texts = [hit.text for hit in await reader.nearest(question, limit=1_000, where=Filter())]
        except Exception as error:  # noqa: BLE001 - whatever it is, it is counted and shown
            print(type(error).__name__, error, file=sys.stderr)
            found["failed reads"] += 1
            continue
        found += faults(texts)
        seen.add(texts[0].split()[0])
    print(json.dumps({"faults": found, "editions": len(seen)}))


def start(stack: ExitStack, step: str, uri: str, argument: object) -> subprocess.Popen[str]:
    command = [sys.executable, __file__, "--child", step, uri, str(argument)]
    return stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))


def outcome(process: subprocess.Popen[str]) -> Any:
    out, _ = process.communicate()
    if process.returncode:
        sys.exit("a process failed")
    return json.loads(out)


async def begin(uri: str) -> None:
    store = await LanceStore.open(uri, space=SPACE)
    await store.replace([document(0, number) for number in range(DOCUMENTS)])


def measure(uri: str, reads: int) -> bool:
    anyio.run(begin, uri)
    began, stop = time.perf_counter(), f"{uri}.stop"
    with ExitStack() as stack:
        writer = start(stack, "write", uri, stop)
        readers = [start(stack, "read", uri, reads // READERS) for _ in range(READERS)]
        results = [outcome(reader) for reader in readers]
        Path(stop).touch()
        rewrites = outcome(writer)
    found: Counter[str] = Counter()
    editions = []
    for result in results:
        found += Counter(result["faults"])
        editions.append(result["editions"])
    print(
        "| reads | documents read | rewrites | editions that a reader saw | seconds |\n|---|---|---|---|---|"
    )
    count = reads // READERS * READERS
    print(
        f"| {count:,} | {count * DOCUMENTS:,} | {rewrites} | {', '.join(map(str, editions))} "
        f"| {time.perf_counter() - began:.0f} |\n"
    )
    print(f"| {' | '.join(FAULTS)} |\n|{'---|' * len(FAULTS)}")
    print(f"| {' | '.join(str(found[fault]) for fault in FAULTS)} |")
    return not found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--reads", type=int, default=100_000, help="how often all documents are read (100000)"
    )
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        step, uri, argument = arguments.child
        anyio.run(write, uri, argument) if step == "write" else anyio.run(read, uri, int(argument))
        return
    with tempfile.TemporaryDirectory() as folder:
        sys.exit(0 if measure(f"{folder}/db", arguments.reads) else "a torn state was seen")


if __name__ == "__main__":
    main()
