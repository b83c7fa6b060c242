"""Tables of another space: refused, built anew beside the live ones, and exchanged."""

from __future__ import annotations

from pathlib import Path

import anyio
import lancedb
import pyarrow as pa
import pytest

from pipeline.errors import SpaceMismatch, StoreError, StoreRefused, StoreUnavailable
from pipeline.records import Column, EmbeddingSpace
from pipeline.stores import _core
from pipeline.stores._generations import Generations
from pipeline.stores._place import Place
from pipeline.stores.lance import LanceStore
from pipeline.stores.lance_maintain import maintain
from pipeline.stores.lance_reader import LanceReader
from pipeline.stores.lance_rollback import roll_back
from tests.contract.store_contract import EVERYTHING, SPACE, codes, embedded, numbered, places

OTHER = EmbeddingSpace(provider="test", model="another", dimensions=8)
THIRD = EmbeddingSpace(provider="test", model="a third", dimensions=16)


@pytest.fixture
def uri(tmp_path: Path) -> str:
    return str(tmp_path / "db")


async def tables_in(uri: str) -> set[str]:
    return set((await (await lancedb.connect_async(uri)).list_tables()).tables)


async def test_tables_of_another_space_are_refused_with_three_ways_out(uri: str) -> None:
    await (await LanceStore.open(uri, space=SPACE)).replace([embedded("a.md", "word")])
    with pytest.raises(SpaceMismatch) as caught:
        await LanceStore.open(uri, space=OTHER)
    message = str(caught.value)
    assert str(SPACE) in message
    assert str(OTHER) in message
    assert all(way in message for way in ("Go back to the model", "another store.uri", "ingest --rebuild"))


async def test_tables_of_a_later_form_or_of_somebody_else_are_refused(uri: str) -> None:
    database = await lancedb.connect_async(uri)
    schema = pa.schema([("id", pa.string())])
    await database.create_table("chunks", schema=schema)
    with pytest.raises(StoreRefused, match="not made by Docweave"):
        await LanceStore.open(uri, space=SPACE)
    later = schema.with_metadata({b"docweave.schema": b"4", b"docweave.space": b"{}"})
    await database.create_table("chunks", schema=later, mode="overwrite")
    for refused in (LanceStore.open(uri, space=SPACE), (await LanceReader.open(uri)).space()):
        with pytest.raises(StoreRefused, match="has form 4, and this Docweave knows forms up to 3"):
            await refused


async def test_a_rebuild_is_searched_by_nobody_until_it_is_published(uri: str) -> None:
    live = await LanceStore.open(uri, space=SPACE)
    reader = await LanceReader.open(uri)
    await live.replace([embedded("old.md", "old word", "old tail")])
    staged = await LanceStore.open(uri, space=OTHER, rebuild=True)
    assert await staged.marks("notes") == {}
    new = embedded("new.md", "new word", vectors=codes(1, dimensions=8))
    await staged.replace([new])
    assert set(await staged.marks("notes")) == {"new.md"}
    assert await places(reader) == await places(live) != []
    assert await reader.space() == SPACE
    assert len(await reader.matching("new", limit=5, where=EVERYTHING)) == 0

    await staged.publish()
    assert await reader.space() == OTHER
    assert await reader.counts() == {"notes": (1, 1)}
    assert [hit.key for hit in await reader.nearest(new.vectors[0][0], limit=5, where=EVERYTHING)] == [
        "new.md"
    ]
    assert [hit.text for hit in await reader.matching("words", limit=5, where=EVERYTHING)] == ["new word"]
    assert await staged.states("notes", ["new.md"]) == {"new.md": new.prepared.state}
    await staged.replace([embedded("later.md", "later word", vectors=codes(1, dimensions=8))])
    assert await reader.counts() == {"notes": (2, 2)}
    assert (await (await LanceStore.open(uri, space=OTHER)).vectors(new.prepared.state.group_keys)).keys()


async def test_a_large_rebuild_is_published_whole(uri: str) -> None:
    await (await LanceStore.open(uri, space=OTHER)).stage()
    staged = await LanceStore.open(uri, space=SPACE, rebuild=True)
    for number in range(5):
        await staged.replace([embedded(f"{number}/{key}", *["word"] * 10) for key in numbered(200)])
    before, marks = await places(staged), await staged.marks("notes")
    await staged.publish()
    assert await places(staged) == before
    assert await staged.marks("notes") == marks
    assert await staged.counts() == {"notes": (1_000, 10_000)}


async def test_a_rebuild_is_taken_up_again_and_one_of_yet_another_space_is_not(uri: str) -> None:
    await (await LanceStore.open(uri, space=SPACE)).replace([embedded("old.md", "word")])
    first = await LanceStore.open(uri, space=OTHER, rebuild=True)
    await first.replace([embedded("a.md", "word", vectors=codes(1, dimensions=8))])
    assert set(await (await LanceStore.open(uri, space=OTHER, rebuild=True)).marks("notes")) == {"a.md"}
    third = await LanceStore.open(uri, space=THIRD, rebuild=True)
    assert await third.marks("notes") == {}
    assert await third.space() == THIRD


async def test_a_rebuild_to_the_same_space_is_staged_too_and_pays_for_nothing_twice(uri: str) -> None:
    live = await LanceStore.open(uri, space=SPACE)
    reader = await LanceReader.open(uri)
    old = embedded("a.md", "word", "tail")
    await live.replace([old])
    staged = await LanceStore.open(uri, space=SPACE, rebuild=True, journal_bytes=0)
    assert await staged.marks("notes") == {}
    assert set(await staged.vectors(old.prepared.state.group_keys)) == set(old.prepared.state.group_keys)
    await staged.replace([embedded("a.md", "word")])
    assert await reader.counts() == {"notes": (1, 2)}
    await staged.publish()
    assert await reader.counts() == {"notes": (1, 1)}


async def test_where_nothing_is_live_a_rebuild_writes_the_live_tables(uri: str) -> None:
    store = await LanceStore.open(uri, space=SPACE, rebuild=True)
    assert await store.stage() == 0
    await store.replace([embedded("a.md", "word")])
    await store.publish()
    assert await tables_in(uri) == {"chunks", "documents"}
    assert await (await LanceReader.open(uri)).counts() == {"notes": (1, 1)}


async def published(uri: str, space: EmbeddingSpace, key: str) -> LanceStore:
    """A rebuild to this space that holds one document."""
    store = await LanceStore.open(uri, space=space, rebuild=True)
    await store.replace([embedded(key, "word", vectors=codes(1, dimensions=space.dimensions))])
    await store.publish()
    return store


async def test_one_goes_back_and_forth_between_the_last_two_and_the_query_side_follows(uri: str) -> None:
    await published(uri, SPACE, "first.md")
    reader = await LanceReader.open(uri)
    await published(uri, OTHER, "second.md")
    for key, space in [("first.md", SPACE), ("second.md", OTHER), ("first.md", SPACE)]:
        await roll_back(uri, tell=print)
        assert await reader.space() == space
        assert [hit.key for hit in await reader.matching("word", limit=5, where=EVERYTHING)] == [key]
    assert [(g.role, g.number, g.space) for g in await reader.generations()] == [
        ("live", 0, SPACE),
        ("previous", 1, OTHER),
    ]
    store = await LanceStore.open(uri, space=SPACE)
    await store.replace([embedded("later.md", "word")])
    assert await reader.counts() == {"notes": (2, 2)}


async def test_there_is_nothing_to_go_back_to_before_the_first_rebuild(uri: str) -> None:
    await (await LanceStore.open(uri, space=SPACE)).replace([embedded("a.md", "word")])
    with pytest.raises(StoreRefused, match="keeps no tables from before a rebuild"):
        await roll_back(uri, tell=print)


async def test_the_tables_before_the_last_go_when_the_next_rebuild_is_published(uri: str) -> None:
    for space, key in [(SPACE, "a.md"), (OTHER, "b.md"), (THIRD, "c.md"), (SPACE, "d.md")]:
        await published(uri, space, key)
    assert await tables_in(uri) == {"live", "chunks_2", "documents_2", "chunks_3", "documents_3"}
    await roll_back(uri, tell=print)
    assert await (await LanceReader.open(uri)).space() == THIRD


async def test_tables_that_somebody_who_was_killed_has_not_dropped_are_dropped_by_maintain(uri: str) -> None:
    await (await LanceStore.open(uri, space=SPACE)).replace([embedded("a.md", "word")])
    rebuild = await LanceStore.open(uri, space=SPACE, rebuild=True)
    await rebuild.replace([embedded("a.md", "word")])
    await rebuild.publish()
    database = await lancedb.connect_async(uri)
    for name in ("chunks_next", "documents_next"):  # of a rebuild by an earlier version
        await database.create_table(name, schema=pa.schema([("id", pa.string())]))
    await Generations(rebuild._place, rebuild._opened.connection).forget_previous()  # and is killed here
    await maintain(uri, tell=print, dry_run=True)
    assert {"chunks", "documents", "chunks_next", "documents_next"} < await tables_in(uri)
    await maintain(uri, tell=print)
    assert await tables_in(uri) == {"chunks_1", "documents_1", "live", "leases"}


async def test_no_number_is_given_twice(uri: str) -> None:
    await published(uri, SPACE, "a.md")
    await published(uri, OTHER, "b.md")
    await roll_back(uri, tell=print)
    await Generations(Place.at(uri, {}), await _core.connect(uri, {})).forget_previous()
    staged = await LanceStore.open(uri, space=THIRD, rebuild=True)
    assert await staged.stage() == 2
    assert await tables_in(uri) - {"leases"} == {"live", "chunks", "documents", "chunks_2", "documents_2"}


async def test_a_rebuild_in_several_steps_joins_in_and_goes_on_after_it_was_published(uri: str) -> None:
    live = await LanceStore.open(uri, space=SPACE)
    await live.replace([embedded("old.md", "word")])
    first, second = [await LanceStore.open(uri, space=SPACE, rebuild=True) for _ in range(2)]
    generation = await first.stage()
    assert await second.stage() == generation
    await first.replace([embedded("a.md", "word")])
    await first.publish()
    joined = await LanceStore.open(uri, space=SPACE, rebuild=True, generation=generation)
    assert set(await joined.marks("notes")) == {"a.md"}
    await joined.replace([embedded("b.md", "word")])
    await joined.publish()
    reader = await LanceReader.open(uri)
    assert await reader.counts() == {"notes": (2, 2)}
    assert [g.number for g in await reader.generations()] == [generation, 0]


async def test_a_rebuild_whose_place_another_has_taken_writes_no_more(uri: str) -> None:
    await (await LanceStore.open(uri, space=SPACE)).replace([embedded("old.md", "word")])
    first = await LanceStore.open(uri, space=OTHER, rebuild=True)
    generation = await first.stage()
    await (await LanceStore.open(uri, space=THIRD, rebuild=True)).stage()
    with pytest.raises(StoreError):
        await first.replace([embedded("a.md", "word", vectors=codes(1, dimensions=8))])
    with pytest.raises(StoreRefused, match="another rebuild has taken this one's place"):
        await LanceStore.open(uri, space=OTHER, rebuild=True, generation=generation)


async def test_what_a_switch_would_lose_is_counted_by_source(uri: str) -> None:
    live = await LanceStore.open(uri, space=SPACE)
    await live.replace([embedded(key, "word") for key in ("a.md", "b.md", "c.md")])
    await live.replace([embedded("x.md", "word", source="wiki")])
    assert await live.lost() == {"notes": (0, 3), "wiki": (0, 1)}
    staged = await LanceStore.open(uri, space=SPACE, rebuild=True)
    await staged.replace([embedded(key, "word") for key in ("b.md", "new.md")])
    assert await staged.lost() == {"notes": (2, 3), "wiki": (1, 1)}


async def test_a_question_sees_the_same_rows_in_all_its_parts(uri: str) -> None:
    store = await LanceStore.open(uri, space=SPACE)
    await store.replace([embedded("a.md", "old word")])
    reader = await LanceReader.open(uri)
    now = await reader.snapshot()
    await store.replace([embedded("a.md", "new word"), embedded("b.md", "word")])
    await published(uri, OTHER, "c.md")
    for view, texts in ((now, ["old word"]), (reader, ["word"])):
        assert [hit.text for hit in await view.matching("word", limit=5, where=EVERYTHING)] == texts
    assert await now.space() == SPACE


async def test_no_search_fails_or_finds_too_little_while_tables_are_exchanged(uri: str) -> None:
    await published(uri, SPACE, "a.md")
    reader = await LanceReader.open(uri)
    found: list[int] = []

    async def ask() -> None:
        while True:
            found.append(len(await reader.matching("word", limit=5, where=EVERYTHING)))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ask)
        for turn in range(6):
            await published(uri, (SPACE, OTHER)[turn % 2], f"{turn}.md")
        tasks.cancel_scope.cancel()
    assert len(found) > 6
    assert set(found) == {1}


async def test_a_writer_whose_tables_were_rebuilt_under_it_writes_no_more(uri: str) -> None:
    writer = await LanceStore.open(uri, space=SPACE)
    await writer.replace([embedded("old.md", "old word")])
    await (await LanceStore.open(uri, space=THIRD, rebuild=True)).publish()
    document = embedded("a.md", "word")
    for write in (
        writer.replace([document]),
        writer.touch([document.prepared.state]),
        writer.remove("n", ["a"]),
    ):
        with pytest.raises(StoreUnavailable, match="were rebuilt by somebody else"):
            await write
    assert await (await LanceReader.open(uri)).counts() == {}
    await roll_back(uri, tell=print)
    assert await (await LanceReader.open(uri)).counts() == {"notes": (1, 1)}


async def test_a_rebuild_keeps_the_columns_that_other_settings_declared(uri: str) -> None:
    team, year = (
        Column(name="team", type="text", path=("team",)),
        Column(name="year", type="integer", path=("year",)),
    )
    await (await LanceStore.open(uri, space=SPACE, columns=[team])).replace([embedded("a.md", "word")])
    staged = await LanceStore.open(uri, space=SPACE, rebuild=True, columns=[year])
    await staged.replace([embedded("a.md", "word")])
    await staged.publish()
    assert {column.name for column in await (await LanceReader.open(uri)).columns()} == {"team", "year"}


async def test_a_switch_is_refused_by_what_it_would_lose_and_drops_sources_that_nobody_names(
    uri: str,
) -> None:
    await published(uri, SPACE, "a.md")
    staged = await LanceStore.open(uri, space=OTHER, rebuild=True)
    new = embedded("b.md", "word", vectors=codes(1, dimensions=8))
    forgotten = embedded("f.md", "word", source="forgotten", vectors=codes(1, dimensions=8))
    await staged.replace([new, forgotten])
    told: list[object] = []

    def refuse(lost: object) -> None:
        told.append(lost)
        raise StoreRefused("no")

    reader = await LanceReader.open(uri)
    with pytest.raises(StoreRefused, match="no"):
        await staged.publish(may=refuse)
    assert told == [{"notes": (1, 1)}]
    assert await reader.space() == SPACE
    await staged.publish(sources=["notes"])
    assert await reader.counts() == {"notes": (1, 1)}
    assert await reader.space() == OTHER
