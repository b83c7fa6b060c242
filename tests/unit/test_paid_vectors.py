"""What is paid for is not paid for again: after a crash, a refusal, a budget, or settings that go back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import anyio
import pytest

from pipeline import digest
from pipeline.budget import Budget
from pipeline.chunk import Chunker
from pipeline.errors import (
    EmbedError,
    RequestTooLarge,
    ServiceRefused,
    ServiceUnavailable,
    StoreUnavailable,
)
from pipeline.ingest import plan_source
from pipeline.protocols import Store
from pipeline.records import Embedded, EmbedLimits, EmbedReply, EmbedRequest, Spending
from pipeline.stores.memory import MemoryStore
from tests.fakes import MemorySource, OracleEmbedder
from tests.world import Open, World, text


async def test_settings_that_are_switched_there_and_back_cost_nothing_the_second_time(world: World) -> None:
    await world.ingest()
    first = world.chunker
    world.chunker = Chunker(max_tokens=128)
    assert (await world.ingest()).tokens > 0
    world.chunker = first
    report = await world.ingest()
    assert (report.changed, report.tokens) == (4, 0)
    world.assert_nothing_was_paid_twice()
    await world.assert_fresh()


async def test_an_edit_that_is_taken_back_costs_nothing(world: World) -> None:
    await world.ingest()
    old = world.items.items["leave.md"]
    world.items.items["leave.md"] = old + "\nOne more line.\n"
    await world.ingest()
    world.items.items["leave.md"] = old
    report = await world.ingest()
    assert (report.changed, report.tokens) == (1, 0)
    await world.assert_fresh()


async def test_a_document_that_comes_back_after_its_removal_costs_nothing(world: World) -> None:
    await world.ingest()
    old = world.items.items.pop("leave.md")
    await world.ingest()
    world.items.items["leave.md"] = old
    report = await world.ingest()
    assert (report.added, report.tokens) == (1, 0)
    await world.assert_fresh()


async def test_the_windows_of_a_book_that_were_paid_for_before_a_crash_are_not_paid_for_again(
    world: World,
) -> None:
    world.items.items = {"book.md": text("book", sections=400)}
    asked = 0

    def fail_later(_request: EmbedRequest) -> EmbedError | None:
        nonlocal asked
        asked += 1
        return ServiceUnavailable("down") if asked > 3 else None

    world.embedder.refuse = fail_later
    with pytest.raises(ServiceUnavailable):
        await world.ingest()
    paid = set(world.sent_now)
    assert paid
    assert await world.store.marks("notes") == {}, "the book is not whole yet"
    world.embedder.refuse = lambda _request: None
    await world.ingest()
    assert not paid & set(world.sent_now)
    await world.assert_fresh()


class FailsToReplace(MemoryStore):
    """Breaks after the journal was written and before the documents are."""

    async def replace(self, documents: Sequence[Embedded]) -> None:
        raise StoreUnavailable("the storage went away")


async def test_a_commit_that_fails_costs_no_vector() -> None:
    embedder = OracleEmbedder()
    store = FailsToReplace(embedder.space)
    world = World(store=store, embedder=embedder, items=MemorySource({"a.md": text("a")}))
    with pytest.raises(StoreUnavailable):
        await world.ingest()
    paid = [digest.group_key(g, embedder) for r in embedder.requests for g in r.groups]
    assert set(await store.vectors(paid)) == set(paid) != set()


async def test_every_run_that_paid_says_what_it_paid(world: World) -> None:
    first = await world.ingest()
    world.items.items["leave.md"] += "\nMore.\n"
    second = await world.ingest()
    await world.ingest()
    rows = await world.store.spending()
    assert [(row.source, row.tokens, row.requests) for row in rows] == [
        ("notes", first.tokens, first.requests),
        ("notes", second.tokens, second.requests),
    ]
    assert [row.cost_usd for row in rows] == pytest.approx([first.cost_usd, second.cost_usd])
    assert {(row.provider, row.model) for row in rows} == {("test", "oracle")}


async def test_what_a_failed_run_paid_is_noted_too(world: World) -> None:
    world.items.items = {f"{n}.md": text(f"n{n}") for n in range(100)}
    asked = 0

    def fail_later(_request: EmbedRequest) -> EmbedError | None:
        nonlocal asked
        asked += 1
        return ServiceUnavailable("down") if asked > 2 else None

    world.embedder.refuse = fail_later
    with pytest.raises(ServiceUnavailable):
        await world.ingest()
    [row] = await world.store.spending()
    assert row.requests == len(world.embedder.requests) > 0


class FailsToNote(MemoryStore):
    async def spent(self, _spending: Spending) -> None:
        raise StoreUnavailable("the storage went away")


async def test_what_ended_a_run_is_told_though_its_cost_cannot_be_noted() -> None:
    embedder = OracleEmbedder()
    embedder.refuse = lambda _request: ServiceRefused("no credit") if embedder.requests else None
    world = World(store=FailsToNote(embedder.space), embedder=embedder)
    world.items.items = {f"{n}.md": text(f"n{n}") for n in range(100)}
    with pytest.raises(ServiceRefused):
        await world.ingest()


async def test_a_run_whose_cost_cannot_be_noted_can_be_cancelled() -> None:
    class Endless(OracleEmbedder):
        async def embed(self, request: EmbedRequest) -> EmbedReply:
            if self.requests:
                scope.cancel()
                await anyio.sleep_forever()
            return await super().embed(request)

    embedder = Endless()
    world = World(store=FailsToNote(embedder.space), embedder=embedder)
    world.items.items = {f"{n}.md": text(f"n{n}") for n in range(100)}
    with anyio.CancelScope() as scope:
        await world.ingest()
    assert scope.cancelled_caught
    assert embedder.requests


async def test_the_next_plan_knows_how_the_service_counts(world: World) -> None:
    world.embedder.counts = 1.1
    world.items.items = {f"{n}.md": text(f"n{n}", sections=9) for n in range(20)}
    await world.ingest()
    world.items.items["new.md"] = text("new", sections=30)
    plan = await plan_source(world.items, world.pipeline)
    report = await world.ingest()
    assert plan.tokens == report.counted
    assert plan.cost_usd == pytest.approx(
        report.tokens * world.embedder.usd_per_million_tokens / 1e6, rel=0.01
    )


async def test_from_run_to_run_a_budget_gets_through_and_is_never_passed(world: World) -> None:
    world.items.items = {f"{n}.md": text(f"n{n}") for n in range(120)}
    left = []
    for _ in range(30):
        world.budgets = [Budget(name="this run", tokens=12_000)]
        report = await world.ingest()
        assert report.tokens <= 12_000
        assert report.done == report.owed
        left.append(report.left)
        if not report.left:
            break
    assert left == sorted(left, reverse=True)
    assert left[-1] == 0 < left[0]
    world.assert_nothing_was_paid_twice()
    await world.assert_fresh()


async def test_what_costs_nothing_is_done_though_the_budget_is_spent(world: World) -> None:
    await world.ingest()
    items = world.items.items
    items["new.md"] = text("new")
    items["people/leave.md"] = items.pop("leave.md")
    del items["travel.md"]
    world.items.metadata["devices.md"] = {"team": "it"}
    world.budgets = [Budget(name="notes", usd=0.0)]
    report = await world.ingest()
    assert (report.renamed, report.removed, report.rewritten, report.left) == (1, 1, 1, 1)
    assert report.stopped_by == "the budget of $0 for notes"
    assert world.embedder.requests == []
    world.budgets = []
    assert (await world.ingest()).added == 1
    await world.assert_fresh()


async def test_a_document_that_a_budget_leaves_keeps_its_old_rows(world: World) -> None:
    await world.ingest()
    before = await world.content()
    world.items.items["leave.md"] += "\nMore.\n"
    world.budgets = [Budget(name="this run", tokens=0)]
    assert (await world.ingest()).left == 1
    assert await world.content() == before


async def test_a_group_that_was_halved_is_not_paid_for_again(open_store: Open) -> None:
    def refuse(request: EmbedRequest) -> EmbedError | None:
        return RequestTooLarge("too many tokens") if request.tokens > 1_200 else None

    embedder = OracleEmbedder(refuse=refuse)
    store: Store = await open_store(embedder)
    world = World(store=store, embedder=embedder, items=MemorySource({"a.md": text("a", sections=24)}))
    report = await world.ingest()
    assert (report.added, report.failures) == (1, [])
    state = (await store.states("notes", ["a.md"]))["a.md"]
    assert len(state.group_keys) > 1
    assert (await world.ingest()).unchanged == 1
    await store.touch([replace(state, recipe="another")])
    report = await world.ingest()
    assert report.tokens == 0
    assert (await store.states("notes", ["a.md"]))["a.md"] == state


async def test_a_service_without_context_embeds_each_chunk_alone_and_pays_for_an_edited_one_only(
    open_store: Open,
) -> None:
    limits = EmbedLimits(
        group_tokens=2_000, group_chunks=1, request_tokens=8_000, request_groups=64, request_chunks=64
    )
    embedder = OracleEmbedder(limits=limits)
    world = World(store=await open_store(embedder), embedder=embedder)
    world.items.items = {"a.md": text("a", sections=8), "b.md": text("b", sections=8)}
    report = await world.ingest()
    assert len(world.sent_now) == report.chunks > 10
    world.items.items["a.md"] = world.items.items["a.md"].replace("3 things", "three things")
    await world.ingest()
    assert len(world.sent_now) <= 2
    await world.assert_fresh()
