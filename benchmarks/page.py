"""How long the page's look at all documents and its map take, and how long questions wait meanwhile.

python benchmarks/page.py .docweave/lancedb
"""

from __future__ import annotations

import argparse
import asyncio
import time

import anyio

from apps.page.survey import Surveys
from pipeline.stores.lance_reader import LanceReader

BEAT = 0.005
"""Seconds."""


class Held:
    """How long at most the loop did not turn."""

    def __init__(self) -> None:
        self.seconds = 0.0

    async def watch(self) -> None:
        while True:
            began = time.perf_counter()
            await asyncio.sleep(BEAT)
            self.seconds = max(self.seconds, time.perf_counter() - began - BEAT)


async def measure(uri: str) -> None:
    reader = await (await LanceReader.open(uri)).snapshot()
    surveys, held = Surveys(), Held()
    watching = asyncio.create_task(held.watch())
    counts = (await reader.counts()).values()
    documents, passages = (sum(one) for one in zip(*counts, strict=True))
    print(f"{documents:,} documents, {passages:,} passages")
    for name, look in (("look", surveys.survey), ("map", surveys.map), ("map again", surveys.map)):
        held.seconds, began = 0.0, time.perf_counter()
        await look(reader, None)
        print(
            f"{name:10} {time.perf_counter() - began:6.2f} s   held for at most {held.seconds * 1000:4.0f} ms"
        )
    watching.cancel()


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("uri", help="of the tables")
    anyio.run(measure, options.parse_args().uri)


if __name__ == "__main__":
    main()
