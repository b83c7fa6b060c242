from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from pipeline import digest
from pipeline.records import EmbeddingSpace, ItemRef, RawDocument
from tests.fakes import OracleEmbedder, group_of

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


def test_a_recipe_covers_parser_chunker_space_limits_and_the_settings_metadata() -> None:
    embedder = OracleEmbedder()
    space, limits = embedder.space, embedder.limits
    recipes = {
        digest.recipe("p1", "c1", space, limits, {}),
        digest.recipe("p2", "c1", space, limits, {}),
        digest.recipe("p1", "c2", space, limits, {}),
        digest.recipe("p1", "c1", replace(space, dimensions=8), limits, {}),
        digest.recipe("p1", "c1", space, replace(limits, group_tokens=99), {}),
        digest.recipe("p1", "c1", space, limits, {"team": "people"}),
    }
    assert len(recipes) == 6
