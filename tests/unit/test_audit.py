"""An audit finds each damage for what it is, nothing where there is none; a repair lets an ingest mend it."""

from __future__ import annotations

import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import anyio
import lancedb
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import digest
from pipeline.audit import AuditReport, audit
from pipeline.budget import Budget
from pipeline.chunk import Chunker
from pipeline.errors import InputRefused, RequestTooLarge, SettingsError
from pipeline.examine import Treatment
from pipeline.findings import Finding, Kind
from pipeline.plan import USUAL_GUARD, RemovalGuard
from pipeline.protocols import Store
from pipeline.records import EmbeddingSpace, EmbedLimits, Encoding, Grouping, Lead
from pipeline.reembed import Sample
from pipeline.repair import Repaired, repair
from pipeline.stores.lance import LanceStore
from pipeline.stores.lance_reader import LanceReader
from pipeline.stores.memory import MemoryStore
from tests.fakes import OracleEmbedder
from tests.world import World, text

LIMITS = EmbedLimits(
    group_tokens=400, group_chunks=500, request_tokens=4_000, request_groups=64, request_chunks=500
)
WITHOUT_CONTEXT = replace(LIMITS, group_chunks=1)
WINDOWS = Grouping(overlap_tokens=80, lead=Lead.OPENING, lead_tokens=50)
NAMES = ("leave", "travel", "expenses", "devices")


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.audit.SETTLING", 0.0)


@pytest.fixture
def uri(tmp_path: Path) -> str:
    return str(tmp_path / "db")


@pytest.fixture
async def world(uri: str) -> World:
    """Four documents of a group each, and one of several, in a LanceDB store."""
    embedder = OracleEmbedder(limits=LIMITS)
    store = await LanceStore.open(uri, space=embedder.space)
    world = World(store=store, embedder=embedder, grouping=WINDOWS)
    world.items.items = {f"{name}.md": text(name) for name in NAMES}
    world.items.items["it's a 'book'.md"] = text("book", sections=30)
    await world.ingest()
    return world


def treatment(world: World) -> Treatment:
    parts = world.pipeline
    recipe = digest.recipe(
        parts.parser.recipe, parts.chunker.recipe, parts.embedder, parts.grouping, world.metadata
    )
    return Treatment(embedder=parts.embedder, grouping=parts.grouping, recipes={world.items.source: recipe})


async def audited(world: World, *sources: str, sample: int = 0, seed: int = 0) -> AuditReport:
    return await audit(world.store, treatment(world), sources, sample=Sample(sample, seed))


async def repaired(
    world: World, report: AuditReport, guard: RemovalGuard = USUAL_GUARD, *, journal: bool = True
) -> dict[str, Repaired]:
    async with world.store.lease("repairing"):
        guards = {world.items.source: guard}
        return await repair(world.store, treatment(world), report.findings, guards, journal=journal)


def kinds(report: AuditReport) -> list[tuple[str, str]]:
    return sorted({(finding.key, finding.kind.value) for finding in report.findings})


async def table(uri: str, name: str = "chunks") -> lancedb.AsyncTable:
    return await (await lancedb.connect_async(uri)).open_table(name)


async def rows(uri: str) -> dict[str, Any]:
    """All that stands in both tables, but for when it was written, and for rows that are no chunks."""
    found = {}
    for name in ("chunks", "documents"):
        query = (await table(uri, name)).query().where("key IS NOT NULL")
        listed = (await query.to_arrow()).to_pylist()
        listed = [{k: v for k, v in row.items() if k != "updated_at"} for row in listed]
        found[name] = sorted(listed, key=lambda row: row["id"])
    return found


# --- nothing is found where nothing is wrong

WORDS = st.text(st.characters(codec="utf-8"), max_size=30)
TEXTS = st.lists(st.one_of(WORDS, st.sampled_from(["# One", "## Two", "", "a b c " * 40])), max_size=12)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | WORDS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(WORDS, inner, max_size=2),
    max_leaves=4,
)
DOCUMENTS = st.dictionaries(
    st.text(st.characters(codec="utf-8"), max_size=12),
    st.tuples(TEXTS, st.sampled_from(["\n", "\n\n", " \n\n\n"]), st.dictionaries(WORDS, VALUES, max_size=2)),
    max_size=4,
)
ENCODINGS: list[Encoding] = ["int8", "binary", "float16"]


@settings(max_examples=10, deadline=None)
@given(
    documents=DOCUMENTS,
    limits=st.sampled_from([LIMITS, WITHOUT_CONTEXT]),
    lead=st.sampled_from(list(Lead)),
)
@pytest.mark.parametrize("lance", [True, False], ids=["lance", "memory"])
def test_any_documents_audit_clean_after_an_ingest(
    *, lance: bool, documents: dict[str, Any], limits: EmbedLimits, lead: Lead
) -> None:
    async def run(folder: str) -> None:
        embedder = OracleEmbedder(limits=limits)
        store: Store = MemoryStore(embedder.space)
        if lance:
            store = await LanceStore.open(folder, space=embedder.space)
        world = World(
            store=store,
            embedder=embedder,
            chunker=Chunker(max_tokens=32, merge_below=8),
            grouping=Grouping(overlap_tokens=60, lead=lead, lead_tokens=40),
        )
        for key, (parts, between, metadata) in documents.items():
            world.items.items[key] = between.join(parts)
            world.items.metadata[key] = metadata
        ingest = await world.ingest()
        report = await audited(world, sample=1_000)
        assert report.findings == []
        assert report.clean
        tally = report.sources.get("notes")
        assert (tally.documents if tally else 0) == ingest.added
        if tally:
            assert tally.proven == tally.groups or tally.unproven

    with tempfile.TemporaryDirectory() as folder:
        anyio.run(run, folder)


@pytest.mark.parametrize("encoding", ENCODINGS)
async def test_every_encoding_audits_clean_and_is_compared_bit_for_bit(uri: str, encoding: Encoding) -> None:
    space = EmbeddingSpace(provider="test", model="x", dimensions=16, encoding=encoding)
    embedder = _OfSpace(space=space)
    world = World(store=await LanceStore.open(uri, space=space), embedder=embedder)
    world.items.items = {f"{name}.md": text(name) for name in NAMES}
    await world.ingest()
    report = await audited(world, sample=100)
    assert report.clean
    assert report.sampled
    assert (report.sampled.groups, report.sampled.alike) == (4, 4)
    await _set_vector(uri, "leave.md", 1, np.roll(np.eye(space.width)[0] * 1, 1))
    [finding] = (await audited(world, sample=100)).findings
    assert finding.kind is Kind.EMBEDDING
    assert finding.cosine is not None
    assert finding.cosine < 0.999


@dataclass
class _OfSpace(OracleEmbedder):
    def _code(self, text: str) -> Any:
        codes = super()._code(text)[: self.space.width]
        if self.space.encoding == "float16":
            codes = codes / np.linalg.norm(codes.astype(np.float32))
        return codes.view(np.uint8) if self.space.encoding == "binary" else codes.astype(self.space.dtype)


async def test_each_group_of_a_long_document_is_proven(world: World) -> None:
    report = await audited(world)
    assert report.clean
    tally = report.sources["notes"]
    assert (tally.documents, tally.configured) == (5, True)
    assert tally.proven == tally.groups > 10
    assert tally.other_settings == tally.unproven == 0


async def test_groups_that_were_halved_for_the_service_are_proven(uri: str) -> None:
    def refuse(request: Any) -> Any:
        too_large = any(group.tokens > 150 for group in request.groups)
        return RequestTooLarge("too large") if too_large else None

    embedder = OracleEmbedder(limits=LIMITS, refuse=refuse)
    world = World(store=await LanceStore.open(uri, space=embedder.space), embedder=embedder, grouping=WINDOWS)
    world.items.items = {"book.md": text("book", sections=12)}
    await world.ingest()
    report = await audited(world)
    assert report.clean
    assert report.sources["notes"].proven == report.sources["notes"].groups
    assert max(group.tokens for request in embedder.requests for group in request.groups) <= 150


async def test_a_source_that_the_settings_name_no_more_is_checked_by_its_rows_alone(world: World) -> None:
    unnamed = replace(treatment(world), recipes={})
    report = await audit(world.store, unnamed)
    assert report.clean
    assert (report.sources["notes"].configured, report.sources["notes"].proven) == (False, 0)


async def test_documents_of_other_settings_are_told_and_are_no_finding(world: World) -> None:
    world.chunker = Chunker(max_tokens=48, merge_below=8)
    report = await audited(world)
    assert report.clean
    assert report.sources["notes"].other_settings == 5
    await world.ingest()
    assert (await audited(world)).sources["notes"].other_settings == 0


async def test_rows_that_are_no_chunks_are_no_finding(world: World, uri: str) -> None:
    world.items.items["leave.md"] = "# Leave\n\nShort now."
    await world.ingest()
    chunks = await table(uri)
    schema = await chunks.schema()
    tomb = {name: ["gone#7"] if name == "id" else [None] for name in schema.names}
    await chunks.add(
        pa.table([pa.array(tomb[f.name], f.type) for f in schema], schema=schema), on_bad_vectors="null"
    )
    assert await chunks.count_rows("key IS NULL") >= 1
    assert (await audited(world)).clean


# --- each damage is found for what it is, and a repair and an ingest make the tables what they were


async def _set_vector(uri: str, key: str, ordinal: int, vector: Any) -> None:
    chunks = await table(uri)
    where = f"key = '{key}' AND ordinal = {ordinal}"
    kind = (await chunks.schema()).field("vector").type.value_type
    await chunks.update(
        where=where, updates={"vector": np.asarray(vector).astype(kind.to_pandas_dtype()).tolist()}
    )


async def _delete_a_row(uri: str) -> None:
    await (await table(uri)).delete("key = 'leave.md' AND ordinal = 1")


async def _delete_the_last_row(uri: str) -> None:
    chunks = await table(uri)
    last = max((await chunks.query().where("key = 'leave.md'").to_arrow())["ordinal"].to_pylist())
    await chunks.delete(f"key = 'leave.md' AND ordinal = {last}")


async def _delete_all_rows(uri: str) -> None:
    await (await table(uri)).delete("key = 'leave.md'")


async def _double_a_row(uri: str) -> None:
    chunks = await table(uri)
    await chunks.add(await chunks.query().where("key = 'leave.md' AND ordinal = 1").to_arrow())


async def _double_a_document(uri: str) -> None:
    documents = await table(uri, "documents")
    await documents.add(await documents.query().where("key = 'leave.md'").to_arrow())


async def _orphan(uri: str) -> None:
    await (await table(uri, "documents")).delete("key = 'leave.md'")


async def _edit_a_text(uri: str) -> None:
    await (await table(uri)).update({"text": "Something else."}, where="key = 'leave.md' AND ordinal = 1")


async def _edit_a_letter(uri: str) -> None:
    chunks = await table(uri)
    await chunks.update(
        where="key = 'leave.md' AND ordinal = 1",
        updates_sql={"text": "concat('X', substr(text, 2))"},
    )


async def _edit_a_letter_of_a_long_document(uri: str) -> None:
    chunks = await table(uri)
    await chunks.update(
        where="title LIKE '%book%' AND ordinal = 20",
        updates_sql={"text": "concat('X', substr(text, 2))"},
    )


async def _edit_a_key(uri: str) -> None:
    await (await table(uri)).update({"group_key": "0" * 32}, where="key = 'leave.md'")


async def _other_count(uri: str) -> None:
    await (await table(uri, "documents")).update({"chunk_count": 99}, where="key = 'leave.md'")


async def _other_tokens(uri: str) -> None:
    await (await table(uri, "documents")).update({"tokens": 1}, where="key = 'leave.md'")


async def _edit_a_title(uri: str) -> None:
    await (await table(uri)).update({"title": "Another"}, where="key = 'leave.md' AND ordinal = 0")


async def _edit_an_address(uri: str) -> None:
    for name in ("chunks", "documents"):
        await (await table(uri, name)).update({"url": "https://elsewhere"}, where="key = 'leave.md'")


async def _move_a_chunk(uri: str) -> None:
    await (await table(uri)).update(
        updates_sql={"start": "`start` + 1", "end": "`end` + 1"}, where="key = 'leave.md' AND ordinal = 1"
    )


async def _stretch_a_chunk(uri: str) -> None:
    await (await table(uri)).update({"end": 10_000}, where="key = 'leave.md' AND ordinal = 1")


async def _zero_a_vector(uri: str) -> None:
    await _set_vector(uri, "leave.md", 1, np.zeros(16))


async def _break_a_vector(uri: str) -> None:
    await _put_vector(uri, [float("inf"), *[1.0] * 15])


async def _drop_a_vector(uri: str) -> None:
    await _put_vector(uri, None)


async def _put_vector(uri: str, vector: list[float] | None) -> None:
    """What SQL cannot write."""
    chunks = await table(uri)
    where = "key = 'leave.md' AND ordinal = 1"
    row = await chunks.query().where(where).to_arrow()
    place = row.schema.get_field_index("vector")
    field = row.schema.field(place)
    await chunks.delete(where)
    await chunks.add(row.set_column(place, field, pa.array([vector], field.type)), on_bad_vectors="null")


async def _no_code(uri: str) -> None:
    await _set_vector(uri, "leave.md", 1, [0.5, *[1.0] * 15])


async def _edit_a_vector(uri: str) -> None:
    await _set_vector(uri, "leave.md", 1, [77.0, *[1.0] * 15])


async def _swap_vectors(uri: str) -> None:
    chunks = await table(uri)
    found = (
        (await chunks.query().where("key = 'leave.md'").to_arrow()).sort_by("ordinal")["vector"].to_pylist()
    )
    await _set_vector(uri, "leave.md", 0, found[1])
    await _set_vector(uri, "leave.md", 1, found[0])


DAMAGES: list[tuple[Callable[[str], Awaitable[None]], Kind]] = [
    (_delete_a_row, Kind.MISSING),
    (_delete_the_last_row, Kind.MISSING),
    (_delete_all_rows, Kind.MISSING),
    (_double_a_row, Kind.DOUBLED),
    (_double_a_document, Kind.DOUBLED),
    (_orphan, Kind.ORPHAN),
    (_edit_a_text, Kind.TEXT),
    (_edit_a_letter, Kind.TEXT),
    (_edit_a_letter_of_a_long_document, Kind.TEXT),
    (_edit_a_key, Kind.MARKS),
    (_other_count, Kind.MARKS),
    (_other_tokens, Kind.MARKS),
    (_edit_a_title, Kind.ROW),
    (_edit_an_address, Kind.ROW),
    (_move_a_chunk, Kind.ROW),
    (_stretch_a_chunk, Kind.OFFSETS),
    (_zero_a_vector, Kind.VECTOR),
    (_break_a_vector, Kind.VECTOR),
    (_drop_a_vector, Kind.VECTOR),
    (_no_code, Kind.VECTOR),
    (_edit_a_vector, Kind.EMBEDDING),
    (_swap_vectors, Kind.EMBEDDING),
]


@pytest.mark.parametrize(("damage", "kind"), DAMAGES, ids=[d.__name__.strip("_") for d, _ in DAMAGES])
async def test_a_damage_is_found_and_repaired(
    world: World, uri: str, damage: Callable[[str], Awaitable[None]], kind: Kind
) -> None:
    before = await rows(uri)
    await damage(uri)
    sample = 1_000 if kind is Kind.EMBEDDING else 0
    report = await audited(world, sample=sample)
    damaged = {key for key, _ in kinds(report)}
    assert len(damaged) == 1
    assert kind in report.counts
    assert not report.clean
    await repaired(world, report, journal=False)
    after = await audited(world, sample=sample)
    assert after.clean, "what waits for the next ingest is no finding"
    await world.ingest()
    assert await rows(uri) == before
    await world.assert_fresh()
    assert (await audited(world, sample=1_000)).clean


async def test_a_fresh_table_and_a_damaged_one_are_told_apart_document_by_document(
    world: World, uri: str
) -> None:
    await _edit_a_letter(uri)
    await (await table(uri, "documents")).delete("key = 'travel.md'")
    assert kinds(await audited(world)) == [("leave.md", "text"), ("travel.md", "orphan")]


BOOK = "title LIKE '%book%' AND ordinal = 0"


async def test_an_edit_of_the_opening_is_found_by_its_tokens(world: World, uri: str) -> None:
    await (await table(uri)).update(where=BOOK, updates_sql={"text": "concat('Zß¶', substr(text, 4))"})
    assert kinds(await audited(world)) == [("it's a 'book'.md", "text")]


async def test_an_edit_of_the_opening_that_counts_the_same_cannot_be_refuted_and_is_told(
    world: World, uri: str
) -> None:
    await (await table(uri)).update(where=BOOK, updates_sql={"text": "replace(text, 'policy', 'police')"})
    report = await audited(world)
    assert report.findings == []
    tally = report.sources["notes"]
    assert tally.unproven == 1
    assert tally.proven < tally.groups


async def test_white_space_that_is_not_guessed_is_no_finding(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.regroup.GUESSES", 0)
    report = await audited(world)
    assert report.clean
    tally = report.sources["notes"]
    assert (tally.unproven, tally.proven) == (5, 0), "all are of several groups"


async def test_a_reader_that_cannot_write_is_enough(world: World, uri: str) -> None:
    await _edit_a_letter(uri)
    report = await audit(await LanceReader.open(uri), treatment(world))
    assert kinds(report) == [("leave.md", "text")]


async def test_nothing_stored_is_clean(uri: str) -> None:
    embedder = OracleEmbedder()
    world = World(store=await LanceStore.open(uri, space=embedder.space), embedder=embedder)
    report = await audited(world)
    assert (report.clean, report.sources) == (True, {})


async def test_what_was_being_written_is_looked_at_again(
    world: World, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    documents = await table(uri, "documents")
    kept = await documents.query().where("key = 'leave.md'").to_arrow()
    await documents.delete("key = 'leave.md'")

    async def meanwhile(_: float) -> None:
        await documents.add(kept)

    monkeypatch.setattr("pipeline.audit.anyio.sleep", meanwhile)
    assert (await audited(world)).clean


# --- in ranges


async def test_a_table_is_read_in_ranges_of_keys_each_document_whole_and_once(
    world: World, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.stores._stored.TOGETHER", 3)
    keys = ["", "a'b", "a\nb", "日本語.md", "😀", "\x7f", *(f"{n:03}.md" for n in range(40))]
    world.items.items |= {key: f"# About {n}\n\n" + "word " * n * 9 for n, key in enumerate(keys)}
    await world.ingest()
    await (await table(uri, "documents")).delete("key = '017.md'")
    seen = [stored async for stored in world.store.stored("notes")]
    assert [stored.key for stored in seen] == sorted(world.items.items)
    assert all([row.chunk.ordinal for row in one.chunks] == list(range(len(one.chunks))) for one in seen)
    assert kinds(await audited(world)) == [("017.md", "orphan")]
    some = [stored.key async for stored in world.store.stored("notes", ["😀", "a'b", "unknown"])]
    assert some == ["a'b", "😀"]


# --- the sample


async def test_a_sample_is_chosen_by_its_seed(world: World) -> None:
    async def sampled(seed: int, size: int = 4) -> list[str]:
        world.embedder.requests.clear()
        report = await audited(world, sample=size, seed=seed)
        assert report.sampled
        assert report.sampled.groups == report.sampled.alike == min(size, len(set(world.sent_now)))
        assert report.sampled.tokens > 0
        return sorted(world.sent_now)

    assert await sampled(1) == await sampled(1)
    assert await sampled(1) != await sampled(2)
    tally = (await audited(world)).sources["notes"]
    assert len(await sampled(1, size=1_000)) == tally.groups


async def test_a_sample_keeps_to_the_budget(world: World) -> None:
    budget = Budget(name="this run", tokens=10)
    world.embedder.requests.clear()
    with pytest.raises(SettingsError, match="would pass the budget of 10 tokens for this run"):
        await audit(world.store, treatment(world), sample=Sample(3, 0), budget=budget)
    assert world.embedder.requests == []


async def test_a_group_that_is_refused_is_told_and_no_finding(world: World) -> None:
    world.embedder.refuse = lambda request: (
        InputRefused("not this one") if any(g.title.startswith("The leave") for g in request.groups) else None
    )
    report = await audited(world, sample=1_000)
    assert (report.clean, report.findings) == (False, [])
    assert report.sampled
    assert set(report.sampled.refused) == {"notes/leave.md: not this one"}
    assert report.sampled.alike == report.sampled.groups > 4


async def test_an_edited_vector_that_is_not_sampled_is_not_found(world: World, uri: str) -> None:
    await _edit_a_vector(uri)
    assert (await audited(world)).clean, "no digest is kept of a vector"


# --- repairing


async def test_vectors_that_are_proven_are_not_paid_for_again(world: World, uri: str) -> None:
    await _edit_a_letter_of_a_long_document(uri)
    report = await audited(world)
    done = (await repaired(world, report))["notes"]
    assert (done.removed, done.dropped, done.withheld) == (["it's a 'book'.md"], [], [])
    assert done.kept_vectors > 10
    ingest = await world.ingest()
    assert ingest.added == 1
    assert world.sent_now == [], "and the journal has what was paid for the texts as they were"
    await world.assert_fresh()


async def test_dropped_marks_leave_the_rows_to_be_found_and_cost_nothing(world: World, uri: str) -> None:
    await _other_count(uri)
    done = (await repaired(world, await audited(world)))["notes"]
    assert (done.removed, done.dropped) == ([], ["leave.md"])
    assert (await (await table(uri)).count_rows("key = 'leave.md'")) > 1
    assert (await audited(world)).sources["notes"].dropped == 1
    await world.ingest()
    assert world.sent_now == []
    await world.assert_fresh()


async def test_more_than_the_guard_allows_is_withheld_until_it_is_approved(world: World, uri: str) -> None:
    await (await table(uri)).update({"text": "Something else."}, where="ordinal = 1")
    before = await rows(uri)
    report = await audited(world)
    strict = RemovalGuard(documents=2, percent=10)
    done = (await repaired(world, report, strict))["notes"]
    assert (len(done.withheld), done.removed) == (5, [])
    assert await rows(uri) == before
    done = (await repaired(world, report, replace(strict, approved=5)))["notes"]
    assert (len(done.removed), done.withheld) == (5, [])
    await world.ingest()
    await world.assert_fresh()


async def test_what_has_become_right_is_left_alone(world: World, uri: str) -> None:
    before = await rows(uri)
    findings = [Finding(kind=Kind.TEXT, source="notes", key="leave.md", reason="it was so")]
    report = AuditReport(findings=findings)
    done = (await repaired(world, report))["notes"]
    assert (done.removed, done.dropped) == ([], [])
    assert await rows(uri) == before


async def test_nearly_the_same_vectors_are_a_finding_and_are_left(world: World, uri: str) -> None:
    [vector] = (await (await table(uri)).query().where("key = 'leave.md' AND ordinal = 1").to_arrow())[
        "vector"
    ].to_pylist()
    largest = int(np.argmax(np.abs(vector)))
    vector[largest] -= np.sign(vector[largest])
    await _set_vector(uri, "leave.md", 1, vector)
    report = await audited(world, sample=1_000)
    [finding] = report.findings
    assert finding.kind is Kind.EMBEDDING
    assert finding.cosine is not None
    assert 0.999 < finding.cosine < 1
    assert (await repaired(world, report))["notes"].unsteady == ["leave.md"]


async def test_a_source_that_nobody_would_read_anew_is_not_repaired(world: World, uri: str) -> None:
    await _double_a_row(uri)
    unnamed = replace(treatment(world), recipes={})
    report = await audit(world.store, unnamed)
    before = await rows(uri)
    async with world.store.lease("repairing"):
        assert await repair(world.store, unnamed, report.findings, {}, journal=True) == {}
    assert await rows(uri) == before
