"""Several workers make of a source what one makes of it, whoever of them fails or dies."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.fake_service.pace import Pace as ServicePace
from config.any_embedding import ServiceEmbedding
from config.execution import ExecutionSettings, part_of
from config.settings import Settings
from pipeline import shards
from pipeline.budget import Budget
from pipeline.chunk import Chunker
from pipeline.embedders._pace import Pace
from pipeline.errors import DocweaveError, ServiceUnavailable, SettingsError, StoreUnavailable
from pipeline.ingest import ingest_source
from pipeline.prepare import Pipeline
from pipeline.records import Failure, ItemRef
from pipeline.report import SourceReport
from pipeline.shards import Board, Crew, work_off_shards
from pipeline.shards_told import Shard, Shared, Told, cut, failure
from pipeline.stores import _replacing, lance_shards
from pipeline.stores.lance import LanceStore
from pipeline.stores.lance_shards import MOST_TAKES, boards
from tests.fakes import MemorySource, OracleEmbedder
from tests.virtual_time import in_virtual_time, now
from tests.world import World, content, text

Step = Callable[[Board, LanceStore, Pipeline], Awaitable[None]]


@dataclass
class Yard:
    """Tables in a folder, a source, and workers: tasks of this process, each with a store of its own."""

    path: Path
    items: MemorySource = field(default_factory=MemorySource)
    workers: int = 2
    shard_tokens: int = 5_000
    embedder: OracleEmbedder = field(default_factory=OracleEmbedder)
    budgets: Sequence[Budget] = ()
    before: dict[int, Step] = field(default_factory=dict)
    """What a worker does first, by its number, counted from 1 over all rounds."""
    sent: int = 0
    said: list[str] = field(default_factory=list)

    @asynccontextmanager
    async def pipeline(self) -> AsyncIterator[tuple[LanceStore, Pipeline]]:
        store = await LanceStore.open(str(self.path), space=self.embedder.space)
        world = World(store=store, items=self.items, embedder=self.embedder)
        yield store, world.pipeline

    async def ingest(self) -> SourceReport:
        async with self.pipeline() as (store, pipeline), store.lease("testing") as lease:

            async def send() -> list[str]:
                failed: list[str] = []

                async def one(number: int) -> None:
                    try:
                        await self.work(lease, number)
                    except DocweaveError as error:
                        failed.append(str(error))

                async with anyio.create_task_group() as tasks:
                    for _ in range(self.workers):
                        self.sent += 1
                        tasks.start_soon(one, self.sent)
                return failed

            crew = Crew(
                boards=await boards(str(self.path), {}, lease),
                lease=lease,
                workers=self.workers,
                shard_tokens=self.shard_tokens,
                send=send,
                tell=self.said.append,
            )
            return await ingest_source(self.items, pipeline, budgets=self.budgets, crew=crew)

    async def work(self, lease: str, number: int) -> None:
        board = await (await boards(str(self.path), {}, lease)).opened()
        async with self.pipeline() as (store, pipeline), store.join(lease):
            try:
                if step := self.before.get(number):
                    await step(board, store, pipeline)
                await work_off_shards(board, self.items, pipeline, metadata={})
            except DocweaveError as error:
                await board.fail(failure(error))
                raise

    async def content(self) -> dict[str, Any]:
        async with self.pipeline() as (store, _):
            return await content(store, self.items.source, self.embedder)

    async def assert_fresh(self) -> None:
        async with self.pipeline() as (store, _):
            world = World(store=store, items=self.items, embedder=self.embedder)
            await world.assert_fresh()

    async def tables(self) -> list[str]:
        return sorted(path.name for path in self.path.glob("shards_*"))


@pytest.fixture
def yard(tmp_path: Path) -> Yard:
    items = {f"{number:02}.md": text(f"item {number}", sections=1 + number % 4) for number in range(12)}
    return Yard(path=tmp_path / "db", items=MemorySource(items))


async def test_two_workers_make_what_one_makes(yard: Yard) -> None:
    report = await yard.ingest()
    assert (report.listed, report.owed, report.added, report.done) == (12, 12, 12, 12)
    assert report.failures == []
    assert report.chunks == len(yard.embedder.embedded_texts)
    assert report.tokens > 0
    assert "shards for 2 workers" in yard.said[0]
    await yard.assert_fresh()
    assert await yard.tables() == []


async def test_no_worker_merges_in_vain_because_another_was_quicker(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    yard.workers, yard.shard_tokens = 3, 1_000
    merges: list[bool] = []
    merged = _replacing._merged

    async def noted(*said: Any) -> bool:
        merges.append(await merged(*said))
        return merges[-1]

    monkeypatch.setattr(_replacing, "_merged", noted)
    assert (await yard.ingest()).added == 12
    assert len(merges) > 1
    assert all(merges)


async def test_what_was_spent_is_noted_once_for_all_workers(yard: Yard) -> None:
    report = await yard.ingest()
    async with yard.pipeline() as (store, _):
        [spending] = await store.spending()
    assert (spending.tokens, spending.requests) == (report.tokens, report.requests)


async def test_a_second_run_sends_nobody(yard: Yard) -> None:
    await yard.ingest()
    yard.sent = 0
    report = await yard.ingest()
    assert (report.unchanged, report.owed, yard.sent) == (12, 0, 0)


async def test_little_is_done_by_the_run_itself(yard: Yard) -> None:
    yard.shard_tokens = 1_000_000
    report = await yard.ingest()
    assert (report.added, yard.sent) == (12, 0)
    await yard.assert_fresh()


async def test_edits_renames_removals_and_copies_end_as_in_one_process(yard: Yard) -> None:
    dice = random.Random(7)
    for _ in range(4):
        await yard.ingest()
        await yard.assert_fresh()
        items = yard.items.items
        keys = sorted(items)
        for key in dice.sample(keys, 5):
            what = dice.choice(["edit", "rename", "remove", "copy", "touch"])
            if what == "edit":
                items[key] += f"\n\nAnd {dice.random()}."
            elif what == "rename":
                items[f"new-{dice.random()}.md"] = items.pop(key)
            elif what == "remove":
                del items[key]
            elif what == "copy":
                items[f"copy-{dice.random()}.md"] = items[key]
            else:
                yard.items.versions[key] = str(dice.random())
    await yard.ingest()
    await yard.assert_fresh()


async def test_of_two_documents_that_go_on_from_one_only_one_is_a_rename(yard: Yard) -> None:
    await yard.ingest()
    whole = yard.items.items.pop("00.md")
    yard.items.items |= {"a.md": whole, "z.md": whole}
    for number in range(1, 12):
        yard.items.versions[f"{number:02}.md"] = "touched"
    report = await yard.ingest()
    assert (report.renamed, report.added, report.removed, report.touched) == (1, 1, 0, 11)
    await yard.assert_fresh()


async def test_a_document_that_fails_is_reported_and_stops_nothing(yard: Yard) -> None:
    yard.items.items["05.md"] = None  # type: ignore[assignment]
    report = await yard.ingest()
    assert [(one.key, one.error) for one in report.failures] == [("05.md", "ItemUnreadable")]
    assert (report.added, report.done) == (11, 12)


async def test_a_shard_whose_worker_died_is_taken_by_another(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead: list[int] = []

    async def die(board: Board, *_: object) -> None:
        monkeypatch.setattr(lance_shards, "this_process", lambda: "gone")
        taken = await board.take()
        monkeypatch.undo()
        assert taken
        dead.append(taken.number)
        monkeypatch.setattr(lance_shards, "is_gone", lambda process: process == "gone")
        raise StoreUnavailable("as if it were killed")

    async def wait(*_: object) -> None:
        while not dead:  # noqa: ASYNC110 - a list is all there is
            await anyio.sleep(0.01)

    yard.before = {1: die, 2: wait}
    report = await yard.ingest()
    assert (report.added, len(dead)) == (12, 1)
    await yard.assert_fresh()


async def test_what_a_dead_worker_had_stored_is_neither_read_nor_paid_again(yard: Yard) -> None:
    async def die(board: Board, store: LanceStore, pipeline: Pipeline) -> None:
        taken = await board.take()
        assert taken
        shard = Shard.of(taken.body, "notes")
        part = replace(yard.items, items={ref.key: yard.items.items[ref.key] for ref in shard.refs})
        await ingest_source(part, pipeline)
        async with board.held(taken):
            yard.items.loaded.clear()
        raise StoreUnavailable("after it had stored a shard, and before it said so")

    yard.workers = 1
    yard.before = {1: die}
    with pytest.raises(StoreUnavailable, match="before it said so"):
        await yard.ingest()
    paid = len(yard.embedder.embedded_texts)
    report = await yard.ingest()
    assert report.unchanged + report.added == 12
    assert report.unchanged >= 1
    assert paid + report.chunks == len(set(yard.embedder.embedded_texts))
    await yard.assert_fresh()


async def test_a_shard_over_which_workers_die_again_and_again_is_left_and_the_run_says_so(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lance_shards, "is_gone", lambda process: process == "gone")
    monkeypatch.setattr(lance_shards, "this_process", lambda: "gone")

    async def die(board: Board, *_: object) -> None:
        assert await board.take()
        raise DocweaveError("killed")

    async def quietly(lease: str, number: int) -> None:
        await die(await (await boards(str(yard.path), {}, lease)).opened())

    monkeypatch.setattr(yard, "work", quietly)
    with pytest.raises(DocweaveError, match=r"shards of notes were not worked off.*\(killed\)"):
        await yard.ingest()
    assert yard.sent <= 3 * MOST_TAKES * yard.workers
    monkeypatch.undo()
    assert (await yard.ingest()).added == 12
    await yard.assert_fresh()


async def test_what_makes_a_worker_give_up_is_raised_as_it_was(yard: Yard) -> None:
    async def down(*_: object) -> None:
        raise ServiceUnavailable("the service does not answer")

    yard.before = dict.fromkeys(range(1, 10), down)
    with pytest.raises(ServiceUnavailable, match="does not answer"):
        await yard.ingest()
    assert await yard.tables() == []


async def test_a_worker_that_would_make_other_documents_is_refused(yard: Yard) -> None:
    async def other(board: Board, _: LanceStore, pipeline: Pipeline) -> None:
        different = replace(pipeline, chunker=Chunker(max_tokens=64, merge_below=8))
        await work_off_shards(board, yard.items, different, metadata={})

    yard.before = {1: other, 2: other}
    with pytest.raises(SettingsError, match="other settings"):
        await yard.ingest()


async def test_workers_stop_when_the_lease_is_lost(yard: Yard) -> None:
    async def lose(_: Board, store: LanceStore, __: Pipeline) -> None:
        table = await store._tenure._leases._opened()
        await table.update({"token": "'another'", "beat": "beat + 1"}, "tables = 'live'")

    yard.before = {1: lose}
    with pytest.raises(StoreUnavailable, match="taken over"):
        await yard.ingest()


async def test_a_budget_is_shared_out_and_never_passed(yard: Yard) -> None:
    whole = await replace(yard, path=yard.path.with_name("all"), embedder=OracleEmbedder()).ingest()
    yard.budgets = [Budget(name="this run", tokens=whole.tokens // 2)]
    report = await yard.ingest()
    assert 0 < report.tokens <= whole.tokens // 2
    assert yard.budgets[0].spent_tokens == report.tokens
    assert report.left == 12 - report.added > 0
    assert report.stopped_by == f"the budget of {whole.tokens // 2:,} tokens for this run"
    yard.budgets = ()
    await yard.ingest()
    await yard.assert_fresh()


async def test_boards_of_killed_runs_are_cleared_away(yard: Yard) -> None:
    async with yard.pipeline() as (store, _), store.lease("being killed") as lease:
        left = await boards(str(yard.path), {}, lease)
        manager = left.made(b"", [b""])
        await manager.__aenter__()  # and never left
    assert len(await yard.tables()) == 1
    await yard.ingest()
    assert await yard.tables() == []


async def test_one_of_many_who_take_at_once_gets_each_shard(yard: Yard) -> None:
    async with yard.pipeline() as (store, _), store.lease("testing") as lease:
        own = await boards(str(yard.path), {}, lease)
        async with own.made(b"", [str(number).encode() for number in range(8)]):
            taken: list[bytes] = []

            async def take_all() -> None:
                board = await (await boards(str(yard.path), {}, lease)).opened()
                while (await board.standing())[0]:
                    if one := await board.take():
                        async with board.held(one):
                            taken.append(one.body)
                            assert await board.end(one, one.body)

            async with anyio.create_task_group() as tasks:
                for _ in range(4):
                    tasks.start_soon(take_all)
            board = await own.opened()
            assert sorted(taken) == [str(number).encode() for number in range(8)]
            assert await board.told([]) == {number: str(number).encode() for number in range(8)}
            assert await board.told([0, 1, 2, 3, 4, 5, 6]) == {7: b"7"}


async def test_who_looked_before_a_pause_takes_no_shard_in_it(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with yard.pipeline() as (store, _), store.lease("testing") as lease:
        own = await boards(str(yard.path), {}, lease)
        async with own.made(b"", [b"one", b"two"]) as board, AsyncExitStack() as stack:
            changed = lance_shards.LanceBoard._changed

            async def late(self: lance_shards.LanceBoard, *said: Any) -> bool:
                monkeypatch.undo()
                await stack.enter_async_context(board.paused())
                return await changed(self, *said)

            monkeypatch.setattr(lance_shards.LanceBoard, "_changed", late)
            assert await (await own.opened()).take() is None
            assert await board.standing() == (2, 0)
            await stack.aclose()
            assert await (await own.opened()).take()


async def test_workers_stop_while_the_tables_are_tended(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "UPKEEP_BEGINS", 1)
    yard.shard_tokens = 1_000  # so many shards that some are left when the first is ended
    monkeypatch.setattr(shards, "LOOK_SECONDS", 0.01)
    seen: list[tuple[int, int]] = []

    async def wait(*_: object) -> None:
        while not seen:  # noqa: ASYNC110 - a list is all there is
            await anyio.sleep(0.01)

    yard.before = {2: wait}  # the other is not done before anybody looked

    async def upkeep(store: LanceStore) -> None:
        if store._tenure.run and not store._tenure.writer and await yard.tables():
            board = await (await boards(str(yard.path), {}, store._tenure.run)).opened()
            assert await board.take() is None or not (await board.standing())[0]
            seen.append(await board.standing())

    monkeypatch.setattr(LanceStore, "upkeep", upkeep)
    report = await yard.ingest()
    assert report.added == 12
    assert seen, "they were tended before the end"
    assert all(at_work == 0 for _, at_work in seen)
    await yard.assert_fresh()


def refs_of(sizes: Sequence[int | None]) -> list[ItemRef]:
    return [ItemRef(source="s", key=str(n), version="1", size=size) for n, size in enumerate(sizes)]


@given(
    sizes=st.lists(st.none() | st.integers(0, 200_000), max_size=80),
    tokens=st.integers(1_000, 50_000),
    workers=st.integers(1, 9),
)
def test_shards_hold_every_item_once_in_order(sizes: list[int | None], tokens: int, workers: int) -> None:
    refs = refs_of(sizes)
    parts = cut(refs, tokens, workers)
    assert [ref for part in parts for ref in part] == refs
    assert all(parts)
    assert cut(refs, tokens, workers) == parts


def test_shards_are_about_as_large_and_every_worker_has_as_many() -> None:
    parts = cut(refs_of([18_000] * 1_000), 1_000_000, 4)
    assert len(parts) == 8
    assert {len(part) for part in parts} == {125}
    assert len(cut(refs_of([18_000] * 100), 1_000_000, 4)) == 1


def test_what_is_put_on_a_board_comes_back_as_it_was() -> None:
    shared = Shared(
        source="s",
        recipe="r",
        lease="l",
        stored=3,
        gone={("a", "b"): "old"},
        listed=["x.zip!/\ud800"],
        budgets=[Budget(name="s", usd=0.5), Budget(name="this run", tokens=7)],
    )
    shard = Shard(refs=refs_of([1, None]), held={"0": ["0!/a"]})
    report = SourceReport(source="s", added=2, stages={"reading": 0.5}, cost_usd=0.25)
    report.failures.append(Failure(key="k", error="ParseError", reason="broken"))
    told = Told(report=report, claimed=["old"], opened=[("k", "1", {"k!/a": "c"}, ["k!/b"])])
    assert Shared.of(shared.encoded()) == shared
    assert Shard.of(shard.encoded(), "s") == shard
    back = Told.of(told.encoded())
    assert back.report == report
    assert back.encoded() == told.encoded()


def settings(**said: Any) -> Settings:
    source = {"type": "files", "path": "."}
    embedding = {"provider": "perplexity", "base_url": "http://localhost:1", **said.pop("embedding", {})}
    value = {"store": {"uri": "/db"}, "sources": {"s": source}, "embedding": embedding, "execution": said}
    return Settings.model_validate(value, context={"folder": Path("/")})


def test_each_worker_has_its_part_of_what_the_service_allows() -> None:
    whole = settings(workers=3, embedding={"concurrency": 16, "tokens_per_minute": 300_000})
    part = part_of(whole).embedding
    assert isinstance(part, ServiceEmbedding)
    assert (part.concurrency, part.tokens_per_minute, part.requests_per_minute) == (5, 100_000, None)


@pytest.mark.parametrize(("workers", "ceiling"), [(2, 1_700_000), (3, 400_000), (16, 500_000)])
@in_virtual_time
async def test_no_minute_of_all_workers_together_has_more_tokens_than_allowed(
    workers: int, ceiling: int
) -> None:
    part = part_of(settings(workers=workers, embedding={"concurrency": 64, "tokens_per_minute": ceiling}))
    assert isinstance(part.embedding, ServiceEmbedding)
    a_minute = part.embedding.tokens_per_minute or 0
    service = ServicePace(tokens_per_minute=ceiling, clock=now)  # the stand-in's own: refuses with 429
    taken: list[int] = []

    async def work() -> None:
        pace = Pace(part.embedding.concurrency, None, a_minute, clock=now)
        async with anyio.create_task_group() as requests:
            for _ in range(20):
                requests.start_soon(ask, pace, min(115_000, a_minute))

    async def ask(pace: Pace, tokens: int) -> None:
        async with pace.turn(tokens):
            await anyio.sleep(0.05)
            service.admit_tokens(tokens)
            taken.append(tokens)
            await anyio.sleep(0.25)

    began = now()
    async with anyio.create_task_group() as crew:
        for _ in range(workers):
            crew.start_soon(work)
    assert len(taken) == 20 * workers
    full_minutes = -(-20 // (a_minute // min(115_000, a_minute))) - 1
    assert now() - began < 60 * full_minutes + 10, "no worker waits while its part has room"


@pytest.mark.parametrize(
    ("embedding", "reason"),
    [
        ({"concurrency": 4}, r"embedding.concurrency \(4\) among 8 workers: .* at most 4"),
        ({"tokens_per_minute": 100_000}, r"tokens_per_minute .* at least 31,000. Set workers to at most 3"),
        ({"requests_per_minute": 7}, "requests_per_minute"),
    ],
)
def test_more_workers_than_the_limits_are_for_are_refused(embedding: dict[str, int], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        settings(workers=8, embedding=embedding)


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ({"engine": "local", "address": "tcp://x:1"}, "does nothing with `engine: local`"),
        ({"engine": "prefect-workers"}, "must be given for `engine: prefect-workers`"),
        ({"engine": "dask", "work_pool": "p"}, "does nothing with `engine: dask`"),
    ],
)
def test_settings_that_do_nothing_are_refused(said: dict[str, str], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        ExecutionSettings.model_validate(said)


async def test_limits_of_the_last_worker_let_a_request_be_no_larger_than_its_minute(yard: Yard) -> None:
    async with yard.pipeline() as (store, pipeline), store.lease("testing") as lease:
        boards_ = await boards(str(yard.path), {}, lease)

        async def send() -> list[str]:
            board = await boards_.opened()
            async with yard.pipeline() as (own, parts), own.join(lease):
                await work_off_shards(board, yard.items, parts, metadata={}, most_tokens=2_000)
            return []

        crew = Crew(boards=boards_, lease=lease, workers=1, shard_tokens=5_000, send=send)
        await ingest_source(yard.items, pipeline, crew=crew)
    assert max(request.tokens for request in yard.embedder.requests) <= 2_000
    await yard.assert_fresh()
