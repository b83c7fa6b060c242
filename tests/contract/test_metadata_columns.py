"""Columns over the metadata: what conditions on them find, and how they come to tables that are there."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import TypeAlias, cast, get_args

import lancedb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lancedb.index import Bitmap, BTree, LabelList

from pipeline.chunk import Chunker
from pipeline.errors import StoreRefused
from pipeline.ingest import ingest_source
from pipeline.parse import DocumentParser
from pipeline.prepare import Pipeline
from pipeline.protocols import Store
from pipeline.records import Column, ColumnType, Comparison, Condition, Filter, JsonValue, Metadata
from pipeline.stores import _columns, _core
from pipeline.stores._column_fields import grow, pinned_columns
from pipeline.stores._rows import chunk_rows
from pipeline.stores._schema import Names, chunks_schema, documents_schema
from pipeline.stores._upkeep import tend
from pipeline.stores.lance import LanceStore
from pipeline.stores.lance_reader import LanceReader
from pipeline.stores.memory import MemoryStore
from pipeline.upkeep import Policy
from tests.contract.store_contract import HOSTILE, SPACE, codes, embedded, keys, places
from tests.fakes import MemorySource, OracleEmbedder

COLUMNS = (
    Column(name="team", type="text", path=("team",)),
    Column(name="year", type="integer", path=("year",)),
    Column(name="score", type="number", path=("rating", "score")),
    Column(name="published", type="date", path=("published",)),
    Column(name="draft", type="boolean", path=("draft",)),
    Column(name="tags", type="list", path=("tags",)),
    Column(
        name="order", type="text", path=('a.b "c" \'); DROP TABLE chunks; --', "$")
    ),  # SQL's and JSON's words
)
Scalar: TypeAlias = str | int | float | bool | date
TYPES: tuple[ColumnType, ...] = get_args(ColumnType)
OF_V = tuple(Column(name=f"as_{kind}", type=kind, path=("v",)) for kind in TYPES)
"""One column of each type over the same value."""


def where(column: str, comparison: Comparison, value: Scalar) -> Filter:
    return Filter(conditions=(Condition(column=column, comparison=comparison, value=value),))


class ColumnsContract:
    """What every store keeps."""

    async def open_store(self, tmp_path: Path, columns: Sequence[Column]) -> Store:
        raise NotImplementedError

    @pytest.fixture
    async def store(self, tmp_path: Path) -> Store:
        return await self.open_store(tmp_path, COLUMNS)

    async def test_its_columns_are_told(self, store: Store) -> None:
        await store.replace([embedded("a.md", "word")])
        assert tuple(await store.columns()) == COLUMNS
        assert tuple(await (await store.snapshot()).columns()) == COLUMNS

    async def test_a_condition_finds_all_that_it_names_and_nothing_else(self, store: Store) -> None:
        values: dict[str, Metadata] = {
            "1": {"team": "people", "year": 2023, "rating": {"score": 0.5}, "published": "2024-12-31"},
            "2": {
                "team": "it's",
                "year": 2024.0,
                "rating": {"score": 7},
                "published": "2025-01-01T09:30:00Z",
            },
            "3": {"team": "", "year": -(2**63), "draft": True, "tags": ["red", "it's"]},
            "4": {"team": "People", "year": 2**63 - 1, "draft": False, "tags": []},
            "5": {"tags": "red", "rating": {"score": -1e300}},
            "none": {},
            "null": dict.fromkeys(["team", "year", "rating", "published", "draft", "tags"]),
            "unfit": {
                "team": 3,
                "year": "2024",
                "rating": [{"score": 1}],
                "published": "31.12.2024",
                "draft": "true",
            },
            "unfit too": {
                "year": 2**63,
                "rating": {"score": "7"},
                "published": "2024-02-30",
                "tags": ["red", 1],
            },
        }
        await store.replace([embedded(key, "word", metadata=metadata) for key, metadata in values.items()])
        expected: Mapping[tuple[str, Comparison, Scalar], list[str]] = {
            ("team", "=", "people"): ["1"],
            ("team", "=", "it's"): ["2"],
            ("team", "=", ""): ["3"],
            ("year", "=", 2024): ["2"],
            ("year", ">=", 2023): ["1", "2", "4"],
            ("year", ">", 2023): ["2", "4"],
            ("year", "<", 2024): ["1", "3"],
            ("year", "<=", 2024): ["1", "2", "3"],
            ("year", "=", 2**63 - 1): ["4"],
            ("year", "<=", -(2**63)): ["3"],
            ("score", ">", 0): ["1", "2"],
            ("score", "=", 7): ["2"],
            ("score", "<", -1e299): ["5"],
            ("published", "<", date(2025, 1, 1)): ["1"],
            ("published", ">=", date(2025, 1, 1)): ["2"],
            ("published", "=", date(2024, 12, 31)): ["1"],
            ("draft", "=", True): ["3"],
            ("draft", "=", False): ["4"],
            ("tags", "=", "red"): ["3", "5"],
            ("tags", "=", "it's"): ["3"],
            ("tags", "=", ""): [],
        }
        for (column, comparison, value), found in expected.items():
            assert await keys(store, where(column, comparison, value)) == found, (column, comparison, value)

    async def test_conditions_and_metadata_and_sources_hold_together(self, store: Store) -> None:
        about: Metadata = {"team": "people", "year": 2024}
        await store.replace(
            [
                embedded("a", "word", metadata=about),
                embedded("b", "word", metadata={**about, "year": 2020}),
                embedded("c", "word", metadata=about, source="wiki"),
            ]
        )
        span = (
            Condition(column="year", comparison=">", value=2000),
            Condition(column="year", comparison="<", value=2024),
        )
        assert await keys(store, Filter(conditions=span)) == ["b"]
        late = where("year", ">", 2020).conditions
        assert await keys(store, Filter(conditions=late)) == ["a", "c"]
        assert await keys(store, Filter(sources=("notes",), conditions=late)) == ["a"]
        assert await keys(store, Filter(metadata={"team": "people"}, conditions=span)) == ["b"]
        assert await keys(store, Filter(metadata={"team": "sales"}, conditions=span)) == []

    async def test_what_was_rewritten_is_found_by_its_new_values_alone(self, store: Store) -> None:
        await store.replace([embedded("a", "word", "tail", metadata={"year": 1, "tags": ["x"]})])
        await store.replace([embedded("a", "word", metadata={"year": 2})])
        assert await keys(store, where("year", "=", 1)) == await keys(store, where("tags", "=", "x")) == []
        assert await keys(store, where("year", "=", 2)) == ["a"]

    @pytest.mark.parametrize(
        ("condition", "why"),
        [
            (Condition(column="yeer", comparison="=", value=1), "no column 'yeer'; columns: team, year"),
            (Condition(column="text", comparison="=", value="x"), "no column 'text'"),
            (Condition(column="1=1 OR team", comparison="=", value="x"), "no column '1=1 OR team'"),
            (Condition(column="team", comparison="<", value="x"), "no order"),
            (Condition(column="tags", comparison=">=", value="x"), "no order"),
            (Condition(column="team", comparison="=", value=1), "compared with text"),
            (Condition(column="year", comparison="=", value="1"), "whole numbers"),
            (Condition(column="year", comparison="=", value=True), "whole numbers"),
            (Condition(column="year", comparison="=", value=2**63), "64 bits"),
            (Condition(column="year", comparison="=", value=1.5), "whole numbers"),
            (Condition(column="score", comparison="<", value=float("nan")), "numbers"),
            (Condition(column="score", comparison="<", value=10**400), "numbers"),
            (Condition(column="published", comparison="=", value="2024-01-01"), "days"),
            (Condition(column="draft", comparison="=", value=1), "true or false"),
        ],
    )
    async def test_a_condition_that_cannot_be_put_is_refused(
        self, store: Store, condition: Condition, why: str
    ) -> None:
        await store.replace([embedded("a", "word")])
        with pytest.raises(StoreRefused, match=why):
            await places(store, Filter(conditions=(condition,)))

    async def test_hostile_texts_are_data_in_values_names_and_conditions(self, store: Store) -> None:
        path = COLUMNS[-1].path
        documents = [
            embedded(f"{n}", "word", metadata={"team": text, "tags": [text, "x"], path[0]: {"$": text}})
            for n, text in enumerate(HOSTILE)
        ]
        await store.replace(documents)
        for number, text in enumerate(HOSTILE):
            for column in ("team", "tags", "order"):
                assert await keys(store, where(column, "=", text)) == [f"{number}"], (column, text)

    async def test_lone_surrogates_are_found_as_they_are_stored(self, store: Store) -> None:
        await store.replace([embedded("a", "word", metadata={"team": "half \ud83d", "tags": ["\udc00"]})])
        assert await keys(store, where("team", "=", "half \ud83d")) == ["a"]
        assert await keys(store, where("team", "=", "half \ufffd")) == ["a"]
        assert await keys(store, where("tags", "=", "\udc00")) == ["a"]

    async def test_a_value_of_a_megabyte_is_stored_and_found(self, store: Store) -> None:
        long = "it's\n" * 200_000
        await store.replace(
            [embedded("a", "word", metadata={"team": long, "tags": [long]}), embedded("b", "word")]
        )
        assert (
            await keys(store, where("team", "=", long))
            == await keys(store, where("tags", "=", long))
            == ["a"]
        )

    @pytest.mark.parametrize(
        "name", ["text", "updated_at", "Year", "_x", "", "a b", "x;--", "é", "a" * 64, "1st"]
    )
    async def test_a_column_that_cannot_be_called_so_is_refused(self, tmp_path: Path, name: str) -> None:
        with pytest.raises(StoreRefused, match="no column can be called"):
            await self.open_store(tmp_path, [Column(name=name, type="text", path=("x",))])

    async def test_a_column_without_a_way_or_twice_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(StoreRefused, match="empty name"):
            await self.open_store(tmp_path, [Column(name="x", type="text", path=("a", ""))])
        with pytest.raises(StoreRefused, match="stands once"):
            await self.open_store(tmp_path, [COLUMNS[0], replace(COLUMNS[0], type="list")])


class TestColumnsInMemory(ColumnsContract):
    async def open_store(self, tmp_path: Path, columns: Sequence[Column]) -> Store:
        return MemoryStore(SPACE, columns=columns)


class TestColumnsInLance(ColumnsContract):
    async def open_store(self, tmp_path: Path, columns: Sequence[Column]) -> Store:
        return await LanceStore.open(str(tmp_path / "db"), space=SPACE, columns=columns)


def test_the_names_that_are_ours_are_those_of_the_tables() -> None:
    assert {*chunks_schema(SPACE).names, *documents_schema(SPACE).names} == _columns.OURS


def test_indexes_are_wanted_for_every_column_that_does_not_say_otherwise() -> None:
    columns = [replace(column, indexed=column.name != "team") for column in COLUMNS]
    assert _columns.wanted_indexes(columns) == {
        "year": "BTREE",
        "score": "BTREE",
        "published": "BTREE",
        "draft": "BITMAP",
        "tags": "LABEL_LIST",
        "order": "BTREE",
    }


async def test_upkeep_makes_the_wanted_indexes_of_a_large_table(uri: str) -> None:
    columns = [replace(column, indexed=column.name != "team") for column in COLUMNS]
    await (await opened(uri)).replace(SOME)
    store = await opened(uri, columns)
    await store.upkeep()
    chunks = await (await _core.connect(uri, {})).open_table("chunks")
    assert pinned_columns(await chunks.schema()) == tuple(columns)
    await tend(chunks, Policy(lookup_rows=1), chunks=True)
    table = await (await lancedb.connect_async(uri)).open_table("chunks")
    kinds = {index.columns[0]: str(index.index_type) for index in await table.list_indices()}
    names = {"BTREE": "BTree", "BITMAP": "Bitmap", "LABEL_LIST": "LabelList"}
    wanted = {name: names[kind] for name, kind in _columns.wanted_indexes(columns).items()}
    assert wanted.items() <= kinds.items()
    assert "team" not in kinds
    assert await keys(store, where("tags", "=", "x")) == sorted(f"{n}.md" for n in range(1, 20))
    files = data_files(uri)
    again = await opened(uri, COLUMNS)
    await again.upkeep()
    assert await again.columns() == COLUMNS
    assert data_files(uri) == files, "another wish for an index writes no rows"


@pytest.fixture
def uri(tmp_path: Path) -> str:
    return str(tmp_path / "db")


async def opened(uri: str, columns: Sequence[Column] = (), *, rebuild: bool = False) -> LanceStore:
    return await LanceStore.open(uri, space=SPACE, columns=columns, rebuild=rebuild)


async def rows_of(uri: str, name: str) -> list[dict[str, JsonValue]]:
    table = await (await lancedb.connect_async(uri)).open_table(name)
    rows = (await table.query().where("key IS NOT NULL").to_arrow()).sort_by("id")
    found: list[dict[str, JsonValue]] = rows.drop_columns(
        ["updated_at"] if "updated_at" in rows.column_names else []
    ).to_pylist()
    return found


async def columns_in(uri: str, name: str) -> tuple[Column, ...]:
    return pinned_columns(await (await (await lancedb.connect_async(uri)).open_table(name)).schema())


def data_files(uri: str) -> dict[str, int]:
    return {str(p.relative_to(uri)): p.stat().st_size for p in Path(uri).rglob("data/*.lance")}


SOME = [
    embedded(
        f"{n}.md", "word", "tail", metadata={"year": 2000 + n, "team": f"team {n % 3}", "tags": ["x"] * n}
    )
    for n in range(20)
]


async def test_a_column_that_comes_later_is_as_one_that_was_there_and_no_vector_is_written(
    tmp_path: Path,
) -> None:
    wide = replace(SPACE, dimensions=1_024)
    late, early = str(tmp_path / "late"), str(tmp_path / "early")
    for uri, columns in ((late, []), (early, COLUMNS)):
        store = await LanceStore.open(uri, space=wide, columns=columns)
        await store.replace([replace(one, vectors=(codes(2, dimensions=1_024),)) for one in SOME])
    before = data_files(late)
    store = await LanceStore.open(late, space=wide, columns=COLUMNS)
    await store.upkeep()
    for name in Names().both:
        assert await columns_in(late, name) == COLUMNS
        assert await rows_of(late, name) == await rows_of(early, name)
    after = data_files(late)
    assert before.items() <= after.items()
    written = [after[new] for new in after.keys() - before.keys()]
    assert max(written) < 5_000 < 20 * 2 * 1_024 * 2 < max(before.values())
    table = await (await lancedb.connect_async(late)).open_table("chunks")
    for index in await table.list_indices():
        stats = await table.index_stats(index.name)
        assert stats
        assert stats.num_unindexed_rows < 50, "what was indexed is so still"


async def test_columns_are_added_by_the_first_write_and_by_a_run_that_writes_nothing_else(uri: str) -> None:
    await (await opened(uri)).replace(SOME)
    store = await opened(uri, COLUMNS[:1])
    await store.replace([embedded("new.md", "word", metadata={"team": "new"})])
    assert await keys(store, where("team", "=", "new")) == ["new.md"]
    assert len(await keys(store, where("team", "=", "team 1"))) == 7
    idle = await opened(uri, COLUMNS[:2])
    async with idle.lease("testing"):
        await idle.upkeep()
    assert await columns_in(uri, "chunks") == COLUMNS[:2]
    assert await keys(idle, where("year", "=", 2003)) == ["3.md"]


async def test_a_column_costs_no_reading_and_no_embedding(uri: str) -> None:
    source = MemorySource(items={f"{n}.md": f"word {n}" for n in range(5)})
    source.metadata = {key: {"year": 2020 + n} for n, key in enumerate(source.items)}
    embedder = OracleEmbedder(space=SPACE)

    async def ingest(columns: Sequence[Column]) -> LanceStore:
        store = await opened(uri, columns)
        parts = Pipeline(parser=DocumentParser(), chunker=Chunker(), embedder=embedder, store=store)
        async with store.lease("testing"):
            await ingest_source(source, parts)
        return store

    await ingest([])
    source.loaded.clear()
    embedder.requests.clear()
    store = await ingest(COLUMNS)
    assert await keys(store, where("year", ">=", 2023)) == ["3.md", "4.md"]
    assert (source.loaded, embedder.requests) == ([], [])


async def test_what_is_declared_already_writes_nothing(uri: str) -> None:
    await (await opened(uri, COLUMNS)).replace(SOME)
    table = await (await lancedb.connect_async(uri)).open_table("chunks")
    version = await table.version()
    again = await opened(uri, COLUMNS[::-1])
    await again.upkeep()
    await again.stage()
    assert await table.version() == version


async def test_a_writer_fills_the_columns_that_only_others_declare(uri: str) -> None:
    await (await opened(uri, COLUMNS)).replace(SOME)
    plain = await opened(uri)
    changed = embedded("3.md", "changed word", metadata={"year": 1999, "team": "other"})
    await plain.replace([changed, embedded("new.md", "word", metadata={"year": 1999})])
    assert await columns_in(uri, "chunks") == COLUMNS
    assert await keys(plain, where("year", "=", 1999)) == ["3.md", "new.md"]
    assert await keys(plain, where("year", "=", 2003)) == []
    assert [row["year"] for row in await rows_of(uri, "documents") if row["key"] == "3.md"] == [1999]


async def test_another_type_or_place_makes_the_column_anew(uri: str) -> None:
    metadata: Metadata = {"year": "2024-05-01", "at": {"year": 7}}
    await (await opened(uri, COLUMNS)).replace([embedded("a", "word", metadata=metadata)])
    as_date = Column(name="year", type="date", path=("year",))
    store = await opened(uri, [as_date])
    await store.upkeep()
    assert await keys(store, where("year", "=", date(2024, 5, 1))) == ["a"]
    store = await opened(uri, [Column(name="year", type="integer", path=("at", "year"))])
    await store.upkeep()
    assert await keys(store, where("year", "=", 7)) == ["a"]
    assert {column.name for column in await store.columns()} == {column.name for column in COLUMNS}


@pytest.mark.parametrize("done", ["nothing", "chunks", "unpinned", "dropped"])
async def test_who_is_killed_while_adding_columns_is_followed_by_one_who_completes_it(
    uri: str, done: str
) -> None:
    old = Column(name="year", type="text", path=("year",))
    await (await opened(uri, [old])).replace(SOME)
    chunks = await (await _core.connect(uri, {})).open_table("chunks")
    if done == "chunks":
        await grow(chunks, COLUMNS)
    elif done == "unpinned":
        await chunks.add_columns([("team", "'wrong'"), ("tags", "'wrong'")])
    elif done == "dropped":
        await chunks.drop_columns(["year"])
    reader = await LanceReader.open(uri)
    if done in ("unpinned", "dropped"):
        with pytest.raises(StoreRefused, match="no column"):
            await places(reader, where("team", "=", "wrong"))
    store = await opened(uri, COLUMNS)
    await store.replace([embedded("new.md", "word", metadata={"year": 2003})])
    for name in Names().both:
        assert set(await columns_in(uri, name)) == set(COLUMNS)
    assert await keys(store, where("year", "=", 2003)) == ["3.md", "new.md"]
    assert await keys(store, where("tags", "=", "x")) == sorted(f"{n}.md" for n in range(1, 20))


async def test_a_rebuild_has_the_columns_of_its_settings_and_those_that_were_there(uri: str) -> None:
    await (await opened(uri, COLUMNS[:1])).replace(SOME)
    rebuilt = await opened(uri, COLUMNS[1:3], rebuild=True)
    await rebuilt.replace(SOME)
    await rebuilt.publish()
    reader = await LanceReader.open(uri)
    assert sorted(await reader.columns(), key=lambda column: column.name) == sorted(
        COLUMNS[:3], key=lambda column: column.name
    )
    assert await places(reader, where("year", "=", 2003))


async def test_conditions_hold_for_rows_of_every_age_after_compaction_and_with_indexes(uri: str) -> None:
    kinds: Mapping[str, Callable[[], Bitmap | BTree | LabelList]] = {
        "BTREE": BTree,
        "BITMAP": Bitmap,
        "LABEL_LIST": LabelList,
    }
    store = await opened(uri)
    for document in SOME:
        await store.replace([document])
    store = await opened(uri, COLUMNS)
    new: Metadata = {"year": 2003, "tags": ["x"], "draft": False}
    await store.replace([embedded("new.md", "word", metadata=new)])
    chunks = await (await lancedb.connect_async(uri)).open_table("chunks")
    for name, kind in _columns.wanted_indexes(COLUMNS).items():
        await chunks.create_index(name, config=kinds[kind]())
    await store.upkeep()
    await store.replace([embedded("newer.md", "word", metadata=new)])
    assert await keys(store, where("draft", comparison="=", value=False)) == [
        "new.md",
        "newer.md",
    ]  # not what has none
    assert await keys(store, where("year", "=", 2003)) == ["3.md", "new.md", "newer.md"]
    assert len(await keys(store, where("tags", "=", "x"))) == 21
    other = await opened(uri, [Column(name="tags", type="text", path=("team",))])
    await other.upkeep()  # drops a column that has an index
    assert len(await keys(other, where("tags", "=", "team 1"))) == 7


async def test_values_that_do_not_fit_are_told_once_a_source(
    uri: str, caplog: pytest.LogCaptureFixture
) -> None:
    store = await opened(uri, COLUMNS)
    secret = "hunter2"
    bad: Metadata = {"year": secret, "draft": 0, "tags": None, "team": "fine"}
    with caplog.at_level(logging.WARNING):
        await store.replace([embedded(key, "word", metadata=bad) for key in ("a", "b")])
        await store.replace([embedded("c", "word", metadata=bad)])
    assert len(caplog.messages) == 2
    assert "notes/a: a text stands at year, and the column year takes whole numbers of 64 bits" in caplog.text
    assert secret not in caplog.text


scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from(
        [10**400, 2**53 + 1, 2**63, 2**63 - 1, -(2**63), 2**64, 1e15, 1e16, 1e17, 20240501, -0.0, 5e-324]
    ),
    st.text(max_size=12),
    st.text(alphabet='"\\,[]u0022c5n\n\x00\x01', max_size=12),
    st.sampled_from(
        [*HOSTILE, "\u202e rtl", "\u2028", "😀", "null", "true", "NaN", "[]", '["a"]', "\\u0022"]
    ),
    st.dates().map(str),
    st.datetimes().map(str),
    st.from_regex(_columns.DATE, fullmatch=True),
    st.sampled_from(["2024-1-1", "20240101", "2024-W01-1", "2024-12-31T24:00", "0999-01-01", " 2024-01-01"]),
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["v", "a", ""]), inner, max_size=2)
    ),
    max_leaves=6,
)


@given(st.lists(values, min_size=1, max_size=40))
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
async def test_sql_fills_a_column_with_what_python_does(many: list[JsonValue]) -> None:
    database = await lancedb.connect_async("memory://")
    documents = [
        embedded(f"{n:03}", "word", metadata={"v": value, "a": {"v": value}}) for n, value in enumerate(many)
    ]
    inner = [replace(column, name=f"{column.name}_inner", path=("a", "v")) for column in OF_V]
    rows = chunk_rows(documents, SPACE, [*OF_V, *inner])
    table = await database.create_table("t", rows.select(["id", "metadata"]))
    await grow(cast("_core.CoreTable", table._inner), [*OF_V, *inner])
    grown = (await table.query().to_arrow()).sort_by("id")
    for column in (*OF_V, *inner):
        there = list(zip(many, grown[column.name].to_pylist(), strict=True))
        assert there == list(zip(many, rows.sort_by("id")[column.name].to_pylist(), strict=True)), column
