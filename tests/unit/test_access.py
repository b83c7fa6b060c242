"""Access labels, from where they are said to what is found: by sources, settings, archives and old tables."""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import lancedb
import pyarrow as pa
import pytest
from typer.testing import CliRunner

from apps.cli import app
from config.build import connectors
from connectors.configured import Configured
from connectors.settings import SharedSettings
from pipeline import digest
from pipeline.errors import SettingsError
from pipeline.ingest import ingest_source
from pipeline.records import Column, Filter, ItemRef, JsonValue, RawDocument, is_label
from pipeline.stores._schema import LATER
from pipeline.stores.lance import LanceStore
from pipeline.stores.lance_reader import LanceReader
from tests.contract.store_contract import SPACE, embedded, places
from tests.fakes import MemorySource
from tests.ingested import ingest_now
from tests.settings_text import Load
from tests.world import World

WORDS = {"hr.md": "# Leave\n\nDays off for parents.", "open.md": "# Fern\n\nDays off for everybody."}


async def found(world: World, *access: str) -> set[str]:
    """The documents that somebody with these labels finds."""
    question = await world.embedder.embed_query("days off")
    hits = await world.store.nearest(question, limit=100, where=Filter(access=access))
    return {hit.key for hit in hits}


async def test_a_page_does_not_say_itself_who_may_see_it(world: World) -> None:
    world.items.items = {"a.md": "---\naccess: [everybody]\n---\n\nDays off."}
    world.items.access = {"a.md": ("board",)}
    await world.ingest()
    assert await found(world, "everybody") == set()
    assert await found(world, "board") == {"a.md"}


async def test_what_an_archive_holds_has_its_labels(world: World) -> None:
    inner, outer = io.BytesIO(), io.BytesIO()
    with zipfile.ZipFile(inner, "w") as file:
        file.writestr("deep.md", "Days off.")
    with zipfile.ZipFile(outer, "w") as file:
        file.writestr("a.md", "Days off, too.")
        file.writestr("inner.zip", inner.getvalue())
    archive = Archive(items={"all.zip": ""}, media_type="application/zip", held=outer.getvalue())
    archive.access = {"all.zip": ("board",)}
    world.items = archive
    await world.ingest()
    assert await found(world, "staff") == set()
    assert await found(world, "board") == {"all.zip!/a.md", "all.zip!/inner.zip!/deep.md"}
    archive.access = {"all.zip": ("staff",)}
    report = await world.ingest()
    assert (report.requests, report.failures) == (0, [])
    assert await found(world, "board") == set()
    assert len(await found(world, "staff")) == 2


class Archive(MemorySource):
    def __init__(self, *, held: bytes, **about: Any) -> None:
        super().__init__(**about)
        self.held = held

    async def load(self, ref: ItemRef) -> RawDocument:
        return replace(await super().load(ref), content=self.held)


async def test_settings_label_what_comes_without(world: World) -> None:
    world.items.items = dict(WORDS)
    world.items.access = {"open.md": ()}
    connector, other = [
        Configured(connector=world.items, settings=SharedSettings(access=[label]))
        for label in ("staff", "board")
    ]
    assert connector.recipe != other.recipe
    await ingest_source(connector, world.pipeline)
    assert await found(world) == {"open.md"}, "of which the source says that everybody may see it"
    assert await found(world, "staff") == {"open.md", "hr.md"}


@pytest.mark.parametrize(
    ("said", "seen_by"),
    [("hr", {"hr"}), (["hr", "board"], {"hr", "board"}), ([], {"staff"}), (None, {"staff"}), ({}, set())],
)
async def test_labels_may_stand_in_the_metadata(world: World, said: JsonValue, seen_by: set[str]) -> None:
    world.items.items = {"hr.md": WORDS["hr.md"]}
    world.items.metadata = {"hr.md": {"acl": {"readers": said}}}
    chosen = SharedSettings(access=["staff"], access_from="acl.readers")
    connector = Configured(connector=world.items, settings=chosen)
    report = await ingest_source(connector, world.pipeline)
    assert {one for one in ("hr", "board", "staff", "other") if await found(world, one)} == seen_by
    assert [failure.error for failure in report.failures] == ([] if seen_by else ["ItemUnreadable"])
    assert all("acl.readers" in failure.reason for failure in report.failures)


@pytest.mark.parametrize("label", ["", "  ", "two\nlines", "nul\0", "x" * 201, "half \ud800"])
async def test_what_is_no_label_costs_its_document(world: World, label: str) -> None:
    assert not is_label(label)
    world.items.items = dict(WORDS)
    world.items.access = {"hr.md": ("board", label)}
    report = await world.ingest()
    assert [(failure.key, failure.error) for failure in report.failures] == [("hr.md", "ItemUnreadable")]
    assert await found(world, "board") == {"open.md"}


def test_documents_without_labels_have_the_marks_that_they_always_had() -> None:
    ref = ItemRef(source="s", key="k", version="1")
    raw = RawDocument(ref=ref, content=b"x", media_type="text/plain")
    assert digest.content_key(raw) != digest.content_key(replace(raw, access=()))
    one, other = [digest.content_key(replace(raw, access=a)) for a in (("a", "b"), ("b", "a", "b"))]
    assert one == other
    plain = digest.row_key("T", None, "text/plain", {}, [])
    assert plain == digest.row_key("T", None, "text/plain", {}, [], ())
    assert plain != digest.row_key("T", None, "text/plain", {}, [], ("a",))


async def test_settings_say_labels(load: Load, tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("word")
    text = "sources: {wiki: {type: files, path: ., access: [staff, 'Ada’s crew'], access_from: acl.readers}}"
    for written, access in (
        (text, ("staff", "Ada’s crew")),
        ("sources: {wiki: {type: files, path: .}}", None),
    ):
        [(connector, _)] = connectors(load(written))
        [ref] = [ref async for ref in connector.list_items()]
        assert (await connector.load(ref)).access == access


@pytest.mark.parametrize("access", ["staff", "['']", "[' ']", '["a\\nb"]', "[3]", "true"])
def test_settings_refuse_what_is_no_label(load: Load, access: str) -> None:
    with pytest.raises(SettingsError, match=r"sources\.wiki\.access"):
        load(f"sources: {{wiki: {{type: files, path: ., access: {access}}}}}")


# --- tables of an earlier Docweave


async def make_old(uri: str, *, with_metadata_of_the_name: bool = False) -> None:
    """Tables as they were before labels, of two documents."""
    columns = [Column(name="team", type="text", path=("access",))] if with_metadata_of_the_name else []
    store = await LanceStore.open(uri, space=SPACE, columns=columns)
    await store.replace([embedded("a.md", "one word", metadata={"access": "x"}), embedded("b.md", "two")])
    database = await lancedb.connect_async(uri)
    for name in ("chunks", "documents"):
        table = await database.open_table(name)
        await table.drop_columns([*LATER[name]])
        if with_metadata_of_the_name:
            pin = json.dumps({"type": "text", "path": ["access"], "index": True})
            named: Any = {"path": "team", "rename": "access"}
            await table.alter_columns(named)
            await table.update_field_metadata({"path": "access", "metadata": {"docweave.column": pin}})


@pytest.mark.parametrize("with_metadata_of_the_name", [False, True])
async def test_tables_without_labels_are_read_as_they_are_and_get_them_with_the_next_write(
    tmp_path: Path, *, with_metadata_of_the_name: bool
) -> None:
    uri = str(tmp_path / "db")
    await make_old(uri, with_metadata_of_the_name=with_metadata_of_the_name)
    somebody = Filter(access=("staff",))
    reader = await LanceReader.open(uri)
    assert [key for _, key, _, _ in await places(reader, somebody)] == ["a.md", "b.md"]
    assert await reader.counts(()) == {"notes": (2, 2)}
    stored = [one async for one in reader.stored("notes", access=())]
    assert [one.marks[0].about.access for one in stored] == [(), ()]
    before = {one.key: one.vectors.tobytes() for one in stored}
    store = await LanceStore.open(uri, space=SPACE)
    async with store.lease("a run", wait=20):
        await store.replace([embedded("b.md", "two", access=("board",)), embedded("c.md", "word c")])
        await store.upkeep()
    assert [key for _, key, _, _ in await places(reader, somebody)] == ["a.md", "c.md"]
    assert await reader.counts(("board",)) == {"notes": (3, 3)}
    after = {one.key: one.vectors.tobytes() async for one in reader.stored("notes")}
    assert {key: after[key] for key in before} == before
    for name in ("chunks", "documents"):
        schema = await (await (await lancedb.connect_async(uri)).open_table(name)).schema()
        assert schema.field("access").type == pa.list_(pa.string())


async def test_a_run_that_is_stopped_between_rows_and_marks_leaves_no_other_labels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = str(tmp_path / "db")
    store = await LanceStore.open(uri, space=SPACE)
    await store.replace([embedded("a.md", "one word", access=("board",))])

    async def stopped(*_: object) -> None:
        raise OSError("the power is gone")

    monkeypatch.setattr("pipeline.stores._writing.merge", stopped)
    with pytest.raises(Exception, match="power"):
        await store.replace([embedded("a.md", "one word")])
    monkeypatch.undo()
    store = await LanceStore.open(uri, space=SPACE)
    async with store.lease("the next run", wait=20):
        assert await store.marks("notes") == {"a.md": ("", "")}, "it is read again"


# --- the command line


def test_the_command_line_asks_for_somebody_and_shows_labels(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "board").mkdir()
    (tmp_path / "docs" / "open.md").write_text(WORDS["open.md"], encoding="utf-8")
    (tmp_path / "board" / "hr.md").write_text(WORDS["hr.md"], encoding="utf-8")
    settings = tmp_path / "docweave.yaml"
    settings.write_text(
        "store: {uri: db}\nsources:\n  docs: {type: files, path: docs}\n"
        "  board: {type: files, path: board, access: [board]}\n"
    )
    ingest_now(settings)

    def run(*words: str) -> Any:
        done = CliRunner().invoke(app, [*words, "--config", str(settings), "--json"])
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout)

    def hits(*options: str) -> set[str]:
        return {hit["key"] for hit in run("search", "days off", *options)["hits"]}

    for mode in ("text", "vector", "hybrid"):
        assert hits("--mode", mode) == {"open.md", "hr.md"}
        assert hits("--mode", mode, "--as", "staff") == {"open.md"}
        assert hits("--mode", mode, "--as", "staff", "--as", "board") == {"open.md", "hr.md"}
    assert hits("--as", "staff", "--where", "x=y") == set()
    assert run("show", "hr.md")["documents"][0]["rows"][0]["access"] == ["board"]
    shown = CliRunner().invoke(app, ["show", "open.md", "--config", str(settings)]).stdout
    assert "everybody" in shown
