"""A run that is stopped between its two commits leaves nothing that the next one does not mend."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from pipeline.records import Filter
from pipeline.stores import _writing
from pipeline.stores._tables import Tables
from pipeline.stores.lance import LanceStore
from tests.fakes import OracleEmbedder
from tests.world import World


class Stopped(Exception):
    """Stands for a process that ends here."""


@pytest.fixture
async def world(tmp_path: Path) -> World:
    embedder = OracleEmbedder()
    store = await LanceStore.open(str(tmp_path / "db"), space=embedder.space)
    world = World(store=store, embedder=embedder)
    world.items.items = {f"{n}.md": f"# Page {n}\n\nOnion {n}." for n in range(5)}
    async with store.lease("ingesting"):
        await world.ingest()
    return world


@asynccontextmanager
async def stopped(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    """Within it, nothing is committed to the documents table."""

    async def no_more(*_: Any, **__: Any) -> None:
        raise Stopped

    with monkeypatch.context() as patch:
        patch.setattr(_writing, "merge", no_more)
        with pytest.raises(Stopped):
            yield


async def next_run(world: World) -> None:
    async with world.store.lease("ingesting"):
        await world.ingest()


async def found(world: World, word: str) -> set[str]:
    return {hit.key for hit in await world.store.matching(word, limit=50, where=Filter())}


async def test_an_edit_that_is_taken_back_with_its_version(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = world.items.items["3.md"]
    world.items.items["3.md"] = "# Page 3\n\nGarlic."
    async with stopped(monkeypatch):
        await world.ingest()
    assert await found(world, "garlic") == {"3.md"}
    world.items.items["3.md"] = before
    await next_run(world)
    assert await found(world, "garlic") == set()
    assert await found(world, "onion") == {f"{n}.md" for n in range(5)}
    await world.assert_fresh()


async def test_a_new_document_that_goes_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.items.items["new.md"] = "# New\n\nGarlic."
    async with stopped(monkeypatch):
        await world.ingest()
    del world.items.items["new.md"]
    await next_run(world)
    assert await found(world, "garlic") == set()
    await world.assert_fresh()


async def test_a_removed_document_that_comes_back_with_its_version(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = world.items.items.pop("3.md")
    store = world.store
    assert isinstance(store, LanceStore)
    get = Tables.get

    async def not_documents(self: Tables, name: str) -> Any:
        if name == "documents":
            raise Stopped
        return await get(self, name)

    with monkeypatch.context() as patch:
        patch.setattr(Tables, "get", not_documents)
        with pytest.raises(Stopped):
            await world.ingest()
    assert "3.md" not in await found(world, "onion")
    world.items.items["3.md"] = gone
    await next_run(world)
    assert await found(world, "onion") == {f"{n}.md" for n in range(5)}
    await world.assert_fresh()


async def test_a_run_that_came_to_its_end_leaves_nothing_to_do(world: World) -> None:
    store = world.store
    assert isinstance(store, LanceStore)
    versions = [await (await store._tenure.tables()).get(name) for name in store._names.both]
    before = [await table.version() for table in versions]
    del world.items.items["1.md"]
    await next_run(world)
    after = [await table.version() for table in versions]
    async with store.lease("ingesting"):
        pass
    assert [await table.version() for table in versions] == after != before


async def test_metadata_that_is_taken_back_with_its_version(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.items.metadata["3.md"] = {"team": "people"}
    async with stopped(monkeypatch):
        await world.ingest()
    del world.items.metadata["3.md"]
    await next_run(world)
    assert not await world.store.matching("onion", limit=50, where=Filter(metadata={"team": "people"}))
    await world.assert_fresh()
