"""What it costs to replace 50 documents in tables of several sizes: what the batch asks for, not the table.

    python benchmarks/replacement.py             tables of 10,000 and of 1,000,000 chunks (5 GB, some minutes)
    python benchmarks/replacement.py --quick     10,000 and 100,000

A table of 12 chunks a document, each of 1,024 dimensions and 50 words, is filled through the store and left
as upkeep leaves it. Processes of their own, the sizes in turn, each replace 50 documents in a copy of it, and
50 others after that: 20 keep their length, 12 are halved, 12 grow by half, 6 are new. Memory is what is held
at most meanwhile, over what it held with the tables opened (some 50 MB for LanceDB itself). In the end
one process for each size replaces twenty batches without any upkeep.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path
from statistics import median
from typing import Any

import anyio
import numpy as np

from pipeline.records import Chunk, DocumentState, Embedded, EmbeddingSpace, EmbedGroup, Prepared
from pipeline.stores.lance import LanceStore

SPACE = EmbeddingSpace(provider="benchmark", model="random", dimensions=1024)
PER_DOCUMENT = 12
BATCH = [*[12] * 20, *[6] * 12, *[18] * 12]
NEW = 6
PROCESSES, WITHOUT_UPKEEP = 7, 20
TOGETHER = 2_000
"""Documents in one batch as the table is filled."""
RATIO, MEGABYTES = 2.0, 150.0
WORDS = ["".join(word) for word in np.random.default_rng(1).choice(list("aeioubcdfglmnprst"), (30_000, 6))]


def document(number: int, chunks: int, random: np.random.Generator) -> Embedded:
    key = f"guide/part-{number % 97:02}/page-{number:07}.md"
    passages, start = [], 0
    for ordinal in range(chunks):
        text = " ".join(WORDS[n - 1] for n in np.minimum(random.zipf(1.25, 50), len(WORDS)))
        passages.append(Chunk(ordinal=ordinal, start=start, end=start + len(text), text=text, tokens=80))
        start += len(text)
    mark = f"{random.integers(2**60):015x}"
    prepared = Prepared(
        state=DocumentState(
            source="handbook",
            key=key,
            version=mark,
            recipe="r1",
            content_key=mark,
            group_keys=(mark,),
            row_key=mark,
        ),
        title=f"Page {number}",
        url=f"https://example.org/{key}",
        media_type="text/markdown",
        metadata={"team": f"team {number % 20}", "page": number},
        groups=(EmbedGroup(title=f"Page {number}", chunks=tuple(passages)),),
    )
    return Embedded(prepared=prepared, vectors=(random.integers(-127, 128, (chunks, 1024), np.int8),))


async def fill(uri: str, chunks: int) -> None:
    random = np.random.default_rng(2)
    store = await LanceStore.open(uri, space=SPACE)
    for first in range(0, chunks // PER_DOCUMENT, TOGETHER):
        numbers = range(first, min(first + TOGETHER, chunks // PER_DOCUMENT))
        await store.replace([document(number, PER_DOCUMENT, random) for number in numbers])
    await store.upkeep()


async def replace(uri: str, chunks: int, seed: int, times: int) -> None:
    random = np.random.default_rng(seed)
    batches = []
    for _ in range(times):
        known = random.choice(chunks // PER_DOCUMENT, len(BATCH), replace=False)
        new = 10_000_000 + random.choice(1_000_000, NEW, replace=False)
        sizes = [*zip(known, BATCH, strict=True), *((number, PER_DOCUMENT) for number in new)]
        batches.append([document(int(number), size, random) for number, size in sizes])
    store = await LanceStore.open(uri, space=SPACE)
    await store.stage()
    begin_peak()
    before, took = memory("VmRSS"), []
    for batch in batches:
        began, busy = time.perf_counter(), time.process_time()
        await store.replace(batch)
        took.append(((time.perf_counter() - began) * 1000, (time.process_time() - busy) * 1000))
    print(json.dumps({"took": took, "mb": memory("VmHWM") - before}))


def begin_peak() -> None:
    """VmHWM counts from now on (Linux, proc(5))."""
    Path("/proc/self/clear_refs").write_text("5")


def memory(what: str) -> float:
    """Megabytes of this process, as Linux counts them."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition(f"{what}:")[2].split()[0]) / 1024


def child(*arguments: object) -> str:
    command = [sys.executable, __file__, "--child", *map(str, arguments)]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def replaced(folder: Path, size: int, seed: int, times: int) -> dict[str, Any]:
    """In a copy, whose files are the same: Lance changes none."""
    with tempfile.TemporaryDirectory(dir=folder) as copy:
        shutil.copytree(folder / f"{size}", copy, copy_function=os.link, dirs_exist_ok=True)
        result: dict[str, Any] = json.loads(child("replace", copy, size, seed, times))
    return result


def measure(folder: Path, sizes: list[int]) -> bool:
    results: dict[int, list[dict[str, Any]]] = {size: [] for size in sizes}
    for size in sizes:
        if not (folder / f"{size}").exists():
            began = time.perf_counter()
            child("fill", folder / f"{size}", size)
            print(f"{size:,} chunks stored in {time.perf_counter() - began:.0f} s", file=sys.stderr)
    for seed in range(PROCESSES):
        for size in sizes:
            results[size].append(replaced(folder, size, seed, 2))
    print("| chunks | first: best, median ms (of CPU) | second: the same | peak MB: best, worst |")
    print("|---|---|---|---|")
    best: dict[tuple[int, int], float] = {}
    for size in sizes:
        cells = []
        for which in (0, 1):
            wall, busy = zip(*(result["took"][which] for result in results[size]), strict=True)
            best[size, which] = min(wall)
            cells.append(f"{min(wall):.0f}, {median(wall):.0f} ({min(busy):.0f}, {median(busy):.0f})")
        peaks = [result["mb"] for result in results[size]]
        print(f"| {size:,} | {' | '.join(cells)} | {min(peaks):.0f}, {max(peaks):.0f} |", flush=True)
    small, large = sizes[0], sizes[-1]
    ratios = [best[large, which] / best[small, which] for which in (0, 1)]
    worst = max(result["mb"] for result in results[large])
    print(f"\n{large:,} to {small:,}, best: first {ratios[0]:.2f}, second {ratios[1]:.2f} (at most {RATIO})")
    print(f"worst peak at {large:,}: {worst:.0f} MB (below {MEGABYTES:.0f})\n")
    print(f"| chunks | batches 11-{WITHOUT_UPKEEP}: best, median ms | peak MB |\n|---|---|---|")
    for size in sizes:
        result = replaced(folder, size, 99, WITHOUT_UPKEEP)
        late = [took for took, _ in result["took"][10:]]
        print(f"| {size:,} | {min(late):.0f}, {median(late):.0f} | {result['mb']:.0f} |", flush=True)
    return max(ratios) <= RATIO and worst < MEGABYTES


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="10,000 and 100,000 chunks")
    parser.add_argument("--sizes", type=int, nargs="+", metavar="CHUNKS", help="other sizes, smallest first")
    parser.add_argument("--folder", help="keep the tables there, and use those that are (a temporary folder)")
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        step, uri, *numbers = arguments.child
        chunks, seed, times = map(int, [*numbers, "0", "0"][:3])
        anyio.run(fill, uri, chunks) if step == "fill" else anyio.run(replace, uri, chunks, seed, times)
        return
    sizes = arguments.sizes or [10_000, 100_000 if arguments.quick else 1_000_000]
    with nullcontext(arguments.folder) if arguments.folder else tempfile.TemporaryDirectory() as folder:
        sys.exit(0 if measure(Path(folder), sizes) else "a bar was missed")


if __name__ == "__main__":
    main()
