"""Copies stored once: over random histories of two sources, every text is found, under one key."""

from __future__ import annotations

import io
import json
import random
import zipfile
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest
from typer.testing import CliRunner

from apps.cli import app
from pipeline import digest
from pipeline.audit import audit
from pipeline.copies import alike, lost, settle
from pipeline.errors import EmbedError, InputRefused, SettingsError
from pipeline.examine import Treatment, examine
from pipeline.findings import Kind
from pipeline.ingest import ingest_source, plan_source
from pipeline.records import EmbedRequest, Filter, ItemRef, RawDocument
from pipeline.report import SourceReport
from pipeline.stores.lance import LanceStore
from pipeline.stores.lance_reader import LanceReader
from tests.fakes import MemorySource
from tests.ingested import ingest_here
from tests.settings_text import Load
from tests.world import World, text

TEXTS = [text(name, sections=2) for name in ("fern", "moss", "oak")]
LABELS: list[tuple[str, ...]] = [(), ("staff",)]
Held = dict[tuple[str, str, tuple[str, ...]], str]


class Two:
    """Two sources over one store."""

    def __init__(self, world: World) -> None:
        world.items.items = {}
        world.copies_once = True
        self.one = world
        self.other = replace(world, items=MemorySource(source="wiki"))
        self.both = (self.one, self.other)

    async def settled(self) -> None:
        """As it is after some runs."""
        for _ in range(3):
            for world in self.both:
                await world.ingest()

    @property
    def stored(self) -> Any:
        return self.one.store

    async def found(self) -> list[tuple[str, str]]:
        """The documents that have rows."""
        question = await self.one.embedder.embed_query("?")
        hits = await self.stored.nearest(question, limit=10_000, where=Filter())
        return sorted({(hit.source, hit.key) for hit in hits})

    async def assert_true(self) -> None:
        """Of each text and labels one document has rows, whole; the others are marks alone, and name it."""
        wanted: dict[tuple[str, tuple[str, ...]], set[tuple[str, str]]] = defaultdict(set)
        for world in self.both:
            for key, said in world.items.items.items():
                if said.strip():
                    wanted[said, world.items.access.get(key) or ()].add((world.items.source, key))
        found = await self.found()
        for places in wanted.values():
            assert len(places & set(found)) == 1, (places, found)
        assert len(found) == len(wanted)
        for copy in await self.stored.copies():
            assert digest.copy_of(copy.state.row_key) in found
            assert copy.chunk_count == 0
        assert await lost(self.stored) == []
        for world in self.both:
            recipes = {world.items.source: world_recipe(world)}
            treatment = Treatment(embedder=world.embedder, grouping=world.grouping, recipes=recipes)
            async for document in self.stored.stored(world.items.source):
                assert examine(document, treatment).findings == []


def world_recipe(world: World) -> str:
    parts = world.pipeline
    return digest.recipe(
        parts.parser.recipe, parts.chunker.recipe, parts.embedder, parts.grouping, {}, copies_once=True
    )


@pytest.fixture
def two(world: World) -> Two:
    return Two(world)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("open_store", ["memory"], indirect=True)
async def test_every_text_is_found_once_whatever_happens(two: Two, seed: int) -> None:
    chance = random.Random(seed)
    for _ in range(12):
        for _ in range(chance.randint(1, 5)):
            world = chance.choice(two.both)
            key = f"{chance.randrange(5)}.md"
            if chance.random() < 0.3:
                world.items.items.pop(key, None)
            else:
                world.items.items[key] = chance.choice([*TEXTS, ""])
                world.items.access[key] = chance.choice(LABELS)
        ran = chance.sample(two.both, chance.randint(1, 2))
        for world in ran:
            await world.ingest()
        if chance.random() < 0.5:
            await two.settled()
            await two.assert_true()
    await two.settled()
    await two.assert_true()
    two.one.assert_nothing_was_paid_twice()


async def test_a_history_ends_the_same_in_real_tables(two: Two) -> None:
    one, other = two.one.items, two.other.items
    one.items = {"a.md": TEXTS[0], "b.md": TEXTS[0], "c.md": TEXTS[1]}
    other.items = {"a.md": TEXTS[0], "z.md": TEXTS[1], "y.md": TEXTS[2]}
    await two.settled()
    await two.assert_true()
    one.items = {"b.md": TEXTS[0]}
    await two.settled()
    await two.assert_true()
    one.items = {"b.md": TEXTS[2]}
    await two.settled()
    await two.assert_true()


async def test_what_a_run_stores_without_rows_is_told(two: Two) -> None:
    two.one.items.items = {"a.md": TEXTS[0], "b.md": TEXTS[0]}
    plan = await plan_source(two.one.items, two.one.pipeline)
    assert [(document.key, document.change, document.reason) for document in plan.documents] == [
        ("a.md", "added", "new"),
        ("b.md", "copies", "the same text as notes/a.md"),
    ]
    assert plan.documents[1].tokens == 0 < plan.tokens
    report = await ingest_source(two.one.items, two.one.pipeline, plan=plan)
    assert (report.added, report.copies, report.done, report.owed, report.moved) == (1, 1, 2, 2, {})
    assert await two.found() == [("notes", "a.md")]
    two.other.items.items = {"c.md": TEXTS[0]}
    report = await two.other.ingest()
    assert (report.copies, report.requests) == (1, 0)
    groups = alike([one async for one in two.stored.every()])
    assert [[(one.state.source, one.state.key) for one in group] for group in groups] == [
        [("notes", "a.md"), ("notes", "b.md"), ("wiki", "c.md")]
    ]
    again = await two.one.ingest()
    assert (again.unchanged, again.owed) == (2, 0)


async def test_documents_for_other_people_are_no_copies(two: Two) -> None:
    two.one.items.items = {"a.md": TEXTS[0], "b.md": TEXTS[0], "c.md": TEXTS[0]}
    two.one.items.access = {"b.md": ("board",), "c.md": ("board",)}
    report = await two.one.ingest()
    assert (report.added, report.copies) == (2, 1)
    two.one.items.access["c.md"] = ("staff",)
    report = await two.one.ingest()
    assert (report.rewritten, report.copies, report.requests) == (1, 0, 0)
    assert len(await two.found()) == 3


async def test_what_was_copied_goes_and_a_copy_of_the_same_source_takes_its_place_at_once(two: Two) -> None:
    two.one.items.items = {"a.md": TEXTS[0], "b.md": TEXTS[0]}
    await two.one.ingest()
    del two.one.items.items["a.md"]
    report = await two.one.ingest()
    assert (report.removed, report.rewritten, report.requests) == (1, 1, 0)
    assert await two.found() == [("notes", "b.md")]
    two.one.assert_nothing_was_paid_twice()


async def test_what_was_copied_is_renamed_and_its_copies_follow(two: Two) -> None:
    two.one.items.items = {"a.md": TEXTS[0]}
    two.other.items.items = {"c.md": TEXTS[0]}
    await two.settled()
    two.one.items.items = {"new.md": two.one.items.items.pop("a.md")}
    report = await two.one.ingest()
    assert (report.renamed, report.removed, report.requests) == (1, 0, 0)
    assert await two.found() == [("notes", "new.md")]
    [copy] = await two.stored.copies()
    assert digest.copy_of(copy.state.row_key) == ("notes", "new.md")
    assert (await two.other.ingest()).unchanged == 1


async def test_a_copy_in_another_source_is_owed_when_what_it_copies_goes(two: Two) -> None:
    two.one.items.items = {"a.md": TEXTS[0]}
    two.other.items.items = {"c.md": TEXTS[0]}
    await two.settled()
    two.one.items.items = {"a.md": TEXTS[1]}
    await two.one.ingest()
    assert await two.found() == [("notes", "a.md")]
    report = await two.other.ingest()
    assert (report.rewritten, report.requests) == (1, 0), "its vectors are in the journal"
    assert await two.found() == [("notes", "a.md"), ("wiki", "c.md")]


async def test_a_copy_of_what_the_service_refuses_is_not_taken_for_stored(two: Two) -> None:
    two.one.items.items = {"a.md": TEXTS[0], "b.md": TEXTS[0], "c.md": TEXTS[1]}

    def refuse(request: EmbedRequest) -> EmbedError | None:
        texts = [chunk.text for group in request.groups for chunk in group.chunks]
        return InputRefused("no") if any("fern" in sent for sent in texts) else None

    two.one.embedder.refuse = refuse
    report = await two.one.ingest()
    assert {failure.key for failure in report.failures} == {"a.md", "b.md"}
    assert await two.found() == [("notes", "c.md")]
    two.one.embedder.refuse = lambda _request: None
    report = await two.one.ingest()
    assert not report.failures
    await two.assert_true()


async def test_the_setting_is_turned_on_and_off_and_nothing_is_paid(two: Two) -> None:
    two.one.copies_once = two.other.copies_once = False
    for world in two.both:
        world.items.items = {"a.md": TEXTS[0], "b.md": TEXTS[0]}
        await world.ingest()
    assert len(await two.found()) == 4
    for once, rows in ((True, 1), (False, 4)):
        two.one.copies_once = two.other.copies_once = once
        for world in two.both:
            report = await world.ingest()
            assert (report.owed, report.requests) == (2, 0)
        assert len(await two.found()) == rows
        for world in two.both:
            report = await world.ingest()
            assert report.owed == 0


class Archive(MemorySource):
    """Lists archives of what is given as their text, a line a file."""

    async def load(self, ref: ItemRef) -> RawDocument:
        raw = await super().load(ref)
        held = io.BytesIO()
        with zipfile.ZipFile(held, "w") as file:
            for number, name in enumerate(raw.content.decode().split()):
                file.writestr(zipfile.ZipInfo(f"{number}.md"), text(name, sections=2))
        return replace(raw, content=held.getvalue())


async def test_what_an_archive_holds_may_be_a_copy_and_takes_the_place_of_what_goes(two: Two) -> None:
    two.one.items.items = {"a.md": text("fern", sections=2)}
    await two.one.ingest()
    two.other.items = Archive(source="wiki", items={"all.zip": "fern moss"}, media_type="application/zip")
    assert (await two.other.ingest()).copies == 1
    assert (await two.other.ingest()).owed == 0
    two.one.items.items = {}
    await two.one.ingest()
    await two.other.ingest()
    assert await two.found() == [("wiki", "all.zip!/0.md"), ("wiki", "all.zip!/1.md")]
    assert (await two.other.ingest()).owed == 0


async def test_a_run_that_is_stopped_before_it_settles_is_made_good_by_the_next(
    two: Two, monkeypatch: pytest.MonkeyPatch
) -> None:
    two.one.items.items = {"a.md": TEXTS[0]}
    two.other.items.items = {"c.md": TEXTS[0]}
    await two.settled()

    async def stopped(_store: object) -> None:
        raise RuntimeError("stopped")

    two.one.items.items = {}
    with monkeypatch.context() as patch:
        patch.setattr("pipeline.ingest.settle", stopped)
        with pytest.raises(RuntimeError):
            await two.one.ingest()
    assert [state.key for state in await lost(two.stored)] == ["c.md"]
    await two.other.ingest()
    assert await two.found() == [("wiki", "c.md")]


async def test_settling_what_is_settled_changes_nothing(two: Two) -> None:
    two.one.items.items = {"a.md": TEXTS[0], "b.md": TEXTS[0]}
    await two.one.ingest()
    before = await two.one.content()
    assert await settle(two.stored) == []
    assert await two.one.content() == before


def test_a_report_of_copies_adds_up() -> None:
    report = SourceReport(source="s", owed=2, added=1, copies=1)
    assert (report.done, report.written) == (2, 2)


# --- the command line and the tables


def settings_of(folder: Path, copies: str = "once") -> Path:
    path = folder / "docweave.yaml"
    path.write_text(
        f"store: {{uri: db}}\ncopies: {copies}\nsources:\n"
        "  one: {type: files, path: one}\n  two: {type: files, path: two}\n",
        encoding="utf-8",
    )
    for name in ("one", "two"):
        (folder / name).mkdir(exist_ok=True)
        (folder / name / "a.md").write_text(TEXTS[0], encoding="utf-8")
    (folder / "two" / "z.md").write_text(TEXTS[1], encoding="utf-8")
    return path


def run(path: Path, *words: str) -> str:
    done = CliRunner().invoke(app, [*words, "--config", str(path)])
    assert done.exit_code == 0, done.output
    return done.stdout


async def test_commands_tell_of_copies(tmp_path: Path) -> None:
    path = settings_of(tmp_path)
    await ingest_here(path)

    def told() -> None:
        assert run(path, "copies").splitlines() == [
            "one/a.md   2 chunks",
            "two/a.md   a copy",
            "",
            "Every one of these texts stands in several documents: 1 text.",
        ]
        found = json.loads(run(path, "copies", "--json"))
        [copies] = found["texts"]
        assert found["copies"] == "once"
        assert [(one["source"], one["is_copy"]) for one in copies["documents"]] == [
            ("one", False),
            ("two", True),
        ]
        assert "as copies of others: 1 document." in run(path, "status")
        assert json.loads(run(path, "status", "--json"))["copies"] == 1
        assert "one/a.md, which has the passages" in run(path, "show", "a.md", "--source", "two")
        [shown] = json.loads(run(path, "show", "a.md", "--source", "two", "--json"))["documents"]
        assert shown["rows"][0]["copy_of"] == {"source": "one", "key": "a.md"}
        assert json.loads(run(path, "audit", "--json"))["clean"]

    await anyio.to_thread.run_sync(told)
    path = settings_of(tmp_path, "keep")
    await ingest_here(path)
    said = await anyio.to_thread.run_sync(run, path, "copies")
    assert "`copies: once` would store 2 passages" in said


async def test_what_is_forgotten_gives_way_to_its_copies(tmp_path: Path) -> None:
    path = settings_of(tmp_path)
    await ingest_here(path)
    path.write_text(path.read_text().replace("  one: {type: files, path: one}\n", ""), encoding="utf-8")
    await anyio.to_thread.run_sync(run, path, "forget", "one", "--yes")
    await ingest_here(path)
    reader = await LanceReader.open(str(tmp_path / "db"))
    assert await reader.counts() == {"two": (2, 4)}


async def test_an_audit_tells_of_copies_whose_text_nobody_has(two: Two) -> None:
    two.one.items.items = {"a.md": TEXTS[0], "b.md": TEXTS[0]}
    await two.one.ingest()
    await two.stored.remove("notes", ["a.md"])
    treatment = Treatment(
        embedder=two.one.embedder, grouping=two.one.grouping, recipes={"notes": world_recipe(two.one)}
    )
    report = await audit(two.stored, treatment)
    assert [(finding.kind, finding.key) for finding in report.findings] == [(Kind.MISSING, "b.md")]
    await two.one.ingest()
    assert (await audit(two.stored, treatment)).clean


@pytest.mark.parametrize("open_store", ["lance"], indirect=True)
async def test_a_rebuild_has_its_own_copies(two: Two, tmp_path: Path) -> None:
    two.one.items.items = {"a.md": TEXTS[0], "b.md": TEXTS[0]}
    await two.one.ingest()
    store = await LanceStore.open(str(tmp_path / "db"), space=two.one.embedder.space, rebuild=True)
    beside = replace(two.one, store=store)
    report = await beside.ingest()
    assert (report.added, report.copies, report.requests) == (1, 1, 0)
    await store.publish()
    assert await two.found() == [("notes", "a.md")]


def test_settings_say_what_becomes_of_copies(load: Load) -> None:
    assert load("sources: {wiki: {type: files, path: .}}").copies == "keep"
    with pytest.raises(SettingsError, match="copies"):
        load("copies: twice\nsources: {wiki: {type: files, path: .}}")
