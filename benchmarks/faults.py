"""Faults of every kind, thousands of them, over repeated ingests: what do the tables hold in the end?

    python benchmarks/faults.py                 10,000 faults, some minutes
    python benchmarks/faults.py --faults 500

Round by round half of the documents are edited, some are added, renamed and removed, and all is ingested
from the stand-in for Perplexity's service, at which most requests fail in one of its ways, until nothing is
left to do. In the end the tables are compared with those that one ingest of the last documents gives without
any fault: every mark, row and vector, bit for bit. The key is looked for in all that was logged, raised and
stored.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import logging
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio.lowlevel
import anyio.to_thread

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from apps.fake_service.faults import Faults  # noqa: E402 - the path comes first
from apps.fake_service.service import EmbeddingService  # noqa: E402
from pipeline.chunk import Chunker  # noqa: E402
from pipeline.embedders._http import Patience  # noqa: E402
from pipeline.embedders._pace import Pace  # noqa: E402
from pipeline.embedders.perplexity import PerplexityEmbedder  # noqa: E402
from pipeline.errors import DocweaveError, Recovery  # noqa: E402
from pipeline.ingest import ingest_source  # noqa: E402
from pipeline.parse import DocumentParser  # noqa: E402
from pipeline.prepare import Pipeline  # noqa: E402
from pipeline.protocols import Store  # noqa: E402
from pipeline.records import EmbedLimits  # noqa: E402
from pipeline.stores.lance import LanceStore  # noqa: E402
from pipeline.stores.memory import MemoryStore  # noqa: E402
from tests.fakes import MemorySource  # noqa: E402
from tests.world import content  # noqa: E402

KEY = "pplx-soak-7c1e5f0a9d"
DOCUMENTS = 400
RATE = 0.6
PATIENCE_ROUNDS = 400
"""Ingests after which a round that does not come to an end is given up."""


class Hasty:
    """A clock that a sleeper sets: nobody waits."""

    now = 0.0

    def time(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        await anyio.lowlevel.checkpoint()
        self.now += seconds


class SmallRequests(PerplexityEmbedder):
    """Sends many requests where a few would do: each is a chance for a fault."""

    @property
    def limits(self) -> EmbedLimits:
        return EmbedLimits(
            group_tokens=1_200, group_chunks=200, request_tokens=2_400, request_groups=4, request_chunks=400
        )


@dataclass
class Outcome:
    """What came of it."""

    faults: Counter[str]
    requests: int
    ingests: int
    errors: Counter[str]
    limits_passed: list[str]
    """What the service refused though nobody had told it to."""
    equal: bool
    stored: int
    key_found_in: list[str] = field(default_factory=list)
    seconds: float = 0.0


async def soak(most: int, folder: Path, *, seed: int = 1, documents: int = DOCUMENTS) -> Outcome:
    """Ingest until so many faults have come to pass, and then until nothing is left to do."""
    started = time.perf_counter()
    faults = Faults(rate=RATE, seed=seed, most=most, slow_seconds=0.001, retry_after_seconds=0)
    service = EmbeddingService(api_key=KEY, faults=faults)
    chance = random.Random(seed)  # noqa: S311 - makes documents
    items = {f"{n}.md": document(chance, n) for n in range(documents)}
    items["book.md"] = "\n".join(document(chance, n) for n in range(40))
    source = MemorySource(items=items)
    errors: Counter[str] = Counter()
    said = io.StringIO()
    ingests, round_number = 0, 0
    with logged(said):
        while faults.total < most or not round_number:
            round_number += 1
            for _ in range(PATIENCE_ROUNDS):
                ingests += 1
                async with pipeline_of(service, folder) as pipeline:
                    try:
                        report = await ingest_source(source, pipeline)
                    except DocweaveError as error:
                        if error.recovery is not Recovery.RETRY:
                            raise
                        errors[type(error).__name__] += 1
                        said.write(f"{error}\n")
                        continue
                errors.update(failure.error for failure in report.failures)
                said.write(json.dumps(report.as_json()))
                if not report.failures:
                    break
            else:
                raise RuntimeError(f"round {round_number} did not come to an end")
            if faults.total < most:
                edit(source, chance, round_number)
    async with pipeline_of(service, folder) as pipeline:
        found = await content(pipeline.store, source.source, pipeline.embedder)
    sound = EmbeddingService(api_key=KEY)
    async with pipeline_of(sound, None) as pipeline:
        await ingest_source(source, pipeline)
        wanted = await content(pipeline.store, source.source, pipeline.embedder)
    leaks = ["what was logged or raised"] if KEY in said.getvalue() else []
    leaks += await anyio.to_thread.run_sync(files_with_key, folder)
    return Outcome(
        faults=faults.injected,
        requests=len(service.requests),
        ingests=ingests,
        errors=errors,
        limits_passed=[f"{seen.status} {seen.said}" for seen in service.refused if not seen.fault],
        equal=found == wanted,
        stored=len(wanted["rows"]),
        key_found_in=leaks,
        seconds=time.perf_counter() - started,
    )


@asynccontextmanager
async def pipeline_of(service: EmbeddingService, folder: Path | None) -> AsyncIterator[Pipeline]:
    """All that an ingest is made of, with a store in a folder, or in memory."""
    clock = Hasty()
    embedder = SmallRequests(
        model="pplx-embed-context-v1-0.6b",
        dimensions=128,
        api_key=KEY,
        transport=service.transport(),
        pace=Pace(8, clock=clock.time, sleep=clock.sleep),
        patience=Patience(sleep=clock.sleep, clock=clock.time),
    )
    store: Store = MemoryStore(embedder.space)
    if folder:
        store = await LanceStore.open(str(folder), space=embedder.space)
    try:
        yield Pipeline(
            parser=DocumentParser(),
            chunker=Chunker(max_tokens=96),
            embedder=embedder,
            store=store,
            concurrency=8,
        )
    finally:
        await embedder.aclose()


def document(chance: random.Random, number: int) -> str:
    words = ["river", "stone", "lamp", "winter", "letter", "garden", "window", "engine", "harbour"]
    sections = (
        f"## Part {part}\n\n{' '.join(chance.choices(words, k=chance.randint(10, 90)))}.\n"
        for part in range(chance.randint(1, 6))
    )
    return "\n".join([f"# Document {number} of {chance.random()}\n", *sections])


def edit(source: MemorySource, chance: random.Random, round_number: int) -> None:
    """Edit half of the documents and the book, add two, rename one, remove one."""
    keys = sorted(key for key in source.items if key != "book.md")
    chance.shuffle(keys)
    renamed, removed, *edited = keys[: len(keys) // 2]
    for key in edited:
        source.items[key] += f"\nRound {round_number} adds this.\n"
    book = source.items["book.md"].splitlines()
    book.insert(chance.randrange(len(book)), f"Round {round_number} puts this in.")
    source.items["book.md"] = "\n".join(book)
    for n in range(2):
        source.items[f"new {round_number} {n}.md"] = document(chance, 1_000 + round_number)
    source.items[f"renamed {round_number}.md"] = source.items.pop(renamed)
    del source.items[removed]


@contextmanager
def logged(into: io.StringIO) -> Iterator[None]:
    """Writes all that is logged, on any level, into a buffer."""
    handler, root = logging.StreamHandler(into), logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        root.removeHandler(handler)
        root.setLevel(level)


def files_with_key(folder: Path) -> list[str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return [str(path) for path in files if KEY.encode() in path.read_bytes()]


def lines(outcome: Outcome) -> list[str]:
    """The outcome as a table."""
    kinds = ", ".join(f"{name} {count}" for name, count in sorted(outcome.faults.items()))
    rows: list[tuple[str, Any]] = [
        ("faults", f"{outcome.faults.total():,} of {len(outcome.faults)} kinds"),
        ("requests", f"{outcome.requests:,}"),
        ("ingests", f"{outcome.ingests:,}"),
        ("failed runs and documents", dict(outcome.errors)),
        ("refused for a limit", len(outcome.limits_passed)),
        ("chunks stored", f"{outcome.stored:,}"),
        ("equal to a faultless run, bit for bit", "yes" if outcome.equal else "NO"),
        ("the key was found in", ", ".join(outcome.key_found_in) or "nothing"),
        ("seconds", f"{outcome.seconds:.0f}"),
    ]
    return [*(f"{name:40}{value}" for name, value in rows), "", kinds]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--faults", type=int, default=10_000, metavar="N")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        outcome = asyncio.run(soak(options.faults, Path(folder), seed=options.seed))
    print("\n".join(lines(outcome)))
    if not outcome.equal or outcome.limits_passed or outcome.key_found_in:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
