"""Names and values are data, never syntax: in both stores, and through a whole ingest."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.chunk import Chunker
from pipeline.errors import StoreRefused
from pipeline.given import DEEPEST
from pipeline.ingest import ingest_source
from pipeline.parse import DocumentParser
from pipeline.prepare import Pipeline
from pipeline.protocols import Store
from pipeline.records import Column, Condition, Embedded, EmbedGroup, Filter, ItemRef, JsonValue, RawDocument
from pipeline.stores.lance import LanceStore
from pipeline.stores.memory import MemoryStore
from tests.contract.store_contract import HOSTILE, SPACE, embedded, keys, places
from tests.fakes import MemorySource, OracleEmbedder

EVIL = [
    *HOSTILE,
    '$.a"b',
    "a.b.c",
    "$..*",
    "[0]",
    "?(@)",
    "`id`",
    "/* */ --",
    "%00",
    "\\u0000",
    "{{7*7}}",
    "${HOME}",
    "\u202etxt.exe",
    "\u200b\ufeff",
    "👩‍👩‍👧‍👦",
    "ẞ İ ı",
    ".turn",
    "NULL",
    "true",
    "1e999",
]
COLUMNS = (
    Column(name="of_name", type="text", path=("name",)),
    Column(name="of_list", type="list", path=("list",)),
    Column(name="of_number", type="number", path=("number",)),
)
texts = st.sampled_from(EVIL) | st.text(max_size=20)
names = texts.filter(bool)
metadata = st.fixed_dictionaries(
    {},
    optional={
        "name": texts,
        "list": st.lists(texts, max_size=3),
        "number": st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**63), 2**64 - 1),
    },
).flatmap(
    lambda known: st.dictionaries(names, texts | st.booleans(), max_size=3).map(
        lambda more: {**more, **known}
    )
)


@st.composite
def documents(draw: st.DrawFn) -> Embedded:
    about = cast("dict[str, JsonValue]", draw(metadata))
    document = embedded(
        draw(texts), "word", source=draw(st.sampled_from(["notes", *EVIL[:6]])), metadata=about
    )
    path = tuple(draw(st.lists(texts, max_size=2)))
    chunk = replace(document.prepared.groups[0].chunks[0], heading_path=path)
    groups = (EmbedGroup(title=draw(texts), chunks=(chunk,)),)
    url, title = draw(st.none() | texts), draw(texts)
    return replace(document, prepared=replace(document.prepared, groups=groups, url=url, title=title))


@dataclass
class AnySource(MemorySource):
    """May give what is no metadata."""

    given: dict[str, dict[str, object]] = field(default_factory=dict)

    async def load(self, ref: ItemRef) -> RawDocument:
        raw = await super().load(ref)
        return replace(raw, metadata=self.given.get(ref.key, raw.metadata))  # type: ignore[arg-type]  # on purpose


class HostileContract:
    """What every store keeps."""

    async def open_store(self, folder: Path, columns: Sequence[Column] = COLUMNS) -> Store:
        raise NotImplementedError

    @given(drawn=st.lists(documents(), min_size=1, max_size=5, unique_by=lambda one: one.prepared.state.key))
    @settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    async def test_whatever_is_stored_comes_back_and_is_found_by_what_it_says(
        self, drawn: list[Embedded]
    ) -> None:
        with TemporaryDirectory() as folder:
            store = await self.open_store(Path(folder))
            await store.replace(drawn)
            hits = await store.matching("word", limit=100, where=Filter())
            assert {
                (hit.source, hit.key): (hit.title, hit.url, hit.heading_path, hit.metadata) for hit in hits
            } == {
                (one.prepared.state.source, one.prepared.state.key): (
                    *(one.prepared.title, one.prepared.url),
                    *(one.prepared.groups[0].chunks[0].heading_path, one.prepared.metadata),
                )
                for one in drawn
            }
            for one in drawn:
                await _is_found(store, one, drawn)
            first = drawn[0].prepared.state
            await store.remove(first.source, [first.key])
            assert len(await store.matching("word", limit=100, where=Filter())) == len(drawn) - 1

    async def test_a_name_that_holds_half_a_character_is_refused_and_looked_up_in_vain(
        self, tmp_path: Path
    ) -> None:
        store = await self.open_store(tmp_path)
        await store.replace([embedded("a\ufffd", "word")])
        for document in (embedded("a\ud83d", "word"), embedded("a", "word", source="s\udc00")):
            with pytest.raises(StoreRefused, match="half a character"):
                await store.replace([embedded("fine", "word"), document])
        assert await store.states("notes", ["a\ud83d"]) == {} or isinstance(store, LanceStore)
        assert "a\ud83d" not in await store.states("notes", ["a\ud83d", "a"])
        await store.remove("notes", ["a\ud83d"])
        assert await places(store) == [("notes", "a\ufffd", 0, "word")]

    async def test_an_ingest_loses_one_document_to_what_cannot_be_kept(self, tmp_path: Path) -> None:
        deep: JsonValue = 1
        for _ in range(DEEPEST + 5_000):
            deep = [deep]
        source = AnySource()
        for number, text in enumerate(EVIL):
            source.items[text or "empty"] = f"# {text}\n\nword".replace("\0", "")
            source.metadata[text or "empty"] = {text: text, "name": text, "list": [text], "n": number}
        fine = set(source.items)
        source.metadata[".turn"] = {"n": math.nan, "m": 2**300, "list": [1, None], "name": "\udc00"}
        bad = {
            "a\ud83d.md": "its key holds half a character",
            "deep": "nested more than 100 deep",
            "huge": "more than 1,000 digits",
            "bytes": "has a bytes, which JSON does not know",
        }
        source.items |= dict.fromkeys(bad, "word")
        source.given = {"deep": {"d": deep}, "huge": {"n": [10**5_000]}, "bytes": {"b": b"x"}}
        store = await self.open_store(tmp_path)
        pipeline = Pipeline(
            parser=DocumentParser(), chunker=Chunker(), embedder=OracleEmbedder(space=SPACE), store=store
        )
        report = await ingest_source(source, pipeline)
        failed = {failure.key: failure.reason for failure in report.failures}
        assert failed.keys() == {"a\\ud83d.md", "deep", "huge", "bytes"}
        assert all(why in failed[key.replace("\ud83d", "\\ud83d")] for key, why in bad.items())
        assert set(await store.marks("notes")) == fine
        again = await ingest_source(source, pipeline)
        assert (again.unchanged, len(again.failures)) == (len(fine), len(bad))


async def _is_found(store: Store, one: Embedded, among: Sequence[Embedded]) -> None:
    about, key = one.prepared.metadata, one.prepared.state.key
    for name, value in about.items():
        if isinstance(value, str | bool | int | float):
            same = {
                other.prepared.state.key
                for other in among
                if other.prepared.metadata.get(name) == value
                and isinstance(other.prepared.metadata[name], bool) == isinstance(value, bool)
            }
            assert set(await keys(store, Filter(metadata={name: value}))) == same, (name, value)
    conditions = []
    if isinstance(text := about.get("name"), str):
        conditions.append(Condition(column="of_name", comparison="=", value=text))
    if isinstance(there := about.get("list"), list):
        conditions += [Condition(column="of_list", comparison="=", value=str(text)) for text in there]
    if isinstance(number := about.get("number"), int | float):
        conditions += [
            Condition(column="of_number", comparison=sign, value=number) for sign in ("<=", "=", ">=")
        ]
    for condition in conditions:
        assert key in await keys(store, Filter(sources=(one.prepared.state.source,), conditions=(condition,)))


class TestHostileInMemory(HostileContract):
    async def open_store(self, folder: Path, columns: Sequence[Column] = COLUMNS) -> Store:
        return MemoryStore(SPACE, columns=columns)


class TestHostileInLance(HostileContract):
    async def open_store(self, folder: Path, columns: Sequence[Column] = COLUMNS) -> Store:
        return await LanceStore.open(str(folder / "db"), space=SPACE, columns=columns)
