"""Copies of a database that is being written: by `cp -r`, and by `docweave backup`. How many are true?

    python benchmarks/backup.py --seconds 30

A copy is "broken" if it cannot be read as a whole, "good" if every document is as its marks say, and
"mid-write" if the passages of the last batch are newer than its marks: what a run leaves that is stopped
there, and what the next run puts right.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from pipeline.errors import DocweaveError  # noqa: E402 - the tests' fakes are no package
from pipeline.stores._place import Place  # noqa: E402
from pipeline.stores.lance import LanceStore  # noqa: E402
from pipeline.stores.lance_backup import back_up  # noqa: E402
from tests.fakes import OracleEmbedder  # noqa: E402
from tests.world import World, text  # noqa: E402

DOCUMENTS = 6


async def write(uri: str, seconds: float) -> None:
    """Rewrite all documents, again and again: two commits and more each time."""
    embedder = OracleEmbedder()
    world = World(store=await LanceStore.open(uri, space=embedder.space), embedder=embedder)
    end, turn = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        for number in range(DOCUMENTS):
            world.items.items[f"{number}.md"] = text(f"turn{turn}") * (1 + (turn + number) % 3)
        async with world.store.lease("writing"):
            await world.ingest()
        turn += 1
        if turn == 1:
            print("ready", flush=True)


def verdict(uri: str) -> str:
    import lancedb

    try:
        database = lancedb.connect(uri)
        passages = database.open_table("chunks").search().where("key IS NOT NULL").limit(1_000_000).to_list()
        documents = database.open_table("documents").search().limit(1_000_000).to_list()
    except (ValueError, RuntimeError, OSError):
        return "broken"
    groups: dict[str, set[str]] = {}
    places: dict[str, list[int]] = {}
    for row in passages:
        groups.setdefault(row["key"], set()).add(row["group_key"])
        places.setdefault(row["key"], []).append(row["ordinal"])
    if any(sorted(found) != list(range(len(found))) for found in places.values()):
        return "broken"
    marked = {row["key"]: set(row["group_keys"]) for row in documents}
    return "good" if marked == groups else "mid-write"


async def copies(how: str, uri: str, folder: Path, seconds: float) -> Counter[str]:
    found: Counter[str] = Counter()
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        target = folder / "copy"
        shutil.rmtree(target, ignore_errors=True)
        if how == "cp -r":
            subprocess.run(["cp", "-r", uri, str(target)], check=False, stderr=subprocess.DEVNULL)  # noqa: S607, ASYNC221 - nothing else runs here
            found[verdict(str(target))] += 1
            continue
        try:
            await back_up(Place.at(uri, {}), Place.at(str(target), {}))
            found[verdict(str(target))] += 1
        except DocweaveError as error:
            found[type(error).__name__] += 1
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=30, help="for each way of copying")
    parser.add_argument("--write", metavar="FOLDER", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.write:
        asyncio.run(write(chosen.write, chosen.seconds))
        return
    with tempfile.TemporaryDirectory() as name:
        print("| copied by | copies | good | mid-write | broken | other |\n|---|---|---|---|---|---|")
        for how in ("cp -r", "docweave backup"):
            uri = f"{name}/{how.partition(' ')[0]}"
            command = [sys.executable, __file__, "--write", uri, "--seconds", str(chosen.seconds + 5)]
            with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
                if writer.stdout:
                    writer.stdout.readline()  # it is ready
                found = asyncio.run(copies(how, uri, Path(name), chosen.seconds))
            rest = sum(found.values()) - sum(found[one] for one in ("good", "mid-write", "broken"))
            print(
                f"| {how} | {sum(found.values())} | {found['good']} | {found['mid-write']} | "
                f"{found['broken']} | {rest} |"
            )


if __name__ == "__main__":
    main()
