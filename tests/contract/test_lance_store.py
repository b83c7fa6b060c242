"""The LanceDB store keeps the contract, and some promises of its own."""

from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import cast

import anyio
import lancedb
import numpy as np
import pytest

from pipeline.protocols import Store
from pipeline.records import EmbeddingSpace, Filter, Metadata
from pipeline.stores._upkeep import SMALL_FRAGMENTS
from pipeline.stores.lance import LanceStore
from pipeline.stores.lance_reader import LanceReader
from tests.contract.store_contract import EVERYTHING, SPACE, StoreContract, embedded, numbered, places


class TestLanceStore(StoreContract):
    async def open_store(
        self, tmp_path: Path, space: EmbeddingSpace = SPACE, journal_bytes: int = 2_000_000_000
    ) -> Store:
        return await LanceStore.open(str(tmp_path / "db"), space=space, journal_bytes=journal_bytes)


@pytest.fixture
def uri(tmp_path: Path) -> str:
    return str(tmp_path / "db")


async def versions(uri: str) -> tuple[int, int]:
    """How many commits each table has seen."""
    database = await lancedb.connect_async(uri)
    chunks, documents = [await database.open_table(name) for name in ("chunks", "documents")]
    return await chunks.version(), await documents.version()


async def test_many_documents_are_replaced_in_one_commit_of_each_table(uri: str) -> None:
    store = await LanceStore.open(uri, space=SPACE)
    await store.replace([embedded("first.md", "word")])
    chunks, documents = await versions(uri)
    await store.replace([embedded(key, "one", "two", "three") for key in numbered(100)])
    assert await versions(uri) == (chunks + 1, documents + 1)
    await store.replace([embedded(key, "only one") for key in numbered(100)])
    assert await versions(uri) == (chunks + 2, documents + 2)
    await store.remove("notes", numbered(50))
    assert await versions(uri) == (chunks + 4, documents + 3), "what is to go is told first"
    states = await store.states("notes", numbered(100))
    await store.touch([replace(state, version="v2") for state in states.values()])
    assert await versions(uri) == (chunks + 4, documents + 4)


def test_looking_makes_no_table_and_does_not_import_lancedb(uri: str) -> None:
    look = f"""
import asyncio, sys
from pipeline.records import EmbeddingSpace
from pipeline.stores.lance import LanceStore

async def main():
    space = EmbeddingSpace(provider="test", model="m", dimensions=8)
    store = await LanceStore.open({uri!r}, space=space)
    assert await store.marks("notes") == {{}} == await store.states("notes", ["a"])
    assert await store.vectors(["x"]) == {{}} == await store.counts()
    await store.upkeep()
    assert "lancedb" not in sys.modules

asyncio.run(main())
"""
    subprocess.run([sys.executable, "-c", look], check=True)
    assert not list(Path(uri).glob("*"))


WRITE = """
import asyncio, sys
from dataclasses import replace
from datetime import UTC, datetime
from pipeline.records import Spending
from pipeline.stores.lance import LanceStore
from tests.contract.store_contract import SPACE, embedded, numbered

async def write(**how):
    store = await LanceStore.open(sys.argv[1], space=SPACE, **how)
    async with store.lease("ingesting notes"):
        documents = [embedded(key, "one", "two", metadata={"team": "people"}) for key in numbered(3)]
        await store.journal({d.prepared.state.group_keys[0]: d.vectors[0] for d in documents})
        await store.replace(documents)
        await store.replace([embedded("000", "shorter", metadata={"team": "people"})])
        states = await store.states("notes", numbered(3))
        await store.touch([replace(state, version="v2") for state in states.values()])
        await store.remove("notes", ["001"])
        await store.spent(Spending(at=datetime.now(UTC), source="notes", provider="p", model="m", requests=1,
                                   counted=1, tokens=1, highest_ratio=1.0, cost_usd=0.1))
        await store.upkeep()
        await store.publish()
    return await store.counts()

assert asyncio.run(write()) == asyncio.run(write(rebuild=True)) == {"notes": (2, 3)}
assert "lancedb" not in sys.modules
"""


async def test_writing_does_not_import_the_lancedb_package(uri: str) -> None:
    ran = await anyio.run_process([sys.executable, "-c", WRITE, uri], check=False)
    assert (ran.returncode, ran.stderr.decode()) == (0, "")
    assert await (await LanceReader.open(uri)).counts() == {"notes": (2, 3)}


async def test_opening_again_writes_nothing_and_finds_everything(uri: str) -> None:
    store = await LanceStore.open(uri, space=SPACE)
    await store.replace([embedded("a.md", "word")])
    before = await versions(uri)
    again = await LanceStore.open(uri, space=SPACE)
    assert await versions(uri) == before
    assert await places(again) == await places(store)


async def test_upkeep_waits_for_a_need_and_then_compacts_and_extends_the_index(uri: str) -> None:
    store = await LanceStore.open(uri, space=SPACE)
    for key in numbered(SMALL_FRAGMENTS - 1):
        await store.replace([embedded(key, "word")])
    before = await versions(uri)
    await store.upkeep()
    assert await versions(uri) == before
    await store.replace([embedded("last", "word")])
    await store.upkeep()
    table = await (await lancedb.connect_async(uri)).open_table("chunks")
    stats = cast("dict[str, dict[str, int]]", await table.stats())
    assert stats["fragment_stats"]["num_fragments"] == 1
    index = await table.index_stats("text_idx")
    assert index
    assert (index.num_indexed_rows, index.num_unindexed_rows) == (SMALL_FRAGMENTS + 1, 0)  # and the turn
    after = await versions(uri)
    await store.upkeep()
    assert await versions(uri) == after


async def test_what_json_and_utf8_cannot_hold_costs_no_document(uri: str) -> None:
    store = await LanceStore.open(uri, space=SPACE)
    metadata: Metadata = {
        "nan": math.nan,
        "deep": [math.inf, {"x": -math.inf}],
        "half": "\ud83d",
        "fine": 1.5,
    }
    await store.replace([embedded("a.md", "half \ud83d of a word", metadata=metadata)])
    [hit] = await store.matching("word", limit=1, where=EVERYTHING)
    assert hit.text == "half � of a word"
    assert hit.metadata == {"nan": None, "deep": [None, {"x": None}], "half": "�", "fine": 1.5}


async def test_numbers_are_found_however_json_writes_them(uri: str) -> None:
    random = np.random.default_rng(3)
    drawn = np.frombuffer(random.bytes(8 * 60), dtype=np.float64)
    numbers = {float(value) for value in drawn if np.isfinite(value)}
    numbers |= {10.0**power for power in range(-12, 25)} | {float(n) for n in random.uniform(-1e6, 1e6, 20)}
    numbers |= {2**63 - 1, -(2**63), 2**53 + 1, 3.008264692815159e-05, 5e-324}
    store = await LanceStore.open(uri, space=SPACE)
    await store.replace([embedded(repr(n), "word", metadata={"n": n}) for n in numbers])
    for number in numbers:
        assert [key for _, key, _, _ in await places(store, Filter(metadata={"n": number}))] == [repr(number)]


async def test_words_are_found_by_their_stem_and_in_every_script(uri: str) -> None:
    store = await LanceStore.open(uri, space=SPACE)
    texts = [
        "The employees were running",
        "休暇制度について説明します",
        "员工年假政策规定",
        "Der Café-Besitzer",
        "snake_case_name",
    ]
    await store.replace([embedded(f"{n}", text) for n, text in enumerate(texts)])
    asked = ["employee runs", "休暇", "年假", "cafe", "name", "who is running"]
    found = [[hit.key for hit in await store.matching(ask, limit=5, where=EVERYTHING)] for ask in asked]
    assert found == [["0"], ["1"], ["2"], ["3"], ["4"], ["0"]]


OPEN = """
import asyncio, sys
from pipeline.stores.lance import LanceStore
from tests.contract.store_contract import SPACE, embedded

async def main():
    print("ready", flush=True)
    sys.stdin.readline()
    store = await LanceStore.open(sys.argv[1], space=SPACE)
    await store.replace([embedded(f"{n}", "word", "more") for n in range(20)])
    await store.replace([embedded(sys.argv[2], "word of its own")])

import lancedb
asyncio.run(main())
"""


def test_processes_that_make_the_tables_and_store_the_same_at_once_leave_one_copy(uri: str) -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", OPEN, uri, f"own {n}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for n in range(3)
    ]
    for process in processes:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin
        process.stdin.write("go\n")
        process.stdin.flush()
    errors = [process.communicate(timeout=60)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], errors

    async def check() -> None:
        reader = await LanceReader.open(uri)
        assert await reader.counts() == {"notes": (23, 43)}
        everything = await places(reader)
        assert len(everything) == len(set(everything)) == 43
        assert len(await reader.matching("word", limit=100, where=EVERYTHING)) == 23

    anyio.run(check)


async def test_stores_that_open_at_once_make_the_tables_once(uri: str) -> None:
    async with anyio.create_task_group() as tasks:
        for number in range(4):
            tasks.start_soon(_open_and_store, uri, f"{number}")
    reader = await LanceReader.open(uri)
    assert await reader.counts() == {"notes": (4, 4)}
    assert len(await reader.matching("word", limit=10, where=EVERYTHING)) == 4


async def _open_and_store(uri: str, key: str) -> None:
    store = await LanceStore.open(uri, space=SPACE)
    await store.replace([embedded(key, "word")])


async def test_a_reader_never_sees_a_document_absent_or_mixed(uri: str) -> None:
    store = await LanceStore.open(uri, space=SPACE)
    wide = numbered(20)

    def edition(number: int) -> list[str]:
        return [f"edition{number} chunk{n}" for n in range(1 + number % 4)]

    await store.replace([embedded(key, *edition(0)) for key in wide])
    polls, done = 0, False

    async def poll() -> None:
        nonlocal polls
        reader = await LanceReader.open(uri)
        while not done:
            texts: dict[str, list[str]] = {}
            for _, key, _, text in await places(reader):
                texts.setdefault(key, []).append(text)
            assert sorted(texts) == wide
            seen = int(texts["000"][0].split()[0].removeprefix("edition"))
            assert all(sorted(found) == edition(seen) for found in texts.values())
            polls += 1

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(poll)
        tasks.start_soon(poll)
        for number in range(1, 25):
            await store.replace([embedded(key, *edition(number)) for key in wide])
        await store.upkeep()
        done = True
    assert polls > 20
