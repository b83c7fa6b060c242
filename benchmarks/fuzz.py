"""Whether broken files are reported, and never crash or hang anything.

    python benchmarks/fuzz.py [FILES] [SEED]

FILES (default: 1,000) mutants of a small file of each format, each with bits flipped, cut off, with pieces
swapped, repeated, overwritten or taken from another format, are parsed as an ingest does it, their contents
too; then the large hostile files that the tests leave out. Each must become a document or a `ParseError`
within the limits; one that does not is named, and kept in the folder that is told.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import anyio

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from pipeline.chunk import Chunker
from pipeline.errors import ParseError
from pipeline.parse import DocumentParser, ParseLimits
from pipeline.records import ItemRef, RawDocument
from tests import hostile
from tests.documents import SAMPLES

SECONDS = 20.0
LIMITS = ParseLimits(seconds=SECONDS, memory_bytes=2**30)


@dataclass
class Tally:
    files: int = 0
    read: int = 0
    refused: int = 0
    children: int = 0
    longest: float = 0.0
    reasons: Counter[str] = field(default_factory=Counter)


def flip(content: bytearray, chance: random.Random) -> None:
    for _ in range(chance.choice((1, 4, 32, 256))):
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)


def truncate(content: bytearray, chance: random.Random) -> None:
    del content[chance.randrange(len(content)) :]


def behead(content: bytearray, chance: random.Random) -> None:
    del content[: chance.randrange(len(content))]


def swap(content: bytearray, chance: random.Random) -> None:
    size = chance.randint(1, max(1, len(content) // 4))
    one, other = (chance.randrange(len(content)) for _ in range(2))
    content[one : one + size], content[other : other + size] = (
        content[other : other + size],
        content[one : one + size],
    )


def repeat(content: bytearray, chance: random.Random) -> None:
    at = chance.randrange(len(content))
    content[at:at] = content[at : at + chance.randint(1, 64)] * chance.randint(2, 2_000)


def overwrite(content: bytearray, chance: random.Random) -> None:
    at = chance.randrange(len(content))
    size = chance.randint(1, 512)
    content[at : at + size] = chance.choice((bytes(size), b"\xff" * size, chance.randbytes(size)))


def graft(content: bytearray, chance: random.Random) -> None:
    other = SAMPLES[chance.choice(sorted(SAMPLES))]()
    content[chance.randrange(len(content)) :] = other[chance.randrange(len(other)) :]


MUTATIONS: Sequence[Callable[[bytearray, random.Random], None]] = (
    *(flip, flip, flip, truncate, behead, swap, repeat, overwrite, graft),
)


def mutant(key: str, chance: random.Random) -> bytes:
    content = bytearray(SAMPLES[key]())
    for _ in range(chance.choice((1, 1, 1, 2, 4))):
        if content:
            chance.choice(MUTATIONS)(content, chance)
    return bytes(content)


def kind_of(reason: str) -> str:
    for part in (
        "takes longer",
        "crashes its parser",
        "is broken",
        "is no ",
        "password",
        "no text",
        "nested",
    ):
        if part in reason:
            return part.strip()
    return "other reasons"


async def attempt(parser: DocumentParser, raw: RawDocument, tally: Tally, faults: Path) -> None:
    """Parse a file and what it holds, as an ingest does."""
    started = time.perf_counter()
    chunker = Chunker()
    try:
        documents = [raw, *(await parser.children(raw)).documents]
        for number, inner in enumerate(documents):
            chunker.chunk(await parser.parse(inner))
            tally.children += number > 0
        tally.read += 1
    except ParseError as error:
        tally.refused += 1
        tally.reasons[kind_of(str(error))] += 1
    except Exception as error:  # noqa: BLE001  it is what is looked for
        (faults / raw.ref.key.replace("/", "_")).write_bytes(raw.content)
        tally.reasons[f"FAULT {type(error).__name__}: {error}"] += 1
    took = time.perf_counter() - started
    tally.files += 1
    tally.longest = max(tally.longest, took)
    if took > 3 * SECONDS:
        tally.reasons["FAULT: hung"] += 1


async def over(files: Sequence[tuple[str, Callable[[], bytes]]], faults: Path) -> dict[str, Tally]:
    parser = DocumentParser(LIMITS, processes=os.cpu_count() or 1)
    tallies: dict[str, Tally] = defaultdict(Tally)
    waiting = iter(enumerate(files))

    async def work() -> None:
        for number, (key, make) in waiting:
            name = PurePosixPath(key)
            ref = ItemRef(source="fuzz", key=f"{name.stem}-{number}{name.suffix}", version="1")
            content = make()
            raw = RawDocument(ref=ref, content=content, media_type="")
            await attempt(parser, raw, tallies[name.suffix[1:]], faults)

    async with anyio.create_task_group() as tasks:
        for _ in range(os.cpu_count() or 1):
            tasks.start_soon(work)
    return tallies


def show(title: str, tallies: dict[str, Tally]) -> None:
    print(f"| {title} | files | documents | reported | longest | reasons |")
    print("| --- | --- | --- | --- | --- | --- |")
    whole = Tally()
    for name, tally in sorted(tallies.items()):
        line(name, tally)
        whole.files += tally.files
        whole.read += tally.read
        whole.refused += tally.refused
        whole.longest = max(whole.longest, tally.longest)
        whole.reasons += tally.reasons
    line("all", whole)
    print()


def line(name: str, tally: Tally) -> None:
    reasons = ", ".join(f"{reason}: {count}" for reason, count in tally.reasons.most_common())
    print(f"| {name} | {tally.files} | {tally.read} | {tally.refused} | {tally.longest:.1f} s | {reasons} |")


async def main() -> Path:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", metavar="FILES", nargs="?", type=int, default=1_000)
    parser.add_argument("seed", metavar="SEED", nargs="?", type=int, default=1)
    asked = parser.parse_args()
    count, chance = asked.files, random.Random(asked.seed)  # noqa: S311  it makes test data
    faults = Path(tempfile.mkdtemp(prefix="fuzz-"))
    keys = sorted(SAMPLES)
    files = []
    for number in range(count):
        key = keys[number % len(keys)]
        content = mutant(key, chance)
        files.append((key, lambda content=content: content))
    show("mutants of", await over(files, faults))
    show("hostile", await over(list(hostile.SLOW.items()), faults))
    return faults


def conclude(faults: Path) -> None:
    kept = list(faults.iterdir())
    print(f"faults: {len(kept)}" + (f", kept in {faults}" if kept else ""))
    sys.exit(bool(kept))


if __name__ == "__main__":
    conclude(anyio.run(main))
