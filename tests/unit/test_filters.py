"""Filters in both stores: what they find is the same, and is what Python says of the documents."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline import globs
from pipeline.clauses import Own, Test
from pipeline.errors import StoreRefused
from pipeline.protocols import Store
from pipeline.records import Column, Embedded, Filter, Metadata, Span
from pipeline.stores.lance import LanceStore
from pipeline.stores.memory import MemoryStore
from pipeline.where import parse
from tests.fakes import OracleEmbedder
from tests.stored_documents import embedded

COLUMNS = (
    Column(name="year", type="integer", path=("year",)),
    Column(name="tags", type="list", path=("tags",)),
    Column(name="team", type="text", path=("team",)),
    Column(name="published", type="date", path=("published",)),
)
DOCUMENTS: dict[tuple[str, str], Metadata] = {
    ("handbook", "leave.md"): {
        "year": 2024,
        "tags": ["hr", "a b"],
        "team": "people",
        "published": "2024-05-01",
    },
    ("handbook", "drafts/old.md"): {"year": 2019, "tags": "hr", "team": "x'y", "author": {"name": "Ann"}},
    ("handbook", "guides/a/b.txt"): {"team": None, "flag": True, "n": 1.5, "labels": ["x", 'q"z', 3]},
    ("wiki", "leave.md"): {"author": {"name": "Bo", "first.name": "B"}, "flag": False, "n": 3},
    ("wiki", "it's [odd] {a,b} 100%_.md"): {"team": "people", 'we"ird': "yes", "labels": "x"},
}

Open = Callable[[], Awaitable[Store]]


@pytest.fixture(params=["memory", "lance"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    space = OracleEmbedder().space
    store: Store
    if request.param == "memory":
        store = MemoryStore(space, columns=COLUMNS)
    else:
        store = await LanceStore.open(str(tmp_path / "db"), space=space, columns=COLUMNS)
    await store.replace([about(place, metadata) for place, metadata in DOCUMENTS.items()])
    return store


def about(place: tuple[str, str], metadata: Metadata) -> Embedded:
    made = embedded(*place, ["first words", "second words"], metadata=metadata)
    if place[1] != "leave.md":
        return made
    return replace(made, prepared=replace(made.prepared, access=("staff",)))


async def found(store: Store, text: str, **more: object) -> list[str]:
    where = Filter(clause=parse(text, COLUMNS), **more)  # type: ignore[arg-type]
    hits = await store.matching("words", limit=100, where=where)
    vector = await OracleEmbedder().embed_query("words")
    near = await store.nearest(vector, limit=100, where=where)
    places = {(hit.source, hit.key, hit.ordinal) for hit in hits}
    assert places == {(hit.source, hit.key, hit.ordinal) for hit in near}
    assert len(places) == len(hits) == len(near)
    return sorted({f"{source}/{key}" for source, key, _ in places})


LEAVE, OLD, B = "handbook/leave.md", "handbook/drafts/old.md", "handbook/guides/a/b.txt"
WIKI, ODD = "wiki/leave.md", "wiki/it's [odd] {a,b} 100%_.md"


CASES: list[tuple[str, list[str]]] = [
    ("source = wiki", [WIKI, ODD]),
    ("source in (wiki, nothing)", [WIKI, ODD]),
    ("source != wiki", [LEAVE, OLD, B]),
    ("path = leave.md", [LEAVE, WIKI]),
    ("path ~ '*.md' and source = handbook", [LEAVE]),
    ("path ~ '**/*.md' and source = handbook", [LEAVE, OLD]),
    ("path ~ 'guides/'", [B]),
    ("path ~ 'guides/**'", [B]),
    ("path ~ '{drafts,guides}/**'", [OLD, B]),
    ("path !~ '**/*.md'", [B]),
    ('path = "it\'s [odd] {a,b} 100%_.md"', [ODD]),
    ('path ~ "it\'s [[]odd] *"', [ODD]),
    ("path ~ '[!a-m]*'", []),
    ("path ~ '?eave.md'", [LEAVE, WIKI]),
    ("path in ('%', '_', \"' OR 1=1 --\")", []),
    ("year >= 2020", [LEAVE]),
    ("year < 2020", [OLD]),
    ("not year < 2020", [LEAVE, B, WIKI, ODD]),
    ("year exists", [LEAVE, OLD]),
    ("not year exists and source = handbook", [B]),
    ("year in (2019, 2024)", [LEAVE, OLD]),
    ("tags = hr", [LEAVE, OLD]),
    ("tags in ('a b', nothing)", [LEAVE]),
    ("not tags = 'a b'", [OLD, B, WIKI, ODD]),
    ("team = people", [LEAVE, ODD]),
    ('team = "x\'y"', [OLD]),
    ("team ~ 'p*'", [LEAVE, ODD]),
    ("team != people", [OLD, B, WIKI]),
    ("team exists", [LEAVE, OLD, ODD]),
    ("published >= 2024-01-01", [LEAVE]),
    ("author.name = Ann", [OLD]),
    ("metadata.author.name in (Ann, Bo)", [OLD, WIKI]),
    ('author."first.name" = B', [WIKI]),
    ("author.name exists", [OLD, WIKI]),
    ("author.name != Ann", [LEAVE, B, WIKI, ODD]),
    ("metadata.team = people", [LEAVE, ODD]),
    ("metadata.team exists", [LEAVE, OLD, ODD]),
    ("flag = true", [B]),
    ("flag = 'true'", []),
    ("flag exists", [B, WIKI]),
    ("n = 3", [WIKI]),
    ("n = 3.0", [WIKI]),
    ("n in (1.5, 3)", [B, WIKI]),
    ("labels = x", [B, ODD]),
    ("labels = 'q\"z'", [B]),
    ("labels = 3", [B]),
    ("labels = '3'", []),
    ("'we\"ird' = yes", [ODD]),
    ("media_type = text/plain", [LEAVE, OLD, B, WIKI, ODD]),
    ("title ~ 'Title of **'", [LEAVE, OLD, B, WIKI, ODD]),
    ("url exists", []),
    ("page = 1 or page exists", []),
    ("source = wiki or year = 2024 and tags = hr", [LEAVE, WIKI, ODD]),
    ("(source = wiki or year = 2024) and tags = hr", [LEAVE]),
    ("not (source = wiki or year = 2024)", [OLD, B]),
    ("not not source = wiki", [WIKI, ODD]),
]


async def test_a_filter_finds_what_it_says(store: Store) -> None:
    for text, expected in CASES:
        assert await found(store, text) == sorted(expected), text


async def test_no_filter_shows_what_its_asker_may_not_see(store: Store) -> None:
    everything = "source exists or not source exists or year exists or not year exists"
    for text in (everything, "path = leave.md or not path = x", "not (team = people and team != people)"):
        assert await found(store, text, access=()) == sorted([OLD, B, ODD])
        assert await found(store, text, access=("other",)) == sorted([OLD, B, ODD])
        assert await found(store, text, access=("staff",)) == sorted([LEAVE, OLD, B, WIKI, ODD])
        assert await found(store, text, access=("staff",), sources=("wiki",)) == sorted([WIKI, ODD])


async def test_passages_are_those_of_the_spans_that_may_be_seen(store: Store) -> None:
    spans = [
        Span(source="wiki", key="leave.md"),
        Span(source="handbook", key="drafts/old.md", first=1, last=7),
        Span(source="handbook", key="guides/a/b.txt", first=0, last=0),
        Span(source="handbook", key="it's [odd] {a,b} 100%_.md"),
    ]

    async def places(where: Filter) -> list[tuple[str, int, str]]:
        return [(h.key, h.ordinal, h.text) for h in await store.passages(spans, where=where)]

    rest = [("drafts/old.md", 1, "second words"), ("guides/a/b.txt", 0, "first words")]
    assert await places(Filter()) == [*rest, ("leave.md", 0, "first words"), ("leave.md", 1, "second words")]
    assert await places(Filter(access=())) == rest
    assert await places(Filter(access=("staff",), sources=("wiki",))) == [
        ("leave.md", 0, "first words"), ("leave.md", 1, "second words")
    ]  # fmt: skip
    assert await store.passages([], where=Filter()) == []


async def test_a_hit_has_its_vector_and_what_a_citation_needs(store: Store) -> None:
    vector = await OracleEmbedder().embed_query("words")
    [one, *_] = await store.nearest(vector, limit=1, where=Filter(clause=parse("path = leave.md")))
    [same] = [
        hit
        for hit in await store.matching("words", limit=100, where=Filter())
        if (hit.source, hit.key, hit.ordinal) == (one.source, one.key, one.ordinal)
    ]
    assert one.vector is not None
    assert same.vector is not None
    assert one.vector.tolist() == same.vector.tolist()
    assert (one.media_type, one.tokens) == ("text/plain", 2)


async def test_a_column_that_is_not_there_is_refused(store: Store) -> None:
    clause = parse("yeer = 2024", [Column(name="yeer", type="integer", path=("yeer",))])
    with pytest.raises(StoreRefused, match="no column 'yeer'"):
        await store.matching("words", limit=1, where=Filter(clause=clause))


pieces = st.lists(
    st.sampled_from(
        ["*", "**", "**/", "?", "[ab]", "[!a]", "[+-0]", "{a,b*}", "a", "b", "/", ".", "+", "(", "\\", "^"]
    ),
    min_size=1,
    max_size=6,
).map("".join)  # fmt: skip


@given(pieces, st.lists(st.text("ab/.+(\\^'\n ", min_size=1, max_size=6), min_size=1, max_size=12))
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_python_and_the_store_read_a_pattern_alike(
    tmp_path_factory: pytest.TempPathFactory, pattern: str, keys: list[str]
) -> None:
    import anyio  # noqa: PLC0415 - hypothesis calls this from no event loop

    keys = sorted(set(keys))

    async def both() -> None:
        clause = Test(Own("title"), "~", (pattern,))
        space = OracleEmbedder().space
        memory = MemoryStore(space)
        lance = await LanceStore.open(str(tmp_path_factory.mktemp("db")), space=space)
        documents = [embedded("s", str(number), ["words"], title=key) for number, key in enumerate(keys)]
        results = []
        for store in (memory, lance):
            await store.replace(documents)
            hits = await store.matching("words", limit=99, where=Filter(clause=clause))
            results.append(sorted(hit.title for hit in hits))
        assert results[0] == results[1]

    try:
        globs.expression(pattern)
    except ValueError:
        return
    anyio.run(both)
