"""Removals that are too many to be meant are withheld, and everything else goes through."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest

from pipeline.errors import SourceUnavailable
from pipeline.ingest import ingest_source, plan_source
from pipeline.plan import RemovalGuard
from pipeline.report import SourceReport
from tests.fakes import MemorySource
from tests.world import Open, World, text


@pytest.fixture
async def world(world: World) -> World:
    world.items.items = {f"{n:02}.md": text(f"n{n}", sections=1) for n in range(40)}
    await world.ingest()
    return world


async def ingest(world: World, approved: int | None = None) -> SourceReport:
    return await ingest_source(world.items, world.pipeline, guard=RemovalGuard(approved=approved))


async def keys(world: World) -> set[str]:
    return set(await world.store.marks("notes"))


async def test_a_source_that_lists_nothing_loses_nothing_until_it_is_approved(world: World) -> None:
    before = await keys(world)
    world.items.items.clear()
    report = await ingest(world)
    assert (report.withheld, report.removed, report.complete) == (40, 0, False)
    assert await keys(world) == before
    assert (await ingest(world, approved=39)).withheld == 40, "an approval is a ceiling"
    report = await ingest(world, approved=40)
    assert (report.withheld, report.removed) == (0, 40)
    assert await keys(world) == set()


async def test_additions_and_changes_go_through_while_removals_are_withheld(world: World) -> None:
    for n in range(20):
        del world.items.items[f"{n:02}.md"]
    world.items.items["new.md"] = text("new")
    world.items.items["30.md"] += "\nOne more line.\n"
    report = await ingest(world)
    assert (report.added, report.changed, report.withheld, report.removed) == (1, 1, 20, 0)
    assert {"new.md", "00.md", "30.md"} <= await keys(world)


async def test_a_few_removals_go_through(world: World) -> None:
    for n in range(10):
        del world.items.items[f"{n:02}.md"]
    report = await ingest(world)
    assert (report.removed, report.withheld) == (10, 0)


async def test_new_keys_for_all_documents_are_no_excuse_and_cost_nothing(world: World) -> None:
    world.items.items = {f"elsewhere/{key}": item for key, item in world.items.items.items()}
    report = await ingest(world)
    assert (report.withheld, report.added, report.renamed, report.tokens) == (40, 40, 0, 0)
    assert len(await keys(world)) == 80
    report = await ingest(world, approved=40)
    assert (report.removed, report.withheld) == (40, 0)
    await world.assert_fresh()


async def test_a_plan_says_what_would_be_withheld(world: World) -> None:
    for n in range(20):
        del world.items.items[f"{n:02}.md"]
    plan = await plan_source(world.items, world.pipeline)
    assert plan.removed == []
    assert plan.withheld == [f"{n:02}.md" for n in range(20)]
    assert plan.as_json()["withheld"] == plan.withheld


async def test_an_incomplete_listing_removes_nothing_whatever_is_approved(world: World) -> None:
    before = await keys(world)
    world.items.error, world.items.fail_listing_after = SourceUnavailable("connection lost"), 5
    with pytest.raises(SourceUnavailable):
        await ingest(world, approved=1_000)
    assert await keys(world) == before


async def test_one_source_is_not_excused_by_another(world: World, open_store: Open) -> None:
    other = World(store=world.store, embedder=world.embedder, items=MemorySource(source="wiki"))
    other.items.items = {f"{n}.md": text(f"w{n}", sections=1) for n in range(400)}
    await other.ingest()
    world.items.items.clear()
    assert (await ingest(world)).withheld == 40


@dataclass
class Newest(MemorySource):
    """Lists what is new, as a feed does."""

    keeps_vanished: bool = True


async def test_what_a_source_of_the_newest_lists_no_more_stays(world: World) -> None:
    whole = await keys(world)
    for keeps, left in ((True, whole | {"new.md"}), (False, {"new.md", "39.md"})):
        items = Newest(items={"new.md": text("new"), "39.md": text("n39", sections=1)}, keeps_vanished=keeps)
        newest = replace(world, items=items)
        plan = await plan_source(items, newest.pipeline, guard=RemovalGuard(approved=100))
        assert set(plan.removed) == (await keys(world)) - left
        await ingest(newest, approved=100)
        assert await keys(world) == left


async def test_an_approval_by_name_lets_through_no_others(world: World) -> None:
    before = await keys(world)
    for n in range(20):
        del world.items.items[f"{n:02}.md"]
    asked = frozenset((await ingest(world)).withheld_keys)
    assert asked == {f"{n:02}.md" for n in range(20)}
    del world.items.items["20.md"]
    guard = RemovalGuard(approved=len(asked) + 5, keys=asked)
    report = await ingest_source(world.items, world.pipeline, guard=guard)
    assert (report.withheld, report.removed) == (21, 0), "one of them, nobody was asked about"
    assert await keys(world) == before
    world.items.items["20.md"] = text("n20", sections=1)
    world.items.items["00.md"] = text("n0", sections=1)
    report = await ingest_source(world.items, world.pipeline, guard=guard)
    assert (report.withheld, report.removed) == (0, 19), "one of them came back"
    assert await keys(world) == before - (asked - {"00.md"})
