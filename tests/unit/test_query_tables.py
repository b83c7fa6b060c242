"""Several tables as if they were one: the merge, its pages, and how sources are named."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.clauses import AllOf, AnyOf, Clause, Not, Own, Test
from pipeline.errors import ServiceUnavailable, SettingsError, SpaceMismatch, StoreRefused, StoreUnavailable
from pipeline.query import Found, Mode, Question, Table, find, find_in
from pipeline.query_around import Around
from pipeline.query_columns import check_columns, declared_in
from pipeline.query_named import Named, full_name, meant
from pipeline.query_rank import place_of
from pipeline.query_several import Several, naming
from pipeline.query_tables import merged, nearest
from pipeline.records import Column, EmbeddingSpace, Filter, Hit, Ranking, Span, Vector
from pipeline.stores.memory import MemoryStore
from pipeline.where import parse
from tests.fakes import OracleEmbedder
from tests.stored_documents import embedded

SMALL, LARGE = (
    EmbeddingSpace(provider="test", model="oracle", dimensions=16),
    EmbeddingSpace(provider="test", model="oracle", dimensions=64),
)
MODES = list(Mode)


class Counting:
    """A reranker that likes the longest texts best, and keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[Sequence[str]] = []

    async def scores(self, question: str, texts: Sequence[str]) -> list[float]:
        self.asked.append(texts)
        return [min(1.0, len(text) / 200) for text in texts]

    async def aclose(self) -> None:
        pass


async def table(
    name: str, texts: dict[str, list[str]], space: EmbeddingSpace = SMALL, source: str = "notes"
) -> Table:
    """Documents by their keys: the chunks of each."""
    embedder = OracleEmbedder(space=space)
    store = MemoryStore(space)
    documents = []
    for key, chunks in texts.items():
        one = embedded(source, key, chunks)
        [group] = one.prepared.groups
        documents.append(replace(one, vectors=(embedder.vectors(group),)))
    await store.replace(documents)
    return Table(name=name, reader=Named(name, store) if name else store, embedder=embedder)


def corpus(name: str, documents: int) -> dict[str, list[str]]:
    return {f"{n:03}.md": [f"words of {name} {n}", f"words, part {n % 3}"] for n in range(documents)}


def places(found: Found | Sequence[Hit]) -> list[tuple[str, str, int]]:
    return [place_of(hit) for hit in (found.hits if isinstance(found, Found) else found)]


scores = st.floats(-1, 1, allow_nan=False).map(lambda score: round(score, 2))
parts = st.lists(st.lists(scores, max_size=12), min_size=1, max_size=4)


def rankings(given_scores: list[list[float]]) -> list[Ranking]:
    return [dict(enumerate(sorted(one, reverse=True))) for one in given_scores]


@given(parts, st.integers(1, 20))
def test_what_may_be_compared_is_merged_as_if_it_had_been_ranked_at_once(
    given_scores: list[list[float]], most: int
) -> None:
    found = rankings(given_scores)
    together = merged(found, most)
    assert list(together.values()) == sorted((s for one in given_scores for s in one), reverse=True)[:most]
    for row, score in together.items():
        own, number = divmod(row, len(found))
        assert found[number][own] == score
    assert merged([found[0]], 100) == found[0]
    assert nearest(found, [SMALL] * len(found), most) == together


@given(parts, st.data())
def test_of_several_spaces_what_is_first_in_each_comes_before_what_is_second_in_any(
    given_scores: list[list[float]], data: st.DataObject
) -> None:
    found = rankings(given_scores)
    spaces = data.draw(st.lists(st.sampled_from([SMALL, LARGE]), min_size=len(found), max_size=len(found)))
    together = nearest(found, spaces, 100)
    assert sorted(together) == sorted(
        row * len(found) + number for number, one in enumerate(found) for row in one
    )
    assert all(one >= other for one, other in pairwise(together.values()))
    ranks: dict[EmbeddingSpace, list[float]] = {SMALL: [], LARGE: []}
    for row in together:
        own, number = divmod(row, len(found))
        ranks[spaces[number]].append(found[number][own])
    for of_space in ranks.values():
        assert of_space == sorted(of_space, reverse=True), "a space keeps its own order"
    if len(set(spaces)) == 2 and all(ranks.values()):
        first_two = {spaces[row % len(found)] for row in list(together)[:2]}
        assert first_two == {SMALL, LARGE}


questions = st.builds(
    Question,
    text=st.just("words of one 3"),
    mode=st.sampled_from(MODES),
    fusion=st.sampled_from(["scores", "rrf"]),
    deduplicate=st.booleans(),
    per_document=st.sampled_from([None, 1]),
)


@given(st.integers(1, 12), st.integers(0, 3), questions)
@settings(max_examples=30, deadline=None)
async def test_pages_put_together_are_the_first_of_one_long_page(
    size: int, pages: int, asked: Question
) -> None:
    tables = [
        await table("one", corpus("one", 18)),
        await table("two", corpus("two", 30), LARGE),
        await table("three", corpus("three", 5)),
    ]
    whole = await find_in(tables, replace(asked, limit=(pages + 1) * size))
    found: list[Hit] = []
    for page in range(pages + 1):
        answer = await find_in(tables, replace(asked, limit=size, offset=page * size))
        assert len(answer.hits) == size or not answer.more
        found += answer.hits
    assert [(place_of(hit), hit.score) for hit in found] == [(place_of(hit), hit.score) for hit in whole.hits]
    assert len(set(places(found))) == len(found)


@pytest.mark.parametrize("mode", MODES)
async def test_one_table_is_asked_as_if_there_were_no_others(mode: Mode) -> None:
    alone = await table("", corpus("one", 60))
    assert isinstance(alone.reader, MemoryStore)
    named = Table(name="one", reader=Named("one", alone.reader), embedder=alone.embedder)
    asked = Question(text="words of one 3", mode=mode, limit=40, around=Around(unit="chunks"))
    plain = await find(alone.reader, alone.embedder, asked)
    assert await find_in([alone], asked) == plain
    told = await find_in([named], asked)
    assert told.more == plain.more
    assert told.hits == [replace(hit, source=f"one.{hit.source}") for hit in plain.hits]
    assert [len(chunks) for chunks in told.around.values()] == [len(one) for one in plain.around.values()]


@given(st.lists(st.integers(0, 2), min_size=1, max_size=40), st.integers(1, 30))
@settings(max_examples=40, deadline=None)
async def test_tables_of_one_space_answer_by_vector_as_one_table_that_holds_it_all(
    belongs: list[int], limit: int
) -> None:
    documents = corpus("all", len(belongs))
    tables = [
        await table(
            name,
            {key: documents[key] for key, of in zip(documents, belongs, strict=True) if of == number},
            source=name,
        )
        for number, name in enumerate("abc")
    ]
    whole = await table("", documents)
    asked = Question(text="words of all 1", mode=Mode.VECTOR, limit=limit, diversity=0.3)
    one, other = await find_in(tables, asked), await find_in([whole], asked)
    assert [(hit.key, hit.ordinal, hit.score, hit.similarity, hit.vector_rank) for hit in one.hits] == [
        (hit.key, hit.ordinal, hit.score, hit.similarity, hit.vector_rank) for hit in other.hits
    ]


async def test_a_text_that_two_tables_hold_is_told_once_if_asked_so() -> None:
    same = {"fern.md": ["Hold the button of the Fern."]}
    tables = [await table("one", same), await table("two", {**same, "more.md": ["Fern, more of it"]}, LARGE)]
    asked = Question(text="fern button", mode=Mode.TEXT)
    assert len((await find_in(tables, asked)).hits) == 3
    texts = [hit.text for hit in (await find_in(tables, replace(asked, deduplicate=True))).hits]
    assert sorted(texts) == ["Fern, more of it", "Hold the button of the Fern."]


async def test_one_reranker_orders_what_all_tables_found() -> None:
    tables = [
        await table("one", {"a.md": ["words " * 30], "b.md": ["words"]}),
        await table("two", {"c.md": ["words " * 20], "d.md": ["words " * 2]}, LARGE),
    ]
    reranker = Counting()
    found = await find_in(tables, Question(text="words", limit=3), reranker)
    assert (found.reranked, [hit.key for hit in found.hits]) == (True, ["a.md", "c.md", "d.md"])
    assert [len(texts) for texts in reranker.asked] == [4]
    far = await find_in(tables, Question(text="words", min_score=0.5), reranker)
    assert [hit.key for hit in far.hits] == ["a.md", "c.md"]


async def test_neighbours_stand_in_the_document_of_their_own_table() -> None:
    tables = [
        await table("one", {"same.md": ["one before", "the needle of one", "one after"]}),
        await table("two", {"same.md": ["two before", "the needle of two", "two after"]}, LARGE),
    ]
    asked = Question(text="needle", mode=Mode.TEXT, around=Around(unit="chunks", chunks=1))
    found = await find_in(tables, asked)
    around = {place[0]: [hit.text for hit in hits] for place, hits in found.around.items()}
    assert around == {
        "one.notes": ["one before", "the needle of one", "one after"],
        "two.notes": ["two before", "the needle of two", "two after"],
    }


async def test_the_likeness_of_hits_is_that_of_their_own_space() -> None:
    tables = [await table("one", corpus("one", 4)), await table("two", corpus("two", 4), LARGE)]
    found = await find_in(tables, Question(text="words", limit=16, diversity=0.7))
    assert len(found.hits) == 16
    for hit in found.hits:
        assert hit.vector is not None
        assert hit.vector.shape == (16 if hit.source == "one.notes" else 64,)
        assert hit.similarity is not None


async def test_tables_without_names_give_each_its_own_hits() -> None:
    tables = [
        await table("", corpus("one", 4), source="letters"),
        await table("", corpus("two", 4), LARGE, source="notes"),
    ]
    found = await find_in(tables, Question(text="words", limit=16, diversity=0.5))
    assert len(set(places(found))) == 16
    assert {(hit.source, " ".join(hit.text.split()[:3])) for hit in found.hits if hit.ordinal == 0} == {
        ("letters", "words of one"), ("notes", "words of two")
    }  # fmt: skip


async def test_an_outage_of_one_table_is_told_by_its_name_and_no_part_of_an_answer_is() -> None:
    sound = await table("sound", corpus("one", 3))
    broken = await table("broken", corpus("two", 3), LARGE)

    class Away(Named):
        async def snapshot(self) -> Named:
            return self

        async def take(self, rows: Sequence[int]) -> list[Hit]:
            raise StoreUnavailable("the storage does not answer")

    class Refusing(OracleEmbedder):
        async def embed_query(self, text: str) -> Vector:
            raise ServiceUnavailable("busy", retry_after=7)

    assert isinstance(broken.reader, Named)
    away = replace(broken, reader=Away("broken", broken.reader.reader))
    with pytest.raises(StoreUnavailable, match=r"^broken: the storage does not answer$"):
        await find_in([sound, away], Question(text="words"))
    with pytest.raises(ServiceUnavailable, match=r"^broken: busy$") as refused:
        await find_in([sound, replace(broken, embedder=Refusing(space=LARGE))], Question(text="words"))
    assert refused.value.retry_after == 7
    with pytest.raises(SpaceMismatch, match=r"^broken: the tables hold vectors of test/oracle, 64"):
        await find_in([sound, replace(broken, embedder=OracleEmbedder())], Question(text="words"))

    class Empty(Named):
        async def snapshot(self) -> Named:
            return self

        async def space(self) -> None:
            return None

    with pytest.raises(StoreRefused, match=r"^broken: there is nothing to search yet"):
        await find_in(
            [sound, replace(broken, reader=Empty("broken", broken.reader.reader))], Question(text="x")
        )


def test_an_error_that_others_wait_for_too_is_not_written_over() -> None:
    shared = ServiceUnavailable("busy")
    for name in ("one", "two"):
        with pytest.raises(ServiceUnavailable, match=rf"^{name}: busy$"), naming(name):
            raise shared
    with pytest.raises(ServiceUnavailable, match=r"^busy$"), naming(""):
        raise shared


def test_a_source_is_named_with_its_tables_or_alone() -> None:
    assert (full_name("team", "notes"), full_name("", "notes")) == ("team.notes", "notes")
    assert [meant(one, "team") for one in ("team.notes", "notes", "other.notes", "")] == [
        "notes", "notes", None, ""
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("where", "found"),
    [
        ("source = one.notes", {"one.notes"}),
        ("source = notes", {"one.notes", "two.notes"}),
        ("source in (two.notes, other)", {"two.notes"}),
        ("source != one.notes", {"two.notes"}),
        ("not (source = one.notes or source = two.notes)", set()),
        ("source ~ 'one.*'", {"one.notes"}),
        ("source ~ 'no*'", {"one.notes", "two.notes"}),
        ("source !~ 'one.*'", {"two.notes"}),
        ("source ~ 'x*' or source = two.notes and path exists", {"two.notes"}),
        ("source exists and not source = three.notes", {"one.notes", "two.notes"}),
    ],
)
async def test_a_filter_names_sources_as_answers_do(where: str, found: set[str]) -> None:
    tables = [await table("one", corpus("one", 2)), await table("two", corpus("two", 2), LARGE)]
    for mode in MODES:
        asked = Question(text="words", mode=mode, where=Filter(clause=parse(where)))
        assert {hit.source for hit in (await find_in(tables, asked)).hits} == found


async def test_sources_are_looked_up_for_a_pattern_of_sources_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[MemoryStore] = []
    counts = MemoryStore.counts

    async def counted(
        store: MemoryStore, access: Collection[str] | None = None
    ) -> Mapping[str, tuple[int, int]]:
        asked.append(store)
        return await counts(store, access)

    monkeypatch.setattr(MemoryStore, "counts", counted)
    tables = [await table("one", corpus("one", 2)), await table("two", corpus("two", 2), LARGE)]
    for where, looked_up in (("source = one.notes and path ~ '0*'", False), ("source ~ 'one.*'", True)):
        found = await find_in(tables, Question(text="words", where=Filter(clause=parse(where))))
        assert {hit.source for hit in found.hits} == {"one.notes"}
        assert bool(asked) == looked_up


NAMES = ("one.notes", "two.notes", "notes", "two", ".", "one.", "")
clauses: st.SearchStrategy[Clause] = st.recursive(
    st.one_of(
        st.lists(st.sampled_from(NAMES), min_size=1, max_size=2).map(
            lambda names: Test(Own("source"), "=", tuple(names))
        ),
        st.sampled_from(["one.*", "*s", "**", "two"]).map(lambda one: Test(Own("source"), "~", (one,))),
    ),
    lambda inner: st.one_of(
        inner.map(Not),
        st.lists(inner, min_size=1, max_size=3).map(lambda some: AllOf(tuple(some))),
        st.lists(inner, min_size=1, max_size=3).map(lambda some: AnyOf(tuple(some))),
    ),
    max_leaves=5,
)


@given(clauses)
@settings(max_examples=60, deadline=None)
async def test_a_filter_and_its_negation_divide_what_there_is(clause: Clause) -> None:
    tables = [await table("one", corpus("one", 2)), await table("two", corpus("two", 1), LARGE)]

    async def found(one: Clause) -> set[tuple[str, str, int]]:
        asked = Question(text="words", mode=Mode.VECTOR, limit=50, where=Filter(clause=one))
        return set(places(await find_in(tables, asked)))

    holds, not_so = await found(clause), await found(Not(clause))
    assert not holds & not_so
    assert len(holds | not_so) == 6


def test_a_column_that_only_some_have_is_refused_with_the_name_of_those_that_lack_it() -> None:
    year = Column(name="year", type="integer", path=("year",))
    other = replace(year, type="text")
    names = declared_in(parse("year >= 2024 or team = a or path = b", [year]))
    with pytest.raises(SettingsError, match="year is a column of one, and not of two, three: declare it"):
        check_columns({"one": [year], "two": [], "three": []}, names)
    with pytest.raises(SettingsError, match="year is not of one type: it is integer in one, text in two"):
        check_columns({"one": [year], "two": [other]}, names)
    check_columns({"one": [year], "two": [replace(year, path=("about", "year"))]}, names)


async def test_all_documents_are_looked_over_under_their_names() -> None:
    tables = [await table("one", corpus("one", 2)), await table("two", corpus("two", 1), LARGE)]
    named = [one.reader for one in tables if isinstance(one.reader, Named)]
    several = Several(named)
    assert {(one.state.source, one.state.key) async for one in several.every()} == {
        ("one.notes", "000.md"), ("one.notes", "001.md"), ("two.notes", "000.md")
    }  # fmt: skip
    stored = [one async for one in several.stored("two.notes", ["000.md", "001.md"])]
    assert [(one.source, one.key, len(one.chunks)) for one in stored] == [("two.notes", "000.md", 2)]
    assert [one async for one in several.stored("notes")] == []
    assert await several.space() is None
    assert await Several(named[:1]).space() == SMALL
    before = await several.version()
    assert isinstance(named[1].reader, MemoryStore)
    await named[1].reader.remove("notes", ["000.md"])
    assert await several.version() != before
    assert await named[0].passages([Span(source="two.notes", key="000.md")], where=Filter()) == []
