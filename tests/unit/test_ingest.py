"""The promises of an ingest, held on both stores by an oracle: nothing goes stale, nothing is paid twice."""

from __future__ import annotations

import gc
import random
from dataclasses import replace

import anyio
import pytest

from pipeline.chunk import Chunker
from pipeline.errors import EmbedError, InputRefused, ServiceRefused, ServiceUnavailable, SourceUnavailable
from pipeline.ingest import plan_source
from pipeline.records import EmbedRequest, RawDocument
from tests.fakes import MemorySource, OracleEmbedder
from tests.world import Open, World, text


async def test_a_first_run_embeds_every_document_once(world: World) -> None:
    report = await world.ingest()
    assert (report.listed, report.owed, report.added, report.removed) == (4, 4, 4, 0)
    assert report.failures == []
    assert report.chunks == len(world.embedder.embedded_texts) > 8
    assert report.tokens > 0
    assert report.cost_usd > 0
    assert report.requests == len(world.embedder.requests)
    await world.assert_fresh()


async def test_a_second_run_reads_nothing_pays_nothing_and_writes_nothing(world: World) -> None:
    await world.ingest()
    before = await world.content()
    report = await world.ingest()
    assert world.items.loaded == []
    assert world.embedder.requests == []
    assert (report.unchanged, report.owed, report.written) == (4, 0, 0)
    assert await world.content() == before


async def test_an_edited_document_is_embedded_whole_and_only_it(world: World) -> None:
    await world.ingest()
    world.items.items["leave.md"] = world.items.items["leave.md"].replace("2 things", "two things")
    report = await world.ingest()
    assert (report.changed, report.unchanged, report.written) == (1, 3, 1)
    assert all("leave" in sent for sent in world.embedder.embedded_texts)
    assert len(world.embedder.embedded_texts) == report.chunks > 2
    await world.assert_fresh()


async def test_a_document_that_shrinks_leaves_no_old_chunk_behind(world: World) -> None:
    await world.ingest()
    world.items.items["leave.md"] = text("leave", sections=1)
    await world.ingest()
    await world.assert_fresh()


async def test_a_touched_document_is_read_but_not_paid_for(world: World) -> None:
    await world.ingest()
    world.items.versions["leave.md"] = "touched"
    report = await world.ingest()
    assert (report.touched, report.written) == (1, 0)
    assert world.embedder.requests == []
    report = await world.ingest()
    assert report.unchanged == 4
    await world.assert_fresh()


async def test_changed_metadata_rewrites_rows_and_pays_nothing(world: World) -> None:
    await world.ingest()
    world.items.metadata["leave.md"] = {"team": "people"}
    report = await world.ingest()
    assert (report.rewritten, report.written) == (1, 1)
    assert world.embedder.requests == []
    await world.assert_fresh()


async def test_metadata_from_the_settings_reaches_every_document_and_pays_nothing(world: World) -> None:
    await world.ingest()
    world.metadata = {"team": "people"}
    report = await world.ingest()
    assert report.rewritten == 4
    assert world.embedder.requests == []
    assert {row.metadata["team"] for row in (await world.content())["rows"]} == {"people"}
    await world.assert_fresh()


async def test_a_removed_document_loses_its_rows(world: World) -> None:
    await world.ingest()
    del world.items.items["leave.md"]
    report = await world.ingest()
    assert (report.removed, report.unchanged) == (1, 3)
    await world.assert_fresh()


async def test_a_renamed_document_keeps_its_vectors(world: World) -> None:
    await world.ingest()
    world.items.items["people/leave.md"] = world.items.items.pop("leave.md")
    report = await world.ingest()
    assert (report.renamed, report.removed, report.added) == (1, 0, 0)
    assert world.embedder.requests == []
    await world.assert_fresh()


async def test_a_copy_is_not_paid_for(world: World) -> None:
    await world.ingest()
    world.items.items["copy.md"] = world.items.items["leave.md"]
    report = await world.ingest()
    assert report.added == 1
    assert world.embedder.requests == []
    await world.assert_fresh()


async def test_a_document_that_moves_to_another_source_is_not_paid_for(world: World) -> None:
    await world.ingest()
    other = replace(world, items=MemorySource(source="archive", items=dict(world.items.items)))
    report = await other.ingest()
    assert report.added == 4
    assert world.embedder.requests == []


async def test_another_chunk_size_reaches_every_document(world: World) -> None:
    await world.ingest()
    world.chunker = Chunker(max_tokens=128)
    report = await world.ingest()
    assert report.changed == 4
    await world.assert_fresh()


async def test_an_emptied_document_keeps_its_state_and_loses_its_rows(world: World) -> None:
    await world.ingest()
    world.items.items["leave.md"] = "  \n"
    report = await world.ingest()
    assert report.changed == 1
    assert (await world.ingest()).unchanged == 4
    await world.assert_fresh()


async def test_a_document_that_fails_costs_its_neighbours_nothing_and_keeps_its_old_rows(
    world: World,
) -> None:
    await world.ingest()
    before = [row for row in (await world.content())["rows"] if row.key == "leave.md"]
    world.items.items["leave.md"] = "# poison\n\nDo not embed this."
    world.items.items["travel.md"] += "\nOne more line.\n"

    def refuse(request: EmbedRequest) -> EmbedError | None:
        texts = [chunk.text for group in request.groups for chunk in group.chunks]
        return InputRefused("no") if any("poison" in sent for sent in texts) else None

    world.embedder.refuse = refuse
    report = await world.ingest()
    assert [failure.key for failure in report.failures] == ["leave.md"]
    assert report.changed == 1
    assert [row for row in (await world.content())["rows"] if row.key == "leave.md"] == before
    world.embedder.refuse = lambda _request: None
    assert (await world.ingest()).changed == 1
    await world.assert_fresh()


async def test_an_item_that_vanishes_between_listing_and_loading_is_reported(world: World) -> None:
    await world.ingest()
    world.items.items["ghost.md"] = None  # type: ignore[assignment]  # listed, but gone when it is loaded
    report = await world.ingest()
    assert [(f.key, f.error) for f in report.failures] == [("ghost.md", "ItemUnreadable")]
    assert report.unchanged == 4


async def test_a_listing_that_breaks_off_removes_nothing(world: World) -> None:
    await world.ingest()
    before = await world.content()
    world.items.error, world.items.fail_listing_after = SourceUnavailable("connection lost"), 2
    with pytest.raises(SourceUnavailable, match="connection lost"):
        await world.ingest()
    assert await world.content() == before


async def test_how_each_run_went_is_kept(world: World) -> None:
    await world.ingest()
    world.items.items["ghost.md"] = None  # type: ignore[assignment]  # listed, but gone when it is loaded
    await world.ingest()
    [run] = await world.store.runs()
    assert (run.source, run.error, run.failed) == ("notes", None, 1)
    assert (run.counts["unchanged"], run.counts["listed"]) == (4, 5)
    assert [failure.key for failure in run.failures] == ["ghost.md"]
    world.items.error, world.items.fail_listing_after = SourceUnavailable("connection lost"), 2
    with pytest.raises(SourceUnavailable):
        await world.ingest()
    [failed] = await world.store.runs()
    assert (failed.error, failed.succeeded_at) == ("connection lost", run.at)
    assert failed.at > run.at


async def test_what_a_failed_document_had_is_not_kept_until_somebody_looks_for_garbage(world: World) -> None:
    world.items.media_type = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
    gc.collect()
    gc.disable()
    try:
        report = await world.ingest()
        assert not [one for one in gc.get_objects() if isinstance(one, RawDocument)]
    finally:
        gc.enable()
    assert {failure.error for failure in report.failures} == {"ParseError"}
    assert len(report.failures) == 4


async def test_a_storage_that_falls_silent_does_not_keep_a_run_from_ending(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def silent(_: object) -> None:
        await anyio.sleep_forever()

    monkeypatch.setattr("pipeline.ingest.NOTING_SECONDS", 0.05)
    monkeypatch.setattr(type(world.store), "ran", lambda _, run: silent(run))
    world.items.error, world.items.fail_listing_after = SourceUnavailable("connection lost"), 2
    with anyio.fail_after(10), pytest.raises(SourceUnavailable, match="connection lost"):
        await world.ingest()
    assert "how the run over notes went could not be noted: the storage has not answered" in caplog.text


async def test_a_run_that_is_cancelled_is_told_as_such(world: World) -> None:
    scope = anyio.CancelScope()
    world.embedder.refuse = lambda _request: scope.cancel()
    with scope:
        await world.ingest()
    assert scope.cancelled_caught
    assert [run.error for run in await world.store.runs()] == ["cancelled"]


async def test_a_service_that_turns_us_away_stops_the_run_with_its_own_error(world: World) -> None:
    world.embedder.refuse = lambda _request: ServiceRefused("check the key")
    with pytest.raises(ServiceRefused, match="check the key"):
        await world.ingest()


async def test_what_was_paid_before_a_failure_is_not_paid_again(world: World) -> None:
    world.items.items = {f"{n}.md": text(f"n{n}") for n in range(200)}
    paid: list[EmbedRequest] = []

    def fail_later(request: EmbedRequest) -> EmbedError | None:
        paid.append(request)
        return ServiceUnavailable("down") if len(paid) > 2 else None

    world.embedder.refuse = fail_later
    with pytest.raises(ServiceUnavailable):
        await world.ingest()
    first = set(world.embedder.embedded_texts)
    world.embedder.refuse = lambda _request: None
    await world.ingest()
    assert first
    assert not first & set(world.embedder.embedded_texts)
    await world.assert_fresh()


async def test_a_crash_between_rows_and_states_costs_no_vector(open_store: Open) -> None:
    embedder = OracleEmbedder()
    store = await open_store(embedder)
    world = World(store=store, embedder=embedder, items=MemorySource({"a.md": text("a"), "b.md": text("b")}))
    await world.ingest()
    states = await store.states("notes", ["a.md", "b.md"])
    await store.touch(
        [replace(s, recipe="never finished", row_key="x", group_keys=()) for s in states.values()]
    )
    await world.ingest()
    assert embedder.requests == []
    await world.assert_fresh()


async def test_a_plan_says_what_a_run_will_do_and_pays_and_writes_nothing(world: World) -> None:
    await world.ingest()
    before = await world.content()
    items = world.items.items
    items["leave.md"] = items["leave.md"] + "\nMore.\n"
    items["people/travel.md"] = items.pop("travel.md")
    items["new.md"] = text("new")
    del items["expenses.md"]
    world.items.metadata["devices.md"] = {"team": "it"}
    world.embedder.requests.clear()

    plan = await plan_source(world.items, world.pipeline)
    assert world.embedder.requests == []
    assert await world.content() == before
    changes = {document.key: document.change for document in plan.documents}
    assert changes == {
        "leave.md": "changed",
        "people/travel.md": "renamed",
        "new.md": "added",
        "devices.md": "rewritten",
    }
    assert plan.removed == ["expenses.md"]
    report = await world.ingest()
    assert (report.changed, report.renamed, report.added, report.rewritten, report.removed) == (1, 1, 1, 1, 1)
    assert plan.tokens == report.tokens
    assert plan.cost_usd == pytest.approx(report.cost_usd)


@pytest.mark.parametrize("seed", range(4))
async def test_no_history_of_edits_leaves_anything_stale_or_pays_for_anything_twice(
    world: World, seed: int
) -> None:
    chance = random.Random(seed)
    await world.ingest()
    for step in range(12):
        edit(world.items, chance, step)
        await world.ingest()
        world.assert_nothing_was_paid_twice()
        await world.assert_fresh()


def edit(items: MemorySource, chance: random.Random, step: int) -> None:
    """Change some things at once: add, edit, remove, rename, copy, touch, empty, mark."""
    for _ in range(chance.randint(1, 4)):
        keys = sorted(items.items)
        kind = chance.choice(["add", "edit", "remove", "rename", "copy", "touch", "empty", "mark"])
        key = chance.choice(keys) if keys else "x.md"
        new = f"new {step} {chance.randint(0, 99)}.md"
        if kind == "add" or key not in items.items:
            items.items[new] = text(f"n{step}", chance.randint(1, 60))
        elif kind == "edit":
            items.items[key] = items.items[key].replace("things", f"things{step}", chance.randint(1, 3))
        elif kind == "remove":
            del items.items[key]
        elif kind == "rename":
            items.items[new] = items.items.pop(key)
        elif kind == "copy":
            items.items[new] = items.items[key]
        elif kind == "touch":
            items.versions[key] = f"{key} {step}"
        elif kind == "empty":
            items.items[key] = ""
        else:
            items.metadata[key] = {"step": step}
