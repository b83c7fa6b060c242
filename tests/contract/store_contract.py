"""What every store keeps: inherited by a test class for each implementation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from pipeline import digest
from pipeline.errors import StoreRefused
from pipeline.protocols import Reader, Store
from pipeline.records import (
    Chunk,
    DocumentState,
    Embedded,
    EmbeddingSpace,
    EmbedGroup,
    Encoding,
    Failure,
    Filter,
    Hit,
    LatestRun,
    Metadata,
    Prepared,
    Spending,
    Vectors,
)

SPACE = EmbeddingSpace(provider="test", model="contract", dimensions=16)
SPACES = [replace(SPACE, encoding=encoding) for encoding in get_args(Encoding)]
in_every_encoding = pytest.mark.parametrize("space", SPACES, ids=get_args(Encoding))
EVERYTHING = Filter()
HOSTILE = (
    "it's; DROP TABLE chunks; --.md",
    "'; DROP TABLE documents; --",
    "' OR 'a' = 'a",
    'double "quotes" and `ticks`',
    "two\nlines\r\nand\ttabs",
    "back\\slash\\'",
    "per%cent_under*?[x]",
    "日本語/한국어/😀.md",
    "e\u0301 and é",
    "nul\x00byte",
    "a#0",
    "a/b#1",
    "",
    "x" * 5_000,
)


def embedded(
    key: str,
    *texts: str,
    source: str = "notes",
    metadata: Metadata | None = None,
    vectors: Vectors | None = None,
    access: tuple[str, ...] = (),
    **marks: str,
) -> Embedded:
    """A document of one group, none if it has no texts, whose vectors follow from what it says."""
    chunks, start = [], 0
    for ordinal, text in enumerate(texts):
        end = start + len(text)
        path = ("Handbook", f"Part {ordinal}")
        page = ordinal + 1 if ordinal else None
        chunk = Chunk(
            ordinal=ordinal, start=start, end=end, text=text, tokens=3, heading_path=path, page=page
        )
        if ordinal:
            chunk = replace(chunk, line=7 * ordinal, last_line=7 * ordinal + 3, anchor=f"#L{7 * ordinal}")
        chunks.append(chunk)
        start = end
    groups = (EmbedGroup(title=f"About {key[:20]}", chunks=tuple(chunks)),) if chunks else ()
    if vectors is None:
        vectors = codes(len(chunks), seed="".join(texts))
    state = DocumentState(
        source=source,
        key=key,
        version=marks.get("version", "v1"),
        recipe=marks.get("recipe", "r1"),
        content_key=marks.get("content_key", "c1"),
        group_keys=(marks.get("group_key", f"group of {source}/{key}: {texts}"),) if groups else (),
        row_key=marks.get("row_key", "w1"),
    )
    prepared = Prepared(
        state=state,
        title=f"About {key[:20]}",
        url=f"https://example.org/{len(key)}" if texts else None,
        media_type="text/markdown",
        metadata=metadata or {},
        groups=groups,
        access=access,
    )
    return Embedded(prepared=prepared, vectors=(vectors,) if groups else ())


def codes(rows: int, *, seed: str = "", dimensions: int = SPACE.dimensions) -> Vectors:
    random = np.random.default_rng(list(seed.encode("utf-8", "surrogatepass")))
    return random.integers(-128, 128, (rows, dimensions)).astype(np.int8)


def drawn(space: EmbeddingSpace, rows: int, *, seed: str = "") -> Vectors:
    """Random vectors of the space."""
    random = np.random.default_rng(list(seed.encode()))
    if space.encoding == "float16":
        floats = random.normal(size=(rows, space.width))
        return (floats / np.linalg.norm(floats, axis=1, keepdims=True)).astype(np.float16)
    return random.integers(0, 256, (rows, space.width), dtype=np.uint8).view(space.dtype)


def every_number(space: EmbeddingSpace) -> Vectors:
    """All that a number of the space's vectors can be."""
    if space.encoding == "float16":
        patterns = np.arange(2**16, dtype=np.uint16).view(np.float16)
        numbers: Vectors = patterns[np.isfinite(patterns)]
    else:
        numbers = np.arange(256, dtype=np.uint8).view(space.dtype)
    return np.resize(numbers, (max(1, len(numbers) // space.width), space.width))


def cosines(space: EmbeddingSpace, vectors: Vectors, question: Vectors) -> Vectors:
    """With each of these vectors; a bit is a dimension's sign."""
    if space.encoding == "binary":
        unpacked = np.unpackbits(vectors.astype(np.uint8), axis=1, bitorder="little")
        wide = unpacked.astype(np.float64) * 2 - 1
        asked = np.unpackbits(question.astype(np.uint8), bitorder="little").astype(np.float64) * 2 - 1
    else:
        wide, asked = vectors.astype(np.float64), question.astype(np.float64)
    return (wide @ asked) / np.linalg.norm(wide, axis=1) / np.linalg.norm(asked)


def spent_at(at: datetime, **fields: float) -> Spending:
    figures = {"requests": 3, "counted": 40_000, "tokens": 41_000, "highest_ratio": 1.04, "cost_usd": 0.0021}
    about = {"source": "it's notes", "provider": "test", "model": "contract"}
    return Spending(at=at, **about, **{**figures, **fields})  # type: ignore[arg-type]


def run_at(at: datetime, source: str, error: str | None = None) -> LatestRun:
    """A run of which one document failed."""
    failure = Failure(key="añ\n.pdf", error="ParseFailed", reason="encrypted 'so' \"much\"", url=None)
    return LatestRun(
        source=source,
        at=at,
        seconds=1.25,
        error=error,
        succeeded_at=None if error else at,
        counts={"listed": 3, "added": 2},
        failed=1,
        failures=(failure,),
    )


def numbered(count: int) -> list[str]:
    return [f"{n:03}" for n in range(count)]


async def places(store: Reader, where: Filter = EVERYTHING) -> list[tuple[str, str, int, str]]:
    """Every chunk that a search sees."""
    hits = await store.nearest(np.ones(SPACE.dimensions, np.int8), limit=10_000, where=where)
    return sorted((hit.source, hit.key, hit.ordinal, hit.text) for hit in hits)


async def keys(store: Store, where: Filter) -> list[str]:
    """Every document that a search by vector sees; one by words must see the same."""
    near = {key for _, key, _, _ in await places(store, where)}
    worded = {hit.key for hit in await store.matching("word", limit=10_000, where=where)}
    assert near == worded
    return sorted(near)


class StoreContract:
    """Inherit it, and say how a store is opened."""

    async def open_store(
        self, tmp_path: Path, space: EmbeddingSpace = SPACE, journal_bytes: int = 2_000_000_000
    ) -> Store:
        """An empty store of this space."""
        raise NotImplementedError

    @pytest.fixture
    async def store(self, tmp_path: Path) -> Store:
        return await self.open_store(tmp_path)

    async def test_an_empty_store_knows_its_space_and_holds_nothing(self, store: Store) -> None:
        assert await store.space() == SPACE
        assert await store.counts() == {}
        assert await store.marks("notes") == {}
        assert await store.states("notes", ["a"]) == {}
        assert await store.vectors(["g"]) == {}
        assert await store.spending() == []
        assert await places(store) == []
        assert await store.matching("word", limit=5, where=EVERYTHING) == []

    async def test_what_is_stored_is_read_back_whole(self, store: Store) -> None:
        document = embedded(
            "a.md", "the first words", "the second words", metadata={"team": "people", "n": 3}
        )
        await store.replace([document])
        state = document.prepared.state
        assert await store.marks("notes") == {"a.md": ("v1", "r1")}
        assert await store.states("notes", ["a.md", "b.md"]) == {"a.md": state}
        [stored] = (await store.vectors(list(state.group_keys))).values()
        assert stored.dtype == np.int8
        assert np.array_equal(stored, document.vectors[0])
        [hit] = await store.nearest(document.vectors[0][1], limit=1, where=EVERYTHING)
        assert hit.score == pytest.approx(1)
        assert (hit.source, hit.key, hit.ordinal, hit.text) == ("notes", "a.md", 1, "the second words")
        assert (hit.title, hit.heading_path) == ("About a.md", ("Handbook", "Part 1"))
        assert (hit.page, hit.start, hit.end) == (2, 15, 31)
        assert hit.url == f"{document.prepared.url}#L7"
        assert (hit.line, hit.last_line) == (7, 10)
        assert hit.metadata == {"team": "people", "n": 3}
        assert (hit.vector_rank, hit.text_rank) == (None, None)
        first = (await store.matching("first", limit=5, where=EVERYTHING))[0]
        assert (first.page, first.ordinal) == (None, 0)
        assert (first.line, first.last_line, first.url) == (None, None, document.prepared.url)

    async def test_a_document_that_shrinks_leaves_no_tail(self, store: Store) -> None:
        neighbour = embedded("b.md", "word of a neighbour")
        await store.replace([embedded("a.md", "one word", "two words", "three words"), neighbour])
        await store.replace([embedded("a.md", "only word")])
        assert await places(store) == [
            ("notes", "a.md", 0, "only word"),
            ("notes", "b.md", 0, "word of a neighbour"),
        ]
        assert await store.matching("three", limit=5, where=EVERYTHING) == []
        assert await store.counts() == {"notes": (2, 2)}
        await store.replace([embedded("a.md", "one word", "two words"), embedded("b.md", "changed words")])
        assert [text for _, _, _, text in await places(store)] == ["one word", "two words", "changed words"]

    async def test_the_same_key_in_two_sources_is_two_documents(self, store: Store) -> None:
        await store.replace(
            [embedded("a.md", "mine", source="mine"), embedded("a.md", "theirs", source="theirs")]
        )
        await store.replace([embedded("a.md", "mine again", source="mine")])
        await store.remove("theirs", ["a.md", "not there"])
        assert await places(store) == [("mine", "a.md", 0, "mine again")]
        assert await store.marks("theirs") == {}
        assert await store.counts() == {"mine": (1, 1)}

    async def test_of_two_documents_with_one_key_the_later_counts(self, store: Store) -> None:
        await store.replace([embedded("a.md", "early", "tail"), embedded("a.md", "late", version="v2")])
        assert await places(store) == [("notes", "a.md", 0, "late")]
        assert await store.marks("notes") == {"a.md": ("v2", "r1")}

    async def test_a_document_without_text_has_a_state_and_no_rows(self, store: Store) -> None:
        empty = embedded("a.md")
        await store.replace([empty])
        assert await store.counts() == {"notes": (1, 0)}
        assert await store.states("notes", ["a.md"]) == {"a.md": empty.prepared.state}
        await store.replace([embedded("a.md", "text now")])
        assert await store.counts() == {"notes": (1, 1)}
        await store.replace([empty, embedded("b.md", "beside")])
        assert await places(store) == [("notes", "b.md", 0, "beside")]
        assert await store.counts() == {"notes": (2, 1)}
        await store.replace([embedded("b.md")])
        assert await places(store) == []

    async def test_touching_moves_the_marks_and_leaves_the_rows(self, store: Store) -> None:
        document = embedded("a.md", "the words", metadata={"team": "people"})
        await store.replace([document, embedded("b.md", "other words")])
        before = await places(store)
        state = replace(document.prepared.state, version="v2", content_key="c2", recipe="r2", row_key="w2")
        unknown = embedded("never stored.md").prepared.state
        await store.touch([state, unknown])
        assert await store.states("notes", ["a.md", "never stored.md"]) == {"a.md": state}
        assert await store.marks("notes") == {"a.md": ("v2", "r2"), "b.md": ("v1", "r1")}
        assert await places(store) == before
        assert await store.counts() == {"notes": (2, 2)}
        assert [key for _, key, _, _ in await places(store, Filter(metadata={"team": "people"}))] == ["a.md"]

    async def test_writing_nothing_is_allowed(self, store: Store) -> None:
        await store.replace([])
        await store.touch([])
        await store.remove("notes", [])
        await store.upkeep()
        await store.publish()
        assert await store.counts() == {}

    @in_every_encoding
    async def test_every_number_comes_back_exactly(self, tmp_path: Path, space: EmbeddingSpace) -> None:
        space = replace(space, dimensions=1_024)
        store = await self.open_store(tmp_path, space)
        every = every_number(space)
        document = embedded("a.md", *[f"chunk {n}" for n in range(len(every))], vectors=every)
        await store.replace([document])
        await store.journal({"journalled": every})
        [group_key] = document.prepared.state.group_keys
        found = await store.vectors([group_key, "journalled"])
        assert set(found) == {group_key, "journalled"}
        for stored in found.values():
            assert (stored.dtype, stored.shape) == (space.dtype, every.shape)
            assert stored.tobytes() == every.tobytes()

    async def test_a_group_in_several_documents_is_given_once_and_whole(self, store: Store) -> None:
        vectors = codes(30, seed="shared")
        texts = [f"word {n}" for n in range(30)]
        await store.replace(
            [embedded(k, *texts, vectors=vectors, group_key="shared") for k in ("b", "a", "c")]
        )
        await store.remove("notes", ["a"])
        found = await store.vectors(["shared", "unknown"])
        assert list(found) == ["shared"]
        assert np.array_equal(found["shared"], vectors)

    async def test_a_group_that_stands_twice_in_one_document_is_given_once(self, store: Store) -> None:
        whole = embedded("a.md", *[f"line {n}" for n in range(6)])
        chunks = whole.prepared.groups[0].chunks
        vectors = codes(3, seed="window")
        windows = tuple(EmbedGroup(title="Log", chunks=part) for part in (chunks[:3], chunks[3:]))
        state = replace(whole.prepared.state, group_keys=("window", "window"))
        prepared = replace(whole.prepared, state=state, groups=windows)
        await store.replace([Embedded(prepared=prepared, vectors=(vectors, vectors))])
        found = await store.vectors(["window"])
        assert np.array_equal(found["window"], vectors)
        assert await store.states("notes", ["a.md"]) == {"a.md": state}

    async def test_vectors_of_another_width_are_refused_and_nothing_is_written(self, store: Store) -> None:
        wide = embedded("a.md", "word", vectors=codes(1, dimensions=8))
        with pytest.raises(StoreRefused, match=r"shape \(1, 8\)"):
            await store.replace([embedded("b.md", "word"), wide])
        with pytest.raises(StoreRefused, match=r"shape \(1, 8\)"):
            await store.journal({"a": codes(1), "b": codes(1, dimensions=8)})
        with pytest.raises(StoreRefused, match=r"shape \(0, 16\)"):
            await store.journal({"empty": codes(0)})
        assert await store.counts() == {}
        assert await store.vectors(["a"]) == {}

    @in_every_encoding
    async def test_what_is_not_of_the_space_is_neither_stored_nor_searched_for(
        self, tmp_path: Path, space: EmbeddingSpace
    ) -> None:
        store = await self.open_store(tmp_path, space)
        await store.replace([embedded("a.md", "word", vectors=drawn(space, 1))])
        others = [other for other in SPACES if other != space]
        wrong = [drawn(other, 1) for other in others] + [np.ones((1, space.width), np.float32)]
        for vectors in wrong:
            with pytest.raises(StoreRefused, match=f"{space.encoding} asks for {space.dtype}"):
                await store.replace([embedded("b.md", "word", vectors=vectors)])
            with pytest.raises(StoreRefused, match=f"{space.encoding} asks for {space.dtype}"):
                await store.journal({"b": vectors})
            with pytest.raises(StoreRefused, match=f"{space.encoding} asks for {space.dtype}"):
                await store.nearest(vectors[0], limit=1, where=EVERYTHING)
        with pytest.raises(StoreRefused, match="of shape"):
            await store.nearest(drawn(space, 1)[0][:-1], limit=1, where=EVERYTHING)
        assert await store.counts() == {"notes": (1, 1)}
        assert await store.vectors(["b"]) == {}

    async def test_numbers_that_are_not_finite_are_refused(self, tmp_path: Path) -> None:
        space = replace(SPACE, encoding="float16")
        store = await self.open_store(tmp_path, space)
        await store.replace([embedded("fine", "word", vectors=drawn(space, 1))])
        for number in (np.nan, np.inf):
            vectors = drawn(space, 2)
            vectors[1, 3] = number
            with pytest.raises(StoreRefused, match="not finite"):
                await store.replace([embedded("a.md", "word", "more", vectors=vectors)])
            with pytest.raises(StoreRefused, match="not finite"):
                await store.journal({"a": vectors})
            with pytest.raises(StoreRefused, match="not finite"):
                await store.nearest(vectors[1], limit=1, where=EVERYTHING)

    async def test_bits_that_do_not_fill_their_bytes_are_refused(self, tmp_path: Path) -> None:
        odd = EmbeddingSpace(provider="test", model="odd", dimensions=12, encoding="binary")
        with pytest.raises(StoreRefused, match=r"12 dimensions, binary cannot be stored.*multiple of 8"):
            await self.open_store(tmp_path, odd)

    async def test_hostile_keys_are_data(self, store: Store) -> None:
        await store.replace([embedded(key, f"word {n}") for n, key in enumerate(HOSTILE)])
        assert set(await store.marks("notes")) == set(HOSTILE)
        assert set(await store.states("notes", HOSTILE)) == set(HOSTILE)
        for number, key in enumerate(HOSTILE):
            document = embedded(key, f"changed word {number}", version="v2")
            await store.replace([document])
            assert (await store.states("notes", [key]))[key] == document.prepared.state
            assert len(await store.vectors(document.prepared.state.group_keys)) == 1
            assert await store.counts() == {"notes": (len(HOSTILE), len(HOSTILE))}
        for left, key in reversed(list(enumerate(HOSTILE))):
            await store.remove("notes", [key])
            assert (await store.counts()).get("notes", (0, 0)) == (left, left)

    async def test_metadata_of_any_shape_comes_back(self, store: Store) -> None:
        metadata: Metadata = {
            "plain": "text",
            'it\'s "quoted" \\ $.x[0]\n': "'; DROP TABLE chunks; --",
            "nested": {"list": [1, 2.5, None, True, {"deep": "日本"}]},
            "empty": {},
            "nothing": None,
            "large": 2**53 + 1,
            "long": "x" * 1_000_000,
        }
        await store.replace([embedded("a.md", "word", metadata=metadata), embedded("b.md", "word")])
        hits = await store.matching("word", limit=5, where=EVERYTHING)
        assert {hit.key: hit.metadata for hit in hits} == {"a.md": metadata, "b.md": {}}

    async def test_a_filter_gives_all_that_it_names_and_nothing_else(self, store: Store) -> None:
        values: dict[str, str | int | float | bool] = {
            "text": "people",
            "digit": "3",
            "int": 3,
            "negative": -7,
            "half": 1.5,
            "tiny": 1e-7,
            "huge": 1e300,
            "yes": True,
            "no": False,
            "one": 1,
            "zero": 0,
            "hostile": "pe'op\"le\\\n日本 '; DROP",
        }
        documents = [embedded(key, "word", metadata={"team": value}) for key, value in values.items()]
        others = [
            embedded("none", "word"),
            embedded("null", "word", metadata={"team": None}),
            embedded("list", "word", metadata={"team": ["people", 3]}),
            embedded("deep", "word", metadata={"a": {"team": "people"}, "team": {"team": "people"}}),
        ]
        await store.replace([*documents, *others])
        for key, value in values.items():
            assert await keys(store, Filter(metadata={"team": value})) == [key], value
        assert await keys(store, Filter(metadata={"team": 3.0})) == ["int"]
        assert await keys(store, Filter(metadata={"team": -0.0})) == ["zero"]
        assert await keys(store, Filter(metadata={"team": "people", "other": 1})) == []
        assert await keys(store, Filter(metadata={"a": "people"})) == []

    async def test_a_search_for_somebody_sees_what_has_one_of_their_labels_or_none(
        self, store: Store
    ) -> None:
        held = {"open": (), "staff": ("staff",), "both": ("board", "staff"), "board": ("board",)}
        await store.replace([embedded(key, f"word {key}", access=held[key]) for key in held])
        seen = {
            None: ["board", "both", "open", "staff"],
            (): ["open"],
            ("staff",): ["both", "open", "staff"],
            ("board", "staff", "board"): ["board", "both", "open", "staff"],
            ("nobody",): ["open"],
            ("Staff", "staff "): ["open"],
        }
        for access, wanted in seen.items():
            assert await keys(store, Filter(access=access)) == wanted, access
            there = [document.key async for document in store.stored("notes", access=access)]
            assert there == wanted
            some = store.stored("notes", ["both", "board"], access=access)
            assert [document.key async for document in some] == [key for key in wanted if key[0] == "b"]
            assert await store.counts(access) == {"notes": (len(wanted), len(wanted))}
        assert await keys(store, Filter(sources=("other",), access=("staff",))) == []
        [both] = [document async for document in store.stored("notes", ["both"])]
        assert both.marks[0].about.access == both.chunks[0].about.access == ("board", "staff")
        await store.replace([embedded("open", "word open", access=("board",)), embedded("both", "word both")])
        assert await keys(store, Filter(access=("staff",))) == ["both", "staff"]
        await store.remove("notes", ["both"])
        assert await keys(store, Filter(access=())) == []
        assert await store.counts(()) == {}

    async def test_a_copy_has_marks_and_no_rows(self, store: Store) -> None:
        holder = embedded("a.md", "one word", "two words", group_key="shared", access=("staff",))
        other = embedded("a.md", "one word", "two words", group_key="shared", source="it's")
        await store.replace([holder, other, embedded("z.md", "a word")])
        assert {one.state.source for one in await store.holding(["shared", "unknown"])} == {"notes", "it's"}
        assert await store.copies() == []
        place = ("notes", "a.md")
        row_key = digest.as_copy("w1", *place)
        state = replace(other.prepared.state, row_key=row_key)
        copy = Embedded(prepared=replace(other.prepared, state=state, groups=()), vectors=())
        await store.replace([copy])
        assert await store.counts() == {"notes": (2, 3), "it's": (1, 0)}
        assert await store.states("it's", ["a.md"]) == {"a.md": state}
        assert {source for source, *_ in await places(store)} == {"notes"}
        [found] = await store.copies()
        assert (found.state, found.chunk_count, digest.copy_of(found.state.row_key)) == (state, 0, place)
        [holding] = await store.holding(["shared"])
        assert (holding.state, holding.about.access) == (holder.prepared.state, ("staff",))
        assert len((await store.vectors(["shared"]))["shared"]) == 2
        assert len([one async for one in store.every()]) == 3
        [stored] = [one async for one in store.stored("it's")]
        assert (stored.chunks, stored.marks[0].state) == ((), state)
        with pytest.raises(StoreRefused, match="cannot be stored"):
            await store.replace([replace(copy, prepared=replace(copy.prepared, state=other.prepared.state))])
        await store.replace([other])
        assert await store.copies() == []
        assert await store.counts() == {"notes": (2, 3), "it's": (1, 2)}

    async def test_hostile_places_of_copies_are_data(self, store: Store) -> None:
        for key in HOSTILE:
            one = embedded(key, "word")
            state = replace(one.prepared.state, row_key=digest.as_copy("w1", "it's", key))
            await store.replace(
                [Embedded(prepared=replace(one.prepared, state=state, groups=()), vectors=())]
            )
        assert {digest.copy_of(one.state.row_key) for one in await store.copies()} == {
            ("it's", key) for key in HOSTILE
        }

    async def test_a_search_for_somebody_gives_as_many_as_are_asked_for(self, store: Store) -> None:
        question = np.ones(SPACE.dimensions, np.int8)
        near = [
            embedded(f"secret {n}", "word word", vectors=question[None], access=("board",)) for n in range(40)
        ]
        far = [embedded(f"{n}", "word among others", vectors=-question[None] + n) for n in range(1, 21)]
        await store.replace([*near, *far])
        seen = Filter(access=("staff",))
        for hits in (
            await store.nearest(question, limit=10, where=seen),
            await store.matching("word", limit=10, where=seen),
        ):
            assert len(hits) == 10
            assert not any(hit.key.startswith("secret") for hit in hits)

    async def test_a_search_for_somebody_finds_no_row_that_is_no_passage(self, store: Store) -> None:
        await store.replace([embedded("a.md", "one word", "two words", "three words")])
        await store.replace([embedded("a.md", "one word")])
        await store.remove("notes", ["never.md"])
        assert await keys(store, Filter(access=())) == ["a.md"]
        assert len(await places(store, Filter(access=()))) == 1

    async def test_hostile_labels_are_data(self, store: Store) -> None:
        labels = sorted({*HOSTILE, "') OR true --", "a,b", "['x']", "NULL", "*", "%", " "} - {""})
        await store.replace([embedded(f"{n}", "word", access=(label,)) for n, label in enumerate(labels)])
        for number, label in enumerate(labels):
            assert await keys(store, Filter(access=(label,))) == [f"{number}"], label
        every = sorted(str(number) for number in range(len(labels)))
        assert await keys(store, Filter(access=tuple(labels))) == every
        assert await keys(store, Filter(access=("",))) == []

    async def test_hostile_metadata_names_are_data(self, store: Store) -> None:
        names = [
            "it's",
            'a"b',
            "a.b",
            "a[0]",
            "$",
            "*",
            "a b\n",
            "back\\slash",
            "日本",
            "'); DROP TABLE x; --",
        ]
        await store.replace([embedded(name, "word", metadata={name: "x", "a": {"b": "y"}}) for name in names])
        for name in names:
            assert await keys(store, Filter(metadata={name: "x"})) == [name]

    async def test_a_filter_by_sources_takes_any_of_them(self, store: Store) -> None:
        await store.replace([embedded(name, "word", source=name) for name in ("one", "two", "it's")])
        assert await keys(store, Filter(sources=("one",))) == ["one"]
        assert await keys(store, Filter(sources=("it's", "two"))) == ["it's", "two"]
        assert await keys(store, Filter(sources=("three",))) == []

    async def test_no_result_is_lost_to_a_filter(self, store: Store) -> None:
        crowd = [embedded(f"crowd {n}", "word word word", metadata={"team": "crowd"}) for n in range(60)]
        few = [
            embedded(f"few {n}", "many other things and a word", metadata={"team": "few"}) for n in range(5)
        ]
        await store.replace([*crowd, *few])
        where = Filter(sources=("notes",), metadata={"team": "few"})
        near = await store.nearest(crowd[0].vectors[0][0], limit=5, where=where)
        worded = await store.matching("word", limit=5, where=where)
        assert len(near) == len(worded) == 5
        assert {hit.metadata["team"] for hit in near + worded} == {"few"}

    async def test_what_is_ranked_and_then_taken_is_what_is_found(self, store: Store) -> None:
        await store.replace([embedded(f"{n}", f"word {n}", "word other") for n in range(5)])
        question = np.arange(1, SPACE.dimensions + 1, dtype=np.int8)
        seen = await store.snapshot()
        for where in (EVERYTHING, Filter(sources=("s",)), Filter(sources=("none",))):
            near = await seen.nearest(question, limit=7, where=where)
            worded = await seen.matching("word other", limit=7, where=where)
            ranked = await seen.rank_nearest(question, limit=7, where=where)
            ranked_by_words = await seen.rank_matching("word other", limit=7, where=where)
            for hits, ranking in ((near, ranked), (worded, ranked_by_words)):
                assert [*ranking.values()] == [hit.score for hit in hits]
                taken = await seen.take([*ranking])
                scores = ranking.values()
                found = [replace(hit, score=score) for hit, score in zip(taken, scores, strict=True)]
                assert sorted(found, key=repr) == sorted(hits, key=repr)
                assert all(hit.vector is not None for hit in taken)
                backwards = await seen.take([*reversed(ranking)])
                assert backwards == taken[::-1]

    @in_every_encoding
    async def test_nearest_is_what_comparing_with_every_vector_gives(
        self, tmp_path: Path, space: EmbeddingSpace
    ) -> None:
        space = replace(space, dimensions=128)
        store = await self.open_store(tmp_path, space)
        vectors = drawn(space, 200, seed="many")
        await store.replace([embedded(f"{n}", f"word {n}", vectors=vectors[n : n + 1]) for n in range(200)])
        question = drawn(space, 1, seed="question")[0]
        wanted = cosines(space, vectors, question)
        hits = await store.nearest(question, limit=20, where=EVERYTHING)
        assert [hit.score for hit in hits] == pytest.approx(sorted(wanted, reverse=True)[:20], abs=1e-5)
        # Bits that differ in as many places are in no order.
        assert [hit.score for hit in hits] == pytest.approx([wanted[int(h.key)] for h in hits], abs=1e-5)
        assert len({hit.key for hit in hits}) == 20
        [same] = await store.nearest(vectors[7], limit=1, where=EVERYTHING)
        assert (same.key, same.score) == ("7", pytest.approx(1, abs=1e-6))
        assert same.score <= 1

    @in_every_encoding
    async def test_a_vector_of_zeros_is_near_to_nothing_but_zero_bits_are_as_good_as_any(
        self, tmp_path: Path, space: EmbeddingSpace
    ) -> None:
        store = await self.open_store(tmp_path, space)
        zero = np.zeros((1, space.width), space.dtype)
        ones = ~zero if space.encoding == "binary" else drawn(space, 1)
        await store.replace([embedded("zero", "word", vectors=zero), embedded("a.md", "word", vectors=ones)])
        hits = await store.nearest(ones[0], limit=5, where=EVERYTHING)
        asked_zero = await store.nearest(zero[0], limit=5, where=EVERYTHING)
        if space.encoding == "binary":
            assert [(hit.key, hit.score) for hit in hits] == [("a.md", 1), ("zero", -1)]
            assert [(hit.key, hit.score) for hit in asked_zero] == [("zero", 1), ("a.md", -1)]
        else:
            assert [hit.key for hit in hits] == ["a.md"]
            assert asked_zero == []

    async def test_words_find_the_chunks_that_hold_them(self, store: Store) -> None:
        await store.replace(
            [
                embedded("leave.md", "The policy grants parental leave.", "Sixteen weeks are granted."),
                embedded("travel.md", "The policy covers travel, travel and more travel."),
                embedded("cjk.md", "Café 休暇 제도"),
            ]
        )
        assert _found(await store.matching("PARENTAL", limit=5, where=EVERYTHING)) == [("leave.md", 0)]
        assert _found(await store.matching("sixteen nonsense", limit=5, where=EVERYTHING)) == [
            ("leave.md", 1)
        ]
        hits = await store.matching("travel policy", limit=5, where=EVERYTHING)
        assert _found(hits)[0] == ("travel.md", 0)
        assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
        assert all(hit.score > 0 for hit in hits)
        assert len(await store.matching("policy", limit=1, where=EVERYTHING)) == 1
        for nothing in ("unheard", "", "  ", "?!", "'; DROP"):
            assert await store.matching(nothing, limit=5, where=EVERYTHING) == []

    async def test_words_of_the_headings_count_too(self, store: Store) -> None:
        await store.replace(
            [embedded("expenses", "Nothing of it here."), embedded("b.md", "Nor in this one.")]
        )
        assert _found(await store.matching("expenses", limit=5, where=EVERYTHING)) == [("expenses", 0)]
        assert len(await store.matching("handbook", limit=5, where=EVERYTHING)) == 2

    async def test_upkeep_changes_nothing_that_is_read(self, store: Store) -> None:
        for number in range(25):
            await store.replace([embedded(f"{number}", f"word {number}")])
        before, marks = await places(store), await store.marks("notes")
        await store.upkeep()
        await store.replace([embedded("25", "word 25")])
        assert await places(store) == sorted([*before, ("notes", "25", 0, "word 25")])
        assert await store.marks("notes") == {**marks, "25": ("v1", "r1")}
        assert len(await store.matching("word", limit=100, where=EVERYTHING)) == 26

    async def test_many_keys_can_be_asked_for_at_once(self, store: Store) -> None:
        documents = [embedded(f"{n:05}", f"word {n}") for n in range(300)]
        await store.replace(documents)
        many = [f"{n:05}" for n in range(5_000)]
        group_keys = [document.prepared.state.group_keys[0] for document in documents]
        assert len(await store.states("notes", many)) == 300
        assert len(await store.vectors([*many, *group_keys])) == 300
        await store.remove("notes", many[10:])
        assert await store.counts() == {"notes": (10, 10)}

    @in_every_encoding
    async def test_what_was_journalled_is_found_before_and_after_its_document(
        self, tmp_path: Path, space: EmbeddingSpace
    ) -> None:
        store = await self.open_store(tmp_path, space)
        first, second = drawn(space, 3, seed="first"), drawn(space, 1, seed="second")
        await store.journal({"first": first, "second": second})
        assert await store.counts() == {}
        assert await store.nearest(second[0], limit=5, where=EVERYTHING) == []
        document = embedded("a.md", "one", "two", "three", vectors=first, group_key="first")
        await store.replace([document])
        await store.replace([embedded("a.md", "one", vectors=second, group_key="second")])
        await store.remove("notes", ["a.md"])
        await store.journal({})
        found = await store.vectors(["second", "unknown", "first"])
        assert set(found) == {"first", "second"}
        assert np.array_equal(found["first"], first)
        assert np.array_equal(found["second"], second)
        found["first"][0] = 0  # what is given is the caller's own
        assert np.array_equal((await store.vectors(["first"]))["first"], first)

    async def test_a_group_that_is_journalled_twice_is_given_once(self, store: Store) -> None:
        vectors = codes(4, seed="twice")
        for _ in range(3):
            await store.journal({"twice": vectors})
        found = await store.vectors(["twice", "twice"])
        assert list(found) == ["twice"]
        assert np.array_equal(found["twice"], vectors)

    async def test_hostile_group_keys_are_data(self, store: Store) -> None:
        kept = {key: codes(2, seed=f"group of {key}") for key in HOSTILE}
        await store.journal(kept)
        found = await store.vectors(HOSTILE)
        assert {key: vectors.tobytes() for key, vectors in found.items()} == {
            key: vectors.tobytes() for key, vectors in kept.items()
        }

    async def test_the_journal_stays_within_its_size_and_loses_the_oldest(self, tmp_path: Path) -> None:
        store = await self.open_store(tmp_path, journal_bytes=20_000)
        names = numbered(60)
        for name in names:
            await store.journal({name: codes(50, seed=name)})  # 800 bytes
        await store.upkeep()
        found = await store.vectors(names)
        assert list(found) == names[-len(found) :], "the oldest went"
        assert 0.5 * 20_000 < sum(vectors.nbytes for vectors in found.values()) <= 20_000
        await store.upkeep()
        assert list(await store.vectors(names)) == list(found)
        await store.journal({"new": codes(1)})
        assert len(await store.vectors([*names, "new"])) == len(found) + 1

    async def test_a_journal_of_no_size_keeps_nothing(self, tmp_path: Path) -> None:
        store = await self.open_store(tmp_path, journal_bytes=0)
        await store.journal({"a": codes(1)})
        assert await store.vectors(["a"]) == {}
        await store.upkeep()

    async def test_another_version_follows_every_write_and_no_reading(self, store: Store) -> None:
        versions = [await store.version()]
        await store.replace([embedded("a.md", "one word"), embedded("b.md", "two words")])
        versions.append(await store.version())
        states = await store.states("notes", ["a.md"])
        await store.touch([replace(states["a.md"], version="2")])
        versions.append(await store.version())
        await store.remove("notes", ["b.md"])
        versions.append(await store.version())
        assert len(set(versions)) == 4
        await places(store)
        assert await store.version() == versions[-1] == await (await store.snapshot()).version()

    async def test_what_was_spent_is_told_oldest_first(self, store: Store) -> None:
        now = datetime.now(UTC)
        paid = [
            spent_at(now),
            spent_at(now - timedelta(days=1), cost_usd=0.0, highest_ratio=0.0),
            spent_at(now + timedelta(microseconds=1), tokens=2**40, requests=10**6),
        ]
        for spending in paid:
            await store.spent(spending)
        assert await store.spending() == [paid[1], paid[0], paid[2]]
        await store.upkeep()
        assert await store.spending() == [paid[1], paid[0], paid[2]]

    async def test_of_each_source_the_latest_run_is_told_and_when_one_succeeded(self, store: Store) -> None:
        assert await store.runs() == []
        now = datetime(2026, 3, 1, 12, 30, 15, 123456, tzinfo=UTC)
        good, bad = run_at(now, "it's notes"), run_at(now, "attic", error="no such folder: '/attic'")
        for run in (good, bad):
            await store.ran(run)
        assert await store.runs() == [bad, good]
        later = run_at(now + timedelta(hours=1), "it's notes", error="gone")
        await store.ran(later)
        assert await store.runs() == [bad, replace(later, succeeded_at=now)]
        again = run_at(now + timedelta(hours=2), "it's notes")
        await store.ran(again)
        await store.upkeep()
        assert await store.runs() == [bad, again]

    async def test_how_a_run_went_is_kept_whatever_its_documents_are_called(self, store: Store) -> None:
        run = run_at(datetime(2026, 3, 1, tzinfo=UTC), "attic", error="no such folder: 'a\udcff'")
        failure = replace(run.failures[0], key="a\udcff.pdf", reason='\ud800 "half"')
        await store.ran(replace(run, failures=(failure,)))
        [kept] = await store.runs()
        assert kept.error
        assert kept.error.startswith("no such folder: 'a")
        assert kept.failures[0].key.endswith(".pdf")

    async def test_how_a_run_went_is_kept_though_nothing_is_stored(self, store: Store) -> None:
        await store.ran(run_at(datetime(2026, 3, 1, tzinfo=UTC), "attic", error="no such folder"))
        assert [run.source for run in await store.runs()] == ["attic"]
        assert await store.sources() == []
        await store.replace([embedded("a", "one")])
        assert [run.source for run in await store.runs()] == ["attic"]


def _found(hits: Sequence[Hit]) -> list[tuple[str, int]]:
    return [(hit.key, hit.ordinal) for hit in hits]
