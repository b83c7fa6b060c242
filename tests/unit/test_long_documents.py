"""Documents over the limit of a group: windows that stay where they are, and an oracle for what is stale."""

from __future__ import annotations

import random

import pytest

from pipeline.chunk import Chunker
from pipeline.records import EmbedLimits, Grouping, Lead
from tests.fakes import OracleEmbedder
from tests.world import Open, World

LIMITS = EmbedLimits(
    group_tokens=1_000, group_chunks=500, request_tokens=4_000, request_groups=64, request_chunks=500
)


def book(chapters: int = 150) -> str:
    chance = random.Random(5)
    parts = ["# A long book\n\nIt begins with a short opening.\n"]
    for n in range(chapters):
        words = " ".join(chance.choices(["river", "stone", "lamp", "winter", "letter", "garden"], k=60))
        parts.append(f"## Chapter {n}\n\nThis is what happens in chapter {n}: {words}.\n")
    return "\n".join(parts)


@pytest.fixture
async def world(open_store: Open) -> World:
    embedder = OracleEmbedder(limits=LIMITS)
    world = World(
        store=await open_store(embedder),
        embedder=embedder,
        chunker=Chunker(max_tokens=96),
        grouping=Grouping(overlap_tokens=150, lead=Lead.OPENING, lead_tokens=30),
    )
    world.items.items = {"book.md": book()}
    return world


async def windows(world: World) -> tuple[str, ...]:
    return (await world.store.states("notes", ["book.md"]))["book.md"].group_keys


async def test_a_book_is_embedded_in_windows_that_know_their_book_and_overlap(world: World) -> None:
    report = await world.ingest()
    groups = [group for request in world.embedder.requests for group in request.groups]
    assert len(groups) == len(await windows(world)) > 15
    assert all(group.lead.startswith("A long book") for group in groups)
    assert all("It begins with a short opening" in group.lead for group in groups)
    inner = [group for group in groups if group.chunks[0].ordinal > 0]
    assert all(group.before for group in inner)
    kept = sorted(chunk.ordinal for group in groups for chunk in group.chunks)
    assert kept == list(range(report.chunks)), "what overlaps is kept once"
    await world.assert_fresh()


@pytest.mark.parametrize("place", [3, 40, 75, 110, 147])
async def test_an_edit_in_the_middle_pays_for_the_windows_around_it_alone(world: World, place: int) -> None:
    await world.ingest()
    before = set(await windows(world))
    world.items.items["book.md"] = world.items.items["book.md"].replace(
        f"happens in chapter {place}:", f"truly happens in chapter {place}, as we now know:"
    )
    await world.ingest()
    assert 1 <= len(world.sent_now) <= 4
    assert len(before & set(await windows(world))) >= len(before) - 4
    await world.assert_fresh()


async def test_a_chapter_that_is_put_in_early_does_not_shift_every_later_window(world: World) -> None:
    await world.ingest()
    new = "## A new chapter\n\n" + "Nobody expected this to be here. " * 25
    world.items.items["book.md"] = world.items.items["book.md"].replace(
        "## Chapter 4\n", f"{new}\n\n## Chapter 4\n"
    )
    await world.ingest()
    assert 1 <= len(world.sent_now) <= 5
    await world.assert_fresh()


async def test_another_opening_reaches_every_window(world: World) -> None:
    await world.ingest()
    world.items.items["book.md"] = world.items.items["book.md"].replace("a short opening", "other words")
    await world.ingest()
    assert len(world.sent_now) == len(await windows(world))
    await world.assert_fresh()


@pytest.mark.parametrize("seed", range(3))
async def test_no_history_of_edits_leaves_a_window_stale_and_most_cost_few(world: World, seed: int) -> None:
    chance = random.Random(seed)
    await world.ingest()
    costs = []
    for step in range(10):
        chapter = chance.randrange(2, 150)
        old = world.items.items["book.md"]
        head, mark, tail = old.partition(f"## Chapter {chapter}\n")
        kind = chance.choice(["add", "drop", "edit"])
        if kind == "drop":
            tail = tail.partition("\n## ")[2]
            world.items.items["book.md"] = f"{head}## {tail}" if tail else head
        else:
            more = f"Step {step} adds this. " * chance.randint(1, 30)
            world.items.items["book.md"] = f"{head}{mark}\n{more}{tail}"
        await world.ingest()
        costs.append(len(world.sent_now))
        world.assert_nothing_was_paid_twice()
        await world.assert_fresh()
    assert sum(costs) / len(costs) <= 4
