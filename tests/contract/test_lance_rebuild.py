"""Tables of another space: refused, built anew beside the live ones, and exchanged."""

from __future__ import annotations

from pathlib import Path

import lancedb
import pyarrow as pa
import pytest

from pipeline.errors import SpaceMismatch, StoreRefused
from pipeline.records import EmbeddingSpace
from pipeline.stores._tables import Tables
from pipeline.stores.lance import LanceStore
from pipeline.stores.lance_reader import LanceReader
from tests.contract.store_contract import EVERYTHING, SPACE, codes, embedded, numbered, places

OTHER = EmbeddingSpace(provider="test", model="another", dimensions=8)
THIRD = EmbeddingSpace(provider="test", model="a third", dimensions=16)


class Killed(BaseException):
    """Stands for a process that ends here."""


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
    later = schema.with_metadata({b"docweave.schema": b"2", b"docweave.space": b"{}"})
    await database.create_table("chunks", schema=later, mode="overwrite")
    for refused in (LanceStore.open(uri, space=SPACE), (await LanceReader.open(uri)).space()):
        with pytest.raises(StoreRefused, match="has form 2, and this Docweave knows forms up to 1"):
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
    assert await tables_in(uri) == {"chunks", "documents"}
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
    await LanceStore.open(uri, space=OTHER)
    staged = await LanceStore.open(uri, space=SPACE, rebuild=True)
    for number in range(5):
        await staged.replace([embedded(f"{number}/{key}", *["word"] * 10) for key in numbered(200)])
    before, marks = await places(staged), await staged.marks("notes")
    await staged.publish()
    assert await places(staged) == before
    assert await staged.marks("notes") == marks
    assert await staged.counts() == {"notes": (1_000, 10_000)}


async def test_a_rebuild_is_taken_up_again_and_one_of_yet_another_space_is_not(uri: str) -> None:
    await LanceStore.open(uri, space=SPACE)
    first = await LanceStore.open(uri, space=OTHER, rebuild=True)
    await first.replace([embedded("a.md", "word", vectors=codes(1, dimensions=8))])
    assert set(await (await LanceStore.open(uri, space=OTHER, rebuild=True)).marks("notes")) == {"a.md"}
    third = await LanceStore.open(uri, space=THIRD, rebuild=True)
    assert await third.marks("notes") == {}
    assert await third.space() == THIRD


async def test_a_rebuild_of_the_same_space_is_an_ordinary_run(uri: str) -> None:
    live = await LanceStore.open(uri, space=SPACE)
    store = await LanceStore.open(uri, space=SPACE, rebuild=True)
    await store.replace([embedded("a.md", "word")])
    await store.publish()
    assert await places(live) == [("notes", "a.md", 0, "word")]
    assert await tables_in(uri) == {"chunks", "documents"}


@pytest.fixture
async def half_published(uri: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """A database whose rebuild stopped between the two tables."""
    live = await LanceStore.open(uri, space=SPACE)
    await live.replace([embedded("old.md", "old word")])
    staged = await LanceStore.open(uri, space=OTHER, rebuild=True)
    await staged.replace([embedded("new.md", "new word", vectors=codes(1, dimensions=8))])
    overwrite = Tables._overwrite

    async def stop_at_documents(self: Tables, name: str, table: lancedb.AsyncTable) -> None:
        if name == "documents":
            raise Killed
        await overwrite(self, name, table)

    with monkeypatch.context() as patch:
        patch.setattr(Tables, "_overwrite", stop_at_documents)
        with pytest.raises(Killed):
            await staged.publish()
    return uri


async def test_a_crash_while_publishing_is_reported_and_completed_by_the_next_rebuild(
    half_published: str,
) -> None:
    for space in (SPACE, OTHER):
        with pytest.raises(StoreRefused, match=r"a rebuild was stopped .* --rebuild"):
            await LanceStore.open(half_published, space=space)
    again = await LanceStore.open(half_published, space=OTHER, rebuild=True)
    assert set(await again.marks("notes")) == {"new.md"}
    await again.publish()
    reader = await LanceReader.open(half_published)
    assert await reader.counts() == {"notes": (1, 1)}
    assert [hit.key for hit in await reader.matching("word", limit=5, where=EVERYTHING)] == ["new.md"]
    assert await tables_in(half_published) == {"chunks", "documents"}


async def test_after_a_crash_while_publishing_one_can_still_go_back(half_published: str) -> None:
    back = await LanceStore.open(half_published, space=SPACE, rebuild=True)
    await back.replace([embedded("old.md", "old word")])
    await back.publish()
    assert await places(await LanceStore.open(half_published, space=SPACE)) == [
        ("notes", "old.md", 0, "old word")
    ]


async def test_a_crash_before_the_staged_tables_are_dropped_leaves_nothing_behind(
    uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await (await LanceStore.open(uri, space=SPACE)).replace([embedded("old.md", "old word")])
    staged = await LanceStore.open(uri, space=OTHER, rebuild=True)
    await staged.replace([embedded("new.md", "new word", vectors=codes(1, dimensions=8))])

    async def stop(self: Tables, name: str) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Tables, "drop", stop)
        with pytest.raises(Killed):
            await staged.publish()
    assert await tables_in(uri) == {"chunks", "documents", "chunks_next", "documents_next"}
    after = await LanceStore.open(uri, space=OTHER)
    assert set(await after.marks("notes")) == {"new.md"}
    await after.remove("notes", ["new.md"])
    assert await tables_in(uri) == {"chunks", "documents"}, "the first write clears away"


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
        with pytest.raises(SpaceMismatch, match="was rebuilt by somebody else"):
            await write
    assert await writer.counts() == {}
