"""What `docweave maintain` does for the tables of a LanceDB database, and what it leaves alone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import anyio
import anyio.to_thread
import lancedb
import numpy as np
import pytest

from pipeline.errors import StoreBusy
from pipeline.records import EmbeddingSpace, Filter, Vectors
from pipeline.stores import _lease, _maintenance, _upkeep
from pipeline.stores._maintenance import MOST_SEGMENTS, SPARE_FRAGMENTS
from pipeline.stores.lance import LanceStore
from pipeline.stores.lance_maintain import maintain
from pipeline.stores.lance_reader import LanceReader
from pipeline.upkeep import Policy, Tended
from tests.contract.store_contract import (
    EVERYTHING,
    SPACE,
    cosines,
    drawn,
    embedded,
    numbered,
    places,
    spent_at,
)

WIDE = EmbeddingSpace(provider="test", model="wide", dimensions=64)
BITS = EmbeddingSpace(provider="test", model="bits", dimensions=64, encoding="binary")
NOW = timedelta(milliseconds=1)
INDEXED = Policy(keep_versions=NOW, vector_rows=1_000, lookup_rows=1_000)
DOCUMENTS, CHUNKS = 60, 40
"""Enough rows for the indexes of `INDEXED`."""


@pytest.fixture
def uri(tmp_path: Path) -> str:
    return str(tmp_path / "db")


async def maintained(uri: str, policy: Policy = INDEXED, *, dry_run: bool = False) -> dict[str, Tended]:
    told: list[str] = []
    tended = await maintain(uri, policy=policy, tell=told.append, dry_run=dry_run)
    return {one.table: one for one in tended}


async def table_of(uri: str, name: str = "chunks") -> lancedb.AsyncTable:
    return await (await lancedb.connect_async(uri, read_consistency_interval=timedelta(0))).open_table(name)


async def versions_of(table: lancedb.AsyncTable) -> list[int]:
    return [version["version"] for version in await table.list_versions()]  # type: ignore[no-untyped-call]


async def indexed(uri: str) -> dict[str, tuple[str, int, int]]:
    """Kind, segments and uncovered rows of each index of the chunks."""
    indexes = await (await table_of(uri)).list_indices()
    return {
        index.columns[0]: (str(index.index_type), index.num_segments or 0, index.num_unindexed_rows or 0)
        for index in indexes
    }


def vectors_of(key: str, space: EmbeddingSpace, rows: int = CHUNKS) -> Vectors:
    """Random, and on one side: a few directions hold most of it, as with embeddings."""
    if space.encoding == "binary":
        return drawn(space, rows, seed=key)
    random = np.random.default_rng(list(key.encode()))
    basis = np.random.default_rng(7).normal(size=(12, space.dimensions))
    floats = random.normal(size=(rows, 12)) @ basis + 0.4 * random.normal(size=(rows, space.dimensions))
    return np.clip(floats * 14, -128, 127).astype(np.int8)


async def filled(uri: str, space: EmbeddingSpace = WIDE, keys: Sequence[str] = ()) -> LanceStore:
    store = await LanceStore.open(uri, space=space)
    texts = [f"word {n}" for n in range(CHUNKS)]
    await store.replace(
        [
            embedded(key, *texts, source=f"s{n % 3}", vectors=vectors_of(key, space))
            for n, key in enumerate(keys or numbered(DOCUMENTS))
        ]
    )
    return store


def files(uri: str) -> dict[Path, int]:
    """Every file, and when it was written."""
    root = Path(uri)
    return {path.relative_to(root): path.stat().st_mtime_ns for path in root.rglob("*") if path.is_file()}


async def shortened(store: LanceStore, key: str) -> None:
    """A document of `filled`, replaced by one with a single chunk."""
    await store.replace([embedded(key, "word", source=f"s{int(key) % 3}", vectors=vectors_of(key, WIDE, 1))])


async def found(uri: str, space: EmbeddingSpace = WIDE) -> list[list[tuple[str, str, int, float]]]:
    """What some questions find."""
    reader = await LanceReader.open(uri)
    out = []
    for question in vectors_of("question", space, 5):
        for where in (EVERYTHING, Filter(sources=("s1",))):
            near = await reader.nearest(question, limit=10, where=where)
            worded = await reader.matching("word 7", limit=9_999, where=where)
            out.append([(hit.source, hit.key, hit.ordinal, round(hit.score, 5)) for hit in near])
            # Not their scores: BM25 counts the rows that are indexed.
            out.append(sorted((hit.source, hit.key, hit.ordinal, 0.0) for hit in worded))
    return out


async def test_a_database_that_holds_nothing_needs_nothing(uri: str) -> None:
    assert await maintained(uri) == {}
    assert await maintained(uri, dry_run=True) == {}
    assert files(uri) == {}


async def test_maintaining_twice_does_nothing_the_second_time(uri: str) -> None:
    store = await filled(uri)
    for key in numbered(SPARE_FRAGMENTS + 1):
        await shortened(store, key)
    await store.spent(spent_at(datetime(2026, 5, 1, tzinfo=UTC)))
    kept = replace(INDEXED, keep_versions=timedelta(hours=1))
    due = await maintained(uri, kept, dry_run=True)
    first = await maintained(uri, kept)
    assert first.keys() == due.keys() == {"chunks", "documents", "spending"}
    assert first["chunks"].swept == due["chunks"].swept > 0
    assert first["chunks"].compacted
    assert first["documents"].compacted
    assert set(first["chunks"].indexed) == {"source", "key", "group_key", "vector"}
    assert first["spending"].idle
    versions = [await (await table_of(uri, name)).version() for name in ("chunks", "documents")]
    second = await maintained(uri, kept)
    assert [one.table for one in second.values() if not one.idle] == []
    assert all(one.idle for one in (await maintained(uri, kept, dry_run=True)).values())
    assert versions == [await (await table_of(uri, name)).version() for name in ("chunks", "documents")]


async def test_a_dry_run_changes_nothing(uri: str) -> None:
    await filled(uri)
    before = files(uri)
    due = await maintained(uri, dry_run=True)
    assert due["chunks"].indexed == ("source", "key", "group_key", "vector")
    assert files(uri) == before


async def test_searches_find_the_same_before_and_after(uri: str) -> None:
    store = await filled(uri)
    await store.replace([embedded("001", "only one", source="s1", vectors=vectors_of("x", WIDE, 1))])
    await store.remove("s0", ["003", "006"])
    before = await found(uri)
    done = await maintained(uri)
    assert "vector" in done["chunks"].indexed
    assert await found(uri) == before


async def test_old_versions_go_after_the_stated_time_and_not_before(uri: str) -> None:
    store = await filled(uri)
    for key in numbered(3):
        await shortened(store, key)
    none = replace(INDEXED, vector_rows=None, lookup_rows=10**9)
    there = len(await versions_of(await table_of(uri)))
    kept = await maintained(uri, replace(none, keep_versions=timedelta(hours=1)))
    assert kept["chunks"].versions == 0
    assert len(await versions_of(await table_of(uri))) >= there
    gone = await maintained(uri, none)
    assert gone["chunks"].versions >= there - 1
    assert len(await versions_of(await table_of(uri))) <= 2
    assert (gone["chunks"].bytes_after or 0) < (gone["chunks"].bytes_before or 0)


async def test_a_tagged_version_stays_readable_and_what_came_after_it_and_all_else_is_done(
    uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_maintenance, "PROMPTLY", timedelta(seconds=1))
    store = await filled(uri)
    await anyio.sleep(1.5)
    await shortened(store, "001")
    table = await table_of(uri)
    tagged = await table.version()
    await shortened(store, "000")
    await table.tags.create("release", tagged)
    before = await versions_of(table)
    done = await maintained(uri)
    assert "'release'" in done["chunks"].kept
    left = await versions_of(table)
    assert tagged in left
    assert before[0] not in left, "what is older than the tagged version goes"
    assert (await indexed(uri))["vector"][2] == 0, "indexes are made and extended all the same"
    await table.checkout("release")
    assert await table.count_rows("key = '000'") == CHUNKS
    assert await table.count_rows("key IS NOT NULL") == (DOCUMENTS - 1) * CHUNKS + 1
    table = await table_of(uri)
    await table.tags.delete("release")
    assert (await maintained(uri))["chunks"].kept == ""
    assert tagged not in await versions_of(table)


async def test_upkeep_after_a_first_ingest_indexes_its_few_files_and_compacts_them_once_they_are_many(
    uri: str,
) -> None:
    await filled(uri)
    store = await filled(uri, keys=["more"])
    before, table = await found(uri), await table_of(uri)
    files = (await table.stats())["fragment_stats"]["num_fragments"]
    await store.upkeep()
    assert {name: uncovered for name, (_, _, uncovered) in (await indexed(uri)).items()} == {
        "text": 0,
        "headings": 0,
        "id": 0,
    }
    assert (await table.stats())["fragment_stats"]["num_fragments"] == files
    assert await found(uri) == before
    for key in numbered(_upkeep.SMALL_FRAGMENTS):
        await filled(uri, keys=[key])
    await store.upkeep()
    assert (await table.stats())["fragment_stats"]["num_fragments"] <= files
    assert {uncovered for _, _, uncovered in (await indexed(uri)).values()} == {0}


async def test_an_ingest_goes_on_and_extends_the_indexes_where_an_old_version_is_tagged(uri: str) -> None:
    store = await LanceStore.open(uri, space=SPACE, policy=Policy(keep_versions=NOW))
    await store.replace([embedded("first", "word")])
    table = await table_of(uri)
    await table.tags.create("release", await table.version())
    for key in numbered(_upkeep.SMALL_FRAGMENTS):
        await store.replace([embedded(key, "word")])
    await store.upkeep()
    assert (await indexed(uri))["text"][2] == 0
    await table.checkout("release")
    assert await table.count_rows("key IS NOT NULL") == 1


async def test_from_its_size_on_the_index_of_vectors_finds_what_an_exact_search_finds(uri: str) -> None:
    keys = numbered(DOCUMENTS)
    store = await filled(uri, keys=keys)
    await maintained(uri)
    assert (await indexed(uri))["vector"] == ("IvfRq", 1, 0)
    stored = {key: vectors_of(key, WIDE) for key in keys}
    flat = np.concatenate([stored[key] for key in keys])
    hits = total = 0
    for question in vectors_of("questions", WIDE, 40):
        scores = cosines(WIDE, flat, question)
        best = np.sort(scores)[-10]
        near = await store.nearest(question, limit=10, where=EVERYTHING)
        assert len(near) == 10
        exact = [cosines(WIDE, stored[hit.key][hit.ordinal : hit.ordinal + 1], question)[0] for hit in near]
        np.testing.assert_allclose([hit.score for hit in near], exact, atol=2e-3)
        assert [hit.score for hit in near] == sorted((hit.score for hit in near), reverse=True)
        hits += sum(score >= best - 1e-9 for score in exact)
        total += 10
    assert hits / total >= 0.98


async def test_a_filtered_search_of_an_indexed_table_finds_all_that_match(uri: str) -> None:
    store = await filled(uri)
    await maintained(uri)
    await store.replace([embedded("few", *"abc", source="few", vectors=vectors_of("few", WIDE, 3))])
    for question in vectors_of("questions", WIDE, 5):
        few = await store.nearest(question, limit=10, where=Filter(sources=("few",)))
        assert {hit.ordinal for hit in few} == {0, 1, 2}
        many = await store.nearest(question, limit=5_000, where=Filter(sources=("s2",)))
        assert len(many) == CHUNKS * DOCUMENTS // 3
        assert len(await store.nearest(question, limit=5_000, where=EVERYTHING)) == CHUNKS * DOCUMENTS + 3


async def test_rows_that_are_newer_than_the_index_are_found_and_replaced_ones_are_not(uri: str) -> None:
    store = await filled(uri)
    await maintained(uri)
    question = vectors_of("new", WIDE, 1)[0]
    await store.replace([embedded("new", "fresh", vectors=question[None])])
    await store.replace([embedded("001", "fresh", source="s1", vectors=vectors_of("001", WIDE, 1))])
    [first] = await store.nearest(question, limit=1, where=EVERYTHING)
    assert (first.key, round(first.score, 4)) == ("new", 1.0)
    everything = await store.nearest(question, limit=5_000, where=EVERYTHING)
    assert len(everything) == CHUNKS * (DOCUMENTS - 1) + 2
    assert len([hit for hit in everything if hit.key == "001"]) == 1


async def test_the_index_of_vectors_is_made_anew_when_it_was_extended_often(uri: str) -> None:
    store = await filled(uri)
    await maintained(uri)
    for n in range(MOST_SEGMENTS):
        texts = [f"word {m}" for m in range(_maintenance.UNINDEXED_ROWS)]
        await store.replace(
            [embedded(f"more {n}", *texts, vectors=vectors_of(f"more {n}", WIDE, len(texts)))]
        )
        done = (await maintained(uri))["chunks"]
        assert done.extended >= _maintenance.UNINDEXED_ROWS
        assert ("vector" in done.indexed) == (n == MOST_SEGMENTS - 1)
    assert (await indexed(uri))["vector"] == ("IvfRq", 1, 0)


async def test_where_only_tombs_and_the_turn_are_new_upkeep_goes_on(uri: str) -> None:
    """Lance cannot extend an index of vectors by rows that have none, and then extends no other index."""
    store = await filled(uri)
    await maintained(uri)
    emptied = [embedded(key, source=f"s{int(key) % 3}") for key in numbered(DOCUMENTS)[::2]]
    await store.replace(emptied)
    done = (await maintained(uri))["chunks"]
    assert done.swept == CHUNKS * DOCUMENTS // 2
    assert not done.kept
    assert (await indexed(uri))["vector"][2] <= 1
    question = vectors_of("question", WIDE, 1)[0]
    assert len(await store.nearest(question, limit=5_000, where=EVERYTHING)) == CHUNKS * DOCUMENTS // 2
    assert (await maintained(uri, replace(INDEXED, keep_versions=timedelta(hours=1))))["chunks"].idle


async def test_bits_have_an_index_that_holds_them_as_they_are(uri: str) -> None:
    store = await filled(uri, BITS)
    questions = vectors_of("question", BITS, 5)
    before = [[hit.score for hit in await store.nearest(q, limit=10, where=EVERYTHING)] for q in questions]
    await maintained(uri)
    assert (await indexed(uri))["vector"] == ("IvfFlat", 1, 0)
    after = [[hit.score for hit in await store.nearest(q, limit=10, where=EVERYTHING)] for q in questions]
    assert after == before
    assert len(await store.nearest(questions[0], limit=5_000, where=EVERYTHING)) == CHUNKS * DOCUMENTS


async def test_settings_can_have_no_index_of_vectors(uri: str) -> None:
    await filled(uri)
    await maintained(uri)
    done = await maintained(uri, replace(INDEXED, vector_rows=None))
    assert done["chunks"].unindexed == ("vector",)
    assert "vector" not in await indexed(uri)


async def test_vectors_of_any_width_can_be_indexed(uri: str) -> None:
    odd = EmbeddingSpace(provider="test", model="odd", dimensions=60)
    await filled(uri, odd)
    before = await found(uri, odd)
    await maintained(uri)
    assert (await indexed(uri))["vector"][0] == "IvfSq"
    assert await found(uri, odd) == before


async def test_while_a_run_has_the_tables_maintain_waits_or_says_who_has_them(
    uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_lease, "ABANDONED_AFTER", 0.9)
    store = await filled(uri)
    told: list[str] = []
    async with store.lease("ingesting handbook"):
        with pytest.raises(StoreBusy, match="ingesting handbook"):
            await maintain(uri, tell=told.append, wait=0.1)
    assert any("ingesting handbook" in line for line in told)
    assert await maintain(uri, tell=told.append)


async def test_tables_that_a_rebuild_builds_are_left_alone_while_it_builds_them(
    uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_lease, "ABANDONED_AFTER", 0.9)
    await filled(uri)
    rebuild = await LanceStore.open(uri, space=SPACE, rebuild=True)
    await rebuild.replace([embedded("a", "word")])
    told: list[str] = []
    async with rebuild.lease("rebuilding"):
        done = await maintain(uri, policy=INDEXED, tell=told.append)
    assert {one.table for one in done} >= {"chunks", "documents"}
    assert not {one.table for one in done} & {"chunks_1", "documents_1"}
    assert any("of a rebuild are left alone" in line for line in told)
    assert {one.table for one in await maintain(uri, tell=told.append)} >= {"chunks_1", "documents_1"}


async def test_the_tables_from_before_a_rebuild_go_when_they_were_kept_for_long_enough(uri: str) -> None:
    await filled(uri)
    rebuild = await LanceStore.open(uri, space=SPACE, rebuild=True)
    await rebuild.replace([embedded("a", "word")])
    await rebuild.publish()
    assert not any(one.dropped for one in (await maintained(uri)).values())
    done = await maintained(uri, replace(INDEXED, keep_previous=timedelta()))
    assert {name for name, one in done.items() if one.dropped} == {"chunks", "documents"}
    assert {path.parts[0] for path in files(uri)} >= {"chunks_1.lance"}
    assert not {path.parts[0] for path in files(uri)} & {"chunks.lance", "documents.lance"}
    assert [key for _, key, _, _ in await places(rebuild)] == ["a"]


async def test_files_that_a_killed_writer_left_go_when_they_are_old_and_nobody_writes(uri: str) -> None:
    await filled(uri)
    await maintained(uri)
    await maintained(uri)
    data = Path(uri) / "chunks.lance" / "data"
    orphan = data / "0123456789abcdef0123456789abcdef.lance"
    orphan.write_bytes(next(iter(data.glob("*.lance"))).read_bytes())
    await maintained(uri)
    assert orphan.exists(), "it may still be committed"
    _age(Path(uri) / "chunks.lance", timedelta(hours=2))
    assert (await maintained(uri, dry_run=True))["chunks"].orphans == 1
    assert (await maintained(uri))["chunks"].orphans == 1
    assert not orphan.exists()
    near = await (await LanceReader.open(uri)).nearest(np.ones(64, np.int8), limit=9_999, where=EVERYTHING)
    assert len(near) == DOCUMENTS * CHUNKS


def _age(folder: Path, by: timedelta) -> None:
    then = time.time() - by.total_seconds()
    for path in folder.rglob("*"):
        os.utime(path, (then, then))


INTERRUPTED = """
import asyncio, sys
from datetime import timedelta
from pipeline.stores.lance_maintain import maintain
from pipeline.upkeep import Policy
policy = Policy(keep_versions=timedelta(milliseconds=1), vector_rows=1_000, lookup_rows=1_000)
asyncio.run(maintain(sys.argv[1], policy=policy, tell=lambda line: print(line, flush=True)))
"""


def killed(uri: str, after: float) -> None:
    """A process that maintains, killed so many seconds after it has begun."""
    with subprocess.Popen([sys.executable, "-c", INTERRUPTED, uri], stdout=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.readline()
        time.sleep(after)
        process.send_signal(signal.SIGKILL)


async def test_maintain_that_is_killed_leaves_all_that_can_be_searched(uri: str) -> None:
    store = await filled(uri)
    for key in numbered(SPARE_FRAGMENTS + 2):
        await shortened(store, key)
    before = await found(uri)
    await anyio.to_thread.run_sync(killed, uri, 0.1)
    assert await found(uri) == before
    done = await maintained(uri)
    assert not any(one.kept for one in done.values())
    assert await found(uri) == before
