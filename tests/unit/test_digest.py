from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from pipeline import digest
from pipeline.records import EmbeddingSpace, EmbedGroup, Grouping, ItemRef, Lead, RawDocument
from tests.fakes import OracleEmbedder, chunk_of, group_of

REF = ItemRef(source="s", key="k", version="1")


@given(st.lists(st.text(), min_size=1), st.lists(st.text(), min_size=1))
def test_groups_of_different_texts_have_different_keys(one: list[str], other: list[str]) -> None:
    embedder = OracleEmbedder()
    same = digest.group_key(group_of(*one), embedder) == digest.group_key(group_of(*other), embedder)
    assert same == (one == other)


def test_a_group_key_covers_the_order_and_the_borders_of_its_chunks() -> None:
    embedder = OracleEmbedder()
    keys = {digest.group_key(group_of(*texts), embedder) for texts in (["ab", "c"], ["a", "bc"], ["c", "ab"])}
    assert len(keys) == 3


def test_a_group_key_covers_every_part_of_the_space() -> None:
    space = EmbeddingSpace(provider="p", model="m", dimensions=8, encoding="int8")
    spaces = [
        space,
        replace(space, provider="q"),
        replace(space, model="n"),
        replace(space, dimensions=9),
        replace(space, encoding="binary"),
    ]
    assert len({digest.group_key(group_of("text"), OracleEmbedder(space=s)) for s in spaces}) == 5


def test_a_group_key_leaves_out_what_the_embedder_does_not_read() -> None:
    embedder = OracleEmbedder()
    one, other = group_of("text", title="One"), group_of("text", title="Other")
    assert digest.group_key(one, embedder) == digest.group_key(other, embedder)


def test_a_row_key_covers_titles_links_metadata_and_the_places_of_chunks() -> None:
    groups = [group_of("a", "b")]
    moved = [group_of("a", "b", tokens=2)]
    keys = {
        digest.row_key("T", None, "text/plain", {}, groups),
        digest.row_key("U", None, "text/plain", {}, groups),
        digest.row_key("T", "x", "text/plain", {}, groups),
        digest.row_key("T", None, "text/html", {}, groups),
        digest.row_key("T", None, "text/plain", {"team": "x"}, groups),
        digest.row_key("T", None, "text/plain", {}, moved),
    }
    assert len(keys) == 6


def test_the_order_of_metadata_is_no_change() -> None:
    one = digest.row_key("T", None, "text/plain", {"a": 1, "b": 2}, [])
    assert one == digest.row_key("T", None, "text/plain", {"b": 2, "a": 1}, [])


def test_a_content_key_covers_all_that_the_connector_gave_but_the_version() -> None:
    raw = RawDocument(ref=REF, content=b"x", media_type="text/plain")
    others = [
        replace(raw, content=b"y"),
        replace(raw, media_type="text/html"),
        replace(raw, title="T"),
        replace(raw, url="u"),
        replace(raw, metadata={"a": 1}),
    ]
    assert len({digest.content_key(item) for item in [raw, *others]}) == 6
    assert digest.content_key(raw) == digest.content_key(replace(raw, ref=replace(REF, version="2")))


def test_a_recipe_covers_parser_chunker_embedder_grouping_and_the_settings_metadata() -> None:
    embedder, grouping = OracleEmbedder(), Grouping()
    recipes = {
        digest.recipe("p1", "c1", embedder, grouping, {}),
        digest.recipe("p2", "c1", embedder, grouping, {}),
        digest.recipe("p1", "c2", embedder, grouping, {}),
        digest.recipe(
            "p1", "c1", replace(embedder, space=replace(embedder.space, dimensions=8)), grouping, {}
        ),
        digest.recipe(
            "p1", "c1", replace(embedder, limits=replace(embedder.limits, group_tokens=9)), grouping, {}
        ),
        digest.recipe("p1", "c1", replace(embedder, recipe="input_type=search_document"), grouping, {}),
        digest.recipe("p1", "c1", embedder, replace(grouping, overlap_tokens=7), {}),
        digest.recipe("p1", "c1", embedder, replace(grouping, lead=Lead.NONE), {}),
        digest.recipe("p1", "c1", embedder, grouping, {"team": "people"}),
    }
    assert len(recipes) == 9


def test_what_is_only_seen_is_no_part_of_what_is_kept() -> None:
    embedder = OracleEmbedder()
    chunks = tuple(chunk_of(text, ordinal=n) for n, text in enumerate("abc"))
    keys = {
        digest.group_key(group, embedder)
        for group in (
            EmbedGroup(title="T", chunks=chunks),
            EmbedGroup(title="T", chunks=chunks[1:], before=chunks[:1]),
            EmbedGroup(title="T", chunks=chunks[:2], after=chunks[2:]),
            EmbedGroup(title="T", chunks=chunks, lead="T"),
        )
    }
    assert len(keys) == 4
