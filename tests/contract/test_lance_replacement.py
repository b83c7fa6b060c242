"""Documents take others' place in one commit, whoever else writes, and what is gone is found by nobody."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path

import anyio
import lancedb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lancedb import AsyncTable
from lancedb.index import IvfFlat

from pipeline.errors import StoreUnavailable
from pipeline.records import EmbeddingSpace, Filter
from pipeline.stores import _core, _replacing
from pipeline.stores._replacing import IS_TOMB, IS_TURN, TURN, put, sweep
from pipeline.stores._rows import chunk_rows, document_rows
from pipeline.stores._schema import VERSION_KEY
from pipeline.stores.lance import LanceStore
from pipeline.stores.lance_reader import LanceReader
from pipeline.stores.memory import MemoryStore
from tests.contract.store_contract import (
    EVERYTHING,
    SPACE,
    drawn,
    embedded,
    in_every_encoding,
    numbered,
    places,
)


@pytest.fixture
def uri(tmp_path: Path) -> str:
    return str(tmp_path / "db")


async def chunks_of(uri: str) -> AsyncTable:
    database = await lancedb.connect_async(uri, read_consistency_interval=timedelta(0))
    return await database.open_table("chunks")


async def to_write(uri: str) -> _core.CoreTable:
    """The chunks table, as the store itself opens it."""
    return await (await _core.connect(uri, {})).open_table("chunks")


async def compacted(uri: str) -> AsyncTable:
    """The chunks table, as upkeep leaves it: from now on, merges go through the index on the id."""
    table = await chunks_of(uri)
    await sweep(table)
    await table.optimize()
    stats = await table.index_stats(_replacing.ID_INDEX)
    assert stats
    assert stats.num_unindexed_rows == 0
    return table


async def ids_in(table: AsyncTable, where: str = "id IS NOT NULL") -> list[str]:
    found: list[str] = (await table.query().where(where).select(["id"]).to_arrow())["id"].to_pylist()
    return sorted(found)


async def texts_in(table: AsyncTable) -> dict[str, list[str]]:
    """Every document's texts, in the order of its chunks, of all rows that are chunks."""
    rows = await table.query().where("key IS NOT NULL").select(["key", "ordinal", "text"]).to_arrow()
    texts: dict[str, list[str]] = defaultdict(list)
    for row in sorted(rows.to_pylist(), key=lambda row: (row["key"], row["ordinal"])):
        texts[row["key"]].append(row["text"])
    return dict(texts)


def edition(writer: str, number: int, size: int) -> list[str]:
    """Texts by which one sees whose they are, and whether they are all."""
    return [f"{writer}.{number} word {n} of {size}" for n in range(size)]


def is_whole(texts: Sequence[str]) -> bool:
    writer = texts[0].split()[0] if texts else ""
    return list(texts) == [f"{writer} word {n} of {len(texts)}" for n in range(len(texts))]


@pytest.mark.parametrize("indexed", [False, True])
async def test_documents_grow_shrink_come_and_empty_in_one_commit(uri: str, *, indexed: bool) -> None:
    store = await LanceStore.open(uri, space=SPACE)
    await store.replace([embedded(key, "one", "two", "three") for key in numbered(60)])
    table = await compacted(uri) if indexed else await chunks_of(uri)
    wanted = {
        **{key: ["only"] for key in numbered(60)[:15]},
        **{key: [f"{n}" for n in range(5)] for key in numbered(60)[15:30]},
        **{key: ["a", "b", "c"] for key in numbered(60)[30:45]},
        **{key: [] for key in numbered(60)[45:]},
        **{f"new {n}": ["x", "y"] for n in range(10)},
    }
    before = await table.version()
    await store.replace([embedded(key, *texts, metadata={"n": len(texts)}) for key, texts in wanted.items()])
    assert await table.version() == before + 1
    assert await texts_in(table) == {key: texts for key, texts in wanted.items() if texts}
    assert await store.counts() == {"notes": (70, 15 + 75 + 45 + 20)}
    assert len(await places(store, Filter(metadata={"n": 5}))) == 75
    assert len(await ids_in(table, IS_TOMB)) == 30 + 45


async def test_a_document_that_never_had_text_costs_no_commit_of_the_chunks(uri: str) -> None:
    store = await LanceStore.open(uri, space=SPACE)
    await store.replace([embedded("a.md", "word")])
    table = await chunks_of(uri)
    before = await table.version()
    await store.replace([embedded("empty.md")])
    assert await table.version() == before
    assert await store.counts() == {"notes": (2, 1)}


async def test_a_thousand_documents_are_removed_in_one_commit(uri: str) -> None:
    store = await LanceStore.open(uri, space=SPACE)
    await store.replace([embedded(f"{n}", "word", "more") for n in range(1_100)])
    table = await compacted(uri)
    before = await table.version()
    await store.remove("notes", [f"{n}" for n in range(1_000)])
    assert await table.version() == before + 2, "one to tell what is to go, and one that removes it"
    assert await ids_in(table) == sorted(
        [TURN, *(f"notes/{n}#{part}" for n in range(1_000, 1_100) for part in (0, 1))]
    )


@in_every_encoding
async def test_tombs_are_found_by_no_search_before_or_after_upkeep(uri: str, space: EmbeddingSpace) -> None:
    store = await LanceStore.open(uri, space=space)
    long = {key: drawn(space, 30, seed=key) for key in numbered(20)}
    await store.replace([embedded(key, *["word"] * 30, vectors=long[key]) for key in long])
    await store.replace([embedded(key, "word", vectors=long[key][:1]) for key in long])
    table = await chunks_of(uri)
    assert len(await ids_in(table, IS_TOMB)) == 20 * 29

    async def check() -> None:
        reader = await LanceReader.open(uri)
        assert await reader.counts() == {"notes": (20, 20)}
        for where in (EVERYTHING, Filter(sources=("notes",))):
            near = await reader.nearest(long["000"][0], limit=1_000, where=where)
            assert sorted(hit.key for hit in near) == numbered(20)
            assert near[0].key == "000"
            worded = await reader.matching("word", limit=1_000, where=where)
            assert sorted(hit.key for hit in worded) == numbered(20)
        for predicate in (
            "source <> 'x'",
            "key NOT IN ('x')",
            "json_extract(metadata, '$.a') IS NULL AND key > ''",
        ):
            assert await table.count_rows(predicate) == 20
        [(_, vectors)] = (await store.vectors([f"group of notes/000: {('word',)}"])).items()
        assert vectors.shape == (1, space.width)

    await check()
    config = IvfFlat(distance_type="hamming" if space.encoding == "binary" else "cosine", num_partitions=1)
    await table.create_index("vector", config=config)
    await check()
    assert await sweep(table) == 20 * 29
    before = await table.version()
    assert await sweep(table) == 0
    assert await table.version() == before, "nothing to sweep, nothing committed"
    await table.optimize()
    await check()
    assert await ids_in(table, "key IS NULL") == [TURN]


async def test_a_chunk_that_comes_back_takes_its_tombs_place(uri: str) -> None:
    store = await LanceStore.open(uri, space=SPACE)
    for texts in (["a", "b", "c"], ["a"], ["a", "b", "d"], [], ["e", "f"]):
        await store.replace([embedded("a.md", *texts), embedded("b.md", "word")])
    assert await ids_in(await chunks_of(uri)) == [
        TURN,
        *(f"notes/a.md#{n}" for n in range(3)),
        "notes/b.md#0",
    ]
    assert [text for _, key, _, text in await places(store) if key == "a.md"] == ["e", "f"]


async def test_a_store_that_looked_long_ago_still_replaces_what_is_there_now(uri: str) -> None:
    stale = await LanceStore.open(uri, space=SPACE)
    await stale.replace([embedded("a.md", "one")])
    other = await LanceStore.open(uri, space=SPACE)
    await other.replace([embedded("a.md", *"abcdefgh"), embedded("b.md", "kept")])
    await compacted(uri)
    await stale.replace([embedded("a.md", "two")])
    assert await texts_in(await chunks_of(uri)) == {"a.md": ["two"], "b.md": ["kept"]}


async def test_whoever_comes_between_looking_and_storing_is_seen(uri: str) -> None:
    store = await LanceStore.open(uri, space=SPACE)
    await store.replace([embedded("a.md", "one")])
    table, looks = await compacted(uri), 0

    async def between() -> None:
        nonlocal looks
        looks += 1
        if looks < 3:
            other = await LanceStore.open(uri, space=SPACE)
            await other.replace([embedded("a.md", *["longer"] * (5 * looks)), embedded(f"{looks}", "word")])

    told: list[str | None] = []

    def about(before: str | None) -> str:
        told.append(before)
        return "{}"

    late = chunk_rows([embedded("a.md", "late")], SPACE)
    await put(late, [("notes", "a.md")], about, lambda: to_write(uri), between)
    assert looks == 3
    batches = ['{"notes": ["a.md"]}', '{"notes": ["a.md", "1"]}', '{"notes": ["a.md", "2"]}']
    assert told == batches, "what the batch is about is told anew of what stands there by then"
    assert await texts_in(table) == {"1": ["word"], "2": ["word"], "a.md": ["late"]}


async def test_who_never_has_a_turn_gives_up_and_says_so(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_replacing, "ATTEMPTS", 3)
    store = await LanceStore.open(uri, space=SPACE)
    await store.replace([embedded("a.md", "one")])

    async def always() -> None:
        await store.replace([embedded("b.md", "word")])

    late = chunk_rows([embedded("a.md", "late")], SPACE)
    with pytest.raises(StoreUnavailable, match="others have stored documents in between 3 times"):
        await put(late, [("notes", "a.md")], lambda _: "{}", lambda: to_write(uri), always)
    assert (await texts_in(await chunks_of(uri)))["a.md"] == ["one"]


@pytest.mark.parametrize("indexed", [False, True])
async def test_stores_that_write_the_same_documents_at_once_leave_one_whole_copy(
    uri: str, *, indexed: bool
) -> None:
    first = await LanceStore.open(uri, space=SPACE)
    await first.replace([embedded(key, *edition("first", 0, 3)) for key in numbered(10)])
    table = await compacted(uri) if indexed else await chunks_of(uri)

    async def write(number: int) -> None:
        store = await LanceStore.open(uri, space=SPACE)
        for turn in range(5):
            sizes = [(number * 7 + turn * 3 + n) % 9 + 1 for n in range(15)]
            await store.replace(
                [
                    embedded(key, *edition(f"w{number}", turn, size))
                    for key, size in zip(numbered(15), sizes, strict=True)
                ]
            )

    async with anyio.create_task_group() as tasks:
        for number in range(4):
            tasks.start_soon(write, number)
    texts = await texts_in(table)
    assert sorted(texts) == numbered(15)
    assert all(is_whole(found) for found in texts.values()), texts
    assert len({found[0].split()[0] for found in texts.values()}) == 1, "the last batch counts as a whole"
    ids = await ids_in(table)
    assert len(ids) == len(set(ids))


WRITE = """
import asyncio, sys
from pipeline.stores.lance import LanceStore
from tests.contract.store_contract import SPACE, embedded, numbered
from tests.contract.test_lance_replacement import edition

async def main():
    import lancedb
    uri, me = sys.argv[1], int(sys.argv[2])
    store = await LanceStore.open(uri, space=SPACE)
    print("ready", flush=True)
    sys.stdin.readline()
    for turn in range(4):
        keys = [*numbered(12), *(f"new {turn}.{n}" for n in range(5))]
        await store.replace([
            embedded(key, *edition(f"w{me}", turn, (me * 5 + turn + n) % 7 + 1)) for n, key in enumerate(keys)
        ])

asyncio.run(main())
"""


@pytest.mark.parametrize("indexed", [False, True])
def test_processes_that_write_the_same_documents_without_a_lease_leave_one_whole_copy(
    uri: str, *, indexed: bool
) -> None:
    async def begin() -> None:
        store = await LanceStore.open(uri, space=SPACE)
        await store.replace([embedded(key, *edition("first", 0, 3)) for key in numbered(10)])
        if indexed:
            await compacted(uri)

    anyio.run(begin)
    with ExitStack() as stack:
        writers = [
            stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-c", WRITE, uri, f"{number}"],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                )
            )
            for number in range(3)
        ]
        for writer in writers:
            assert writer.stdout
            assert writer.stdout.readline() == "ready\n"
        for writer in writers:
            assert writer.stdin
            writer.stdin.write("go\n")
            writer.stdin.flush()
        errors = [writer.communicate(timeout=120)[1] for writer in writers]
        assert [writer.returncode for writer in writers] == [0, 0, 0], errors

    async def check() -> None:
        table = await chunks_of(uri)
        texts = await texts_in(table)
        assert sorted(texts) == sorted([*numbered(12), *(f"new {t}.{n}" for t in range(4) for n in range(5))])
        assert all(is_whole(found) for found in texts.values()), texts
        ids = await ids_in(table)
        assert len(ids) == len(set(ids))
        [turn] = (await table.query().where(IS_TURN).to_arrow())["start"].to_pylist()
        assert turn == 1 + 3 * 4, "each of the commits had its turn"

    anyio.run(check)


async def test_a_reader_sees_whole_documents_while_upkeep_and_two_writers_are_at_it(uri: str) -> None:
    first = await LanceStore.open(uri, space=SPACE)
    await first.replace([embedded(key, *edition("first", 0, 4)) for key in numbered(40)])
    table, polls, writing = await compacted(uri), 0, 2

    async def write(number: int) -> None:
        nonlocal writing
        store = await LanceStore.open(uri, space=SPACE)
        for turn in range(10):
            sizes = [(number + turn * 5 + n) % 6 + 1 for n in range(40)]
            await store.replace(
                [
                    embedded(key, *edition(f"w{number}", turn, size))
                    for key, size in zip(numbered(40), sizes, strict=True)
                ]
            )
        writing -= 1

    async def poll() -> None:
        nonlocal polls
        while writing:
            texts = await texts_in(table)
            assert sorted(texts) == numbered(40)
            assert all(is_whole(found) for found in texts.values()), texts
            polls += 1

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(poll)
        tasks.start_soon(write, 0)
        tasks.start_soon(write, 1)
        while writing:
            await sweep(await chunks_of(uri))
            await anyio.sleep(0.1)
    assert polls > 20


async def make_form_1(uri: str) -> None:
    """The tables as an earlier Docweave made them: the form in their schemas is 1, and there is no turn."""
    documents = [embedded("a.md", "one word", "two"), embedded("b.md", "three")]
    database = await lancedb.connect_async(uri)
    for name, rows in (
        ("chunks", chunk_rows(documents, SPACE)),
        ("documents", document_rows([document.prepared for document in documents], SPACE)),
    ):
        form_1 = rows.schema.with_metadata({**rows.schema.metadata, VERSION_KEY: b"1"})
        await (await database.create_table(name, schema=form_1)).add(rows)


async def test_a_table_of_form_1_is_read_as_it_is_and_gets_its_turn_with_the_first_write(uri: str) -> None:
    await make_form_1(uri)
    table = await chunks_of(uri)
    assert (await table.schema()).metadata[VERSION_KEY] == b"1"
    before = await table.version()
    store = await LanceStore.open(uri, space=SPACE)
    assert [(key, text) for _, key, _, text in await places(store)] == [
        ("a.md", "one word"),
        ("a.md", "two"),
        ("b.md", "three"),
    ]
    assert await store.counts() == {"notes": (2, 3)}
    assert await table.version() == before

    async with anyio.create_task_group() as tasks:
        for key in ("a.md", "c.md", "d.md"):
            opened = await LanceStore.open(uri, space=SPACE)
            tasks.start_soon(opened.replace, [embedded(key, "new word")])
    assert await texts_in(table) == {
        "a.md": ["new word"],
        "b.md": ["three"],
        "c.md": ["new word"],
        "d.md": ["new word"],
    }
    assert await ids_in(table, IS_TURN) == [TURN]
    assert (await table.query().where(IS_TURN).to_arrow())["start"].to_pylist() == [3]
    assert len(await store.matching("word", limit=10, where=EVERYTHING)) == 3


@pytest.mark.parametrize("turns", [0, 2])
async def test_a_turn_that_somebody_removed_or_doubled_is_mended(uri: str, turns: int) -> None:
    store = await LanceStore.open(uri, space=SPACE)
    await store.replace([embedded("a.md", "one", "two")])
    table = await chunks_of(uri)
    await table.delete(IS_TURN)
    bare = _replacing.first_turn(await table.schema())
    for _ in range(turns):
        await table.add(bare, on_bad_vectors="null")
    await store.replace([embedded("a.md", "three")])
    assert await texts_in(table) == {"a.md": ["three"]}
    assert await ids_in(table, IS_TURN) == [TURN]


KEYS = st.sampled_from(["a", "b", "c#1", "it's"])
STEPS = st.one_of(
    st.tuples(st.just("replace"), st.dictionaries(KEYS, st.integers(0, 5), min_size=1)),
    st.tuples(st.just("remove"), st.lists(KEYS, max_size=3)),
    st.tuples(st.just("upkeep"), st.none()),
)


@settings(max_examples=10, deadline=None)
@given(steps=st.lists(STEPS, min_size=3, max_size=10))
def test_whatever_is_done_the_store_holds_what_a_store_in_memory_holds(
    steps: list[tuple[str, dict[str, int] | list[str] | None]],
) -> None:
    async def run(uri: str) -> None:
        store, memory = await LanceStore.open(uri, space=SPACE), MemoryStore(SPACE)
        await store.remove("notes", ["makes the tables"])
        for number, (_, what) in enumerate(steps):
            if isinstance(what, dict):
                batch = [embedded(key, *edition("w", number, size)) for key, size in what.items()]
                await store.replace(batch)
                await memory.replace(batch)
            elif isinstance(what, list):
                await store.remove("notes", what)
                await memory.remove("notes", what)
            else:
                await compacted(uri)
            assert await places(store) == await places(memory)
            assert await store.counts() == await memory.counts()
            assert await store.marks("notes") == await memory.marks("notes")

    with tempfile.TemporaryDirectory() as folder:
        anyio.run(run, folder)
