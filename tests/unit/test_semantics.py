"""docs/semantics.md, row by row: each event is done to a source and a store, and what a run does is counted.

The tests have the names of the events. What is to be seen stands in the page alone.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import lancedb
import pytest

from apps import tables
from connectors.configured import Configured
from connectors.settings import SharedSettings
from pipeline.budget import Budget
from pipeline.chunk import Chunker
from pipeline.errors import (
    DocweaveError,
    EmbedError,
    InputRefused,
    ParseError,
    ServiceUnavailable,
    SourceUnavailable,
)
from pipeline.ingest import ingest_source, plan_source
from pipeline.parse import DocumentParser
from pipeline.plan import RemovalGuard
from pipeline.protocols import Store
from pipeline.records import Contained, Document, Embedded, EmbedRequest, Filter, ItemRef, RawDocument
from pipeline.report import SourceReport
from pipeline.stores.lance import LanceStore
from tests.fakes import MemorySource, OracleEmbedder
from tests.settings_text import Load
from tests.world import Open, World, text

PAGE = Path(__file__).parents[2] / "docs" / "semantics.md"
TOLD = ("added", "changed", "renamed", "rewritten", "copies", "touched", "removed", "withheld", "left")
Run = Callable[[], Awaitable[SourceReport | None]]


@dataclass(frozen=True)
class Row:
    """A row of the page, in its words."""

    read: str
    embedded: str
    rows: str
    marks: str
    removed: str
    told: str


def page() -> dict[str, Row]:
    lines = re.findall(r"^\| (.+) \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    cells = [line.split(" | ") for line in lines]
    return {event: Row(*rest) for event, *rest in cells if event != "event"}


def name_of(event: str) -> str:
    return "test_" + re.sub(r"\W+", "_", event)


def test_every_row_of_the_page_has_its_test_and_every_test_its_row() -> None:
    tests = {name for name in globals() if name.startswith("test_")}
    assert {name_of(event) for event in page()} == tests - NO_ROWS


NO_ROWS = {
    "test_every_row_of_the_page_has_its_test_and_every_test_its_row",
    "test_a_thousand_of_ten_thousand_documents_are_removed_in_one_commit",
}


@dataclass
class Seen:
    """What a run did, by the keys of the documents."""

    read: set[str]
    embedded: set[str]
    rows: set[str]
    marks: set[str]
    removed: set[str]
    told: set[str]


@dataclass
class Watch:
    """Compares what a run does with its row of the page."""

    world: World
    row: Row
    _written: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.note(self.world.store)

    def note(self, store: Store) -> None:
        """Note what is written by this store."""
        replaced = store.replace

        async def noted(documents: Sequence[Embedded]) -> None:
            await replaced(documents)
            self._written |= {document.prepared.state.key for document in documents}

        store.replace = noted  # type: ignore[method-assign]

    async def holds(self, run: Run | None = None, *, fresh: bool = True, **words: str | set[str]) -> None:
        """Run, and compare. `words` are those of the row, beside "all", each with the keys that it means.

        `fresh`: whether the store then holds what a first ingest of the same source would give.
        """
        seen, report, before = await self._seen(run or self.world.ingest)
        meant = {name.replace("_", " "): keys(value) for name, value in words.items()}
        meant = {"–": set(), "all": set(self.world.items.items) or set(before["marks"])} | meant
        wanted = {
            name: meant[getattr(self.row, name)] for name in ("read", "embedded", "rows", "marks", "removed")
        }
        assert {name: getattr(seen, name) for name in wanted} == wanted
        assert seen.told == set(self.row.told.replace("–", "unchanged").split(", "))
        if report:
            assert report.requests == len(self.world.embedder.requests)
            assert all(self.world.sent_now.count(key) == 1 for key in self.world.sent_now)
        if fresh:
            await self.world.assert_fresh()

    async def _seen(self, run: Run) -> tuple[Seen, SourceReport | None, dict[str, Any]]:
        world = self.world
        before, times = await world.content(), await updated(world)
        self._written.clear()
        world.embedder.requests.clear()
        world.items.loaded.clear()
        report, told = None, set()
        try:
            report = await run()
        except DocweaveError as error:
            told = {type(error).__name__}
        after, later = await world.content(), await updated(world)
        states, old = after["states"], before["states"]
        removed = (old.keys() - states.keys()) | (having_rows(before) - having_rows(after))
        seen = Seen(
            read=set(world.items.loaded),
            embedded={key for key, state in states.items() if set(state.group_keys) & set(world.sent_now)},
            rows=self._written & having_rows(after),
            marks={key for key in states if states[key] != old.get(key)},
            removed=removed,
            told=told or told_by(report),
        )
        for key in states.keys() - self._written:
            assert rows_of(after, key) == rows_of(before, key), f"{key} was not to be written"
            assert later[key] == times[key], f"{key} was not to be written"
        return seen, report, before


def keys(named: str | set[str]) -> set[str]:
    return {named} if isinstance(named, str) else named


def told_by(report: SourceReport | None) -> set[str]:
    if report is None:
        return {"unchanged"}
    told = {name for name in (*TOLD, "failures", "moved") if getattr(report, name)}
    return told or {"unchanged"}


def rows_of(content: dict[str, Any], key: str) -> list[Any]:
    return [row for row in content["rows"] if row.key == key]


def having_rows(content: dict[str, Any]) -> set[str]:
    return {row.key for row in content["rows"]}


async def updated(world: World) -> dict[str, Any]:
    """When the store says that each document was written; a store in memory says nothing."""
    stored = world.store.stored(world.items.source)
    return {document.key: [mark.updated_at for mark in document.marks] async for document in stored}


@pytest.fixture
async def world(world: World) -> World:
    await world.ingest()
    return world


@pytest.fixture
def watch(world: World, request: pytest.FixtureRequest) -> Watch:
    rows = {name_of(event): row for event, row in page().items()}
    return Watch(world, rows[request.node.originalname])


# --- documents


async def test_nothing_has_changed(watch: Watch) -> None:
    await watch.holds()


async def test_a_document_is_added(world: World, watch: Watch) -> None:
    world.items.items["new.md"] = text("new")
    await watch.holds(it="new.md")


async def test_a_document_is_edited(world: World, watch: Watch) -> None:
    world.items.items["leave.md"] += "\nOne more line.\n"
    await watch.holds(it="leave.md")
    assert len(world.sent_now) == 1


async def test_a_part_of_a_long_document_is_edited(world: World, watch: Watch) -> None:
    world.items.items["book.md"] = text("book", sections=200)
    await world.ingest()
    whole = len(world.sent_now)
    world.items.items["book.md"] += "\nOne more line.\n"
    await watch.holds(it="book.md", a_part_of_it="book.md")
    assert 0 < len(world.sent_now) < whole / 2


async def test_an_edit_is_taken_back(world: World, watch: Watch) -> None:
    before = world.items.items["leave.md"]
    world.items.items["leave.md"] += "\nOne more line.\n"
    await world.ingest()
    world.items.items["leave.md"] = before
    await watch.holds(it="leave.md")


async def test_a_document_is_touched(world: World, watch: Watch) -> None:
    world.items.versions["leave.md"] = "touched"
    await watch.holds(it="leave.md")


async def test_a_document_is_renamed(world: World, watch: Watch) -> None:
    world.items.items["people/leave.md"] = world.items.items.pop("leave.md")
    await watch.holds(the_new_key="people/leave.md", the_old_key="leave.md")


async def test_a_document_is_renamed_and_edited(world: World, watch: Watch) -> None:
    world.items.items["people/leave.md"] = world.items.items.pop("leave.md") + "\nOne more line.\n"
    await watch.holds(the_new_key="people/leave.md", the_old_key="leave.md")


async def test_a_document_is_copied(world: World, watch: Watch) -> None:
    world.items.items["copy.md"] = world.items.items["leave.md"]
    await watch.holds(the_copy="copy.md")


async def test_a_document_moves_to_another_source(world: World, watch: Watch) -> None:
    world.items = MemorySource(source="archive", items={"leave.md": world.items.items["leave.md"]})
    await watch.holds(it="leave.md", fresh=False)


async def test_a_document_has_moved_to_another_source(world: World, watch: Watch) -> None:
    moved = world.items.items.pop("leave.md")
    archive = replace(world, items=MemorySource(source="archive", items={"leave.md": moved}))
    await archive.ingest()
    there = await archive.content()
    await watch.holds(it="leave.md")
    assert await archive.content() == there


async def test_a_document_is_emptied(world: World, watch: Watch) -> None:
    world.items.items["leave.md"] = " \n"
    await watch.holds(it="leave.md")


async def test_a_document_is_removed(world: World, watch: Watch) -> None:
    del world.items.items["leave.md"]
    await watch.holds(it="leave.md")


async def test_a_document_comes_back(world: World, watch: Watch) -> None:
    gone = world.items.items.pop("leave.md")
    await world.ingest()
    world.items.items["leave.md"] = gone
    await watch.holds(it="leave.md")


@pytest.mark.parametrize("what", ["metadata", "labels"])
async def test_its_metadata_or_access_labels_change(world: World, watch: Watch, what: str) -> None:
    if what == "metadata":
        world.items.metadata["leave.md"] = {"tags": ["people", "board"]}
        await watch.holds(it="leave.md")
        [tags] = {tuple(row.metadata["tags"]) for row in rows_of(await world.content(), "leave.md")}
        assert tags == ("people", "board")
    else:
        world.items.access["leave.md"] = ("people", "board", "people")
        await watch.holds(it="leave.md")
        seen = {access: await found_by(world, access) for access in [("board",), ("staff",), ()]}
        assert {access for access, found in seen.items() if "leave.md" in found} == {("board",)}
        assert seen["board",] > seen[()] == seen["staff",]


async def found_by(world: World, access: tuple[str, ...]) -> set[str]:
    """The documents that somebody with these labels finds."""
    question = await world.embedder.embed_query("anything")
    hits = await world.store.nearest(question, limit=10_000, where=Filter(access=access))
    return {hit.key for hit in hits}


class Titled(MemorySource):
    """Gives titles and addresses of its own."""

    titles: dict[str, str]

    def ref(self, key: str) -> ItemRef:
        ref = super().ref(key)
        return replace(ref, version=f"{ref.version} {self.titles.get(key)}")

    async def load(self, ref: ItemRef) -> RawDocument:
        title = self.titles.get(ref.key)
        return replace(
            await super().load(ref), title=title, url=title and f"https://example.org/{len(title)}"
        )


async def titled(world: World, sections: int) -> Titled:
    source = Titled(items={**world.items.items, "deed.md": text("deed", sections)})
    source.titles = {"deed.md": "The deed"}
    world.items = source
    await world.ingest()
    source.titles = {"deed.md": "The old deed"}
    return source


async def test_its_title_or_url_changes(world: World, watch: Watch) -> None:
    await titled(world, sections=2)
    await watch.holds(it="deed.md")
    rows = rows_of(await world.content(), "deed.md")
    assert {(row.title, row.url) for row in rows} == {("The old deed", "https://example.org/12")}


async def test_the_title_of_a_long_document_changes(world: World, watch: Watch) -> None:
    await titled(world, sections=200)
    await watch.holds(it="deed.md")


class ParserOf:
    """The parser as of another version, which may do something else to a text, or fail."""

    def __init__(self, change: Callable[[str], str] = str, broken: Iterable[str] = ()) -> None:
        self.recipe = f"{DocumentParser().recipe}, another version"
        self._change, self._broken = change, broken

    async def parse(self, raw: RawDocument) -> Document:
        if raw.ref.key in self._broken:
            raise ParseError("it is broken")
        content = self._change(raw.content.decode()).encode()
        return await DocumentParser().parse(replace(raw, content=content))

    async def children(self, raw: RawDocument) -> Contained:
        return await DocumentParser().children(raw)


class Broken(ParserOf):
    """Of this version."""

    def __init__(self, *broken: str) -> None:
        super().__init__(broken=broken)
        self.recipe = DocumentParser().recipe


async def test_a_document_cannot_be_parsed(world: World, watch: Watch) -> None:
    world.items.items["leave.md"] += "\nOne more line.\n"
    world.parser = Broken("leave.md")
    await watch.holds(it="leave.md", fresh=False)
    assert (await world.ingest()).failures, "it is tried again by every run"


async def test_a_document_cannot_be_read(world: World, watch: Watch) -> None:
    world.items.items["leave.md"] = None  # type: ignore[assignment]  # listed, and not to be loaded
    await watch.holds(it="leave.md", fresh=False)


async def test_a_document_vanishes_after_it_was_listed(world: World, watch: Watch) -> None:
    whole = dict(world.items.items)
    world.items.items["leave.md"] = None  # type: ignore[assignment]  # listed, and gone when it is loaded
    await watch.holds(it="leave.md", fresh=False)
    world.items.items = {key: whole[key] for key in whole if key != "leave.md"}
    assert (await world.ingest()).removed == 1


async def test_the_service_refuses_a_document(world: World, watch: Watch) -> None:
    world.items.items["leave.md"] = "# Poison\n\nDo not embed this."
    world.embedder.refuse = poison
    await watch.holds(it="leave.md", fresh=False)


def poison(request: EmbedRequest) -> EmbedError | None:
    texts = [chunk.text for group in request.groups for chunk in group.chunks]
    return InputRefused("no") if any("Do not embed" in sent for sent in texts) else None


async def test_a_document_that_failed_is_mended(world: World, watch: Watch) -> None:
    world.items.items["leave.md"] += "\nOne more line.\n"
    world.parser = Broken("leave.md")
    await world.ingest()
    world.parser = DocumentParser()
    await watch.holds(it="leave.md")


async def test_two_documents_have_the_same_text(world: World, watch: Watch) -> None:
    world.items.items["one.md"] = world.items.items["other.md"] = text("twins")
    await watch.holds(both={"one.md", "other.md"}, one_of_them={"one.md", "other.md"})
    assert len(world.sent_now) == 1


# --- settings


async def test_a_setting_changes_that_touches_no_document(world: World, watch: Watch) -> None:
    world.budgets = [Budget(name="this run", usd=0.0)]
    concurrent = replace(world.pipeline, concurrency=1)
    await watch.holds(lambda: ingest_source(world.items, concurrent, budgets=world.budgets))


async def test_the_metadata_of_the_source_changes(world: World, watch: Watch) -> None:
    world.metadata = {"team": "people"}
    await watch.holds()


async def test_the_access_labels_of_the_source_change(world: World, watch: Watch) -> None:
    world.items.access["leave.md"] = ("people",)
    await world.ingest()
    labelled = Configured(connector=world.items, settings=SharedSettings(access=["staff"]))
    every = set(world.items.items)
    others = every - {"leave.md"}
    await watch.holds(
        lambda: ingest_source(labelled, world.pipeline), all_but_those_with_their_own=others, fresh=False
    )
    assert await found_by(world, ("staff",)) == others
    assert await found_by(world, ("people",)) == {"leave.md"}


async def test_the_chunk_size_changes(world: World, watch: Watch) -> None:
    world.chunker = Chunker(max_tokens=128)
    await watch.holds()


async def test_a_parser_or_splitter_changes_and_gives_the_same(world: World, watch: Watch) -> None:
    world.parser = ParserOf()
    await watch.holds()


async def test_a_parser_changes_and_gives_other_text(world: World, watch: Watch) -> None:
    world.parser = ParserOf(lambda text: text.replace("things", "matters"))
    await watch.holds()


async def test_a_setting_is_changed_back(world: World, watch: Watch) -> None:
    first, world.chunker = world.chunker, Chunker(max_tokens=128)
    await world.ingest()
    world.chunker = first
    await watch.holds()


@pytest.fixture
def uri(tmp_path: Path) -> str:
    return str(tmp_path / "db")


@pytest.mark.parametrize("open_store", ["lance"], indirect=True)
@pytest.mark.parametrize("change", [{"model": "other"}, {"dimensions": 32}, {"encoding": "binary"}])
async def test_the_model_dimensions_or_format_changes(
    world: World, watch: Watch, uri: str, change: dict[str, Any]
) -> None:
    async def run() -> SourceReport:
        other = OracleEmbedder(space=replace(world.embedder.space, **change))
        store = await LanceStore.open(uri, space=other.space)
        return await replace(world, store=store, embedder=other).ingest()

    await watch.holds(run)


async def rebuilding(world: World, uri: str, embedder: OracleEmbedder) -> World:
    store = await LanceStore.open(uri, space=embedder.space, rebuild=True)
    return replace(world, store=store, embedder=embedder)


@pytest.mark.parametrize("open_store", ["lance"], indirect=True)
async def test_a_rebuild_for_another_model(world: World, watch: Watch, uri: str) -> None:
    before = await world.content()
    other = OracleEmbedder(space=replace(world.embedder.space, model="other"))
    beside = await rebuilding(world, uri, other)
    await Watch(beside, watch.row).holds()
    assert await world.content() == before
    await beside.store.publish()
    await beside.assert_fresh()


@pytest.mark.parametrize("open_store", ["lance"], indirect=True)
async def test_a_rebuild_for_another_chunk_size(world: World, watch: Watch, uri: str) -> None:
    before = await world.content()
    beside = await rebuilding(world, uri, OracleEmbedder())
    beside.chunker = Chunker(max_tokens=128)
    await Watch(beside, watch.row).holds()
    assert await world.content() == before


@pytest.mark.parametrize("open_store", ["lance"], indirect=True)
async def test_a_model_is_changed_back(world: World, watch: Watch, uri: str) -> None:
    other = OracleEmbedder(space=replace(world.embedder.space, model="other"))
    for embedder in (other, OracleEmbedder(space=replace(other.space, model="third"))):
        beside = await rebuilding(world, uri, embedder)
        await beside.ingest()
        await beside.store.publish()
    await Watch(await rebuilding(world, uri, OracleEmbedder()), watch.row).holds()


# --- copies


@pytest.fixture
async def once(world: World) -> World:
    """Where copies are stored once, with one: of `leave.md`."""
    world.copies_once = True
    world.items.items["copy.md"] = world.items.items["leave.md"]
    await world.ingest()
    await world.ingest()
    assert (await world.content())["states"]["copy.md"].group_keys
    return world


async def test_a_copy_is_added(once: World, watch: Watch) -> None:
    once.items.items["zzz.md"] = once.items.items["leave.md"]
    await watch.holds(it="zzz.md", fresh=False)


async def test_a_copy_is_added_for_other_people(once: World, watch: Watch) -> None:
    once.items.items["board.md"] = once.items.items["leave.md"]
    once.items.access["board.md"] = ("board",)
    await watch.holds(it="board.md", fresh=False)


async def test_two_copies_are_added(once: World, watch: Watch) -> None:
    once.items.items["one.md"] = once.items.items["other.md"] = text("twins")
    both = {"one.md", "other.md"}
    await watch.holds(both=both, one_of_them=both, the_first_of_them="one.md", fresh=False)
    assert len(once.sent_now) == 1


async def test_a_document_becomes_a_copy(once: World, watch: Watch) -> None:
    once.items.items["travel.md"] = once.items.items["leave.md"]
    await watch.holds(it="travel.md", fresh=False)


async def test_a_copy_is_edited(once: World, watch: Watch) -> None:
    once.items.items["copy.md"] += "\nOne more line.\n"
    await watch.holds(it="copy.md", fresh=False)


async def test_a_copy_is_removed(once: World, watch: Watch) -> None:
    del once.items.items["copy.md"]
    await watch.holds(it="copy.md", fresh=False)


async def test_what_it_copies_is_removed(once: World, watch: Watch) -> None:
    del once.items.items["leave.md"]
    await watch.holds(it="copy.md", what_it_copies="leave.md")


async def test_what_it_copies_is_edited(once: World, watch: Watch) -> None:
    once.items.items["leave.md"] += "\nOne more line.\n"
    await watch.holds(it="copy.md", what_it_copies="leave.md", both={"copy.md", "leave.md"})


async def test_what_it_copies_gets_other_labels(once: World, watch: Watch) -> None:
    once.items.access["leave.md"] = ("board",)
    await watch.holds(it="copy.md", both={"copy.md", "leave.md"})


async def test_what_it_copies_is_renamed(once: World, watch: Watch) -> None:
    once.items.items["people/leave.md"] = once.items.items.pop("leave.md")
    new = {"people/leave.md"}
    words = {"the_new_key, it": {*new, "copy.md"}}
    await watch.holds(it="copy.md", the_new_key=new, the_old_key="leave.md", **words, fresh=False)


async def test_what_it_copies_goes_from_another_source(once: World, watch: Watch) -> None:
    archive = replace(once, items=MemorySource(source="archive", items={"z.md": text("z")}))
    await archive.ingest()
    once.items.items["z.md"] = text("z")
    assert (await once.ingest()).copies == 1
    archive.items.items = {}
    await archive.ingest()
    await watch.holds(it="z.md", fresh=False)


async def test_copies_are_to_be_stored_once(world: World, watch: Watch) -> None:
    world.items.items["zzz.md"] = world.items.items["leave.md"]
    await world.ingest()
    world.copies_once = True
    await watch.holds(it="zzz.md", fresh=False)


async def test_copies_are_to_be_kept_again(once: World, watch: Watch) -> None:
    once.copies_once = False
    copies = {one.state.key for one in await once.store.copies()}
    await watch.holds(it=copies)


# --- sources


async def test_a_source_is_taken_out_of_the_settings(world: World, watch: Watch) -> None:
    async def run() -> None:
        other = replace(world, items=MemorySource({"start.md": text("start")}, source="wiki"))
        assert (await other.ingest()).added == 1
        world.embedder.requests.clear()

    await watch.holds(run)


@pytest.mark.parametrize("open_store", ["lance"], indirect=True)
async def test_a_source_is_forgotten(world: World, watch: Watch, uri: str, load: Load) -> None:
    settings = load(f"store: {{uri: {uri}}}\nsources: {{wiki: {{type: files, path: .}}}}\n")

    async def run() -> None:
        assert await tables.forget(settings, "notes", tell=print) == 4

    await watch.holds(run, fresh=False)


@pytest.fixture
async def many(world: World) -> World:
    """Of forty documents."""
    world.items.items = {f"{n:02}.md": text(f"n{n}", sections=1) for n in range(40)}
    await world.ingest()
    return world


@pytest.fixture
async def fewer(many: World) -> World:
    """Of which twenty are gone, and were withheld."""
    many.items.items = {key: text for key, text in many.items.items.items() if key >= "20.md"}
    assert (await many.ingest()).withheld == 20
    return many


THOSE_GONE = {f"{n:02}.md" for n in range(20)}


def approving(world: World, approved: int) -> Run:
    async def run() -> SourceReport:
        return await ingest_source(world.items, world.pipeline, guard=RemovalGuard(approved=approved))

    return run


async def test_a_source_lists_nothing(many: World, watch: Watch) -> None:
    many.items.items.clear()
    await watch.holds(fresh=False)


async def test_a_source_of_ten_documents_lists_nothing(world: World, watch: Watch) -> None:
    world.items.items = {f"{n}.md": text(f"n{n}", sections=1) for n in range(10)}
    await world.ingest()
    world.items.items.clear()
    await watch.holds()


async def test_many_documents_are_gone_and_one_is_new(many: World, watch: Watch) -> None:
    many.items.items = {key: text for key, text in many.items.items.items() if key >= "20.md"}
    many.items.items["new.md"] = text("new")
    await watch.holds(the_new_one="new.md", fresh=False)


async def test_withheld_removals_are_approved(fewer: World, watch: Watch) -> None:
    await watch.holds(approving(fewer, 20), those_gone=THOSE_GONE)


async def test_more_are_gone_than_were_approved(fewer: World, watch: Watch) -> None:
    await watch.holds(approving(fewer, 19), fresh=False)


async def test_what_was_withheld_is_listed_again(fewer: World, watch: Watch) -> None:
    fewer.items.items |= {f"{n:02}.md": text(f"n{n}", sections=1) for n in range(20)}
    await watch.holds()


async def test_every_key_becomes_another_one(many: World, watch: Watch) -> None:
    many.items.items = {f"elsewhere/{key}": text for key, text in many.items.items.items()}
    await watch.holds(fresh=False)


async def test_a_listing_breaks_off(world: World, watch: Watch) -> None:
    world.items.items["aaa.md"] = text("new")
    world.items.error, world.items.fail_listing_after = SourceUnavailable("connection lost"), 3
    await watch.holds(fresh=False)


async def test_a_key_is_listed_twice(world: World, watch: Watch) -> None:
    class Twice(MemorySource):
        async def list_items(self) -> AsyncIterator[ItemRef]:
            for _ in range(2):
                async for ref in super().list_items():
                    yield ref

    world.items = Twice(items={**world.items.items, "new.md": text("new")})
    await watch.holds(fresh=False)


# --- runs


async def test_a_budget_is_reached(world: World, watch: Watch) -> None:
    world.items.items["leave.md"] += "\nOne more line.\n"
    world.budgets = [Budget(name="this run", usd=0.0)]
    await watch.holds(it="leave.md", fresh=False)


async def test_a_budget_is_reached_and_something_is_free(world: World, watch: Watch) -> None:
    world.items.items["leave.md"] += "\nOne more line.\n"
    world.items.items["trips.md"] = world.items.items.pop("travel.md")
    world.budgets = [Budget(name="this run", usd=0.0)]
    both = {"leave.md", "trips.md"}
    await watch.holds(both=both, the_renamed_one="trips.md", the_old_key="travel.md", fresh=False)


def add_sixty(world: World) -> None:
    """More than fit in one request or two."""
    world.items.items |= {f"{n:02}.md": text(f"n{n}") for n in range(60)}


async def test_the_service_goes_away(world: World, watch: Watch) -> None:
    world.items.items = {}
    await world.ingest()
    add_sixty(world)

    def refuse(_request: EmbedRequest) -> EmbedError | None:
        return ServiceUnavailable("down") if len(world.embedder.requests) > 1 else None

    world.embedder.refuse = refuse
    read: set[str] = set()
    stored: set[str] = set()

    async def run() -> SourceReport:
        try:
            return await world.ingest()
        finally:
            read.update(world.items.loaded)
            stored.update(await world.store.marks("notes"))

    await watch.holds(run, some=read, the_first_ones=stored, fresh=False)
    assert 0 < len(stored) < 60


async def test_a_run_follows_one_that_was_stopped(world: World, watch: Watch) -> None:
    add_sixty(world)
    with anyio.CancelScope() as stopped:

        def stop(_request: EmbedRequest) -> None:
            if len(world.embedder.requests) > 1:
                stopped.cancel()

        world.embedder.refuse = stop
        await world.ingest()
    assert stopped.cancelled_caught
    rest = set(world.items.items) - set(await world.store.marks("notes"))
    assert 0 < len(rest) < 60
    world.embedder.refuse = lambda _request: None
    await watch.holds(the_rest=rest)
    world.assert_nothing_was_paid_twice()


async def test_two_runs_overlap(world: World, watch: Watch, open_store: Open) -> None:
    world.items.items = {}
    await world.ingest()
    world.items.items = {f"{n}.md": text(f"n{n}") for n in range(10)}
    other = await open_store(world.embedder) if isinstance(world.store, LanceStore) else world.store
    watch.note(other)
    reports: list[SourceReport] = []

    async def one(store: Store) -> None:
        async with store.lease("ingesting notes", wait=20, tell=lambda _: None):
            reports.append(await ingest_source(world.items, replace(world.pipeline, store=store)))

    async def run() -> SourceReport:
        async with anyio.create_task_group() as runs:
            runs.start_soon(one, world.store)
            runs.start_soon(one, other)
        return max(reports, key=lambda report: report.added)

    await watch.holds(run)
    assert sorted(report.unchanged for report in reports) == [0, 10]


async def test_a_plan_is_applied_and_a_document_has_moved_since(world: World, watch: Watch) -> None:
    world.items.items |= {"one.md": text("one"), "two.md": text("two"), "three.md": text("three")}
    plan = await plan_source(world.items, world.pipeline)
    world.items.items["two.md"] += "\nOne more line.\n"

    async def run() -> SourceReport:
        return await ingest_source(world.items, world.pipeline, plan=plan)

    others = {"one.md", "three.md"}
    await watch.holds(run, all=others | {"two.md"}, the_others=others, fresh=False)


# --- and at any size


@pytest.mark.parametrize("open_store", ["lance"], indirect=True)
async def test_a_thousand_of_ten_thousand_documents_are_removed_in_one_commit(
    world: World, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.items.items = dict.fromkeys([f"{n:05}.md" for n in range(10_000)], "Some text.")
    await store_as_ingested(world)
    monkeypatch.setattr(world.store, "upkeep", anyio.lowlevel.checkpoint)  # has commits of its own
    before = await commits(uri)
    for n in range(0, 10_000, 10):
        del world.items.items[f"{n:05}.md"]
    report = await world.ingest()
    assert (report.removed, report.unchanged, report.withheld) == (1_000, 9_000, 0)
    chunks, documents = before
    assert await commits(uri) == [chunks + 2, documents + 1], "what is to go is told first"
    assert await world.store.counts() == {"notes": (9_000, 9_000)}


async def store_as_ingested(world: World) -> None:
    """Documents that all have one text, as an ingest would store them."""
    stored: list[Embedded] = []
    with pytest.MonkeyPatch.context() as patch:

        async def replace_none(documents: Sequence[Embedded]) -> None:
            stored.extend(documents)

        patch.setattr(world.store, "replace", replace_none)
        await replace(world, items=MemorySource({"any.md": "Some text."})).ingest()
    [one] = stored
    await world.store.remove("notes", list(await world.store.marks("notes")))
    refs = [world.items.ref(key) for key in world.items.items]
    states = [replace(one.prepared.state, key=ref.key, version=ref.version) for ref in refs]
    await world.store.replace([replace(one, prepared=replace(one.prepared, state=state)) for state in states])


async def commits(uri: str) -> list[int]:
    database = await lancedb.connect_async(uri)
    return [await (await database.open_table(name)).version() for name in ("chunks", "documents")]
